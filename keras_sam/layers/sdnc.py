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
        unroll: Boolean, whether to unroll the loop, which then is that of
            `keras.layers.RNN`, not compiled. Defaults to `False`.
        zero_output_for_mask: Boolean, whether the output of a masked step is 0
            instead of the output before it. Defaults to `False`.
        jit_compile: `"auto"`, `True` or `False`. With `"auto"` or `True` the sequence
            is compiled as above, which with `"auto"` depends on the index; else the
            same program runs in TensorFlow's graph, at some ten times the time, the
            memory in place too. Defaults to `"auto"`.

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
