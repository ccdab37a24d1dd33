"""Content-based addressing: how alike a key and each memory slot are."""

import tensorflow as tf

from keras_sam.ops.products import dot_rows
from keras_sam.options import TensorLike

# Under the square roots of norms: a memory or a key of zeros has a finite
# similarity (zero) and a finite gradient.
NORM_EPSILON = 1e-6


def cosine_similarity(
    memory: tf.Tensor, keys: tf.Tensor, masks: tf.Tensor | None = None
) -> tf.Tensor:
    """Cosine of the angle between every key and every memory slot.

    `K(k, m) = k . m / (|k| |m|)`, equation 6 of [Graves et al., 2014](
    https://arxiv.org/abs/1410.5401), with `|v| = sqrt(v . v + 1e-6)`: a slot or
    key of zeros is similar to nothing instead of undefined.

    Args:
        memory: Tensor `[batch, N, W]`.
        keys: Tensor `[batch, heads, W]`.
        masks: Optional tensor `[batch, heads, W]` in `[0, 1]`: how much each
            element of the word counts, for key and slot alike, as in
            [Csordás & Schmidhuber, 2019](https://arxiv.org/abs/1904.10278).

    Returns:
        Tensor `[batch, heads, N]` in `[-1, 1]`.

    Example:

    >>> memory = tf.constant([[[1.0, 0.0], [0.0, 2.0]]])
    >>> keys = tf.constant([[[0.0, 3.0]]])
    >>> keras_sam.ops.cosine_similarity(memory, keys).numpy().round(3)
    array([[[0., 1.]]], dtype=float32)
    """
    # The norms divide keys and the small [heads, N] products, never the memory:
    # no second memory-sized tensor is made.
    if masks is None:
        products = dot_rows(memory, keys)
        slot_squares = tf.reduce_sum(tf.square(memory), axis=-1)[:, tf.newaxis]
    else:
        squared_masks = tf.square(masks)
        products = dot_rows(memory, keys * squared_masks)
        slot_squares = dot_rows(tf.square(memory), squared_masks)
        keys = keys * masks
    key_squares = tf.reduce_sum(tf.square(keys), axis=-1, keepdims=True)
    return (
        products
        * tf.math.rsqrt(slot_squares + NORM_EPSILON)
        * tf.math.rsqrt(key_squares + NORM_EPSILON)
    )


def content_weights(
    memory: tf.Tensor,
    keys: tf.Tensor,
    strengths: TensorLike,
    masks: tf.Tensor | None = None,
) -> tf.Tensor:
    """Weightings over the slots by likeness to the keys.

    `w[i] = softmax_i(strength * K(key, memory[i]))` with the cosine similarity
    `K`: equation 5 of [Graves et al., 2014](https://arxiv.org/abs/1410.5401),
    `C(M, k, b)` of [Graves et al., 2016](https://doi.org/10.1038/nature20101).

    Args:
        memory: Tensor `[batch, N, W]`.
        keys: Tensor `[batch, heads, W]`.
        strengths: Tensor `[batch, heads]`, at least 0: the larger, the more
            the weighting concentrates on the slots most like the key.
        masks: Optional tensor `[batch, heads, W]`, see `cosine_similarity`.

    Returns:
        Tensor `[batch, heads, N]`, each weighting sums to 1.

    Example:

    >>> memory = tf.constant([[[1.0, 0.0], [0.0, 2.0]]])
    >>> keys = tf.constant([[[0.0, 3.0]]])
    >>> keras_sam.ops.content_weights(memory, keys, [[0.0]]).numpy()
    array([[[0.5, 0.5]]], dtype=float32)
    >>> keras_sam.ops.content_weights(memory, keys, [[9.0]]).numpy().round(3)
    array([[[0., 1.]]], dtype=float32)
    """
    similarity = cosine_similarity(memory, keys, masks)
    strengths = tf.convert_to_tensor(strengths, similarity.dtype)
    return tf.nn.softmax(similarity * strengths[..., tf.newaxis], axis=-1)
