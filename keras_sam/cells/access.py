"""What the cells of Rae et al. (2016) share: write heads that follow read heads."""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_sam.arguments import check_boolean, check_positive_integer
from keras_sam.cells.base import MemoryCell, Part, oneplus


class AccessInterface(NamedTuple):
    """What the controller tells the memory; R read heads, H write heads."""

    queries: tf.Tensor  # [batch, R, W]
    strengths: tf.Tensor  # [batch, R]
    vectors: tf.Tensor  # [batch, H, W]
    write_gates: tf.Tensor  # [batch, H]
    interpolation_gates: tf.Tensor  # [batch, H]


class AccessCell(MemoryCell):
    """Base class of the cells of [Rae et al., 2016](https://arxiv.org/abs/1610.09027).

    A write head writes where a read head has read at the step before, or to a slot
    that the memory can do without. There is one for each read head, or a single one
    that follows the mean of all.
    """

    def __init__(
        self, *args: Any, write_heads: int, gated_erase: bool, **kwargs: Any
    ) -> None:
        self.gated_erase = check_boolean("gated_erase", gated_erase)
        self.write_heads = check_positive_integer("write_heads", write_heads)
        super().__init__(*args, **kwargs)
        if self.write_heads not in (1, self.read_heads):
            raise ValueError(
                "`write_heads` must be 1 or one for each read head. Received: "
                f"write_heads={self.write_heads}, read_heads={self.read_heads}"
            )
        self.check_at_most_slots("write_heads")

    @property
    def interface_parts(self) -> dict[str, Part]:
        reads, writes, words = self.read_heads, self.write_heads, self.word_size
        return {
            "queries": Part((reads, words)),
            "strengths": Part((reads,), oneplus),
            "vectors": Part((writes, words)),
            "write_gates": Part((writes,), tf.sigmoid),
            "interpolation_gates": Part((writes,), tf.sigmoid),
        }

    def parse_interface(self, interface: tf.Tensor) -> Any:
        """The parts of an interface vector, as an `AccessInterface`."""
        return AccessInterface(**self.activate_interface(interface))

    @staticmethod
    def gated_write_weights(
        parts: Any, followed: tf.Tensor, chosen: tf.Tensor
    ) -> tf.Tensor:
        """Equation 5: `alpha (gamma followed + (1 - gamma) chosen)`.

        Args:
            parts: An `AccessInterface`.
            followed: Tensor `[batch, H, slots]`, what has been read.
            chosen: Tensor, the same or broadcast to it: 1 at the slot to write first.

        Returns:
            Tensor `[batch, H, slots]`.
        """
        gamma = parts.interpolation_gates[..., tf.newaxis]
        return parts.write_gates[..., tf.newaxis] * (
            gamma * followed + (1.0 - gamma) * chosen
        )

    @staticmethod
    def gates(parts: Any) -> dict[str, tf.Tensor]:
        """What the controller decided, by the names that a trace has for it."""
        return {
            "write_gates": parts.write_gates,
            "interpolation_gates": parts.interpolation_gates,
            "read_strengths": parts.strengths,
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "write_heads": self.write_heads,
            "gated_erase": self.gated_erase,
        }
