"""Reading from and writing to a few slots of a large memory."""

import tensorflow as tf

from keras_sam._compat import in_xla


def sparse_read(memory: tf.Tensor, weights: tf.SparseTensor) -> tf.Tensor:
    """Read vectors from the few slots that have a weight.

    `r = sum_k w(s_k) M(s_k)`, equation 4 of [Rae et al., 2016](
    https://arxiv.org/abs/1610.09027). One sparse product, whose gradient for the
    memory is sparse as well (`tf.IndexedSlices` of its rows): neither touches the
    slots without a weight.

    Args:
        memory: Tensor `[batch, N, W]`, or its rows, `[batch * N, W]`, which is what
            the sparse gradient is for: a reshape would make it dense.
        weights: `tf.SparseTensor` `[batch, heads, N]`.

    Returns:
        Tensor `[batch, heads, W]`.

    Example:

    >>> memory = tf.constant([[[1.0, 0.0], [0.0, 2.0], [5.0, 5.0]]])
    >>> weights = tf.SparseTensor([[0, 0, 0], [0, 0, 1]], [0.5, 0.5], [1, 1, 3])
    >>> keras_sam.ops.sparse_read(memory, weights).numpy()
    array([[[0.5, 1. ]]], dtype=float32)
    """
    batch, heads, slots = tf.unstack(weights.dense_shape)
    words = memory.shape[-1]
    sequence, head, slot = tf.unstack(weights.indices, axis=-1)
    read = _weighted_rows(
        tf.reshape(memory, (-1, words)) if memory.shape.rank == 3 else memory,
        weights.values,
        reads=sequence * heads + head,
        rows_read=sequence * slots + slot,
        count=batch * heads,
    )
    return tf.reshape(read, tf.stack([batch, heads, words]))


def _weighted_rows(rows, weights, reads, rows_read, count):
    """Sums of weighted rows: weight i takes row `rows_read[i]` to `reads[i]`."""
    # Gathered first: the gradient of a sparse product for its dense factor is dense.
    rows = tf.gather(rows, rows_read)
    if in_xla():  # which has no kernel for the sparse product
        return tf.math.unsorted_segment_sum(weights[:, tf.newaxis] * rows, reads, count)
    entries = tf.range(tf.size(reads, reads.dtype), dtype=reads.dtype)
    matrix = tf.SparseTensor(
        tf.stack([reads, entries], axis=-1),
        weights,
        tf.stack([count, tf.size(reads, tf.int64)]),
    )
    return tf.sparse.sparse_dense_matmul(matrix, rows)


def sparse_write(memory: tf.Tensor, slots: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """The memory with new words in a few slots.

    Where a slot is named more than once, the first of its words counts, in value and
    gradient alike.

    Args:
        memory: Tensor `[batch, N, W]`.
        slots: Integer tensor `[batch, writes]`.
        rows: Tensor `[batch, writes, W]`.

    Returns:
        Tensor `[batch, N, W]`.

    Example:

    >>> memory = tf.zeros((1, 3, 1))
    >>> rows = tf.constant([[[5.0], [6.0]]])
    >>> keras_sam.ops.sparse_write(memory, tf.constant([[2, 0]]), rows)[0].numpy()
    array([[6.],
           [0.],
           [5.]], dtype=float32)
    """
    first = first_occurrences(slots)
    is_first = first == tf.range(tf.shape(slots)[1])
    same = tf.stop_gradient(tf.gather(rows, first, batch_dims=1))
    rows = tf.where(is_first[..., tf.newaxis], rows, same)
    return tf.tensor_scatter_nd_update(memory, batch_indices(slots), rows)


def batch_indices(slots):
    """Where slots `[batch, n]` are in a tensor `[batch, N, ...]`: `[batch, n, 2]`."""
    batch = tf.range(tf.shape(slots)[0], dtype=slots.dtype)[:, tf.newaxis]
    return tf.stack([tf.broadcast_to(batch, tf.shape(slots)), slots], axis=-1)


def row_numbers(slots, memory_slots):
    """Where slots `[batch, ...]` are when all memories lie below one another."""
    batch = tf.range(tf.shape(slots)[0])
    batch = tf.reshape(batch, [-1] + [1] * (slots.shape.rank - 1))
    return batch * memory_slots + slots


def first_occurrences(slots):
    """For each entry of a list of slots, the first entry that names the same slot.

    Args:
        slots: Integer tensor `[..., entries]`.

    Returns:
        Integer tensor `[..., entries]`, positions in the list.

    Example:

    >>> keras_sam.ops.sparse.first_occurrences(tf.constant([[7, 3, 7, 3]])).numpy()
    array([[0, 1, 0, 1]], dtype=int32)
    """
    entries = tf.range(tf.shape(slots)[-1])
    same = same_slots(slots, tf.bool)
    # Not argmax, which XLA does not vectorise.
    return tf.reduce_min(tf.where(same, entries, entries.dtype.max), axis=-1)


def is_first_occurrence(slots):
    """Whether no earlier entry of a list names the same slot: `[..., entries]`."""
    return first_occurrences(slots) == tf.range(tf.shape(slots)[-1])


def same_slots(slots, dtype):
    """Which entries of a list of slots name the same one.

    Args:
        slots: Integer tensor `[..., entries]`.
        dtype: The dtype of the result.

    Returns:
        Tensor `[..., entries, entries]` of 0 and 1. A product with it gives every
        entry the sum over all that name its slot.

    Example:

    >>> keras_sam.ops.sparse.same_slots(tf.constant([[7, 3, 7]]), "float32").numpy()
    array([[[1., 0., 1.],
            [0., 1., 0.],
            [1., 0., 1.]]], dtype=float32)
    """
    return tf.cast(slots[..., tf.newaxis] == slots[..., tf.newaxis, :], dtype)
