"""Approximate search by hashing, at a cost that does not grow with the memory."""

import itertools
import math
from typing import Any, Self

import keras
import tensorflow as tf

from keras_sam.arguments import check_positive_integer
from keras_sam.index import lsh_insert, sketches
from keras_sam.index.base import Index
from keras_sam.index.gathering import gather_once, gather_scattered
from keras_sam.index.linear_hashing import bucket_of, buckets_in_use
from keras_sam.index.lsh_state import LARGEST, Layout, State
from keras_sam.index.planes import draw_planes, side_bits
from keras_sam.ops.selection import distinct_top_k
from keras_sam.ops.similarity import similarity
from keras_sam.options import Update

# A query crosses so many of the planes nearest to it, at most.
NEAREST = 10


@keras.saving.register_keras_serializable(package="keras_sam")
class LSH(Index):
    """Compares a query with words that lie on the same side of random planes.

    Locality-sensitive hashing, after [Charikar, 2002](
    https://doi.org/10.1145/509907.509965): a word's code has a bit for each of some
    random planes through the origin, the side on which the word lies. The smaller the
    angle between two words, the fewer planes lie between them. A table has buckets,
    each for the words of some codes, which hold the numbers of a few slots. There are
    several tables, each with planes of its own, at right angles to one another, which
    spreads the words more evenly ([Ji et al., 2012](
    https://papers.nips.cc/paper_files/paper/2012/hash/072b030ba126b2f4b2374f342be9ed44-Abstract.html)).

    - *Planes.* A cell's queries are `q = K h + b`. They occupy the directions of the
      query weights K, and a word also holds a value, which its query does not know. A
      cell therefore lays the planes in the directions of its queries
      (`keras_sam.index.planes`): with S the sum of `K K^T` over the read heads, over
      its trace, they are drawn from a normal distribution of covariance S^4. The planes
      are in the state, drawn by `get_initial_state`: words stay where a search looks
      for them if the weights change between two chunks of a stream. A cell that is not
      built has no query weights, and planes of all directions alike.
    - *Tables.* They have buckets for the words written, not for N, and grow by linear
      hashing (`keras_sam.index.linear_hashing`), a bucket or two at a step. A slot
      written to moves to the bucket of its new word; where it finds no free place
      there, it takes another slot's.
    - *Probes.* In each table a query looks into the bucket of its own code and into
      those across the planes nearest to it ([Lv et al., 2007](
      https://www.vldb.org/conf/2007/papers/research/p950-lv.pdf)).
    - *Sketches.* A short code beside each slot number (`keras_sam.index.sketches`)
      tells which of the slots found are worth a look. The query is compared with the
      words that these hold now, as in the exact search.

    A query is also compared with the 64 slots written last and with K slots after all
    that were ever written, or the last K of the memory. So there are always K
    different slots, and as long as no more than 64 words were written, the K best.
    The time of a step does not depend on N. The state takes about 40 numbers for each
    word of the memory.

    It finds words that are clearly more alike to their queries than others in the
    directions of queries, of 16 numbers or more. Among words that are hardly more
    alike than random ones it finds few.

    Args:
        tables: Integer, the number of tables. More of them find more, at a higher
            cost of each step. Defaults to `8`.
        bucket_size: Integer, the number of slots that a bucket holds. A table has
            about two places for each slot. Defaults to `64`.
        probes: Integer, at most 1,024: how many buckets of a table a query looks into.
            Where a table has fewer it looks into all. Defaults to `8`.
        reordering: Integer, how many words a query is compared with in full, besides
            those written last. Fastest as a power of two. Defaults to `256`.
        seed: Integer that decides on the planes. Defaults to `0`.

    Raises:
        ValueError: If an argument is not a positive integer (for the seed: an integer
            from 0 to 2^32 - 1), or is larger than it can be (`bucket_size`: 2^22); when
            used, if the state would have 2^31 numbers or more.

    Example:

    >>> index = keras_sam.index.LSH()
    >>> memory = tf.constant([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
    >>> state = index.reset(memory, given_rows=3)
    >>> index.search(state, memory, tf.constant([[[0.0, 1.0]]]), count=2).numpy()
    array([[[1, 2]]], dtype=int32)
    """

    supports_jit = True
    shares_memory = True

    def __init__(
        self,
        tables: int = 8,
        bucket_size: int = 64,
        probes: int = 8,
        reordering: int = 256,
        seed: int = 0,
    ) -> None:
        self.tables = check_positive_integer("tables", tables)
        self.bucket_size = check_positive_integer("bucket_size", bucket_size)
        self.probes = check_positive_integer("probes", probes)
        self.reordering = check_positive_integer("reordering", reordering)
        self.seed = check_positive_integer("seed", seed, minimum=0)
        for name, limit in (
            ("bucket_size", LARGEST // 4),
            ("probes", 2**NEAREST),
            ("seed", 2**32 - 1),
        ):
            if getattr(self, name) > limit:
                raise ValueError(
                    f"`{name}` must be at most {limit}. "
                    f"Received: {name}={getattr(self, name)!r}"
                )

    def state_size(self, memory_slots: int, word_size: int) -> int:
        return self._layout(memory_slots, word_size).size

    def reset(self, memory: tf.Tensor, given_rows: int) -> tf.Tensor:
        return self.start(memory, given_rows)

    def start(
        self, memory: tf.Tensor, given_rows: int, directions: tf.Tensor | None = None
    ) -> tf.Tensor:
        slots, word_size = memory.shape[1:]
        layout = self._layout(slots, word_size)
        if directions is None:
            directions = tf.eye(word_size, dtype=memory.dtype)
        planes = draw_planes(
            self.seed,
            tf.stop_gradient(tf.cast(directions, memory.dtype)),
            [(layout.bits, word_size)] * self.tables
            + [(sketches.BITS, min(sketches.BLOCK, word_size))],
        )
        after = layout.size - layout.planes - word_size * planes.shape[1]
        planes = tf.pad(tf.reshape(planes, (1, -1)), [[0, 0], [layout.planes, after]])
        state = State(tf.tile(planes, (tf.shape(memory)[0], 1)), layout)
        if given_rows:
            rows = tf.stop_gradient(memory[:, :given_rows])
            state = lsh_insert.fill(state, rows)
        return tf.ensure_shape(state.tensor, (memory.shape[0], layout.size))

    def insert(
        self,
        state: tf.Tensor,
        slots: tf.Tensor,
        rows: tf.Tensor,
        active: tf.Tensor | None = None,
        update: Update = tf.tensor_scatter_nd_update,
    ) -> tf.Tensor:
        if active is None:
            active = tf.fill((tf.shape(slots)[0],), True)
        layout = Layout.of_size(
            self.tables, self.bucket_size, state.shape[1], rows.shape[-1]
        )
        parts = State(state, layout)
        return lsh_insert.insert(parts, slots, rows, active, update).tensor

    def search(
        self, state: tf.Tensor, memory: tf.Tensor, queries: tf.Tensor, count: int
    ) -> tf.Tensor:
        memory, queries = tf.stop_gradient(memory), tf.stop_gradient(queries)
        found, others = self._to_compare(state, memory, queries, count)
        scores = [
            similarity(queries, gather(memory, each))
            for gather, each in ((gather_scattered, found), (gather_once, others))
        ]
        return distinct_top_k(
            tf.concat(scores, axis=-1), _side_by_side(found, others), count
        )

    def search_without(
        self,
        state: tf.Tensor,
        memory: tf.Tensor,
        queries: tf.Tensor,
        count: int,
        without: tf.Tensor,
    ) -> tf.Tensor:
        # Who leaves some out compares words again: all that a search would compare.
        return _side_by_side(*self._to_compare(state, memory, queries, count))

    def get_config(self) -> dict[str, Any]:
        return {
            "tables": self.tables,
            "bucket_size": self.bucket_size,
            "probes": self.probes,
            "reordering": self.reordering,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        # Tables of a fixed number of buckets had `2**bits` of them.
        return cls(**{name: config[name] for name in config if name != "bits"})

    def _layout(self, slots, word_size):
        layout = Layout.of(self.tables, self.bucket_size, slots, word_size)
        if layout.size >= 2**31:
            raise ValueError(
                "An LSH index must have fewer than 2**31 numbers in its state, which "
                "holds about 5 for each slot and table. Received: "
                f"tables={self.tables}, bucket_size={self.bucket_size}, N={slots}"
            )
        return layout

    def _to_compare(self, state, memory, queries, count):
        """The slots whose words queries are compared with.

        Returns:
            Integer tensors: `[batch, heads, reordering]`, those found in the tables;
            `[batch, 1, n]`, those of all heads.
        """
        slots, word_size = memory.shape[1:]
        layout = self._layout(slots, word_size)
        parts = State(state, layout)
        spare = tf.minimum(parts.part(layout.used), slots - count)
        found = self._candidates(parts, queries)
        found = tf.where(found < 0, spare[:, tf.newaxis], found)
        recent = parts.part(layout.recent, layout.listed) - 1
        recent = tf.where(recent < 0, spare, recent)
        others = tf.concat([recent, spare + tf.range(count)], axis=1)
        return found, others[:, tf.newaxis]

    def _candidates(self, state, queries):
        """Of the slots found those whose sketches are the most like the queries'.

        Returns:
            Integer tensor `[batch, heads, reordering]`, -1 where there is none.
        """
        of_tables, of_sketches = state.distances(queries)
        buckets = self._probed(state, of_tables)
        heads, probes, tables = buckets.shape[1:]
        count = probes * tables
        buckets = tf.reshape(buckets, (-1, heads * count))
        parts = state.buckets(tf.tile(tf.range(tables), [heads * probes]), buckets)
        shape = (-1, heads, count * self.bucket_size)
        found, codes = (tf.reshape(part, shape) for part in parts)
        # In one whole number for both: how alike, then the slot, the lowest first.
        alike = sketches.FARTHEST - sketches.differences(of_sketches, codes)
        keys = tf.where(found > 0, alike * LARGEST + LARGEST - found, -1)
        # The best of each group: every so many places.
        missing = -shape[2] % self.reordering
        keys = tf.pad(keys, [[0, 0], [0, 0], [0, missing]], constant_values=-1)
        groups = (shape[2] + missing) // self.reordering
        # The last axis lies within a bucket: XLA then reduces many lanes at a time.
        lanes = math.gcd(self.reordering, self.bucket_size)
        keys = tf.reshape(keys, (-1, heads, groups, self.reordering // lanes, lanes))
        best = tf.reduce_max(keys, axis=2)
        best = tf.reshape(best, (-1, heads, self.reordering))
        slots = LARGEST - 1 - tf.bitwise.bitwise_and(best, LARGEST - 1)
        return tf.where(best < 0, -1, slots)

    def _probed(self, state, distances):
        """The buckets that queries look into: `[batch, heads, probes, tables]`.

        Args:
            state: `State`.
            distances: Tensor `[batch, heads, tables, bits]`, from the planes.
        """
        in_use = buckets_in_use(state.part(state.layout.splits), self.tables)
        order = tf.range(state.layout.bits)
        bits = tf.bitwise.left_shift(1, order)
        # Planes that tell no buckets apart yet are the last to be crossed.
        matters = (bits < in_use[..., tf.newaxis])[:, tf.newaxis]
        far = tf.where(matters, tf.abs(distances), distances.dtype.max)
        # Added here: a sum over an axis, made with its terms, XLA does not vectorise.
        rank = sum(
            tf.cast((other < far) | (other == far) & (number < order), tf.int32)
            for number, other in enumerate(tf.split(far, state.layout.bits, axis=-1))
        )
        sets = _flip_sets(state.layout.bits, self.probes)
        flip = [
            tf.reduce_sum(tf.where(rank == number, bits, 0), axis=-1)
            for number in range(1 + max(itertools.chain(*sets), default=0))
        ]
        none = tf.zeros_like(flip[0])
        flips = tf.stack([sum((flip[r] for r in ranks), none) for ranks in sets], 2)
        codes = tf.bitwise.bitwise_xor(side_bits(distances)[:, :, tf.newaxis], flips)
        return bucket_of(codes, in_use[:, tf.newaxis, tf.newaxis])


def _side_by_side(found, others):
    """Slots of each head `[batch, heads, n]` and of all heads `[batch or 1, 1, m]`."""
    batch, heads, _ = tf.unstack(tf.shape(found))
    others = tf.broadcast_to(others, [batch, heads, others.shape[2]])
    return tf.concat([found, others], axis=-1)


def _flip_sets(bits, count):
    """Sets of planes to cross, by their ranks from 0 on, the nearest planes first.

    The distances of the nearest planes grow about evenly with their ranks: the sets
    are ordered by the sums of their distances.
    """
    ranks = range(min(bits, NEAREST))
    sets = itertools.chain.from_iterable(
        itertools.combinations(ranks, size) for size in range(len(ranks) + 1)
    )
    return sorted(sets, key=lambda some: sum(some) + len(some))[:count]
