"""Models with memory layers outside of Keras: SavedModels and LiteRT."""

from keras_sam.export.saved_model import export_saved_model, prefill
from keras_sam.litert import builtin_ops

__all__ = ["builtin_ops", "export_saved_model", "prefill"]
