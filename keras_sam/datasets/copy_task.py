"""The copy task as a fixed data set with held-out and longer sequences."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from keras_sam.arguments import check_positive_integer
from keras_sam.tasks.copy import copy_sequences

_DESCRIPTION = """
The copy task of the Neural Turing Machine paper: read a sequence of random
8-bit vectors and a delimiter, then write the same vectors out again. The
training lengths are uniform from 1 to the configuration's `max_length`; the
splits `test_<length>` hold only longer sequences, of exactly that length, and
show whether a model has learned to copy or only to copy what it was trained on.

Every split is made on this machine from its own fixed seed, with no download.
Short sequences repeat by nature: there are only 256 of length 1, so that about
one in `max_length` sequences of the validation and test splits also occurs in
the training split. From length 3 on a repetition is unlikely.
"""

_CITATION = """
@article{graves2014neural,
  title={Neural {T}uring Machines},
  author={Graves, Alex and Wayne, Greg and Danihelka, Ivo},
  journal={arXiv preprint arXiv:1410.5401},
  year={2014}
}
"""

_BITS = 8
_SEQUENCES_PER_CALL = 1000


@dataclasses.dataclass(eq=False)
class CopyTaskConfig(tfds.core.BuilderConfig):
    """Lengths and split sizes of a `CopyTask`.

    Attributes:
        name: String, the name of the configuration; part of the data's path.
        max_length: Integer, the most vectors in a sequence of the `train`,
            `validation` and `test` splits. The longer splits have sequences of
            2, 4 and 6 times this length. Defaults to `20`.
        train_size: Integer, sequences in `train`. Defaults to `64_000`.
        held_out_size: Integer, sequences in each of `validation` and `test`.
            Defaults to `1_000`.
        longer_size: Integer, sequences in each `test_<length>` split. Defaults
            to `200`.

    Raises:
        ValueError: If a length or size is not a positive integer.

    Example:

    >>> import keras_sam.datasets
    >>> keras_sam.datasets.CopyTaskConfig(name="length_5", max_length=5).train_size
    64000
    """

    max_length: int = 20
    train_size: int = 64_000
    held_out_size: int = 1_000
    longer_size: int = 200

    def __post_init__(self):
        for name in ("max_length", "train_size", "held_out_size", "longer_size"):
            setattr(self, name, check_positive_integer(name, getattr(self, name)))


class CopyTask(tfds.core.GeneratorBasedBuilder):
    """The copy task as a `tensorflow_datasets` builder named `copy_task`.

    Configurations: `"length_20"` (the default, the paper's) and `"length_10"`,
    trained on lengths 1 to 20 and 1 to 10. Splits of `length_20`:

    | split                            | sequences  | lengths            |
    |----------------------------------|-----------:|--------------------|
    | `train`                          |     64,000 | uniform in 1 .. 20 |
    | `validation`, `test`             | 1,000 each | uniform in 1 .. 20 |
    | `test_40`, `test_80`, `test_120` |   200 each | exactly that       |

    `length_10` has `test_20`, `test_40` and `test_60`. Another
    `keras_sam.datasets.CopyTaskConfig` can be given to `tfds.load` through
    `builder_kwargs={"config": ...}`.

    Features, all float32 and of `time = 2 * length + 1` steps, unpadded:
    `inputs` `[time, 9]` (8 bits and the delimiter), `targets` `[time, 8]` and
    `sample_weight` `[time]` (1 in the recall); see
    `keras_sam.tasks.copy_sequences`. With `as_supervised=True` an example is the
    triple `(inputs, targets, sample_weight)` of `model.fit`.

    Sequences differ in length: pad them when batching. Padding each batch to
    the longest sequence of the data set keeps shapes static, so that a compiled
    model compiles once; a padded step has a weight of 0.

    ```python
    import keras_sam.datasets
    import tensorflow_datasets as tfds

    train, test = tfds.load(
        "copy_task", split=["train", "test_40"], as_supervised=True
    )
    steps = 2 * 20 + 1
    train = train.cache().shuffle(10_000).padded_batch(
        32, ((steps, 9), (steps, 8), (steps,)), drop_remainder=True
    )
    model.fit(train, validation_data=test.padded_batch(50), epochs=10)
    ```

    Reference: Graves et al. 2014, section 4.1 (https://arxiv.org/abs/1410.5401).

    Example:

    >>> import keras_sam.datasets
    >>> builder = keras_sam.datasets.CopyTask()
    >>> builder.builder_config.name
    'length_20'
    >>> builder.info.features["inputs"].shape
    (None, 9)
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    # The first configuration is the default one.
    BUILDER_CONFIGS = [
        CopyTaskConfig(
            name=f"length_{max_length}",
            description=f"Training lengths are uniform from 1 to {max_length}.",
            max_length=max_length,
        )
        for max_length in (20, 10)
    ]

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "inputs": _bit_feature((None, _BITS + 1)),
                    "targets": _bit_feature((None, _BITS)),
                    "sample_weight": _bit_feature((None,)),
                }
            ),
            supervised_keys=("inputs", "targets", "sample_weight"),
            homepage="https://arxiv.org/abs/1410.5401",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager):
        config = self.builder_config
        shortest_longest_size = {
            "train": (1, config.max_length, config.train_size),
            "validation": (1, config.max_length, config.held_out_size),
            "test": (1, config.max_length, config.held_out_size),
        }
        for factor in (2, 4, 6):
            length = factor * config.max_length
            split = f"test_{length}"
            shortest_longest_size[split] = (length, length, config.longer_size)
        return {
            split: self._generate_examples([config.max_length, index], *rest)
            for index, (split, rest) in enumerate(shortest_longest_size.items())
        }

    def _generate_examples(self, seed, shortest, longest, size):
        rng = np.random.default_rng(seed)
        lengths = rng.integers(shortest, longest + 1, size=size)
        for start in range(0, size, _SEQUENCES_PER_CALL):
            chunk = lengths[start : start + _SEQUENCES_PER_CALL]
            sequences = zip(chunk, *copy_sequences(rng, chunk, _BITS), strict=True)
            for key, (length, inputs, targets, weight) in enumerate(sequences, start):
                steps = 2 * length + 1
                yield (
                    key,
                    {
                        "inputs": inputs[:steps],
                        "targets": targets[:steps],
                        "sample_weight": weight[:steps],
                    },
                )


def _bit_feature(shape):
    # float32 goes into any model and loss without a cast; compressed, it takes
    # less room on disk than uncompressed uint8.
    return tfds.features.Tensor(
        shape=shape, dtype=np.float32, encoding=tfds.features.Encoding.ZLIB
    )
