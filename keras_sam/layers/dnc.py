"""The Differentiable Neural Computer as a layer."""

import keras

from keras_sam.cells.dnc import DNCCell
from keras_sam.layers.base import MemoryRNN


@keras.saving.register_keras_serializable(package="keras_sam")
class DNC(MemoryRNN):
    """DOC"""

    cell_class = DNCCell
