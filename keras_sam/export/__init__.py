"""SavedModels for serving, of models with memory layers."""

from keras_sam.export.saved_model import export_saved_model, prefill

__all__ = ["export_saved_model", "prefill"]
