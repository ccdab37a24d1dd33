"""Keras layers with an external memory that they learn to use."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ValueError(
        'keras_sam needs the Keras backend "tensorflow". Received: '
        f'keras.backend.backend()="{keras.backend.backend()}". Set the environment '
        'variable KERAS_BACKEND=tensorflow, or "backend": "tensorflow" in '
        "~/.keras/keras.json, before Keras is imported."
    )

from keras_sam import (  # noqa: E402
    callbacks,
    distribute,
    export,
    index,
    metrics,
    models,
    ops,
    tasks,
    visualize,
)
from keras_sam._version import __version__  # noqa: E402
from keras_sam.cells import (  # noqa: E402
    DAMCell,
    DNCCell,
    DNTMCell,
    MANNCell,
    MemoryCell,
    NTMCell,
    SAMCell,
    SDNCCell,
    SkipCell,
    StackRNNCell,
)
from keras_sam.export import builtin_ops, export_saved_model, prefill  # noqa: E402
from keras_sam.layers import (  # noqa: E402
    DAM,
    DNC,
    DNTM,
    MANN,
    NTM,
    SAM,
    SDNC,
    DynamicMemory,
    EndToEndMemory,
    MemoryRNN,
    RandomPositions,
    SentenceEmbedding,
    SinePositions,
    StackRNN,
    ThinkSteps,
)
from keras_sam.resize import resize_memory  # noqa: E402

__all__ = [
    "DAM",
    "DAMCell",
    "DNC",
    "DNCCell",
    "DNTM",
    "DNTMCell",
    "DynamicMemory",
    "EndToEndMemory",
    "MANN",
    "MANNCell",
    "MemoryCell",
    "MemoryRNN",
    "NTM",
    "NTMCell",
    "RandomPositions",
    "SAM",
    "SAMCell",
    "SDNC",
    "SDNCCell",
    "SentenceEmbedding",
    "SinePositions",
    "SkipCell",
    "StackRNN",
    "StackRNNCell",
    "ThinkSteps",
    "__version__",
    "builtin_ops",
    "callbacks",
    "distribute",
    "export",
    "export_saved_model",
    "index",
    "metrics",
    "models",
    "ops",
    "prefill",
    "resize_memory",
    "tasks",
    "visualize",
]
