"""Steps that count in some sequences of a batch alone."""

import tensorflow as tf


def where_active(active, new, old):
    """`new` in the sequences that are active, `old` in the others.

    Args:
        active: Boolean tensor `[batch]`.
        new: Structure of tensors `[batch, ...]`.
        old: The same.
    """

    def choose(new, old):
        shape = [-1] + [1] * (new.shape.rank - 1)
        return tf.where(tf.reshape(active, shape), new, old)

    return tf.nest.map_structure(choose, new, old)
