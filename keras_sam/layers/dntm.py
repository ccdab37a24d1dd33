"""The Dynamic Neural Turing Machine as a layer."""

from typing import TYPE_CHECKING, Literal, Unpack

import keras

from keras_sam.cells.dntm import DNTMCell
from keras_sam.layers.base import MemoryRNN
from keras_sam.options import Controller, InitialReadVectors, SparseLayerOptions


@keras.saving.register_keras_serializable(package="keras_sam")
class DNTM(MemoryRNN):
    """Dynamic Neural Turing Machine (D-NTM) layer.

    `keras.layers.RNN` around a `keras_sam.DNTMCell`, whose docstring has the equations.

    Args:
        units, memory_slots, word_size, ...: All arguments of `keras_sam.DNTMCell`.
        **kwargs: The arguments of `keras_sam.MemoryRNN`, such as `return_sequences`.

    Call arguments and results are those of `keras_sam.MemoryRNN`.

    Example:

    >>> controller = keras.layers.GRUCell(100)
    >>> layer = keras_sam.DNTM(100, reads_per_step=3, controller=controller)
    >>> layer(np.zeros((2, 5, 9), "float32")).shape
    TensorShape([2, 100])
    >>> trace = layer.trace(np.zeros((2, 5, 9)))
    >>> trace["write_weights"].shape  # [batch, time, heads, slots]
    TensorShape([2, 5, 1, 128])
    """

    cell_class = DNTMCell

    if TYPE_CHECKING:  # At run time `MemoryRNN` hands what is given to the cell.

        def __init__(
            self,
            units: int,
            memory_slots: int = 128,
            word_size: int = 40,
            address_size: int = 20,
            read_heads: int = 1,
            write_heads: int = 1,
            reads_per_step: int = 1,
            addressing: Literal["soft", "discrete"] = "soft",
            controller: Controller = "lstm",
            initial_read_vectors: InitialReadVectors = "zeros",
            **kwargs: Unpack[SparseLayerOptions],
        ) -> None:
            self.cell: DNTMCell
