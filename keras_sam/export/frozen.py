"""A large memory written once, from which every request starts.

The frozen memory is stored once and never changed. A request has copies of its own of
the few slots that it touches: a slot is copied the first time that it may be written
or is read, and from then on the request sees its own copy. So it costs what it
touches, in time and in memory, however large the frozen memory is; it leaves nothing
behind; and any number of requests share the same frozen words.

The three things that look at a whole memory become:

- *What a slot holds*: the request's own copy if it has one, else the frozen word.
- *The least recently accessed slot*: the frozen slots are sorted once, by their last
  access. All that the request accesses is later than that. Before each step the
  request copies the first slots of this order that it has not yet, so that the slot
  looked for is always among its own.
- *The words most like a query*: the best of those found among the frozen words, by the
  index, but for the slots that the request has of its own, and all of its own, which
  are compared one by one.

With exact search a request gets what `keras_sam.SAM` computes from the same state. A
state that goes from chunk to chunk of a stream holds the own copies: it grows with
what the stream has touched, up to the size of the memory.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_sam.cells.base import check_state_sizes
from keras_sam.cells.sam import SAMCell
from keras_sam.index import Exact, ScaNN
from keras_sam.index import get as get_index
from keras_sam.ops.similarity import similarity
from keras_sam.ops.selection import largest
from keras_sam.ops.sparse import is_first_occurrence
from keras_sam.recurrence.masks import where_active
from keras_sam.export.streaming import Stream

# An index that is not exact is asked for so many more: the request may have some of
# what it finds as copies of its own, which then count instead.
MORE = 28


class Own(NamedTuple):
    """The slots that a request has copies of; C of them, at most."""

    slots: Any  # [batch, C]: their numbers; -1 where there is room
    ages: Any  # [batch, C]: order of the last access: below 0 if before the request
    rows: Any  # [batch, C, W]


class Carry(NamedTuple):
    """What goes from step to step."""

    own: Any
    time: Any  # [batch, 1], of the next step, from 0
    read_slots: Any  # [batch, R, K]
    small: Any  # see keras_sam.recurrence
    output: Any  # [batch, output_size]


class FrozenStream(Stream):
    """How a `keras_sam.SAM` goes on from a frozen memory.

    Args:
        layer: A `keras_sam.SAM`.
        start: List of tensors `[1, size]`: its states when the memory was written.
        index: How frozen words are found, as for `keras_sam.SAMCell`. Defaults to the
            layer's index.

    Raises:
        ValueError: If the layer or its states are not such.
    """

    def __init__(self, layer, start, index=None):
        super().__init__(layer)
        cell = self._cell = layer.cell
        if type(cell) is not SAMCell or layer.go_backwards:
            raise ValueError(
                "Of sparse layers only a keras_sam.SAM that goes forwards can have a "
                "frozen memory: leave this layer out of `memory`. Received: "
                f"layer {layer.name!r}, a {type(layer).__name__} with "
                f"go_backwards={layer.go_backwards}"
            )
        check_state_sizes(cell.state_size, [tuple(s.shape) for s in start], 1)
        self._recurrence = SparseRecurrence(layer, jit_compile=False)
        state = cell.unpack_state(start)
        slots = cell.memory_slots
        self._reads = cell.read_heads * cell.reads_per_head
        last_access = cell.split_tree(state.last_access)[0][0, :slots]
        order = tf.argsort(last_access, stable=True)
        small = Small(
            state.read_weights, state.read_vectors, tf.nest.flatten(state.controller)
        )
        # Variables, for constants would be part of the graph, which has to be small.
        self.resources = tf.Module()
        self.resources.variables_used = tf.nest.map_structure(
            lambda value: tf.Variable(value, trainable=False),
            [
                state.memory[0],
                order,
                tf.argsort(order),
                tf.cast(tf.round(state.read_slots), tf.int32),
                *tf.nest.flatten(small),
            ],
        )
        self._memory, self._order, self._rank, self._read_slots, *small = (
            self.resources.variables_used
        )
        self._small = Small(small[0], small[1], list(small[2:]))
        index = cell.index if index is None else get_index(index, slots)
        self._find = self._make_finder(index, state)

    @property
    def fields(self):
        small = [f"controller_{i}" for i in range(len(self._small.controller))]
        small = ["read_weights", "read_vectors", *small]
        return ["own_slots", "own_ages", "own_rows", "time", "read_slots", *small]

    def initial_state(self, batch_size):
        def for_each(value):
            return tf.repeat(tf.convert_to_tensor(value), batch_size, axis=0)

        read_slots = for_each(self._read_slots)
        flat = tf.reshape(read_slots, (-1, self._reads))
        # Where the first step writes.
        own = self._touch(self._empty(batch_size), flat)
        small = tf.nest.map_structure(for_each, self._small)
        time = tf.zeros((batch_size, 1), tf.int32)
        return self._named(Carry(own, time, read_slots, small, None))

    def run(self, sequences, states, mask):
        carry = self._carry(states, sequences)
        steps = tf.shape(sequences)[1]
        outputs = tf.TensorArray(
            carry.small.read_vectors.dtype,
            size=steps,
            element_shape=carry.output.shape,
        )

        def step(t, carry, outputs):
            new = self._step(sequences[:, t], carry)
            output = new.output
            if mask is not None:
                active = mask[:, t]
                new = where_active(active, new, carry)
                output = new.output
                if self.layer.zero_output_for_mask:
                    output = where_active(active, output, tf.zeros_like(output))
            tf.nest.map_structure(lambda new, old: new.set_shape(old.shape), new, carry)
            return t + 1, new, outputs.write(t, output)

        _, carry, outputs = tf.while_loop(
            lambda t, *_: t < steps, step, (0, carry, outputs), parallel_iterations=1
        )
        outputs = tf.transpose(outputs.stack(), (1, 0, 2))
        if not self.layer.return_sequences:
            outputs = outputs[:, -1]
        return outputs, self._named(carry)

    # States by name.

    def _named(self, carry):
        used = tf.reduce_max(_count(carry.own))
        own = [values[:, :used] for values in carry.own]
        values = [*own, carry.time, carry.read_slots, *tf.nest.flatten(carry.small)]
        return dict(zip(self.fields, values, strict=True))

    def _carry(self, states, sequences):
        """The states as a `Carry`, with room for the copies of all steps."""
        slots, ages, rows, time, read_slots, *small = states.values()
        batch, steps = tf.shape(sequences)[0], tf.shape(sequences)[1]
        has = tf.shape(slots)[1]
        # A step copies what it may write anew, and what it reads.
        cell = self._cell
        room = steps * (cell.write_heads + self._reads)
        room = tf.minimum(room, cell.memory_slots - has) + 1
        own = Own(
            tf.pad(slots, [[0, 0], [0, room]], constant_values=-1),
            tf.pad(ages, [[0, 0], [0, room]]),
            tf.pad(rows, [[0, 0], [0, room], [0, 0]]),
        )
        return Carry(
            own=own,
            time=time,
            read_slots=read_slots,
            small=Small(small[0], small[1], list(small[2:])),
            output=tf.zeros((batch, cell.output_size), rows.dtype),
        )

    # One step, as keras_sam.recurrence has it.

    def _step(self, inputs, carry):
        cell = self._cell
        own = self._touch(carry.own, self._next_in_order(carry.own))
        oldest = self._least_recently_accessed(own)
        write_slots = cell.join_write_slots(carry.read_slots, oldest)
        written = _places(own, write_slots)
        hidden, controller, parts, write_weights, rows = self._recurrence.before_search(
            inputs,
            carry.small,
            write_slots,
            tf.gather(own.rows, written, batch_dims=1),
        )
        own = own._replace(rows=_scatter(own.rows, written, rows))

        read_slots = self._search(own, parts.queries)
        flat = tf.reshape(read_slots, (-1, self._reads))
        own = self._touch(own, flat)
        words = tf.gather(own.rows, _places(own, flat), batch_dims=1)
        words = tf.reshape(
            words, (-1, cell.read_heads, cell.reads_per_head, cell.word_size)
        )
        read_weights, read_vectors, output = self._recurrence.after_search(
            hidden, parts, carry.small, Reading(read_slots), words
        )

        slots, accessed = cell.accessed(
            write_slots, write_weights, read_slots, read_weights
        )
        places = _places(own, slots)
        ages = tf.gather(own.ages, places, batch_dims=1)
        ages = tf.where(accessed, carry.time, ages)
        own = own._replace(ages=_scatter(own.ages, places, ages))
        small = Small(read_weights, read_vectors, controller)
        return Carry(own, carry.time + 1, read_slots, small, output)

    # The request's own copies.

    def _empty(self, batch_size):
        room = self._reads + 1
        return Own(
            tf.fill((batch_size, room), -1),
            tf.zeros((batch_size, room), tf.int32),
            tf.zeros((batch_size, room, self._cell.word_size), self._memory.dtype),
        )

    def _touch(self, own, slots):
        """With copies of some slots `[batch, n]`, where it has none yet."""
        new = is_first_occurrence(slots)
        new &= ~tf.reduce_any(_same(own, slots), axis=-1)
        places = _count(own) + tf.cumsum(tf.cast(new, tf.int32), axis=1) - 1
        # The last place is never used: what is not new is thrown there.
        places = tf.where(new, places, tf.shape(own.slots)[1] - 1)
        ages = _take(self._rank, slots) - self._cell.memory_slots
        return Own(
            _scatter(own.slots, places, tf.where(new, slots, -1)),
            _scatter(own.ages, places, ages),
            _scatter(own.rows, places, _take(self._memory, slots)),
        )

    def _next_in_order(self, own):
        """The first frozen slots, by last access, that it has no copies of.

        As many as there are write heads; others if there are not so many.
        """
        heads, slots = self._cell.write_heads, self._cell.memory_slots
        room = tf.shape(own.slots)[1]
        # Of the first so many in the order at least those few are missing.
        enough = room + heads
        ranks = _take(self._rank, tf.maximum(own.slots, 0))
        ranks = tf.where(own.slots >= 0, tf.minimum(ranks, enough), enough)
        missing = tf.ones((tf.shape(ranks)[0], enough + 1), tf.int32)
        missing = _scatter(missing, ranks, tf.zeros_like(ranks))
        _, ranks = tf.math.top_k(missing[:, :enough], heads)
        return _take(self._order, tf.minimum(ranks, slots - 1))

    def _least_recently_accessed(self, own):
        # Of equally old ones the lowest number: in one whole number for both.
        ages = tf.cast(own.ages, tf.int64) * 2**25 + tf.cast(own.slots, tf.int64)
        ages = tf.where(own.slots >= 0, ages, tf.int64.max)
        _, oldest = tf.math.top_k(-ages, self._cell.write_heads)
        return tf.gather(own.slots, oldest, batch_dims=1)

    # The lookup.

    def _search(self, own, queries):
        """The slots most like the queries, frozen or own: `[batch, R, K]`."""
        found = self._find(queries, own.slots)
        is_own = tf.reduce_any(
            found[..., tf.newaxis] == own.slots[:, tf.newaxis, tf.newaxis], axis=-1
        )
        heads, slots = self._cell.read_heads, self._cell.memory_slots
        mine = tf.tile(own.slots[:, tf.newaxis], (1, heads, 1))
        # Both kinds side by side; what does not count, after all slots.
        candidates = tf.concat(
            [tf.where(is_own, slots, found), tf.where(mine >= 0, mine, slots)], axis=-1
        )
        scores = tf.concat(
            [
                similarity(queries, _take(self._memory, found)),
                similarity(queries, own.rows[:, tf.newaxis]),
            ],
            axis=-1,
        )
        # In the order of the slots: of equally alike ones the lowest comes first.
        order = tf.argsort(candidates, axis=-1)
        candidates = tf.gather(candidates, order, batch_dims=2)
        scores = tf.gather(scores, order, batch_dims=2)
        again = candidates[..., 1:] == candidates[..., :-1]
        again = tf.pad(again, [[0, 0], [0, 0], [1, 0]])
        lowest = tf.constant(-np.inf, scores.dtype)
        scores = tf.where(again | (candidates == slots), lowest, scores)
        _, best = largest(scores, self._cell.reads_per_head)
        return tf.gather(candidates, best, batch_dims=2)

    def _make_finder(self, index, state):
        """A function from queries and own slots to frozen slots: candidates."""
        cell = self._cell
        if isinstance(index, ScaNN):
            from keras_sam.index.frozen_scann import FrozenScaNN

            count = min(cell.reads_per_head + MORE, cell.memory_slots)
            searcher = FrozenScaNN(index, state.memory[0], count)
            self.resources.scann = searcher.resources
            return lambda queries, own: searcher.search(queries)
        if type(index) is type(cell.index) and index.get_config() == (
            cell.index.get_config()
        ):
            index_state = state.index
        else:
            index_state = index.reset(state.memory, cell.memory_slots)
        index_state = tf.Variable(index_state, trainable=False)
        self.resources.index_state = index_state
        exact = isinstance(index, Exact)
        count = cell.reads_per_head + (0 if exact else MORE)
        count = min(count, cell.memory_slots)

        def find_one(each):
            queries, own = each
            options = {"without": own[tf.newaxis]} if exact else {}
            memory = tf.convert_to_tensor(self._memory)[tf.newaxis]
            queries = queries[tf.newaxis]
            return index.search(
                tf.convert_to_tensor(index_state), memory, queries, count, **options
            )[0]

        # Sequence by sequence, for there is one memory for all.
        return lambda queries, own: tf.map_fn(
            find_one,
            (queries, own),
            fn_output_signature=tf.TensorSpec((cell.read_heads, count), tf.int32),
        )


def _same(own, slots):
    """Which of the own slots is which: `[batch, n, C]`."""
    return slots[..., tf.newaxis] == own.slots[:, tf.newaxis]


def _places(own, slots):
    """Where among the own ones slots `[batch, n]` are."""
    same = tf.cast(_same(own, slots), tf.int8)
    return tf.argmax(same, axis=-1, output_type=tf.int32)


def _count(own):
    """How many copies each request has, `[batch, 1]`."""
    return tf.reduce_sum(tf.cast(own.slots >= 0, tf.int32), axis=1, keepdims=True)


def _take(variable, slots):
    """A few entries of a variable."""
    # Read first, which copies nothing. A gather straight from a variable would make
    # every later reading of it a copy, of all of it.
    return tf.gather(tf.convert_to_tensor(variable), slots)


def _scatter(values, places, updates):
    batch = tf.range(tf.shape(places)[0])[:, tf.newaxis]
    places = tf.stack([tf.broadcast_to(batch, tf.shape(places)), places], axis=-1)
    return tf.tensor_scatter_nd_update(values, places, updates)
