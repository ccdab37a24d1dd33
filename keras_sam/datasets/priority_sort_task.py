"""The priority sort task as a fixed data set, with longer test sequences."""

import dataclasses

from keras_sam.datasets.builder import Ranges, TaskBuilder, TaskConfig
from keras_sam.tasks.priority_sort import priority_sort_sequences


@dataclasses.dataclass(eq=False)
class PrioritySortTaskConfig(TaskConfig):
    """Keys and split sizes of a `PrioritySortTask`.

    Attributes:
        name: String, the name of the configuration; part of the data's path.
        keys: Integer, the vectors in a sequence. Defaults to `20`.
        train_size: Integer, sequences in `train`. Defaults to `64_000`.
        held_out_size: Integer, sequences in each of `validation` and `test`.
            Defaults to `1_000`.
        longer_size: Integer, sequences in each of the longer test splits. Defaults
            to `200`.

    Raises:
        ValueError: If a size is not a positive integer.

    Example:

    >>> import keras_sam.datasets
    >>> Config = keras_sam.datasets.PrioritySortTaskConfig
    >>> list(Config(name="small", keys=5).splits)
    ['train', 'validation', 'test', 'test_10', 'test_20', 'test_30']
    """

    keys: int = 20

    @property
    def ranges(self) -> Ranges:
        return ((self.keys, self.keys),)


class PrioritySortTask(TaskBuilder):
    """The priority sort task: the data set `priority_sort_task`.

    Sequences have 20 keys; those of `test_40`, `test_80` and `test_120`
    exactly that.

    Features, all float32 and unpadded: `inputs` `[time, 10]`, `targets`
    `[time, 8]` and `sample_weight` `[time]`; see
    `keras_sam.tasks.priority_sort_sequences`.
    With `as_supervised=True` an example is that triple, for `padded_batch` and
    `model.fit` as with `keras_sam.datasets.CopyTask`.

    Example:

    >>> import keras_sam.datasets
    >>> builder = keras_sam.datasets.PrioritySortTask()
    >>> list(builder.builder_config.splits)
    ['train', 'validation', 'test', 'test_40', 'test_80', 'test_120']
    >>> builder.info.features["inputs"].shape
    (None, 10)
    """

    BUILDER_CONFIGS = [
        PrioritySortTaskConfig(
            name="keys_20", description="The paper's: the 16 highest of 20 keys."
        )
    ]
    DESCRIPTION = """
The priority sort task of the Neural Turing Machine paper: read random 8-bit vectors,
each with a priority, then write four fifths of them out, the highest priority first.

Every split is made on this machine from its own fixed seed, with no download.
"""
    WIDTHS = (10, 8)
    sequences = staticmethod(priority_sort_sequences)
