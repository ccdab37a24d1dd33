"""The cell of the Sparse Differentiable Neural Computer."""

import math
from typing import Any, NamedTuple, Unpack

import keras
import tensorflow as tf

from keras_sam import index as indexes
from keras_sam import ops
from keras_sam.arguments import check_positive_integer
from keras_sam.cells.base import Part, oneplus
from keras_sam.cells.extensions import LINK_EPSILON, DNCExtensions
from keras_sam.cells.sam import AccessState, SAMCell
from keras_sam.cells.sparse_memory import SparseMemory
from keras_sam.ops.sparse import is_first_occurrence, same_slots
from keras_sam.options import (
    BatchSize,
    Controller,
    InitialReadVectors,
    SDNCOptions,
    TensorLike,
)

# A sum is written out for so many terms at most.
MOST_TERMS = 32


class SDNCState(NamedTuple):
    """State of an `SDNCCell`; R read heads that read K slots each, K_L links a slot."""

    memory: tf.Tensor  # [batch, N, W]
    last_access: tf.Tensor  # [batch, nodes]: the levels of keras_sam.ops.recency's tree
    time: tf.Tensor  # [batch, 1]: of the next step
    index: tf.Tensor  # [batch, size]: the index's own
    link_ends: tf.Tensor  # [batch, 2 N, 2, K_L], see keras_sam.ops.SparseLinks
    precedence: tf.Tensor  # [batch, 2, K_L]
    read_slots: tf.Tensor  # [batch, R, K], whole numbers
    read_weights: tf.Tensor  # [batch, R, K]
    read_vectors: tf.Tensor  # [batch, R, W]
    controller: Any  # the controller's own states


class SDNCInterface(NamedTuple):
    """What the controller tells the memory: SAM's `AccessInterface` and more."""

    queries: tf.Tensor  # [batch, R, W], masked
    strengths: tf.Tensor  # [batch, R]
    vectors: tf.Tensor  # [batch, H, W]
    write_gates: tf.Tensor  # [batch, H]
    interpolation_gates: tf.Tensor  # [batch, H]
    read_modes: tf.Tensor  # [batch, R, 3]: backward, content, forward
    read_masks: tf.Tensor | None = None  # [batch, R, W]
    sharpness: tf.Tensor | None = None  # [batch, 2, R]: forward, backward


class LinkedReadPlan(NamedTuple):
    """Where a step reads, and what the choice was made from."""

    slots: tf.Tensor  # [batch, R, K], integers
    found: tf.Tensor  # [batch, R, K]: by content
    # Forward and backward from each slot read before.
    linked: tf.Tensor  # [batch, 2, R, K, K_L]
    links: tf.Tensor  # [batch, 2, R, K, K_L]: the weights of these links


@keras.saving.register_keras_serializable(package="keras_sam")
class SDNCCell(DNCExtensions, SAMCell):
    """RNN cell of the Sparse Differentiable Neural Computer (SDNC).

    The cell of [Rae et al., 2016](https://arxiv.org/abs/1610.09027), appendix D: a SAM
    (`keras_sam.SAMCell` has its equations) that also remembers in which order its slots
    were written, and reads along this order like a DNC:

        f   = L w_r                       to what was written next, equation 21
        b   = L^T w_r                     to what was written before, equation 22
        w_r = top_K(pi_1 b + pi_2 c + pi_3 f)
        r   = sum_k w_r[k] M[s_k]

    with SAM's content weights c, the read weights of the step before on the right of
    the first two lines and the read modes pi from a softmax. The links L have at most
    K_L entries for each row and column; `keras_sam.ops.update_sparse_links` has their
    equations and what becomes of the links of a slot that is written again. The weights
    that f, b and c give to the same word are added up before the K largest are kept,
    which are not normalised again.

    The links are constants to gradients, as in the paper, and so is the choice of
    slots. Gradients flow through words, content weights, read modes, and along the
    links through the read weights of the steps before.

    In `keras.layers.RNN` the cell is a function of its states: a step costs a copy of
    the memory and of the links in graph mode, O(N).

    Args:
        units: Integer, the size of the controller.
        memory_slots: Integer N, the number of words. Defaults to `65536`.
        word_size: Integer W, the numbers in a word. Defaults to `32`.
        read_heads: Integer R. Defaults to `4`.
        write_heads: Integer: 1 or R, see `keras_sam.SAMCell`. Defaults to `1`.
        reads_per_head: Integer K, at most N. Defaults to `4`.
        links_per_slot: Integer K_L, at most N. Defaults to `8`.
        key_masks: Boolean, whether each query comes with a mask (a sigmoid) that says
            which numbers of the words to compare. The index looks for words like the
            masked query, whatever else they hold; the K that it finds are compared
            masked. Defaults to `False`. This and the next two are from [Csordás &
            Schmidhuber, 2019](https://arxiv.org/abs/1904.10278).
        mask_min: The least value of a mask, in `[0, 1)`. Defaults to `0.0`.
        link_sharpening: Boolean, whether the weightings found along the links are
            raised to a learned power and normalised; where no link leads, they stay
            0. Defaults to `False`.
        bypass_dropout: Fraction of the controller's output to drop on its way past
            the memory to the output, in `[0, 1)` ([Franke et al., 2018](
            https://arxiv.org/abs/1807.02658)). Defaults to `0.0`.
        normalize_interface: Boolean, whether the interface vector is normalised by
            a `keras.layers.LayerNormalization` (Franke et al.). Defaults to `False`.
        **kwargs: The arguments that `keras_sam.SAMCell` has from `index` on.

    Call arguments:
        inputs: Tensor `[batch, features]`, one time step.
        states: List of tensors as `get_initial_state` or the step before returns.
        training: Boolean, whether dropout is active.

    Returns:
        The output `[batch, output_size]` and the list of new states.

    Raises:
        ValueError: As `keras_sam.SAMCell`; if K_L is not a positive integer or exceeds
            N, or `mask_min` or `bypass_dropout` is not in `[0, 1)`.

    The state has the fields of a SAM's and, of `keras_sam.ops.SparseLinks`, `link_ends`
    `[batch, 2 N, 2, K_L]` and `precedence` `[batch, 2, K_L]`, slots and weights each; a
    trace has what a SAM's has, and `read_modes` (backward, content, forward).

    Example:

    >>> cell = keras_sam.SDNCCell(16, memory_slots=1024, word_size=8)
    >>> states = cell.get_initial_state(batch_size=2)
    >>> output, states = cell(np.ones((2, 3), "float32"), states)
    >>> output.shape
    TensorShape([2, 16])
    >>> cell.link_matrix(cell.unpack_state(states)).shape  # a tf.SparseTensor
    TensorShape([2, 1024, 1024])
    """

    State = SDNCState
    link_fields = ops.SparseLinks._fields
    untraced_fields = (*SAMCell.untraced_fields, *link_fields)

    def __init__(
        self,
        units: int,
        memory_slots: int = 65536,
        word_size: int = 32,
        read_heads: int = 4,
        write_heads: int = 1,
        reads_per_head: int = 4,
        links_per_slot: int = 8,
        *,
        index: indexes.IndexLike = "auto",
        usage_threshold: float = 0.005,
        controller: Controller = "lstm",
        initial_read_vectors: InitialReadVectors = "zeros",
        gated_erase: bool = False,
        **kwargs: Unpack[SDNCOptions],
    ) -> None:
        self.links_per_slot = check_positive_integer("links_per_slot", links_per_slot)
        super().__init__(
            units,
            memory_slots,
            word_size,
            read_heads,
            write_heads,
            reads_per_head,
            index=index,
            usage_threshold=usage_threshold,
            controller=controller,
            initial_read_vectors=initial_read_vectors,
            gated_erase=gated_erase,
            **kwargs,
        )
        self.check_at_most_slots("links_per_slot")

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = super().state_shapes
        reads = {name: shapes.pop(name) for name in list(shapes) if "read" in name}
        links = ops.SparseLinks(
            (2 * self.memory_slots, 2, self.links_per_slot), (2, self.links_per_slot)
        )
        return {**shapes, **links._asdict(), **reads}

    def initial_fields(
        self, batch_size: BatchSize, given_memory: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        links = ops.empty_links(
            batch_size, self.memory_slots, self.links_per_slot, self.compute_dtype
        )
        return {
            **super().initial_fields(batch_size, given_memory),
            **links._asdict(),
        }

    @property
    def interface_parts(self) -> dict[str, Part]:
        heads, parts = self.read_heads, super().interface_parts
        parts["read_modes"] = Part((heads, 3), tf.nn.softmax)
        if self.key_masks:
            parts["read_masks"] = Part((heads, self.word_size), self.mask)
        if self.link_sharpening:
            parts["sharpness"] = Part((2, heads), oneplus)
        return parts

    def parse_interface(self, interface: tf.Tensor) -> SDNCInterface:
        """The parts of an interface vector, as an `SDNCInterface`."""
        parts = self.activate_interface(interface)
        if self.key_masks:
            parts["queries"] *= parts["read_masks"]
        return SDNCInterface(**parts)

    @staticmethod
    def gates(parts: SDNCInterface) -> dict[str, tf.Tensor]:
        return {**SAMCell.gates(parts), "read_modes": parts.read_modes}

    def choose_reads(
        self, parts: SDNCInterface, state: AccessState, memory: SparseMemory
    ) -> LinkedReadPlan:
        found = memory.search(parts.queries, self.reads_per_head)
        reads = self.read_heads * self.reads_per_head
        directions = memory.follow_links(tf.reshape(state.read_slots, (-1, reads)))
        shape = (-1, 2, self.read_heads, self.reads_per_head, self.links_per_slot)
        linked, weights = (
            tf.reshape(tf.stack(each, axis=1), shape)
            for each in zip(*directions, strict=True)
        )
        plan = LinkedReadPlan(found, found, linked, weights)
        content = self.content_weights(memory.gather(found), parts)
        weights = self._candidate_weights(content, plan, parts, state.read_weights)
        slots = _heaviest(
            self._candidates(plan), tf.stop_gradient(weights), self.reads_per_head
        )
        return plan._replace(slots=slots)

    def candidate_slots(self, plan: LinkedReadPlan) -> tf.Tensor:
        return tf.concat([plan.found, plan.slots], axis=-1)

    def read_weights(
        self,
        words: tf.Tensor,
        plan: LinkedReadPlan,
        parts: SDNCInterface,
        old_weights: tf.Tensor,
    ) -> tf.Tensor:
        content = self.content_weights(words[:, :, : self.reads_per_head], parts)
        weights = self._candidate_weights(content, plan, parts, old_weights)
        slots = self._candidates(plan)[:, :, tf.newaxis]
        same = tf.cast(plan.slots[..., tf.newaxis] == slots, weights.dtype)
        return tf.linalg.matvec(same, weights)

    def content_weights(self, words: tf.Tensor, parts: SDNCInterface) -> tf.Tensor:
        if parts.read_masks is not None:
            words *= parts.read_masks[:, :, tf.newaxis]
        return super().content_weights(words, parts)

    def _candidates(self, plan):
        """The slots to choose from, `[batch, R, K + 2 K K_L]`, some more than once."""
        return tf.concat([plan.found, *self._by_direction(plan.linked)], axis=-1)

    def _candidate_weights(self, content, plan, parts, old_weights):
        """What content and links give to each of the candidates."""
        old_weights = old_weights[:, tf.newaxis, ..., tf.newaxis]
        weights = self._by_direction(plan.links * old_weights)
        if self.link_sharpening:
            weights = [
                _sharpen(weights, slots, sharpness)
                for weights, slots, sharpness in zip(
                    weights,
                    self._by_direction(plan.linked),
                    tf.unstack(parts.sharpness, axis=1),
                    strict=True,
                )
            ]
        forward, backward = weights
        modes = parts.read_modes
        return tf.concat(
            [
                modes[..., 1:2] * content,
                modes[..., 2:3] * forward,
                modes[..., 0:1] * backward,
            ],
            axis=-1,
        )

    def _by_direction(self, values):
        """From `[batch, 2, R, K, K_L]` to two of `[batch, R, K K_L]`."""
        width = self.reads_per_head * self.links_per_slot
        return tf.unstack(tf.reshape(values, (-1, 2, self.read_heads, width)), axis=1)

    def link_matrix(self, state: SDNCState) -> tf.SparseTensor:
        """The links: how much slot i was written right after slot j.

        Args:
            state: An `SDNCState`, as `unpack_state` returns it.

        Returns:
            `tf.SparseTensor` `[batch, N, N]`, the places (i, j) in order.
        """
        batch = tf.shape(state.precedence)[0]
        slots = tf.range(self.memory_slots)
        _, (linked, weights) = ops.follow_links(state, self._for_each(batch, slots))
        places = tf.where(weights > 0.0)
        columns = tf.cast(tf.gather_nd(linked, places), tf.int64)
        return tf.sparse.reorder(
            tf.SparseTensor(
                tf.concat([places[:, :2], columns[:, tf.newaxis]], axis=-1),
                tf.gather_nd(weights, places),
                tf.cast(
                    tf.stack([batch, self.memory_slots, self.memory_slots]), tf.int64
                ),
            )
        )

    def links_among(self, state: SDNCState, slots: TensorLike) -> tf.Tensor:
        """The links between some slots: how much each was written right after another.

        Args:
            state: An `SDNCState`, as `unpack_state` returns it.
            slots: Integers `[S]`, different ones.

        Returns:
            Tensor `[batch, S, S]`, from the column's slot to the row's.
        """
        batch = tf.shape(state.precedence)[0]
        slots = tf.convert_to_tensor(slots, tf.int32)
        _, (linked, weights) = ops.follow_links(state, self._for_each(batch, slots))
        same = tf.cast(linked, tf.int32)[..., tf.newaxis] == slots
        same = tf.cast(same, weights.dtype)
        return tf.reduce_sum(same * weights[..., tf.newaxis], axis=2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "links_per_slot": self.links_per_slot}


def _heaviest(slots, weights, count):
    """The slots that have the largest sums of weights, each once.

    Args:
        slots: Integer tensor `[batch, heads, n]`, of at least `count` different ones.
        weights: Tensor of the same shape.
        count: Integer.

    Returns:
        Integer tensor `[batch, heads, count]`, the largest sum first; of equal sums
        what comes first.
    """
    sums = _sums_by_slot(slots, weights)
    last = slots.shape[-1] - 1
    taken = tf.constant(-math.inf, sums.dtype)
    found = []
    for _ in range(count):
        best = sums == tf.reduce_max(sums, axis=-1, keepdims=True)
        position = tf.where(best, tf.range(last + 1), last)
        position = tf.reduce_min(position, axis=-1, keepdims=True)
        found.append(tf.gather(slots, position, batch_dims=2))
        sums = tf.where(slots == found[-1], taken, sums)
    return tf.concat(found, axis=-1)


def _sums_by_slot(slots, weights):
    """For each entry the sum of all weights `[batch, heads, n]` on the same slot."""
    size = slots.shape[-1]
    # XLA writes down each pair of entries before it adds them up, unless they are added
    # here, so many at a time.
    terms = max(each for each in range(1, MOST_TERMS + 1) if size % each == 0)
    parts = zip(
        *(tf.split(each[..., tf.newaxis], terms, axis=-2) for each in (slots, weights)),
        strict=True,
    )
    others = slots[..., tf.newaxis, :]
    sums = sum(tf.where(slot == others, weight, 0.0) for slot, weight in parts)
    return tf.reduce_sum(sums, axis=-2)


def _sharpen(weights, slots, sharpness):
    """Weights to a power, over their sum: `S(d, s)` of Csordás & Schmidhuber.

    Args:
        weights: Tensor `[batch, heads, n]`, at least 0.
        slots: Integer tensor of the same shape. Weights on the same slot are added up.
        sharpness: Tensor `[batch, heads]`, at least 1.

    Returns:
        Tensor `[batch, heads, n]` of sum 1, or all 0 if `weights` are.
    """
    weights = tf.linalg.matvec(same_slots(slots, weights.dtype), weights)
    weights = tf.where(is_first_occurrence(slots), weights, 0.0)
    most = tf.reduce_max(weights, axis=-1, keepdims=True)
    powers = ((weights + LINK_EPSILON) / (most + LINK_EPSILON)) ** (
        sharpness[..., tf.newaxis]
    )
    powers = tf.where(weights > 0.0, powers, 0.0)
    # At least 1, the largest one's, unless there are none.
    total = tf.reduce_sum(powers, axis=-1, keepdims=True)
    return powers / tf.maximum(total, 1.0)
