"""A layer's loop over time as one operation that XLA compiles."""

import tensorflow as tf


class CompiledLoop:
    """Runs `loop` compiled by XLA, within a graph that is not.

    TensorFlow cannot differentiate a compiled loop: what its backward pass needs
    are tensor lists, which cannot leave an XLA program. So the sequence is one
    operation with a gradient of its own: a compiled function forward, and a
    compiled function backward that runs the loop again under a tape. It has no
    second derivatives.

    Args:
        layer: The `keras.layers.RNN` whose weights the loop uses.
        loop: Function of `(sequences, initial_state, mask, training)` that returns
            a flat list of tensors.
    """

    def __init__(self, layer, loop):
        self._layer = layer
        self._loop = loop
        self._forward = tf.function(
            self._run_forward, jit_compile=True, autograph=False
        )
        self._backward = tf.function(
            self._run_backward, jit_compile=True, autograph=False
        )

        # In a graph even for an eager caller, whose tape would otherwise record the
        # compiled forward function and ask it for the tensor lists.
        self._run = tf.function(self._run_with_gradient, autograph=False)

    def __call__(self, sequences, initial_state, mask, training):
        return self._run(sequences, tuple(initial_state), mask, training)

    def _run_with_gradient(self, sequences, initial_state, mask, training):
        @tf.custom_gradient
        def run(*inputs):
            results, seeds = self._forward(inputs, mask, training)

            def gradient(*upstream, variables=()):
                gradients = self._backward(inputs, mask, training, seeds, upstream)
                of_weights = {
                    variable.value.ref(): gradient
                    for variable, gradient in zip(
                        self._layer.trainable_variables,
                        gradients[len(inputs) :],
                        strict=True,
                    )
                }
                return gradients[: len(inputs)], [
                    of_weights.get(variable.ref()) for variable in variables
                ]

            return results, gradient

        return run(sequences, *initial_state)

    def _seed_states(self):
        """The variables of the random number generators, dropout's."""
        weights = {id(weight) for weight in self._layer.weights}
        return [v for v in self._layer.variables if id(v) not in weights]

    def _run_forward(self, inputs, mask, training):
        seeds = [tf.identity(variable.value) for variable in self._seed_states()]
        return self._loop(inputs[0], inputs[1:], mask, training), seeds

    def _run_backward(self, inputs, mask, training, seeds, upstream):
        # The same random numbers as forward, and the generators left as they are.
        later_seeds = [tf.identity(variable.value) for variable in self._seed_states()]
        for variable, seed in zip(self._seed_states(), seeds, strict=True):
            variable.assign(seed)
        weights = [variable.value for variable in self._layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            results = self._loop(inputs[0], inputs[1:], mask, training)
        gradients = tape.gradient(
            results,
            [*inputs, *weights],
            output_gradients=list(upstream),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        for variable, seed in zip(self._seed_states(), later_seeds, strict=True):
            variable.assign(seed)
        return gradients
