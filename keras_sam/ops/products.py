"""The two products of a matrix with few vectors, written for their gradients.

Each is the other's gradient. Left to itself TensorFlow takes the products with
the matrix turned, `x @ M^T`, which XLA on a CPU runs far slower than `(M @ x^T)^T`:
benchmarks/dense_step.py shows it on the DNC.
"""

import tensorflow as tf


@tf.custom_gradient
def dot_rows(matrix, vectors):
    """Dot products of each row with each vector.

    Args:
        matrix: Tensor `[batch, N, W]`.
        vectors: Tensor `[batch, heads, W]`.

    Returns:
        Tensor `[batch, heads, N]`.
    """
    products = tf.linalg.matrix_transpose(tf.matmul(matrix, vectors, transpose_b=True))

    def gradient(upstream):
        return (
            tf.matmul(upstream, vectors, transpose_a=True),
            sum_rows(matrix, upstream),
        )

    return products, gradient


@tf.custom_gradient
def sum_rows(matrix, weights):
    """Sums of the rows, weighted.

    Args:
        matrix: Tensor `[batch, N, W]`.
        weights: Tensor `[batch, heads, N]`.

    Returns:
        Tensor `[batch, heads, W]`.
    """

    def gradient(upstream):
        return (
            tf.matmul(weights, upstream, transpose_a=True),
            dot_rows(matrix, upstream),
        )

    return tf.matmul(weights, matrix), gradient
