"""A whole sequence as one operation, forward and backward."""

import abc
import logging

import tensorflow as tf
from tensorflow.python.eager import record

logger = logging.getLogger("keras_sam")


class Sequence(abc.ABC):
    """Runs a layer's sequence as one operation with a gradient of its own.

    TensorFlow cannot differentiate a loop that XLA has compiled (what its backward
    pass needs are tensor lists, which cannot leave an XLA program), nor one that
    changes tensors in place. So there is a function forward, and one backward,
    compiled or not, whatever the graph around them. The sequence has no second
    derivatives, and says so to whoever asks for them.

    The backward pass may run parts of the forward pass again: it finds the random
    number generators as the forward pass found them.

    Args:
        layer: The Keras layer whose weights the sequence uses.
        jit_compile: Boolean, whether XLA compiles it.
    """

    def __init__(self, layer, jit_compile=True):
        self._layer = layer
        self._jit_compile = jit_compile
        options = {"jit_compile": jit_compile or None, "autograph": False}
        self.forward_program = tf.function(self._run_forward, **options)
        self.backward_program = tf.function(self._run_backward, **options)
        # In a graph even for an eager caller, whose tape would otherwise record the
        # forward function and ask it for its own gradient.
        self._run = tf.function(self._run_with_gradient, autograph=False)
        self._announced = False

    @abc.abstractmethod
    def forward(self, inputs, mask, steps, training):
        """The forward pass.

        Args:
            inputs: Tuple of the tensors that have a gradient: sequences
                `[batch, time, features]` and the initial states.
            mask: Boolean tensor `[batch, time]` or None.
            steps: Scalar integer tensor: the steps after these are padding.
            training: Python boolean.

        Returns:
            List of tensors, the results; and what `backward` needs besides, tensors.
        """

    @abc.abstractmethod
    def backward(self, inputs, mask, steps, training, records, upstream):
        """The backward pass.

        Args:
            inputs: As for `forward`.
            mask: As for `forward`.
            steps: As for `forward`.
            training: As for `forward`.
            records: The second of what `forward` returned.
            upstream: List of tensors, the gradients of the results.

        Returns:
            Two lists: the gradients of `inputs`, and of the layer's
            `trainable_variables`.
        """

    def run(self, inputs, mask, steps, training):
        """The results of `forward`, with their gradient."""
        return self._run(tuple(inputs), mask, steps, training)

    def _run_with_gradient(self, inputs, mask, steps, training):
        options = (mask, steps, training)

        @tf.custom_gradient
        def run(*inputs):
            results, residuals = _run_unrecorded(self.forward_program, inputs, *options)
            residuals = tf.nest.map_structure(tf.stop_gradient, residuals)

            def gradient(*upstream, variables=()):
                of_inputs, of_weights = self._first_derivatives(
                    inputs, options, residuals, upstream
                )
                by_variable = {
                    variable.value.ref(): gradient
                    for variable, gradient in zip(
                        self._layer.trainable_variables, of_weights, strict=True
                    )
                }
                return of_inputs, [by_variable.get(v.ref()) for v in variables]

            return results, gradient

        return run(*inputs)

    def _first_derivatives(self, inputs, options, residuals, upstream):
        """Runs the backward program; what comes out has no derivative itself."""
        arguments = (inputs, residuals, upstream)

        @tf.custom_gradient
        def run(*flat):
            inputs, residuals, upstream = tf.nest.pack_sequence_as(arguments, flat)
            results = _run_unrecorded(
                self.backward_program, inputs, *options, residuals, upstream
            )

            def second_derivatives(*_, variables=()):
                raise NotImplementedError(
                    f"The sequence of layer '{self._layer.name}' has no second "
                    "derivatives, which a gradient taken within another tape asks "
                    "for. Use the layer's cell in keras.layers.RNN, which has, or "
                    "take the gradient outside of that tape. "
                    f"Received: jit_compile={self._layer.jit_compile!r}"
                )

            return results, second_derivatives

        return run(*tf.nest.flatten(arguments))

    def _announce(self, batch, length):
        """Says what is about to take seconds; runs when the forward pass is traced."""
        logger.warning(
            "Compiling layer '%s' for a batch of %s and %s time steps.%s",
            self._layer.name,
            "any size" if batch is None else batch,
            "any number of" if length is None else length,
            ""
            if self._announced
            else " This takes XLA some seconds, forward and backward, for each batch "
            "size (a smaller last batch is another one: drop it if you can) and each "
            "length. To run without compiling, more slowly: jit_compile=False.",
        )
        self._announced = True

    def _run_forward(self, inputs, mask, steps, training):
        if self._jit_compile:
            self._announce(*inputs[0].shape[:2])
        seeds = self._read_seeds(self._seed_states())
        results, records = self.forward(inputs, mask, steps, training)
        return results, (seeds, records)

    def _run_backward(self, inputs, mask, steps, training, residuals, upstream):
        seeds, records = residuals
        generators = self._seed_states()
        later_seeds = self._read_seeds(generators)
        self._write_seeds(generators, seeds)
        gradients = self.backward(inputs, mask, steps, training, records, upstream)
        self._write_seeds(generators, later_seeds)
        return gradients

    def _seed_states(self):
        """The variables of the random number generators, dropout's."""
        weights = {id(weight) for weight in self._layer.weights}
        return [v for v in self._layer.variables if id(v) not in weights]

    def _read_seeds(self, generators):
        return [tf.identity(variable.value) for variable in generators]

    def _write_seeds(self, generators, seeds):
        for variable, seed in zip(generators, seeds, strict=True):
            variable.assign(seed)


def _run_unrecorded(program, *arguments):
    """Calls a function whose own gradient no tape around it is to ask for."""
    with record.stop_recording():
        return program(*arguments)
