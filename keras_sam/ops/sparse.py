"""Reading from and writing to a few slots of a large memory."""

import tensorflow as tf

from keras_sam.buffers import in_xla


def sparse_read(memory, weights):
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

    @tf.custom_gradient
    def product(rows, weights):
        def gradient(upstream):
            upstream = tf.gather(upstream, reads)
            return (
                # Identity: a gradient may be traced into another graph than the
                # forward pass, and may not hand out a tensor of that one.
                tf.IndexedSlices(
                    weights[:, tf.newaxis] * upstream,
                    tf.identity(rows_read),
                    tf.shape(rows),
                ),
                tf.reduce_sum(tf.gather(rows, rows_read) * upstream, axis=-1),
            )

        # XLA has no kernel for the sparse product.
        if in_xla():
            weighted = weights[:, tf.newaxis] * tf.gather(rows, rows_read)
            return tf.math.unsorted_segment_sum(weighted, reads, count), gradient
        matrix = tf.SparseTensor(
            tf.stack([reads, rows_read], axis=-1),
            weights,
            tf.stack([count, tf.shape(rows, tf.int64)[0]]),
        )
        return tf.sparse.sparse_dense_matmul(matrix, rows), gradient

    return product(rows, weights)


@tf.custom_gradient
def sparse_write(memory, slots, rows):
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
    batch = tf.broadcast_to(
        tf.range(tf.shape(slots)[0], dtype=slots.dtype)[:, tf.newaxis],
        tf.shape(slots),
    )
    places = tf.stack([batch, slots], axis=-1)

    def gradient(upstream):
        counts = first == tf.range(tf.shape(slots)[1])
        return (
            tf.tensor_scatter_nd_update(upstream, places, tf.zeros_like(rows)),
            None,
            tf.gather_nd(upstream, places)
            * tf.cast(counts, upstream.dtype)[..., tf.newaxis],
        )

    rows = tf.gather(rows, first, batch_dims=1)
    return tf.tensor_scatter_nd_update(memory, places, rows), gradient


def first_occurrences(slots):
    """For each entry of a list of slots, the first entry that names the same slot.

    Args:
        slots: Integer tensor `[batch, entries]`.

    Returns:
        Integer tensor `[batch, entries]`, positions in the list.

    Example:

    >>> keras_sam.ops.first_occurrences(tf.constant([[7, 3, 7, 3]])).numpy()
    array([[0, 1, 0, 1]], dtype=int32)
    """
    entries = tf.range(tf.shape(slots)[1])
    same = same_slots(slots, tf.bool)
    # Not argmax, which XLA does not vectorise.
    return tf.reduce_min(tf.where(same, entries, entries.dtype.max), axis=-1)


def is_first_occurrence(slots):
    """Whether no earlier entry of a list names the same slot: `[batch, entries]`."""
    return first_occurrences(slots) == tf.range(tf.shape(slots)[1])


def same_slots(slots, dtype):
    """Which entries of a list of slots name the same one.

    Args:
        slots: Integer tensor `[batch, entries]`.
        dtype: The dtype of the result.

    Returns:
        Tensor `[batch, entries, entries]` of 0 and 1. A product with it gives every
        entry the sum over all that name its slot.

    Example:

    >>> keras_sam.ops.same_slots(tf.constant([[7, 3, 7]]), "float32").numpy()
    array([[[1., 0., 1.],
            [0., 1., 0.],
            [1., 0., 1.]]], dtype=float32)
    """
    return tf.cast(slots[:, :, tf.newaxis] == slots[:, tf.newaxis, :], dtype)
