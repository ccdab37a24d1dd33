"""Associative recall of items of one vector, for examples/train.py.

In such a sequence an item comes two steps after the item before, and what is asked for
two steps after the query. With `item_before` in the recipe each step shows that vector
as well, and all numbers are 1 or -1.
"""

import keras
from key_values import StepBefore
from sequences import SequenceProblem

STEPS_OF_AN_ITEM = 2


class RecallProblem(SequenceProblem):
    """Associative recall, perhaps with the item before beside each item."""

    def __init__(self, recipe, seed):
        super().__init__(recipe, seed)
        self.item_before = recipe.get("item_before", False)
        if self.item_before and self.settings.get("item_length") != 1:
            raise SystemExit("error: `item_before` needs `item_length = 1`.")

    @property
    def bits(self):
        return self.target_shape[0]

    def input_layers(self):
        if not self.item_before:
            return super().input_layers()
        return [
            keras.layers.Rescaling(2.0, offset=-1.0),
            StepBefore(self.bits, STEPS_OF_AN_ITEM),
        ]

    def asked_key_value(self):
        # A word is found by the item before: by what the query shows.
        item = slice(0, self.bits)
        before = slice(self.channels, self.channels + self.bits)
        return before, before, item
