"""The loop of a dense layer over time, compiled."""

import tensorflow as tf

from keras_sam.sequence import Sequence


class CompiledLoop(Sequence):
    """Runs a loop forward; backward, runs it again under a tape.

    Args:
        layer: The `keras.layers.RNN` whose weights the loop uses.
        loop: Function of `(sequences, initial_state, mask, training)` that returns
            a flat list of tensors.
    """

    def __init__(self, layer, loop):
        super().__init__(layer)
        self._loop = loop

    def forward(self, inputs, mask, steps, training):
        return self._loop(inputs[0], inputs[1:], mask, training), []

    def backward(self, inputs, mask, steps, training, records, upstream):
        weights = [variable.value for variable in self._layer.trainable_variables]
        results = self._loop(inputs[0], inputs[1:], mask, training)
        gradients = tf.gradients(
            results,
            [*inputs, *weights],
            grad_ys=list(upstream),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return gradients[: len(inputs)], gradients[len(inputs) :]
