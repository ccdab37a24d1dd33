"""How slots get into the tables of an index of hashes, and the tables grow.

All that a step changes is one update of the state. The changes are computed from the
state before it. A split keeps the place of a slot within its bucket, so that a home,
which holds the slot's whole code and its place, stays true: the bucket follows from the
code and the number of buckets in use. Where a slot that is written in the same step
meets a slot that a split moves, the written one has the place.
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from keras_sam.index.linear_hashing import bucket_of, buckets_in_use, due_splits
from keras_sam.index.lsh_state import ROOM
from keras_sam.index.planes import side_bits
from keras_sam.ops.sparse import is_first_occurrence

# In so many places of its bucket a slot looks for a free one.
TRIES = 8


class Entries(NamedTuple):
    """Where written slots go in each table; all parts `[batch, tables, writes]`."""

    codes: Any  # integers, of the new words
    places: Any  # bucket * bucket_size + place
    has: Any  # booleans: whether a slot is in the table
    old_places: Any
    leaves: Any  # booleans: whether a slot's old place becomes free


def insert(state, slots, rows, active, update):
    """The state once some slots have got new words, see `Index.insert`.

    Args:
        state: `State`.
        slots: Integer tensor `[batch, writes]`, duplicates allowed.
        rows: Tensor `[batch, writes, W]`.
        active: Boolean tensor `[batch]`.
        update: Function, called once.

    Returns:
        `State`.
    """
    layout, active = state.layout, active[:, tf.newaxis]
    counts = active & is_first_occurrence(slots)
    used = tf.reduce_max(slots, axis=1, keepdims=True) + 1
    used = tf.maximum(used, state.part(layout.used))
    done = state.part(layout.splits)
    wanted = tf.where(active, _wanted(layout, used), done)
    splits = _splits(layout, done, wanted, slots.shape[1])
    new_done = done + tf.reduce_sum(tf.cast(splits.happen, tf.int32), -1, keepdims=True)
    in_use = (
        buckets_in_use(done, layout.tables),
        buckets_in_use(new_done, layout.tables),
    )
    of_tables, of_sketches = state.distances(rows)
    codes = side_bits(tf.transpose(of_tables, (0, 2, 1, 3)))
    entries = _entries(state, slots, codes, counts, *in_use)
    changes = [
        *_entered(layout, slots, side_bits(of_sketches), entries),
        *_split(state, slots, splits, entries),
        _listed_first(state, slots, counts, active),
        (layout.used, used, active),
        (layout.splits, new_done, active),
    ]
    return state.changed(changes, update)


def fill(state, rows):
    """The state, empty so far, with the first rows `[batch, n, W]` of the memory."""
    layout, given, size = state.layout, rows.shape[1], state.layout.bucket_size
    yes = tf.fill((tf.shape(rows)[0], 1), True)
    recent = tf.range(min(given, layout.listed))
    splits = _wanted(layout, given)
    changes = [
        (layout.used, given, yes),
        (layout.splits, splits, yes),
        (layout.recent + recent, given - recent, yes),
    ]
    state = state.changed(changes)
    in_use = buckets_in_use(splits, layout.tables)
    *planes, of_sketches = state.planes()
    sketches = side_bits(tf.matmul(rows, of_sketches))
    # One table after another: at once they would take much memory.
    for table in range(layout.tables):
        codes = side_bits(tf.matmul(rows, planes[table]))
        buckets = bucket_of(codes, in_use[table])
        slots = tf.argsort(buckets, stable=True)
        buckets, codes, of_slots = (
            tf.gather(each, slots, batch_dims=1) for each in (buckets, codes, sketches)
        )
        # Of a bucket's slots those stay with fewer than `bucket_size` before them.
        before = tf.pad(buckets, [[0, 0], [size, 0]], constant_values=-1)
        stays = buckets != before[:, :given]
        # So many in a row have different remainders.
        place = tf.range(given) % size
        at = layout.position(table, buckets * size + place)
        changes = [
            (at, slots + 1, stays),
            (at + size, of_slots, stays),
            (layout.home(table, slots), codes * size + place, stays),
        ]
        state = state.changed(changes)
    return state


def _wanted(layout, used):
    """The splits after which all tables have `ROOM` places for each slot used."""
    wanted = used * (layout.tables * ROOM) // layout.bucket_size
    return tf.minimum(wanted, layout.tables * (layout.buckets - 1))


def _splits(layout, done, wanted, writes):
    """The splits of a step, enough if half of the slots written are new.

    A SAM writes to the slots that it has read and to a new one for K of these. What is
    left over is done in the steps after; a table makes two splits at most.
    """
    most = -(-writes * layout.tables * ROOM // (2 * layout.bucket_size))
    return due_splits(done, wanted, layout.tables, min(most, 2 * layout.tables))


def _entries(state, slots, codes, counts, before, after):
    """Where written slots go, as `Entries`.

    Args:
        state: `State`.
        slots: Integer tensor `[batch, writes]`.
        codes: Integer tensor `[batch, tables, writes]`, of the new words.
        counts: Boolean tensor `[batch, writes]`: the slots to be entered.
        before: Integer tensor `[batch, tables]`, the buckets in use before the splits.
        after: Integer tensor `[batch, tables]`, the buckets in use after them.
    """
    layout, size, numbers = state.layout, state.layout.bucket_size, slots[:, tf.newaxis]
    tables = tf.range(layout.tables)[:, tf.newaxis]
    before, after = before[..., tf.newaxis], after[..., tf.newaxis]
    old_codes, place = _divided(state.take(layout.home(tables, numbers)), size)
    # A slot is where it was put last, unless another one has taken its place.
    old_places = bucket_of(old_codes, before) * size + place
    is_there = state.take(layout.position(tables, old_places)) == numbers + 1
    old_buckets, buckets = bucket_of(old_codes, after), bucket_of(codes, after)
    stays = is_there & (old_buckets == buckets)
    # Free before the splits is free after them.
    chosen = _place(state, numbers, bucket_of(codes, before))
    places = buckets * size + tf.where(stays, place, chosen)
    old_places = old_buckets * size + place
    has, leaves = _first_claims(
        places,
        tf.broadcast_to(counts[:, tf.newaxis], tf.shape(places)),
        old_places,
        counts[:, tf.newaxis] & is_there & ~stays,
    )
    return Entries(codes, places, has, old_places, leaves)


def _place(state, numbers, buckets):
    """A free place of each slot's bucket, or another slot's if a few are taken."""
    layout, size = state.layout, state.layout.bucket_size
    tries = min(TRIES, size)
    # Steps that have no divisor in common with the size lead to different places.
    steps = range(size // tries + 1, 0, -1)
    step = next(step for step in steps if math.gcd(step, size) == 1)
    tried = (numbers[..., tf.newaxis] + step * tf.range(tries)) % size
    tables = tf.range(layout.tables)[:, tf.newaxis, tf.newaxis]
    at = layout.position(tables, buckets[..., tf.newaxis] * size + tried)
    order = tf.where(state.take(at) == 0, tf.range(tries), tries)
    first = tf.reduce_min(order, axis=-1) % tries
    return (numbers + step * first) % size


def _entered(layout, slots, sketches, entries):
    """The changes that put slots into the buckets of their new words."""
    numbers = slots[:, tf.newaxis]
    tables = tf.range(layout.tables)[:, tf.newaxis]
    at = layout.position(tables, entries.places)
    place = entries.places % layout.bucket_size
    return [
        (at, numbers + 1, entries.has),
        (at + layout.bucket_size, sketches[:, tf.newaxis], entries.has),
        (layout.position(tables, entries.old_places), 0, entries.leaves),
        (
            layout.home(tables, numbers),
            entries.codes * layout.bucket_size + place,
            entries.has,
        ),
    ]


def _split(state, slots, splits, entries):
    """The changes that split buckets; what is written in this step comes first."""
    layout, size = state.layout, state.layout.bucket_size
    numbers, sketches = state.buckets(splits.tables, splits.sources)
    tables, sources, targets, happen = (part[..., tf.newaxis] for part in splits)
    moves = happen & (numbers > 0)
    homes = tf.where(moves, layout.home(tables, numbers - 1), layout.nowhere)
    codes, _ = _divided(state.take(homes), size)
    moves &= bucket_of(codes, targets + 1) == targets
    entered = tf.where(entries.has, entries.places, -1)
    entered = tf.gather(entered, splits.tables, batch_dims=1)
    source, target = (each * size + tf.range(size) for each in (sources, targets))
    leaves = moves & ~_is_among(source, entered)
    enters = moves & ~_is_among(target, entered)
    enters &= ~_is_among(numbers - 1, slots[:, tf.newaxis])
    at = layout.position(tables, target)
    return [
        (at, numbers, enters),
        (at + size, sketches, enters),
        (layout.position(tables, source), 0, leaves),
    ]


def _first_claims(entered, enters, left, leaves):
    """Which changes to make so that each place changes once.

    A place that is entered is not cleared; if several enter, the first does.

    Args:
        entered: Integer tensor `[batch, tables, writes]`, places in each table.
        enters: Boolean tensor of the same shape.
        left: As `entered`.
        leaves: As `enters`.

    Returns:
        What is left of `enters` and `leaves`.
    """
    wanted = tf.concat([enters, leaves], axis=-1)
    places = tf.where(wanted, tf.concat([entered, left], axis=-1), -1)
    wanted &= is_first_occurrence(places)
    return tf.split(wanted, 2, axis=-1)


def _listed_first(state, slots, counts, active):
    """The change that puts slots before the others that were inserted last."""
    layout = state.layout
    recent = state.part(layout.recent, layout.listed)
    again = tf.reduce_any(recent[..., tf.newaxis] == slots[:, tf.newaxis] + 1, axis=-1)
    listed = tf.concat([counts, active & (recent > 0) & ~again], axis=1)
    position = tf.cumsum(tf.cast(listed, tf.int32), axis=1) - 1
    return (
        layout.recent + position,
        tf.concat([slots + 1, recent], axis=1),
        listed & (position < layout.listed),
    )


def _is_among(values, others):
    """Whether values `[..., n]` are among others `[..., m]`: `[..., n]`."""
    same = values[..., tf.newaxis, :] == others[..., tf.newaxis]
    return tf.reduce_any(same, axis=-2)


def _divided(numbers, divisor):
    return numbers // divisor, numbers % divisor
