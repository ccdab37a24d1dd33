"""The passes of a dense cell over a sequence, for `Operation`."""

import tensorflow as tf

from keras_sam.ops.masks import where_active


class DenseRecurrence:
    """Runs a cell forward; backward, runs the cell again and differentiates it.

    Args:
        cell: A built `keras_sam.MemoryCell`.
        zero_output_for_mask: Boolean, whether the output of a masked step is 0 instead
            of the output before it.
    """

    def __init__(self, cell, zero_output_for_mask):
        self.cell = cell
        self._zero_output_for_mask = zero_output_for_mask

    def forward(self, variables, inputs, mask, steps, recorded):
        """See `SparseRecurrence.forward`; nothing is recorded."""
        return self._loop(variables, inputs, mask, steps), []

    def backward(self, variables, inputs, mask, steps, records, upstream):
        """See `SparseRecurrence.backward`."""
        gradients = tf.gradients(
            self._loop(variables, inputs, mask, steps),
            [*inputs, *variables.weights],
            grad_ys=upstream,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return gradients[: len(inputs)], gradients[len(inputs) :]

    def _loop(self, variables, inputs, mask, steps):
        cell, (sequences, *states) = self.cell, inputs
        length = sequences.shape[1] or tf.shape(sequences)[1]
        variables.make_dropout_masks(sequences[:, 0], states)
        output = tf.zeros((tf.shape(sequences)[0], cell.output_size), sequences.dtype)
        outputs = tf.TensorArray(
            output.dtype,
            size=length,
            element_shape=(sequences.shape[0], *output.shape[1:]),
        )

        def step(t, states, output, seeds, outputs):
            with variables.used(seeds) as seeds:
                new_output, new_states = cell.call(sequences[:, t], states)
            active = None if mask is None else mask[:, t]
            new_states = where_active(active, new_states, states)
            new_output = shown = where_active(active, new_output, output)
            if self._zero_output_for_mask:
                shown = where_active(active, shown, tf.zeros_like(shown))
            return t + 1, new_states, new_output, seeds, outputs.write(t, shown)

        _, states, _, seeds, outputs = tf.while_loop(
            lambda t, *_: t < steps,
            step,
            (0, states, output, variables.seeds, outputs),
            maximum_iterations=length,
        )
        variables.seeds = seeds
        return [tf.transpose(outputs.stack(), (1, 0, 2)), *states]
