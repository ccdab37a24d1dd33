"""A large memory written once, and what one request changes of it.

The frozen memory is stored once and never changed. A request has copies of its own of
the few slots that it touches: a slot is copied the first time that it is read or may be
written, and from then on the request sees its own copy. So the request costs what it
touches, in time and in memory, however large the frozen memory is; it leaves nothing
behind; and any number of requests share the same frozen words.

The things that look at a whole memory become:

- *What a slot holds*: the request's own copy if it has one, else the frozen word.
- *The least recently accessed slot*: the frozen slots are sorted once, by their last
  access. All that the request accesses is later than that. Before each step the
  request copies the first slots of this order that it has not yet, so that the slot
  looked for is always among its own.
- *The words most like a query*: the best of those found among the frozen words, by the
  index, without the slots that the request has copies of, of the first ones in the
  order of access, and of all of its copies, which are compared one by one.
- *The links of a slot*: the request's own lists where it has changed them, else the
  frozen ones.

A request's tensors grow with the slots that it touches. XLA has no tensors that grow:
there they have room for all that a sequence may touch, and one place for nothing.
"""

import functools
import math
from typing import Any, NamedTuple

import tensorflow as tf

from keras_sam._compat import in_xla
from keras_sam.cells.sparse_memory import SparseMemory
from keras_sam.index.frozen import Resources
from keras_sam.index.gathering import gather_scattered, on_its_own
from keras_sam.ops.masks import where_active
from keras_sam.ops.selection import distinct_top_k, top_k
from keras_sam.ops.similarity import similarity
from keras_sam.ops.sparse import batch_indices, is_first_occurrence
from keras_sam.ops.sparse_linkage import link_changes, links_from

# Within XLA there is room for a multiple of so many.
ROOM = 16


class Copies(NamedTuple):
    """The slots that a request has copies of; C of them, at most."""

    slots: Any  # [batch, C]: their numbers; -1 where there is room
    ages: Any  # [batch, C]: order of the last access: below 0 if before the request
    rows: Any  # [batch, C, W]


class LinkCopies(NamedTuple):
    """The lists of links of `keras_sam.ops.SparseLinks` that a request has changed."""

    numbers: Any  # [batch, C]: which of the 2 N lists; -1 where there is room
    lists: Any  # [batch, C, 2, K_L]
    precedence: Any  # [batch, 2, K_L]


class OverlayTensors(NamedTuple):
    """What a request has of its own."""

    copies: Any  # Copies
    time: Any  # [batch, 1], of the next step, from 0
    links: Any  # LinkCopies, or () where there are none


class FrozenMemory:
    """The memory that all requests share.

    Args:
        cell: A sparse cell.
        state: Its `State`, of a batch of one.
        index: A `keras_sam.index.Index`, by which frozen words are found.

    Attributes:
        resources: `tf.Module`, what a SavedModel has to hold.
    """

    def __init__(self, cell, state, index):
        self.slots, self.word_size = cell.memory_slots, cell.word_size
        order = tf.argsort(state.last_access[0, : self.slots], stable=True)
        parts = [state.memory[0], order, tf.argsort(order)]
        if cell.link_fields:
            parts += [state.link_ends[0], state.precedence]
        # Variables: constants would be part of the graph, which has to be small.
        parts = [tf.Variable(part, trainable=False) for part in parts]
        self.words, self.order, self.rank, *links = parts
        self.link_ends, self._precedence = links or (None, None)
        is_the_cells = type(index) is type(cell.index) and index.get_config() == (
            cell.index.get_config()
        )
        index_state = state.index
        if not is_the_cells:
            directions = cell.query_directions()
            index_state = index.start(state.memory, self.slots, directions)
        self._index = index.freeze(self.words, cell.reads_per_head, index_state)
        self.resources = Resources(parts=parts, index=self._index.resources)

    def search(self, queries, without):
        """Frozen slots like the queries, `[batch, heads, n]`.

        Args:
            queries: Tensor `[batch, heads, W]`.
            without: Integer tensor `[batch, C]`: slots that need not be among them.
        """
        return self._index.search(queries, without)

    def words_of(self, slots):
        """Words `[batch, ..., W]` of many slots `[batch, ...]`, far apart."""
        words = tf.convert_to_tensor(self.words)
        return gather_scattered(words[tf.newaxis], slots)

    def first_tensors(self, slots):
        """A request's tensors before its first step.

        Args:
            slots: Integer tensor `[batch, n]`, copied at once.
        """
        batch = tf.shape(slots)[0]
        copies = Copies(
            tf.fill((batch, 1), -1),
            tf.zeros((batch, 1), tf.int32),
            tf.zeros((batch, 1, self.word_size), self.words.dtype),
        )
        tensors = OverlayTensors(copies, tf.zeros((batch, 1), tf.int32), ())
        tensors = with_room(tensors, slots.shape[1], 0)
        memory = OverlayMemory(self, tensors)
        memory.copy(slots)
        if self.link_ends is None:
            return memory.tensors
        # Room for as many lists as there are copies, a number that no graph knows:
        # what a graph knows to be 1 it would take for 1 at every step.
        numbers = tf.fill(tf.shape(memory.tensors.copies.slots), -1)
        precedence = tf.repeat(self._precedence, batch, axis=0)
        shape = tf.concat([tf.shape(numbers), precedence.shape[1:]], axis=0)
        lists = tf.zeros(shape, precedence.dtype)
        links = LinkCopies(numbers, lists, precedence)
        return memory.tensors._replace(links=links)


def with_room(tensors, copies, lists):
    """A request's tensors with room for as many more copies and lists, within XLA.

    Args:
        tensors: `OverlayTensors`.
        copies: Integer or scalar tensor.
        lists: Integer or scalar tensor.
    """
    if not in_xla():
        return tensors

    def missing(keys, more):
        # And a place for nothing.
        return more + 1 + -(tf.shape(keys)[1] + more + 1) % ROOM

    slots, *parts = tensors.copies
    more = missing(slots, copies)
    wider = [_wider(part, more) for part in parts]
    tensors = tensors._replace(copies=Copies(_wider(slots, more, -1), *wider))
    if tensors.links:
        numbers, own, precedence = tensors.links
        more = missing(numbers, lists)
        links = LinkCopies(_wider(numbers, more, -1), _wider(own, more), precedence)
        tensors = tensors._replace(links=links)
    return tensors


class OverlayMemory(SparseMemory):
    """A frozen memory as one request sees it at a step.

    Args:
        frozen: `FrozenMemory`.
        tensors: `OverlayTensors`.
        active: Boolean tensor `[batch]`, the sequences in which the step counts, or
            None for all.
    """

    def __init__(self, frozen, tensors, active=None):
        self._frozen, self.tensors, self._active = frozen, tensors, active

    def choose(self, function):
        return function()

    def least_recently_accessed(self, count):
        self.copy(self._next_in_order(count))
        copies = self.tensors.copies
        # Floats that count all ages.
        ages = tf.cast(copies.ages, tf.float64)
        ages = tf.where(copies.slots >= 0, ages, ages.dtype.max)
        return distinct_top_k(-ages, copies.slots, count)

    def gather(self, slots):
        copies = self.tensors.copies
        return _own_or_frozen(copies.slots, copies.rows, self._frozen.words, slots)

    def write(self, slots, rows, old_rows, weights, erased):
        copies, links = self.tensors.copies, self.tensors.links
        rows = where_active(self._active, rows, old_rows)
        rows = _set_places(copies.rows, _places(copies.slots, slots), rows)
        self._set(copies=copies._replace(rows=rows))
        if links:
            self._write_links(links, slots, weights, erased)

    def search(self, queries, count):
        copies, frozen = self.tensors.copies, self._frozen
        # An index knows of few slots that nothing was written to, and the request may
        # have copied all of these. They come first in the order.
        first = self._next_in_order(count)[:, tf.newaxis]
        first = tf.tile(first, (1, queries.shape[1], 1))
        found = tf.concat([frozen.search(queries, copies.slots), first], axis=-1)
        is_copied = _places(copies.slots, found) >= 0
        own = tf.tile(copies.slots[:, tf.newaxis], (1, queries.shape[1], 1))
        # Both kinds side by side; what does not count, after all slots.
        nothing = frozen.slots
        candidates = tf.concat(
            [tf.where(is_copied, nothing, found), tf.where(own >= 0, own, nothing)], -1
        )
        scores = tf.concat(
            [
                similarity(queries, frozen.words_of(found)),
                similarity(queries, copies.rows[:, tf.newaxis]),
            ],
            axis=-1,
        )
        scores = tf.where(candidates == nothing, scores.dtype.min, scores)
        return distinct_top_k(scores, candidates, count)

    def follow_links(self, slots):
        return links_from(self._lists, self._frozen.slots, slots)

    def mark_accessed(self, slots, accessed):
        time = self.tensors.time
        if self._active is not None:
            accessed &= self._active[:, tf.newaxis]
        self.copy(slots)
        copies = self.tensors.copies
        places = _places(copies.slots, slots)
        ages = tf.gather(copies.ages, places, batch_dims=1)
        ages = _set_places(copies.ages, places, tf.where(accessed, time, ages))
        later = where_active(self._active, time + 1, time)
        self._set(copies=copies._replace(ages=ages), time=later)

    def copy(self, slots):
        """Makes copies of slots `[batch, n]`, where there are none yet."""
        copies, frozen = self.tensors.copies, self._frozen
        ages = _take(frozen.rank, slots) - frozen.slots
        words = _take(frozen.words, slots)
        numbers, values = _extend(copies.slots, copies[1:], slots, [ages, words])
        self._set(copies=Copies(numbers, *values))

    def _next_in_order(self, count):
        """The first frozen slots, by last access, of which there are no copies.

        So many; others if there are not so many.
        """
        slots, frozen = self.tensors.copies.slots, self._frozen
        # Of the first so many in the order at least those few are missing.
        enough = tf.shape(slots)[1] + count
        ranks = _take(frozen.rank, tf.maximum(slots, 0))
        ranks = tf.where(slots >= 0, tf.minimum(ranks, enough), enough)
        missing = tf.ones((tf.shape(ranks)[0], enough + 1), tf.int32)
        missing = _set_places(missing, ranks, tf.zeros_like(ranks))
        _, ranks = top_k(tf.cast(missing[:, :enough], tf.float32), count)
        return _take(frozen.order, tf.minimum(ranks, frozen.slots - 1))

    def _lists(self, numbers):
        """The lists of links `[batch, ..., 2, K_L]` with these numbers."""
        links = self.tensors.links
        return _own_or_frozen(
            links.numbers, links.lists, self._frozen.link_ends, numbers
        )

    def _write_links(self, links, slots, weights, erased):
        changes = link_changes(
            self._lists, self._frozen.slots, links.precedence, slots, weights, erased
        )
        lists = where_active(self._active, changes.lists, changes.old_lists)
        numbers, (own,) = _extend(
            links.numbers, [links.lists], changes.numbers, [lists]
        )
        own = _set_places(own, _places(numbers, changes.numbers), lists)
        precedence = where_active(self._active, changes.precedence, links.precedence)
        self._set(links=LinkCopies(numbers, own, precedence))

    def _set(self, **tensors):
        self.tensors = self.tensors._replace(**tensors)


def _extend(keys, values, wanted, new_values):
    """With keys that are not there yet, and their values.

    Args:
        keys: Integer tensor `[batch, C]`, -1 where there is none.
        values: List of tensors `[batch, C, ...]`.
        wanted: Integer tensor `[batch, n]`, keys, duplicates allowed.
        new_values: List of tensors `[batch, n, ...]`, for those that are new.

    Returns:
        The keys, and the list of values, with as much room as the longest sequence
        needs.
    """
    new = is_first_occurrence(wanted) & (_places(keys, wanted) < 0)
    count = tf.reduce_sum(tf.cast(keys >= 0, tf.int32), axis=1, keepdims=True)
    places = count + tf.cumsum(tf.cast(new, tf.int32), axis=1) - 1
    # What is not new goes to the last place, for nothing.
    last = tf.shape(keys)[1] + (-1 if in_xla() else wanted.shape[1])
    used = tf.maximum(1, tf.reduce_max(tf.where(new, places + 1, count)))
    places = tf.where(new, places, last)

    def extended(old, values, filling=0):
        if in_xla():
            return _set_places(old, places, values)
        wider = _wider(old, wanted.shape[1] + 1, filling)
        return _set_places(wider, places, values)[:, :used]

    return extended(keys, tf.where(new, wanted, -1), -1), [
        extended(old, new) for old, new in zip(values, new_values, strict=True)
    ]


def _wider(values, more, filling=0):
    """Values `[batch, C, ...]` with so many more places."""
    room = [[0, 0], [0, more]] + [[0, 0]] * (values.shape.rank - 2)
    return tf.pad(values, room, constant_values=filling)


def _places(keys, wanted):
    """Where among keys `[batch, C]` wanted ones `[batch, ...]` are; -1 if nowhere."""
    shape = tf.shape(keys)
    # Within XLA many keys at each place of what is written down, and neither argmax nor
    # a maximum over the last axis, which XLA does not vectorise.
    groups = ROOM if in_xla() else 1
    axes = [-1, *[1] * (wanted.shape.rank - 1)]
    numbers = tf.reshape(tf.range(shape[1]), (groups, *axes))
    keys = tf.reshape(keys, (shape[0], groups, *axes))
    places = [
        tf.where(wanted[:, tf.newaxis] == keys[:, i], numbers[i], -1)
        for i in range(groups)
    ]
    return tf.reduce_max(functools.reduce(tf.maximum, places), axis=1)


def _own_or_frozen(keys, own, frozen, wanted):
    """Entries `[batch, ..., *]` of a request's own, else the frozen ones.

    Args:
        keys: Integer tensor `[batch, C]`, of the request's own.
        own: Tensor `[batch, C, *]`.
        frozen: Variable `[n, *]`.
        wanted: Integer tensor `[batch, ...]`, keys.
    """

    def entries(flat, keys, own, frozen):
        places = _places(keys, flat)
        found = tf.gather(own, tf.maximum(places, 0), batch_dims=1)
        is_own = tf.reshape(
            places >= 0, [*tf.unstack(tf.shape(places)), *[1] * (own.shape.rank - 2)]
        )
        return tf.where(is_own, found, tf.gather(frozen, flat))

    flat = tf.reshape(wanted, (-1, math.prod(wanted.shape[1:])))
    found = on_its_own(entries, flat, keys, own, tf.convert_to_tensor(frozen))
    return tf.reshape(found, (-1, *wanted.shape[1:], *own.shape[2:]))


def _take(variable, slots):
    """A few entries of a variable."""
    # Read first, which copies nothing. A gather straight from a variable would make
    # every later reading of it a copy, of all of it.
    return tf.gather(tf.convert_to_tensor(variable), slots)


def _set_places(values, places, updates):
    return tf.tensor_scatter_nd_update(values, batch_indices(places), updates)
