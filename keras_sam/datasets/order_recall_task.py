"""The order recall task as a fixed data set, with longer test sequences."""

import dataclasses

from keras_sam.datasets.builder import Ranges, TaskBuilder, TaskConfig
from keras_sam.tasks.order_recall import order_recall_sequences


@dataclasses.dataclass(eq=False)
class OrderRecallTaskConfig(TaskConfig):
    """Items and split sizes of an `OrderRecallTask`.

    Attributes:
        name: String, the name of the configuration; part of the data's path.
        max_items: Integer, the most items in a sequence. Defaults to `20`.
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
    >>> Config = keras_sam.datasets.OrderRecallTaskConfig
    >>> list(Config(name="small", max_items=5).splits)
    ['train', 'validation', 'test', 'test_10', 'test_20', 'test_30']
    """

    max_items: int = 20

    @property
    def ranges(self) -> Ranges:
        return ((2, self.max_items),)


class OrderRecallTask(TaskBuilder):
    """The order recall task: the data set `order_recall_task`.

    Sequences have 2 to 20 items; those of `test_40`, `test_80` and `test_120`
    exactly that.

    Features, all float32 and unpadded: `inputs` `[time, 9]`, `targets`
    `[time, 8]` and `sample_weight` `[time]`; see
    `keras_sam.tasks.order_recall_sequences`.
    With `as_supervised=True` an example is that triple, for `padded_batch` and
    `model.fit` as with `keras_sam.datasets.CopyTask`.

    Example:

    >>> import keras_sam.datasets
    >>> builder = keras_sam.datasets.OrderRecallTask()
    >>> list(builder.builder_config.splits)
    ['train', 'validation', 'test', 'test_40', 'test_80', 'test_120']
    >>> builder.info.features["inputs"].shape
    (None, 9)
    """

    BUILDER_CONFIGS = [
        OrderRecallTaskConfig(name="items_20", description="2 to 20 items.")
    ]
    DESCRIPTION = """
The order recall task: read random 8-bit items, then one of them again, and write all
items that followed it, in order.

Every split is made on this machine from its own fixed seed, with no download.
"""
    CITATION, HOMEPAGE = "", None  # No paper has it in this form.
    WIDTHS = (9, 8)
    sequences = staticmethod(order_recall_sequences)
