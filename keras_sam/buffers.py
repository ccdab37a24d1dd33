"""How a loop changes a few rows of a large tensor.

XLA finds out by itself that it may change a loop's tensor where it is. TensorFlow's
own scatters copy all of it, and the operations that do not copy change whatever else
holds the tensor as well: they are for a buffer that the loop itself has allocated.

Both ways have the same functions, so that a loop is written once.
"""

import math

import tensorflow as tf
from tensorflow.python.framework import ops as tf_ops
from tensorflow.python.ops import control_flow_util


class Values:
    """Tensors as values: an update is another tensor, unless XLA sees better."""

    @staticmethod
    def own(tensor):
        """A tensor that may be updated in this way."""
        return tensor

    update = staticmethod(tf.tensor_scatter_nd_update)
    add = staticmethod(tf.tensor_scatter_nd_add)

    @staticmethod
    def after(tensor, reads):
        """The tensor, no longer needed by the operations that made `reads`."""
        return tensor


class InPlace:
    """Buffers that an update changes where they are, outside XLA.

    Each update has to be made on what the one before returned, and each read has to
    come before the next update: either the update needs what was read, or `after`
    says so.
    """

    @staticmethod
    def own(tensor):
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
    def after(tensor, reads):
        """The tensor, once the operations that made `reads` are done with it."""
        with tf.control_dependencies(reads):
            return tf.identity(tensor)


def _in_place(operation, tensor, indices, updates):
    """`operation` on the rows that the last axis of `indices` names."""
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
    rows = operation(
        x=tf.reshape(tensor, row),
        i=tf.reshape(number, [-1]),
        v=tf.reshape(updates, row),
    )
    return tf.reshape(rows, shape)


def in_xla():
    """Whether the graph that is being built is for XLA."""
    graph = tf_ops.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)
