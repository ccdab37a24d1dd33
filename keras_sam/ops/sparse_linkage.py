"""Temporal links kept in a few numbers for each slot: which was written after which.

The links are a matrix L with at most K_L entries in each row and in each column:
`L[i, j]` is how much slot i was written right after slot j. Its rows and its columns
are both kept, each as K_L slots with a weight, and **an entry is the product of the
weights that its row and its column give it**. So a slot is forgotten, or fades, by a
change of its own row and column alone: whatever else still lists it counts for nothing
or for less from then on, without having to be found. Nothing of this has a gradient.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_sam.ops.masks import where_active
from keras_sam.ops.selection import top_k
from keras_sam.ops.sparse import batch_indices, is_first_occurrence, same_slots
from keras_sam.options import BatchSize, TensorLike, Update

Gather = Callable[[tf.Tensor], tf.Tensor]


class SparseLinks(NamedTuple):
    """Links between N slots, at most K_L from and to each; whole numbers name slots.

    In both tensors the last axis but one has the slots and their weights.

    Attributes:
        link_ends: Tensor `[batch, 2 N, 2, K_L]`: at i row i, what was written right
            before slot i; at N + j column j, what was written right after slot j.
        precedence: Tensor `[batch, 2, K_L]`: what was written last.

    Example:

    >>> links = keras_sam.ops.empty_links(1, slots=4, links_per_slot=2)
    >>> keras_sam.ops.SparseLinks(*links).link_ends.shape
    TensorShape([1, 8, 2, 2])
    """

    link_ends: tf.Tensor
    precedence: tf.Tensor


def empty_links(
    batch_size: BatchSize,
    slots: int,
    links_per_slot: int,
    dtype: str | tf.DType = "float32",
) -> SparseLinks:
    """The links before anything was written.

    Args:
        batch_size: Integer or scalar tensor.
        slots: Integer N.
        links_per_slot: Integer K_L, at most N.
        dtype: The dtype of all tensors.

    Returns:
        `SparseLinks`.

    Example:

    >>> links = keras_sam.ops.empty_links(1, slots=4, links_per_slot=2)
    >>> links.precedence.numpy()  # different slots, none of any weight
    array([[[0., 1.],
            [0., 0.]]], dtype=float32)
    """
    first = tf.range(links_per_slot, dtype=dtype)
    precedence = tf.stack([first, tf.zeros_like(first)])[tf.newaxis]
    return SparseLinks(
        tf.zeros((batch_size, 2 * slots, 2, links_per_slot), dtype),
        tf.tile(precedence, (batch_size, 1, 1)),
    )


def update_sparse_links(
    links: SparseLinks,
    slots: TensorLike,
    weights: TensorLike,
    erased: TensorLike,
    active: tf.Tensor | None = None,
    update: Update = tf.tensor_scatter_nd_update,
) -> SparseLinks:
    """The links once a write is recorded.

    With the write weights w (of several heads the sum, at most 1), the precedence p
    and what is kept of each slot, `k = 1 - w`, or 0 if it is erased,

        L[i, j] = k[i] k[j] L[i, j]                       links fade with their slots
        p       = k p
        L[i, j] = L[i, j] + w[i] p[j] / max(1, S, S')     0 on the diagonal
        p       = max(0, 1 - S) p + w                     S = sum w, S' = sum p

    where the K_L largest entries of each row are kept, then of each column, then of p.

    [Rae et al., 2016](https://arxiv.org/abs/1610.09027), appendix D, have two matrices
    of which N fades with the rows alone and P, N's transpose, with the columns, so
    that links to what a slot held before lead to what it holds now. Here either end
    takes them with it, as in the links of the DNC (their equation 12, but with
    `k[i] k[j]` for `1 - w[i] - w[j]`); and a slot that SAM erases, whatever the write
    weight, is forgotten. The quotient is 1 for a single write head: heads that write
    at once count as one event. Rows, columns and `p / max(1, S')` sum to at most 1.

    Args:
        links: `SparseLinks`.
        slots: Integer tensor `[batch, writes]`, duplicates allowed.
        weights: Tensor `[batch, writes]`.
        erased: Integer tensor `[batch, erased]`, all of them among `slots`.
        active: Optional boolean tensor `[batch]`: the sequences in which anything was
            written.
        update: Function to set values with, see `keras_sam.recurrence.buffers`.

    Returns:
        `SparseLinks`. Constant to gradients.

    Example: slot 3 is written after slot 1.

    >>> links = keras_sam.ops.empty_links(1, slots=4, links_per_slot=2)
    >>> for slot in (1, 3):
    ...     write = [[slot]], [[1.0]], [[slot]]
    ...     links = keras_sam.ops.update_sparse_links(links, *write)
    >>> links.link_ends[0, 3].numpy()  # what was written before slot 3
    array([[1., 0.],
           [1., 0.]], dtype=float32)
    >>> links.link_ends[0, 4 + 1].numpy()  # what was written after slot 1
    array([[3., 1.],
           [1., 0.]], dtype=float32)
    """
    ends, precedence = (tf.stop_gradient(part) for part in links)
    changes = link_changes(
        lambda numbers: tf.gather(ends, numbers, batch_dims=1),
        ends.shape[1] // 2,
        *(precedence, slots, weights, erased),
    )
    lists = where_active(active, changes.lists, changes.old_lists)
    new_precedence = where_active(active, changes.precedence, precedence)
    # All lists at once: XLA copies a tensor on which a step makes two scatters.
    places = batch_indices(changes.numbers)
    return SparseLinks(update(ends, places, lists), new_precedence)


class LinkChanges(NamedTuple):
    """What becomes of the links by a write."""

    # [batch, m]: which of the 2 N lists change, duplicates with the same.
    numbers: tf.Tensor
    lists: tf.Tensor  # [batch, m, 2, K_L]: what they become
    old_lists: tf.Tensor  # [batch, m, 2, K_L]: what they were
    precedence: tf.Tensor  # [batch, 2, K_L]


def link_changes(
    gather: Gather,
    memory_slots: int,
    precedence: tf.Tensor,
    slots: TensorLike,
    weights: TensorLike,
    erased: TensorLike,
) -> LinkChanges:
    """The changes of `update_sparse_links`, wherever the lists are kept.

    Args:
        gather: Function from numbers of lists `[batch, ...]`, in `[0, 2 N)`, to lists
            `[batch, ..., 2, K_L]`.
        memory_slots: Integer N.
        precedence: Tensor `[batch, 2, K_L]`.
        slots: As for `update_sparse_links`.
        weights: As for `update_sparse_links`.
        erased: As for `update_sparse_links`.

    Returns:
        `LinkChanges`.
    """
    write = _Write(slots, weights, erased, precedence)
    changed = tf.concat([write.last, write.slots], axis=-1)
    # All rows and columns at once.
    ends = _Ends(gather, memory_slots, rows=write.slots, columns=changed)
    new_rows = _changed_rows(write, ends.rows)
    new_columns = _changed_columns(write, changed, ends.columns, new_rows)
    return LinkChanges(
        numbers=ends.numbers,
        lists=tf.concat([new_rows, new_columns], axis=1),
        old_lists=ends.lists,
        precedence=_changed_precedence(write),
    )


class _Write:
    """What is written at a step, and what was written last.

    Attributes:
        slots: Tensor `[batch, writes]`, by the floats that the lists have for them.
        weights: Tensor `[batch, writes]`, of all heads on each slot, at most 1.
        once: Boolean tensor `[batch, writes]`, False where a slot was named before.
        total: Tensor `[batch, 1]`, S.
        last: Tensor `[batch, K_L]`, the slots of the precedence.
        precedence: Tensor `[batch, K_L]`, their weights, faded.
        links_per_slot: Integer K_L.
    """

    def __init__(self, slots, weights, erased, precedence):
        dtype = precedence.dtype
        self.slots, self._erased = tf.cast(slots, dtype), tf.cast(erased, dtype)
        weights = tf.stop_gradient(tf.convert_to_tensor(weights, dtype))
        weights = tf.linalg.matvec(same_slots(self.slots, dtype), weights)
        self.weights = tf.minimum(weights, 1.0)
        self.once = is_first_occurrence(self.slots)
        self._counted = tf.where(self.once, self.weights, 0.0)
        self.total = tf.reduce_sum(self._counted, axis=-1, keepdims=True)
        self.last, precedence = _unstack(tf.stop_gradient(precedence))
        self.precedence = precedence * self.kept(self.last)
        self.links_per_slot = precedence.shape[-1]

    def kept(self, slots):
        """What is kept of slots `[batch, ...]`: `1 - w`, or 0 if they are erased."""
        fades = 1.0 - _lookup(self.slots, self._counted, slots)
        return tf.where(~_among(slots, self._erased), fades, 0.0)


class _End(NamedTuple):
    """Some rows of the links, or some columns."""

    linked: tf.Tensor  # [batch, n, K_L]: the slots that they name
    weights: tf.Tensor  # [batch, n, K_L]
    others: tf.Tensor  # [batch, n, K_L]: the weights in the lists at the other end


class _Ends:
    """Some rows and some columns of the links, gathered together.

    Args:
        gather: As for `link_changes`.
        memory_slots: Integer N.
        rows: Tensor `[batch, n]`, slots whose rows are wanted.
        columns: Tensor `[batch, m]`, slots whose columns are wanted.

    Attributes:
        numbers: Integer tensor `[batch, n + m]`, of the rows' lists, then the columns'.
        lists: Tensor `[batch, n + m, 2, K_L]`.
        rows: `_End` of the rows.
        columns: `_End` of the columns.
    """

    def __init__(self, gather, memory_slots, rows, columns):
        sizes = [rows.shape[1], columns.shape[1]]
        slots = tf.concat([rows, columns], axis=-1)
        first = tf.repeat([0, memory_slots], sizes)
        self.numbers = tf.cast(slots, tf.int32) + first
        self.lists = gather(self.numbers)
        linked, weights = _unstack(self.lists)
        # A row's entries are in columns as well, and a column's in rows.
        other = tf.repeat([memory_slots, 0], sizes)[:, tf.newaxis]
        others = _unstack(gather(tf.cast(linked, tf.int32) + other))
        slots = tf.cast(slots, weights.dtype)[..., tf.newaxis, tf.newaxis]
        others = _lookup(*others, slots)[..., 0]
        parts = (tf.split(part, sizes, axis=1) for part in (linked, weights, others))
        self.rows, self.columns = (_End(*part) for part in zip(*parts, strict=True))


def _changed_rows(write, rows):
    """What the rows of what is written become, from their `_End`.

    The columns of what was written last are made from them: of their entries the row
    gets all, so that the column has a 1.
    """
    most = tf.reduce_sum(write.precedence, axis=-1, keepdims=True)
    most = tf.maximum(write.total, most)
    gained = write.precedence / tf.maximum(most, 1.0)
    last, slots = write.last[:, tf.newaxis], write.slots[..., tf.newaxis]

    before, in_row, in_column = rows
    in_row *= write.kept(write.slots)[..., tf.newaxis]
    entries = in_row * in_column * write.kept(before)
    new = write.weights[..., tf.newaxis] * gained[:, tf.newaxis]
    new = tf.where(slots != last, new, 0.0) + _lookup(before, entries, last)
    entries = tf.where(~_among(before, write.last), entries, 0.0)
    return _strongest(write.links_per_slot, (last, new, new), (before, entries, in_row))


def _changed_columns(write, changed, columns, new_rows):
    """What the columns become of what was written last and of what is written now.

    Args:
        write: `_Write`.
        changed: Tensor `[batch, K_L + writes]`, these slots.
        columns: Their `_End`.
        new_rows: What `_changed_rows` returned.
    """
    slots = write.slots[:, tf.newaxis]
    after, in_column, in_row = columns
    fading = write.kept(changed)[..., tf.newaxis]
    new = _lookup(after, in_column, slots) * fading
    in_column *= fading
    entries = tf.where(~_among(after, write.slots), in_row * in_column, 0.0)
    new = tf.where(~_among(changed, write.last)[..., tf.newaxis], new, 1.0)
    new_in_row = _lookup(*_unstack(new_rows), changed[:, tf.newaxis])
    new_entries = new * tf.linalg.matrix_transpose(new_in_row)
    new_entries = tf.where(write.once[:, tf.newaxis], new_entries, 0.0)
    return _strongest(
        write.links_per_slot, (slots, new_entries, new), (after, entries, in_column)
    )


def _changed_precedence(write):
    """What was written last is from now on what is written now.

    Its slots are all different, those without a weight as well: a second entry ranks
    below them.
    """
    remaining = tf.maximum(1.0 - write.total, 0.0) * write.precedence
    written = write.weights + _lookup(write.last, remaining, write.slots)
    ranks = tf.where(~_among(write.last, write.slots), remaining, -1.0)
    return _strongest(
        write.links_per_slot,
        (write.last, ranks, remaining),
        (write.slots, tf.where(write.once, written, -1.0), written),
    )


def follow_links(
    links: SparseLinks, slots: tf.Tensor
) -> tuple[tuple[tf.Tensor, tf.Tensor], ...]:
    """Where the links lead from some slots.

    `f = L w` and `b = L^T w`, equations 21 and 22 of [Rae et al., 2016](
    https://arxiv.org/abs/1610.09027), for each of the slots with a w of 1 on it alone.

    Args:
        links: `SparseLinks`.
        slots: Integer tensor `[batch, n]`.

    Returns:
        Two pairs of slots, integers, and weights, `[batch, n, K_L]`: forward, to what
        was written next, and backward, to what was written before. A slot without a
        weight means nothing. Constant to gradients.

    Example: slot 3 was written after slot 1.

    >>> links = keras_sam.ops.empty_links(1, slots=4, links_per_slot=1)
    >>> for slot in (1, 3):
    ...     write = [[slot]], [[1.0]], [[slot]]
    ...     links = keras_sam.ops.update_sparse_links(links, *write)
    >>> forward, backward = keras_sam.ops.follow_links(links, tf.constant([[1, 3]]))
    >>> [part[0, :, 0].numpy().tolist() for part in forward]
    [[3, 3], [1.0, 0.0]]
    >>> [part[0, :, 0].numpy().tolist() for part in backward]
    [[0, 1], [0.0, 1.0]]
    """
    ends = tf.stop_gradient(links.link_ends)
    return links_from(
        lambda numbers: tf.gather(ends, numbers, batch_dims=1),
        ends.shape[1] // 2,
        slots,
    )


def links_from(
    gather: Gather, memory_slots: int, slots: tf.Tensor
) -> tuple[tuple[tf.Tensor, tf.Tensor], ...]:
    """What `follow_links` returns, wherever the lists are kept.

    Args:
        gather: As for `link_changes`.
        memory_slots: Integer N.
        slots: Integer tensor `[batch, n]`.
    """
    ends = _Ends(gather, memory_slots, rows=slots, columns=slots)
    return tuple(
        (tf.cast(end.linked, tf.int32), end.weights * end.others)
        for end in (ends.columns, ends.rows)
    )


def _unstack(lists):
    """The slots and the weights of lists `[batch, ..., 2, m]`."""
    slots, weights = tf.unstack(lists, axis=-2)
    return slots, weights


def _lookup(listed, weights, slots):
    """The weights that lists, slots and weights `[batch, ..., m]`, give to slots.

    Args:
        listed: Tensor `[batch, ..., m]`, or with fewer axes between.
        weights: Tensor of the same shape.
        slots: Tensor `[batch, ..., n]`.

    Returns:
        Tensor `[batch, ..., n]`, 0 for what is not listed.
    """
    same = tf.expand_dims(slots, -1) == _spread(listed, slots)
    return tf.reduce_sum(tf.where(same, _spread(weights, slots), 0.0), axis=-1)


def _among(slots, others):
    """Which of the slots `[batch, ...]` are among others, `[batch, m]`."""
    same = tf.expand_dims(slots, -1) == _spread(others, slots)
    return tf.reduce_any(same, axis=-1)


def _spread(listed, slots):
    """`[batch, ..., 1, m]`, to be compared with slots `[batch, ..., n, 1]`."""
    listed = tf.expand_dims(listed, -2)
    while listed.shape.rank <= slots.shape.rank:
        listed = tf.expand_dims(listed, 1)
    return listed


def _strongest(count, *entries):
    """The list `[batch, ..., 2, count]` of the entries that rank highest.

    Each of the `entries` has slots, ranks and weights `[batch, ..., m]`. What ranks at
    0 or below loses its weight.
    """
    slots, ranks, weights = (
        tf.concat(parts, axis=-1)
        for parts in zip(
            *(
                (slots + tf.zeros_like(ranks), ranks, weights)
                for slots, ranks, weights in entries
            ),
            strict=True,
        )
    )
    ranks, best = top_k(ranks, count)
    slots, weights = (
        tf.gather(values, best, batch_dims=best.shape.rank - 1)
        for values in (slots, weights)
    )
    return tf.stack([slots, tf.where(ranks > 0.0, weights, 0.0)], axis=-2)
