"""What the builders of generated tasks share: splits, features, examples."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds

from keras_sam.arguments import check_positive_integer
from keras_sam.options import Sequences

_CITATION = """
@article{graves2014neural,
  title={Neural {T}uring Machines},
  author={Graves, Alex and Wayne, Greg and Danihelka, Ivo},
  journal={arXiv preprint arXiv:1410.5401},
  year={2014}
}
"""

_SEQUENCES_PER_CALL = 1000

# For each size of a sequence the least and the greatest.
Ranges = tuple[tuple[int, int], ...]


@dataclasses.dataclass(eq=False)
class TaskConfig(tfds.core.BuilderConfig):
    """Split sizes of a `TaskBuilder`; a subclass adds the sizes of its sequences.

    A subclass has the property `ranges`, for each size of a sequence the least and the
    greatest of `train`, `validation` and `test`. The property `longer` is a dictionary
    from the name of a further test split to the `ranges` of its own: for a task with
    one size exactly 2, 4 and 6 times the greatest. With several sizes the subclass has
    it.

    Attributes:
        name: String, the name of the configuration; part of the data's path.
        train_size: Integer, sequences in `train`. Defaults to `64_000`.
        held_out_size: Integer, sequences in each of `validation` and `test`.
            Defaults to `1_000`.
        longer_size: Integer, sequences in each of the longer test splits. Defaults
            to `200`.

    Raises:
        ValueError: If a size is not a positive integer.
    """

    train_size: int = 64_000
    held_out_size: int = 1_000
    longer_size: int = 200

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.type is int:
                value = check_positive_integer(field.name, getattr(self, field.name))
                setattr(self, field.name, value)
        for least, greatest in self.ranges:
            if least > greatest:
                raise ValueError(
                    f"The smallest sequence of this task has size {least}, the largest "
                    f"must not be smaller. Received: {greatest}"
                )

    @property
    def ranges(self) -> Ranges:
        raise NotImplementedError

    @property
    def longer(self) -> dict[str, Ranges]:
        ((_, greatest),) = self.ranges
        sizes = [factor * greatest for factor in (2, 4, 6)]
        return {f"test_{size}": ((size, size),) for size in sizes}

    @property
    def splits(self) -> dict[str, tuple[int, Ranges]]:
        """From the name of a split to its number of sequences and their ranges."""
        return {
            "train": (self.train_size, self.ranges),
            "validation": (self.held_out_size, self.ranges),
            "test": (self.held_out_size, self.ranges),
            **{
                name: (self.longer_size, ranges) for name, ranges in self.longer.items()
            },
        }


class TaskBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A task of `keras_sam.tasks` as a fixed data set.

    Every split is made on this machine from its own fixed seed. A subclass has a
    `TaskConfig`, `DESCRIPTION`, `sequences(rng, *sizes)`, which is a function of
    `keras_sam.tasks`, and `WIDTHS`, the number of channels of its inputs and targets.

    An example is the triple `inputs` `[time, channels]`, `targets` `[time, channels]`,
    `sample_weight` `[time]`, float32 and without padding: it ends with the last step
    that counts.
    """

    builder_config: TaskConfig
    DESCRIPTION: str
    WIDTHS: tuple[int, int]
    sequences: Callable[..., Sequences]
    CITATION = _CITATION
    HOMEPAGE = "https://arxiv.org/abs/1410.5401"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self):
        inputs, targets = self.WIDTHS
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "inputs": _feature((None, inputs)),
                    "targets": _feature((None, targets)),
                    "sample_weight": _feature((None,)),
                }
            ),
            supervised_keys=("inputs", "targets", "sample_weight"),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
        )

    def _split_generators(self, dl_manager):
        config = self.builder_config
        seed = [greatest for _, greatest in config.ranges]
        return {
            split: self._generate_examples([*seed, index], size, ranges)
            for index, (split, (size, ranges)) in enumerate(config.splits.items())
        }

    def _generate_examples(self, seed, size, ranges):
        rng = np.random.default_rng(seed)
        sizes = [
            rng.integers(least, greatest + 1, size=size) for least, greatest in ranges
        ]
        for start in range(0, size, _SEQUENCES_PER_CALL):
            chunk = slice(start, start + _SEQUENCES_PER_CALL)
            batch = self.sequences(rng, *(values[chunk] for values in sizes))
            for key, (inputs, targets, weight) in enumerate(
                zip(*batch, strict=True), start
            ):
                steps = np.flatnonzero(weight)[-1] + 1
                yield (
                    key,
                    {
                        "inputs": inputs[:steps],
                        "targets": targets[:steps],
                        "sample_weight": weight[:steps],
                    },
                )


def _feature(shape):
    # float32 goes into any model and loss without a cast; compressed, bits take less
    # room on disk than uncompressed uint8.
    return tfds.features.Tensor(
        shape=shape, dtype=np.float32, encoding=tfds.features.Encoding.ZLIB
    )
