"""Curricula: the difficulty of a task rises with what the network has learned.

A curriculum is a Keras callback with a `level`, which rises during `model.fit`. The
stream of a task reads it before each batch:

```python
curriculum = keras_sam.callbacks.ExponentialCurriculum(threshold=0.01, batches=100)
data = keras_sam.tasks.copy_task(
    batch_size=16, max_length=lambda: curriculum.level
)
model.fit(data, steps_per_epoch=500, epochs=100, callbacks=[curriculum])
```
"""

from typing import Any

import keras

from keras_sam.arguments import (
    check_boolean,
    check_positive_integer,
    is_number,
)


class Curriculum(keras.callbacks.Callback):
    """A level that rises, what curricula share: a log value, and a state to save.

    The level is added to the logs of each batch and epoch, so the progress bar,
    `History` and the callbacks after this one (put `TensorBoard` after it) show it.
    `keras_sam.callbacks.RunBackup` keeps it across interruptions.

    Args:
        level: Integer, the level to start from. Defaults to `1`.
        max_level: Integer, where the level stops rising. Defaults to `None`: nowhere.
        stop: Boolean, whether the training stops when the last level is passed.
            Defaults to `False`.

    Raises:
        ValueError: If `level` or `max_level` is not a positive integer, `level`
            exceeds `max_level`, `stop` is not a boolean, or `stop` is asked for
            without a `max_level`.
    """

    model: keras.Model  # Keras sets it before the training.
    # What a state is made of, and the name of the level in logs.
    STATE: tuple[str, ...] = ("level",)
    LOG_NAME = "level"

    def __init__(
        self, level: int = 1, max_level: int | None = None, stop: bool = False
    ) -> None:
        super().__init__()
        self.level = check_positive_integer("level", level)
        if max_level is not None:
            max_level = check_positive_integer("max_level", max_level)
            if level > max_level:
                raise ValueError(
                    "`level` must not exceed `max_level`. Received: "
                    f"level={level}, max_level={max_level}"
                )
        elif check_boolean("stop", stop):
            raise ValueError(
                "`stop` needs a `max_level`, the last level. Received: stop=True, "
                "max_level=None"
            )
        self.max_level = max_level
        self.stop = check_boolean("stop", stop)

    def raise_level(self, level: int) -> None:
        if self.stop and self.level == self.max_level:
            self.model.stop_training = True
        self.level = level if self.max_level is None else min(level, self.max_level)

    def get_state(self) -> dict[str, Any]:
        """What the curriculum goes on from: a dictionary of numbers."""
        return {name: getattr(self, name) for name in self.STATE}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `get_state` returned.

        Raises:
            ValueError: If `state` is not one of a curriculum of this class.
        """
        if sorted(state) != sorted(self.STATE):
            raise ValueError(
                f"`state` must be what {type(self).__name__}.get_state returned, a "
                f"dictionary of {list(self.STATE)}. Received: {state!r}"
            )
        for name, value in state.items():
            setattr(self, name, value)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        if logs is not None:
            logs[self.LOG_NAME] = self.level

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs[self.LOG_NAME] = self.level


class ExponentialCurriculum(Curriculum):
    """The level doubles whenever the training loss has stayed under a threshold.

    After each `batches` batches their mean loss is compared with `threshold`; if it is
    less, the level doubles. With a stream that draws its size uniformly from 1 to the
    level, `max_length=lambda: curriculum.level`, this is the curriculum of Rae et al.,
    who give neither their threshold nor their number.

    Keras reports means over the epoch so far; the batches' own values are recovered
    from them, on the assumption that all batches are of one size.

    Args:
        threshold: Positive number, the mean under which the level doubles. A loss is a
            mean over all steps, those that do not count as well: see what it is on
            sequences that the network has learned, or monitor a metric.
        batches: Integer, how many batches are compared at once. Defaults to `100`.
        level: Integer, the level to start from. Defaults to `1`.
        max_level: Integer, where the level stops rising. Defaults to `None`: nowhere.
        monitor: String, the training loss or metric to compare, such as
            `"bit_errors"`. Defaults to `"loss"`.
        stop: Boolean, see `keras_sam.callbacks.Curriculum`. Defaults to `False`.

    Raises:
        ValueError: If an argument is not of the given kind, `level` exceeds
            `max_level`, or the logs have no `monitor`.

    Reference: Rae et al. 2016, section 4.3 (https://arxiv.org/abs/1610.09027).

    Example:

    >>> curriculum = keras_sam.callbacks.ExponentialCurriculum(threshold=9, batches=2)
    >>> data = keras_sam.tasks.copy_task(4, max_length=lambda: curriculum.level)
    >>> model = keras.Sequential([keras.layers.Dense(8, activation="sigmoid")])
    >>> model.compile("sgd", "binary_crossentropy")
    >>> history = model.fit(
    ...     data, steps_per_epoch=2, epochs=3, callbacks=[curriculum], verbose=0
    ... )
    >>> history.history["level"]  # any loss is under 9
    [2, 4, 8]
    """

    STATE = ("level", "total", "count")

    def __init__(
        self,
        threshold: float,
        batches: int = 100,
        level: int = 1,
        max_level: int | None = None,
        monitor: str = "loss",
        stop: bool = False,
    ) -> None:
        super().__init__(level, max_level, stop)
        if not is_number(threshold) or threshold <= 0:
            raise ValueError(
                "`threshold` must be a number above 0, for a loss to stay under. "
                f"Received: threshold={threshold!r}"
            )
        self.threshold = threshold
        self.batches = check_positive_integer("batches", batches)
        self.monitor = monitor
        # Of the batches since the last comparison.
        self.total, self.count = 0.0, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch_total, self._epoch_count = 0.0, 0

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        epoch_count = batch + 1
        epoch_total = monitored(self.monitor, logs) * epoch_count
        self.total += epoch_total - self._epoch_total
        self.count += epoch_count - self._epoch_count
        self._epoch_total, self._epoch_count = epoch_total, epoch_count
        if self.count >= self.batches:
            if self.total / self.count < self.threshold:
                self.raise_level(2 * self.level)
            self.total, self.count = 0.0, 0
        super().on_train_batch_end(batch, logs)


class LessonCurriculum(Curriculum):
    """The next lesson begins when the network passes this one.

    At the end of each epoch a metric is compared with `threshold`; if it is not less,
    the level, which is the number of the lesson, rises by one. It is in the logs as
    `lesson`. The DNC's graph tasks are learned so: with `steps_per_epoch=100` and
    validation data of the current lesson, the network is tested every 100 batches and
    passes with 90 % of the answers right.

    Args:
        lessons: Integer, how many lessons there are.
        threshold: Number, the value of the metric that passes a lesson. Defaults to
            `0.9`.
        level: Integer, the first lesson. Defaults to `1`.
        monitor: String, the metric to compare, of which more is better. Defaults to
            `"val_sequence_accuracy"`, `keras_sam.metrics.SequenceAccuracy` on
            validation data.
        stop: Boolean, see `keras_sam.callbacks.Curriculum`. Defaults to `False`.

    Raises:
        ValueError: If an argument is not of the given kind, `level` exceeds
            `lessons`, or the logs have no `monitor`.

    Reference: Graves et al. 2016, Methods (https://doi.org/10.1038/nature20101).

    Example:

    >>> curriculum = keras_sam.callbacks.LessonCurriculum(lessons=14)
    >>> curriculum.on_epoch_end(0, {"val_sequence_accuracy": 0.89})
    >>> curriculum.level
    1
    >>> curriculum.on_epoch_end(1, {"val_sequence_accuracy": 0.95})
    >>> curriculum.level
    2
    """

    LOG_NAME = "lesson"

    def __init__(
        self,
        lessons: int,
        threshold: float = 0.9,
        level: int = 1,
        monitor: str = "val_sequence_accuracy",
        stop: bool = False,
    ) -> None:
        super().__init__(level, check_positive_integer("lessons", lessons), stop)
        if not is_number(threshold):
            raise ValueError(
                f"`threshold` must be a number. Received: threshold={threshold!r}"
            )
        self.threshold = threshold
        self.monitor = monitor

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if monitored(self.monitor, logs) >= self.threshold:
            self.raise_level(self.level + 1)
        super().on_epoch_end(epoch, logs)


def monitored(name, logs):
    if name not in (logs or {}):
        raise ValueError(
            f"`monitor` must be one of the logs, {sorted(logs or {})}. "
            f"Received: monitor={name!r}"
        )
    return float(logs[name])
