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
MODELS = Path(__file__).resolve().parents[1] / "saved_models"


def read_recipe(path, cell, **overrides):
    """The recipe's tables with what it says for this cell, and what overrides it.

    Args:
        path: The recipe.
        cell: As make_model takes it.
        **overrides: Dictionaries of settings, for the table of that name.
    """
    recipe = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    for part in ("layer", "training", "test"):
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


def with_memory_slots(model, cell, memory_slots):
    """A model with so large a memory; as it is with None, or if the cell has none."""
    if memory_slots is None or not hasattr(cell, "memory_slots"):
        return model
    return keras_sam.resize_memory(model, memory_slots)


@keras.saving.register_keras_serializable(package="examples")
class HeldRate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is warmed up, held, and then falls along a cosine.

    Args:
        rate: Number, what is held.
        steps: Integer, of the whole training.
        warmup: Integer, the steps in which the rate rises from 0.
        held: Number, the share of the steps after which the rate begins to fall.
        final_rate: Number, the share of the rate that is left in the end.
    """

    def __init__(self, rate, steps, warmup=0, held=2 / 3, final_rate=0.0):
        self.rate, self.steps, self.warmup = rate, steps, warmup
        self.held, self.final_rate = held, final_rate

    def __call__(self, step):
        step = tf.cast(step, tf.float32)
        start = self.held * self.steps
        fallen = tf.clip_by_value((step - start) / (self.steps - start), 0.0, 1.0)
        share = 0.5 * (1.0 + tf.cos(np.pi * fallen))
        share = self.final_rate + (1.0 - self.final_rate) * share
        return self.rate * share * tf.minimum(1.0, (step + 1.0) / (self.warmup + 1.0))

    def get_config(self):
        return {
            "rate": self.rate,
            "steps": self.steps,
            "warmup": self.warmup,
            "held": self.held,
            "final_rate": self.final_rate,
        }


def held_rate(training, steps):
    """The schedule that a recipe's table `training` describes."""
    names = ("warmup", "held", "final_rate")
    given = {name: training[name] for name in names if name in training}
    return HeldRate(training["learning_rate"], steps, **given)


@keras.saving.register_keras_serializable(package="examples")
class SlowMemoryAdam(keras.optimizers.Adam):
    """Adam that changes what answers at its learning rate, and the rest more slowly.

    What a memory starts with is lost within some hundred updates if it changes as fast
    as the layers that learn to make answers of what it reads.

    Args:
        share: Number, of the learning rate, for the variables whose path has none of
            `FAST`.
        ramp: Integer, the updates in which their rate rises from 0; with 0 it is the
            same from the start.
        **kwargs: As of `keras.optimizers.Adam`.
    """

    FAST = ("answer", "output_projection")

    def __init__(self, *args, share=1.0, ramp=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.share, self.ramp = share, ramp

    def update_step(self, gradient, variable, learning_rate):
        path = self._trainable_variables[self._get_variable_index(variable)].path
        if not any(part in path for part in self.FAST):
            learning_rate *= self.share
            if self.ramp:
                done = keras.ops.cast(self.iterations, learning_rate.dtype) / self.ramp
                learning_rate *= keras.ops.minimum(1.0, done)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "share": self.share, "ramp": self.ramp}


def memory_adam(schedule, training):
    """The optimizer of a recipe's table `training`; without `memory_share` plain Adam.

    Args:
        schedule: The learning rate.
        training: Dictionary.
    """
    return SlowMemoryAdam(
        schedule,
        share=training.get("memory_share", 1.0),
        ramp=training.get("memory_ramp", 0),
        global_clipnorm=training["clip_norm"],
    )


def layer_class(cell):
    """The layer of keras_sam that a name in lower case means, such as sam."""
    for name in keras_sam.__all__:
        if name.lower() == cell.replace("_", ""):
            return getattr(keras_sam, name)
    raise SystemExit(f"error: keras_sam has no layer of this name. Received: {cell}")


def layer_arguments(cell):
    """The arguments of a cell's layer that are settings, not the problem's or ours."""
    if cell in ("lstm", "attention"):
        return {"units"} if cell == "lstm" else set()
    parameters = inspect.signature(layer_class(cell)).parameters
    return set(parameters) - {"output_size", "return_sequences"}


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
        names = (metric, f"validation_{metric}")
        for name in filter(self.points[0].__contains__, names):
            values = [point[name] for point in self.points]
            axis.plot(sequences, values, label=name.replace("_", " "))
        axis.set_xlabel("sequences seen")
        axis.set_ylabel(metric.replace("_", " "))
        axis.set_ylim(bottom=0)
        for name in {"level", "lesson"} & set(self.points[-1]):
            values = [point[name] for point in self.points]
            if len(set(values)) == 1:
                continue  # A task without lessons is one lesson.
            levels = axis.twinx()
            levels.plot(sequences, values, color="gray", linestyle=":")
            levels.set_ylabel(f"{name} (dotted)")
            levels.yaxis.get_major_locator().set_params(integer=True)
        axis.legend()
        figure.savefig(path, dpi=100)
        plt.close(figure)


def load_variables(model, folder):
    """Gives the model the weights of the SavedModel that `export` left there.

    Raises:
        ValueError: If that is of a model with other weights.
    """
    learned = [
        variable
        for variable in tf.saved_model.load(Path(folder) / "1").variables
        # Not all versions of keras_sam have as many seeds.
        if "seed_generator_state" not in variable.name
    ]
    pairs = list(itertools.zip_longest(model.weights, learned))
    for number, (variable, value) in enumerate(pairs):
        expected, received = (
            "none" if each is None else list(each.shape) for each in (variable, value)
        )
        if expected != received:
            raise ValueError(
                f"{folder} is of a model with other weights. Expected for "
                f"weight {number + 1} of {len(model.weights)} the shape {expected}. "
                f"Received: {received}. Give the recipe, the cell and the options of "
                "that model."
            )
    for variable, value in pairs:
        variable.assign(value)


def interface_end(cell):
    """The layer that an interface vector goes through last."""
    return getattr(cell, "interface_norm", cell.interface)


def set_interface_bias(cell, biases):
    """Gives parts of a cell's interface vector, by name, a bias to start from.

    Args:
        cell: A built cell of keras_sam.
        biases: Dictionary from the name of a part, see `cell.interface_columns`, to a
            number or to a list that is repeated for each head. Names that the cell does
            not have are left out.
    """
    layer, columns = interface_end(cell), cell.interface_columns
    *others, bias = layer.get_weights()
    for name in set(biases) & set(columns):
        part = columns[name]
        bias[part] = np.resize(biases[name], part.stop - part.start)
    layer.set_weights([*others, bias])


@contextlib.contextmanager
def interface_held(cell, values):
    """Within it parts of a cell's interface vector are constants.

    Args:
        cell: A built cell of keras_sam.
        values: Dictionary from the name of a part to a number or list, as of
            `set_interface_bias`, before the part's activation.
    """
    layer, columns = interface_end(cell), cell.interface_columns
    weights = layer.get_weights()
    scale, *others = (array.copy() for array in weights)
    for name in values:
        scale[..., columns[name]] = 0.0
    layer.set_weights([scale, *others])
    set_interface_bias(cell, values)
    try:
        yield
    finally:
        layer.set_weights(weights)


def writing_shut(model):
    """A context in which the memory of the model's layer "memory" is not written to."""
    cell = model.get_layer("memory").cell
    return interface_held(cell, shut_gates(cell))


def shut_gates(cell):
    """What parts of a cell's interface have to be so that nothing is written."""
    columns = cell.interface_columns
    shut = dict.fromkeys({"write_gate", "write_gates"} & set(columns), -20.0)
    if "actions" in columns:  # A stack pops, whatever else it could do.
        count = columns["actions"].stop // cell.stacks
        return {"actions": [*[0.0, 20.0, 0.0][:count]] * cell.stacks}
    # An NTM has no write gate: it erases nothing and adds nothing.
    return shut or {"erase": -20.0, "add": 0.0}


def save_function(function, parts, folder):
    """A SavedModel with one signature, `serving_default`.

    `keras.export.ExportArchive` and `model.export` of Keras 3.15 write each variable
    twice.

    Args:
        function: A `tf.function` with an input signature.
        parts: The models and lookup tables that it uses.
        folder: Path.
    """
    models = [part for part in parts if isinstance(part, keras.Model)]
    root = tf.train.Checkpoint(
        variables=[variable.value for model in models for variable in model.variables],
        resources=[part for part in parts if part not in models],
        serving_default=function,
    )
    tf.saved_model.save(root, folder, {"serving_default": function})


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
