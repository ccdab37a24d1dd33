"""Exact search, over the words written so far."""

import keras
import tensorflow as tf

from keras_sam.index.base import Index
from keras_sam.ops.content import NORM_EPSILON
from keras_sam.ops.selection import MAX_BLOCK, block_size, blockwise_top_k
from keras_sam.ops.sparse import batch_indices

# Up to so many words a search brings all to length one; above, the state keeps them.
MAX_UNKEPT = 512
# A search compares the first so many words; all of them, where more were written.
PREFIXES = tuple(4**exponent for exponent in range(5, 12))


@keras.saving.register_keras_serializable(package="keras_sam")
class Exact(Index):
    """Compares a query with every word written so far.

    Words never written are all alike and lie behind the written ones, since slots are
    first used in ascending order. So the K best among the words written so far and
    the K slots after them are the K best of all, ties included, which go to the
    lowest slot as in `tf.math.top_k`. The cost grows with what was written, by steps
    of a factor of four, and not with N.

    All similarities are one matrix product with the words at length one, column by
    column, `[W, columns]`. The state keeps these above 512 slots: as many numbers
    again as the memory has. Up to 512 slots a search computes them, and the state is a
    single number without a meaning.

    Example:

    >>> index = keras_sam.index.Exact()
    >>> memory = tf.constant([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
    >>> state = index.reset(memory, given_rows=3)
    >>> index.search(state, memory, tf.constant([[[0.0, 1.0]]]), count=2).numpy()
    array([[[1, 2]]], dtype=int32)
    """

    is_exact = True
    supports_jit = True

    def state_size(self, memory_slots, word_size):
        return word_size * _columns(memory_slots) if memory_slots > MAX_UNKEPT else 1

    def reset(self, memory, given_rows):
        if memory.shape[1] <= MAX_UNKEPT:
            return tf.zeros((tf.shape(memory)[0], 1), memory.dtype)
        units = _unit_columns(memory)
        word_size, columns = units.shape[1:]
        # The last number of the first row is how many slots have to be looked at.
        used = tf.one_hot(columns - 1, word_size * columns, dtype=memory.dtype)
        units = tf.reshape(units, (-1, word_size * columns))
        return units + tf.cast(given_rows, memory.dtype) * used

    def insert(
        self, state, slots, rows, active=None, update=tf.tensor_scatter_nd_update
    ):
        if state.shape[1] == 1:
            return state
        word_size = rows.shape[2]
        columns = state.shape[1] // word_size
        used = state[:, columns - 1 : columns]
        needed = tf.reduce_max(slots, axis=-1, keepdims=True) + 1
        if active is not None:
            active = active[:, tf.newaxis]
            needed = tf.where(active, needed, 0)
            # The last but one column is nobody's.
            slots = tf.where(active, slots, columns - 2)
        used = tf.maximum(used, tf.cast(needed, state.dtype))
        places = slots[:, :, tf.newaxis] + columns * tf.range(word_size)
        flat = (-1, slots.shape[1] * word_size)
        places = tf.reshape(places, flat)
        places = tf.concat([places, tf.fill(tf.shape(used), columns - 1)], axis=1)
        values = tf.concat([tf.reshape(_unit(rows), flat), used], axis=1)
        return update(state, batch_indices(places), values)

    def search(self, state, memory, queries, count):
        return self.search_without(state, memory, queries, count, None)

    def search_without(self, state, memory, queries, count, without):
        slots, word_size = memory.shape[1:]
        if state.shape[1] == 1:
            words = _unit_columns(memory)
        else:
            words = tf.reshape(state, (-1, word_size, state.shape[1] // word_size))
        columns = words.shape[2]
        queries = tf.stop_gradient(queries)
        counts = tf.tile(tf.range(columns)[tf.newaxis] < slots, (tf.shape(words)[0], 1))
        if without is not None:
            counts = tf.tensor_scatter_nd_update(
                counts, batch_indices(without), tf.zeros_like(without, tf.bool)
            )

        def among(size):
            return lambda: _search(
                words[:, :, :size], queries, counts[:, tf.newaxis, :size], count
            )

        sizes = [size for size in PREFIXES if count <= size < slots]
        if not sizes:
            return among(columns)()
        needed = tf.cast(tf.reduce_max(words[:, 0, -1]), tf.int32) + count
        if without is not None:
            needed += tf.shape(without)[1]
        branch = tf.reduce_sum(tf.cast(needed > tf.constant(sizes), tf.int32))
        return tf.switch_case(branch, [among(size) for size in (*sizes, columns)])


def _columns(memory_slots):
    """A column a slot and at least two more, in whole blocks."""
    columns = memory_slots + 2
    # Of a size that fits, whatever the number of columns becomes by it.
    block = block_size(columns + MAX_BLOCK)
    return -(-columns // block) * block


def _unit_columns(memory):
    """The words of a memory `[batch, N, W]` at length one: `[batch, W, columns]`."""
    slots = memory.shape[1]
    units = tf.transpose(_unit(tf.stop_gradient(memory)), (0, 2, 1))
    return tf.pad(units, ((0, 0), (0, 0), (0, _columns(slots) - slots)))


def _unit(words):
    """Words `[batch, n, W]` over their lengths; equal ones stay equal."""
    squares = tf.reduce_sum(tf.square(words), axis=-1, keepdims=True)
    return words / tf.sqrt(squares + NORM_EPSILON)


def _search(words, queries, counts, count):
    """The best of the columns of `words` `[batch, W, columns]` that count."""
    similarity = tf.matmul(queries, words)
    return blockwise_top_k(tf.where(counts, similarity, similarity.dtype.min), count)
