"""The sequence of a sparse cell as one operation, with a gradient of its own.

Between a gather of the slots to be written, the scatter of their new words and the
gather of the words read, a step of a sparse cell is a dense function of a few small
tensors. Forward, the memory stays in place and each step records the small function's
arguments, O(K) numbers. Backward, each step runs that function again on what was
recorded, under a tape, and touches the memory's gradient, which stays in place too,
with one gather and one scatter ([Rae et al., 2016](https://arxiv.org/abs/1610.09027),
section 3.4, whose backward pass undoes the writes instead). Neither knows N.

XLA keeps a buffer in place only if each step does a single scatter on it: written and
read slots share one scatter in the backward pass. Without XLA the same loops change
buffers of their own (`keras_sam.buffers`).
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from keras_sam import buffers, usage
from keras_sam.ops.sparse import is_first_occurrence
from keras_sam.sequence import Sequence
from keras_sam.weight_gradients import WeightGradients


class Carry(NamedTuple):
    """What goes from step to step of the forward pass, besides the memory."""

    tree: Any  # list of tensors, see keras_sam.usage
    time: Any  # [batch, 1]
    index: Any  # [batch, size]
    links: Any  # the cell's Links
    read_slots: Any  # [batch, R, K], integers
    small: Any  # see Small
    output: Any  # [batch, output_size]


class Small(NamedTuple):
    """The part of the state that has a gradient, but for the memory."""

    read_weights: Any  # [batch, R, K]
    read_vectors: Any  # [batch, R, W]
    controller: Any  # list of tensors


class Record(NamedTuple):
    """What a step keeps for the backward pass."""

    small: Any  # before the step
    write_slots: Any  # [batch, writes]
    old_rows: Any  # [batch, writes, W]
    reading: Any  # what the cell's `find` returned
    words: Any  # [batch, R, n, W], of the slots that were compared
    seeds: Any  # list of tensors: of the random numbers drawn at each step


# Steps whose weight gradients are summed in one product.
CHUNK = 16


def bucket_length(length):
    """The length that a sequence is padded to: at most an eighth more steps.

    Eight lengths for each doubling, so that a data set of many lengths compiles few
    programs.

    Args:
        length: Integer or scalar integer tensor.

    Returns:
        The same, at least `length`.
    """
    if isinstance(length, int):
        unit = max(1, 2 ** (max(length, 1).bit_length() - 4))
        return -(-length // unit) * unit
    octave = tf.math.floor(
        tf.math.log(tf.cast(tf.maximum(length, 1), tf.float64)) / math.log(2) + 1e-9
    )
    unit = tf.maximum(1, tf.cast(2.0 ** (octave - 3.0), tf.int32))
    return -(-length // unit) * unit


class SparseRecurrence(Sequence):
    """Runs the sequences of a layer of a sparse cell.

    Args:
        layer: A `keras.layers.RNN` around a `keras_sam.SAMCell`.
        jit_compile: Boolean, whether XLA compiles it.
    """

    def __init__(self, layer, jit_compile=True):
        super().__init__(layer, jit_compile)
        self._cell = layer.cell
        self._buffers = buffers.Values if jit_compile else buffers.InPlace

    def __call__(self, sequences, initial_state, mask, training):
        """Outputs `[batch, time, output_size]` and the list of final states."""
        steps = sequences.shape[1]
        if steps is None:
            steps = tf.shape(sequences)[1]
        padding = bucket_length(steps) - steps
        sequences = tf.pad(sequences, [[0, 0], [0, padding], [0, 0]])
        if mask is not None:
            mask = tf.pad(mask, [[0, 0], [0, padding]])
        outputs, *states = self.run(
            [sequences, *initial_state], mask, tf.convert_to_tensor(steps), training
        )
        return outputs[:, :steps], states

    # The small function.

    def before_search(self, inputs, small, write_slots, old_rows):
        """From the input to the new words and the queries."""
        cell = self._cell
        hidden, controller = cell.run_controller(
            inputs, small.read_vectors, cell.nest_controller(small.controller)
        )
        parts = cell.parse_interface(cell.interface_vector(hidden))
        write_weights = cell.write_weights(parts, small.read_weights)
        rows = cell.written_rows(old_rows, write_slots, write_weights, parts.vectors)
        return hidden, tf.nest.flatten(controller), parts, write_weights, rows

    def after_search(self, hidden, parts, small, reading, words):
        """From the words found to the output."""
        cell = self._cell
        read_weights = cell.read_weights(words, reading, parts, small.read_weights)
        read = words[:, :, -cell.reads_per_head :]
        read_vectors = tf.reduce_sum(read_weights[..., tf.newaxis] * read, axis=2)
        return read_weights, read_vectors, cell.output_vector(hidden, read_vectors)

    def _dense_step(self, inputs, record):
        """The whole small function, with words as a function of the rows written.

        A word that this step wrote before it read it takes its gradient through the
        writing.
        """
        hidden, controller, parts, _, rows = self.before_search(
            inputs, record.small, record.write_slots, record.old_rows
        )
        read = self._slots_touched(record.reading)
        written = read[:, :, tf.newaxis] == record.write_slots[:, tf.newaxis]
        # Of a slot written under two names only the first counts.
        written &= is_first_occurrence(record.write_slots)[:, tf.newaxis]
        written = tf.cast(written, rows.dtype)
        kept = 1.0 - tf.reduce_sum(written, axis=-1, keepdims=True)
        words = tf.reshape(record.words, (-1, read.shape[1], self._cell.word_size))
        words = kept * words + tf.matmul(written, rows)
        words = tf.reshape(words, tf.shape(record.words))
        read_weights, read_vectors, output = self.after_search(
            hidden, parts, record.small, record.reading, words
        )
        return output, Small(read_weights, read_vectors, controller), rows

    def _slots_touched(self, reading):
        """The slots whose words a step has looked at, `[batch, R n]`."""
        slots = self._cell.slots_compared(reading)
        return tf.reshape(slots, (-1, slots.shape[1] * slots.shape[2]))

    # Forward.

    def forward(self, inputs, mask, steps, training):
        cell = self._cell
        sequences, states = inputs[0], list(inputs[1:])
        length = sequences.shape[1] or tf.shape(sequences)[1]
        way = self._buffers
        state = cell.unpack_state(states)
        time, tree = usage.rebase(state.time, cell.split_tree(state.last_access), steps)
        memory = way.own(tf.reshape(state.memory, (-1, cell.word_size)))
        carry = Carry(
            tree=[way.own(level) for level in tree],
            time=time,
            index=way.own(state.index),
            links=tf.nest.map_structure(way.own, cell.links(state)),
            read_slots=tf.cast(tf.round(state.read_slots), tf.int32),
            small=Small(
                state.read_weights,
                state.read_vectors,
                tf.nest.flatten(state.controller),
            ),
            output=tf.zeros((tf.shape(sequences)[0], cell.output_size), memory.dtype),
        )
        self._make_dropout_masks(sequences[:, 0], carry.small)

        def step(t, memory, carry, outputs, records):
            active = None if mask is None else mask[:, t]
            memory, carry, record = self._forward_step(
                way, sequences[:, t], memory, carry, active
            )
            output = carry.output
            if active is not None and self._layer.zero_output_for_mask:
                output = tf.where(active[:, tf.newaxis], output, 0.0)
            outputs = outputs.write(t, output)
            records = [
                array.write(t, value)
                for array, value in zip(records, tf.nest.flatten(record), strict=True)
            ]
            return t + 1, memory, carry, outputs, records

        # A step traced for the shapes of its record alone.
        shapes = tf.nest.flatten(self._record_shapes(carry))
        arrays = [
            tf.TensorArray(value.dtype, size=length, element_shape=value.shape)
            for value in shapes
        ]
        outputs = tf.TensorArray(
            memory.dtype, size=length, element_shape=carry.output.shape
        )
        _, memory, carry, outputs, records = tf.while_loop(
            lambda t, *_: t < steps,
            step,
            (0, memory, carry, outputs, arrays),
            parallel_iterations=1,
        )
        cell.reset_dropout_mask()
        final = cell.State(
            memory=memory,
            last_access=tf.concat(carry.tree, axis=-1),
            time=carry.time,
            index=carry.index,
            **carry.links._asdict(),
            read_slots=tf.cast(carry.read_slots, memory.dtype),
            read_weights=carry.small.read_weights,
            read_vectors=carry.small.read_vectors,
            controller=carry.small.controller,
        )
        outputs = tf.transpose(outputs.stack(), (1, 0, 2))
        return [outputs, *cell.pack_state(final)], [array.stack() for array in records]

    def _record_shapes(self, carry):
        cell = self._cell
        batch = carry.time.shape[0]
        writes = cell.write_heads * cell.writes_per_head
        reads = (cell.read_heads, cell.words_compared)
        dtype = carry.time.dtype
        return Record(
            small=carry.small,
            write_slots=tf.TensorSpec((batch, writes), tf.int32),
            old_rows=tf.TensorSpec((batch, writes, cell.word_size), dtype),
            reading=cell.reading_specs(batch),
            words=tf.TensorSpec((batch, *reads, cell.word_size), dtype),
            seeds=[
                tf.TensorSpec(variable.shape, variable.dtype)
                for variable in self._step_seeds()
            ],
        )

    def _forward_step(self, way, inputs, memory, carry, active):
        cell = self._cell
        seeds = self._read_seeds(self._step_seeds())
        write_slots = cell.write_slots(carry.read_slots, carry.tree)
        written = self._row_numbers(write_slots)
        old_rows = tf.gather(memory, written)
        hidden, controller, parts, write_weights, rows = self.before_search(
            inputs, carry.small, write_slots, old_rows
        )
        if active is not None:
            rows = tf.where(active[:, tf.newaxis, tf.newaxis], rows, old_rows)
        memory = way.update(memory, written[..., tf.newaxis], rows)

        index = cell.index.insert(carry.index, write_slots, rows, active, way.update)
        links = cell.update_links(
            carry.links, write_slots, write_weights, active, way.update
        )

        def words_in(slots):
            return tf.gather(memory, self._row_numbers(slots))

        found = cell.index.search(
            index,
            tf.reshape(memory, (-1, cell.memory_slots, cell.word_size)),
            parts.queries,
            cell.reads_per_head,
        )
        reading = cell.find(
            words_in, found, links, parts, carry.read_slots, carry.small.read_weights
        )
        words = words_in(cell.slots_compared(reading))
        read_weights, read_vectors, output = self.after_search(
            hidden, parts, carry.small, reading, words
        )
        memory, links = tf.nest.map_structure(
            lambda buffer: way.after(buffer, [words]), (memory, links)
        )

        slots, accessed = cell.accessed(
            write_slots, write_weights, reading.slots, read_weights
        )
        if active is not None:
            accessed &= active[:, tf.newaxis]
        tree = usage.mark_accessed(
            carry.tree, slots, accessed, carry.time[:, 0], way.update
        )
        record = Record(carry.small, write_slots, old_rows, reading, words, seeds)
        new = Carry(
            tree=tree,
            time=carry.time + 1.0,
            index=index,
            links=links,
            read_slots=reading.slots,
            small=Small(read_weights, read_vectors, controller),
            output=output,
        )
        if active is not None:
            # These have seen to themselves, at O(K).
            apart = {"tree": tree, "index": index, "links": links}
            none = dict.fromkeys(apart, ())
            new = where_active(active, new._replace(**none), carry._replace(**none))
            new = new._replace(**apart)
        _keep_shapes(new, carry)
        return memory, new, record

    def _row_numbers(self, slots):
        """Rows in the memory of all sequences below one another."""
        batch = tf.range(tf.shape(slots)[0])
        batch = tf.reshape(batch, [-1] + [1] * (slots.shape.rank - 1))
        return batch * self._cell.memory_slots + slots

    # Backward.

    def backward(self, inputs, mask, steps, training, records, upstream):
        cell = self._cell
        sequences, states = inputs[0], list(inputs[1:])
        way = self._buffers
        state = cell.unpack_state(states)
        template = self._record_shapes(
            Carry(
                tree=(),
                time=state.time,
                index=(),
                links=(),
                read_slots=(),
                small=Small(
                    state.read_weights,
                    state.read_vectors,
                    tf.nest.flatten(state.controller),
                ),
                output=(),
            )
        )
        self._make_dropout_masks(sequences[:, 0], template.small)
        weights = WeightGradients(
            self._layer.trainable_variables,
            lambda: self._dense_step(sequences[:, 0], _empty(template)),
        )
        batch = tf.shape(sequences)[0]
        of_outputs = tf.transpose(upstream[0], (1, 0, 2))
        final = cell.unpack_state(list(upstream[1:]))

        def step(t, of_memory, of_small, of_output, of_inputs, of_weights, factors):
            t = t - 1
            record = tf.nest.pack_sequence_as(template, [array[t] for array in records])
            step_inputs = sequences[:, t]
            of_this = of_outputs[t]
            before = tf.nest.map_structure(tf.zeros_like, (of_small, of_output))
            if mask is not None:
                active = mask[:, t]
                if not self._layer.zero_output_for_mask:
                    of_this += of_output
                # A masked step hands on what comes back to it.
                before = where_active(active, before, (of_small, of_this))
                of_small, of_this = where_active(
                    active,
                    (of_small, of_this),
                    tf.nest.map_structure(tf.zeros_like, (of_small, of_this)),
                )

            written = self._row_numbers(record.write_slots)
            read = self._row_numbers(self._slots_touched(record.reading))
            touched = tf.concat([written, read], axis=-1)
            of_rows = tf.gather(of_memory, written)
            counts = is_first_occurrence(record.write_slots)
            if mask is not None:
                counts &= active[:, tf.newaxis]
            of_rows *= tf.cast(counts, of_rows.dtype)[..., tf.newaxis]

            self._write_seeds(self._step_seeds(), record.seeds)
            small = [step_inputs, *tf.nest.flatten(record.small)]
            sources = [*small, record.old_rows, record.words]
            with weights.watch() as watched:
                output, new_small, rows = self._dense_step(step_inputs, record)
            gradients = tf.gradients(
                tf.nest.flatten([output, new_small, rows]),
                [*sources, *watched.tensors],
                grad_ys=tf.nest.flatten([of_this, of_small, of_rows]),
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            of_weights, factors = watched.add(
                of_weights, factors, t, gradients[len(sources) :], way.update
            )
            of_step = gradients[0]
            of_old_small = tf.nest.pack_sequence_as(
                record.small, gradients[1 : len(small)]
            )
            of_old_rows, of_words = gradients[len(small) : len(sources)]
            # One scatter: what was written loses its gradient to the old rows.
            of_words = tf.reshape(of_words, (-1, read.shape[1], cell.word_size))
            changes = tf.concat([of_old_rows - of_rows, of_words], axis=1)
            of_memory = way.add(of_memory, touched[..., tf.newaxis], changes)
            pass_on_small, of_output = before
            of_small = tf.nest.map_structure(tf.add, of_old_small, pass_on_small)
            of_inputs = of_inputs.write(t, of_step)
            return t, of_memory, of_small, of_output, of_inputs, of_weights, factors

        length = sequences.shape[1] or tf.shape(sequences)[1]
        # Outside XLA all at once: there TensorFlow's optimizer breaks large graphs
        # with a loop in a loop (it adds up gradients in variables of the inner one).
        size = CHUNK if self._jit_compile else length

        def chunk(t, of_memory, of_small, of_output, of_inputs, of_weights):
            end = tf.maximum((t - 1) // size * size, 0)
            factors = [way.own(each) for each in weights.no_factors(size, batch)]
            *carry, of_weights, factors = tf.while_loop(
                lambda t, *_: t > end,
                step,
                (t, of_memory, of_small, of_output, of_inputs, of_weights, factors),
                parallel_iterations=1,
            )
            return *carry, weights.multiply(of_weights, factors)

        of_inputs = tf.TensorArray(
            sequences.dtype, size=length, element_shape=sequences[:, 0].shape
        )
        of_memory = way.own(tf.reshape(final.memory, (-1, cell.word_size)))
        of_small = Small(
            final.read_weights,
            final.read_vectors,
            tf.nest.flatten(final.controller),
        )
        carry = (
            steps,
            of_memory,
            of_small,
            tf.zeros_like(of_outputs[0]),
            of_inputs,
            weights.zeros(),
        )
        if self._jit_compile:
            carry = tf.while_loop(lambda t, *_: t > 0, chunk, carry)
        else:
            carry = chunk(*carry)
        _, of_memory, of_small, _, of_inputs, of_weights = carry
        cell.reset_dropout_mask()
        fields = {
            name: tf.zeros_like(value)
            for name, value in state._asdict().items()
            if name != "controller"
        }
        fields |= {
            "memory": of_memory,
            "read_weights": of_small.read_weights,
            "read_vectors": of_small.read_vectors,
            "controller": of_small.controller,
        }
        of_inputs = tf.transpose(of_inputs.stack(), (1, 0, 2))
        return [of_inputs, *cell.pack_state(cell.State(**fields))], of_weights

    # Random numbers. Keras's cells make their dropout masks once for all steps; what
    # other layers within a cell draw, they draw at each step.

    def _step_seeds(self):
        once = {id(cell.seed_generator.state) for cell in self._cell.mask_makers()}
        return [v for v in self._seed_states() if id(v) not in once]

    def _make_dropout_masks(self, inputs, small):
        cell = self._cell
        cell.run_controller(
            inputs, small.read_vectors, cell.nest_controller(small.controller)
        )


def _keep_shapes(new, old):
    """What a loop asks for; reshapes to `[-1, ...]` forget the batch."""
    tf.nest.map_structure(lambda new, old: new.set_shape(old.shape), new, old)


def _empty(template):
    """Tensors of zeros as a structure of tensors or their specifications."""
    return tf.nest.map_structure(
        lambda spec: tf.zeros([size or 1 for size in spec.shape], spec.dtype), template
    )


def where_active(active, new, old):
    """`new` in the sequences that are active, `old` in the others."""

    def choose(new, old):
        shape = [-1] + [1] * (new.shape.rank - 1)
        return tf.where(tf.reshape(active, shape), new, old)

    return tf.nest.map_structure(choose, new, old)
