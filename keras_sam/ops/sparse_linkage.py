"""Temporal links kept in a few numbers for each slot: which was written after which.

The links are a matrix L with at most K_L entries in each row and in each column:
`L[i, j]` is how much slot i was written right after slot j. Its rows and its columns
are both kept, each as K_L slots with a weight, and **an entry is the product of the
weights that its row and its column give it**. So a slot is forgotten, or fades, by a
change of its own row and column alone: whatever else still lists it counts for nothing
or for less from then on, without having to be found. Nothing of this has a gradient.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_sam.ops.selection import largest
from keras_sam.ops.sparse import is_first_occurrence, same_slots


class SparseLinks(NamedTuple):
    """Links between N slots, at most K_L from and to each; whole numbers name slots.

    In both tensors the last axis but one has the slots and their weights.

    Example:

    >>> links = keras_sam.ops.empty_links(1, slots=4, links_per_slot=2)
    >>> keras_sam.ops.SparseLinks(*links).link_ends.shape
    TensorShape([1, 8, 2, 2])
    """

    # [batch, 2 N, 2, K_L]: at i row i, what was written right before slot i; at N + j
    # column j, what was written right after slot j
    link_ends: Any
    precedence: Any  # [batch, 2, K_L]: what was written last


def empty_links(batch_size, slots, links_per_slot, dtype="float32"):
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
    links, slots, weights, erased, active=None, update=tf.tensor_scatter_nd_update
):
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
    links = SparseLinks(*(tf.stop_gradient(part) for part in links))
    ends, links_per_slot = links.link_ends, links.precedence.shape[-1]
    first_column = ends.shape[1] // 2
    # Slots by the floats that the links have for them, and the weights on them.
    named, erased = (tf.cast(each, links.precedence.dtype) for each in (slots, erased))
    weights = tf.stop_gradient(tf.convert_to_tensor(weights, named.dtype))
    weights = tf.linalg.matvec(same_slots(named, named.dtype), weights)
    weights = tf.minimum(weights, 1.0)
    once = is_first_occurrence(named)
    counted = tf.where(once, weights, 0.0)

    def kept(slots):
        fades = 1.0 - _lookup(named, counted, slots)
        return tf.where(~_among(slots, erased), fades, 0.0)

    total = tf.reduce_sum(counted, axis=-1, keepdims=True)
    last, precedence = _unstack(links.precedence)
    precedence *= kept(last)
    most = tf.maximum(total, tf.reduce_sum(precedence, axis=-1, keepdims=True))
    gained = precedence / tf.maximum(most, 1.0)

    # The rows of what is written. The columns of what was written last are made anew
    # below: of their entries the row gets all, for the column to have a 1.
    old_rows = _lists(ends, named)
    before, in_row = _unstack(old_rows)
    in_column = _other_end(ends, before, named, first_column)
    in_row *= kept(named)[..., tf.newaxis]
    entries = in_row * in_column * kept(before)
    new = weights[..., tf.newaxis] * gained[:, tf.newaxis]
    new = tf.where(named[..., tf.newaxis] != last[:, tf.newaxis], new, 0.0)
    new += _lookup(before, entries, last[:, tf.newaxis])
    entries = tf.where(~_among(before, last), entries, 0.0)
    rows = _strongest(
        links_per_slot, (last[:, tf.newaxis], new, new), (before, entries, in_row)
    )

    # The columns of what was written last, and of what is written now.
    changed = tf.concat([last, named], axis=-1)
    old_columns = _lists(ends, changed, first_column)
    after, in_column = _unstack(old_columns)
    in_row = _other_end(ends, after, changed)
    fading = kept(changed)[..., tf.newaxis]
    in_column *= fading
    entries = tf.where(~_among(after, named), in_row * in_column, 0.0)
    new = _lookup(*_unstack(old_columns), named[:, tf.newaxis]) * fading
    new = tf.where(~_among(changed, last)[..., tf.newaxis], new, 1.0)
    new_in_row = _lookup(*_unstack(rows), changed[:, tf.newaxis])
    new_entries = new * tf.linalg.matrix_transpose(new_in_row)
    new_entries = tf.where(once[:, tf.newaxis], new_entries, 0.0)
    columns = _strongest(
        links_per_slot,
        (named[:, tf.newaxis], new_entries, new),
        (after, entries, in_column),
    )

    # What was written last is from now on what is written now. Its slots are all
    # different, those without a weight as well: a second entry ranks below them.
    remaining = tf.maximum(1.0 - total, 0.0) * precedence
    written = weights + _lookup(last, remaining, named)
    remaining = (last, tf.where(~_among(last, named), remaining, -1.0), remaining)
    precedence = _strongest(
        links_per_slot, remaining, (named, tf.where(once, written, -1.0), written)
    )

    # All lists at once: XLA copies a tensor on which a step makes two scatters.
    lists, old_lists = (
        tf.concat(each, axis=1) for each in ((rows, columns), (old_rows, old_columns))
    )
    if active is not None:
        active = active[:, tf.newaxis, tf.newaxis]
        precedence = tf.where(active, precedence, links.precedence)
        lists = tf.where(active[:, tf.newaxis], lists, old_lists)
    places = tf.concat([_places(named), _places(changed, first_column)], axis=1)
    return SparseLinks(update(ends, places, lists), precedence)


def follow_links(links, slots):
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
    named, first_column = tf.cast(slots, ends.dtype), ends.shape[1] // 2
    directions = []
    for own, other in ((first_column, 0), (0, first_column)):
        linked, weights = _unstack(_lists(ends, named, own))
        weights *= _other_end(ends, linked, named, other)
        directions.append((tf.cast(linked, tf.int32), weights))
    return tuple(directions)


def _lists(ends, slots, first=0):
    """Rows, or columns from the `first` on, of slots `[batch, ...]`."""
    return tf.gather(ends, tf.cast(slots, tf.int32) + first, batch_dims=1)


def _other_end(ends, linked, slots, first=0):
    """The weights that slots have in the lists of what is linked to them.

    Args:
        ends: Tensor `[batch, 2 N, 2, K_L]`.
        linked: Tensor `[batch, n, K_L]`, what the lists of the slots name.
        slots: Tensor `[batch, n]`.
        first: Integer, see `_lists`.

    Returns:
        Tensor `[batch, n, K_L]`.
    """
    others = _unstack(_lists(ends, linked, first))
    return _lookup(*others, slots[..., tf.newaxis, tf.newaxis])[..., 0]


def _unstack(lists):
    """The slots and the weights of lists `[batch, ..., 2, m]`."""
    return tf.unstack(lists, axis=-2)


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
    ranks, best = largest(ranks, count)
    slots, weights = (
        tf.gather(values, best, batch_dims=best.shape.rank - 1)
        for values in (slots, weights)
    )
    return tf.stack([slots, tf.where(ranks > 0.0, weights, 0.0)], axis=-2)


def _places(slots, first=0):
    """Where the lists of slots `[batch, n]` stand, `[batch, n, 2]`."""
    slots = tf.cast(slots, tf.int32) + first
    batch = tf.range(tf.shape(slots)[0])[:, tf.newaxis]
    return tf.stack([tf.broadcast_to(batch, tf.shape(slots)), slots], axis=-1)
