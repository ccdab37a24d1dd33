"""`tensorflow_datasets` builders. Importing this module registers them.

```python
import keras_sam.datasets
import tensorflow_datasets as tfds

train = tfds.load("copy_task", split="train", as_supervised=True)
```
"""

try:
    import tensorflow_datasets  # noqa: F401
except ImportError as error:
    raise ImportError(
        "keras_sam.datasets needs the package `tensorflow-datasets`, which could "
        "not be imported. Install it with `pip install tensorflow-datasets`."
    ) from error

from keras_sam.datasets.associative_recall_task import (
    AssociativeRecallTask,
    AssociativeRecallTaskConfig,
)
from keras_sam.datasets.babi import Babi, BabiConfig
from keras_sam.datasets.copy_task import CopyTask, CopyTaskConfig
from keras_sam.datasets.dynamic_ngrams_task import (
    DynamicNgramsTask,
    DynamicNgramsTaskConfig,
)
from keras_sam.datasets.omniglot import omniglot_images
from keras_sam.datasets.order_recall_task import OrderRecallTask, OrderRecallTaskConfig
from keras_sam.datasets.priority_sort_task import (
    PrioritySortTask,
    PrioritySortTaskConfig,
)
from keras_sam.datasets.repeat_copy_task import RepeatCopyTask, RepeatCopyTaskConfig

__all__ = [
    "AssociativeRecallTask",
    "AssociativeRecallTaskConfig",
    "Babi",
    "BabiConfig",
    "CopyTask",
    "CopyTaskConfig",
    "DynamicNgramsTask",
    "DynamicNgramsTaskConfig",
    "OrderRecallTask",
    "OrderRecallTaskConfig",
    "PrioritySortTask",
    "PrioritySortTaskConfig",
    "RepeatCopyTask",
    "RepeatCopyTaskConfig",
    "omniglot_images",
]
