"""The passes of a sparse cell over a sequence, for `Operation`.

Between a gather of the slots to be written, the scatter of their new words and the
gather of the words read, a step of a sparse cell is a dense function of a few small
tensors. Forward, the memory stays in place and each step records that function's
arguments, O(K) numbers. Backward, each step runs the same `sparse_step` again on what
was recorded, and touches the memory's gradient, which stays in place too, with one
gather and one scatter ([Rae et al., 2016](https://arxiv.org/abs/1610.09027), section
3.4, whose backward pass undoes the writes instead). Neither pass knows N.

XLA keeps a buffer in place only if each step does a single scatter on it: written and
read slots share one scatter in the backward pass. Without XLA the same loops change
buffers of their own (`keras_sam.recurrence.buffers`).
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from keras_sam.ops.masks import where_active
from keras_sam.ops.sparse import is_first_occurrence, row_numbers
from keras_sam.recurrence.buffers import BufferMemory, Builtin, InPlace, Values
from keras_sam.recurrence.replay import RecordedMemory
from keras_sam.recurrence.weight_gradients import STEPS_PER_PRODUCT, WeightGradients


class Carry(NamedTuple):
    """What goes from step to step of the forward pass."""

    memory: Any  # MemoryTensors
    access: Any  # AccessState
    output: Any  # [batch, output_size]
    seeds: Any  # list of tensors


class Record(NamedTuple):
    """What a step keeps for the backward pass."""

    access: Any  # AccessState before the step, without `read_slots`
    seeds: Any  # list of tensors, before the step
    notes: Any  # what the step asked of the memory


class Gradients(NamedTuple):
    """What goes from step to step of the backward pass."""

    memory: Any  # [batch * N, W]
    access: Any  # AccessState, without `read_slots`
    output: Any  # [batch, output_size]: of an output that masked steps repeat
    inputs: Any  # TensorArray of [batch, features]
    weights: Any  # list of tensors
    factors: Any  # list of tensors, see WeightGradients


class SparseRecurrence:
    """Runs a sparse cell in place, and its recorded steps backward.

    Args:
        cell: A built `keras_sam.SAMCell`.
        zero_output_for_mask: Boolean, whether the output of a masked step is 0 instead
            of the output before it.
        jit_compile: Boolean, whether XLA compiles the passes.
        builtin_ops: Boolean, whether the forward pass is made of builtin operations of
            LiteRT. Defaults to `False`.

    Raises:
        ValueError: If LiteRT may not have the operations of the index.
    """

    def __init__(self, cell, zero_output_for_mask, jit_compile, builtin_ops=False):
        if builtin_ops and not cell.index.is_exact:
            raise ValueError(
                "Of the indexes LiteRT runs the exact one. Make a layer with "
                "index='exact' and give it the same weights. "
                f"Received: index={cell.index!r}"
            )
        self.cell = cell
        self._zero_output_for_mask = zero_output_for_mask
        self._jit_compile = jit_compile
        self._buffers = Values if jit_compile else Builtin if builtin_ops else InPlace

    def forward(self, variables, inputs, mask, steps, recorded):
        """The forward pass.

        Args:
            variables: `CellTensors`.
            inputs: List of tensors: sequences `[batch, time, features]` and states.
            mask: Boolean tensor `[batch, time]` or None.
            steps: Scalar integer tensor: the steps after these are padding.
            recorded: Boolean, whether there will be a backward pass.

        Returns:
            List of tensors, outputs and states; list of tensors, the records.
        """
        sequences, *states = inputs
        length = sequences.shape[1] or tf.shape(sequences)[1]
        template = self._record_template(variables, inputs) if recorded else ()
        variables.make_dropout_masks(sequences[:, 0], states)
        carry = self._first_carry(variables, inputs, steps)

        def step(t, carry, outputs, records):
            active = None if mask is None else mask[:, t]
            carry, record = self._forward_step(
                variables, sequences[:, t], carry, active
            )
            output = carry.output
            if self._zero_output_for_mask:
                output = where_active(active, output, tf.zeros_like(output))
            record = tf.nest.flatten(record) if recorded else []
            records = [
                array.write(t, value)
                for array, value in zip(records, record, strict=True)
            ]
            return t + 1, carry, outputs.write(t, output), records

        (outputs,) = _arrays([carry.output], length)
        records = _arrays(tf.nest.flatten(template), length)
        _, carry, outputs, records = tf.while_loop(
            lambda t, *_: t < steps,
            step,
            (0, carry, outputs, records),
            parallel_iterations=1,
        )
        variables.seeds = carry.seeds
        outputs = tf.transpose(outputs.stack(), (1, 0, 2))
        final = self.cell.join_state(carry.access, carry.memory)
        states = self.cell.pack_state(final)
        return [outputs, *states], [array.stack() for array in records]

    def _first_carry(self, variables, inputs, steps):
        sequences, *states = inputs
        state = self.cell.unpack_state(states)
        return Carry(
            memory=BufferMemory.allocate(self.cell, state, steps, self._buffers),
            access=_flat(self.cell.access_state(state)),
            output=tf.zeros(
                (tf.shape(sequences)[0], self.cell.output_size), sequences.dtype
            ),
            seeds=list(variables.seeds),
        )

    def _forward_step(self, variables, inputs, carry, active):
        """The carry after a step, and the step's `Record`."""
        memory = BufferMemory(self.cell, carry.memory, self._buffers, active)
        with variables.used(carry.seeds) as seeds:
            output, access = self._run_cell(inputs, carry.access, memory)
        output, access = where_active(
            active, (output, access), (carry.output, carry.access)
        )
        new = Carry(memory.tensors, access, output, seeds)
        # What a loop asks for; reshapes to `[-1, ...]` forget the batch.
        tf.nest.map_structure(lambda new, old: new.set_shape(old.shape), new, carry)
        before = carry.access._replace(read_slots=())
        return new, Record(before, carry.seeds, memory.notes)

    def _run_cell(self, inputs, access, memory):
        """The cell's step: its output and `AccessState`."""
        nested = self.cell.nest_controller(access.controller)
        access = access._replace(controller=nested)
        output, access, _ = self.cell.sparse_step(inputs, access, memory)
        return output, _flat(access)

    def _record_template(self, variables, inputs):
        """A `Record` of `tf.TensorSpec`s, seen in a step that never runs."""

        @tf.function(autograph=False)
        def step(*inputs):
            carry = self._first_carry(variables, inputs, 1)
            return self._forward_step(variables, inputs[0][:, 0], carry, None)[1]

        specs = [tf.TensorSpec(each.shape, each.dtype) for each in inputs]
        record = step.get_concrete_function(*specs).structured_outputs
        self.cell.reset_dropout_mask()

        def spec(value):
            return tf.TensorSpec((inputs[0].shape[0], *value.shape[1:]), value.dtype)

        return Record(
            access=tf.nest.map_structure(spec, record.access),
            seeds=[tf.TensorSpec(seed.shape, seed.dtype) for seed in record.seeds],
            notes=tf.nest.map_structure(spec, record.notes),
        )

    def backward(self, variables, inputs, mask, steps, records, upstream):
        """The backward pass.

        Args:
            variables: As for `forward`, with the seeds before it.
            inputs: As for `forward`.
            mask: As for `forward`.
            steps: As for `forward`.
            records: The second of what `forward` returned.
            upstream: List of tensors, the gradients of the first.

        Returns:
            The gradients of `inputs` and of the weights, two lists of tensors.
        """
        sequences, *states = inputs
        length = sequences.shape[1] or tf.shape(sequences)[1]
        template = self._record_template(variables, inputs)
        weights = self._weight_gradients(variables, template, sequences.shape)
        variables.make_dropout_masks(sequences[:, 0], states)
        of_outputs = tf.transpose(upstream[0], (1, 0, 2))

        def step(t, gradients):
            t = t - 1
            record = tf.nest.pack_sequence_as(template, [array[t] for array in records])
            active = None if mask is None else mask[:, t]
            step = (t, sequences[:, t], active, record, of_outputs[t])
            return t, self._backward_step(variables, weights, *step, gradients)

        # Outside XLA all at once: there TensorFlow's optimizer breaks large graphs
        # with a loop in a loop (it adds up gradients in variables of the inner one).
        size = STEPS_PER_PRODUCT if self._jit_compile else length

        def chunk(t, gradients):
            end = tf.maximum((t - 1) // size * size, 0)
            factors = weights.empty_factors(size, tf.shape(sequences)[0])
            factors = [self._buffers.allocate(each) for each in factors]
            t, gradients = tf.while_loop(
                lambda t, _: t > end,
                step,
                (t, gradients._replace(factors=factors)),
                parallel_iterations=1,
            )
            total = weights.multiply(gradients.weights, gradients.factors)
            return t, gradients._replace(weights=total, factors=())

        last = (steps, self._last_gradients(sequences, upstream, weights, length))
        if self._jit_compile:
            _, gradients = tf.while_loop(lambda t, _: t > 0, chunk, last)
        else:
            _, gradients = chunk(*last)
        return self._of_inputs(states, gradients), list(gradients.weights)

    def _weight_gradients(self, variables, template, shape):
        def step(weights, batch):
            record = template._replace(
                access=_zeros(template.access, batch),
                notes=_zeros(template.notes, batch),
            )
            inputs = tf.zeros((batch, shape[-1]), variables.weights[0].dtype)
            with variables.used(variables.seeds, weights):
                self._replay(inputs, record)
            self.cell.reset_dropout_mask()

        return WeightGradients(variables.weights, step, shape[0])

    def _last_gradients(self, sequences, upstream, weights, length):
        """The gradients after the last step."""
        final = self.cell.unpack_state(list(upstream[1:]))
        access = _flat(self.cell.access_state(final))
        memory = tf.reshape(final.memory, (-1, self.cell.word_size))
        (inputs,) = _arrays([sequences[:, 0]], length)
        return Gradients(
            memory=self._buffers.allocate(memory),
            access=access._replace(read_slots=()),
            output=tf.zeros_like(upstream[0][:, 0]),
            inputs=inputs,
            weights=weights.zeros(),
            factors=(),
        )

    def _of_inputs(self, states, gradients):
        """The gradients of the sequences and of the states before them."""
        state = self.cell.unpack_state(states)
        zeros = tf.nest.map_structure(tf.zeros_like, state)
        access = gradients.access
        of_state = zeros._replace(
            memory=gradients.memory,
            read_weights=access.read_weights,
            read_vectors=access.read_vectors,
            controller=access.controller,
        )
        of_sequences = tf.transpose(gradients.inputs.stack(), (1, 0, 2))
        return [of_sequences, *self.cell.pack_state(of_state)]

    def _backward_step(
        self, variables, weights, t, inputs, active, record, of_output, gradients
    ):
        """The `Gradients` before step t, from those after it."""
        into, past = self._into_and_past(active, of_output, gradients)
        watched = weights.watch()
        with variables.used(record.seeds, watched.weights):
            output, access, memory = self._replay(inputs, record)
        of_rows = self._of_rows(memory, gradients.memory, active)
        before = tf.nest.flatten(record.access)
        sources = [inputs, *before, *(words for _, words in memory.gathered)]
        found = tf.gradients(
            tf.nest.flatten([output, access, memory.rows]),
            [*sources, *watched.analyze()],
            grad_ys=tf.nest.flatten([into, of_rows]),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        of_before = found[1 : 1 + len(before)]
        of_words = found[1 + len(before) : len(sources)]
        sums, factors = watched.add(
            gradients.weights,
            gradients.factors,
            t,
            found[len(sources) :],
            self._buffers.update,
        )
        past_output, *past_access = tf.nest.flatten(past)
        of_access = [a + b for a, b in zip(of_before, past_access, strict=True)]
        return Gradients(
            memory=self._of_memory(memory, gradients.memory, of_rows, of_words),
            access=tf.nest.pack_sequence_as(record.access, of_access),
            output=past_output,
            inputs=gradients.inputs.write(t, found[0]),
            weights=sums,
            factors=factors,
        )

    def _into_and_past(self, active, of_output, gradients):
        """What goes back into a step, and what passes it by, where it is masked.

        Returns:
            Two pairs of the gradients of the output and of the `AccessState`.
        """
        into = (of_output, gradients.access)
        zeros = tf.nest.map_structure(tf.zeros_like, into)
        if active is None:
            return into, zeros
        if not self._zero_output_for_mask:
            into = (of_output + gradients.output, gradients.access)
        return where_active(active, into, zeros), where_active(active, zeros, into)

    def _replay(self, inputs, record):
        """A recorded step: its output, `AccessState` and `RecordedMemory`."""
        memory = RecordedMemory(record.notes)
        output, access = self._run_cell(inputs, record.access, memory)
        return output, access._replace(read_slots=()), memory

    def _of_rows(self, memory, of_memory, active):
        """The gradients of the rows that a step wrote, from those of the memory."""
        counts = is_first_occurrence(memory.slots)
        if active is not None:
            counts &= active[:, tf.newaxis]
        of_rows = tf.gather(
            of_memory, row_numbers(memory.slots, self.cell.memory_slots)
        )
        return of_rows * tf.cast(counts, of_rows.dtype)[..., tf.newaxis]

    def _of_memory(self, memory, of_memory, of_rows, of_words):
        """The gradients of the memory before a step, by one scatter.

        What was written loses its gradient, what was read gains it.
        """
        slots, changes = [memory.slots], [-of_rows]
        for (read, _), change in zip(memory.gathered, of_words, strict=True):
            if read is memory.slots:
                changes[0] += change
            else:
                count = math.prod(read.shape[1:])
                slots.append(tf.reshape(read, (-1, count)))
                changes.append(tf.reshape(change, (-1, count, self.cell.word_size)))
        rows = row_numbers(tf.concat(slots, axis=1), self.cell.memory_slots)
        return self._buffers.add(
            of_memory, rows[..., tf.newaxis], tf.concat(changes, axis=1)
        )


def _flat(access):
    """An `AccessState` with the controller's states in a flat list."""
    return access._replace(controller=tf.nest.flatten(access.controller))


def _arrays(values, length):
    """A TensorArray of so many tensors like each of the values or specifications."""
    return [
        tf.TensorArray(value.dtype, size=length, element_shape=value.shape)
        for value in values
    ]


def _zeros(specs, batch_size):
    return tf.nest.map_structure(
        lambda spec: tf.zeros((batch_size, *spec.shape[1:]), spec.dtype), specs
    )
