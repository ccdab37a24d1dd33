"""The Stack RNN as a layer."""

from typing import TYPE_CHECKING, Unpack

import keras

from keras_sam.cells.stack_rnn import StackRNNCell
from keras_sam.layers.base import MemoryRNN
from keras_sam.options import Controller, SparseLayerOptions


@keras.saving.register_keras_serializable(package="keras_sam")
class StackRNN(MemoryRNN):
    """Stack RNN layer.

    `keras.layers.RNN` around a `keras_sam.StackRNNCell`, whose docstring has the
    equations.

    Args:
        units, memory_slots, stacks, ...: All arguments of `keras_sam.StackRNNCell`.
        **kwargs: The arguments of `keras_sam.MemoryRNN`, such as `return_sequences`.

    Call arguments and results are those of `keras_sam.MemoryRNN`.

    Example:

    >>> layer = keras_sam.StackRNN(40, stacks=3, output_size=8)
    >>> layer(np.zeros((2, 5, 9), "float32")).shape
    TensorShape([2, 8])
    >>> trace = layer.trace(np.zeros((2, 5, 9)))
    >>> trace["actions"].shape  # [batch, time, stacks, push, pop and no-op]
    TensorShape([2, 5, 3, 3])
    """

    cell_class = StackRNNCell

    if TYPE_CHECKING:  # At run time `MemoryRNN` hands what is given to the cell.

        def __init__(
            self,
            units: int,
            memory_slots: int = 128,
            stacks: int = 10,
            read_depth: int = 2,
            no_op: bool = True,
            round_actions: bool = False,
            controller: Controller = "dense",
            **kwargs: Unpack[SparseLayerOptions],
        ) -> None:
            self.cell: StackRNNCell
