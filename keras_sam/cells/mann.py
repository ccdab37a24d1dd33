"""The cell of a Memory-Augmented Neural Network: Least Recently Used Access."""

from typing import Any, Unpack

import keras
import tensorflow as tf

from keras_sam.arguments import check_rate
from keras_sam.cells.base import Part
from keras_sam.cells.usage import UsageMemory, UsageState, least_used_slots
from keras_sam.options import CellOptions, Controller, InitialReadVectors


@keras.saving.register_keras_serializable(package="keras_sam")
class MANNCell(UsageMemory):
    """RNN cell of a Memory-Augmented Neural Network (MANN).

    For `keras.layers.RNN`; `keras_sam.MANN` is the layer.

    The cell of [Santoro et al., 2016](https://arxiv.org/abs/1605.06065) addresses by
    content alone, and writes to the words that were just read or to the least used
    ones: Least Recently Used Access (LRUA). For each of R heads with the key k

        w_w = sigmoid(a) w_r + (1 - sigmoid(a)) w_lu     write weights, equation 7
        M   = M, the least used slot set to 0
        M   = M + w_w k^T                                write, equation 8
        w_r = softmax(cosine(k, M))                      read weights, equations 2, 3
        r   = sum_i w_r[i] M[i]                          read vector, equation 4
        u   = gamma u + sum_heads (w_r + w_w)            usage, equation 5
        w_lu[i] = 1 if u[i] is one of the R least        equation 6

    where w_r and w_lu on the right of the first line are those of the step before, and
    gamma is `usage_decay`. The key that is written is the key that is looked up.

    The paper's w_lu is 1 at all R least used slots, for every head: each head writes
    its key to all of them. Here each head has one of them, the least used one for the
    first head, so that different keys get different words. With one head that is the
    paper's. All R are set to 0 before any head writes. Of equally used slots the lowest
    number comes first, see `keras_sam.DAMCell`. Gradients flow through words and
    weights, not through the usage. The softmax has no strength, as in the paper.

    Args:
        units: Integer, the size of the controller. The paper's is 200.
        memory_slots: Integer N, the number of words. Defaults to `128`.
        word_size: Integer W, the numbers in a word. Defaults to `40`.
        read_heads: Integer R, at most N. Defaults to `4`.
        usage_decay: Number in `[0, 1)`, the gamma above. Defaults to `0.99`.
        controller: `"lstm"`, `"dense"` (feed-forward, tanh) or any Keras RNN cell,
            such as `keras.layers.GRUCell(100)`, whose size is then its own; `units`
            is the width of the output. Defaults to `"lstm"`.
        initial_read_vectors: `"zeros"` or `"learned"`: the read vectors that the
            controller sees at the first step. Defaults to `"zeros"`.
        **kwargs: The arguments that `keras_sam.DNCCell` has from `output_size` on.

    Call arguments:
        inputs: Tensor `[batch, features]`, one time step.
        states: List of tensors as `get_initial_state` or the step before returns.
        training: Boolean, whether dropout is active.

    Returns:
        The output `[batch, output_size]` and the list of new states.

    Raises:
        ValueError: If a size is not a positive integer, `read_heads` exceeds N, an
            option is unknown, `usage_decay` is not in `[0, 1)`, or the dtype is a half
            precision.

    The state has the fields `memory` `[batch, N, W]`, `usage` `[batch, N]` (1 for the
    rows given to `get_initial_state(memory=)`, so that the others are written first),
    `read_weights` `[batch, R, N]`, `read_vectors` `[batch, R, W]` and `controller`; a
    trace also has `least_used_slots` `[batch, R]` (those just erased), `write_weights`
    `[batch, R, N]` and `interpolation_gates` `[batch, R]`, sigmoid(a).

    Example:

    >>> cell = keras_sam.MANNCell(16, memory_slots=32, word_size=8)
    >>> states = cell.get_initial_state(batch_size=2)
    >>> output, states = cell(np.ones((2, 3), "float32"), states)
    >>> output.shape
    TensorShape([2, 16])
    >>> cell.unpack_state(states).read_weights.shape
    TensorShape([2, 4, 32])
    """

    def __init__(
        self,
        units: int,
        memory_slots: int = 128,
        word_size: int = 40,
        read_heads: int = 4,
        usage_decay: float = 0.99,
        controller: Controller = "lstm",
        initial_read_vectors: InitialReadVectors = "zeros",
        **kwargs: Unpack[CellOptions],
    ) -> None:
        self.usage_decay = check_rate("usage_decay", usage_decay)
        super().__init__(
            units,
            memory_slots,
            word_size,
            read_heads,
            controller,
            initial_read_vectors=initial_read_vectors,
            **kwargs,
        )
        if self.read_heads > self.memory_slots:
            raise ValueError(
                "`read_heads` must be at most `memory_slots`: each writes to a slot of "
                f"its own. Received: read_heads={self.read_heads}, "
                f"memory_slots={self.memory_slots}"
            )

    @property
    def interface_parts(self) -> dict[str, Part]:
        return {
            "keys": Part((self.read_heads, self.word_size)),
            "interpolation_gates": Part((self.read_heads,), tf.sigmoid),
        }

    @property
    def usage_discount(self) -> float:
        return self.usage_decay

    def access(
        self, interface: tf.Tensor, state: UsageState
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        keys, gates = self.activate_interface(interface).values()

        slots = least_used_slots(state.usage, self.read_heads)
        least_used = tf.one_hot(slots, self.memory_slots, dtype=self.compute_dtype)
        share = gates[..., tf.newaxis]
        write_weights = share * state.read_weights + (1.0 - share) * least_used
        fields = self.write_and_read(
            state, least_used, write_weights, keys, keys, tf.ones_like(gates)
        )
        return fields, {
            "least_used_slots": slots,
            "write_weights": write_weights,
            "interpolation_gates": gates,
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "usage_decay": self.usage_decay}
