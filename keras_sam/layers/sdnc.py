"""The Sparse Differentiable Neural Computer as a layer."""

import keras

from keras_sam.cells.sdnc import SDNCCell
from keras_sam.layers.sam import SAM


@keras.saving.register_keras_serializable(package="keras_sam")
class SDNC(SAM):
    """Sparse Differentiable Neural Computer (SDNC) layer.

    A `keras_sam.SDNCCell`, whose docstring has the equations, over whole sequences, in
    the same program as `keras_sam.SAM`: memory and links stay in place, so that a step
    costs the same for a thousand words and a million.

    Args:
        units, memory_slots, word_size, ...: All arguments of `keras_sam.SDNCCell`.
        unroll: Boolean, whether to unroll the loop, which then is that of
            `keras.layers.RNN`, not compiled. Defaults to `False`.
        jit_compile: `"auto"`, `True` or `False`. With `"auto"` or `True` the sequence
            is compiled as above, which with `"auto"` depends on the index; else the
            same program runs in TensorFlow's graph, at some ten times the time, the
            memory in place too. Defaults to `"auto"`.
        **kwargs: The arguments of `keras_sam.MemoryRNN`, such as `return_sequences`.

    Call arguments and results are those of `keras_sam.MemoryRNN`.

    Raises:
        ValueError: As `keras_sam.SDNCCell`; if the index or `unroll` does not go with
            `jit_compile=True`.

    Example:

    >>> layer = keras_sam.SDNC(16, memory_slots=2**16, word_size=8, output_size=3)
    >>> layer(np.ones((2, 5, 4), "float32")).shape
    TensorShape([2, 3])
    >>> trace = layer.trace(np.ones((2, 5, 4)))
    >>> trace["read_modes"].shape  # [batch, time, heads]: backward, content, forward
    TensorShape([2, 5, 4, 3])
    """

    cell_class = SDNCCell
