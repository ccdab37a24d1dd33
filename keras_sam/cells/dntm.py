"""The cell of a Dynamic Neural Turing Machine: addresses that are learned."""

from typing import Any, Literal, NamedTuple, Unpack

import keras
import tensorflow as tf

from keras_sam import ops
from keras_sam.arguments import check_option, check_positive_integer
from keras_sam.cells.base import MemoryCell, Part, oneplus
from keras_sam.options import (
    BatchSize,
    Controller,
    InitialReadVectors,
    SparseCellOptions,
)

# How much of a head's recent addressing a step forgets.
FORGET = 0.9


class DNTMState(NamedTuple):
    """State of a `DNTMCell`; R read heads, H write heads."""

    memory: tf.Tensor  # [batch, N, W], the address first
    recent: tf.Tensor  # [batch, R + H, N]: what each head was like of late
    read_vectors: tf.Tensor  # [batch, R, W]
    controller: Any  # the controller's own states


@keras.saving.register_keras_serializable(package="keras_sam")
class DNTMCell(MemoryCell):
    """RNN cell of a Dynamic Neural Turing Machine (D-NTM).

    For `keras.layers.RNN`; `keras_sam.DNTM` is the layer.

    In the cell of [Gulcehre et al., 2016](https://arxiv.org/abs/1607.00036) a word has
    an address that is learned with the weights, and a content that is written. A head
    with the key k compares both together. Words that it was like of late count less:

        z = beta cosine(k, [address; content])
        w = softmax(z - gamma v)            least recently used addressing
        v = 0.1 v + 0.9 z

    where v is that of the step before, beta = 1 + softplus and gamma a sigmoid. Reads
    come before the write, r = sum_i w_i m_i of the words m, and a step may have
    several of them: after each the controller runs once more on the same input and on
    what was read. Then each write head writes to the contents alone

        content = content (1 - w e) + w ReLU(c)

    with a sigmoid e. With `addressing="discrete"` w is 1 at its largest element and 0
    elsewhere. The gradient is that of the softmax (straight-through). The paper samples
    w and estimates the gradient by REINFORCE; straight-through needs no baselines and
    trains with any loss. The paper's c also sees the input directly. Here c sees the
    input through the controller.

    Args:
        units: Integer, the size of the controller.
        memory_slots: Integer N, the number of words. Defaults to `128`.
        word_size: Integer W, the numbers in a word, its address among them. Defaults
            to `40`.
        address_size: Integer below W, how many of them are the address. Defaults to
            `20`.
        read_heads: Integer R. Defaults to `1`.
        write_heads: Integer H. Defaults to `1`.
        reads_per_step: Integer, how often a step reads before it writes. The paper has
            1 and 3. Defaults to `1`.
        addressing: `"soft"` or `"discrete"`, see above. Defaults to `"soft"`.
        controller: `"lstm"`, `"dense"` (feed-forward, tanh) or any Keras RNN cell; the
            paper's is `keras.layers.GRUCell(units)`. Defaults to `"lstm"`.
        initial_read_vectors: `"zeros"` or `"learned"`: the read vectors that the
            controller sees at the first step. Defaults to `"zeros"`.
        **kwargs: The arguments that `keras_sam.DNCCell` has from `output_size` on, but
            `initial_memory`: addresses are learned, and contents start as zeros.

    Call arguments:
        inputs: Tensor `[batch, features]`, one time step.
        states: List of tensors as `get_initial_state` or the step before returns.
        training: Boolean, whether dropout is active.

    Returns:
        The output `[batch, output_size]` and the list of new states.

    Raises:
        ValueError: If a size is not a positive integer, `address_size` is not below
            `word_size`, an option is unknown, or the dtype is a half precision.

    The state has the fields `memory` `[batch, N, W]` (rows given to
    `get_initial_state(memory=)` are whole words, with addresses), `recent`
    `[batch, R + H, N]` (v, read heads first), `read_vectors` `[batch, R, W]` and
    `controller`; a trace also has `read_weights` and `write_weights`
    `[batch, heads, N]`, and `strengths` and `recency_gates` (gamma) of all heads.

    Example:

    >>> cell = keras_sam.DNTMCell(16, memory_slots=32, word_size=8, address_size=4)
    >>> states = cell.get_initial_state(batch_size=2)
    >>> output, states = cell(np.ones((2, 3), "float32"), states)
    >>> output.shape
    TensorShape([2, 16])
    >>> cell.unpack_state(states).memory.shape
    TensorShape([2, 32, 8])
    """

    State = DNTMState
    refused_arguments = ("initial_memory",)

    def __init__(
        self,
        units: int,
        memory_slots: int = 128,
        word_size: int = 40,
        address_size: int = 20,
        read_heads: int = 1,
        write_heads: int = 1,
        reads_per_step: int = 1,
        addressing: Literal["soft", "discrete"] = "soft",
        controller: Controller = "lstm",
        initial_read_vectors: InitialReadVectors = "zeros",
        **kwargs: Unpack[SparseCellOptions],
    ) -> None:
        if "initial_memory" in kwargs:
            raise ValueError(
                "The memory of a D-NTM starts with learned addresses and contents of "
                "zeros, or as what is given to `get_initial_state(memory=)`. "
                f"Received: initial_memory={kwargs['initial_memory']!r}"
            )
        self.address_size = check_positive_integer("address_size", address_size)
        self.write_heads = check_positive_integer("write_heads", write_heads)
        self.reads_per_step = check_positive_integer("reads_per_step", reads_per_step)
        self.addressing = check_option("addressing", addressing, ("soft", "discrete"))
        if self.address_size >= check_positive_integer("word_size", word_size):
            raise ValueError(
                "`address_size` must be below `word_size`: the rest of a word is its "
                f"content. Received: address_size={address_size}, "
                f"word_size={word_size}"
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

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        heads = self.read_heads + self.write_heads
        return {
            "memory": (self.memory_slots, self.word_size),
            "recent": (heads, self.memory_slots),
            "read_vectors": (self.read_heads, self.word_size),
        }

    @property
    def interface_parts(self) -> dict[str, Part]:
        heads = self.read_heads + self.write_heads
        contents = (self.write_heads, self.word_size - self.address_size)
        return {
            "keys": Part((heads, self.word_size)),
            "strengths": Part((heads,), oneplus),
            "recency_gates": Part((heads,), tf.sigmoid),
            "erase": Part(contents, tf.sigmoid),
            "add": Part(contents, tf.nn.relu),
        }

    def _build_initial_weights(self):
        if not self._initial_weights_built:
            self.addresses = self.add_weight(
                shape=(self.memory_slots, self.address_size),
                name="addresses",
                initializer=keras.initializers.RandomNormal(stddev=0.5, seed=self.seed),
            )
        super()._build_initial_weights()

    def initial_fields(
        self, batch_size: BatchSize, given_memory: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        fields = super().initial_fields(batch_size, given_memory)
        addresses = self._for_each(batch_size, self.addresses)
        contents = fields["memory"][..., self.address_size :]
        memory = tf.concat([addresses, tf.zeros_like(contents)], axis=-1)
        if given_memory is not None:
            rows = given_memory.shape[1]
            memory = tf.concat([given_memory, memory[:, rows:]], axis=1)
        recent = tf.zeros((batch_size, *self.state_shapes["recent"]), memory.dtype)
        return {**fields, "recent": recent, "memory": memory}

    def step(
        self, inputs: tf.Tensor, state: DNTMState
    ) -> tuple[tf.Tensor, DNTMState, dict[str, tf.Tensor]]:
        reads, controller_state = state.read_vectors, state.controller
        recent_reads = state.recent[:, : self.read_heads]
        recent_writes = state.recent[:, self.read_heads :]
        of_reads = slice(self.read_heads)
        for _ in range(self.reads_per_step):
            hidden, controller_state = self.run_controller(
                inputs, reads, controller_state
            )
            parts = self.activate_interface(self.interface_vector(hidden))
            read_weights, recent_reads = self._address(
                state.memory, parts, of_reads, recent_reads
            )
            reads = ops.read(state.memory, read_weights)
        of_writes = slice(self.read_heads, None)
        write_weights, recent_writes = self._address(
            state.memory, parts, of_writes, recent_writes
        )
        addresses, contents = tf.split(
            state.memory, [self.address_size, self.word_size - self.address_size], -1
        )
        contents = ops.erase_and_add(
            contents, write_weights, parts["erase"], parts["add"]
        )
        new_state = DNTMState(
            memory=tf.concat([addresses, contents], axis=-1),
            recent=tf.concat([recent_reads, recent_writes], axis=1),
            read_vectors=reads,
            controller=controller_state,
        )
        return (
            self.output_vector(hidden, reads),
            new_state,
            {
                "read_weights": read_weights,
                "write_weights": write_weights,
                "strengths": parts["strengths"],
                "recency_gates": parts["recency_gates"],
            },
        )

    def _address(self, memory, parts, heads, recent):
        """The weightings of some heads, and what they are like from now on."""
        keys, strengths, gates = (
            parts[name][:, heads] for name in ("keys", "strengths", "recency_gates")
        )
        likeness = strengths[..., tf.newaxis] * ops.cosine_similarity(memory, keys)
        weights = tf.nn.softmax(likeness - gates[..., tf.newaxis] * recent)
        if self.addressing == "discrete":
            one = tf.one_hot(
                tf.argmax(weights, axis=-1), self.memory_slots, dtype=weights.dtype
            )
            weights += tf.stop_gradient(one - weights)
        return weights, (1.0 - FORGET) * recent + FORGET * likeness

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["initial_memory"]
        return {
            **config,
            "address_size": self.address_size,
            "write_heads": self.write_heads,
            "reads_per_step": self.reads_per_step,
            "addressing": self.addressing,
        }
