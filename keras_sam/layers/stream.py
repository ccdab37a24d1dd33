"""The states of a stateful layer, from one call to the next."""

import keras
import tensorflow as tf


class StreamState(keras.Variable):
    """One state of a stateful layer; it counts from when it has been assigned.

    Until then the layer starts from its initial state as that is by then: the weights
    that it depends on may have been loaded or trained since the layer was built.

    Args:
        value: Tensor `[batch, size]`.
        dtype: The dtype of the variable.
        name: String.
    """

    def __init__(self, value, dtype, name):
        super().__init__(value, trainable=False, dtype=dtype, name=name)
        # A variable: it may change within a graph.
        self.assigned = keras.Variable(
            False, trainable=False, dtype="bool", name=f"{name}_assigned"
        )

    def assign(self, value):
        value = super().assign(value)
        self.assigned.assign(True)
        return value

    def reset(self, initial_value):
        """Shows the initial value, until something is assigned."""
        self.assign(initial_value)
        self.assigned.assign(False)

    def current(self, initial_value):
        """The value to go on from."""
        return tf.where(self.assigned.value, self.value, initial_value)
