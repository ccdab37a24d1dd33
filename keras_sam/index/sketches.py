"""Short codes of words, which tell candidates apart without reading the words.

A sketch has a bit for each of 24 planes, as many as a float counts exactly. A query
differs from a word by the planes between them. Each plane is weighted by the query's
own distance from it, from 0 to 7, which takes three population counts.
"""

import numpy as np
import tensorflow as tf

from keras_sam.index.planes import side_bits

BITS = 24

# Planes at right angles: more of them would lie outside of what queries occupy.
BLOCK = 12

# A distance of this many times the mean has the largest weight.
LARGE = 1.8
MOST = 7

# Larger differences count as this one, so that a difference takes seven bits.
FARTHEST = 127


def differences(distances, sketches):
    """How much queries differ from words, by their sketches.

    Args:
        distances: Tensor `[..., 24]`, of queries from the planes of sketches.
        sketches: Integer tensor `[..., n]`.

    Returns:
        Integer tensor `[..., n]`, from 0 to `FARTHEST`.

    Example:

    >>> distances = tf.constant([[1.0] * 12 + [-1.0] * 12])
    >>> same, other = 2**12 - 1, 2**12 - 2
    >>> keras_sam.index.sketches.differences(distances, [[same, other]]).numpy()
    array([[0, 4]], dtype=int32)
    """
    weights = tf.abs(distances)
    weights /= tf.reduce_mean(weights, axis=-1, keepdims=True)
    weights = tf.minimum(tf.round(weights * (MOST / LARGE)), MOST)
    # Of a query of zeros all weights are 0.
    weights = tf.cast(tf.where(weights > 0.0, weights, 0.0), tf.int32)
    crossed = tf.bitwise.bitwise_xor(sketches, side_bits(distances)[..., tf.newaxis])
    difference = sum(
        (1 << digit) * _count(crossed, tf.bitwise.right_shift(weights, digit))
        for digit in range(MOST.bit_length())
    )
    return tf.minimum(difference, FARTHEST)


def _count(crossed, weights):
    """How many of the planes crossed have an odd weight: `[..., n]`."""
    bits = 2 ** np.arange(BITS, dtype="int32")
    odd = tf.reduce_sum(tf.bitwise.bitwise_and(weights, 1) * bits, axis=-1)
    both = tf.bitwise.bitwise_and(crossed, odd[..., tf.newaxis])
    return tf.cast(tf.raw_ops.PopulationCount(x=both), tf.int32)
