"""The Differentiable Neural Computer's cell."""

from typing import Any, NamedTuple, Unpack

import keras
import tensorflow as tf

from keras_sam import ops
from keras_sam.arguments import check_boolean
from keras_sam.cells.base import Part, oneplus
from keras_sam.cells.extensions import LINK_EPSILON, DNCExtensions
from keras_sam.options import (
    BatchSize,
    Controller,
    DNCOptions,
    InitialReadVectors,
    TensorLike,
)


class DNCState(NamedTuple):
    """State of a `DNCCell`; R read heads."""

    memory: tf.Tensor  # [batch, N, W]
    usage: tf.Tensor  # [batch, N]
    link: tf.Tensor  # [batch, N, N]
    precedence: tf.Tensor  # [batch, N]
    write_weights: tf.Tensor  # [batch, N]
    read_weights: tf.Tensor  # [batch, R, N]
    read_vectors: tf.Tensor  # [batch, R, W]
    controller: Any  # the controller's own states


@keras.saving.register_keras_serializable(package="keras_sam")
class DNCCell(DNCExtensions):
    """Differentiable Neural Computer's RNN cell.

    For `keras.layers.RNN`; `keras_sam.DNC` is the layer.

    The cell of [Graves et al., 2016](https://doi.org/10.1038/nature20101) writes by
    content or to the least used slot, and reads by content or along the links that
    remember in which order the slots were written:

        u   = (u + w_w - u w_w) * prod_r (1 - f_r w_r)          usage
        a   = allocation_weights(u)                             free slots
        w_w = g_w (g_a a + (1 - g_a) C(M, k_w, b_w))            write weighting
        M   = M (1 - w_w e) + w_w v                             write
        L   = (1 - w_w[i] - w_w[j]) L[i, j] + w_w[i] p[j]       links
        p   = (1 - sum w_w) p + w_w                             precedence
        w_r = pi_1 L' w_r + pi_2 C(M, k_r, b_r) + pi_3 L w_r    read weightings
        r   = sum_i w_r[i] M[i]                                 read vectors

    The weightings on the right of the usage and of the read weightings are those of
    the step before. Free gates f, allocation gate g_a, write gate g_w and erase vector
    e come from sigmoids, strengths b from oneplus (1 + softplus), the read modes pi
    from a softmax. Gradients flow through all of it; only the order in which slots
    are allocated counts as constant. The output is a linear function of the
    controller's output and of the read vectors. No weight depends on N.

    Args:
        units: Integer, the size of the controller.
        memory_slots: Integer N, the number of words. Defaults to `128`.
        word_size: Integer W, the numbers in a word. Defaults to `20`.
        read_heads: Integer R. Defaults to `4`.
        controller: `"lstm"`, `"dense"` (feed-forward, tanh) or any Keras RNN cell,
            such as `keras.layers.GRUCell(100)`, whose size is then its own; `units`
            is the width of the output. Defaults to `"lstm"`.
        key_masks: Boolean, whether each key comes with a mask (a sigmoid) that says
            which numbers of the words to compare. Defaults to `False`. This and the
            next three are the repairs of [Csordás & Schmidhuber, 2019](
            https://arxiv.org/abs/1904.10278).
        mask_min: The least value of a mask, in `[0, 1)`. Defaults to `0.0`.
        deallocate: Boolean, whether a freed slot loses its content as well:
            `M = M psi (1 - w_w e) + w_w v` with the retention psi. Defaults to
            `False`.
        link_sharpening: Boolean, whether the weightings found along the links are
            raised to a learned power and normalised. Defaults to `False`.
        link_gradients: Boolean, whether gradients flow through the links. Defaults
            to `True`, as in the paper.
        bypass_dropout: Fraction of the controller's output to drop on its way past
            the memory to the output, in `[0, 1)`; it makes the network use its
            memory ([Franke et al., 2018](https://arxiv.org/abs/1807.02658)).
            Defaults to `0.0`.
        normalize_interface: Boolean, whether the interface vector is normalised by
            a `keras.layers.LayerNormalization` (Franke et al.). Defaults to `False`.
        output_size: Integer, the width of the output. Defaults to `None`: `units`.
        clip_value: Positive number; interface vector and output are clipped to
            `[-clip_value, clip_value]`. `None` for no clipping. The strengths of reads
            end there, too: with thousands of words in use, set 50 or more, so that
            the word that is most alike can stand out. Defaults to `20.0`.
        initial_memory: What the memory holds at the start of a sequence:
            `"constant"`, 1e-6 everywhere; `"random"`, normal numbers (standard
            deviation 0.5) drawn once and saved with the weights; `"learned"`, the
            same, but trained. Defaults to `"constant"`. The other two tie the
            weights to `memory_slots`.
        initial_read_vectors: `"zeros"` or `"learned"`: the read vectors that the
            controller sees at the first step. Defaults to `"zeros"`.
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
        ValueError: If a size is not a positive integer, an option is unknown, or the
            dtype is a half precision.

    The state has the fields `memory` `[batch, N, W]`, `usage`, `precedence` and
    `write_weights` `[batch, N]`, `link` `[batch, N, N]`, `read_weights`
    `[batch, R, N]`, `read_vectors` `[batch, R, W]` and `controller`; a trace also has
    `free_gates`, `allocation_gate`, `write_gate`, `read_modes` (backward, content,
    forward), `read_strengths`, `write_strength`, `erase` and `write_vector`.

    Example:

    >>> cell = keras_sam.DNCCell(16, memory_slots=32, word_size=8, read_heads=2)
    >>> states = cell.get_initial_state(batch_size=2)
    >>> output, states = cell(np.ones((2, 3), "float32"), states)
    >>> output.shape
    TensorShape([2, 16])
    >>> cell.unpack_state(states).link.shape
    TensorShape([2, 32, 32])
    """

    State = DNCState

    def __init__(
        self,
        units: int,
        memory_slots: int = 128,
        word_size: int = 20,
        read_heads: int = 4,
        controller: Controller = "lstm",
        deallocate: bool = False,
        link_gradients: bool = True,
        initial_read_vectors: InitialReadVectors = "zeros",
        **kwargs: Unpack[DNCOptions],
    ) -> None:
        self.deallocate = check_boolean("deallocate", deallocate)
        self.link_gradients = check_boolean("link_gradients", link_gradients)
        super().__init__(
            units,
            memory_slots,
            word_size,
            read_heads,
            controller,
            initial_read_vectors=initial_read_vectors,
            **kwargs,
        )

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        slots = self.memory_slots
        return {
            "memory": (slots, self.word_size),
            "usage": (slots,),
            "link": (slots, slots),
            "precedence": (slots,),
            "write_weights": (slots,),
            "read_weights": (self.read_heads, slots),
            "read_vectors": (self.read_heads, self.word_size),
        }

    @property
    def interface_parts(self) -> dict[str, Part]:
        # In the paper's order.
        words, heads = self.word_size, self.read_heads
        parts = {
            "read_keys": Part((heads, words)),
            "read_strengths": Part((heads,), oneplus),
            "write_key": Part((1, words)),
            "write_strength": Part((1,), oneplus),
            "erase": Part((words,), tf.sigmoid),
            "write_vector": Part((words,)),
            "free_gates": Part((heads,), tf.sigmoid),
            "allocation_gate": Part((1,), tf.sigmoid),
            "write_gate": Part((1,), tf.sigmoid),
            "read_modes": Part((heads, 3), tf.nn.softmax),
        }
        if self.key_masks:
            parts["read_masks"] = Part((heads, words), self.mask)
            parts["write_mask"] = Part((1, words), self.mask)
        if self.link_sharpening:
            parts["forward_sharpness"] = Part((heads,), oneplus)
            parts["backward_sharpness"] = Part((heads,), oneplus)
        return parts

    def initial_fields(
        self, batch_size: BatchSize, given_memory: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        fields = super().initial_fields(batch_size, given_memory)
        given_rows = 0 if given_memory is None else given_memory.shape[1]
        for name, shape in self.state_shapes.items():
            if name not in fields:
                fields[name] = tf.zeros((batch_size, *shape), self.compute_dtype)
        # Given rows are in use, or the first writes would overwrite them.
        usage = tf.cast(tf.range(self.memory_slots) < given_rows, self.compute_dtype)
        fields["usage"] = self._for_each(batch_size, usage)
        return fields

    def access(
        self, interface: tf.Tensor, state: DNCState
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        parts = self.activate_interface(interface)

        # Write where there is room, or where the memory is like the write key.
        usage = ops.usage_after_write(state.usage, state.write_weights)
        retention = ops.retention(parts["free_gates"], state.read_weights)
        usage = usage * retention
        write_content = ops.content_weights(
            state.memory,
            parts["write_key"],
            parts["write_strength"],
            parts.get("write_mask"),
        )[:, 0]
        write_weights = parts["write_gate"] * (
            parts["allocation_gate"] * ops.allocation_weights(usage)
            + (1.0 - parts["allocation_gate"]) * write_content
        )
        memory = state.memory
        if self.deallocate:
            memory = memory * retention[..., tf.newaxis]
        memory = ops.erase_and_add(
            memory,
            write_weights[:, tf.newaxis],
            parts["erase"][:, tf.newaxis],
            parts["write_vector"][:, tf.newaxis],
        )

        # Remember in which order.
        link = ops.update_link(state.link, state.precedence, write_weights)
        if not self.link_gradients:
            link = tf.stop_gradient(link)
        precedence = ops.update_precedence(state.precedence, write_weights)

        read_weights = self._read_weights(parts, memory, link, state.read_weights)
        fields = {
            "memory": memory,
            "usage": usage,
            "link": link,
            "precedence": precedence,
            "write_weights": write_weights,
            "read_weights": read_weights,
            "read_vectors": ops.read(memory, read_weights),
        }
        return fields, {
            name: parts[name]
            for name in (
                "free_gates",
                "allocation_gate",
                "write_gate",
                "read_modes",
                "read_strengths",
                "write_strength",
                "erase",
                "write_vector",
            )
        }

    def _read_weights(self, parts, memory, link, old_weights):
        """By content, or along the links from where was read before."""
        backward = ops.directional_weights(link, old_weights, forward=False)
        forward = ops.directional_weights(link, old_weights, forward=True)
        if self.link_sharpening:
            backward = ops.sharpen(backward, parts["backward_sharpness"], LINK_EPSILON)
            forward = ops.sharpen(forward, parts["forward_sharpness"], LINK_EPSILON)
        content = ops.content_weights(
            memory, parts["read_keys"], parts["read_strengths"], parts.get("read_masks")
        )
        modes = parts["read_modes"]
        return (
            modes[..., 0:1] * backward
            + modes[..., 1:2] * content
            + modes[..., 2:3] * forward
        )

    def links_among(self, state: DNCState, slots: TensorLike) -> tf.Tensor:
        """The links between some slots: how much each was written right after another.

        Args:
            state: A `DNCState`, as `unpack_state` returns it.
            slots: Integers `[S]`, different ones.

        Returns:
            Tensor `[batch, S, S]`, from the column's slot to the row's.
        """
        return tf.gather(tf.gather(state.link, slots, axis=1), slots, axis=2)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "deallocate": self.deallocate,
            "link_gradients": self.link_gradients,
        }
