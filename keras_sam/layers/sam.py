"""Sparse Access Memory as a layer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_sam import index as indexes
from keras_sam.cells.sam import SAMCell
from keras_sam.layers.base import Keep, MemoryRNN
from keras_sam.options import (
    Controller,
    InitialReadVectors,
    SparseLayerOptions,
    TensorLike,
)


@keras.saving.register_keras_serializable(package="keras_sam")
class SAM(MemoryRNN):
    """Sparse Access Memory (SAM) layer.

    A `keras_sam.SAMCell`, whose docstring has the equations, over whole sequences, in
    a program that XLA compiles, within a model that is compiled or not: the memory
    stays in place, so that a step costs the same for a thousand words and a million
    (`keras_sam.recurrence`). It compiles once for each batch size and each of a few
    padded lengths, which takes seconds. Masked steps change nothing and cost the same.

    Args:
        units, memory_slots, word_size, ...: All arguments of `keras_sam.SAMCell`.
        unroll: Boolean, whether to unroll the loop, which then is that of
            `keras.layers.RNN`, not compiled. Defaults to `False`.
        jit_compile: `"auto"`, `True` or `False`. With `"auto"` or `True` the sequence
            is compiled as above, which with `"auto"` depends on the index; else the
            same program runs in TensorFlow's graph, at some ten times the time, the
            memory in place too. Defaults to `"auto"`.
        **kwargs: The arguments of `keras_sam.MemoryRNN`, such as `return_sequences`.

    Call arguments and results are those of `keras_sam.MemoryRNN`.

    Raises:
        ValueError: As `keras_sam.SAMCell`; if the index or `unroll` does not go with
            `jit_compile=True`.

    Example:

    >>> layer = keras_sam.SAM(16, memory_slots=2**16, word_size=8, output_size=3)
    >>> layer(np.ones((2, 5, 4), "float32")).shape
    TensorShape([2, 3])
    >>> trace = layer.trace(np.ones((2, 5, 4)))
    >>> trace["read_weights"].shape  # a tf.SparseTensor [batch, time, heads, N]
    TensorShape([2, 5, 4, 65536])
    """

    cell_class: type[SAMCell] = SAMCell

    if TYPE_CHECKING:  # At run time `MemoryRNN` hands what is given to the cell.

        def __init__(
            self,
            units: int,
            memory_slots: int = 65536,
            word_size: int = 32,
            read_heads: int = 4,
            write_heads: int = 1,
            reads_per_head: int = 4,
            index: indexes.IndexLike = "auto",
            usage_threshold: float = 0.005,
            controller: Controller = "lstm",
            initial_read_vectors: InitialReadVectors = "zeros",
            gated_erase: bool = False,
            **kwargs: Unpack[SparseLayerOptions],
        ) -> None:
            self.cell: SAMCell

    def _check_jit_compile(self):
        super()._check_jit_compile()
        if self.jit_compile is True and not self.cell.index.supports_jit:
            raise ValueError(
                "`jit_compile=True` needs an index that XLA can compile. "
                f"Received: index={self.cell.index!r}"
            )

    @property
    def compiles_itself(self) -> bool:
        can_compile = self.cell.index.supports_jit and not self.unroll
        return can_compile and self.jit_compile is not False

    @property
    def runs_itself(self) -> bool:
        return not self.unroll

    def trace(
        self,
        inputs: TensorLike,
        initial_state: Sequence[TensorLike] | None = None,
        keep: Keep | None = None,
    ) -> dict[str, Any]:
        """What the memory does with a batch of sequences, step by step.

        Runs the cell eagerly, in inference mode; meant for looking, plotting
        and testing, not for speed.

        Args:
            inputs: Tensor `[batch, time, features]`.
            initial_state: Optional list of tensors, as `get_initial_state` gives.
            keep: Optional dictionary that adds what a trace leaves out, such as
                `{"memory": lambda state: state.memory}`: from a name to a function of
                the cell's state, as `unpack_state` returns it.

        Returns:
            Dictionary, in the order in which the steps were taken: `"outputs"`
            `[batch, time, output_size]`; `"read_weights"` and `"write_weights"`,
            each a `tf.SparseTensor` `[batch, time, heads, N]`; `"read_slots"`
            `[batch, time, heads, K]`, the slots found, the most alike first;
            `"write_slots"` `[batch, time, writes]`; `"read_vectors"`; and the gates
            that the cell's docstring names.
        """
        trace = super().trace(inputs, initial_state, keep)
        batch, steps = trace["outputs"].shape[:2]
        for kind, heads in (
            ("read", self.cell.read_heads),
            ("write", self.cell.write_heads),
        ):
            slots = trace[f"{kind}_slots"] = tf.cast(trace[f"{kind}_slots"], tf.int64)
            shape = (batch, steps, heads, -1)
            trace[f"{kind}_weights"] = _sparse_weights(
                np.reshape(slots, shape),
                np.reshape(trace[f"{kind}_weights"], shape),
                self.cell.memory_slots,
            )
        return trace


def _sparse_weights(slots, weights, memory_slots):
    """The weights `[..., k]` of slots as a `tf.SparseTensor` `[..., N]`.

    Where a head has named a slot twice its weights are added.
    """
    shape = (*slots.shape[:-1], memory_slots)
    head = np.arange(slots.size) // slots.shape[-1]
    places, entries = np.unique(
        head * memory_slots + slots.ravel(), return_inverse=True
    )
    sums = np.zeros(len(places), weights.dtype)
    np.add.at(sums, entries, weights.ravel())
    return tf.SparseTensor(np.stack(np.unravel_index(places, shape), -1), sums, shape)
