"""Reading from and writing to a dense memory."""

import tensorflow as tf

from keras_sam.ops.products import sum_rows


def read(memory: tf.Tensor, read_weights: tf.Tensor) -> tf.Tensor:
    """Read vectors: the sums of the slots, weighted.

    `r = sum_i w[i] M[i]`, equation 2 of [Graves et al., 2014](
    https://arxiv.org/abs/1410.5401).

    Args:
        memory: Tensor `[batch, N, W]`.
        read_weights: Tensor `[batch, heads, N]`.

    Returns:
        Tensor `[batch, heads, W]`.

    Example:

    >>> memory = tf.constant([[[1.0, 0.0], [0.0, 2.0]]])
    >>> keras_sam.ops.read(memory, tf.constant([[[0.5, 0.5]]])).numpy()
    array([[[0.5, 1. ]]], dtype=float32)
    """
    return sum_rows(memory, read_weights)


def erase_and_add(
    memory: tf.Tensor, write_weights: tf.Tensor, erase: tf.Tensor, add: tf.Tensor
) -> tf.Tensor:
    """Erase from and add to the slots, as much as the weightings say.

    `M[i] = M[i] prod_h (1 - w_h[i] e_h) + sum_h w_h[i] a_h`: equations 3 and 4 of
    [Graves et al., 2014](https://arxiv.org/abs/1410.5401), for heads that all
    erase before any adds, so that their order does not matter.

    Args:
        memory: Tensor `[batch, N, W]`.
        write_weights: Tensor `[batch, heads, N]`.
        erase: Tensor `[batch, heads, W]` in `[0, 1]`.
        add: Tensor `[batch, heads, W]`.

    Returns:
        Tensor `[batch, N, W]`.

    Example:

    >>> memory = tf.ones((1, 2, 2))
    >>> weights, erase = tf.constant([[[1.0, 0.0]]]), tf.constant([[[1.0, 0.0]]])
    >>> add = tf.constant([[[5.0, 5.0]]])
    >>> keras_sam.ops.erase_and_add(memory, weights, erase, add).numpy()
    array([[[5., 6.],
            [1., 1.]]], dtype=float32)
    """
    for head in range(write_weights.shape[1]):
        weights = write_weights[:, head, :, tf.newaxis]
        memory = memory * (1.0 - weights * erase[:, head, tf.newaxis, :])
    return memory + tf.matmul(write_weights, add, transpose_a=True)
