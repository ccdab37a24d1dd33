"""The stacked LSTM that the Neural Turing Machine paper compares itself with."""

from typing import Any

import keras
from keras import ops

from keras_sam.arguments import check_positive_integer
from keras_sam.options import BatchSize


@keras.saving.register_keras_serializable(package="keras_sam")
class LearnedStateLSTM(keras.layers.LSTM):
    """A `keras.layers.LSTM` whose initial state is learned.

    Two weights of shape `[units]`, `initial_h` and `initial_c`, start at zero
    and are the state of every sequence before its first step, unless a call
    gives an `initial_state`.

    Args:
        units: Integer, the size of the output and of the state.
        **kwargs: The other arguments of `keras.layers.LSTM`. `stateful=True`
            is refused: a stateful layer goes on from its last state, so it
            would never read the learned one again.

    Call arguments and results are those of `keras.layers.LSTM`: inputs
    `[batch, time, features]`, outputs `[batch, units]` or, with
    `return_sequences=True`, `[batch, time, units]`.

    Raises:
        ValueError: If `stateful=True`.

    Reference: Graves et al. 2014 (https://arxiv.org/abs/1410.5401), which learns
    the initial state of every network it trains.

    Example:

    >>> layer = keras_sam.tasks.baseline.LearnedStateLSTM(4)
    >>> layer(np.zeros((2, 5, 3))).shape
    TensorShape([2, 4])
    >>> layer.initial_h.numpy()
    array([0., 0., 0., 0.], dtype=float32)
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        if kwargs.get("stateful"):
            raise ValueError(
                "LearnedStateLSTM starts every sequence from its learned state, so "
                "`stateful` must be False. Use `return_state=True` and the call "
                "argument `initial_state` to carry a state from one call to the "
                f"next. Received: stateful={kwargs['stateful']!r}"
            )
        super().__init__(units, **kwargs)

    def build(self, sequences_shape, initial_state_shape=None):
        super().build(sequences_shape, initial_state_shape)
        self.initial_h = self.add_weight(
            shape=(self.units,), initializer="zeros", name="initial_h"
        )
        self.initial_c = self.add_weight(
            shape=(self.units,), initializer="zeros", name="initial_c"
        )

    def get_initial_state(self, batch_size: BatchSize) -> list[Any]:
        shape = (batch_size, self.units)
        return [
            ops.broadcast_to(self.initial_h, shape),
            ops.broadcast_to(self.initial_c, shape),
        ]


def lstm_baseline(
    input_size: int, output_size: int, units: int = 256, layers: int = 3
) -> keras.Sequential:
    """The LSTM baseline of the Neural Turing Machine paper.

    Stacked LSTM layers with learned initial states. Each layer sees the input
    and the output of the layer below; a dense sigmoid output sees all layers.
    The parameter counts of the paper's table 3 follow from this shape: 10
    inputs and 9 outputs give its 1,352,969 for the copy task (so the paper's
    copy task has one more channel than `keras_sam.tasks.copy_task`).

    | task               | input_size | output_size | units | parameters |
    |--------------------|-----------:|------------:|------:|-----------:|
    | copy               |         10 |           9 |   256 |  1,352,969 |
    | repeat copy        |          8 |           7 |   512 |  5,312,007 |
    | associative recall |          8 |           6 |   256 |  1,344,518 |
    | dynamic n-grams    |          1 |           1 |   128 |    331,905 |

    The table's 384,424 for priority sort (3 layers of 128) is not reached by
    any number of inputs and outputs.

    Args:
        input_size: Integer, features of the input at each step.
        output_size: Integer, features of the output at each step.
        units: Integer, the size of each LSTM layer. Defaults to `256`.
        layers: Integer, the number of LSTM layers. Defaults to `3`.

    Returns:
        A `keras.Model` from `[batch, time, input_size]` to
        `[batch, time, output_size]`, outputs between 0 and 1, for any batch
        size and number of steps.

    Raises:
        ValueError: If an argument is not a positive integer.

    Reference: Graves et al. 2014, section 4 and table 3
    (https://arxiv.org/abs/1410.5401).

    Example:

    >>> model = keras_sam.tasks.lstm_baseline(input_size=10, output_size=9)
    >>> model.count_params()
    1352969
    >>> model(np.zeros((2, 5, 10))).shape
    TensorShape([2, 5, 9])
    """
    input_size = check_positive_integer("input_size", input_size)
    output_size = check_positive_integer("output_size", output_size)
    units = check_positive_integer("units", units)
    layers = check_positive_integer("layers", layers)
    inputs = keras.Input((None, input_size), name="inputs")
    hidden = []
    for layer in range(1, layers + 1):
        below = keras.layers.Concatenate()([inputs, hidden[-1]]) if hidden else inputs
        lstm = LearnedStateLSTM(units, return_sequences=True, name=f"lstm_{layer}")
        hidden.append(lstm(below))
    features = keras.layers.Concatenate()(hidden) if layers > 1 else hidden[0]
    outputs = keras.layers.Dense(output_size, activation="sigmoid", name="outputs")(
        features
    )
    return keras.Model(inputs, outputs, name="lstm_baseline")
