"""Keras callbacks for models with memory layers."""

from keras_sam.callbacks.tensorboard import MemoryTensorBoard

__all__ = ["MemoryTensorBoard"]
