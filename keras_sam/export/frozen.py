"""A recurrent layer of a sparse cell that goes on from a frozen memory.

With exact search a request gets what the layer computes from the same state. A state
that goes from chunk to chunk of a stream holds the request's own copies: it grows with
what the stream has touched, up to the size of the memory.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_sam.checks import check_state_sizes
from keras_sam.export.overlay import (
    Copies,
    FrozenMemory,
    LinkCopies,
    OverlayMemory,
    OverlayTensors,
    with_room,
)
from keras_sam.export.streaming import Stream
from keras_sam.index import get as get_index
from keras_sam.index.frozen import Resources
from keras_sam.ops.masks import where_active


class Carry(NamedTuple):
    """What goes from step to step."""

    memory: Any  # OverlayTensors
    access: Any  # the cell's AccessState, the controller's states in a flat list
    output: Any  # [batch, output_size]


class FrozenStream(Stream):
    """How a layer of a sparse cell goes on from a frozen memory.

    Args:
        layer: A `keras_sam.SAM`, a `keras_sam.SDNC` or a layer of another sparse cell.
        start: List of tensors `[1, size]`: its states when the memory was written.
        index: How frozen words are found, as for `keras_sam.SAMCell`. Defaults to the
            layer's index.

    Raises:
        ValueError: If the layer goes backwards, or its states are not such.
    """

    def __init__(self, layer, start, index=None):
        super().__init__(layer)
        cell = self._cell = layer.cell
        if layer.go_backwards:
            raise ValueError(
                "Only a layer that goes forwards can have a frozen memory: leave this "
                f"layer out of `memory`. Received: layer {layer.name!r} with "
                "go_backwards=True"
            )
        check_state_sizes(cell.state_size, [tuple(s.shape) for s in start], 1)
        state = cell.unpack_state(start)
        index = cell.index if index is None else get_index(index, cell.memory_slots)
        self._memory = FrozenMemory(cell, state, index)
        access = cell.access_state(state)
        self._access = access._replace(controller=tf.nest.flatten(access.controller))
        # Variables: constants would be part of the graph, which has to be small.
        self._access = tf.nest.map_structure(
            lambda value: tf.Variable(value, trainable=False), self._access
        )
        self.resources = Resources(
            memory=self._memory.resources, access=tf.nest.flatten(self._access)
        )

    @property
    def fields(self):
        links = ["own_links", "own_link_ends", "precedence"]
        return [
            *("own_slots", "own_ages", "own_rows", "time"),
            *(links if self._cell.link_fields else []),
            *("read_slots", "read_weights", "read_vectors"),
            *(f"controller_{i}" for i in range(len(self._access.controller))),
        ]

    def initial_state(self, batch_size):
        access = tf.nest.map_structure(
            lambda value: tf.repeat(tf.convert_to_tensor(value), batch_size, axis=0),
            self._access,
        )
        # Where the first step writes.
        reads = self._cell.read_heads * self._cell.reads_per_head
        slots = tf.reshape(access.read_slots, (-1, reads))
        return self._named(self._memory.first_tensors(slots), access)

    def run(self, sequences, states, mask, steps=None):
        memory, access = self._unnamed(states)
        batch, length = tf.shape(sequences)[0], tf.shape(sequences)[1]
        memory = with_room(memory, *self._most_touched(length))
        steps = length if steps is None else steps
        output = tf.zeros((batch, self._cell.output_size), access.read_vectors.dtype)
        outputs = tf.TensorArray(output.dtype, size=length, element_shape=output.shape)

        def step(t, carry, outputs):
            active = None if mask is None else mask[:, t]
            carry = self._step(sequences[:, t], carry, active)
            output = carry.output
            if self.layer.zero_output_for_mask:
                output = where_active(active, output, tf.zeros_like(output))
            return t + 1, carry, outputs.write(t, output)

        carry = Carry(memory, access, output)
        _, carry, outputs = tf.while_loop(
            lambda t, *_: t < steps,
            step,
            (0, carry, outputs),
            parallel_iterations=1,
        )
        outputs = tf.transpose(outputs.stack(), (1, 0, 2))
        if not self.layer.return_sequences:
            outputs = outputs[:, -1]
        return outputs, self._named(carry.memory, carry.access)

    def _step(self, inputs, carry, active):
        cell, old = self._cell, carry.access
        memory = OverlayMemory(self._memory, carry.memory, active)
        nested = cell.nest_controller(old.controller)
        output, access, _ = cell.sparse_step(
            inputs, old._replace(controller=nested), memory
        )
        access = access._replace(controller=tf.nest.flatten(access.controller))
        output, access = where_active(active, (output, access), (carry.output, old))
        new = Carry(memory.tensors, access, output)
        tf.nest.map_structure(lambda new, old: new.set_shape(old.shape), new, carry)
        return new

    def _most_touched(self, steps):
        """How many slots so many steps may copy, and how many lists of links."""
        cell = self._cell
        copies = cell.write_heads + cell.read_heads * cell.reads_per_head
        copies = tf.minimum(steps * copies, cell.memory_slots)
        if not cell.link_fields:
            return copies, 0
        lists = 2 * cell.write_heads * cell.writes_per_head + cell.links_per_slot
        return copies, tf.minimum(steps * lists, 2 * cell.memory_slots)

    # States by name.

    def _named(self, memory, access):
        values = [*memory.copies, memory.time, *memory.links, *access[:3]]
        values += access.controller
        return dict(zip(self.fields, values, strict=True))

    def _unnamed(self, states):
        values = iter(states.values())

        def take(count):
            return [next(values) for _ in range(count)]

        copies, time = Copies(*take(3)), next(values)
        links = LinkCopies(*take(3)) if self._cell.link_fields else ()
        access = type(self._access)(*take(3), controller=list(values))
        return OverlayTensors(copies, time, links), access
