"""The copy task as a fixed data set with held-out and longer sequences."""

import dataclasses

from keras_sam.datasets.builder import Ranges, TaskBuilder, TaskConfig
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


@dataclasses.dataclass(eq=False)
class CopyTaskConfig(TaskConfig):
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

    @property
    def ranges(self) -> Ranges:
        return ((1, self.max_length),)


class CopyTask(TaskBuilder):
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

    DESCRIPTION = _DESCRIPTION
    WIDTHS = (9, 8)
    sequences = staticmethod(copy_sequences)
    # The first configuration is the default one.
    BUILDER_CONFIGS = [
        CopyTaskConfig(
            name=f"length_{max_length}",
            description=f"Training lengths are uniform from 1 to {max_length}.",
            max_length=max_length,
        )
        for max_length in (20, 10)
    ]
