"""A dense memory that is written to where it was used the least."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_sam import ops
from keras_sam.cells.base import MemoryCell
from keras_sam.options import BatchSize

# What a usage is taken to be off by, relative to 1 or to itself, in units of the
# floats' own precision: 2^-16 in float32.
USAGE_ROUNDING = 2.0**7


class UsageState(NamedTuple):
    """State of a cell with a `UsageMemory`; R read heads."""

    memory: tf.Tensor  # [batch, N, W]
    usage: tf.Tensor  # [batch, N]
    read_weights: tf.Tensor  # [batch, R, N]
    read_vectors: tf.Tensor  # [batch, R, W]
    controller: Any  # the controller's own states


class UsageMemory(MemoryCell):
    """Base class of the cells with such a memory."""

    State = UsageState

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            "memory": (self.memory_slots, self.word_size),
            "usage": (self.memory_slots,),
            "read_weights": (self.read_heads, self.memory_slots),
            "read_vectors": (self.read_heads, self.word_size),
        }

    def initial_fields(
        self, batch_size: BatchSize, given_memory: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        given_rows = 0 if given_memory is None else given_memory.shape[1]
        # Given rows are in use, or the first writes would overwrite them.
        usage = tf.cast(tf.range(self.memory_slots) < given_rows, self.compute_dtype)
        return {
            **super().initial_fields(batch_size, given_memory),
            "usage": self._for_each(batch_size, usage),
            "read_weights": tf.zeros(
                (batch_size, self.read_heads, self.memory_slots), self.compute_dtype
            ),
        }

    def write_and_read(
        self,
        state: UsageState,
        erased: tf.Tensor,
        write_weights: tf.Tensor,
        vectors: tf.Tensor,
        queries: tf.Tensor,
        strengths: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Erases words, writes, reads by content, and counts both as usage.

        Args:
            state: `UsageState`.
            erased: Tensor `[batch, erased, N]`, what is gone of each word.
            write_weights: Tensor `[batch, writes, N]`.
            vectors: Tensor `[batch, writes, W]`.
            queries: Tensor `[batch, R, W]`.
            strengths: Tensor `[batch, R]`.

        Returns:
            The state's new fields but the controller's, as a dictionary.
        """
        # All heads erase before any adds.
        kept = 1.0 - tf.reduce_sum(erased, axis=1)
        memory = kept[..., tf.newaxis] * state.memory + tf.matmul(
            write_weights, vectors, transpose_a=True
        )
        read_weights = ops.content_weights(memory, queries, strengths)
        usage = (
            self.usage_discount * state.usage
            + tf.reduce_sum(write_weights, axis=1)
            + tf.reduce_sum(read_weights, axis=1)
        )
        return {
            "memory": memory,
            "usage": tf.stop_gradient(usage),
            "read_weights": read_weights,
            "read_vectors": ops.read(memory, read_weights),
        }

    @property
    def usage_discount(self) -> float:
        """What is left of a usage after a step, a number."""
        raise NotImplementedError


def least_used_slots(usage: tf.Tensor, count: int) -> tf.Tensor:
    """The slots of the least usage, all different; of equal ones the lowest number.

    Untouched slots are all alike and used alike, but for rounding, which differs
    between machines and between eager, graph and XLA execution: it must not decide
    who comes first.

    Args:
        usage: Tensor `[batch, N]`, at least 0.
        count: Integer, how many, at most N.

    Returns:
        Integer tensor `[batch, count]`, the least used slot first.
    """
    usage = tf.stop_gradient(usage)
    numbers = tf.range(usage.shape[-1])
    rounding = USAGE_ROUNDING * np.finfo(usage.dtype.name).eps
    slots = []
    for _ in range(count):
        least = tf.reduce_min(usage, axis=-1, keepdims=True)
        is_least = usage <= least + rounding * (1.0 + least)
        slot = tf.reduce_min(
            tf.where(is_least, numbers, usage.shape[-1]), axis=-1, keepdims=True
        )
        slots.append(slot)
        usage = tf.where(numbers == slot, usage.dtype.max, usage)
    return tf.concat(slots, axis=-1)
