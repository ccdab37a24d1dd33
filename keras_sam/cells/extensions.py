"""Options that later work has added to the DNC, for its sparse relative too."""

from typing import Any

import keras
import tensorflow as tf

from keras_sam.arguments import check_boolean, check_rate
from keras_sam.cells.base import MemoryCell
from keras_sam.options import Shape

# Sharpening raises link weightings to a power.
LINK_EPSILON = 1e-6


class DNCExtensions(MemoryCell):
    """Base class of the cells that read along links.

    The class takes the options, normalises the interface vector and drops what goes
    past the memory. The cell itself sees to the parts of the interface and to the reads
    that `key_masks` and `link_sharpening` ask for.

    Args:
        key_masks, mask_min, link_sharpening: See [Csordás & Schmidhuber, 2019](
            https://arxiv.org/abs/1904.10278).
        bypass_dropout, normalize_interface: See [Franke et al., 2018](
            https://arxiv.org/abs/1807.02658).
    """

    def __init__(
        self,
        *args: Any,
        key_masks: bool = False,
        mask_min: float = 0.0,
        link_sharpening: bool = False,
        bypass_dropout: float = 0.0,
        normalize_interface: bool = False,
        **kwargs: Any,
    ) -> None:
        self.key_masks = check_boolean("key_masks", key_masks)
        self.mask_min = check_rate("mask_min", mask_min)
        self.link_sharpening = check_boolean("link_sharpening", link_sharpening)
        self.bypass_dropout_rate = check_rate("bypass_dropout", bypass_dropout)
        self.normalize_interface = check_boolean(
            "normalize_interface", normalize_interface
        )
        super().__init__(*args, **kwargs)
        self.bypass_dropout = keras.layers.Dropout(
            self.bypass_dropout_rate,
            seed=self.seed,
            dtype=self.dtype_policy,
            name="bypass_dropout",
        )
        if self.normalize_interface:
            self.interface_norm = keras.layers.LayerNormalization(
                dtype=self.dtype_policy, name="interface_norm"
            )

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if self.normalize_interface:
            self.interface_norm.build((input_shape[0], self.interface_size))

    def project_interface(self, hidden: tf.Tensor) -> tf.Tensor:
        interface = super().project_interface(hidden)
        if self.normalize_interface:
            interface = self.interface_norm(interface)
        return interface

    def interface_kernel(self) -> tf.Tensor:
        kernel = super().interface_kernel()
        if self.normalize_interface:
            kernel -= tf.reduce_mean(kernel, axis=1, keepdims=True)
            kernel *= self.interface_norm.gamma
        return kernel

    def skip_connection(self, hidden: tf.Tensor) -> tf.Tensor:
        return self.bypass_dropout(hidden)

    def mask(self, values: tf.Tensor) -> tf.Tensor:
        """Masks of keys, in `[mask_min, 1]`."""
        return self.mask_min + (1.0 - self.mask_min) * tf.sigmoid(values)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "key_masks": self.key_masks,
            "mask_min": self.mask_min,
            "link_sharpening": self.link_sharpening,
            "bypass_dropout": self.bypass_dropout_rate,
            "normalize_interface": self.normalize_interface,
        }
