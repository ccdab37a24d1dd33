"""A controller that passes on what it sees."""

from typing import Any

import keras
from keras import ops

from keras_sam._compat import DropoutRNNCell
from keras_sam.cells import controller


@keras.saving.register_keras_serializable(package="keras_sam")
class SkipCell(keras.layers.Layer, DropoutRNNCell):
    """RNN cell with a skip connection: another cell's output, and after it the inputs.

        output = [cell(inputs); inputs]

    As the controller of a memory the inputs are those of the memory's cell, followed by
    the R W numbers of the read vectors of the step before. With a skip connection the
    memory can write what it is shown, and look for what it has read, by one matrix. An
    LSTM alone has to carry these through its gates first.

    Args:
        cell: A Keras RNN cell, such as `keras.layers.LSTMCell(128)`.

    Call arguments:
        inputs: Tensor `[batch, features]`, one time step.
        states: The states of `cell`.

    Returns:
        The output `[batch, cell.output_size + features]` and the new states of `cell`.

    Raises:
        ValueError: If `cell` is no RNN cell.

    Example:

    >>> controller = keras_sam.SkipCell(keras.layers.LSTMCell(16))
    >>> layer = keras_sam.SAM(16, memory_slots=64, word_size=8, controller=controller)
    >>> layer(np.ones((2, 5, 3), "float32")).shape
    TensorShape([2, 16])
    >>> controller.output_size  # 16, 3 inputs and 4 read vectors of 8 numbers
    51
    """

    def __init__(self, cell: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell = controller.check_cell("cell", cell)
        self.state_size = cell.state_size

    @property
    def cells(self) -> list[Any]:
        """The wrapped cell, in a list as a stack of cells has them."""
        return [self.cell]

    # keras.layers.RNN says to a `DropoutRNNCell` alone when its masks have to go. The
    # wrapped cell makes its own at its first step.

    def get_dropout_mask(self, step_input: Any) -> None:
        return None

    def get_recurrent_dropout_mask(self, step_input: Any) -> None:
        return None

    def reset_dropout_mask(self) -> None:
        for each in controller.mask_makers(self.cell):
            each.reset_dropout_mask()

    def reset_recurrent_dropout_mask(self) -> None:
        for each in controller.mask_makers(self.cell):
            each.reset_recurrent_dropout_mask()

    def build(self, input_shape: Any) -> None:
        if not self.cell.built:
            self.cell.build(input_shape)
        self.output_size = controller.output_size(self.cell) + input_shape[-1]

    def call(self, inputs: Any, states: Any) -> Any:
        outputs, states = self.cell(inputs, states)
        seen = ops.cast(inputs, outputs.dtype)
        return ops.concatenate([outputs, seen], axis=-1), states

    def get_initial_state(self, batch_size: Any = None) -> Any:
        """The states of `cell` before the first step."""
        return controller.initial_state(self.cell, batch_size, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cell": controller.serialize(self.cell)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SkipCell":
        cell = keras.saving.deserialize_keras_object(config["cell"])
        return cls(**{**config, "cell": cell})
