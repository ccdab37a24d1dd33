"""Curricula: when the level rises, and who sees it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sam
from keras_sam.callbacks import ExponentialCurriculum, LessonCurriculum


def feed(curriculum, epochs):
    """Plays `model.fit`: epochs of losses, shown as Keras does; returns the levels."""
    levels = []
    for epoch, losses in enumerate(epochs):
        curriculum.on_epoch_begin(epoch)
        for batch, _ in enumerate(losses):
            logs = {"loss": float(np.float32(np.mean(losses[: batch + 1])))}
            curriculum.on_train_batch_end(batch, logs)
            levels.append(logs["level"])
        curriculum.on_epoch_end(epoch, logs)
    return levels


def test_doubles_after_enough_batches_under_the_threshold():
    curriculum = ExponentialCurriculum(threshold=0.5, batches=3)
    #            not under    under     an epoch ends amid the batches: under
    epochs = [[0.9, 0.1, 0.9, 0.1, 0.1, 0.2, 0.4], [0.4, 0.4], [0.4, 0.4]]
    assert feed(curriculum, epochs) == [1, 1, 1, 1, 1, 2, 2, 2, 4, 4, 4]


def test_old_losses_of_an_epoch_do_not_count():
    # The mean over the epoch, which Keras reports, is under the threshold at the
    # end, and so it is above it in the second one; the batches' own are not.
    curriculum = ExponentialCurriculum(threshold=1.0, batches=2)
    assert feed(curriculum, [[0.1] * 8 + [2.0, 2.0]])[-3:] == [16, 16, 16]
    curriculum = ExponentialCurriculum(threshold=1.0, batches=2)
    assert feed(curriculum, [[90.0] * 6 + [0.5, 0.5]]) == [1] * 7 + [2]


def test_small_losses_late_in_a_long_epoch_are_still_told_apart():
    losses = [1.0] * 500 + [0.011] * 100 + [0.009] * 100
    curriculum = ExponentialCurriculum(threshold=0.01, batches=100)
    assert feed(curriculum, [losses])[-101:] == [1] * 100 + [2]


def test_level_stops_at_the_greatest():
    curriculum = ExponentialCurriculum(1.0, batches=1, level=3, max_level=10)
    assert feed(curriculum, [[0.0] * 4]) == [6, 10, 10, 10]


def test_training_stops_when_the_last_level_is_passed():
    curriculum = ExponentialCurriculum(9.0, 2, max_level=4, stop=True)
    history = copy_model().fit(
        keras_sam.tasks.copy_task(2, max_length=2, seed=0),
        steps_per_epoch=2,
        epochs=9,
        callbacks=[curriculum],
        verbose=0,
    )
    assert history.history["level"] == [2, 4, 4]


def test_a_nan_raises_nothing():
    curriculum = ExponentialCurriculum(1.0, batches=1)
    assert feed(curriculum, [[float("nan")] * 3]) == [1, 1, 1]


def test_several_steps_in_one_execution_count_as_many():
    curriculum = ExponentialCurriculum(0.5, batches=4)
    curriculum.on_epoch_begin(0)
    for last_batch, mean, level in [(2, 0.6, 1), (5, 0.3, 2), (8, 0.4, 2)]:
        logs = {"loss": mean}
        curriculum.on_train_batch_end(last_batch, logs)
        assert logs["level"] == level
    # 6 batches of total 1.8; then 3 of total 1.8, of the 4 that are needed.
    np.testing.assert_allclose([curriculum.total, curriculum.count], [1.8, 3])


def copy_model(steps_per_execution=1):
    model = keras.Sequential(
        [keras.Input((None, 9)), keras.layers.Dense(8, activation="sigmoid")]
    )
    model.compile(
        "sgd",
        "binary_crossentropy",
        weighted_metrics=[keras_sam.metrics.BitErrors()],
        steps_per_execution=steps_per_execution,
    )
    return model


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_the_next_batch_of_fit_has_the_new_level(steps_per_execution):
    curriculum = ExponentialCurriculum(threshold=9.0, batches=4)
    seen = []

    def length():
        seen.append(curriculum.level)
        return curriculum.level

    data = keras_sam.tasks.copy_task(2, max_length=length, seed=0)
    seen.clear()
    history = copy_model(steps_per_execution).fit(
        data, steps_per_epoch=8, epochs=2, callbacks=[curriculum], verbose=0
    )
    # Whether Keras asks for one more after the end does not matter.
    assert seen[:16] == [1] * 4 + [2] * 4 + [4] * 4 + [8] * 4
    assert history.history["level"] == [4, 16]


def test_lengths_are_uniform_up_to_the_level():
    curriculum = ExponentialCurriculum(threshold=1e-9, level=5)
    data = keras_sam.tasks.copy_task(1, max_length=lambda: curriculum.level, seed=0)
    lengths = [x.shape[1] // 2 for x, _, _ in data.take(1000).as_numpy_iterator()]
    counts = np.bincount(lengths, minlength=6)
    np.testing.assert_allclose(counts, [0] + [200] * 5, atol=4.5 * np.sqrt(160))


def test_progress_bar_and_tensorboard_show_the_level(tmp_path, capsys):
    curriculum = ExponentialCurriculum(1e9, batches=3, monitor="bit_errors")
    copy_model().fit(
        keras_sam.tasks.copy_task(2, max_length=2, seed=0),
        steps_per_epoch=3,
        epochs=2,
        callbacks=[curriculum, keras.callbacks.TensorBoard(tmp_path)],
    )
    assert "level: 4" in capsys.readouterr().out
    (events,) = tmp_path.glob("train/*.tfevents.*")
    levels = []
    for record in tf.data.TFRecordDataset(str(events)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            if value.tag == "epoch_level":
                levels.append(float(tf.make_ndarray(value.tensor)))
    assert levels == [2, 4]


def test_the_object_goes_on_in_another_fit():
    curriculum = ExponentialCurriculum(9.0, batches=2)
    model = copy_model()
    data = keras_sam.tasks.copy_task(2, max_length=2, seed=0)
    for expected in (2, 4):
        model.fit(data, steps_per_epoch=2, callbacks=[curriculum], verbose=0)
        assert curriculum.level == expected


def test_lessons():
    curriculum = LessonCurriculum(3, threshold=0.8, monitor="accuracy")
    levels = []
    for epoch, accuracy in enumerate([0.79, 0.8, float("nan"), 0.1]):
        logs = {"accuracy": accuracy}
        curriculum.on_train_batch_end(0, logs)
        curriculum.on_epoch_end(epoch, logs)
        levels.append(logs["lesson"])
    assert levels == [1, 2, 2, 2]
    again = LessonCurriculum(3, threshold=0.8, monitor="accuracy")
    again.set_state(curriculum.get_state())
    assert again.level == 2
    for expected in (3, 3):
        again.on_epoch_end(0, {"accuracy": 1.0})
        assert again.level == expected
    with pytest.raises(ValueError, match="what ExponentialCurriculum.get_state ret"):
        ExponentialCurriculum(1.0).set_state(again.get_state())


@pytest.mark.parametrize(
    ("make", "arguments", "expected"),
    [
        (ExponentialCurriculum, {"threshold": "1"}, "`threshold` must be a number"),
        (ExponentialCurriculum, {"threshold": 1, "batches": 0}, "`batches` must be"),
        (ExponentialCurriculum, {"threshold": 1, "level": 0}, "`level` must be"),
        (
            ExponentialCurriculum,
            {"threshold": 1, "level": 3, "max_level": 2},
            "`level` must not exceed `max_level`",
        ),
        (
            ExponentialCurriculum,
            {"threshold": 1, "stop": True},
            "`stop` needs a `max_level`",
        ),
        (LessonCurriculum, {"lessons": 0}, "`lessons` must be"),
        (LessonCurriculum, {"lessons": 2, "threshold": None}, "`threshold` must be"),
    ],
)
def test_refuses(make, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        make(**arguments)


def test_an_unknown_monitor_names_the_logs():
    curriculum = LessonCurriculum(3)
    with pytest.raises(ValueError, match=r"one of the logs, \['loss'\].*val_sequence"):
        curriculum.on_epoch_end(0, {"loss": 1.0})
