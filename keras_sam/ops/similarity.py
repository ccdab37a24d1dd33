"""How alike a query and some candidates are."""

import tensorflow as tf

from keras_sam.ops.content import NORM_EPSILON


def similarity(queries, words):
    """Cosine similarity, but for the queries' length; of equal words the same.

    Args:
        queries: Tensor `[batch, heads, W]`.
        words: Tensor `[batch, heads or 1, n, W]`, the candidates of each query.

    Returns:
        Tensor `[batch, heads, n]`.
    """
    # Sums, where rounding is the same for equal words, which have to tie.
    products = tf.reduce_sum(queries[:, :, tf.newaxis] * words, axis=-1)
    squares = tf.reduce_sum(tf.square(words), axis=-1)
    # A plain division by a root is turned into a product with an inverse root by
    # TensorFlow's graphs, which round that differently from row to row.
    return tf.math.divide_no_nan(products, tf.sqrt(squares + NORM_EPSILON))
