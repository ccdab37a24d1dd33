"""A run that goes on is the run that was not interrupted, whatever interrupted it."""

import json
import os
import random
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from running import ROOT

from keras_sam.callbacks import ExponentialCurriculum, RunBackup

STEPS, EPOCHS = 5, 5
RECIPE = {
    "task": "copy",
    "training": {"batch_size": 2, "learning_rate": 0.1, "clip_norm": 1.0},
    "stream": {},
    # 7 batches in epochs of 5: the state amid the batches matters.
    "curriculum": {
        "class": "ExponentialCurriculum",
        "argument": "max_length",
        "threshold": 9.0,
        "batches": 7,
    },
}

WHOLE = []


class InterruptAt(keras.callbacks.Callback):
    """Ends the training in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == STEPS // 2:
            raise KeyboardInterrupt


@pytest.fixture
def run(import_example, tmp_path):
    """Trains with dropout, a curriculum and a schedule; returns all that it ends with.

    Each call is like a new process: it has other objects and other random numbers.
    """
    training = import_example("training")
    calls = iter(range(100))

    def run(folder="backup", interrupt_at=None):
        keras.utils.set_random_seed(next(calls))
        problem = import_example("sequences").SequenceProblem(RECIPE, seed=3)
        model = keras.Sequential(
            [
                keras.Input((None, problem.channels)),
                keras.layers.Dense(8, "tanh", kernel_initializer="ones"),
                keras.layers.Dropout(0.5, seed=8),
                keras.layers.Dense(8, "sigmoid", kernel_initializer="ones"),
            ]
        )
        problem.compile(model, RECIPE["training"], STEPS * EPOCHS)
        curve = training.LearningCurve(STEPS * problem.batch_size)
        callbacks = [problem.curriculum, curve]
        backup = RunBackup(tmp_path / folder, callbacks, {"seed": 3})
        epoch = backup.restore(model)
        model.fit(
            problem.training_data(STEPS, epoch),
            steps_per_epoch=STEPS,
            initial_epoch=epoch,
            epochs=EPOCHS,
            validation_data=problem.stream(0),
            validation_steps=2,
            callbacks=[*callbacks, backup, InterruptAt(interrupt_at)],
            verbose=0,
        )
        variables = [*model.variables, *model.optimizer.variables]
        for point in curve.points:
            point.pop("seconds")
        values = [keras.ops.convert_to_numpy(v) for v in variables]
        return values, problem.curriculum.level, curve.points

    return run


@pytest.fixture
def whole(run):
    """What a run that nothing interrupts ends with; it is made once."""
    if not WHOLE:
        WHOLE.append(run("whole"))
    return WHOLE[0]


def assert_same(found, expected):
    for value, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(value, other)
    assert found[1:] == expected[1:]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("interruptions", [[0], [1], [3], [1, 2, 2, 4]])
def test_a_resumed_run_is_the_run_without_the_interruption(
    run, whole, tmp_path, interruptions
):
    assert whole[1] == 8
    # Else dropout's seeds and the level would not matter.
    assert len({point["loss"] for point in whole[2]}) == EPOCHS
    for epoch in interruptions:
        with pytest.raises(KeyboardInterrupt):
            run(interrupt_at=epoch)
    assert_same(run(), whole)
    assert names(tmp_path / "backup") == ["epoch_4.npz", "epoch_5.npz"]
    # Nothing is left to train: the same command gives the same again.
    assert_same(run(), whole)


def cut(share):
    return lambda content: content[: int(share * len(content))]


def flip(share):
    def flipped(content):
        i = int(share * len(content))
        return content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :]

    return flipped


@pytest.mark.parametrize(
    "damage",
    [cut(0), cut(0.001), cut(0.5), cut(0.999), flip(0), flip(0.5), flip(0.99)],
    ids=["cut"] * 4 + ["flip"] * 3,
)
@pytest.mark.slow_rows("cut[12]", "flip[02]")
def test_a_damaged_state_is_left_out(run, whole, tmp_path, damage):
    with pytest.raises(KeyboardInterrupt):
        run(interrupt_at=3)
    path = tmp_path / "backup" / "epoch_3.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="epoch_3.npz is damaged"):
        assert_same(run(), whole)


def test_without_a_readable_state_the_run_does_not_begin_again(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(interrupt_at=3)
    for path in (tmp_path / "backup").iterdir():
        path.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(ValueError, match=r"No state in .*backup can be read. Delete"),
    ):
        run()


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interruption_of_the_write_costs_an_epoch_at_most(
    run, whole, tmp_path, monkeypatch, name, after
):
    calls, real = [], getattr(os, name)

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3 and not after:
            raise KeyboardInterrupt
        real(*arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, name, interrupted)
        run()
    done = 3 if (name, after) == ("replace", True) else 2
    assert f"epoch_{done}.npz" in names(tmp_path / "backup")
    assert f"epoch_{done + 1}.npz" not in names(tmp_path / "backup")
    assert_same(run(), whole)
    assert names(tmp_path / "backup") == ["epoch_4.npz", "epoch_5.npz"]


def dense(units=2, optimizer="sgd", **options):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units, **options)])
    model.compile(optimizer, "mse")
    return model


def fit(model, backup, epochs=2):
    data = np.ones((2, *model.input_shape[1:])), np.ones((2, *model.output_shape[1:]))
    epoch = backup.restore(model)
    model.fit(*data, initial_epoch=epoch, epochs=epochs, callbacks=[backup], verbose=0)


@pytest.mark.parametrize(
    "settings, callbacks, model, message",
    [
        ({"seed": 1}, [], {}, r"settings.seed: 0 there, 1 now"),
        ({}, [], {}, r"settings.layer: {\"units\": 2} there, null now"),
        (
            {"seed": 0, "layer": {"units": 2, "slots": [4, 5]}},
            [],
            {},
            r"settings.layer.slots: null there, \[4, 5\] now",
        ),
        (None, [ExponentialCurriculum(1)], {}, r"null there, \"ExponentialCurriculum"),
        (None, [], {"units": 4}, r"variables.0: \"float32 \[3, 2\]\" there, .*4\]"),
        (None, [], {"optimizer": "adam"}, r"variables.4: null there, \"float32"),
        (None, [], {"dtype": "bfloat16"}, r"variables.0: .* there, \"bfloat16 \[3"),
    ],
)
def test_another_run_is_refused(tmp_path, settings, callbacks, model, message):
    same = {"seed": 0, "layer": {"units": 2}}
    fit(dense(), RunBackup(tmp_path, settings=same))
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    settings = same if settings is None else settings
    other, backup = dense(**model), RunBackup(tmp_path, callbacks, settings)
    weights = other.get_weights()
    with pytest.raises(ValueError, match=message) as error:
        backup.restore(other)
    assert f"{tmp_path} has the state of another run" in str(error.value)
    assert "choose another folder, or delete" in str(error.value)
    np.testing.assert_array_equal(other.get_weights()[0], weights[0])
    assert kept == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_settings_are_compared_as_json_reads_them(tmp_path):
    fit(dense(), RunBackup(tmp_path, settings={"sizes": (1, 2), "rate": 1e-3}))
    again = RunBackup(tmp_path, settings={"rate": 0.001, "sizes": [1, 2]})
    assert again.restore(dense()) == 2


def test_of_many_differences_some_are_named(tmp_path):
    fit(dense(), RunBackup(tmp_path, settings=dict.fromkeys("abcdefghijkl", 1)))
    backup = RunBackup(tmp_path, settings=dict.fromkeys("abcdefghijkl", 2))
    with pytest.raises(ValueError, match=r"settings.i: 1 there, 2 now\n  and 3 more"):
        backup.restore(dense())


def test_what_stopped_the_training_stops_the_resumed_one(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    model, backup = dense(), RunBackup(tmp_path)
    inputs, targets = np.ones((2, 3)), np.ones((2, 2))
    epoch = backup.restore(model)
    assert not backup.stopped
    callbacks = [Stop(), backup]
    model.fit(
        inputs, targets, initial_epoch=epoch, epochs=9, callbacks=callbacks, verbose=0
    )
    again = RunBackup(tmp_path)
    assert again.restore(dense()) == 2
    assert again.stopped


def test_fit_must_go_on_where_the_backup_is(tmp_path):
    inputs, targets = np.ones((2, 3)), np.ones((2, 2))
    model, backup = dense(), RunBackup(tmp_path)
    with pytest.raises(ValueError, match="call `backup.restore"):
        model.fit(inputs, targets, callbacks=[backup], verbose=0)
    fit(model, backup)
    with pytest.raises(ValueError, match="an epoch 0, where 2 is next"):
        model.fit(inputs, targets, callbacks=[backup], verbose=0)
    unbuilt = keras.Sequential([keras.layers.Dense(2)])
    unbuilt.compile("sgd", "mse")
    uncompiled = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    for model in (unbuilt, uncompiled):
        with pytest.raises(ValueError, match="`model` must be built and compiled"):
            backup.restore(model)


def test_refuses_what_it_cannot_save(tmp_path):
    with pytest.raises(TypeError, match="Each of `callbacks` must have the methods"):
        RunBackup(tmp_path, [keras.callbacks.TerminateOnNaN()])
    with pytest.raises(TypeError, match="`settings` must be a dictionary of values"):
        RunBackup(tmp_path, settings={"a": {1, 2}})


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"optimizer": "adam"}])
@pytest.mark.slow_rows("options0")
def test_all_variables_come_back(tmp_path, options):
    model = dense(**options)
    fit(model, RunBackup(tmp_path))
    again = dense(**options)
    RunBackup(tmp_path).restore(again)
    for value, other in zip(
        [*model.variables, *model.optimizer.variables],
        [*again.variables, *again.optimizer.variables],
        strict=True,
    ):
        assert value.dtype == other.dtype
        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize("curriculum", [False, True])
def test_each_epoch_has_its_own_sequences(import_example, curriculum):
    recipe = dict(RECIPE)
    if not curriculum:
        del recipe["curriculum"]
    problem = import_example("sequences").SequenceProblem(recipe, seed=0)

    def batches(epoch, count):
        data = problem.training_data(3, epoch).take(count)
        return [inputs.tobytes() for inputs, _, _ in data.as_numpy_iterator()]

    if curriculum:
        problem.curriculum.level = 20
    whole = batches(0, 9)
    assert len(set(whole)) == 9
    assert whole[3:] == batches(1, 6) and whole[6:] == batches(2, 3)
    # What is tested is not trained on.
    for number in (0, 1):
        tested = problem.stream(number).take(9).as_numpy_iterator()
        assert not {inputs.tobytes() for inputs, _, _ in tested} & set(whole)


def test_the_next_batch_of_the_data_has_the_new_level(import_example):
    problem = import_example("sequences").SequenceProblem(RECIPE, seed=0)
    data = problem.training_data(2).as_numpy_iterator()
    for level in (30, 30, 1, 30, 30, 1):
        problem.curriculum.level = level
        assert next(data)[0].shape[1] // 2 <= level
        # Time enough to make a batch that nobody has asked for.
        time.sleep(0.2)


# A process that is killed, `kill -9`.

KILLED_RECIPE = """
task = "copy"
[layer]
units = 8
memory_slots = 16
word_size = 4
dropout = 0.3
[training]
batch_size = 50
epochs = 120
steps_per_epoch = 4
learning_rate = 1e-2
clip_norm = 1.0
[stream]
[curriculum]
class = "ExponentialCurriculum"
argument = "max_length"
threshold = 9.0
batches = 23
max_level = 4
"""
# Runs train.py and kills itself in the write of a backup: the file has got a part of
# its content, or the rename or the removal of an older file is about to come or done.
KILL_IN_WRITE = textwrap.dedent(
    """
    import os, pathlib, random, runpy, signal, sys

    moment, after, *sys.argv = sys.argv[1:]
    after = int(after)

    def killed(call, before):
        def killing(*arguments, **options):
            global after
            after -= 1
            if after == 0 and before:
                if moment == "fsync":
                    size = os.fstat(arguments[0]).st_size
                    os.ftruncate(arguments[0], random.randrange(size))
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*arguments, **options)
            if after == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return killing

    if moment == "fsync":
        os.fsync = killed(os.fsync, True)
    elif moment in ("replace", "replaced"):
        os.replace = killed(os.replace, moment == "replace")
    else:
        pathlib.Path.unlink = killed(pathlib.Path.unlink, moment == "unlink")
    sys.path.insert(0, os.path.dirname(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")
    """
)


@pytest.mark.slow
def test_twenty_kills_do_not_change_the_run(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(KILLED_RECIPE)
    script = str(ROOT / "examples" / "train.py")
    rng = random.Random(0)

    def command(output):
        return [script, "--recipe", str(recipe), "--cell", "dnc", "--output", output]

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def epochs_done():
        paths = (tmp_path / "killed" / "backup").glob("epoch_*.npz")
        return max((int(path.stem[6:]) for path in paths), default=0)

    def kill_in_write():
        moments = ("fsync", "fsync", "replace", "replaced", "unlink", "unlinked")
        moment, after = rng.choice(moments), rng.choice((1, 2))
        run = start("-c", KILL_IN_WRITE, moment, str(after), *command(killed))
        output, _ = run.communicate()
        return moment, run.returncode, output

    def kill_at_random():
        run = start(*command(killed))
        output, epochs, seconds = "", rng.choice((1, 2, 3)), rng.uniform(0, 2)
        # Not before it trains: to import and to trace takes longer than the training.
        while output.count("Epoch") < epochs and (line := run.stdout.readline()):
            output += line
        time.sleep(seconds)
        run.kill()
        output += run.communicate()[0]
        moment = f"{seconds:.2f} s after the begin of epoch {epochs} of its own"
        return moment, run.returncode, output

    whole, killed = str(tmp_path / "whole"), str(tmp_path / "killed")
    uninterrupted = start(*command(whole))
    assert uninterrupted.communicate() and uninterrupted.returncode == 0
    before = 0
    for number in range(20):
        moment, status, output = (kill_in_write, kill_at_random)[number % 2]()
        done = epochs_done()
        print(f"kill {number + 1}: {moment}, after epoch {before}, {done} are saved")
        assert status == -9, output[-2000:]
        assert f"Epoch {before + 1}/120" in output
        assert done >= before
        before = done
    finished = start(*command(killed))
    output, _ = finished.communicate()
    assert finished.returncode == 0, output[-2000:]
    assert f"Epoch {before + 1}/120" in output

    results = []
    for folder in (tmp_path / "whole", tmp_path / "killed"):
        result = json.loads((folder / "results.json").read_text())
        for name in ("command", "training_seconds"):
            result.pop(name)
        for point in result["curve"]:
            point.pop("seconds")
        results.append(result)
    assert results[0] == results[1]
    variables = [tf.saved_model.load(f"{path}/1").variables for path in (whole, killed)]
    for value, other in zip(*variables, strict=True):
        np.testing.assert_array_equal(value, other)
