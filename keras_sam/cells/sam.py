"""The cell of Sparse Access Memory."""

from typing import Any, NamedTuple, Unpack

import keras
import tensorflow as tf

from keras_sam import index as indexes
from keras_sam import ops
from keras_sam.arguments import check_positive_integer, is_number
from keras_sam.cells.access import AccessCell
from keras_sam.cells.sparse_memory import MemoryTensors, SparseMemory, TensorMemory
from keras_sam.ops import recency
from keras_sam.ops.sparse import same_slots
from keras_sam.options import (
    BatchSize,
    Controller,
    InitialReadVectors,
    SparseCellOptions,
)


class SAMState(NamedTuple):
    """State of a `SAMCell`; R read heads that read K slots each."""

    memory: tf.Tensor  # [batch, N, W]
    last_access: tf.Tensor  # [batch, nodes]: the levels of keras_sam.ops.recency's tree
    time: tf.Tensor  # [batch, 1]: of the next step
    index: tf.Tensor  # [batch, size]: the index's own
    read_slots: tf.Tensor  # [batch, R, K], whole numbers
    read_weights: tf.Tensor  # [batch, R, K]
    read_vectors: tf.Tensor  # [batch, R, W]
    controller: Any  # the controller's own states


class AccessState(NamedTuple):
    """What a step takes from the step before, besides the memory."""

    read_slots: tf.Tensor  # [batch, R, K], integers
    read_weights: tf.Tensor  # [batch, R, K]
    read_vectors: tf.Tensor  # [batch, R, W]
    controller: Any  # the controller's own states


class ReadPlan(NamedTuple):
    """Where a step reads."""

    slots: tf.Tensor  # [batch, R, K], integers


# Untouched slots are the oldest, given rows come next, then the first step.
UNTOUCHED, GIVEN, FIRST_STEP = 0.0, 1.0, 2.0


@keras.saving.register_keras_serializable(package="keras_sam")
class SAMCell(AccessCell):
    """RNN cell of Sparse Access Memory (SAM).

    The cell of [Rae et al., 2016](https://arxiv.org/abs/1610.09027) reads, from each
    head, the K words most like the head's query, and writes to the slots just read
    and to the least recently accessed one:

        w_w = alpha (gamma w_r + (1 - gamma) I_lra)      write weights, equation 5
        M   = (1 - I_lra 1^T) M + w_w a^T                erase and write, equation 3
        s_k = the K slots whose words are most like q    found by the index
        w_r = softmax_k(b cosine(q, M[s_k]))             read weights
        r   = sum_k w_r[k] M[s_k]                        read vector, equation 4

    where the read weights on the right of the first line are those of the step
    before, the write gate alpha and the interpolation gate gamma come from sigmoids and
    the strength b from oneplus (1 + softplus). A slot is accessed when the weights of
    all heads on it, written and read, exceed `usage_threshold` in sum.

    The least recently accessed word is erased whatever the write gate says, as in the
    paper: a full memory loses its oldest word at each step. With `gated_erase` a step
    that writes nothing costs no word:

        M   = (1 - e I_lra 1^T) M + w_w a^T,  e = alpha (1 - gamma)

    With a `usage_threshold` that a nearly shut gate does not exceed, such as 0.1, the
    write of such a step is no access either, and the next word goes to the same slot.
    Gradients flow through the words and weights, not through the choice of slots.

    In `keras.layers.RNN` the cell is a function of its states: a step costs a copy of
    the memory in graph mode, O(N).

    Args:
        units: Integer, the size of the controller.
        memory_slots: Integer N, the number of words. Defaults to `65536`.
        word_size: Integer W, the numbers in a word. Defaults to `32`.
        read_heads: Integer R. Defaults to `4`.
        write_heads: Integer: 1 (one vector is written to all the slots that the read
            heads have read, their weights averaged) or R (the paper's access heads:
            each with its vector, gates, its read head's slots and a least recently
            accessed slot of its own). Defaults to `1`.
        reads_per_head: Integer K, at most N. Defaults to `4`.
        index: `"exact"`, `"lsh"`, `"scann"`, `"auto"` or a `keras_sam.index.Index`:
            how the K words are found. `"auto"` is `"exact"` up to 65,536 slots, else
            `"lsh"`; a saved model keeps the choice. Defaults to `"auto"`.
        usage_threshold: Number in (0, 1), the delta above. Defaults to `0.005`.
        controller: `"lstm"`, `"dense"` (feed-forward, tanh) or any Keras RNN cell,
            such as `keras.layers.GRUCell(100)`, whose size is then its own; `units`
            is the width of the output. Defaults to `"lstm"`.
        initial_read_vectors: `"zeros"` or `"learned"`: the read vectors that the
            controller sees at the first step. Defaults to `"zeros"`.
        gated_erase: Boolean, whether the erase follows the gates, as above. Not in the
            paper: for sequences of which only some steps are worth a word. Defaults
            to `False`.
        **kwargs: The arguments that `keras_sam.DNCCell` has from `output_size` on,
            but `initial_memory`, which is always `"constant"`.

    Call arguments:
        inputs: Tensor `[batch, features]`, one time step.
        states: List of tensors as `get_initial_state` or the step before returns.
        training: Boolean, whether dropout is active.

    Returns:
        The output `[batch, output_size]` and the list of new states.

    Raises:
        ValueError: If a size is not a positive integer, an option is unknown, K
            exceeds N, N exceeds 2^24 (states hold slot numbers in floats),
            `usage_threshold` is not in (0, 1), or the dtype is a half precision.

    The state has the fields `memory` `[batch, N, W]`, `last_access` (the tree of
    `keras_sam.ops.recency`), `time` `[batch, 1]`, `index`, `read_slots` and
    `read_weights` `[batch, R, K]`, `read_vectors` `[batch, R, W]` and `controller`; a
    trace also has `write_slots` and `write_weights` `[batch, writes]`, `write_gates`,
    `interpolation_gates` and `read_strengths`.

    Example:

    >>> cell = keras_sam.SAMCell(16, memory_slots=1024, word_size=8)
    >>> states = cell.get_initial_state(batch_size=2)
    >>> output, states = cell(np.ones((2, 3), "float32"), states)
    >>> output.shape
    TensorShape([2, 16])
    >>> cell.unpack_state(states).read_slots.shape
    TensorShape([2, 4, 4])
    """

    State = SAMState
    # The fields of the state that are links; an SDNC has some.
    link_fields: tuple[str, ...] = ()
    untraced_fields = ("memory", "last_access", "index", "time", "controller")
    refused_arguments = ("initial_memory",)

    def __init__(
        self,
        units: int,
        memory_slots: int = 65536,
        word_size: int = 32,
        read_heads: int = 4,
        write_heads: int = 1,
        reads_per_head: int = 4,
        index: indexes.IndexLike = "auto",
        usage_threshold: float = 0.005,
        controller: Controller = "lstm",
        initial_read_vectors: InitialReadVectors = "zeros",
        gated_erase: bool = False,
        **kwargs: Unpack[SparseCellOptions],
    ) -> None:
        if "initial_memory" in kwargs:
            raise ValueError(
                "The memory of a SAM starts as a constant, or as what is given to "
                "`get_initial_state(memory=)`. "
                f"Received: initial_memory={kwargs['initial_memory']!r}"
            )
        self.reads_per_head = check_positive_integer("reads_per_head", reads_per_head)
        self.index = indexes.get(
            index, check_positive_integer("memory_slots", memory_slots)
        )
        if not is_number(usage_threshold) or not 0.0 < usage_threshold < 1.0:
            raise ValueError(
                "`usage_threshold` must be between 0 and 1. "
                f"Received: usage_threshold={usage_threshold!r}"
            )
        self.usage_threshold = usage_threshold
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
        self.supports_jit = self.index.supports_jit  # what compile() asks for
        self.check_at_most_slots("reads_per_head")
        if self.memory_slots > recency.LATEST_TIME:
            raise ValueError(
                "`memory_slots` must be at most 2**24: states hold slot numbers in "
                f"floats. Received: memory_slots={self.memory_slots}"
            )

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        # What `model.export` and `tf.saved_model.save` ask for before they write.
        if save_type == "savedmodel":
            self.index.check_export(self.name)
        return super()._trackable_children(save_type, **kwargs)

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        reads = (self.read_heads, self.reads_per_head)
        return {
            "memory": (self.memory_slots, self.word_size),
            "last_access": (sum(recency.level_sizes(self.memory_slots)),),
            "time": (1,),
            "index": (self.index.state_size(self.memory_slots, self.word_size),),
            "read_slots": reads,
            "read_weights": reads,
            "read_vectors": (self.read_heads, self.word_size),
        }

    def initial_fields(
        self, batch_size: BatchSize, given_memory: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        fields = super().initial_fields(batch_size, given_memory)
        given_rows = 0 if given_memory is None else given_memory.shape[1]
        given = tf.range(self.memory_slots) < given_rows
        times = self._for_each(
            batch_size, tf.cast(tf.where(given, GIVEN, UNTOUCHED), self.compute_dtype)
        )
        slots = tf.range(self.reads_per_head, dtype=self.compute_dtype)
        slots = tf.tile(slots[tf.newaxis], (self.read_heads, 1))
        return {
            **fields,
            "last_access": tf.concat(recency.build_tree(times), axis=-1),
            "time": tf.fill((batch_size, 1), tf.cast(FIRST_STEP, self.compute_dtype)),
            "index": self.index.start(
                fields["memory"], given_rows, self.query_directions()
            ),
            "read_slots": self._for_each(batch_size, slots),
            "read_weights": tf.zeros(
                (batch_size, self.read_heads, self.reads_per_head), self.compute_dtype
            ),
        }

    def query_directions(self) -> tf.Tensor | None:
        """Where queries point: the sum of `K K^T` over the read heads, over its trace.

        K are a head's query weights: its queries are `K h + b`, where h is the
        controller's output.

        Returns:
            Tensor `[W, W]`, without a gradient; None while the cell is not built.
        """
        if not self.interface.built:
            return None
        kernel = tf.stop_gradient(self.interface_kernel())
        kernel = kernel[:, self.interface_columns["queries"]]
        kernel = tf.reshape(kernel, (-1, self.word_size))
        moment = tf.matmul(kernel, kernel, transpose_a=True)
        return tf.math.divide_no_nan(moment, tf.linalg.trace(moment))

    def step(
        self, inputs: tf.Tensor, state: Any
    ) -> tuple[tf.Tensor, Any, dict[str, tf.Tensor]]:
        memory = TensorMemory(self, TensorMemory.tensors_of(self, state))
        access = self.access_state(state)
        output, access, decisions = self.sparse_step(inputs, access, memory)
        return output, self.join_state(access, memory.tensors), decisions

    def sparse_step(
        self, inputs: tf.Tensor, state: AccessState, memory: SparseMemory
    ) -> tuple[tf.Tensor, AccessState, dict[str, tf.Tensor]]:
        """One time step over any memory: in place, recorded or frozen.

        Args:
            inputs: Tensor `[batch, features]`.
            state: `AccessState`.
            memory: `keras_sam.cells.SparseMemory`, which the step changes.

        Returns:
            The output `[batch, output_size]`; the new `AccessState`; a dictionary of
            what the cell decided, for traces.
        """
        hidden, controller = self.run_controller(
            inputs, state.read_vectors, state.controller
        )
        parts = self.parse_interface(self.interface_vector(hidden))

        slots = memory.choose(lambda: self.write_slots(state.read_slots, memory))
        weights = self.write_weights(parts, state.read_weights)
        old_rows = memory.gather(slots)
        rows = self.written_rows(old_rows, slots, weights, parts.vectors)
        memory.write(slots, rows, old_rows, weights, self.erased_slots(slots))

        plan = memory.choose(lambda: self.choose_reads(parts, state, memory))
        words = memory.gather(self.candidate_slots(plan))
        read_weights = self.read_weights(words, plan, parts, state.read_weights)
        read_vectors = memory.read(
            plan.slots, read_weights, words[:, :, -self.reads_per_head :]
        )
        accessed = self.accessed(slots, weights, plan.slots, read_weights)
        memory.mark_accessed(*accessed)

        output = self.output_vector(hidden, read_vectors)
        state = AccessState(plan.slots, read_weights, read_vectors, controller)
        decisions = {
            "write_slots": slots,
            "write_weights": weights,
            **self.gates(parts),
        }
        return output, state, decisions

    def access_state(self, state: Any) -> AccessState:
        """The part of a `State` that is no memory, an `AccessState`."""
        return AccessState(
            tf.cast(tf.round(state.read_slots), tf.int32),
            state.read_weights,
            state.read_vectors,
            state.controller,
        )

    def join_state(self, access: AccessState, tensors: MemoryTensors) -> Any:
        """The `State` that an `AccessState` and `MemoryTensors` make."""
        slots = tf.cast(access.read_slots, self.compute_dtype)
        return self.State(
            **access._replace(read_slots=slots)._asdict(),
            **TensorMemory.fields_of(tensors),
        )

    # The pieces of a step. Between the gather of the old rows and the writing of the
    # new ones, and between the gather of the words and the output, nothing knows N.

    @property
    def writes_per_head(self) -> int:
        """The slots read at the step before, and the least recently accessed one."""
        return self.read_heads * self.reads_per_head // self.write_heads + 1

    def write_slots(self, read_slots: tf.Tensor, memory: SparseMemory) -> tf.Tensor:
        """Where to write: for each write head the slots read before, and an old one.

        Args:
            read_slots: Integer tensor `[batch, R, K]`, of the step before.
            memory: `SparseMemory`.

        Returns:
            Integer tensor `[batch, writes]`, head by head.
        """
        oldest = memory.least_recently_accessed(self.write_heads)
        slots = tf.reshape(read_slots, (-1, self.write_heads, self.writes_per_head - 1))
        slots = tf.concat([slots, oldest[..., tf.newaxis]], axis=-1)
        return tf.reshape(slots, (-1, self.write_heads * self.writes_per_head))

    def erased_slots(self, slots: tf.Tensor) -> tf.Tensor:
        """Of the slots written those whose old word is erased, `[batch, erased]`."""
        by_head = tf.reshape(slots, (-1, self.write_heads, self.writes_per_head))
        # What the gates erase in part is written over: its weight says how much of it.
        return by_head[..., :0, -1] if self.gated_erase else by_head[..., -1]

    def write_weights(self, parts: Any, read_weights: tf.Tensor) -> tf.Tensor:
        """The weights of the slots that `write_slots` names, `[batch, writes]`."""
        weights = tf.reshape(
            read_weights, (-1, self.write_heads, self.writes_per_head - 1)
        )
        if self.write_heads == 1:
            weights = weights / self.read_heads
        weights = tf.pad(weights, [[0, 0], [0, 0], [0, 1]])
        weights = self.gated_write_weights(parts, weights, self._oldest(weights.dtype))
        return tf.reshape(weights, (-1, self.write_heads * self.writes_per_head))

    def _oldest(self, dtype):
        """1 for the last of a head's slots, the least recently accessed one."""
        return tf.one_hot(self.writes_per_head - 1, self.writes_per_head, dtype=dtype)

    def written_rows(
        self,
        old_rows: tf.Tensor,
        slots: tf.Tensor,
        weights: tf.Tensor,
        vectors: tf.Tensor,
    ) -> tf.Tensor:
        """New words: the oldest slots are erased, then all heads add.

        Args:
            old_rows: Tensor `[batch, writes, W]`.
            slots: Integer tensor `[batch, writes]`; a slot named twice gets both.
            weights: Tensor `[batch, writes]`.
            vectors: Tensor `[batch, write heads, W]`.

        Returns:
            Tensor `[batch, writes, W]`, the same for entries of the same slot.
        """
        erased = tf.tile(self._oldest(weights.dtype), [self.write_heads])
        if self.gated_erase:
            erased *= weights
        same = same_slots(slots, weights.dtype)
        erased = tf.minimum(tf.linalg.matvec(same, erased), 1.0)
        # First all that a head adds to a slot, then the vectors: they are wide.
        writes = self.write_heads * self.writes_per_head
        by_head = tf.reshape(
            same * weights[:, tf.newaxis],
            (-1, writes, self.write_heads, self.writes_per_head),
        )
        by_head = tf.reduce_sum(by_head, axis=-1)[..., tf.newaxis]
        added = tf.reduce_sum(by_head * vectors[:, tf.newaxis], axis=2)
        return (1.0 - erased)[..., tf.newaxis] * old_rows + added

    def choose_reads(self, parts: Any, state: AccessState, memory: SparseMemory) -> Any:
        """Where to read.

        Args:
            parts: What `parse_interface` returns.
            state: `AccessState`, of the step before.
            memory: `SparseMemory`, after the step's write.

        Returns:
            A `ReadPlan`, or a NamedTuple with more than its `slots`.
        """
        return ReadPlan(memory.search(parts.queries, self.reads_per_head))

    def candidate_slots(self, plan: Any) -> tf.Tensor:
        """The slots whose words `read_weights` asks for, `[batch, R, n]`.

        Those that are read are the last K of each head.
        """
        return plan.slots

    def read_weights(
        self, words: tf.Tensor, plan: Any, parts: Any, old_weights: tf.Tensor
    ) -> tf.Tensor:
        """The weights of the slots read.

        Args:
            words: Tensor `[batch, R, n, W]`, of the slots that `candidate_slots` names.
            plan: What `choose_reads` returned.
            parts: What `parse_interface` returned.
            old_weights: Tensor `[batch, R, K]`, of the step before.

        Returns:
            Tensor `[batch, R, K]`.
        """
        return self.content_weights(words, parts)

    def content_weights(self, words: tf.Tensor, parts: Any) -> tf.Tensor:
        """Content weights over the words found, `[batch, R, K]`."""
        shape = (-1, self.read_heads, self.reads_per_head)
        similarity = ops.cosine_similarity(
            tf.reshape(words, (-1, self.reads_per_head, self.word_size)),
            tf.reshape(parts.queries, (-1, 1, self.word_size)),
        )
        similarity = tf.reshape(similarity, shape)
        return tf.nn.softmax(similarity * parts.strengths[..., tf.newaxis])

    def accessed(
        self,
        write_slots: tf.Tensor,
        write_weights: tf.Tensor,
        read_slots: tf.Tensor,
        read_weights: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Which slots a step has accessed: those with more weight than the threshold.

        Returns:
            Integer tensor `[batch, writes + R K]`, slots; boolean tensor, whether
            they count.
        """
        reads = (-1, self.read_heads * self.reads_per_head)
        slots = tf.concat([write_slots, tf.reshape(read_slots, reads)], axis=-1)
        weights = tf.stop_gradient(
            tf.concat([write_weights, tf.reshape(read_weights, reads)], axis=-1)
        )
        weights = tf.linalg.matvec(same_slots(slots, weights.dtype), weights)
        return slots, weights > self.usage_threshold

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("initial_memory")
        return {
            **config,
            "reads_per_head": self.reads_per_head,
            "index": keras.saving.serialize_keras_object(self.index),
            "usage_threshold": self.usage_threshold,
        }
