"""A memory in buffers that a loop changes in place.

Inside XLA `tf.tensor_scatter_nd_update` is compiled to an update in place. Outside XLA
it copies the whole tensor. TensorFlow's raw in-place operations do not copy, but they
also change whatever else holds the tensor: they are for buffers that the loop itself
has allocated.
"""

import math

import tensorflow as tf

from keras_sam.cells.sparse_memory import TensorMemory
from keras_sam.ops.masks import where_active
from keras_sam.ops.sparse import is_first_occurrence, row_numbers


class Values:
    """Tensors as values: an update is another tensor, unless XLA sees better."""

    @staticmethod
    def allocate(tensor):
        """A tensor that may be updated in this way."""
        return tensor

    update = staticmethod(tf.tensor_scatter_nd_update)
    add = staticmethod(tf.tensor_scatter_nd_add)

    @staticmethod
    def wait_for(reads, tensor):
        """The tensor, no longer needed by the operations that made `reads`."""
        return tensor


class Builtin(Values):
    """Values, updated by operations that LiteRT has among its builtin ones.

    What becomes of a place that an update names twice is left open there: LiteRT makes
    a sum. So here one of equal updates goes to its place, and the others to a row that
    is cut off. An update costs a copy of the tensor.
    """

    @staticmethod
    def update(tensor, indices, updates):
        rows, numbers, updates, shape = _as_rows(tensor, indices, updates)
        is_first = is_first_occurrence(numbers[tf.newaxis])[0]
        places = tf.where(is_first, numbers, tf.shape(rows)[0])[:, tf.newaxis]
        rows = tf.pad(rows, [[0, 1], [0, 0]])
        rows = tf.tensor_scatter_nd_update(rows, places, updates)[:-1]
        return tf.reshape(rows, shape)


class InPlace:
    """Buffers that an update changes where they are, outside XLA.

    Each update has to be made on what the one before returned, and each read has to
    come before the next update: either the update needs what was read, or `wait_for`
    says so.
    """

    @staticmethod
    def allocate(tensor):
        """A copy that nobody else holds."""
        rows = tf.shape(tensor)[0]
        # `Empty` is stateful: never folded into a constant nor shared.
        buffer = tf.raw_ops.Empty(shape=tf.shape(tensor), dtype=tensor.dtype)
        buffer = tf.raw_ops.InplaceUpdate(x=buffer, i=tf.range(rows), v=tensor)
        return tf.ensure_shape(buffer, tensor.shape)

    @staticmethod
    def update(tensor, indices, updates):
        return _in_place(tf.raw_ops.InplaceUpdate, tensor, indices, updates)

    @staticmethod
    def add(tensor, indices, updates):
        return _in_place(tf.raw_ops.InplaceAdd, tensor, indices, updates)

    @staticmethod
    def wait_for(reads, tensor):
        """The tensor, once the operations that made `reads` are done with it."""
        with tf.control_dependencies(reads):
            return tf.identity(tensor)


def _in_place(operation, tensor, indices, updates):
    rows, numbers, updates, shape = _as_rows(tensor, indices, updates)
    return tf.reshape(operation(x=rows, i=numbers, v=updates), shape)


def _as_rows(tensor, indices, updates):
    """A tensor as rows, each of which is what the last axis of `indices` can name.

    Returns:
        All rows; the numbers of those named; their updates; the tensor's shape.
    """
    depth = indices.shape[-1]
    if all(tensor.shape[1:]):
        shape = [-1, *tensor.shape[1:]]
        row = (-1, math.prod(shape[depth:]))
    else:
        shape = tf.shape(tensor)
        row = (-1, tf.reduce_prod(shape[depth:]))
    number = indices[..., 0]
    for axis in range(1, depth):
        number = number * shape[axis] + indices[..., axis]
    rows, updates = tf.reshape(tensor, row), tf.reshape(updates, row)
    return rows, tf.reshape(number, [-1]), updates, shape


class BufferMemory(TensorMemory):
    """The memory of one step of a loop, which keeps what a backward pass needs.

    Args:
        cell: A sparse cell.
        tensors: `MemoryTensors`, with the words as rows `[batch * N, W]`, as
            `allocate` made them.
        buffers: `Values`, `Builtin` or `InPlace`.
        active: Boolean tensor `[batch]`, the sequences in which the step counts, or
            None for all.
    """

    def __init__(self, cell, tensors, buffers, active=None):
        super().__init__(cell, tensors)
        self._buffers, self.update, self.active = buffers, buffers.update, active
        self._is_choosing = self._has_written = False
        self._reads = []
        # The results of `choose` and `gather`, in order.
        self.notes = []

    @classmethod
    def allocate(cls, cell, state, steps, buffers):
        """The tensors of a memory for a loop of so many steps."""
        tensors = cls.tensors_of(cell, state, steps)
        rows = tf.reshape(tensors.words, (-1, cell.word_size))
        own = tf.nest.map_structure(buffers.allocate, tensors._replace(words=rows))
        # Times are not set entry by entry.
        return own._replace(time=tensors.time)

    def choose(self, function):
        self._is_choosing = True
        choice = super().choose(function)
        self._is_choosing = False
        self.notes.append(choice)
        return choice

    def gather(self, slots):
        words = super().gather(slots)
        self._reads.append(words)
        if not self._is_choosing:
            self.notes.append(words)
        return words

    def write(self, slots, rows, old_rows, weights, erased):
        if self._has_written:
            # XLA copies a tensor on which a step makes two scatters.
            raise ValueError("A step writes to the memory once, to all its slots.")
        self._has_written = True
        rows = where_active(self.active, rows, old_rows)
        places = row_numbers(slots, self._slots)[..., tf.newaxis]
        self._set(words=self.update(self.tensors.words, places, rows))
        self._record_write(slots, rows, weights, erased)

    def read(self, slots, weights, words):
        # XLA has no sparse product, and the words have been gathered.
        return super(TensorMemory, self).read(slots, weights, words)

    def mark_accessed(self, slots, accessed):
        super().mark_accessed(slots, accessed)
        # The next step writes once all that was read here has been read.
        words, links = tf.nest.map_structure(
            lambda buffer: self._buffers.wait_for(self._reads, buffer),
            (self.tensors.words, self.tensors.links),
        )
        self._set(words=words, links=links)
