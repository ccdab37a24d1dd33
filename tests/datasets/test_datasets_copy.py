"""The `copy_task` data set: contents, splits, determinism, model.fit."""

import os
import sys
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import keras_sam.datasets
from keras_sam.datasets import CopyTask, CopyTaskConfig

TINY = CopyTaskConfig(
    name="tiny", max_length=5, train_size=60, held_out_size=20, longer_size=4
)
TINY_SIZES = {
    "train": 60,
    "validation": 20,
    "test": 20,
    "test_10": 4,
    "test_20": 4,
    "test_30": 4,
}
TINY_CHECKSUMS = {
    "train": 3780028677,
    "validation": 3082383225,
    "test": 3691959831,
    "test_10": 1934190010,
    "test_20": 1263779107,
    "test_30": 3055622458,
}


class CopyTaskTest(tfds.testing.DatasetBuilderTestCase):
    """The checks that tensorflow_datasets has for every builder."""

    DATASET_CLASS = CopyTask
    BUILDER_CONFIG_NAMES_TO_TEST = [TINY]
    SPLITS = TINY_SIZES
    # Sequences of length 1 repeat by nature.
    OVERLAPPING_SPLITS = ["train", "validation", "test"]
    EXAMPLE_DIR = os.path.dirname(__file__)  # Nothing is read from it.


def load(data_dir, name="copy_task", config=None, limit=None):
    """Returns {split: [(inputs, targets, sample_weight)]} and the builder's info."""
    download_config = tfds.download.DownloadConfig(max_examples_per_split=limit)
    data, info = tfds.load(
        name,
        data_dir=data_dir,
        as_supervised=True,
        with_info=True,
        builder_kwargs={"config": config} if config else None,
        download_and_prepare_kwargs={"download_config": download_config},
    )
    return {split: list(tfds.as_numpy(data[split])) for split in data}, info


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load(tmp_path_factory.mktemp("tiny"), config=TINY)[0]


def solve(inputs):
    """Returns the targets and weights of one sequence, in plain Python."""
    rows = inputs.tolist()
    (length,) = [t for t, row in enumerate(rows) if row[8] == 1]
    blank = [0] * 8
    assert rows[length] == [*blank, 1]
    assert rows[length + 1 :] == [[*blank, 0]] * length
    shown = [row[:8] for row in rows[:length]]
    return [blank] * (length + 1) + shown, [0] * (length + 1) + [1] * length


def test_targets_follow_from_the_inputs(tiny):
    assert {split: len(examples) for split, examples in tiny.items()} == TINY_SIZES
    for examples in tiny.values():
        for inputs, targets, sample_weight in examples:
            expected_targets, expected_weights = solve(inputs)
            assert targets.tolist() == expected_targets
            assert sample_weight.tolist() == expected_weights
            assert {inputs.dtype, targets.dtype, sample_weight.dtype} == {
                np.dtype("float32")
            }


def lengths(examples):
    return [int(sample_weight.sum()) for _, _, sample_weight in examples]


def test_lengths_of_each_split(tiny):
    for split in ("train", "validation", "test"):
        assert set(lengths(tiny[split])) == {1, 2, 3, 4, 5}
    for length in (10, 20, 30):
        assert set(lengths(tiny[f"test_{length}"])) == {length}


def test_splits_and_configurations_differ(tiny, tmp_path):
    def long_ones(examples):
        return {x.tobytes() for x, _, _ in examples if len(x) >= 9}

    seen = set()
    for examples in tiny.values():
        assert not long_ones(examples) & seen
        seen |= long_ones(examples)
    other = CopyTaskConfig(
        name="other", max_length=10, train_size=60, held_out_size=1, longer_size=4
    )
    for examples in load(tmp_path, config=other)[0].values():
        assert not long_ones(examples) & seen


def test_made_again_it_is_the_same(tiny, tmp_path):
    again, _ = load(tmp_path, config=TINY)
    for split, examples in tiny.items():
        for example, same in zip(examples, again[split], strict=True):
            for array, same_array in zip(example, same, strict=True):
                np.testing.assert_array_equal(array, same_array)


def test_this_version_is_made_of_these_bits(tiny):
    # If this fails, the data changed: raise CopyTask.VERSION, or people compare
    # numbers of different data. (NumPy may change its streams in a new release.)
    checksums = {
        split: zlib.crc32(b"".join(sorted(x.tobytes() for x, _, _ in examples)))
        for split, examples in tiny.items()
    }
    assert checksums == TINY_CHECKSUMS


@pytest.mark.parametrize(
    ("name", "max_length"),
    [("copy_task", 20), ("copy_task/length_20", 20), ("copy_task/length_10", 10)],
)
def test_public_configurations(name, max_length, tmp_path):
    data, info = load(tmp_path, name, limit=2)
    longer = [f"test_{factor * max_length}" for factor in (2, 4, 6)]
    assert set(data) == {"train", "validation", "test", *longer}
    for factor, split in zip((2, 4, 6), longer, strict=True):
        assert lengths(data[split]) == [factor * max_length] * 2
    config = CopyTask.builder_configs[f"length_{max_length}"]
    assert (config.train_size, config.held_out_size) == (64_000, 1_000)
    assert (config.max_length, config.longer_size) == (max_length, 200)
    assert info.full_name == f"copy_task/length_{max_length}/1.0.0"
    assert "1410.5401" in info.citation and info.description


def test_padded_batches_train_and_evaluate_a_model(tmp_path):
    train, longer = tfds.load(
        "copy_task",
        split=["train", "test_10"],
        data_dir=tmp_path,
        as_supervised=True,
        builder_kwargs={"config": TINY},
    )
    shapes = ((11, 9), (11, 8), (11,))
    train = train.padded_batch(16, shapes, drop_remainder=True)
    assert train.element_spec[0] == tf.TensorSpec((16, 11, 9), tf.float32)
    model = keras.Sequential(
        [
            keras.layers.LSTM(8, return_sequences=True),
            keras.layers.Dense(8, activation="sigmoid"),
        ]
    )
    model.compile(
        "adam",
        "binary_crossentropy",
        weighted_metrics=[keras_sam.metrics.BitErrors()],
    )
    history = model.fit(
        train, validation_data=longer.padded_batch(2), epochs=1, verbose=0
    )
    # Guessing scores half of the 10 * 8 scored bits.
    assert 20 < history.history["val_bit_errors"][0] < 60


@pytest.mark.parametrize(
    "name", ["max_length", "train_size", "held_out_size", "longer_size"]
)
@pytest.mark.parametrize("value", [0, 1.5, True])
def test_refuses_sizes_that_are_no_positive_integer(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1"):
        CopyTaskConfig(name="broken", **{name: value})


def test_without_tensorflow_datasets_the_error_names_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras_sam.datasets")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install tensorflow-datasets"):
        import keras_sam.datasets  # noqa: F401
