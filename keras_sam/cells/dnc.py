"""The Differentiable Neural Computer's cell."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_sam import ops
from keras_sam.arguments import check_rate
from keras_sam.cells.base import MemoryCell

# Sharpening raises link weightings to a power; a weighting of zeros (nothing
# linked yet) becomes a uniform one.
LINK_EPSILON = 1e-6


class DNCState(NamedTuple):
    """State of a `DNCCell`; R read heads."""

    memory: Any  # [batch, N, W]
    usage: Any  # [batch, N]
    link: Any  # [batch, N, N]
    precedence: Any  # [batch, N]
    write_weights: Any  # [batch, N]
    read_weights: Any  # [batch, R, N]
    read_vectors: Any  # [batch, R, W]
    controller: Any  # the controller's own states


@keras.saving.register_keras_serializable(package="keras_sam")
class DNCCell(MemoryCell):
    """DOC"""

    State = DNCState

    def __init__(
        self,
        units,
        memory_slots=128,
        word_size=20,
        read_heads=4,
        controller="lstm",
        key_masks=False,
        mask_min=0.0,
        wipe_freed=False,
        sharpen_links=False,
        link_gradients=True,
        bypass_dropout=0.0,
        normalize_interface=False,
        initial_read_vectors="zeros",
        **kwargs,
    ):
        self.key_masks = bool(key_masks)
        self.mask_min = check_rate("mask_min", mask_min)
        self.wipe_freed = bool(wipe_freed)
        self.sharpen_links = bool(sharpen_links)
        self.link_gradients = bool(link_gradients)
        self.bypass_dropout_rate = check_rate("bypass_dropout", bypass_dropout)
        self.normalize_interface = bool(normalize_interface)
        super().__init__(
            units,
            memory_slots,
            word_size,
            read_heads,
            controller,
            initial_read_vectors=initial_read_vectors,
            **kwargs,
        )
        self.bypass_dropout = keras.layers.Dropout(
            self.bypass_dropout_rate, seed=self.seed, dtype=self.dtype_policy
        )
        if self.normalize_interface:
            self.interface_norm = keras.layers.LayerNormalization(
                dtype=self.dtype_policy, name="interface_norm"
            )

    @property
    def state_shapes(self):
        slots = self.memory_slots
        return {
            "memory": (slots, self.word_size),
            "usage": (slots,),
            "link": (slots, slots),
            "precedence": (slots,),
            "write_weights": (slots,),
            "read_weights": (self.read_heads, slots),
            "read_vectors": (self.read_heads, self.word_size),
        }

    @property
    def interface_size(self):
        return sum(self._interface_sizes().values())

    def _interface_sizes(self):
        """The parts of the interface vector, in the paper's order."""
        words, heads = self.word_size, self.read_heads
        sizes = {
            "read_keys": heads * words,
            "read_strengths": heads,
            "write_key": words,
            "write_strength": 1,
            "erase": words,
            "write_vector": words,
            "free_gates": heads,
            "allocation_gate": 1,
            "write_gate": 1,
            "read_modes": heads * 3,
        }
        if self.key_masks:
            sizes |= {"read_masks": heads * words, "write_mask": words}
        if self.sharpen_links:
            sizes |= {"forward_sharpness": heads, "backward_sharpness": heads}
        return sizes

    def build(self, input_shape):
        super().build(input_shape)
        if self.normalize_interface:
            self.interface_norm.build((input_shape[0], self.interface_size))

    def initial_fields(self, batch_size, given_rows):
        fields = super().initial_fields(batch_size, given_rows)
        for name, shape in self.state_shapes.items():
            if name not in fields:
                fields[name] = tf.zeros((batch_size, *shape), self.compute_dtype)
        # Given rows are in use, or the first writes would overwrite them.
        usage = tf.cast(tf.range(self.memory_slots) < given_rows, self.compute_dtype)
        fields["usage"] = self._for_each(batch_size, usage)
        return fields

    def project_interface(self, hidden):
        interface = super().project_interface(hidden)
        if self.normalize_interface:
            interface = self.interface_norm(interface)
        return interface

    def bypass(self, hidden):
        return self.bypass_dropout(hidden)

    def _parse_interface(self, interface):
        sizes = self._interface_sizes()
        parts = dict(
            zip(sizes, tf.split(interface, list(sizes.values()), axis=-1), strict=True)
        )

        def per_head(name):
            width = sizes[name] // self.read_heads
            return tf.reshape(parts[name], (-1, self.read_heads, width))

        parts["read_keys"] = per_head("read_keys")
        parts["read_modes"] = tf.nn.softmax(per_head("read_modes"))
        for name in ("erase", "free_gates", "allocation_gate", "write_gate"):
            parts[name] = tf.sigmoid(parts[name])
        for name in ("read_strengths", "write_strength"):
            parts[name] = oneplus(parts[name])
        if self.key_masks:
            parts["read_masks"] = self._mask(per_head("read_masks"))
            parts["write_mask"] = self._mask(parts["write_mask"])[:, tf.newaxis]
        if self.sharpen_links:
            for name in ("forward_sharpness", "backward_sharpness"):
                parts[name] = oneplus(parts[name])
        return parts

    def _mask(self, values):
        return self.mask_min + (1.0 - self.mask_min) * tf.sigmoid(values)

    def access(self, interface, state):
        parts = self._parse_interface(interface)

        # Write where there is room, or where the memory is like the write key.
        usage = ops.usage_after_write(state.usage, state.write_weights)
        retention = ops.retention(parts["free_gates"], state.read_weights)
        usage = usage * retention
        write_content = ops.content_weights(
            state.memory,
            parts["write_key"][:, tf.newaxis],
            parts["write_strength"],
            parts.get("write_mask"),
        )[:, 0]
        write_weights = parts["write_gate"] * (
            parts["allocation_gate"] * ops.allocation_weights(usage)
            + (1.0 - parts["allocation_gate"]) * write_content
        )
        memory = state.memory
        if self.wipe_freed:
            memory = memory * retention[..., tf.newaxis]
        memory = ops.erase_and_add(
            memory,
            write_weights[:, tf.newaxis],
            parts["erase"][:, tf.newaxis],
            parts["write_vector"][:, tf.newaxis],
        )

        # Remember in which order.
        link = ops.update_link(state.link, state.precedence, write_weights)
        if not self.link_gradients:
            link = tf.stop_gradient(link)
        precedence = ops.update_precedence(state.precedence, write_weights)

        # Read by content, or along the links from where was read before.
        backward = ops.directional_weights(link, state.read_weights, forward=False)
        forward = ops.directional_weights(link, state.read_weights, forward=True)
        if self.sharpen_links:
            backward = ops.sharpen(backward, parts["backward_sharpness"], LINK_EPSILON)
            forward = ops.sharpen(forward, parts["forward_sharpness"], LINK_EPSILON)
        content = ops.content_weights(
            memory, parts["read_keys"], parts["read_strengths"], parts.get("read_masks")
        )
        modes = parts["read_modes"]
        read_weights = (
            modes[..., 0:1] * backward
            + modes[..., 1:2] * content
            + modes[..., 2:3] * forward
        )
        fields = {
            "memory": memory,
            "usage": usage,
            "link": link,
            "precedence": precedence,
            "write_weights": write_weights,
            "read_weights": read_weights,
            "read_vectors": ops.read(memory, read_weights),
        }
        return fields, {
            name: parts[name]
            for name in (
                "free_gates",
                "allocation_gate",
                "write_gate",
                "read_modes",
                "read_strengths",
                "write_strength",
                "erase",
                "write_vector",
            )
        }

    def get_config(self):
        return {
            **super().get_config(),
            "key_masks": self.key_masks,
            "mask_min": self.mask_min,
            "wipe_freed": self.wipe_freed,
            "sharpen_links": self.sharpen_links,
            "link_gradients": self.link_gradients,
            "bypass_dropout": self.bypass_dropout_rate,
            "normalize_interface": self.normalize_interface,
        }


def oneplus(values):
    """`1 + log(1 + exp(x))`: at least 1."""
    return 1.0 + tf.nn.softplus(values)
