"""How the words of a memory that does not change are found, in a SavedModel."""

from typing import Any

import tensorflow as tf


class Resources(tf.Module):
    """What a SavedModel has to hold, by any names."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(name="keras_sam")
        for name, part in parts.items():
            setattr(self, name, part)


class FrozenIndex:
    """An index over a memory that does not change, for requests one after the other.

    Args:
        index: A `keras_sam.index.Index`.
        memory: `tf.Variable` `[N, W]`.
        count: Integer K.
        state: Optional tensor `[1, state_size]`, of this memory.
    """

    def __init__(self, index, memory, count, state):
        if state is None:
            words = tf.convert_to_tensor(memory)[tf.newaxis]
            state = index.reset(words, memory.shape[0])
        self._index, self._memory, self._count = index, memory, count
        self._state = tf.Variable(state, trainable=False)
        self.resources = Resources(state=self._state)

    def search(self, queries, without):
        """Slots `[batch, heads, K or more]`, see `keras_sam.index.Index.freeze`."""

        def search_one(each):
            return self._search(*(part[tf.newaxis] for part in each))[0]

        # Sequence by sequence: there is one memory for all.
        return tf.map_fn(
            search_one,
            (queries, without),
            fn_output_signature=tf.TensorSpec((queries.shape[1], None), tf.int32),
        )

    def _search(self, queries, without):
        state, memory = map(tf.convert_to_tensor, (self._state, self._memory))
        return self._index.search_without(
            state, memory[tf.newaxis], queries, self._count, without
        )


class SharedIndex(FrozenIndex):
    """The same for an index that searches one memory for all sequences at once."""

    def search(self, queries, without):
        return self._search(queries, without)
