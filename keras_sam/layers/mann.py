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
        return_sequences: Boolean, whether to return the output of every step
            or of the last one. Defaults to `False`.
        return_state: Boolean, whether to return the last state as well.
            Defaults to `False`.
        go_backwards: Boolean, whether to go through the sequence from its end.
            Defaults to `False`.
        stateful: Boolean, whether row i of a batch continues row i of the batch
            before; `reset_state()` starts again. A file of the model does not hold
            the stream: a loaded model starts again too, unless its `states` are
            restored, as the docstring of `reset_state` shows. Defaults to `False`.
        unroll: Boolean, whether to unroll the loop; for short sequences only.
            Defaults to `False`.
        zero_output_for_mask: Boolean, whether the output of a masked step is 0
            instead of the output before it. Defaults to `False`.
        jit_compile: `"auto"`, `True` or `False`: whether the layer compiles its
            own sequence with XLA. `"auto"` leaves it to the model
            (`model.compile(jit_compile=True)`). Defaults to `"auto"`.

    Call arguments:
        sequences: Tensor `[batch, time, features]`.
        initial_state: List of tensors as `get_initial_state` returns. Defaults to
            the cell's initial state.
        mask: Boolean tensor `[batch, time]`; a step where it is `False` changes
            neither the memory nor the output.
        training: Boolean, whether dropout is active.

    Returns:
        The outputs `[batch, time, output_size]` with `return_sequences`, else the
        last one, `[batch, output_size]`; with `return_state`, followed by the
        tensors of the last state (`layer.cell.unpack_state` names them).

    Example:

    >>> layer = keras_sam.MANN(100, memory_slots=64, output_size=8)
    >>> layer(np.zeros((2, 5, 9), "float32")).shape
    TensorShape([2, 8])
    >>> trace = layer.trace(np.zeros((2, 5, 9)))
    >>> trace["least_used_slots"].shape  # [batch, time, heads]
    TensorShape([2, 5, 4])
    """

    cell_class = MANNCell
