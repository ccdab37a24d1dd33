"""A whole sequence as one operation with a gradient of its own.

TensorFlow cannot differentiate a loop that XLA has compiled: the tensor lists of its
backward pass cannot leave the program. It cannot differentiate a loop that changes
tensors in place either. So an `Operation` has two functions, forward and backward, and
joins them.

Both functions are pure. Weights, the states of random number generators, inputs and
states enter as tensors, and what they become comes out as tensors. No trace holds a
part of a layer, so that layers of equal configuration share their programs
(`keras_sam.recurrence.programs`).
"""

import functools
import logging
import math

import tensorflow as tf

from keras_sam import _compat
from keras_sam.litert import has_builtin_ops
from keras_sam.recurrence.variables import CellVariables

logger = logging.getLogger("keras_sam")


class Operation:
    """Runs the sequences of layers whose cells are all alike.

    Args:
        passes: A `DenseRecurrence` or a `SparseRecurrence`, which has the cell that is
            traced, `forward` and `backward`.
        jit_compile: Boolean, whether XLA compiles both passes.
    """

    def __init__(self, passes, jit_compile):
        self._passes = passes
        self._jit_compile = jit_compile
        self._variables = CellVariables(passes.cell)
        self.forward_program = _function(self._forward, jit_compile)
        self.backward_program = _function(self._backward, jit_compile)
        # In a graph even for an eager caller, whose tape would otherwise record the
        # forward pass and ask it for its own gradient.
        self._run = _function(self._join, jit_compile=False)

    def __call__(self, cell, sequences, initial_state, mask, training):
        """Runs a batch of sequences.

        Args:
            cell: The cell whose weights are used.
            sequences: Tensor `[batch, time, features]`.
            initial_state: List of tensors `[batch, size]`.
            mask: Boolean tensor `[batch, time]` or None.
            training: Boolean.

        Returns:
            Outputs `[batch, time, output_size]` and the list of final states.
        """
        training = bool(training)
        weights, generators = self._variables.of(cell, training, sequences.shape[0])
        weights, seeds = (
            [tf.convert_to_tensor(variable) for variable in variables]
            for variables in (weights, generators)
        )
        steps = sequences.shape[1]
        if steps is None:
            steps = tf.shape(sequences)[1]
        padding = padded_length(steps) - steps
        sequences = tf.pad(sequences, [[0, 0], [0, padding], [0, 0]])
        if mask is not None:
            mask = tf.pad(mask, [[0, 0], [0, padding]])
        inputs = [sequences, *initial_state]
        # Without a tape nothing is kept for a backward pass.
        recorded = _compat.is_recorded([inputs, weights])
        arguments = (inputs, weights, seeds, mask, tf.convert_to_tensor(steps))
        (outputs, *states), seeds = self._run(*arguments, training, recorded)
        for generator, seed in zip(generators, seeds, strict=True):
            generator.assign(seed)
        return outputs[:, :steps], states

    def _join(self, inputs, weights, seeds, mask, steps, training, recorded):
        """The forward pass, whose gradient is the backward pass."""
        arguments = (inputs, weights, seeds, mask, steps, training)
        results, new_seeds, records = self.forward_program(*arguments, recorded)
        results = [_without_reloaded_gradient(result) for result in results]
        # With two tapes TensorFlow differentiates all that the backward pass uses.
        records = tf.nest.map_structure(tf.stop_gradient, records)

        def gradient(*upstream):
            # Who called without a tape and asks all the same, such as the gradient of a
            # function that holds the call, waits for a second forward pass.
            kept = records if recorded else self.forward_program(*arguments, True)[-1]
            gradients = self.backward_program(*arguments, kept, list(upstream))
            return _compat.custom_gradient(
                lambda *gradients: list(gradients), _no_second_derivatives, gradients
            )

        results = _compat.custom_gradient(
            lambda *_: results, gradient, [*inputs, *weights]
        )
        return results, new_seeds

    def _forward(self, inputs, weights, seeds, mask, steps, training, recorded):
        if self._jit_compile:
            self._announce(inputs[0].shape, recorded)
        with self._variables.tracing(weights, seeds, training) as variables:
            passes = (variables, inputs, mask, steps, recorded)
            results, records = self._passes.forward(*passes)
        return results, variables.seeds, records

    def _backward(
        self, inputs, weights, seeds, mask, steps, training, records, upstream
    ):
        with self._variables.tracing(weights, seeds, training) as variables:
            passes = (variables, inputs, mask, steps, records, upstream)
            of_inputs, of_weights = self._passes.backward(*passes)
        return [*of_inputs, *of_weights]

    def _announce(self, shape, recorded):
        """Says what is about to take seconds; runs when the forward pass is traced."""
        batch, length, _ = shape
        cell = self._passes.cell
        logger.warning(
            "XLA compiles %s(units=%d, memory_slots=%d)%s for %s and %s. This takes "
            "some seconds, once for all layers of this configuration%s. "
            "jit_compile=False runs without XLA, more slowly.",
            type(cell).__name__.removesuffix("Cell"),
            cell.units,
            cell.memory_slots,
            ", forward and backward," if recorded else "",
            "batches of any size" if batch is None else f"batches of {batch}",
            "any number of time steps"
            if length is None
            else f"up to {length} time steps",
            "" if batch and length else ", for each size and padded length that comes",
        )


def _function(method, jit_compile):
    # A partial function, which TensorFlow tells from the same method of another
    # operation when it warns of a function that is traced too often.
    return tf.function(
        functools.partial(method), jit_compile=jit_compile or None, autograph=False
    )


def _without_reloaded_gradient(tensor):
    if has_builtin_ops():  # What is converted has no gradients.
        return tensor
    # In a SavedModel the gradient is not that of `_compat.custom_gradient`. What
    # TensorFlow then finds is this.
    return tf.raw_ops.PreventGradient(
        input=tensor,
        message="A sequence of keras_sam in a SavedModel has no gradient. Train the "
        "Keras model: save it with model.save('model.keras') and load it with "
        "keras.models.load_model.",
    )


def _no_second_derivatives(*upstream):
    raise NotImplementedError(
        "A sequence of keras_sam has no second derivatives, which a gradient taken "
        "within another tape asks for. Use the layer's cell in keras.layers.RNN, which "
        "has them, or take the gradient outside of that tape."
    )


def padded_length(length):
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
