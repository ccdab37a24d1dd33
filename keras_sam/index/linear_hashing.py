"""Tables of buckets that grow with their contents, one bucket at a time.

Linear hashing ([Litwin, 1980](https://doi.org/10.1109/VLDB.1980.718064)): of B buckets
in use, with `2^L <= B < 2^(L+1)`, the bucket of a code is `code mod 2^(L+1)`, or
`code mod 2^L` where that is not in use. A new bucket B takes from the single bucket
`B - 2^L` those whose codes belong to it now. Several tables take turns: split number k,
from 0 on, gives table `k mod T` its bucket `k // T + 1`.
"""

from typing import NamedTuple

import tensorflow as tf

from keras_sam.options import TensorLike


class Splits(NamedTuple):
    """The splits of a step; all parts `[batch, splits]`."""

    tables: tf.Tensor  # integers
    sources: tf.Tensor  # the bucket that is split
    targets: tf.Tensor  # the new bucket
    happen: tf.Tensor  # booleans: the others are not due


def due_splits(done: tf.Tensor, wanted: tf.Tensor, tables: int, most: int) -> Splits:
    """The next splits of some tables.

    Args:
        done: Integer tensor `[batch, 1]`, how many splits there have been.
        wanted: Integer tensor `[batch, 1]`, how many there should have been.
        tables: Integer T.
        most: Integer, how many to make now, at most `2 T`: those of the same step do
            not split what one of them has made.

    Returns:
        `Splits`.
    """
    numbers = done + tf.range(most)
    targets = numbers // tables + 1
    sources = targets - _highest_power_of_two(targets)
    return Splits(numbers % tables, sources, targets, numbers < wanted)


def buckets_in_use(done: tf.Tensor, tables: int) -> tf.Tensor:
    """How many buckets each table has after so many splits.

    Args:
        done: Integer tensor `[batch, 1]`.
        tables: Integer T.

    Returns:
        Integer tensor `[batch, T]`.
    """
    return 1 + (done + tables - 1 - tf.range(tables)) // tables


def bucket_of(codes: tf.Tensor, buckets: TensorLike) -> tf.Tensor:
    """The bucket that a code belongs to.

    Args:
        codes: Integer tensor.
        buckets: Integer tensor, broadcast to it: how many buckets are in use.

    Returns:
        Integer tensor of the shape of `codes`.

    Example:

    >>> codes = tf.range(8)
    >>> keras_sam.index.linear_hashing.bucket_of(codes, 5).numpy()
    array([0, 1, 2, 3, 4, 1, 2, 3], dtype=int32)
    """
    low = _highest_power_of_two(tf.convert_to_tensor(buckets))
    bucket = tf.bitwise.bitwise_and(codes, 2 * low - 1)
    return tf.where(bucket < buckets, bucket, tf.bitwise.bitwise_and(codes, low - 1))


def _highest_power_of_two(numbers):
    """The largest power of two that is not above a number of at least 1."""
    for shift in (1, 2, 4, 8, 16):
        numbers = tf.bitwise.bitwise_or(numbers, tf.bitwise.right_shift(numbers, shift))
    return numbers - tf.bitwise.right_shift(numbers, 1)
