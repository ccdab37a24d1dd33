"""The Neural Turing Machine's cell."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_sam import ops
from keras_sam.arguments import check_option, check_positive_integer
from keras_sam.cells.base import MemoryCell


class NTMState(NamedTuple):
    """State of an `NTMCell`; R read heads, H write heads."""

    memory: Any  # [batch, N, W]
    read_weights: Any  # [batch, R, N]
    write_weights: Any  # [batch, H, N]
    read_vectors: Any  # [batch, R, W]
    controller: Any  # the controller's own states


@keras.saving.register_keras_serializable(package="keras_sam")
class NTMCell(MemoryCell):
    """DOC"""

    State = NTMState

    def __init__(
        self,
        units,
        memory_slots=128,
        word_size=20,
        read_heads=1,
        write_heads=1,
        controller="lstm",
        shift_range=1,
        initial_weights="learned",
        **kwargs,
    ):
        self.write_heads = check_positive_integer("write_heads", write_heads)
        self.shift_range = check_positive_integer("shift_range", shift_range, 0)
        self.initial_weights = check_option(
            "initial_weights", initial_weights, ("learned", "first_slot")
        )
        super().__init__(
            units, memory_slots, word_size, read_heads, controller, **kwargs
        )
        if 2 * self.shift_range + 1 > self.memory_slots:
            raise ValueError(
                "`shift_range` must be smaller than half the memory: expected "
                "2 * shift_range + 1 <= memory_slots. Received: "
                f"shift_range={self.shift_range}, memory_slots={self.memory_slots}"
            )

    @property
    def state_shapes(self):
        return {
            "memory": (self.memory_slots, self.word_size),
            "read_weights": (self.read_heads, self.memory_slots),
            "write_weights": (self.write_heads, self.memory_slots),
            "read_vectors": (self.read_heads, self.word_size),
        }

    @property
    def interface_size(self):
        heads = self.read_heads + self.write_heads
        addressing = self.word_size + 3 + 2 * self.shift_range + 1
        return heads * addressing + self.write_heads * 2 * self.word_size

    def _build_initial_weights(self):
        if not self._initial_weights_built and self.initial_weights == "learned":
            self.initial_read_weights_weight = self.add_weight(
                shape=(self.read_heads, self.memory_slots),
                name="initial_read_weights",
                initializer=first_slot_logits,
            )
            self.initial_write_weights_weight = self.add_weight(
                shape=(self.write_heads, self.memory_slots),
                name="initial_write_weights",
                initializer=first_slot_logits,
            )
        super()._build_initial_weights()

    def initial_fields(self, batch_size, given_rows):
        if self.initial_weights == "learned":
            read_weights = tf.nn.softmax(self.initial_read_weights_weight)
            write_weights = tf.nn.softmax(self.initial_write_weights_weight)
        else:
            first_slot = tf.one_hot(0, self.memory_slots, dtype=self.compute_dtype)
            read_weights = tf.tile(first_slot[tf.newaxis], (self.read_heads, 1))
            write_weights = tf.tile(first_slot[tf.newaxis], (self.write_heads, 1))
        return {
            **super().initial_fields(batch_size, given_rows),
            "read_weights": self._for_each(batch_size, read_weights),
            "write_weights": self._for_each(batch_size, write_weights),
        }

    def access(self, interface, state):
        heads, reads = self.read_heads + self.write_heads, self.read_heads
        keys, strengths, gates, shifts, gammas, erase, add = tf.split(
            interface,
            [
                heads * self.word_size,
                heads,
                heads,
                heads * (2 * self.shift_range + 1),
                heads,
                self.write_heads * self.word_size,
                self.write_heads * self.word_size,
            ],
            axis=-1,
        )
        keys = tf.tanh(tf.reshape(keys, (-1, heads, self.word_size)))
        strengths = tf.nn.softplus(strengths)
        gates = tf.sigmoid(gates)
        shifts = tf.nn.softmax(
            tf.reshape(shifts, (-1, heads, 2 * self.shift_range + 1))
        )
        gammas = 1.0 + tf.nn.softplus(gammas)
        erase = tf.sigmoid(tf.reshape(erase, (-1, self.write_heads, self.word_size)))
        add = tf.tanh(tf.reshape(add, (-1, self.write_heads, self.word_size)))

        def address(memory, previous_weights, which):
            weights = ops.content_weights(memory, keys[:, which], strengths[:, which])
            weights = ops.interpolate(weights, previous_weights, gates[:, which])
            weights = ops.circular_shift(weights, shifts[:, which])
            return ops.sharpen(weights, gammas[:, which])

        write_weights = address(state.memory, state.write_weights, slice(reads, None))
        memory = ops.erase_and_add(state.memory, write_weights, erase, add)
        read_weights = address(memory, state.read_weights, slice(reads))
        fields = {
            "memory": memory,
            "read_weights": read_weights,
            "write_weights": write_weights,
            "read_vectors": ops.read(memory, read_weights),
        }
        return fields, {
            "strengths": strengths,
            "interpolation_gates": gates,
            "shifts": shifts,
            "gammas": gammas,
            "erase": erase,
            "add": add,
        }

    def get_config(self):
        return {
            **super().get_config(),
            "write_heads": self.write_heads,
            "shift_range": self.shift_range,
            "initial_weights": self.initial_weights,
        }


def first_slot_logits(shape, dtype=None):
    """Logits of weightings that lie on the first slot, nearly all of them."""
    return 10.0 * tf.one_hot(tf.zeros(shape[:-1], "int32"), shape[-1], dtype=dtype)
