"""The repeat copy task as a fixed data set, with longer test sequences."""

import dataclasses

from keras_sam.datasets.builder import Ranges, TaskBuilder, TaskConfig
from keras_sam.tasks.repeat_copy import repeat_copy_sequences


@dataclasses.dataclass(eq=False)
class RepeatCopyTaskConfig(TaskConfig):
    """Lengths, repeats and split sizes of a `RepeatCopyTask`.

    Attributes:
        name: String, the name of the configuration; part of the data's path.
        max_length: Integer, the most vectors in a sequence. Defaults to `10`.
        max_repeats: Integer, the most repeats. Defaults to `10`.
        train_size: Integer, sequences in `train`. Defaults to `64_000`.
        held_out_size: Integer, sequences in each of `validation` and `test`.
            Defaults to `1_000`.
        longer_size: Integer, sequences in each of the longer test splits. Defaults
            to `200`.

    Raises:
        ValueError: If a size is not a positive integer.

    Example:

    >>> import keras_sam.datasets
    >>> Config = keras_sam.datasets.RepeatCopyTaskConfig
    >>> list(Config(name="small", max_length=5).splits)
    ['train', 'validation', 'test', 'test_length_10', 'test_repeats_20']
    """

    max_length: int = 10
    max_repeats: int = 10

    @property
    def ranges(self) -> Ranges:
        return ((1, self.max_length), (1, self.max_repeats))

    @property
    def longer(self) -> dict[str, Ranges]:
        length, repeats = self.max_length, self.max_repeats
        return {
            f"test_length_{2 * length}": ((2 * length, 2 * length), (repeats, repeats)),
            f"test_repeats_{2 * repeats}": (
                (length, length),
                (2 * repeats, 2 * repeats),
            ),
        }


class RepeatCopyTask(TaskBuilder):
    """The repeat copy task: the data set `repeat_copy_task`.

    Lengths and repeats are uniform from 1 to 10; the longer splits have sequences of
    20 vectors to be written 10 times, and of 10 vectors to be written 20 times.

    Features, all float32 and unpadded: `inputs` `[time, 10]`, `targets`
    `[time, 9]` and `sample_weight` `[time]`; see
    `keras_sam.tasks.repeat_copy_sequences`.
    With `as_supervised=True` an example is that triple, for `padded_batch` and
    `model.fit` as with `keras_sam.datasets.CopyTask`.

    Example:

    >>> import keras_sam.datasets
    >>> builder = keras_sam.datasets.RepeatCopyTask()
    >>> list(builder.builder_config.splits)
    ['train', 'validation', 'test', 'test_length_20', 'test_repeats_20']
    >>> builder.info.features["inputs"].shape
    (None, 10)
    """

    BUILDER_CONFIGS = [
        RepeatCopyTaskConfig(
            name="length_10_repeats_10",
            description="The paper's: lengths and repeats 1 to 10.",
        )
    ]
    DESCRIPTION = """
The repeat copy task of the Neural Turing Machine paper: read a sequence of random
8-bit vectors and a number, then write the vectors out that many times and mark the
end.

Every split is made on this machine from its own fixed seed, with no download.
"""
    WIDTHS = (10, 9)
    sequences = staticmethod(repeat_copy_sequences)
