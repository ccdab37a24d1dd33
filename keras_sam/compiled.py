"""A whole sequence as one operation that XLA compiles, forward and backward."""

import abc

import tensorflow as tf


class CompiledSequence(abc.ABC):
    """Runs a layer's sequence compiled by XLA, within a graph that is not.

    TensorFlow cannot differentiate a compiled loop: what its backward pass needs
    are tensor lists, which cannot leave an XLA program. So the sequence is one
    operation with a gradient of its own: a compiled function forward, and one
    backward. It has no second derivatives.

    The backward pass may run parts of the forward pass again: it finds the random
    number generators as the forward pass found them.

    Args:
        layer: The Keras layer whose weights the sequence uses.
    """

    def __init__(self, layer):
        self._layer = layer
        compiled = {"jit_compile": True, "autograph": False}
        self.forward_program = tf.function(self._run_forward, **compiled)
        self.backward_program = tf.function(self._run_backward, **compiled)
        # In a graph even for an eager caller, whose tape would otherwise record the
        # compiled forward function and ask it for the tensor lists.
        self._run = tf.function(self._run_with_gradient, autograph=False)

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
            results, residuals = self.forward_program(inputs, *options)

            def gradient(*upstream, variables=()):
                of_inputs, of_weights = self.backward_program(
                    inputs, *options, residuals, upstream
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

    def _run_forward(self, inputs, mask, steps, training):
        seeds = self._read_seeds()
        results, records = self.forward(inputs, mask, steps, training)
        return results, (seeds, records)

    def _run_backward(self, inputs, mask, steps, training, residuals, upstream):
        seeds, records = residuals
        later_seeds = self._read_seeds()
        self._write_seeds(seeds)
        gradients = self.backward(inputs, mask, steps, training, records, upstream)
        self._write_seeds(later_seeds)
        return gradients

    def _seed_states(self):
        """The variables of the random number generators, dropout's."""
        weights = {id(weight) for weight in self._layer.weights}
        return [v for v in self._layer.variables if id(v) not in weights]

    def _read_seeds(self):
        return [tf.identity(variable.value) for variable in self._seed_states()]

    def _write_seeds(self, seeds):
        for variable, seed in zip(self._seed_states(), seeds, strict=True):
            variable.assign(seed)
