"""The number of each step, as features."""

import math
from typing import Any

import keras
from keras import ops

from keras_sam.arguments import check_positive_integer
from keras_sam.options import Shape


@keras.saving.register_keras_serializable(package="keras_sam")
class SinePositions(keras.layers.Layer):
    """Appends to the features of each step sines and cosines of the step's number.

    A controller without a recurrence, `controller="dense"`, does not know how far a
    sequence is. With these features it does: for step t = 0, 1, ... and k = 0, ...,
    `waves - 1`

        sin(2 pi t / (4 * 2^k)),  cos(2 pi t / (4 * 2^k))

    as the position encoding of the Transformer, appended instead of added.

    Args:
        waves: Integer, how many pairs. The longest wave has 2^(waves + 1) steps.
            Defaults to `7`: 256 steps.
        **kwargs: As of `keras.layers.Layer`.

    Call arguments:
        sequences: Tensor `[batch, time, features]`. A mask of it passes unchanged.

    Returns:
        Tensor `[batch, time, features + 2 waves]`.

    Raises:
        ValueError: If `waves` is not a positive integer.

    Reference: Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762), section 3.5.

    Example:

    >>> outputs = keras_sam.SinePositions(waves=2)(np.zeros((1, 3, 1), "float32"))
    >>> outputs[0, 1].numpy().round(1) + 0.0  # 0, a wave of 4 steps, one of 8
    array([0. , 1. , 0.7, 0. , 0.7], dtype=float32)
    """

    def __init__(self, waves: int = 7, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.waves = check_positive_integer("waves", waves)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True

    def call(self, sequences: Any) -> Any:
        steps = ops.cumsum(ops.ones_like(sequences[..., :1]), axis=1) - 1.0
        lengths = [4.0 * 2.0**k for k in range(self.waves)]
        angles = 2.0 * math.pi * steps / ops.convert_to_tensor(lengths, steps.dtype)
        return ops.concatenate([sequences, ops.sin(angles), ops.cos(angles)], axis=-1)

    def compute_output_shape(self, sequences_shape: Shape) -> Shape:
        *leading, features = sequences_shape
        return (*leading, features + 2 * self.waves)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "waves": self.waves}
