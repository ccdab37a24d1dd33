"""The Differentiable Neural Computer as a layer."""

from typing import TYPE_CHECKING, Unpack

import keras

from keras_sam.cells.dnc import DNCCell
from keras_sam.layers.base import MemoryRNN
from keras_sam.options import Controller, DNCLayerOptions, InitialReadVectors


@keras.saving.register_keras_serializable(package="keras_sam")
class DNC(MemoryRNN):
    """Differentiable Neural Computer layer.

    `keras.layers.RNN` around a `keras_sam.DNCCell`, whose docstring has the equations.

    Args:
        units, memory_slots, word_size, ...: All arguments of `keras_sam.DNCCell`.
        **kwargs: The arguments of `keras_sam.MemoryRNN`, such as `return_sequences`.

    Call arguments and results are those of `keras_sam.MemoryRNN`.

    Example:

    >>> layer = keras_sam.DNC(100, memory_slots=64, output_size=8)
    >>> layer(np.zeros((2, 5, 9), "float32")).shape
    TensorShape([2, 8])
    >>> trace = layer.trace(np.zeros((2, 5, 9)))
    >>> trace["usage"].shape  # [batch, time, slots]
    TensorShape([2, 5, 64])
    """

    cell_class = DNCCell

    if TYPE_CHECKING:  # At run time `MemoryRNN` hands what is given to the cell.

        def __init__(
            self,
            units: int,
            memory_slots: int = 128,
            word_size: int = 20,
            read_heads: int = 4,
            controller: Controller = "lstm",
            deallocate: bool = False,
            link_gradients: bool = True,
            initial_read_vectors: InitialReadVectors = "zeros",
            **kwargs: Unpack[DNCLayerOptions],
        ) -> None:
            self.cell: DNCCell
