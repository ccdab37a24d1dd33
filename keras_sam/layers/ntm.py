"""The Neural Turing Machine as a layer."""

import keras

from keras_sam.cells.ntm import NTMCell
from keras_sam.layers.base import MemoryRNN


@keras.saving.register_keras_serializable(package="keras_sam")
class NTM(MemoryRNN):
    """DOC"""

    cell_class = NTMCell
