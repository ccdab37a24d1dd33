"""Exact search, over the words written so far."""

import keras
import tensorflow as tf

from keras_sam._compat import in_xla
from keras_sam.index.base import Index
from keras_sam.ops.content import NORM_EPSILON
from keras_sam.ops.selection import top_k

# Rows compared at a time: a memory-sized table of similarities is never made.
ROWS_PER_BLOCK = 1024


@keras.saving.register_keras_serializable(package="keras_sam")
class Exact(Index):
    """Compares a query with every word written so far.

    Words never written are all alike and lie behind the written ones, for slots are
    first used in ascending order. So the K best among the words written so far and
    the K slots after them are the K best of all, ties included, which go to the
    lowest slot as in `tf.math.top_k`. The cost grows with what was written, not with
    N. The state is the number of slots that it has to look at.

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
        return 1

    def reset(self, memory, given_rows):
        return tf.fill((tf.shape(memory)[0], 1), tf.cast(given_rows, memory.dtype))

    def insert(
        self, state, slots, rows, active=None, update=tf.tensor_scatter_nd_update
    ):
        needed = tf.reduce_max(slots, axis=-1, keepdims=True) + 1
        if active is not None:
            needed = tf.where(active[:, tf.newaxis], needed, 0)
        return tf.maximum(state, tf.cast(needed, state.dtype))

    def search(self, state, memory, queries, count):
        return self.search_without(state, memory, queries, count, None)

    def search_without(self, state, memory, queries, count, without):
        memory, queries = tf.stop_gradient(memory), tf.stop_gradient(queries)
        slots = memory.shape[1]
        chunk = min(ROWS_PER_BLOCK, slots)
        batch, heads = tf.shape(queries)[0], queries.shape[1]
        needed = tf.cast(tf.reduce_max(state), tf.int32) + count
        if without is not None:
            needed += tf.shape(without)[1]
        needed = tf.minimum(slots, needed)

        def compare(start, scores, found):
            # The last chunk begins early enough to be whole: what the one before
            # has seen does not count again.
            begin = tf.minimum(start, slots - chunk)
            # Sizes spelled out: for a size of -1 XLA pads the whole memory.
            rows = tf.slice(memory, [0, begin, 0], [batch, chunk, memory.shape[2]])
            rows = tf.ensure_shape(rows, (None, chunk, memory.shape[2]))
            similarity = _similarity(queries, rows)
            numbers = begin + tf.range(chunk)
            counts = numbers >= start
            if without is not None:
                named = numbers[:, tf.newaxis] == without[:, tf.newaxis]
                counts &= ~tf.reduce_any(named, axis=-1)[:, tf.newaxis]
            similarity = tf.where(counts, similarity, similarity.dtype.min)
            # What was found before stands first and so wins the ties.
            scores = tf.concat([scores, similarity], axis=-1)
            numbers = tf.broadcast_to(numbers, (batch, heads, chunk))
            found = tf.concat([found, numbers], axis=-1)
            scores, best = top_k(scores, count)
            return start + chunk, scores, tf.gather(found, best, batch_dims=2)

        shape = (batch, heads, count)
        _, _, found = tf.while_loop(
            lambda start, *_: start < needed,
            compare,
            (0, tf.fill(shape, memory.dtype.min), tf.zeros(shape, tf.int32)),
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None, heads, count]),
                tf.TensorShape([None, heads, count]),
            ),
        )
        return found


def _similarity(queries, rows):
    """Cosine similarity, but for the queries' length, `[batch, heads, rows]`.

    Neither by a matrix product nor with an inverse root, which may round the same
    words differently in different rows: equal words have to tie.
    """
    # TensorFlow sums up the numbers of each row alike, XLA is fastest at adding up
    # many rows at once, which it does alike as well.
    if in_xla():
        rows = tf.transpose(rows, (0, 2, 1))
        squares = tf.reduce_sum(tf.square(rows), axis=1)
        products = tf.reduce_sum(queries[..., tf.newaxis] * rows[:, tf.newaxis], axis=2)
    else:
        squares = tf.reduce_sum(tf.square(rows), axis=-1)
        products = tf.reduce_sum(
            queries[:, :, tf.newaxis] * rows[:, tf.newaxis], axis=-1
        )
    return products / tf.sqrt(squares + NORM_EPSILON)[:, tf.newaxis]
