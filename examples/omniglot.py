"""One-shot classification for examples/train.py: episodes from Omniglot's images.

Training takes the background characters but the last hundred, which validate. The test
takes those of the evaluation alphabets, in the positions in which they were drawn.
"""

import functools

import keras
import numpy as np
from sequences import SequenceProblem

import keras_sam.datasets

VALIDATION_CHARACTERS = 100
INSTANCES = (1, 2, 3, 4, 5, 10)


@functools.cache
def load_images(split, data, size):
    try:
        return keras_sam.datasets.omniglot_images(split, data, size)
    except FileNotFoundError as error:
        raise SystemExit(f"error: {error} Then pass its folder as --data.") from None


class OmniglotProblem(SequenceProblem):
    """The episodes of three sets of characters: see `sequences.SequenceProblem`."""

    metric = "accuracy"

    def __init__(self, recipe, seed, data):
        self._size = recipe["images"]["size"]
        self._data = data
        super().__init__(recipe, seed)

    def stream(self, number, batch_size=None, **settings):
        """Stream 0 validates and 1 tests; all others are for training."""
        split = "test" if number == 1 else "train"
        images = load_images(split, self._data, self._size)
        held_out = min(VALIDATION_CHARACTERS, len(images) // 4)
        if split == "train":
            images = images[-held_out:] if number == 0 else images[:-held_out]
        return super().stream(number, batch_size, images=images, **settings)

    def compile(self, model, training, steps):
        super().compile(model, training, steps)
        model.compile(
            model.optimizer,
            loss=model.loss,
            weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            jit_compile=model.jit_compile,
        )

    def results(self, model, recipe, smoke=False):
        """The accuracy at each instance of a character, in episodes of the test."""
        steps = 2 if smoke else -(-1000 // self.batch_size)
        settings = dict(self.evaluation)
        results = {"test": self._by_instance(model, steps, **settings)}
        for classes in recipe.get("test", {}).get("classes", [])[
            : 1 if smoke else None
        ]:
            of_size = {"min_classes": classes, "max_classes": classes}
            results.setdefault("test_of_size", {})[f"classes {classes}"] = (
                self._by_instance(model, steps, **settings | of_size)
            )
        return results

    def _by_instance(self, model, steps, **settings):
        right, count = np.zeros((2, self.settings.get("instances", 10)))
        data = self.stream(1, **settings).take(steps)
        for inputs, targets, weights in data.as_numpy_iterator():
            predicted = model.predict_on_batch(inputs)
            same = predicted.argmax(-1) == targets.argmax(-1)
            instance = instances(targets, weights)
            for i in range(len(right)):
                right[i] += same.all(-1)[instance == i].sum()
                count[i] += (instance == i).sum()
        accuracy = right / np.maximum(count, 1)
        named = {f"instance {i}": accuracy[i - 1] for i in INSTANCES if i <= len(right)}
        return {"accuracy": right.sum() / count.sum(), **named}


def instances(targets, weights):
    """How often each step's label came before in its episode; -1 where nothing counts.

    Args:
        targets: One-hot labels `[batch, time, ...]`.
        weights: Array `[batch, time]`.

    Returns:
        Integer array `[batch, time]`.
    """
    found = np.full(weights.shape, -1)
    for episode, labels in enumerate(targets.reshape(*weights.shape, -1)):
        seen = {}
        for step in np.flatnonzero(weights[episode]):
            label = labels[step].tobytes()
            found[episode, step] = seen.get(label, 0)
            seen[label] = found[episode, step] + 1
    return found
