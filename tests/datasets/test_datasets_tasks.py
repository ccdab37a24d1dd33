"""The data sets of the tasks: splits, contents, determinism.

(What all share and the copy task alone: test_datasets_copy.py.)
"""

import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

import keras_sam.datasets
from keras_sam.datasets import (
    AssociativeRecallTask,
    AssociativeRecallTaskConfig,
    DynamicNgramsTask,
    DynamicNgramsTaskConfig,
    OrderRecallTask,
    OrderRecallTaskConfig,
    PrioritySortTask,
    PrioritySortTaskConfig,
    RepeatCopyTask,
    RepeatCopyTaskConfig,
)

SIZES = {"train_size": 40, "held_out_size": 5, "longer_size": 3}
TINY = {
    RepeatCopyTask: RepeatCopyTaskConfig(
        name="tiny", max_length=2, max_repeats=3, **SIZES
    ),
    AssociativeRecallTask: AssociativeRecallTaskConfig(
        name="tiny", max_items=4, **SIZES
    ),
    OrderRecallTask: OrderRecallTaskConfig(name="tiny", max_items=4, **SIZES),
    PrioritySortTask: PrioritySortTaskConfig(name="tiny", keys=4, **SIZES),
    DynamicNgramsTask: DynamicNgramsTaskConfig(name="tiny", length=30, **SIZES),
}
# The steps of the longest sequences of `train` and of the longer splits.
STEPS = {
    RepeatCopyTask: {"train": 10, "test_length_4": 18, "test_repeats_6": 16},
    AssociativeRecallTask: {"train": 24, "test_8": 40, "test_16": 72, "test_24": 104},
    OrderRecallTask: {"train": 8, "test_8": 16, "test_16": 32, "test_24": 48},
    PrioritySortTask: {"train": 9, "test_8": 16, "test_16": 30, "test_24": 45},
    DynamicNgramsTask: {"train": 30, "test_60": 60, "test_120": 120, "test_180": 180},
}
CHECKSUMS = {
    RepeatCopyTask: 1345411010,
    AssociativeRecallTask: 965663028,
    OrderRecallTask: 791952628,
    PrioritySortTask: 2851210168,
    DynamicNgramsTask: 3486752449,
}
every_builder = pytest.mark.parametrize("cls", TINY, ids=lambda cls: cls.name)


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A function that makes a tiny data set: {split: [examples]}."""
    made = {}

    def load_once(cls):
        if cls not in made:
            made[cls] = load_anew(cls, tmp_path_factory.mktemp(cls.name))
        return made[cls]

    return load_once


def load_anew(cls, data_dir):
    data = tfds.load(
        cls.name,
        data_dir=data_dir,
        as_supervised=True,
        builder_kwargs={"config": TINY[cls]},
    )
    return {split: list(tfds.as_numpy(data[split])) for split in data}


@every_builder
def test_splits_and_their_sizes(cls, load):
    data = load(cls)
    longer = [split for split in STEPS[cls] if split != "train"]
    assert list(data) == ["train", "validation", "test", *longer]
    assert [len(examples) for examples in data.values()] == [40, 5, 5] + [3] * len(
        longer
    )
    for split, steps in STEPS[cls].items():
        longest = max(len(inputs) for inputs, _, _ in data[split])
        # Order recall seldom asks for the first item, so its sequences end early.
        assert longest == steps or (
            cls is OrderRecallTask and steps / 2 < longest < steps
        )
    for examples in data.values():
        for inputs, targets, sample_weight in examples:
            assert len(inputs) == len(targets) == len(sample_weight)
            assert sample_weight[-1] == 1, "padded"
            assert (inputs.shape[1], targets.shape[1]) == cls.WIDTHS


@every_builder
def test_examples_are_those_of_the_task(cls, load):
    # Made from the documented seed: the ranges' greatest values and the split's number.
    config = TINY[cls]
    rng = np.random.default_rng([*(greatest for _, greatest in config.ranges), 0])
    sizes = [rng.integers(low, high + 1, size=40) for low, high in config.ranges]
    make = getattr(keras_sam.tasks, cls.name.removesuffix("_task") + "_sequences")
    expected = {
        inputs[: np.flatnonzero(weight)[-1] + 1].tobytes()
        + targets[weight > 0].tobytes()
        for inputs, targets, weight in zip(*make(rng, *sizes), strict=True)
    }
    made = {
        inputs.tobytes() + targets[weight > 0].tobytes()
        for inputs, targets, weight in load(cls)["train"]
    }
    assert made == expected


@every_builder
def test_splits_differ(cls, load):
    seen = set()
    for examples in load(cls).values():
        # The smallest sequences of the tiny configurations may repeat.
        large = {x.tobytes() for x, _, _ in examples if len(x) > 5}
        assert large and not large & seen
        seen |= large


@every_builder
def test_this_version_is_made_of_these_bits(cls, load):
    # If this fails, the data changed: raise VERSION, or people compare numbers of
    # different data. (NumPy may change its streams in a new release.)
    data = load(cls)
    inputs = sorted(x.tobytes() for examples in data.values() for x, _, _ in examples)
    assert zlib.crc32(b"".join(inputs)) == CHECKSUMS[cls]


@every_builder
def test_the_default_configuration_is_the_paper_s(cls, tmp_path):
    limit = tfds.download.DownloadConfig(max_examples_per_split=2)
    data, info = tfds.load(
        cls.name,
        data_dir=tmp_path,
        with_info=True,
        download_and_prepare_kwargs={"download_config": limit},
    )
    assert info.full_name == f"{cls.name}/{cls.BUILDER_CONFIGS[0].name}/1.0.0"
    ranges = {
        RepeatCopyTask: ((1, 10), (1, 10)),
        AssociativeRecallTask: ((2, 6),),
        OrderRecallTask: ((2, 20),),
        PrioritySortTask: ((20, 20),),
        DynamicNgramsTask: ((200, 200),),
    }
    assert cls.BUILDER_CONFIGS[0].ranges == ranges[cls]
    assert len(data["train"]) == 2
    assert info.description
    assert ("1410.5401" in info.citation) == (cls is not OrderRecallTask)


@pytest.mark.parametrize(
    ("config", "arguments", "expected"),
    [
        (RepeatCopyTaskConfig, {"max_repeats": 0}, "`max_repeats` must be an integer"),
        (AssociativeRecallTaskConfig, {"max_items": 1}, "smallest .* has size 2"),
        (OrderRecallTaskConfig, {"train_size": 1.5}, "`train_size` must be an integer"),
        (PrioritySortTaskConfig, {"keys": True}, "`keys` must be an integer"),
        (DynamicNgramsTaskConfig, {"length": 0}, "`length` must be an integer"),
    ],
)
def test_configurations_refuse(config, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        config(name="broken", **arguments)
