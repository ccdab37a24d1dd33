"""Approximate search by hashing, at a cost that does not grow with the memory."""

import bisect
import math
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_positive_integer
from keras_sam.index.base import Index
from keras_sam.ops.selection import distinct_top_k
from keras_sam.ops.similarity import similarity
from keras_sam.ops.sparse import batch_indices, is_first_occurrence

# States hold whole numbers in floats, which count exactly up to here.
LARGEST = 2**24

# Places in a table for each slot of the memory, about, if `bits` is not given.
ROOM = 4

# Every query is compared with so many of the slots inserted last.
RECENT = 64


class _Layout(NamedTuple):
    """Where in a sequence's state its parts begin."""

    bits: int
    tables: Any  # [tables, 1]; each [buckets, bucket_size]: a slot + 1, 0 where free
    homes: int  # [N, tables]: the place in each table where a slot was put last
    recent: int  # [RECENT]: the slots inserted last + 1, the latest first, or 0
    used: int  # the highest slot inserted so far + 1
    nowhere: int  # always 0: where changes go that are not to be made


@keras.saving.register_keras_serializable(package="keras_sam")
class LSH(Index):
    """Compares a query with words that lie on the same side of random planes.

    Locality-sensitive hashing, after [Charikar, 2002](
    https://doi.org/10.1145/509907.509965): a word's hash has a bit for each of some
    random planes through the origin, the side on which the word lies. The smaller
    the angle between two words, the fewer planes lie between them. A table has a
    bucket for each hash, which holds the numbers of a few slots. There are several
    tables, each with planes of its own, at right angles to one another, which spreads
    the words more evenly ([Ji et al., 2012](
    https://papers.nips.cc/paper_files/paper/2012/hash/072b030ba126b2f4b2374f342be9ed44-Abstract.html)).

    In each table a query looks into the bucket of its own hash and into those across
    the planes nearest to it ([Lv et al., 2007](
    https://www.vldb.org/conf/2007/papers/research/p950-lv.pdf)). It is compared with
    the words that the slots found there hold now, as in the exact search, besides

    - the 64 slots written last: as long as there are no more, it finds what the exact
      index finds;
    - K slots after all that were ever written, or the last K of the memory: there are
      always K different ones.

    A slot written to moves to the bucket of its new word in each table; where that
    is full, it takes another slot's place. The time of a step does not depend on N.
    The state takes about 10 numbers for each word of the memory.

    It is for words that are much more alike to their queries than all others, and of
    16 numbers or more: planes part shorter ones too coarsely. Of words that are hardly
    more alike than random ones it finds few. Such are the memories of some models
    that were trained with the exact index: give them more tables and probes.

    Args:
        tables: Integer, the number of tables. More of them find more, at a higher
            cost of each step. Defaults to `2`.
        bits: Integer, the number of a table's planes: it has `2**bits` buckets.
            Defaults to what gives a table about 4 places for each slot.
        bucket_size: Integer, the number of slots that a bucket holds. Defaults to
            `16`.
        probes: Integer, how many buckets of a table a query looks into, at most
            `bits + 1`. Where a memory of few slots makes for fewer `bits`, it looks
            into as many as there are. Defaults to `3`, or all of fewer buckets.
        seed: Integer that decides on the planes, the same on every machine. Defaults
            to `0`.

    Raises:
        ValueError: If an argument is not a positive integer (for the seed: an integer
            from 0 to 2^32 - 1), a table would have more than 2^24 places, which
            floats cannot count, all of them 2^31 or more, or there are more `probes`
            than `bits + 1`.

    Example:

    >>> index = keras_sam.index.LSH()
    >>> memory = tf.constant([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
    >>> state = index.reset(memory, given_rows=3)
    >>> index.search(state, memory, tf.constant([[[0.0, 1.0]]]), count=2).numpy()
    array([[[1, 2]]], dtype=int32)
    """

    supports_jit = True

    def __init__(self, tables=2, bits=None, bucket_size=16, probes=None, seed=0):
        self.tables = check_positive_integer("tables", tables)
        self.bits = None if bits is None else check_positive_integer("bits", bits)
        self.bucket_size = check_positive_integer("bucket_size", bucket_size)
        self.seed = check_positive_integer("seed", seed, minimum=0)
        if self.seed >= 2**32:
            raise ValueError(f"`seed` must be less than 2**32. Received: seed={seed!r}")
        # As numbers of bits: 2**bits itself may be too large to be made.
        spare = math.log2(LARGEST / self.bucket_size)
        if (self.bits or 1) > spare:
            raise ValueError(
                "A table must have at most 2**24 places, `bucket_size * 2**bits`. "
                f"Received: bits={bits!r}, bucket_size={bucket_size!r}"
            )
        if self.tables * self.bucket_size * 2 ** (self.bits or 1) >= 2**31:
            raise ValueError(
                "All tables together must have fewer than 2**31 places, "
                "`tables * bucket_size * 2**bits`. Received: "
                f"tables={tables!r}, bits={bits!r}, bucket_size={bucket_size!r}"
            )
        # Without `bits` their number is round(log2(places / bucket_size)), see _layout.
        most = 1 + (self.bits or round(spare))
        if probes is None:
            probes = min(3, most)
        self.probes = check_positive_integer("probes", probes)
        if self.probes > most:
            raise ValueError(
                "`probes` must be at most `bits + 1`: a bucket and those across one "
                f"plane, here {most}. Received: probes={probes!r}, bits={bits!r}"
            )

    def state_size(self, memory_slots, word_size):
        return self._layout(memory_slots).nowhere + 1

    def reset(self, memory, given_rows):
        layout = self._layout(memory.shape[1])
        batch = tf.shape(memory)[0]
        state = tf.zeros((batch, layout.nowhere + 1), memory.dtype)
        if not given_rows:
            return state
        rows = tf.stop_gradient(memory[:, :given_rows])
        yes = tf.fill((batch, 1), True)
        recent = tf.range(min(given_rows, RECENT))
        changes = [
            (layout.used, given_rows, yes),
            (layout.recent + recent, given_rows - recent, yes),
        ]
        # One table after another: at once they would take much memory.
        for table, planes in enumerate(self._planes(layout.bits, rows.shape[-1])):
            buckets = _hash(tf.tensordot(rows, tf.cast(planes, rows.dtype), 1))
            slots = tf.argsort(buckets, stable=True)
            buckets = tf.gather(buckets, slots, batch_dims=1)
            # Of a bucket's slots those stay with fewer than `bucket_size` before them.
            size = self.bucket_size
            before = tf.pad(buckets, [[0, 0], [size, 0]], constant_values=-1)
            stays = buckets != before[:, :given_rows]
            # So many in a row have different remainders.
            places = buckets * size + tf.range(given_rows) % size
            homes = layout.homes + slots * self.tables + table
            changes += [
                (layout.tables[table] + places, slots + 1, stays),
                (homes, places, stays),
            ]
        return _change(state, changes, layout.nowhere)

    def insert(
        self, state, slots, rows, active=None, update=tf.tensor_scatter_nd_update
    ):
        layout = self._layout_of(state)
        if active is None:
            active = tf.fill((tf.shape(slots)[0],), True)
        active = active[:, tf.newaxis]
        counts = active & is_first_occurrence(slots)
        used = tf.reduce_max(slots, axis=1, keepdims=True) + 1
        used = tf.maximum(used, _part(state, layout.used, 1))
        changes = [
            *self._moves(state, layout, slots, rows, counts),
            _listed_first(state, layout, slots, counts, active),
            (layout.used, used, active),
        ]
        return _change(state, changes, layout.nowhere, update)

    def search(self, state, memory, queries, count):
        memory, queries = tf.stop_gradient(memory), tf.stop_gradient(queries)
        slots, heads = memory.shape[1], queries.shape[1]
        layout = self._layout(slots)

        distances = self._distances(layout.bits, queries)
        buckets = _hash(distances)[..., tf.newaxis]
        across = min(self.probes - 1, layout.bits)
        nearest = tf.math.top_k(-tf.abs(distances), k=across).indices
        flipped = tf.bitwise.bitwise_xor(buckets, tf.bitwise.left_shift(1, nearest))
        # [batch, heads, tables, probes]
        buckets = tf.concat([buckets, flipped], axis=-1)
        places = (buckets * self.bucket_size + layout.tables)[..., tf.newaxis]
        places = tf.reshape(
            places + tf.range(self.bucket_size),
            (-1, heads, self.tables * (across + 1) * self.bucket_size),
        )

        spare = tf.minimum(_part(state, layout.used, 1), slots - count)
        others = [_part(state, layout.recent, RECENT) - 1, spare + tf.range(count)]
        others = tf.concat(others, axis=1)[:, tf.newaxis]
        others = tf.tile(others, (1, heads, 1))
        candidates = tf.concat([_take(state, places) - 1, others], axis=-1)
        candidates = tf.where(candidates < 0, spare[:, tf.newaxis], candidates)

        rows = tf.gather(memory, candidates, batch_dims=1)
        return distinct_top_k(similarity(queries, rows), candidates, count)

    def get_config(self):
        return {
            "tables": self.tables,
            "bits": self.bits,
            "bucket_size": self.bucket_size,
            "probes": self.probes,
            "seed": self.seed,
        }

    def _layout(self, slots):
        bits = self.bits
        if bits is None:
            places = min(ROOM * slots, LARGEST)
            bits = max(1, round(math.log2(places / self.bucket_size)))
        size = self.bucket_size * 2**bits
        starts = size * np.arange(self.tables, dtype="int32")[:, np.newaxis]
        homes = size * self.tables
        recent = homes + slots * self.tables
        used = recent + RECENT
        return _Layout(bits, starts, homes, recent, used, used + 1)

    def _layout_of(self, state):
        """The layout of a state, whose size no other N has."""
        slots = bisect.bisect_left(
            range(1, LARGEST),
            state.shape[1],
            key=lambda slots: self.state_size(slots, None),
        )
        return self._layout(1 + slots)

    def _planes(self, bits, size):
        """The planes of each table, as unit vectors: `[tables, W, bits]`."""
        # This generator is the one whose numbers no version of NumPy will change.
        draw = np.random.RandomState(self.seed).normal

        def basis():
            orthogonal, triangle = np.linalg.qr(draw(size=(size, size)))
            return orthogonal * np.sign(np.diag(triangle))

        planes = [
            np.concatenate([basis() for _ in range(-(-bits // size))], axis=1)
            for _ in range(self.tables)
        ]
        return np.stack(planes)[..., :bits]

    def _distances(self, bits, words):
        """How far words `[batch, n, W]` lie from planes: `[batch, n, tables, bits]`."""
        planes = tf.cast(self._planes(bits, words.shape[-1]), words.dtype)
        return tf.einsum("bnw,twk->bntk", words, planes)

    def _moves(self, state, layout, slots, rows, counts):
        """The changes that put slots into the buckets of their new words."""
        # Everything here has an axis of tables: [batch, tables, writes].
        distances = self._distances(layout.bits, rows)
        buckets = _hash(tf.transpose(distances, (0, 2, 1, 3)))
        numbers, counts = slots[:, tf.newaxis], counts[:, tf.newaxis]
        homes = layout.homes + numbers * self.tables
        homes += tf.range(self.tables)[:, tf.newaxis]
        old_places = _take(state, homes)
        # A slot is where it was put last, unless another one has taken its place.
        is_there = _take(state, layout.tables + old_places) == numbers + 1
        stays = is_there & (old_places // self.bucket_size == buckets)
        enters = counts & ~stays
        new_places = self._places(state, layout, numbers, buckets, enters)
        enters, leaves = _first_claims(
            new_places, enters, old_places, enters & is_there
        )
        return [
            (layout.tables + new_places, numbers + 1, enters),
            (layout.tables + old_places, 0, leaves),
            (homes, new_places, enters),
        ]

    def _places(self, state, layout, numbers, buckets, enters):
        """The place of each slot in the bucket that it enters.

        The free ones one by one; another slot's if there are too few.
        """
        inside = tf.range(self.bucket_size)
        places = (buckets * self.bucket_size + layout.tables)[..., tf.newaxis] + inside
        free = tf.cumsum(tf.cast(_take(state, places) == 0, tf.int32), axis=-1)
        order = tf.range(buckets.shape[-1])
        rivals = buckets[..., tf.newaxis, :] == buckets[..., tf.newaxis]
        rivals &= enters[..., tf.newaxis, :] & (order < order[:, tf.newaxis])
        rank = tf.reduce_sum(tf.cast(rivals, tf.int32), axis=-1)
        is_next = free == rank[..., tf.newaxis] + 1
        next_free = tf.reduce_min(tf.where(is_next, inside, self.bucket_size), axis=-1)
        chosen = tf.where(
            rank < free[..., -1], next_free, (numbers + rank) % self.bucket_size
        )
        return buckets * self.bucket_size + chosen


def _hash(distances):
    """The number that the signs are the bits of: `[...]` from `[..., bits]`."""
    bits = 2 ** np.arange(distances.shape[-1], dtype="int32")
    return tf.reduce_sum(tf.where(distances > 0, bits, 0), axis=-1)


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
    is_first = is_first_occurrence(tf.reshape(places, (-1, places.shape[-1])))
    wanted &= tf.reshape(is_first, tf.shape(wanted))
    return tf.split(wanted, 2, axis=-1)


def _listed_first(state, layout, slots, counts, active):
    """The change that puts slots before the others that were inserted last."""
    recent = _part(state, layout.recent, RECENT)
    again = tf.reduce_any(recent[..., tf.newaxis] == slots[:, tf.newaxis] + 1, axis=-1)
    listed = tf.concat([counts, active & (recent > 0) & ~again], axis=1)
    position = tf.cumsum(tf.cast(listed, tf.int32), axis=1) - 1
    return (
        layout.recent + position,
        tf.concat([slots + 1, recent], axis=1),
        listed & (position < RECENT),
    )


def _take(state, positions):
    """Whole numbers at positions `[batch, ...]` of a state."""
    return tf.cast(tf.gather(state, positions, batch_dims=1), tf.int32)


def _part(state, start, size):
    """Whole numbers in a row, `[batch, size]`."""
    return tf.cast(state[:, start : start + size], tf.int32)


def _change(state, changes, nowhere, update=tf.tensor_scatter_nd_update):
    """The state after some changes, all at once.

    Args:
        state: Tensor `[batch, size]`.
        changes: List of triples, broadcast together to `[batch, ...]`: positions,
            values and whether to make the change.
        nowhere: Integer, a position for the changes not to make.
        update: Function, see `Index.insert`.

    Returns:
        Tensor `[batch, size]`.
    """
    batch = tf.shape(state)[0]

    def join(arrays):
        return tf.concat([tf.reshape(each, (batch, -1)) for each in arrays], axis=1)

    positions = join([tf.where(made, at, nowhere) for at, _, made in changes])
    values = join([tf.where(made, value, 0) for _, value, made in changes])
    return update(state, batch_indices(positions), tf.cast(values, state.dtype))
