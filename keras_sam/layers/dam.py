"""Dense Access Memory as a layer."""

from typing import TYPE_CHECKING, Unpack

import keras

from keras_sam.cells.dam import DAMCell
from keras_sam.layers.base import MemoryRNN
from keras_sam.options import Controller, InitialReadVectors, LayerOptions


@keras.saving.register_keras_serializable(package="keras_sam")
class DAM(MemoryRNN):
    """Dense Access Memory (DAM) layer.

    `keras.layers.RNN` around a `keras_sam.DAMCell`, whose docstring has the equations.

    Args:
        units, memory_slots, word_size, ...: All arguments of `keras_sam.DAMCell`.
        **kwargs: The arguments of `keras_sam.MemoryRNN`, such as `return_sequences`.

    Call arguments and results are those of `keras_sam.MemoryRNN`.

    Example:

    >>> layer = keras_sam.DAM(100, memory_slots=64, output_size=8)
    >>> layer(np.zeros((2, 5, 9), "float32")).shape
    TensorShape([2, 8])
    >>> trace = layer.trace(np.zeros((2, 5, 9)))
    >>> trace["least_used_slots"].shape  # [batch, time, write heads]
    TensorShape([2, 5, 1])
    """

    cell_class = DAMCell

    if TYPE_CHECKING:  # At run time `MemoryRNN` hands what is given to the cell.

        def __init__(
            self,
            units: int,
            memory_slots: int = 128,
            word_size: int = 32,
            read_heads: int = 4,
            write_heads: int = 1,
            discount: float = 0.99,
            controller: Controller = "lstm",
            initial_read_vectors: InitialReadVectors = "zeros",
            gated_erase: bool = False,
            **kwargs: Unpack[LayerOptions],
        ) -> None:
            self.cell: DAMCell
