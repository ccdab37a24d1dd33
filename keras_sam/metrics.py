"""The papers' measure of error: wrong bits per sequence."""

from typing import Any

import keras
from keras import ops

from keras_sam import _compat
from keras_sam.arguments import is_number
from keras_sam.options import Config, DType


@keras.saving.register_keras_serializable(package="keras_sam")
class BitErrors(keras.metrics.Mean):
    """Mean number of wrong bits in a sequence.

    A predicted bit is 1 where `y_pred > threshold`, a true bit where
    `y_true > 0.5`. The result is the sum over all steps and bits of
    `sample_weight * (predicted bit != true bit)`, divided by the number of
    sequences: 0 is perfect, and random guesses score half of the scored bits.
    A NaN prediction counts as wrong. Steps that a Keras mask on `y_pred`
    leaves out do not count.

    Pass it as `compile(weighted_metrics=[BitErrors()])`: with `metrics=` Keras
    hands it no `sample_weight` and every step counts.

    Args:
        threshold: Number, the prediction above which a bit is 1. Defaults to
            `0.5`, for probabilities; use `0` for logits.
        name: String, the name in logs. Defaults to `"bit_errors"`.
        dtype: The dtype of the running sums. Defaults to
            `keras.config.floatx()`.

    Call arguments:
        y_true: Bits of shape `[batch, time, bits]`, of any dtype.
        y_pred: Predictions of the same shape.
        sample_weight: Weights of shape `[batch, time]` (or `[batch]` or
            `[batch, time, bits]`), or `None`: every bit counts once.

    Raises:
        ValueError: If `threshold` is not a number, the shapes of `y_true` and
            `y_pred` differ or have no time axis, or `sample_weight` does not
            match their leading axes.

    Reference: Graves et al. 2014 (https://arxiv.org/abs/1410.5401) and Rae et
    al. 2016 (https://arxiv.org/abs/1610.09027) report bits per sequence.

    Example:

    >>> metric = keras_sam.metrics.BitErrors()
    >>> y_true = [[[1, 0], [1, 1]], [[0, 0], [0, 1]]]
    >>> y_pred = [[[0.1, 0.9], [0.8, 0.7]], [[0.2, 0.1], [0.6, 0.7]]]
    >>> metric.update_state(y_true, y_pred)
    >>> float(metric.result())  # 2 + 1 wrong bits in 2 sequences
    1.5
    >>> metric.reset_state()
    >>> metric.update_state(y_true, y_pred, sample_weight=[[0, 1], [0, 1]])
    >>> float(metric.result())  # only the second step counts
    0.5
    """

    def __init__(
        self, threshold: float = 0.5, name: str = "bit_errors", dtype: DType = None
    ) -> None:
        if not is_number(threshold):
            raise ValueError(
                "`threshold` must be a number: 0.5 for probabilities, 0 for "
                f"logits. Received: threshold={threshold!r}"
            )
        super().__init__(name=name, dtype=dtype)
        self.threshold = float(threshold)
        # Tells callbacks in mode "auto" (EarlyStopping) that less is better.
        self._direction = "down"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        mask = _compat.keras_mask(y_pred)
        y_true = ops.convert_to_tensor(y_true)
        y_pred = ops.convert_to_tensor(y_pred)
        _check_same_shape(y_true.shape, y_pred.shape)

        # Both comparisons are false for NaN, so a NaN is never right.
        right = ops.where(
            ops.greater(y_true, 0.5),
            ops.greater(y_pred, self.threshold),
            ops.less_equal(y_pred, self.threshold),
        )
        wrong = ops.cast(ops.logical_not(right), self.dtype)
        super().update_state(_sum_per_sequence(wrong, sample_weight, mask))

    def get_config(self) -> Config:
        return {**super().get_config(), "threshold": self.threshold}


@keras.saving.register_keras_serializable(package="keras_sam")
class SequenceAccuracy(keras.metrics.Mean):
    """Fraction of the sequences that have no mistake.

    The class that is predicted is the greatest of the last axis. A sequence is right if
    at all steps that count (where `sample_weight` is not 0) all its classes are right.
    A NaN prediction is wrong.

    Pass it as `compile(weighted_metrics=[SequenceAccuracy()])`: with `metrics=` Keras
    hands it no `sample_weight` and every step counts.

    Args:
        name: String, the name in logs. Defaults to `"sequence_accuracy"`.
        dtype: The dtype of the running sums. Defaults to `keras.config.floatx()`.

    Call arguments:
        y_true: One-hot classes of shape `[batch, time, ..., classes]`, such as
            `[batch, time, 9, 10]` for the digits of the graph tasks.
        y_pred: Predictions of the same shape.
        sample_weight: Weights of shape `[batch, time]`, or `None`: every step counts.

    Raises:
        ValueError: If the shapes of `y_true` and `y_pred` differ, or `sample_weight`
            does not match their leading axes.

    Reference: Graves et al. 2016 (https://doi.org/10.1038/nature20101) score answers
    as a whole.

    Example:

    >>> metric = keras_sam.metrics.SequenceAccuracy()
    >>> y_true = np.eye(3)[[[0, 2], [1, 1]]]  # 2 sequences of 2 steps
    >>> y_pred = np.eye(3)[[[0, 2], [1, 0]]]
    >>> metric.update_state(y_true, y_pred)
    >>> float(metric.result())
    0.5
    """

    def __init__(self, name: str = "sequence_accuracy", dtype: DType = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self._direction = "up"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        mask = _compat.keras_mask(y_pred)
        y_true = ops.convert_to_tensor(y_true)
        y_pred = ops.convert_to_tensor(y_pred)
        _check_same_shape(y_true.shape, y_pred.shape)
        right = ops.logical_and(
            ops.equal(ops.argmax(y_true, axis=-1), ops.argmax(y_pred, axis=-1)),
            ops.logical_not(ops.any(ops.isnan(y_pred), axis=-1)),
        )
        wrong = ops.cast(ops.logical_not(right), self.dtype)
        mistakes = _sum_per_sequence(wrong, sample_weight, mask)
        super().update_state(ops.equal(mistakes, 0))


def _sum_per_sequence(wrong, *weights):
    for weight in weights:
        if weight is not None:
            weight = ops.cast(ops.convert_to_tensor(weight), wrong.dtype)
            wrong = wrong * _align(weight, wrong.shape)
    return ops.sum(wrong, axis=tuple(range(1, len(wrong.shape))))


def _check_same_shape(true_shape, pred_shape):
    if (
        len(true_shape) != len(pred_shape)
        or len(true_shape) < 2
        or any(_differ(t, p) for t, p in zip(true_shape, pred_shape, strict=True))
    ):
        raise ValueError(
            "`y_true` and `y_pred` must have the same shape [batch, time, bits]. "
            "Reshape the targets or the model's output. Received: "
            f"y_true.shape={tuple(true_shape)}, y_pred.shape={tuple(pred_shape)}"
        )


def _align(weight, shape):
    """Gives `weight` trailing axes of 1 until it broadcasts to `shape`."""
    if len(weight.shape) > len(shape) or any(
        size != 1 and _differ(size, expected)
        for size, expected in zip(weight.shape, shape, strict=False)
    ):
        raise ValueError(
            "`sample_weight` (and a mask) must have the leading axes of `y_true`: "
            "[batch, time], or [batch] to weigh whole sequences. Received: "
            f"sample_weight.shape={tuple(weight.shape)}, y_true.shape={tuple(shape)}"
        )
    missing = len(shape) - len(weight.shape)
    return ops.reshape(weight, list(ops.shape(weight)) + [1] * missing)


def _differ(size, other):
    # None is a size that is not known before the graph runs.
    return size is not None and other is not None and size != other
