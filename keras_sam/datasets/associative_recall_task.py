"""The associative recall task as a fixed data set, with longer test sequences."""

import dataclasses

from keras_sam.datasets.builder import Ranges, TaskBuilder, TaskConfig
from keras_sam.tasks.associative_recall import associative_recall_sequences


@dataclasses.dataclass(eq=False)
class AssociativeRecallTaskConfig(TaskConfig):
    """Items and split sizes of an `AssociativeRecallTask`.

    Attributes:
        name: String, the name of the configuration; part of the data's path.
        max_items: Integer, the most items in a sequence. Defaults to `6`.
        train_size: Integer, sequences in `train`. Defaults to `64_000`.
        held_out_size: Integer, sequences in each of `validation` and `test`.
            Defaults to `1_000`.
        longer_size: Integer, sequences in each of the longer test splits. Defaults
            to `200`.

    Raises:
        ValueError: If a size is not a positive integer, or `max_items`
            is less than 2.

    Example:

    >>> import keras_sam.datasets
    >>> Config = keras_sam.datasets.AssociativeRecallTaskConfig
    >>> list(Config(name="small", max_items=5).splits)
    ['train', 'validation', 'test', 'test_10', 'test_20', 'test_30']
    """

    max_items: int = 6

    @property
    def ranges(self) -> Ranges:
        return ((2, self.max_items),)


class AssociativeRecallTask(TaskBuilder):
    """The associative recall task: the data set `associative_recall_task`.

    Sequences have 2 to 6 items; those of `test_12`, `test_24` and `test_36`
    exactly that.

    Features, all float32 and unpadded: `inputs` `[time, 8]`, `targets`
    `[time, 6]` and `sample_weight` `[time]`; see
    `keras_sam.tasks.associative_recall_sequences`.
    With `as_supervised=True` an example is that triple, for `padded_batch` and
    `model.fit` as with `keras_sam.datasets.CopyTask`.

    Example:

    >>> import keras_sam.datasets
    >>> builder = keras_sam.datasets.AssociativeRecallTask()
    >>> list(builder.builder_config.splits)
    ['train', 'validation', 'test', 'test_12', 'test_24', 'test_36']
    >>> builder.info.features["inputs"].shape
    (None, 8)
    """

    BUILDER_CONFIGS = [
        AssociativeRecallTaskConfig(
            name="items_6", description="The paper's: 2 to 6 items."
        )
    ]
    DESCRIPTION = """
The associative recall task of the Neural Turing Machine paper: read items of three
6-bit vectors each, then one of them again, and write the item that followed it.

Every split is made on this machine from its own fixed seed, with no download.
"""
    WIDTHS = (8, 6)
    sequences = staticmethod(associative_recall_sequences)
