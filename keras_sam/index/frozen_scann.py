"""ScaNN's search of frozen words, inside a SavedModel."""

import math
import uuid
from typing import Any

import tensorflow as tf

from keras_sam.ops.content import NORM_EPSILON


class FrozenScaNN:
    """A ScaNN index built once, whose parts a SavedModel holds as variables.

    Args:
        settings: A `keras_sam.index.ScaNN`, which says how to build it.
        memory: Tensor `[N, W]`.
        count: Integer, how many slots it finds for a query, at most N.
    """

    def __init__(self, settings, memory, count):
        scann_ops = _import_scann()
        self._create = scann_ops.tensors_to_scann
        self._search = scann_ops.scann_search_batched
        self._count = count
        squares = tf.reduce_sum(tf.square(memory), axis=-1, keepdims=True)
        words = tf.cast(memory / tf.sqrt(squares + NORM_EPSILON), tf.float32).numpy()
        builder = scann_ops.builder(words, count, "dot_product")
        if len(words) > settings.brute_force_up_to:
            leaves = round(math.sqrt(len(words)))
            builder = (
                builder.tree(
                    leaves,
                    min(settings.leaves_to_search, leaves),
                    training_sample_size=32 * leaves,
                    training_iterations=6,
                )
                .score_ah(min(2, words.shape[1]), training_iterations=5)
                .reorder(max(settings.reordering, count))
            )
        else:
            builder = builder.score_brute_force()
        self.resources = builder.build().serialize_to_module()
        # The searcher lives in the server under this name: no other model's has it.
        self._name = f"keras_sam_{uuid.uuid4()}"

    def search(self, queries, without):
        """Slots `[batch, heads, count]`, see `keras_sam.index.Index.freeze`."""
        parts = self.resources
        handle = self._create(
            parts.dataset,
            parts.scann_config,
            parts.serialized_partitioner,
            parts.datapoint_to_token,
            parts.ah_codebook,
            parts.hashed_dataset,
            parts.int8_dataset,
            parts.int8_multipliers,
            parts.dp_norms,
            shared_name=self._name,
        )
        flat = tf.cast(tf.reshape(queries, (-1, queries.shape[-1])), tf.float32)
        slots, _ = self._search(handle, flat, self._count, -1, -1, False)
        slots = tf.reshape(slots, (-1, queries.shape[1], self._count))
        return tf.cast(slots, tf.int32)


def _import_scann() -> Any:
    from scann.scann_ops.py import scann_ops

    return scann_ops
