"""The two products of a matrix with few vectors, written for their gradients.

Each is the other's gradient. Left to itself TensorFlow takes the products with
the matrix turned, `x @ M^T`, which XLA on a CPU runs far slower than `(M @ x^T)^T`:
benchmarks/dense_step.py shows it on the DNC.
"""

import tensorflow as tf

from keras_sam._compat import custom_gradient


def dot_rows(matrix, vectors):
    """Dot products of each row with each vector.

    Args:
        matrix: Tensor `[batch, N, W]`.
        vectors: Tensor `[batch, heads, W]`.

    Returns:
        Tensor `[batch, heads, N]`.
    """

    def product(matrix, vectors):
        products = tf.matmul(matrix, vectors, transpose_b=True)
        return [tf.linalg.matrix_transpose(products)]

    def gradient(upstream):
        return [
            tf.matmul(upstream, vectors, transpose_a=True),
            sum_rows(matrix, upstream),
        ]

    (products,) = custom_gradient(product, gradient, [matrix, vectors])
    return products


def sum_rows(matrix, weights):
    """Sums of the rows, weighted.

    Args:
        matrix: Tensor `[batch, N, W]`.
        weights: Tensor `[batch, heads, N]`.

    Returns:
        Tensor `[batch, heads, W]`.
    """

    def product(matrix, weights):
        return [tf.matmul(weights, matrix)]

    def gradient(upstream):
        return [
            tf.matmul(weights, upstream, transpose_a=True),
            dot_rows(matrix, upstream),
        ]

    (sums,) = custom_gradient(product, gradient, [matrix, weights])
    return sums
