"""One-shot classification for examples/train.py: episodes from Omniglot's images.

Training takes the background characters but the last hundred, which validate. The test
takes those of the evaluation alphabets, in the positions in which they were drawn.
With a table `encoder` in the recipe the memory sees features of a drawing, not its
pixels.
"""

import functools
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf
from image_encoder import features_of, train_encoder
from key_values import StepBefore
from matplotlib import pyplot as plt
from sequences import SequenceProblem, enlarged
from training import save_function

import keras_sam.datasets

VALIDATION_CHARACTERS = 100
INSTANCES = (1, 2, 3, 4, 5, 10)

USAGE = """```python
import numpy as np
import tensorflow as tf

model = tf.saved_model.load("{folder}/1")
images = np.zeros((1, 50, 105, 105), "float32")  # batch, time, height, width: ink 1
labels = np.zeros((1, 50), "int32")  # those of earlier steps count
answers = model.signatures["serving_default"](
    images=tf.constant(images), labels=tf.constant(labels)
)
print(answers["probabilities"])  # batch, time, classes
```
"""

CHECK_EXPORT = """
import sys
import numpy as np
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
images = np.random.default_rng(0).integers(2, size=(2, 3, 105, 105)).astype("float32")
classify = model.signatures["serving_default"]

def answer(labels):
    labels = tf.constant(labels, tf.int32)
    return classify(images=tf.constant(images), labels=labels)["probabilities"].numpy()

# A label counts from the next step on.
first, other = answer([[0, 1, 1], [1, 0, 0]]), answer([[0, 0, 1], [1, 0, 1]])
assert "keras_sam" not in sys.modules
assert np.allclose(first.sum(axis=-1), 1.0, atol=1e-3)
assert np.array_equal(first[:, :2], other[:, :2])
print("SavedModel in a new process: probabilities of", first.shape)
"""


@functools.cache
def load_images(split, data, size):
    try:
        return keras_sam.datasets.omniglot_images(split, data, size)
    except FileNotFoundError as error:
        raise SystemExit(f"error: {error} Then pass its folder as --data.") from None


class OmniglotProblem(SequenceProblem):
    """The episodes of three sets of characters: see `sequences.SequenceProblem`.

    Args:
        recipe: The recipe.
        seed: Integer.
        data: Path of the folder of the data, or None to download them.
        output: Path of the folder that an encoder is trained in.
    """

    metric = "accuracy"

    def __init__(self, recipe, seed, data, output):
        size = recipe["images"]["size"]
        train = load_images("train", data, size)
        held_out = min(VALIDATION_CHARACTERS, len(train) // 4)
        validation, train = train[-held_out:], train[:-held_out]
        sets = {"train": train, "validation": validation}
        sets["test"] = self._drawings = load_images("test", data, size)
        self._size, self._encoder = size, None
        # What of the stream's settings is done to the images before.
        self._done = {}
        if "encoder" in recipe:
            settings = dict(recipe["encoder"])
            warps = settings.pop("warps")
            self._encoder = train_encoder(train, settings, seed, output)
            rng = np.random.default_rng(seed)
            sets = {
                name: features_of(
                    self._encoder,
                    images,
                    quarter_turns=name == "train",
                    warps=warps if name == "train" else 0,
                    rng=rng,
                )
                for name, images in sets.items()
            }
            self._done = {"quarter_turns": False, "warp": 0.0}
        self._images = sets
        self._drawing_before = recipe.get("drawing_before", False)
        super().__init__(recipe, seed)

    @property
    def _features(self):
        """How many features of a step are the drawing's."""
        return self.channels - int(np.prod(self.target_shape))

    def input_layers(self):
        # The drawing that the label belongs to.
        return [StepBefore(self._features)] if self._drawing_before else []

    def asked_key_value(self):
        # A step's label belongs to the drawing of the step before.
        drawing = slice(0, self._features)
        label = slice(self._features, self.channels)
        before = slice(self.channels, self.channels + self._features)
        return drawing, before, label

    def stream(self, number, batch_size=None, **settings):
        """Stream 0 validates and 1 tests; all others are for training."""
        images = self._images[{0: "validation", 1: "test"}.get(number, "train")]
        return super().stream(
            number, batch_size, images=images, **settings | self._done
        )

    def compile(self, model, training, steps):
        super().compile(model, training, steps)
        model.compile(
            model.optimizer,
            loss=model.loss,
            weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            jit_compile=model.jit_compile,
        )

    def results(self, model, recipe, smoke=False):
        """The accuracy at each instance of a character, in episodes of the test.

        The recipe's table `test` names numbers of classes, and perhaps `memory_slots`
        and how many `sequences`.
        """
        test = dict(recipe.get("test", {}))
        sequences = 2 if smoke else test.pop("sequences", 1000)
        results = {"test": self._by_instance(model, sequences)}
        model = enlarged(model, self, recipe, test.pop("memory_slots", None))
        for classes in test.get("classes", [])[: 1 if smoke else None]:
            sizes = {"min_classes": classes, "max_classes": classes}
            results.setdefault("test_of_size", {})[f"classes {classes}"] = (
                self._by_instance(model, sequences, **sizes)
            )
        return results

    def _by_instance(self, model, sequences, **sizes):
        batch_size = min(sequences, self.batch_size)
        right, count = np.zeros((2, self.settings.get("instances", 10)))
        data = self.stream(1, batch_size, **self.evaluation | sizes)
        batches = data.take(-(-sequences // batch_size))
        for inputs, targets, weights in batches.as_numpy_iterator():
            predicted = model.predict_on_batch(inputs)
            same = predicted.argmax(-1) == targets.argmax(-1)
            instance = instances(targets, weights)
            for i in range(len(right)):
                right[i] += same.all(-1)[instance == i].sum()
                count[i] += (instance == i).sum()
        accuracy = right / np.maximum(count, 1)
        named = {f"instance {i}": accuracy[i - 1] for i in INSTANCES if i <= len(right)}
        return {"accuracy": right.sum() / count.sum(), **named}

    def export(self, model, output):
        """A SavedModel in `output/1` that takes drawings, checked without keras_sam."""
        if self.settings.get("labels", "one_hot") != "one_hot":
            return super().export(model, output)
        parts = [part for part in (model, self._encoder) if part is not None]

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None, 105, 105], tf.float32, name="images"),
                tf.TensorSpec([None, None], tf.int32, name="labels"),
            ]
        )
        def classify(images, labels):
            flat = tf.reshape(images, (-1, 105, 105, 1))
            shown = tf.image.resize(flat, (self._size, self._size), method="area")
            return {"probabilities": self._classify(model, shown[..., 0], labels)}

        save_function(classify, parts, output / "1")
        subprocess.run(
            [sys.executable, "-c", CHECK_EXPORT, str(output / "1")], check=True
        )
        self._draw_episode(model, output / "episode.png")
        return USAGE.format(folder=output.name)

    def _classify(self, model, drawings, labels):
        """Probabilities `[batch, time, classes]` of the labels of drawings.

        Args:
            model: The model.
            drawings: Tensor `[batch * time, size, size]`.
            labels: Integer tensor `[batch, time]`; that of a step counts from the next
                on.
        """
        steps, width = tf.shape(labels), self.channels - self._features
        shown = drawings
        if self._encoder is not None:
            shown = self._encoder(drawings, training=False)
        shown = tf.reshape(shown, (steps[0], steps[1], self._features))
        before = tf.pad(tf.one_hot(labels, width)[:, :-1], ((0, 0), (1, 0), (0, 0)))
        return model(tf.concat([shown, before], axis=-1), training=False)[:, :, 0]

    def _draw_episode(self, model, path):
        """A picture of an episode of the test: each drawing, and how it was named."""
        rng = np.random.default_rng(self.seed)
        count, instances = self.target_shape[-1], self.settings.get("instances", 10)
        count = min(count, 5)
        chosen = rng.choice(len(self._drawings), count, replace=False)
        labels = rng.permutation(np.repeat(np.arange(count), instances))
        seen = np.array([np.sum(labels[:t] == labels[t]) for t in range(len(labels))])
        drawings = self._drawings[chosen[labels], seen % self._drawings.shape[1]]
        probabilities = self._classify(model, drawings, labels[np.newaxis]).numpy()[0]
        right = probabilities[np.arange(len(labels)), labels]
        correct = probabilities.argmax(axis=-1) == labels
        figure, axes = plt.subplots(
            count, instances, figsize=(instances, 1.25 * count), layout="constrained"
        )
        for axis in axes.flat:
            axis.axis("off")
        for t, label in enumerate(labels):
            axis = axes[label, seen[t]]
            axis.imshow(drawings[t], cmap="gray_r")
            color = "tab:green" if correct[t] else "tab:red"
            axis.set_title(f"{right[t]:.2f}", color=color, fontsize=9)
        figure.suptitle(
            "An episode of unseen characters, one a row, from first to last instance.\n"
            "Above each drawing the probability of its label: red where another label "
            "was likelier.",
            fontsize=9,
        )
        figure.savefig(path, dpi=100)
        plt.close(figure)


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
