"""What the examples share.

Recipes, the problem and the model that they describe, the learning curve, a memory that
is not written to, and a SavedModel that is checked.
"""

import contextlib
import inspect
import itertools
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import keras
import matplotlib
import numpy as np
import tensorflow as tf

import keras_sam
from keras_sam.arguments import RENAMED

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

CHECK_EXPORT = """
import sys
import numpy as np
import tensorflow as tf

folder, examples = sys.argv[1:]
examples = np.load(examples)
model = tf.saved_model.load(folder)
outputs = model.serve(examples["inputs"]).numpy()
assert "keras_sam" not in sys.modules
same = np.array_equal(outputs > 0.5, examples["bits"])
print("SavedModel in a new process:", "the same bits" if same else "OTHER BITS")
sys.exit(0 if same else 1)
"""


RECIPES = Path(__file__).resolve().parent / "recipes"


def read_recipe(path, cell, **overrides):
    """The recipe's tables with what it says for this cell, and what overrides it.

    Args:
        path: The recipe.
        cell: As make_model takes it.
        **overrides: Dictionaries of settings, for the table of that name.
    """
    recipe = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    for part in ("layer", "training"):
        table = recipe.get(part, {})
        settings = {k: v for k, v in table.items() if not isinstance(v, dict)}
        recipe[part] = settings | table.get(cell, {})
    for part, settings in overrides.items():
        recipe[part] = recipe.get(part, {}) | settings
    return current_recipe(recipe)


def current_recipe(recipe):
    """A recipe, such as that of an old results.json, with the names of today."""
    recipe = {
        "evaluation" if part == "held_out" else part: settings
        for part, settings in recipe.items()
    }
    recipe["layer"] = {
        RENAMED.get(name, name): value for name, value in recipe["layer"].items()
    }
    return recipe


def digits_cross_entropy(y_true, y_pred):
    """The cost of a step, `[batch, time]`: the sum over its digits, as in the paper."""
    costs = keras.losses.categorical_crossentropy(y_true, y_pred)
    return keras.ops.sum(costs, axis=-1)


class Problem:
    """A task, its streams and its curriculum, if the recipe has one."""

    def __init__(self, recipe, seed):
        self.make = getattr(keras_sam.tasks, f"{recipe['task']}_task")
        self.settings = recipe.get("stream", {})
        # What of them is different for sequences that are not trained on.
        self.evaluation = recipe.get("evaluation", {})
        self.batch_size = recipe["training"]["batch_size"]
        self.seed = seed
        self.sizes = {}
        self.curriculum = None
        if "curriculum" in recipe:
            settings = dict(recipe["curriculum"])
            kind = getattr(keras_sam.callbacks, settings.pop("class"))
            # The argument of the stream that the level is.
            self.sizes = {settings.pop("argument"): lambda: self.curriculum.level}
            self.curriculum = kind(**settings)
        _, targets, _ = self.stream(0).element_spec
        self.channels = self.stream(0).element_spec[0].shape[-1]
        self.target_shape = tuple(targets.shape[2:])
        self.is_classes = len(self.target_shape) > 1

    def stream(self, number, batch_size=None, **settings):
        """Stream `number` of this seed: all are different."""
        seed = np.random.SeedSequence([self.seed, number]).generate_state(1)[0]
        sizes = {**self.settings, **self.sizes, **settings}
        return self.make(batch_size or self.batch_size, seed=int(seed), **sizes)

    def training_data(self, steps, epoch=0):
        """All batches from an epoch on, `steps` for each epoch.

        Each epoch has a stream of its own: a run that goes on sees the sequences that
        it would have seen without the interruption.
        """

        def batches():
            for number in itertools.count(2 + epoch):
                yield from self.stream(number).take(steps).as_numpy_iterator()

        data = tf.data.Dataset.from_generator(
            batches, output_signature=self.stream(0).element_spec
        )
        if self.curriculum is None:
            return data.prefetch(tf.data.AUTOTUNE)
        # Batches made ahead of time would be of the level of some steps ago.
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return data.with_options(options)

    @property
    def metric(self):
        return "sequence_accuracy" if self.is_classes else "bit_errors"

    def compile(self, model, training, steps):
        schedule = keras.optimizers.schedules.CosineDecay(
            training["learning_rate"], steps, alpha=training.get("final_rate", 0.0)
        )
        if self.is_classes:
            loss, metric = digits_cross_entropy, "SequenceAccuracy"
        else:
            loss, metric = "binary_crossentropy", "BitErrors"
        model.compile(
            keras.optimizers.Adam(schedule, global_clipnorm=training["clip_norm"]),
            loss=loss,
            weighted_metrics=[getattr(keras_sam.metrics, metric)()],
            # A curriculum has many lengths, and XLA compiles for each of them; a sparse
            # layer compiles itself for few. XLA cannot compile a ScaNN index.
            jit_compile=self.curriculum is None
            and model.get_layer("memory").cell.supports_jit,
        )


def layer_arguments(cell):
    """The arguments of a cell's layer that are settings, not the problem's or ours."""
    if cell == "lstm":
        return {"units"}
    parameters = inspect.signature(getattr(keras_sam, cell.upper())).parameters
    return set(parameters) - {"output_size", "return_sequences"}


def make_model(problem, cell, layer):
    """A cell's layer with the settings `layer`; an LSTM takes the units alone."""
    width = int(np.prod(problem.target_shape))
    if cell == "lstm":
        layers = [
            keras.layers.LSTM(layer["units"], return_sequences=True, name="memory"),
            keras.layers.Dense(width),
        ]
    else:
        layers = [
            getattr(keras_sam, cell.upper())(
                **layer, output_size=width, return_sequences=True, name="memory"
            )
        ]
    if problem.is_classes:
        layers.append(keras.layers.Reshape((-1, *problem.target_shape)))
    activation = "softmax" if problem.is_classes else "sigmoid"
    layers.append(keras.layers.Activation(activation, name="outputs"))
    return keras.Sequential([keras.Input((None, problem.channels)), *layers])


class LearningCurve(keras.callbacks.Callback):
    """Keeps the logs against the sequences seen."""

    def __init__(self, sequences_per_epoch):
        super().__init__()
        self.sequences_per_epoch = sequences_per_epoch
        self.points = []

    def get_state(self):
        return self.points

    def set_state(self, state):
        self.points = list(state)

    def on_train_begin(self, logs=None):
        before = self.points[-1]["seconds"] if self.points else 0.0
        self.start = time.perf_counter() - before

    def on_epoch_end(self, epoch, logs=None):
        self.points.append(
            {
                "sequences": (epoch + 1) * self.sequences_per_epoch,
                "seconds": round(time.perf_counter() - self.start, 1),
                **{
                    name.replace("val_", "validation_"): float(value)
                    for name, value in logs.items()
                },
            }
        )

    def draw(self, metric, path):
        """The metric, and the level of a curriculum, against the sequences seen."""
        figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
        sequences = [point["sequences"] for point in self.points]
        for name in (metric, f"validation_{metric}"):
            values = [point[name] for point in self.points]
            axis.plot(sequences, values, label=name.replace("_", " "))
        axis.set_xlabel("sequences seen")
        axis.set_ylabel(metric.replace("_", " "))
        axis.set_ylim(bottom=0)
        for name in {"level", "lesson"} & set(self.points[-1]):
            levels = axis.twinx()
            values = [point[name] for point in self.points]
            levels.plot(sequences, values, color="gray", linestyle=":")
            levels.set_ylabel(f"{name} (dotted)")
        axis.legend()
        figure.savefig(path, dpi=100)
        plt.close(figure)


def load_variables(model, folder):
    """Gives the model the weights of the SavedModel that `export` left there."""
    learned = tf.saved_model.load(Path(folder) / "1").variables
    for variable, value in zip(model.variables, learned, strict=True):
        variable.assign(value)


@contextlib.contextmanager
def writing_shut(model):
    """Within it the memory of the model's layer "memory" is not written to."""
    cell = model.get_layer("memory").cell
    # What the interface goes through last.
    layer = getattr(cell, "interface_norm", cell.interface)
    columns = cell.interface_columns
    shut = dict.fromkeys({"write_gate", "write_gates"} & set(columns), -20.0)
    if not shut:  # An NTM has no write gate: it erases nothing and adds nothing.
        shut = {"erase": -20.0, "add": 0.0}
    weights = layer.get_weights()
    scale, shift = (values.copy() for values in weights)
    for name, value in shut.items():
        scale[..., columns[name]], shift[columns[name]] = 0.0, value
    layer.set_weights([scale, shift])
    try:
        yield
    finally:
        layer.set_weights(weights)


def export(model, inputs, output):
    """A SavedModel in `output/1`, checked where keras_sam is not even imported."""
    folder = Path(output) / "1"
    model.export(folder, verbose=False)
    examples = Path(output) / "examples.npz"
    bits = model.predict(inputs, verbose=0) > 0.5
    np.savez_compressed(examples, inputs=inputs, bits=bits)
    try:
        subprocess.run(
            [sys.executable, "-c", CHECK_EXPORT, str(folder), str(examples)],
            check=True,
        )
    finally:
        examples.unlink()
