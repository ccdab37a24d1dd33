"""The Sparse Differentiable Neural Computer as a layer."""

from typing import TYPE_CHECKING, Unpack

import keras

from keras_sam import index as indexes
from keras_sam.cells.sdnc import SDNCCell
from keras_sam.layers.sam import SAM
from keras_sam.options import Controller, InitialReadVectors, SDNCLayerOptions


@keras.saving.register_keras_serializable(package="keras_sam")
class SDNC(SAM):
    """Sparse Differentiable Neural Computer (SDNC) layer.

    A `keras_sam.SDNCCell`, whose docstring has the equations, over whole sequences, in
    the same program as `keras_sam.SAM`: memory and links stay in place, so that a step
    costs the same for a thousand words and a million.

    Args:
        units, memory_slots, word_size, ...: All arguments of `keras_sam.SDNCCell`.
        unroll: Boolean, whether to unroll the loop, which then is that of
            `keras.layers.RNN`, not compiled. Defaults to `False`.
        jit_compile: `"auto"`, `True` or `False`. With `"auto"` or `True` the sequence
            is compiled as above, which with `"auto"` depends on the index; else the
            same program runs in TensorFlow's graph, at some ten times the time, the
            memory in place too. Defaults to `"auto"`.
        **kwargs: The arguments of `keras_sam.MemoryRNN`, such as `return_sequences`.

    Call arguments and results are those of `keras_sam.MemoryRNN`.

    Raises:
        ValueError: As `keras_sam.SDNCCell`; if the index or `unroll` does not go with
            `jit_compile=True`.

    Example:

    >>> layer = keras_sam.SDNC(16, memory_slots=2**16, word_size=8, output_size=3)
    >>> layer(np.ones((2, 5, 4), "float32")).shape
    TensorShape([2, 3])
    >>> trace = layer.trace(np.ones((2, 5, 4)))
    >>> trace["read_modes"].shape  # [batch, time, heads]: backward, content, forward
    TensorShape([2, 5, 4, 3])
    """

    cell_class = SDNCCell

    if TYPE_CHECKING:  # At run time `MemoryRNN` hands what is given to the cell.

        def __init__(
            self,
            units: int,
            memory_slots: int = 65536,
            word_size: int = 32,
            read_heads: int = 4,
            write_heads: int = 1,
            reads_per_head: int = 4,
            links_per_slot: int = 8,
            *,
            index: indexes.IndexLike = "auto",
            usage_threshold: float = 0.005,
            controller: Controller = "lstm",
            initial_read_vectors: InitialReadVectors = "zeros",
            gated_erase: bool = False,
            **kwargs: Unpack[SDNCLayerOptions],
        ) -> None:
            self.cell: SDNCCell
