"""Location-based addressing of the Neural Turing Machine."""

import tensorflow as tf

from keras_sam.options import TensorLike


def interpolate(
    content_weights: tf.Tensor, previous_weights: tf.Tensor, gates: TensorLike
) -> tf.Tensor:
    """Mix a content weighting with the head's weighting of the step before.

    `w_g = g w_c + (1 - g) w_{t-1}`, equation 7 of [Graves et al., 2014](
    https://arxiv.org/abs/1410.5401).

    Args:
        content_weights: Tensor `[batch, heads, N]`.
        previous_weights: Tensor `[batch, heads, N]`.
        gates: Tensor `[batch, heads]` in `[0, 1]`; 1 takes the content.

    Returns:
        Tensor `[batch, heads, N]`.

    Example:

    >>> content, previous = tf.constant([[[1.0, 0.0]]]), tf.constant([[[0.0, 1.0]]])
    >>> keras_sam.ops.interpolate(content, previous, [[0.25]]).numpy()
    array([[[0.25, 0.75]]], dtype=float32)
    """
    gates = tf.convert_to_tensor(gates, content_weights.dtype)[..., tf.newaxis]
    return gates * content_weights + (1.0 - gates) * previous_weights


def circular_shift(weights: TensorLike, shift: TensorLike) -> tf.Tensor:
    """Move weightings along the slots, wrapping round at the ends.

    `w~[i] = sum_d shift[d] w[i - d mod N]`, equation 8 of [Graves et al., 2014](
    https://arxiv.org/abs/1410.5401): a circular convolution with a distribution
    over the offsets `-shift_range ... shift_range`. Offset `d` moves weight from
    slot `i` to slot `i + d`.

    Args:
        weights: Tensor `[batch, heads, N]`.
        shift: Tensor `[batch, heads, 2 * shift_range + 1]`, the share of each
            offset, in ascending order of the offsets.

    Returns:
        Tensor `[batch, heads, N]`.

    Raises:
        ValueError: If the number of offsets is even or larger than N.

    Example:

    >>> weights = tf.constant([[[1.0, 0.0, 0.0, 0.0]]])
    >>> one_forward = tf.constant([[[0.0, 0.0, 1.0]]])
    >>> keras_sam.ops.circular_shift(weights, one_forward).numpy()
    array([[[0., 1., 0., 0.]]], dtype=float32)
    """
    weights = tf.convert_to_tensor(weights)
    shift = tf.convert_to_tensor(shift, weights.dtype)
    slots, offsets = weights.shape[-1], shift.shape[-1]
    if offsets % 2 == 0:
        raise ValueError(
            "`shift` must give a share to each of the offsets -shift_range ... "
            "shift_range, an odd number of them. "
            f"Received: shift.shape={tuple(shift.shape)}"
        )
    if offsets > slots:
        raise ValueError(
            "`shift` must not reach further than once round the memory: "
            f"expected at most {slots} offsets for {slots} slots. "
            f"Received: shift.shape={tuple(shift.shape)}"
        )
    reach = offsets // 2
    wrapped = tf.concat(
        [weights[..., slots - reach :], weights, weights[..., :reach]], axis=-1
    )
    # Slot i takes what stands at slot i - d: at i - d + reach once wrapped.
    return tf.add_n(
        [
            shift[..., d + reach, tf.newaxis]
            * wrapped[..., reach - d : reach - d + slots]
            for d in range(-reach, reach + 1)
        ]
    )


def sharpen(weights: tf.Tensor, gamma: TensorLike, epsilon: float = 1e-16) -> tf.Tensor:
    """Concentrate weightings on their largest entries.

    `w[i] = w~[i]^gamma / sum_j w~[j]^gamma`, equation 9 of [Graves et al., 2014](
    https://arxiv.org/abs/1410.5401).

    Args:
        weights: Tensor `[batch, heads, N]`, at least 0.
        gamma: Tensor `[batch, heads]`, at least 1; 1 only normalises.
        epsilon: Added to each weight before the power, which keeps value and
            gradient finite where the weights are 0. Defaults to 1e-16.

    Returns:
        Tensor `[batch, heads, N]`, each weighting sums to 1.

    Example:

    >>> weights = tf.constant([[[0.2, 0.8]]])
    >>> keras_sam.ops.sharpen(weights, [[2.0]]).numpy().round(3)
    array([[[0.059, 0.941]]], dtype=float32)
    """
    gamma = tf.convert_to_tensor(gamma, weights.dtype)[..., tf.newaxis]
    # As a softmax of logarithms: no underflow of the powers for a large gamma.
    return tf.nn.softmax(gamma * tf.math.log(weights + epsilon), axis=-1)
