"""The largest of many values, a few at a time."""

import math

import tensorflow as tf

# Above it sorting is the faster way.
MAX_LOOP_K = 16
# So many values XLA compares at a time, and so many are a block at most.
LANES, MAX_BLOCK = 16, 256


def top_k(values, count):
    """The largest values along the last axis, as `tf.math.top_k`, but for XLA.

    XLA's own top-k sorts everything. To go through the values once for each of the
    few that are wanted took a tenth of the time for 4 of 1,024.

    Args:
        values: Tensor `[..., n]`, of floats above minus infinity.
        count: Integer, how many, at most n.

    Returns:
        The values `[..., count]`, the largest first, and their positions, integers;
        of equal values the lowest position comes first.

    Example:

    >>> values, positions = keras_sam.ops.selection.top_k(
    ...     tf.constant([3.0, 5.0, 5.0, 1.0]), 2
    ... )
    >>> positions.numpy()
    array([1, 2], dtype=int32)
    """
    if count > MAX_LOOP_K:
        return tf.math.top_k(values, k=count)
    size = tf.shape(values)[-1]
    numbers = tf.range(size)
    taken = tf.constant(-float("inf"), values.dtype)
    best, positions = [], []
    for _ in range(count):
        best.append(tf.reduce_max(values, axis=-1, keepdims=True))
        found = tf.where(values == best[-1], numbers, size - 1)
        positions.append(tf.reduce_min(found, axis=-1, keepdims=True))
        values = tf.where(numbers == positions[-1], taken, values)
    return tf.concat(best, axis=-1), tf.concat(positions, axis=-1)


def block_size(size):
    """In blocks of how many `blockwise_top_k` looks at so many values.

    Choosing blocks costs as much as choosing within the chosen ones when a block has
    about half the root of their number. XLA vectorises sixteen values and more.
    """
    return min(MAX_BLOCK, max(LANES, 2 ** round(math.log2(math.sqrt(size) / 2))))


def blockwise_top_k(values, count):
    """The positions of the largest of very many values.

    The K largest lie in the K blocks with the largest maxima, the lowest of equal
    ones first: each of these blocks has a value that goes before all of another.

    Args:
        values: Tensor `[batch, heads, n]`, where n is a multiple of `block_size(n)`;
            what is not a number counts as the least.
        count: Integer K, at most n.

    Returns:
        Integer tensor `[batch, heads, K]`, the largest first; of equal values the
        lowest position.

    Example:

    >>> values = tf.tensor_scatter_nd_update(tf.zeros((1, 1, 64)), [[0, 0, 40]], [1.0])
    >>> keras_sam.ops.selection.blockwise_top_k(values, 2).numpy()
    array([[[40,  0]]], dtype=int32)
    """
    values = tf.where(tf.math.is_nan(values), values.dtype.min, values)
    if count > MAX_LOOP_K:
        return tf.math.top_k(values, k=count).indices
    heads, size = values.shape[1:]
    block = block_size(size)
    blocks = tf.reshape(values, (-1, heads, size // block, block))
    # The axis before the last is the one that XLA reduces many lanes at a time.
    lanes = tf.reshape(blocks, (-1, heads, size // block, block // LANES, LANES))
    maxima = tf.reduce_max(tf.reduce_max(lanes, axis=-2), axis=-1)
    _, best = top_k(maxima, min(count, size // block))
    positions = (best * block)[..., tf.newaxis] + tf.range(block)
    candidates = tf.gather(blocks, best, batch_dims=2)
    flat = (-1, heads, best.shape[-1] * block)
    return distinct_top_k(
        tf.reshape(candidates, flat), tf.reshape(positions, flat), count
    )


def distinct_top_k(scores, slots, count):
    """The slots that have the largest scores, each once.

    Args:
        scores: Tensor `[..., n]`; what is not a number counts as the least.
        slots: Integer tensor `[..., n]`, of at least `count` different ones.
        count: Integer K.

    Returns:
        Integer tensor `[..., K]`, the largest score first; of equal scores the lowest
        slot.
    """
    scores = tf.where(tf.math.is_nan(scores), scores.dtype.min, scores)
    scores = tf.maximum(scores, scores.dtype.min)
    taken = tf.constant(-float("inf"), scores.dtype)
    found = []
    for _ in range(count):
        best = tf.reduce_max(scores, axis=-1, keepdims=True)
        best = tf.where(scores == best, slots, slots.dtype.max)
        found.append(tf.reduce_min(best, axis=-1, keepdims=True))
        scores = tf.where(slots == found[-1], taken, scores)
    return tf.concat(found, axis=-1)
