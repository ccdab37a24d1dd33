"""The cell of Dense Access Memory, the dense twin of Sparse Access Memory."""

from typing import Any, Unpack

import keras
import tensorflow as tf

from keras_sam.arguments import is_number
from keras_sam.cells.access import AccessCell
from keras_sam.cells.usage import UsageMemory, UsageState, least_used_slots
from keras_sam.options import CellOptions, Controller, InitialReadVectors


@keras.saving.register_keras_serializable(package="keras_sam")
class DAMCell(UsageMemory, AccessCell):
    """RNN cell of Dense Access Memory (DAM), the dense twin of SAM.

    For `keras.layers.RNN`; `keras_sam.DAM` is the layer.

    The cell of [Rae et al., 2016](https://arxiv.org/abs/1610.09027), section 3.2,
    writes like `keras_sam.SAMCell`, to the slots just read and to one that the memory
    can do without, but reads all N words:

        w_w = alpha (gamma w_r + (1 - gamma) I_U)        write weights, equation 5
        I_U = 1 at the slot of the least U, else 0       equation 6
        M   = (1 - I_U 1^T) M + w_w a^T                  erase and write, equation 3
        w_r = softmax(b cosine(q, M))                    read weights, equation 2
        r   = sum_i w_r[i] M[i]                          read vector, equation 1
        U   = lambda U + w_w + w_r                       usage U^(1)

    where w_r and U on the right of the first two lines are those of the step before,
    the write gate alpha and the interpolation gate gamma come from sigmoids, the
    strength b from oneplus (1 + softplus), and the last line sums over the heads.
    lambda is `discount`, of which the paper does not give a value.

    The least used word is erased whatever the write gate says, as in the paper. With
    `gated_erase` the erase follows the gates:

        M   = (1 - e I_U 1^T) M + w_w a^T,  e = alpha (1 - gamma)

    Of equally used slots the lowest number comes first; usages that differ by less than
    rounding may explain (2^-16 in float32, relative to 1 or to themselves) are equal.
    Gradients flow through words and weights, not through the usage and the choice of
    slots. The output is a linear function of the controller's output and of the read
    vectors. No weight depends on N.

    Args:
        units: Integer, the size of the controller.
        memory_slots: Integer N, the number of words. Defaults to `128`.
        word_size: Integer W, the numbers in a word. Defaults to `32`.
        read_heads: Integer R. Defaults to `4`.
        write_heads: Integer: 1 (one vector is written where the read heads have read,
            their weights averaged, and to the least used slot) or R (the paper's
            access heads: each with its vector, gates, its read head's weights and
            one of the R least used slots, in ascending order of usage). Defaults to
            `1`.
        discount: Number in `[0, 1]`, the lambda above: how much of its usage a slot
            keeps from step to step. Defaults to `0.99`.
        controller: `"lstm"`, `"dense"` (feed-forward, tanh) or any Keras RNN cell,
            such as `keras.layers.GRUCell(100)`, whose size is then its own; `units`
            is the width of the output. Defaults to `"lstm"`.
        initial_read_vectors: `"zeros"` or `"learned"`: the read vectors that the
            controller sees at the first step. Defaults to `"zeros"`.
        gated_erase: Boolean, whether the erase follows the gates, as above. Not in the
            paper. Defaults to `False`.
        **kwargs: The arguments that `keras_sam.DNCCell` has from `output_size` on.

    Call arguments:
        inputs: Tensor `[batch, features]`, one time step.
        states: List of tensors as `get_initial_state` or the step before returns.
        training: Boolean, whether dropout is active.

    Returns:
        The output `[batch, output_size]` and the list of new states.

    Raises:
        ValueError: If a size is not a positive integer, an option is unknown,
            `write_heads` is neither 1 nor R or exceeds N, `discount` is not in
            `[0, 1]`, or the dtype is a half precision.

    The state has the fields `memory` `[batch, N, W]`, `usage` `[batch, N]` (1 for the
    rows given to `get_initial_state(memory=)`, so that the others are written first),
    `read_weights` `[batch, R, N]`, `read_vectors` `[batch, R, W]` and `controller`; a
    trace also has `least_used_slots` `[batch, heads]` (those just erased),
    `write_weights` `[batch, heads, N]`, `write_gates`, `interpolation_gates` and
    `read_strengths`.

    Example:

    >>> cell = keras_sam.DAMCell(16, memory_slots=32, word_size=8)
    >>> states = cell.get_initial_state(batch_size=2)
    >>> output, states = cell(np.ones((2, 3), "float32"), states)
    >>> output.shape
    TensorShape([2, 16])
    >>> cell.unpack_state(states).usage.shape
    TensorShape([2, 32])
    """

    def __init__(
        self,
        units: int,
        memory_slots: int = 128,
        word_size: int = 32,
        read_heads: int = 4,
        write_heads: int = 1,
        discount: float = 0.99,
        controller: Controller = "lstm",
        initial_read_vectors: InitialReadVectors = "zeros",
        gated_erase: bool = False,
        **kwargs: Unpack[CellOptions],
    ) -> None:
        if not is_number(discount) or not 0.0 <= discount <= 1.0:
            raise ValueError(
                "`discount` must be a number in [0, 1]. "
                f"Received: discount={discount!r}"
            )
        self.discount = float(discount)
        super().__init__(
            units,
            memory_slots,
            word_size,
            read_heads,
            controller,
            write_heads=write_heads,
            initial_read_vectors=initial_read_vectors,
            gated_erase=gated_erase,
            **kwargs,
        )

    @property
    def usage_discount(self) -> float:
        return self.discount

    def access(
        self, interface: tf.Tensor, state: UsageState
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        parts = self.parse_interface(interface)

        # Write where the heads have read, and where it costs least.
        slots = least_used_slots(state.usage, self.write_heads)
        chosen = tf.one_hot(slots, self.memory_slots, dtype=self.compute_dtype)
        followed = state.read_weights
        if self.write_heads == 1:
            followed = tf.reduce_mean(followed, axis=1, keepdims=True)
        write_weights = self.gated_write_weights(parts, followed, chosen)
        erased = chosen
        if self.gated_erase:
            gates = parts.write_gates * (1.0 - parts.interpolation_gates)
            erased *= gates[..., tf.newaxis]
        fields = self.write_and_read(
            state, erased, write_weights, parts.vectors, parts.queries, parts.strengths
        )
        return fields, {
            "least_used_slots": slots,
            "write_weights": write_weights,
            **self.gates(parts),
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "discount": self.discount}
