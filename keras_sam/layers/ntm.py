"""The Neural Turing Machine as a layer."""

from typing import TYPE_CHECKING, Literal, Unpack

import keras

from keras_sam.cells.ntm import NTMCell
from keras_sam.layers.base import MemoryRNN
from keras_sam.options import Controller, InitialReadVectors, LayerOptions


@keras.saving.register_keras_serializable(package="keras_sam")
class NTM(MemoryRNN):
    """Neural Turing Machine layer.

    `keras.layers.RNN` around a `keras_sam.NTMCell`, whose docstring has the equations.

    Args:
        units, memory_slots, word_size, ...: All arguments of `keras_sam.NTMCell`.
        **kwargs: The arguments of `keras_sam.MemoryRNN`, such as `return_sequences`.

    Call arguments and results are those of `keras_sam.MemoryRNN`.

    Example:

    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((None, 9)),
    ...         keras_sam.NTM(100, output_size=8, return_sequences=True),
    ...         keras.layers.Activation("sigmoid"),
    ...     ]
    ... )
    >>> model.count_params()
    62536
    >>> trace = model.layers[0].trace(np.zeros((1, 5, 9)))
    >>> trace["read_weights"].shape  # [batch, time, heads, slots]
    TensorShape([1, 5, 1, 128])
    """

    cell_class = NTMCell

    if TYPE_CHECKING:  # At run time `MemoryRNN` hands what is given to the cell.

        def __init__(
            self,
            units: int,
            memory_slots: int = 128,
            word_size: int = 20,
            read_heads: int = 1,
            write_heads: int = 1,
            controller: Controller = "lstm",
            shift_range: int = 1,
            initial_addressing: Literal["learned", "first_slot"] = "learned",
            initial_read_vectors: InitialReadVectors = "learned",
            **kwargs: Unpack[LayerOptions],
        ) -> None:
            self.cell: NTMCell
