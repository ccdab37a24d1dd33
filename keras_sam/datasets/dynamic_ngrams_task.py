"""The dynamic n-grams task as a fixed data set, with longer test sequences."""

import dataclasses

from keras_sam.datasets.builder import Ranges, TaskBuilder, TaskConfig
from keras_sam.tasks.dynamic_ngrams import dynamic_ngrams_sequences


@dataclasses.dataclass(eq=False)
class DynamicNgramsTaskConfig(TaskConfig):
    """Length and split sizes of a `DynamicNgramsTask`.

    Attributes:
        name: String, the name of the configuration; part of the data's path.
        length: Integer, the bits in a sequence. Defaults to `200`.
        train_size: Integer, sequences in `train`. Defaults to `64_000`.
        held_out_size: Integer, sequences in each of `validation` and `test`.
            Defaults to `1_000`.
        longer_size: Integer, sequences in each of the longer test splits. Defaults
            to `200`.

    Raises:
        ValueError: If a size is not a positive integer.

    Example:

    >>> import keras_sam.datasets
    >>> Config = keras_sam.datasets.DynamicNgramsTaskConfig
    >>> list(Config(name="small", length=5).splits)
    ['train', 'validation', 'test', 'test_10', 'test_20', 'test_30']
    """

    length: int = 200

    @property
    def ranges(self) -> Ranges:
        return ((self.length, self.length),)


class DynamicNgramsTask(TaskBuilder):
    """The dynamic n-grams task: the data set `dynamic_ngrams_task`.

    Sequences have 200 bits; those of `test_400`, `test_800` and `test_1200`
    exactly that.
    `keras_sam.tasks.optimal_ngrams` gives the least possible cost of each.

    Features, all float32 and unpadded: `inputs` `[time, 1]`, `targets`
    `[time, 1]` and `sample_weight` `[time]`; see
    `keras_sam.tasks.dynamic_ngrams_sequences`.
    With `as_supervised=True` an example is that triple, for `padded_batch` and
    `model.fit` as with `keras_sam.datasets.CopyTask`.

    Example:

    >>> import keras_sam.datasets
    >>> builder = keras_sam.datasets.DynamicNgramsTask()
    >>> list(builder.builder_config.splits)
    ['train', 'validation', 'test', 'test_400', 'test_800', 'test_1200']
    >>> builder.info.features["inputs"].shape
    (None, 1)
    """

    BUILDER_CONFIGS = [
        DynamicNgramsTaskConfig(
            name="length_200", description="The paper's: 200 bits from a 6-gram source."
        )
    ]
    DESCRIPTION = """
The dynamic n-grams task of the Neural Turing Machine paper: predict the bits of a
6-gram source whose probabilities are drawn for each sequence.

Every split is made on this machine from its own fixed seed, with no download.
"""
    WIDTHS = (1, 1)
    sequences = staticmethod(dynamic_ngrams_sequences)
