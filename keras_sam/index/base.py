"""What every index can do."""

import abc
from typing import Any, Self

import tensorflow as tf

from keras_sam.index.frozen import FrozenIndex, SharedIndex
from keras_sam.options import Update

# An index that is not exact is asked for so many more, if some do not count.
OVERFETCH = 28


class Index(abc.ABC):
    """Finds the K slots of a memory whose words are most like a query.

    An index holds no data: what it knows of a sequence's memory is a state, a tensor
    `[batch, state_size]` that the cell carries from step to step like all its states.
    No gradient flows through the choice of slots ([Rae et al., 2016](
    https://arxiv.org/abs/1610.09027), section 3.5).

    Attributes:
        is_exact: Boolean, whether it always finds the K most alike.
        supports_jit: Boolean, whether XLA can compile it.
        supports_export: Boolean, whether a SavedModel can contain it.
        shares_memory: Boolean, whether `search_without` searches a memory and a state
            of a batch of one for a larger batch of queries.
    """

    is_exact = False
    supports_jit = False
    supports_export = True
    shares_memory = False

    @abc.abstractmethod
    def state_size(self, memory_slots: int, word_size: int) -> int:
        """How many numbers a sequence's state takes: an integer."""

    @abc.abstractmethod
    def reset(self, memory: tf.Tensor, given_rows: int) -> tf.Tensor:
        """The state for a memory of which only the first rows have been written.

        Args:
            memory: Tensor `[batch, N, W]`. All its rows after the given ones are
                alike.
            given_rows: Integer.

        Returns:
            Tensor `[batch, state_size]`.
        """

    def start(
        self, memory: tf.Tensor, given_rows: int, directions: tf.Tensor | None
    ) -> tf.Tensor:
        """The state that `reset` gives, from an index that knows the queries.

        A cell calls this. An index that makes no use of the directions, which is the
        default, only needs `reset`.

        Args:
            memory: As for `reset`.
            given_rows: As for `reset`.
            directions: Tensor `[W, W]`, the second moment of the cell's queries up to
                a factor, or None if the cell has no weights yet.

        Returns:
            Tensor `[batch, state_size]`.
        """
        return self.reset(memory, given_rows)

    @abc.abstractmethod
    def insert(
        self,
        state: tf.Tensor,
        slots: tf.Tensor,
        rows: tf.Tensor,
        active: tf.Tensor | None = None,
        update: Update = tf.tensor_scatter_nd_update,
    ) -> tf.Tensor:
        """The state once some slots have got new words.

        Args:
            state: Tensor `[batch, state_size]`.
            slots: Integer tensor `[batch, writes]`, duplicates allowed.
            rows: Tensor `[batch, writes, W]`, the new words; the same for duplicates.
            active: Optional boolean tensor `[batch]`: the sequences in which anything
                was written.
            update: Function to set values with, see `keras_sam.recurrence.buffers`. An
                index calls it at most once: XLA copies a tensor that is set twice.

        Returns:
            Tensor `[batch, state_size]`.
        """

    @abc.abstractmethod
    def search(
        self, state: tf.Tensor, memory: tf.Tensor, queries: tf.Tensor, count: int
    ) -> tf.Tensor:
        """The slots whose words have the largest cosine similarity to the queries.

        Args:
            state: Tensor `[batch, state_size]`.
            memory: Tensor `[batch, N, W]`.
            queries: Tensor `[batch, heads, W]`.
            count: Integer K, at most N.

        Returns:
            Integer tensor `[batch, heads, K]`, different slots, the most alike first.
        """

    def search_without(
        self,
        state: tf.Tensor,
        memory: tf.Tensor,
        queries: tf.Tensor,
        count: int,
        without: tf.Tensor,
    ) -> tf.Tensor:
        """The same without some slots; or enough that others are left without them.

        Args:
            state: As for `search`.
            memory: As for `search`.
            queries: As for `search`.
            count: As for `search`.
            without: Integer tensor `[batch, n]`, slots that need not be found.

        Returns:
            Integer tensor `[batch, heads, K or more]`; a slot may be there twice.
        """
        count = min(count + OVERFETCH, memory.shape[1])
        return self.search(state, memory, queries, count)

    def freeze(
        self, memory: tf.Variable, count: int, state: tf.Tensor | None = None
    ) -> Any:
        """How words are found in a memory that does not change, in a SavedModel.

        Args:
            memory: `tf.Variable` `[N, W]`.
            count: Integer K.
            state: Optional tensor `[1, state_size]`, of this memory.

        Returns:
            An object with `resources`, a `tf.Module`, and `search`, a function of
            queries `[batch, heads, W]` and of slots `[batch, n]` that need not be
            found, to slots `[batch, heads, K or more]`.
        """
        kind = SharedIndex if self.shares_memory else FrozenIndex
        return kind(self, memory, count, state)

    def check_export(self, name: str) -> None:
        """Refuses to become part of a SavedModel if it cannot.

        Args:
            name: String, of the layer or cell whose index it is.

        Raises:
            ValueError: If it does not support export.
        """
        if not self.supports_export:
            raise ValueError(
                f"The index of {name!r} cannot be part of a SavedModel, unless its "
                "memory is frozen: keras_sam.export_saved_model(model, path, "
                "memory=keras_sam.prefill(model, context)). Or rebuild the "
                'model with index="exact" or "lsh": its weights are the same '
                f"(`set_weights`). Received: an index of class {type(self).__name__}"
            )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)
