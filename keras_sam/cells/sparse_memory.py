"""What a step of a sparse cell asks of a memory, wherever the memory is.

A sparse cell writes its step once, in `sparse_step`, over a `SparseMemory`:

- `TensorMemory`, below: tensors with gradients, the cell in `keras.layers.RNN`;
- `keras_sam.recurrence.buffers.BufferMemory`: buffers that a loop changes in place;
- `keras_sam.recurrence.replay.RecordedMemory`: a recorded step, for its gradient;
- `keras_sam.export.overlay.OverlayMemory`: a frozen memory and a request's own changes.

A memory is mutable while a step is traced: `write` and `mark_accessed` change it.
"""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_sam import ops
from keras_sam.ops import recency
from keras_sam.ops.sparse import row_numbers


class MemoryTensors(NamedTuple):
    """The tensors that a memory is made of."""

    words: tf.Tensor  # [batch, N, W], or the same as rows, [batch * N, W]
    last_access: list[tf.Tensor]  # the tree of keras_sam.ops.recency
    time: tf.Tensor  # [batch, 1]: of the next step
    index: tf.Tensor  # [batch, size]: the index's own
    links: ops.SparseLinks | tuple[()]  # () where there are none


class SparseMemory(abc.ABC):
    """A memory of N words, of which a step touches a few; nothing here costs O(N).

    What a step chooses, `choose` computes, and what a step reads with a gradient,
    `gather` returns. A recorded step is these results, in order.
    """

    @abc.abstractmethod
    def choose(self, function: Callable[[], Any]) -> Any:
        """What `function` returns, slots and the like: constant to gradients.

        Args:
            function: Function without arguments that may ask the memory anything and
                returns a structure of tensors `[batch, ...]`.
        """

    @abc.abstractmethod
    def least_recently_accessed(self, count: int) -> tf.Tensor:
        """The slots accessed the longest ago, the oldest first: `[batch, count]`."""

    @abc.abstractmethod
    def gather(self, slots: tf.Tensor) -> tf.Tensor:
        """The words of slots `[batch, ...]`: `[batch, ..., W]`."""

    @abc.abstractmethod
    def write(
        self,
        slots: tf.Tensor,
        rows: tf.Tensor,
        old_rows: tf.Tensor,
        weights: tf.Tensor,
        erased: tf.Tensor,
    ) -> None:
        """Puts new words into a few slots, once a step.

        Args:
            slots: Integer tensor `[batch, writes]`, duplicates allowed.
            rows: Tensor `[batch, writes, W]`, the same for duplicates.
            old_rows: Tensor `[batch, writes, W]`, what `gather` returned for them.
            weights: Tensor `[batch, writes]`, the write weights, which links record.
            erased: Integer tensor `[batch, erased]`, those of the slots whose old word
                is gone.
        """

    @abc.abstractmethod
    def search(self, queries: tf.Tensor, count: int) -> tf.Tensor:
        """The slots whose words are most like queries: `[batch, heads, count]`."""

    @abc.abstractmethod
    def follow_links(self, slots: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], ...]:
        """What was written after and before slots, see `keras_sam.ops.follow_links`."""

    @abc.abstractmethod
    def mark_accessed(self, slots: tf.Tensor, accessed: tf.Tensor) -> None:
        """Records which slots this step has accessed, and ends the step.

        Args:
            slots: Integer tensor `[batch, accesses]`, duplicates allowed.
            accessed: Boolean tensor of the same shape, the same for duplicates.
        """

    def read(self, slots: tf.Tensor, weights: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """Read vectors `[batch, heads, W]`.

        Args:
            slots: Integer tensor `[batch, heads, K]`.
            weights: Tensor `[batch, heads, K]`.
            words: Tensor `[batch, heads, K, W]`, what `gather` returned for the slots.
        """
        return tf.reduce_sum(weights[..., tf.newaxis] * words, axis=2)


class TensorMemory(SparseMemory):
    """A memory as tensors: a function of the state, with gradients.

    Args:
        cell: A sparse cell, which has the sizes and the index.
        tensors: `MemoryTensors`.
    """

    # The sequences in which this step counts, [batch]; None for all.
    active: tf.Tensor | None = None
    # How a few entries of index, links and last accesses are set.
    update = staticmethod(tf.tensor_scatter_nd_update)

    def __init__(self, cell: Any, tensors: MemoryTensors) -> None:
        self._index = cell.index
        self._slots, self._word_size = cell.memory_slots, cell.word_size
        self.tensors = tensors

    @classmethod
    def tensors_of(cls, cell: Any, state: Any, steps: int = 1) -> MemoryTensors:
        """A cell's state as `MemoryTensors`, with times that last for more steps."""
        last_access = tf.split(
            tf.stop_gradient(state.last_access),
            recency.level_sizes(cell.memory_slots),
            axis=-1,
        )
        time, last_access = recency.rebase(
            tf.stop_gradient(state.time), last_access, steps
        )
        links = [tf.stop_gradient(getattr(state, name)) for name in cell.link_fields]
        return MemoryTensors(
            words=state.memory,
            last_access=last_access,
            time=time,
            index=tf.stop_gradient(state.index),
            links=ops.SparseLinks(*links) if links else (),
        )

    @staticmethod
    def fields_of(tensors: MemoryTensors) -> dict[str, tf.Tensor]:
        """`MemoryTensors` as fields of the cell's state, by name."""
        return {
            "memory": tensors.words,
            "last_access": tf.concat(tensors.last_access, axis=-1),
            "time": tensors.time,
            "index": tensors.index,
            **(tensors.links._asdict() if tensors.links else {}),
        }

    def choose(self, function: Callable[[], Any]) -> Any:
        return tf.nest.map_structure(tf.stop_gradient, function())

    def least_recently_accessed(self, count: int) -> tf.Tensor:
        return recency.least_recently_accessed(self.tensors.last_access, count)

    def gather(self, slots: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._rows(), row_numbers(slots, self._slots))

    def write(
        self,
        slots: tf.Tensor,
        rows: tf.Tensor,
        old_rows: tf.Tensor,
        weights: tf.Tensor,
        erased: tf.Tensor,
    ) -> None:
        self._set(words=ops.sparse_write(self.tensors.words, slots, rows))
        self._record_write(slots, tf.stop_gradient(rows), weights, erased)

    def search(self, queries: tf.Tensor, count: int) -> tf.Tensor:
        words = tf.reshape(self.tensors.words, (-1, self._slots, self._word_size))
        return self._index.search(self.tensors.index, words, queries, count)

    def follow_links(self, slots: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], ...]:
        return ops.follow_links(self.tensors.links, slots)

    def read(self, slots: tf.Tensor, weights: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        batch, heads = tf.shape(slots)[0], slots.shape[1]
        sequence, head, _ = tf.meshgrid(
            tf.range(batch), tf.range(heads), tf.range(slots.shape[2]), indexing="ij"
        )
        indices = tf.reshape(tf.stack([sequence, head, slots], axis=-1), (-1, 3))
        weighting = tf.SparseTensor(
            tf.cast(indices, tf.int64),
            tf.reshape(weights, [-1]),
            tf.cast(tf.stack([batch, heads, self._slots]), tf.int64),
        )
        return ops.sparse_read(self._rows(), weighting)

    def mark_accessed(self, slots: tf.Tensor, accessed: tf.Tensor) -> None:
        tensors, time = self.tensors, self.tensors.time + 1.0
        if self.active is not None:
            accessed &= self.active[:, tf.newaxis]
            time = tf.where(self.active[:, tf.newaxis], time, tensors.time)
        last_access = recency.mark_accessed(
            tensors.last_access, slots, accessed, tensors.time[:, 0], self.update
        )
        self._set(last_access=last_access, time=time)

    def _record_write(self, slots, rows, weights, erased):
        """Tells the index and the links what was written."""
        tensors, options = self.tensors, (self.active, self.update)
        self._set(index=self._index.insert(tensors.index, slots, rows, *options))
        if tensors.links:
            self._set(
                links=ops.update_sparse_links(
                    tensors.links, slots, weights, erased, *options
                )
            )

    def _rows(self):
        """All words below one another: the gradient of a few of them stays sparse."""
        return tf.reshape(self.tensors.words, (-1, self._word_size))

    def _set(self, **tensors):
        self.tensors = self.tensors._replace(**tensors)
