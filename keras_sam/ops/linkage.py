"""Temporal links of the DNC: which slot was written after which."""

import tensorflow as tf

from keras_sam.ops.products import dot_rows, sum_rows


def update_link(
    link: tf.Tensor, precedence: tf.Tensor, write_weights: tf.Tensor
) -> tf.Tensor:
    """The link matrix once a write is recorded.

    `L[i, j] = (1 - w[i] - w[j]) L[i, j] + w[i] p[j]` off the diagonal, 0 on it:
    `L[i, j]` is how much slot i was written right after slot j. Methods,
    "Temporal memory linkage", of [Graves et al., 2016](
    https://doi.org/10.1038/nature20101).

    Args:
        link: Tensor `[batch, N, N]`.
        precedence: Tensor `[batch, N]`, of the step before.
        write_weights: Tensor `[batch, N]`, of this step.

    Returns:
        Tensor `[batch, N, N]`; rows and columns sum to at most 1.

    Example: slot 1 is written right after slot 0.

    >>> link = keras_sam.ops.update_link(
    ...     tf.zeros((1, 2, 2)), tf.constant([[1.0, 0.0]]), tf.constant([[0.0, 1.0]])
    ... )
    >>> link.numpy()
    array([[[0., 0.],
            [1., 0.]]], dtype=float32)
    """
    rows = write_weights[:, :, tf.newaxis]
    columns = write_weights[:, tf.newaxis, :]
    link = (1.0 - rows - columns) * link + rows * precedence[:, tf.newaxis, :]
    return tf.linalg.set_diag(link, tf.zeros_like(write_weights))


def update_precedence(precedence: tf.Tensor, write_weights: tf.Tensor) -> tf.Tensor:
    """Which slots were written last, once a write is recorded.

    `p = (1 - sum_i w[i]) p + w` of [Graves et al., 2016](
    https://doi.org/10.1038/nature20101).

    Args:
        precedence: Tensor `[batch, N]`.
        write_weights: Tensor `[batch, N]`, of this step.

    Returns:
        Tensor `[batch, N]`, sums to at most 1.

    Example:

    >>> keras_sam.ops.update_precedence(
    ...     tf.constant([[1.0, 0.0]]), tf.constant([[0.0, 0.75]])
    ... ).numpy()
    array([[0.25, 0.75]], dtype=float32)
    """
    written = tf.reduce_sum(write_weights, axis=-1, keepdims=True)
    return (1.0 - written) * precedence + write_weights


def directional_weights(
    link: tf.Tensor, read_weights: tf.Tensor, forward: bool
) -> tf.Tensor:
    """Where the links lead from the slots read at the step before.

    `f = L w` forward, to what was written next; `b = L^T w` backward, to what
    was written before; [Graves et al., 2016](
    https://doi.org/10.1038/nature20101).

    Args:
        link: Tensor `[batch, N, N]`.
        read_weights: Tensor `[batch, heads, N]`, of the step before.
        forward: Python boolean, the direction.

    Returns:
        Tensor `[batch, heads, N]`.

    Example: slot 1 was written right after slot 0.

    >>> link = tf.constant([[[0.0, 0.0], [1.0, 0.0]]])
    >>> read_weights = tf.constant([[[1.0, 0.0]]])
    >>> keras_sam.ops.directional_weights(link, read_weights, forward=True).numpy()
    array([[[0., 1.]]], dtype=float32)
    """
    product = dot_rows if forward else sum_rows
    return product(link, read_weights)
