"""Gathering rows that lie far apart in a large memory, fast within XLA.

On a processor XLA fuses a gather with what follows, looks up every number by itself,
and waits for one row after another. It does not fuse a branch. So the gathers stand in
the branches of a condition, which are the same.
"""

import tensorflow as tf

from keras_sam._compat import in_xla

# So many bytes a processor fetches at once.
CACHE_LINE = 64


def gather_once(rows, numbers):
    """Rows `[batch, n, width]` by their numbers `[batch, ...]`.

    Rows of a batch of one are those of all sequences.
    """
    return _gather_after(lambda: numbers, rows, numbers)


def gather_scattered(rows, numbers):
    """As `gather_once`, for rows of few numbers that are not in the processor's cache.

    A first look at each row's cache lines, a few instructions a row, has many of them
    fetched at a time.
    """

    def looked_at():
        step = CACHE_LINE // rows.dtype.size
        columns = range(0, rows.shape[-1], step)
        return tf.stack([_gather(rows[..., c], numbers) for c in columns])

    return _gather_after(looked_at, rows, numbers)


def on_its_own(function, *tensors):
    """What a function makes of tensors, of which XLA fuses nothing with what is around.

    Within what follows XLA would compute it again for each number that needs it.

    Args:
        function: Function of tensors to a tensor.
        *tensors: Its arguments, the first of them of numbers and not empty.
    """
    if not in_xla():
        return function(*tensors)
    return _branch(tensors[0], lambda: function(*tensors))


def _gather_after(first, rows, numbers):
    def gather():
        return _gather(rows, numbers)

    return _branch(first(), gather) if in_xla() else gather()


def _branch(condition, function):
    return tf.cond(tf.reduce_max(condition) > 0, function, function)


def _gather(rows, numbers):
    if rows.shape[0] == 1:
        return tf.gather(tf.reshape(rows, (-1, *rows.shape[2:])), numbers)
    return tf.gather(rows, numbers, batch_dims=1)
