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

from keras_sam.datasets.copy_task import CopyTask, CopyTaskConfig

__all__ = ["CopyTask", "CopyTaskConfig"]
