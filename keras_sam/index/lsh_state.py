"""What an index of hashes knows of a sequence's memory: one row of numbers."""

import bisect
from typing import NamedTuple

import tensorflow as tf

from keras_sam.index import sketches
from keras_sam.index.gathering import gather_once
from keras_sam.ops.sparse import batch_indices

# States hold whole numbers in floats, which count exactly up to here.
LARGEST = 2**24

# Places in a table for each slot.
ROOM = 2

# So many of the slots inserted last are listed.
RECENT = 64


class Layout(NamedTuple):
    """Where in a state its parts begin.

    The state begins with the buckets, table by table. A bucket is a row of
    `2 bucket_size` numbers: in each place a slot + 1, or 0 where it is free, then the
    sketches of the words in these slots.
    """

    tables: int  # how many
    bucket_size: int  # places of a bucket
    buckets: int  # of a table, at most
    bits: int  # planes of a table
    word_size: int
    homes: int  # [N, tables]: code * bucket_size + place, where a slot was put last
    recent: int  # [RECENT]: the slots inserted last + 1, the latest first, or 0
    used: int  # the highest slot inserted so far + 1
    splits: int  # how often a bucket was split
    nowhere: int  # always 0: where changes go that are not to be made
    planes: int  # [W, tables * bits + sketches.BITS]
    size: int

    @classmethod
    def of(cls, tables, bucket_size, slots, word_size):
        """The layout for a memory of so many slots, up to a multiple of a row."""
        # The state is a number of rows, so that a bucket can be gathered as one.
        width = 2 * bucket_size
        slots = _rounded_up(slots, width)
        most = 2 ** ((LARGEST // bucket_size).bit_length() - 1)
        buckets = min(ROOM * slots // bucket_size, most)
        bits = (buckets - 1).bit_length()
        homes = tables * buckets * width
        recent = homes + tables * slots
        used = recent + RECENT
        planes = used + 3
        size = planes + word_size * (tables * bits + sketches.BITS)
        return cls(
            *(tables, bucket_size, buckets, bits, word_size, homes, recent, used),
            splits=used + 1,
            nowhere=used + 2,
            planes=planes,
            size=_rounded_up(size, width),
        )

    @classmethod
    def of_size(cls, tables, bucket_size, size, word_size):
        """The layout of a state of so many numbers."""
        width = 2 * bucket_size
        multiples = range(1, LARGEST)
        found = bisect.bisect_left(
            multiples,
            size,
            key=lambda n: cls.of(tables, bucket_size, n * width, word_size).size,
        )
        return cls.of(tables, bucket_size, multiples[found] * width, word_size)

    @property
    def listed(self):
        """How many of the slots inserted last are listed."""
        return self.used - self.recent

    def position(self, tables, places):
        """Where places of tables are; the sketch is `bucket_size` numbers after.

        Args:
            tables: Integer tensor.
            places: Integer tensor, broadcast to it: `bucket * bucket_size + place`.
        """
        row = tables * self.buckets + places // self.bucket_size
        return row * 2 * self.bucket_size + places % self.bucket_size

    def home(self, tables, slots):
        """Where the homes of slots are."""
        return self.homes + slots * self.tables + tables


class State:
    """A state and its layout.

    Args:
        tensor: Tensor `[batch, size]`.
        layout: `Layout`.
    """

    def __init__(self, tensor, layout):
        self.tensor, self.layout = tensor, layout

    def take(self, positions):
        """Whole numbers at positions `[batch, ...]`."""
        return tf.cast(tf.gather(self.tensor, positions, batch_dims=1), tf.int32)

    def part(self, start, size=1):
        """Whole numbers in a row, `[batch, size]`."""
        return tf.cast(self.tensor[:, start : start + size], tf.int32)

    def buckets(self, tables, buckets):
        """Slots + 1 and sketches, each `[batch, n, bucket_size]`.

        Args:
            tables: Integer tensor `[batch, n]`.
            buckets: Integer tensor `[batch, n]`.
        """
        width = 2 * self.layout.bucket_size
        rows = tf.reshape(self.tensor, (-1, self.layout.size // width, width))
        numbers = tables * self.layout.buckets + buckets
        rows = tf.cast(gather_once(rows, numbers), tf.int32)
        return tf.split(rows, 2, axis=-1)

    def planes(self):
        """Those of each table, `[batch, W, bits]`, and those of sketches, in a list."""
        layout = self.layout
        sizes = [layout.bits] * layout.tables + [sketches.BITS]
        end = layout.planes + layout.word_size * sum(sizes)
        planes = self.tensor[:, layout.planes : end]
        planes = tf.reshape(planes, (-1, layout.word_size, sum(sizes)))
        return tf.split(planes, sizes, axis=-1)

    def distances(self, words):
        """How far words `[batch, n, W]` lie from the planes.

        Returns:
            Tensor `[batch, n, tables, bits]`, of tables; tensor `[batch, n, 24]`, of
            sketches.
        """
        *of_tables, of_sketches = self.planes()
        bits = self.layout.bits * self.layout.tables
        distances = tf.matmul(words, tf.concat([*of_tables, of_sketches], axis=-1))
        shape = (-1, words.shape[1], self.layout.tables, self.layout.bits)
        return tf.reshape(distances[..., :bits], shape), distances[..., bits:]

    def changed(self, changes, update=tf.tensor_scatter_nd_update):
        """The state after some changes, all at once.

        Args:
            changes: List of triples, broadcast together to `[batch, ...]`: positions,
                values and whether to make the change.
            update: Function, see `Index.insert`.

        Returns:
            `State`.
        """
        batch = tf.shape(self.tensor)[0]

        def join(arrays):
            return tf.concat([tf.reshape(each, (batch, -1)) for each in arrays], axis=1)

        nowhere = self.layout.nowhere
        positions = join([tf.where(made, at, nowhere) for at, _, made in changes])
        values = join([tf.where(made, value, 0) for _, value, made in changes])
        values = tf.cast(values, self.tensor.dtype)
        return State(update(self.tensor, batch_indices(positions), values), self.layout)


def _rounded_up(number, multiple):
    return -(-number // multiple) * multiple
