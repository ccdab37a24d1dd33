"""Random planes through the origin, laid where queries tell words apart."""

import numpy as np
import tensorflow as tf

# Keeps planes at right angles in directions that no query takes.
FLOOR = 1e-7


def draw_planes(seed, directions, groups):
    """Normal vectors of random planes, drawn in the directions of queries.

    A block of planes is the first columns of Q in `Q R = (S^2 + c I) G`, where G is
    `[W, W]` of normal random numbers. The planes of a block are at right angles. With
    the identity for S their directions are uniform. A query that is a linear map of a
    controller's output varies in few directions; the rest of a word, which the query
    does not know, then decides on few bits.

    Args:
        seed: Integer, the same numbers on every machine.
        directions: Tensor `[W, W]`, S: the second moment of queries, up to a factor.
        groups: List of pairs of integers: how many planes, and how many of them in a
            block, at most W.

    Returns:
        Tensor `[W, planes]`, unit vectors, one group after another.

    Example:

    >>> planes = keras_sam.index.planes.draw_planes(0, tf.eye(8), [(12, 8), (4, 4)])
    >>> planes.shape
    TensorShape([8, 16])
    >>> bool(tf.reduce_all(tf.abs(tf.norm(planes, axis=0) - 1) < 1e-5))
    True
    """
    size = directions.shape[-1]
    # This generator is the one whose numbers no version of NumPy will change.
    draw = np.random.RandomState(seed).normal
    counts = [-(-planes // block) for planes, block in groups]
    gaussians = tf.constant(draw(size=(sum(counts), size, size)), directions.dtype)
    squared = tf.matmul(directions, directions)
    squared = tf.math.divide_no_nan(squared, tf.linalg.trace(squared))
    squared += tf.cast(FLOOR, squared.dtype) * tf.eye(size, dtype=squared.dtype)
    orthogonal, triangle = tf.linalg.qr(tf.matmul(squared, gaussians))
    # The signs are conventions of the library that factorises.
    diagonal = tf.linalg.diag_part(triangle)[:, tf.newaxis]
    orthogonal = tf.where(diagonal < 0.0, -orthogonal, orthogonal)
    planes = []
    for blocks, (count, block) in zip(
        tf.split(orthogonal, counts), groups, strict=True
    ):
        columns = tf.transpose(blocks[..., :block], (1, 0, 2))
        planes.append(tf.reshape(columns, (size, -1))[:, :count])
    return tf.concat(planes, axis=1)


def side_bits(distances):
    """The number whose bits say on which side of planes something lies.

    Args:
        distances: Tensor `[..., planes]`, at most 31 planes.

    Returns:
        Integer tensor `[...]`; the first plane is the lowest bit, 1 where its distance
        is positive.
    """
    bits = 2 ** np.arange(distances.shape[-1], dtype="int32")
    return tf.reduce_sum(tf.where(distances > 0, bits, 0), axis=-1)
