"""Training by several workers gives what training in one process gives."""

import json
import sys
from pathlib import Path

import distributed
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sam
from keras_sam.distribute import MultiWorkerStrategy, run_local_workers
from keras_sam.distribute.global_batch import GlobalLoss, use_global_batch
from keras_sam.distribute.strategy import _part_size

SCRIPT = Path(distributed.__file__)


def of_two_workers(cases, output, *options, status=0):
    """What two workers find."""
    command = [sys.executable, SCRIPT, ",".join(cases), output, *options]
    assert run_local_workers(command, 2) == status
    return np.load(output) if status == 0 else None


def assert_same_as_one_process(cases, folder):
    found = of_two_workers(cases, folder / "found.npz")
    expected = {}
    for case in cases:
        expected |= distributed.results(case, tf.distribute.get_strategy())
        assert expected[f"{case}: change"] > 0.5
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name], value, rtol=1e-6, atol=1e-6, err_msg=name
        )


def test_two_workers_equal_one_process(tmp_path):
    assert_same_as_one_process(["lstm", "sam"], tmp_path)


@pytest.mark.slow
def test_two_workers_equal_one_process_with_other_cells(tmp_path):
    assert_same_as_one_process(["ntm", "sam_compiled", "sdnc"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("of_keras", [(), ("--keras-backup",)], ids=["run", "keras"])
def test_a_killed_worker_changes_nothing_when_all_are_started_again(of_keras, tmp_path):
    options = (*of_keras, "--epochs", 4, "--backup")
    whole = of_two_workers(["lstm"], tmp_path / "whole.npz", *options, tmp_path / "a")
    resumed = tmp_path / "resumed.npz"
    options = (*options, tmp_path / "b")
    of_two_workers(["lstm"], resumed, *options, "--kill", 2, status=-9)
    assert any((tmp_path / "b").iterdir())
    assert not resumed.exists()
    resumed = of_two_workers(["lstm"], resumed, *options)
    assert len(resumed["lstm: history loss"]) == 2
    for name in whole:
        if "history" not in name and "change" not in name:
            np.testing.assert_array_equal(resumed[name], whole[name], err_msg=name)


def test_local_workers_find_each_other_and_end_together():
    program = """
import json, os, sys, time
config = json.loads(os.environ["TF_CONFIG"])
assert len(set(config["cluster"]["worker"])) == 2
if config["task"] == {"type": "worker", "index": 1}:
    sys.exit(3)
time.sleep(600)
"""
    assert run_local_workers([sys.executable, "-c", program], 2) == 3
    with pytest.raises(ValueError, match="workers"):
        run_local_workers([sys.executable, "-c", program], 0)


@pytest.mark.parametrize(
    "cluster, task",
    [
        ({"worker": ["a:1"], "ps": ["b:1"]}, {"type": "worker", "index": 0}),
        ({"worker": ["a:1"]}, {"type": "evaluator", "index": 0}),
    ],
)
def test_tasks_without_a_place_are_refused(cluster, task, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    with pytest.raises(ValueError, match=r"`worker` and `chief` alone.*Received"):
        MultiWorkerStrategy()


def test_a_live_batch_is_shared_evenly_or_refused():
    def stream(size):
        return keras_sam.tasks.copy_task(size, max_length=lambda: 2)

    assert _part_size(stream(6), 3) == 2
    with pytest.raises(ValueError, match=r"3 workers share evenly.*batch size of 4"):
        _part_size(stream(4), 3)
    with pytest.raises(ValueError, match="batch size of None"):
        _part_size(tf.data.Dataset.range(4).batch(2), 2)


def compiled(**options):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(**{"optimizer": "sgd", "loss": "mse", **options})
    return model


def test_what_is_compiled_to_something_else_is_refused():
    accumulating = keras.optimizers.SGD(gradient_accumulation_steps=2)
    scaling = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    for options, words in (
        ({"jit_compile": True}, "jit_compile=False"),
        ({"steps_per_execution": 2}, "steps_per_execution=1"),
        ({"optimizer": accumulating}, "gradient_accumulation_steps=2"),
        ({"optimizer": scaling}, "auto_scale_loss=False"),
    ):
        with pytest.raises(ValueError, match=words):
            use_global_batch(compiled(**options))


def test_normalization_of_parts_is_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="synchronized=True"):
        use_global_batch(model)
    model.layers[0].trainable = False  # It has no part in a batch then.
    model.compile("sgd", "mse")
    model.evaluate(np.ones((1, 2)), np.ones((1, 2)), verbose=0)
    use_global_batch(model)


def test_losses_without_parts_are_refused():
    class Own(keras.losses.Loss):
        def __call__(self, y_true, y_pred, sample_weight=None):
            return 0.0

    with pytest.raises(ValueError, match="leave `__call__`"):
        GlobalLoss(Own())
    with pytest.raises(ValueError, match="must have a reduction"):
        GlobalLoss(keras.losses.MeanSquaredError(reduction=None))
    with pytest.raises(ValueError, match="not one for the whole batch"):
        GlobalLoss(keras.losses.Dice())(np.ones((2, 3)), np.ones((2, 3)))


@pytest.mark.parametrize(
    "reduction", ["sum", "sum_over_batch_size", "mean", "mean_with_sample_weight"]
)
@pytest.mark.parametrize("weight", [None, "each", "one for all steps", "none counts"])
def test_a_global_loss_of_one_worker_is_the_loss(reduction, weight):
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.normal(size=(2, 3, 4, 5))
    weight = {
        None: None,
        "each": rng.uniform(size=(3, 4)),
        "one for all steps": rng.uniform(size=(3, 1)),
        "none counts": np.zeros((3, 4)),
    }[weight]
    loss = keras.losses.MeanSquaredError(reduction=reduction)
    expected = loss(y_true, y_pred, weight)
    np.testing.assert_allclose(
        GlobalLoss(loss)(y_true, y_pred, weight), expected, rtol=1e-6
    )


def test_a_folder_of_the_only_worker_is_the_folder(tmp_path):
    strategy = MultiWorkerStrategy()
    assert strategy.is_chief
    assert strategy.folder(tmp_path / "new") == tmp_path / "new"
    assert (tmp_path / "new").is_dir()
