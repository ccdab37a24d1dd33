"""A recorded step, run again for its gradient."""

import math
from typing import Any

import tensorflow as tf

from keras_sam._compat import custom_gradient
from keras_sam.cells.sparse_memory import SparseMemory
from keras_sam.ops.sparse import is_first_occurrence


class RecordedMemory(SparseMemory):
    """The memory of a recorded step: it answers with what was noted.

    The gradients of the words go back to the memory before the step. A word that the
    step wrote before it read it takes its gradient through the writing.

    Args:
        notes: Iterable of what `choose` and `gather` returned, in order.

    Attributes:
        gathered: List of slots and words, of every `gather`.
        slots: Integer tensor `[batch, writes]`, where the step wrote.
        rows: Tensor `[batch, writes, W]`, what the step wrote.
    """

    def __init__(self, notes):
        self._notes = iter(notes)
        self.gathered = []
        self.slots: Any = None
        self.rows: Any = None

    def choose(self, function):
        return next(self._notes)

    def gather(self, slots):
        words = next(self._notes)
        self.gathered.append((slots, words))
        return words if self.rows is None else self._with_written(slots, words)

    def _with_written(self, slots, words):
        """The words, as functions of the rows written where this step wrote them."""
        shape = tf.shape(words)
        flat = tf.reshape(slots, (-1, math.prod(slots.shape[1:])))
        written = flat[:, :, tf.newaxis] == self.slots[:, tf.newaxis]
        # Of a slot written under two names only the first counts.
        written &= is_first_occurrence(self.slots)[:, tf.newaxis]
        kept = ~tf.reduce_any(written, axis=-1)[..., tf.newaxis]

        def gradient(upstream):
            upstream = tf.reshape(upstream, (-1, flat.shape[1], words.shape[-1]))
            of_words = tf.where(kept, upstream, 0.0)
            mask = tf.cast(written, upstream.dtype)
            of_rows = tf.matmul(mask, upstream, transpose_a=True)
            return [tf.reshape(of_words, shape), of_rows]

        # They were noted after the step had written: what they are is known.
        (words,) = custom_gradient(
            lambda words, _: [words], gradient, [words, self.rows]
        )
        return words

    def write(self, slots, rows, old_rows, weights, erased):
        self.slots, self.rows = slots, rows

    def mark_accessed(self, slots, accessed):
        """Nothing: what follows is recorded as well."""

    def _asked_outside(self, *_, **__):
        raise ValueError(
            "A step asks a memory for slots within `memory.choose` alone: a recorded "
            "step has no other record of what it chose."
        )

    least_recently_accessed = search = follow_links = _asked_outside
