"""The Memory-Augmented Neural Network as a layer."""

import keras

from keras_sam.cells.mann import MANNCell
from keras_sam.layers.base import MemoryRNN


@keras.saving.register_keras_serializable(package="keras_sam")
class MANN(MemoryRNN):
    """Memory-Augmented Neural Network (MANN) layer.

    `keras.layers.RNN` around a `keras_sam.MANNCell`, whose docstring has the equations.

    Args:
        units, memory_slots, word_size, ...: All arguments of `keras_sam.MANNCell`.
        **kwargs: The arguments of `keras_sam.MemoryRNN`, such as `return_sequences`.

    Call arguments and results are those of `keras_sam.MemoryRNN`.

    Example:

    >>> layer = keras_sam.MANN(100, memory_slots=64, output_size=8)
    >>> layer(np.zeros((2, 5, 9), "float32")).shape
    TensorShape([2, 8])
    >>> trace = layer.trace(np.zeros((2, 5, 9)))
    >>> trace["least_used_slots"].shape  # [batch, time, heads]
    TensorShape([2, 5, 4])
    """

    cell_class = MANNCell
