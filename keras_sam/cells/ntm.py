"""The Neural Turing Machine's cell."""

from typing import Any, Literal, NamedTuple, Unpack

import keras
import tensorflow as tf

from keras_sam import ops
from keras_sam.arguments import check_option, check_positive_integer
from keras_sam.cells.base import MemoryCell, Part, oneplus
from keras_sam.options import BatchSize, CellOptions, Controller, InitialReadVectors


class NTMState(NamedTuple):
    """State of an `NTMCell`; R read heads, H write heads."""

    memory: tf.Tensor  # [batch, N, W]
    read_weights: tf.Tensor  # [batch, R, N]
    write_weights: tf.Tensor  # [batch, H, N]
    read_vectors: tf.Tensor  # [batch, R, W]
    controller: Any  # the controller's own states


@keras.saving.register_keras_serializable(package="keras_sam")
class NTMCell(MemoryCell):
    """Neural Turing Machine's RNN cell.

    For `keras.layers.RNN`; `keras_sam.NTM` is the layer.

    At each step every head makes a weighting over the N slots of the memory, from
    the interface vector that the controller sends it, by

        w_c = softmax(beta * cosine(key, memory))        content
        w_g = g * w_c + (1 - g) * w_{t-1}                interpolation
        w~  = circular convolution of w_g with s         shift
        w   = w~ ^ gamma / sum(w~ ^ gamma)               sharpening

    (equations 5 to 9 of [Graves et al., 2014](https://arxiv.org/abs/1410.5401)),
    with `beta` from a softplus, `g` from a sigmoid, `s` from a softmax and `gamma`
    from 1 + softplus. The write heads address the memory first, erase
    and add, `M = M (1 - w e) + w a`; the read heads then read from what was written,
    `r = sum_i w[i] M[i]`. The output is a linear function of the controller's
    output and of these read vectors.

    Parameters of the copy task's model (9 inputs, 8 outputs, 100 units, 128 x 20,
    one read and one write head, LSTM controller):

        LSTM controller      4 * 100 * (9 + 20 + 100 + 1)        52,000
        interface            (100 + 1) * (2 * (20 + 1 + 1 + 3 + 1)
                             + 20 + 20)                           9,292
        output               (100 + 20 + 1) * 8                     968
        initial read vector  20                                      20
        initial weightings   2 * 128                                256
        in all                                                   62,536

    (a head takes a key of 20, a strength, a gate, 3 shifts and a gamma; the write
    head also erase and add, 20 each).

    Args:
        units: Integer, the size of the controller.
        memory_slots: Integer N, the number of words. Defaults to `128`.
        word_size: Integer W, the numbers in a word. Defaults to `20`.
        read_heads: Integer R. Defaults to `1`.
        write_heads: Integer. Defaults to `1`.
        controller: `"lstm"`, `"dense"` (feed-forward, tanh) or any Keras RNN cell,
            such as `keras.layers.GRUCell(100)`, whose size is then its own; `units`
            is the width of the output. Defaults to `"lstm"`.
        shift_range: Integer, the farthest that a head can move in one step, either
            way. Defaults to `1`.
        initial_addressing: Where the heads point before the first step: `"learned"`,
            starting from the first slot (ties the weights to `memory_slots`), or
            `"first_slot"`. Defaults to `"learned"`.
        output_size: Integer, the width of the output. Defaults to `None`: `units`.
        clip_value: Positive number; interface vector and output are clipped to
            `[-clip_value, clip_value]`. `None` for no clipping. Defaults to `20.0`.
        initial_memory: What the memory holds at the start of a sequence:
            `"constant"`, 1e-6 everywhere; `"random"`, normal numbers (standard
            deviation 0.5) drawn once and saved with the weights; `"learned"`, the
            same, but trained. Defaults to `"constant"`. The other two tie the
            weights to `memory_slots`.
        initial_read_vectors: `"zeros"` or `"learned"`: the read vectors that the
            controller sees at the first step. Defaults to `"learned"`.
        kernel_initializer, recurrent_initializer, bias_initializer: Initializers of
            the controller, the interface and the output. Default to
            `"glorot_uniform"`, `"orthogonal"` and `"zeros"`.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Their
            regularizers. Default to `None`.
        kernel_constraint, recurrent_constraint, bias_constraint: Their constraints.
            Default to `None`.
        dropout: Fraction of the controller's inputs to drop, in `[0, 1)`. Defaults
            to `0.0`.
        recurrent_dropout: Fraction of an LSTM controller's recurrent state to drop,
            in `[0, 1)`. Defaults to `0.0`.
        seed: Integer seed of dropout and of a random memory. Defaults to `None`.

    Call arguments:
        inputs: Tensor `[batch, features]`, one time step.
        states: List of tensors as `get_initial_state` or the step before returns.
        training: Boolean, whether dropout is active.

    Returns:
        The output `[batch, output_size]` and the list of new states.

    Raises:
        ValueError: If a size is not a positive integer, an option is unknown,
            `shift_range` reaches more than once round the memory, or the
            dtype is a half precision.

    The state has the fields `memory` `[batch, N, W]`, `read_weights` and
    `write_weights` `[batch, heads, N]`, `read_vectors` `[batch, R, W]` and
    `controller`; a trace also has `read_strengths` and `write_strengths`, of all heads
    (read heads first) `gates`, `shifts` and `sharpening`, and `erase` and `add`.

    Example:

    >>> cell = keras_sam.NTMCell(16, memory_slots=32, word_size=8)
    >>> states = cell.get_initial_state(batch_size=2)
    >>> output, states = cell(np.ones((2, 3), "float32"), states)
    >>> output.shape
    TensorShape([2, 16])
    >>> cell.unpack_state(states).memory.shape
    TensorShape([2, 32, 8])
    """

    State = NTMState

    def __init__(
        self,
        units: int,
        memory_slots: int = 128,
        word_size: int = 20,
        read_heads: int = 1,
        write_heads: int = 1,
        controller: Controller = "lstm",
        shift_range: int = 1,
        initial_addressing: Literal["learned", "first_slot"] = "learned",
        initial_read_vectors: InitialReadVectors = "learned",
        **kwargs: Unpack[CellOptions],
    ) -> None:
        self.write_heads = check_positive_integer("write_heads", write_heads)
        self.shift_range = check_positive_integer("shift_range", shift_range, 0)
        self.initial_addressing = check_option(
            "initial_addressing", initial_addressing, ("learned", "first_slot")
        )
        super().__init__(
            units,
            memory_slots,
            word_size,
            read_heads,
            controller,
            initial_read_vectors=initial_read_vectors,
            **kwargs,
        )
        if 2 * self.shift_range + 1 > self.memory_slots:
            raise ValueError(
                "`shift_range` must be smaller than half the memory: expected "
                "2 * shift_range + 1 <= memory_slots. Received: "
                f"shift_range={self.shift_range}, memory_slots={self.memory_slots}"
            )

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            "memory": (self.memory_slots, self.word_size),
            "read_weights": (self.read_heads, self.memory_slots),
            "write_weights": (self.write_heads, self.memory_slots),
            "read_vectors": (self.read_heads, self.word_size),
        }

    @property
    def interface_parts(self) -> dict[str, Part]:
        heads, words = self.read_heads + self.write_heads, self.word_size
        return {
            "keys": Part((heads, words), tf.tanh),
            "strengths": Part((heads,), tf.nn.softplus),
            "gates": Part((heads,), tf.sigmoid),
            "shifts": Part((heads, 2 * self.shift_range + 1), tf.nn.softmax),
            "sharpening": Part((heads,), oneplus),
            "erase": Part((self.write_heads, words), tf.sigmoid),
            "add": Part((self.write_heads, words), tf.tanh),
        }

    def _build_initial_weights(self):
        if not self._initial_weights_built and self.initial_addressing == "learned":
            self.initial_read_logits = self.add_weight(
                shape=(self.read_heads, self.memory_slots),
                name="initial_read_weights",
                initializer=first_slot_logits,
            )
            self.initial_write_logits = self.add_weight(
                shape=(self.write_heads, self.memory_slots),
                name="initial_write_weights",
                initializer=first_slot_logits,
            )
        super()._build_initial_weights()

    def initial_fields(
        self, batch_size: BatchSize, given_memory: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        if self.initial_addressing == "learned":
            read_weights = tf.nn.softmax(self.initial_read_logits)
            write_weights = tf.nn.softmax(self.initial_write_logits)
        else:
            first_slot = tf.one_hot(0, self.memory_slots, dtype=self.compute_dtype)
            read_weights = tf.tile(first_slot[tf.newaxis], (self.read_heads, 1))
            write_weights = tf.tile(first_slot[tf.newaxis], (self.write_heads, 1))
        return {
            **super().initial_fields(batch_size, given_memory),
            "read_weights": self._for_each(batch_size, read_weights),
            "write_weights": self._for_each(batch_size, write_weights),
        }

    def access(
        self, interface: tf.Tensor, state: NTMState
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        reads = self.read_heads
        parts = self.activate_interface(interface).values()
        keys, strengths, gates, shifts, sharpening, erase, add = parts

        def address(memory, previous_weights, which):
            weights = ops.content_weights(memory, keys[:, which], strengths[:, which])
            weights = ops.interpolate(weights, previous_weights, gates[:, which])
            weights = ops.circular_shift(weights, shifts[:, which])
            return ops.sharpen(weights, sharpening[:, which])

        write_weights = address(state.memory, state.write_weights, slice(reads, None))
        memory = ops.erase_and_add(state.memory, write_weights, erase, add)
        read_weights = address(memory, state.read_weights, slice(reads))
        fields = {
            "memory": memory,
            "read_weights": read_weights,
            "write_weights": write_weights,
            "read_vectors": ops.read(memory, read_weights),
        }
        return fields, {
            "read_strengths": strengths[:, :reads],
            "write_strengths": strengths[:, reads:],
            "gates": gates,
            "shifts": shifts,
            "sharpening": sharpening,
            "erase": erase,
            "add": add,
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "write_heads": self.write_heads,
            "shift_range": self.shift_range,
            "initial_addressing": self.initial_addressing,
        }


def first_slot_logits(shape, dtype=None):
    """Logits of weightings that lie on the first slot, nearly all of them."""
    return 10.0 * tf.one_hot(tf.zeros(shape[:-1], "int32"), shape[-1], dtype=dtype)
