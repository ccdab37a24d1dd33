"""Exact search, over the words written so far."""

import keras
import tensorflow as tf

from keras_sam._compat import in_xla
from keras_sam.index.base import Index
from keras_sam.litert import has_builtin_ops
from keras_sam.ops.content import NORM_EPSILON
from keras_sam.ops.selection import MAX_BLOCK, block_size, blockwise_top_k
from keras_sam.ops.sparse import batch_indices
from keras_sam.options import Update

# Up to so many words a search computes all similarities; above, the state keeps the
# words at length one.
MAX_UNKEPT = 1024
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

    Above 1,024 slots the state holds the words at length one, column by column,
    `[W, columns]`: as many numbers again as the memory has. All similarities are then
    one matrix product. Up to 1,024 slots a search compares the words themselves, and
    the state is the number of slots written to.

    Example:

    >>> index = keras_sam.index.Exact()
    >>> memory = tf.constant([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
    >>> state = index.reset(memory, given_rows=3)
    >>> index.search(state, memory, tf.constant([[[0.0, 1.0]]]), count=2).numpy()
    array([[[1, 2]]], dtype=int32)
    """

    is_exact = True
    shares_memory = True
    supports_jit = True

    def state_size(self, memory_slots: int, word_size: int) -> int:
        return word_size * _columns(memory_slots) if memory_slots > MAX_UNKEPT else 1

    def reset(self, memory: tf.Tensor, given_rows: int) -> tf.Tensor:
        if memory.shape[1] <= MAX_UNKEPT:
            return tf.fill((tf.shape(memory)[0], 1), tf.cast(given_rows, memory.dtype))
        slots, word_size = memory.shape[1:]
        columns = _columns(slots)
        units = tf.transpose(_unit(tf.stop_gradient(memory)), (0, 2, 1))
        units = tf.pad(units, ((0, 0), (0, 0), (0, columns - slots)))
        # The last number of the first row is how many slots have to be looked at.
        used = tf.one_hot(columns - 1, word_size * columns, dtype=memory.dtype)
        units = tf.reshape(units, (-1, word_size * columns))
        return units + tf.cast(given_rows, memory.dtype) * used

    def insert(
        self,
        state: tf.Tensor,
        slots: tf.Tensor,
        rows: tf.Tensor,
        active: tf.Tensor | None = None,
        update: Update = tf.tensor_scatter_nd_update,
    ) -> tf.Tensor:
        needed = tf.reduce_max(slots, axis=-1, keepdims=True) + 1
        if active is not None:
            needed = tf.where(active[:, tf.newaxis], needed, 0)
        needed = tf.cast(needed, state.dtype)
        if state.shape[1] == 1:
            return tf.maximum(state, needed)
        word_size = rows.shape[2]
        columns = state.shape[1] // word_size
        used = tf.maximum(state[:, columns - 1 : columns], needed)
        if active is not None:
            # The last but one column is nobody's.
            slots = tf.where(active[:, tf.newaxis], slots, columns - 2)
        places = slots[:, :, tf.newaxis] + columns * tf.range(word_size)
        flat = (-1, slots.shape[1] * word_size)
        places = tf.reshape(places, flat)
        places = tf.concat([places, tf.fill(tf.shape(used), columns - 1)], axis=1)
        values = tf.concat([tf.reshape(_unit(rows), flat), used], axis=1)
        return update(state, batch_indices(places), values)

    def search(
        self, state: tf.Tensor, memory: tf.Tensor, queries: tf.Tensor, count: int
    ) -> tf.Tensor:
        return self.search_without(state, memory, queries, count, None)

    def search_without(
        self,
        state: tf.Tensor,
        memory: tf.Tensor,
        queries: tf.Tensor,
        count: int,
        without: tf.Tensor | None,
    ) -> tf.Tensor:
        slots, word_size = memory.shape[1:]
        columns, queries = _columns(slots), tf.stop_gradient(queries)
        counts = tf.tile(
            tf.range(columns)[tf.newaxis] < slots, (tf.shape(queries)[0], 1)
        )
        needed = count
        if without is not None:
            # -1 names no slot; the last column does not count anyway.
            without = tf.where(without < 0, columns - 1, without)
            counts = tf.tensor_scatter_nd_update(
                counts, batch_indices(without), tf.zeros_like(without, tf.bool)
            )
            needed += tf.shape(without)[1]

        def best(similarity):
            counted = counts[:, tf.newaxis, : similarity.shape[2]]
            return blockwise_top_k(
                tf.where(counted, similarity, similarity.dtype.min), count
            )

        # LiteRT has no switch, and its square roots would tell equal words apart.
        if slots <= MAX_UNKEPT or has_builtin_ops():
            similarity = _similarity(queries, tf.stop_gradient(memory))
            return best(tf.pad(similarity, ((0, 0), (0, 0), (0, columns - slots))))
        words = tf.reshape(state, (-1, word_size, columns))

        def best_of_prefix(size):
            return lambda: best(_products(queries, words[:, :, :size]))

        sizes = [size for size in PREFIXES if count <= size < slots]
        if not sizes:
            return best_of_prefix(columns)()
        needed += tf.cast(tf.reduce_max(words[:, 0, -1]), tf.int32)
        branch = tf.reduce_sum(tf.cast(needed > tf.constant(sizes), tf.int32))
        return tf.switch_case(branch, [*map(best_of_prefix, (*sizes, columns))])


def _columns(memory_slots):
    """A column a slot and at least two more, in whole blocks."""
    columns = memory_slots + 2
    # Of a size that fits, whatever the number of columns becomes by it.
    block = block_size(columns + MAX_BLOCK)
    return -(-columns // block) * block


def _unit(words):
    """Words `[batch, n, W]` over their lengths; equal ones stay equal."""
    squares = tf.reduce_sum(tf.square(words), axis=-1)
    # With `keepdims` LiteRT would see an L2 norm in it and leave out the epsilon.
    return words / tf.sqrt(squares + NORM_EPSILON)[..., tf.newaxis]


def _products(queries, words):
    """Products `[batch, heads, n]`, with words `[batch, W, n]`.

    Words of a batch of one are those of all sequences, whose heads are then the heads
    of one: they are not copied.
    """
    if words.shape[0] != 1:
        return tf.matmul(queries, words)
    flat = tf.reshape(queries, (-1, queries.shape[2]))
    products = tf.matmul(flat, tf.reshape(words, words.shape[1:]))
    return tf.reshape(products, (-1, queries.shape[1], words.shape[2]))


def _similarity(queries, words):
    """Cosine similarity, but for the queries' length, `[batch, heads, N]`.

    Words that a step has written are often the same vector times different weights.
    Sums round these alike in every execution, which a matrix product does not.
    """
    # TensorFlow sums up the numbers of each row alike. XLA is fastest at adding up many
    # rows at once, which it does alike as well.
    if in_xla():
        words = tf.transpose(words, (0, 2, 1))
        squares = tf.reduce_sum(tf.square(words), axis=1)
        products = tf.reduce_sum(
            queries[..., tf.newaxis] * words[:, tf.newaxis], axis=2
        )
    else:
        squares = tf.reduce_sum(tf.square(words), axis=-1)
        products = tf.reduce_sum(
            queries[:, :, tf.newaxis] * words[:, tf.newaxis], axis=-1
        )
    return products / tf.sqrt(squares + NORM_EPSILON)[:, tf.newaxis]
