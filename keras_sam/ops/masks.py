"""Steps that count in some sequences of a batch alone."""

import tensorflow as tf


def where_active(active, new, old):
    """`new` in the sequences that are active, `old` in the others.

    Args:
        active: Boolean tensor `[batch]`, or `None`: all are active.
        new: Structure of tensors `[batch, ...]`.
        old: The same.
    """
    if active is None:
        return new

    def choose(new, old):
        shape = [-1] + [1] * (new.shape.rank - 1)
        return tf.where(tf.reshape(active, shape), new, old)

    return tf.nest.map_structure(choose, new, old)
