"""The types of the constructors' arguments, and those that all classes share.

The shared ones are `**kwargs: Unpack[...]` (PEP 692). Defaults stand in `MemoryCell`,
`DNCExtensions` and `MemoryRNN`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict

import keras
import numpy as np
import tensorflow as tf

Config = dict[str, Any]
# Of the tasks: inputs, targets and sample weights; sizes that may change.
Sequences = tuple[np.ndarray, np.ndarray, np.ndarray]
Size = int | Callable[[], int]
Rng = np.random.Generator | int
Integers = Sequence[int] | np.ndarray
# What TensorFlow makes a tensor of; nested lists of numbers as well.
TensorLike = tf.Tensor | np.ndarray | Sequence[Any] | float
BatchSize = int | tf.Tensor
Shape = tuple[int | None, ...]
# Sets values at places of a tensor, as `tf.tensor_scatter_nd_update` does.
Update = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
Controller = Literal["lstm", "dense"] | Config | keras.layers.Layer
InitialMemory = Literal["constant", "random", "learned"]
InitialReadVectors = Literal["zeros", "learned"]
JitCompile = Literal["auto"] | bool
Initializer = str | Config | keras.initializers.Initializer
Regularizer = str | Config | keras.regularizers.Regularizer | None
Constraint = str | Config | keras.constraints.Constraint | None
DType = str | Config | keras.DTypePolicy | tf.DType | None


class SparseCellOptions(TypedDict, total=False):
    """What every cell takes, a sparse one too."""

    output_size: int | None
    clip_value: float | None
    kernel_initializer: Initializer
    recurrent_initializer: Initializer
    bias_initializer: Initializer
    kernel_regularizer: Regularizer
    recurrent_regularizer: Regularizer
    bias_regularizer: Regularizer
    kernel_constraint: Constraint
    recurrent_constraint: Constraint
    bias_constraint: Constraint
    dropout: float
    recurrent_dropout: float
    seed: int | None
    dtype: DType
    name: str | None
    trainable: bool
    activity_regularizer: Regularizer


class CellOptions(SparseCellOptions, total=False):
    """What a dense cell takes besides its own arguments."""

    initial_memory: InitialMemory


class LinkOptions(TypedDict, total=False):
    """What a cell that reads along links takes besides, see `DNCExtensions`."""

    key_masks: bool
    mask_min: float
    link_sharpening: bool
    bypass_dropout: float
    normalize_interface: bool


class DNCOptions(CellOptions, LinkOptions, total=False):
    """What a DNC's cell takes besides its own arguments."""


class SDNCOptions(SparseCellOptions, LinkOptions, total=False):
    """What an SDNC's cell takes besides its own arguments."""


class RNNOptions(TypedDict, total=False):
    """What a layer takes that its cell does not."""

    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool
    unroll: bool
    zero_output_for_mask: bool
    jit_compile: JitCompile


class SparseLayerOptions(SparseCellOptions, RNNOptions, total=False):
    """What the layer of a sparse cell takes besides the cell's own arguments."""


class LayerOptions(CellOptions, RNNOptions, total=False):
    """What the layer of a dense cell takes besides the cell's own arguments."""


class DNCLayerOptions(DNCOptions, RNNOptions, total=False):
    """What the layer takes besides its cell's own arguments."""


class SDNCLayerOptions(SDNCOptions, RNNOptions, total=False):
    """What the layer takes besides its cell's own arguments."""
