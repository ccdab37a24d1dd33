"""Train any cell on any task.

    python examples/train.py --task associative_recall --cell sam
    python examples/train.py --task associative_recall --cell sam --index lsh
    python examples/train.py --recipe examples/recipes/recall_curriculum.toml --cell sam

A task is one of `keras_sam.tasks`: `--task copy` trains on `keras_sam.tasks.copy_task`.
A cell is the public name of a layer of keras_sam (ntm, dnc, dam, sam, ...) or lstm. The
settings stand in a recipe, examples/recipes/TASK.toml unless --recipe names another;
options override it. An interrupted run goes on where it was when the same command is
given again. In the end the output folder has a SavedModel (checked in a process that
knows nothing but TensorFlow), its README, results.json and the learning curve.
"""

import argparse
import json
import os
import shutil
import sys
import tomllib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from training import LearningCurve, export

import keras_sam

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "examples" / "recipes"
LAYER_OPTIONS = {
    "units": int,
    "memory_slots": int,
    "word_size": int,
    "read_heads": int,
    "write_heads": int,
    "controller": str,
    "index": str,
}
TRAINING_OPTIONS = {
    "batch_size": int,
    "epochs": int,
    "steps_per_epoch": int,
    "learning_rate": float,
    "clip_norm": float,
}

README = """# {title}

`{command}`, seed {seed}: after {sequences:,} sequences, {metric} on unseen sequences:
{value:.4f} (all of it: `results.json`; the curve: `curve.png`).

```python
import numpy as np
import tensorflow as tf

model = tf.saved_model.load("{folder}/1")
inputs = np.zeros((1, 10, {channels}), "float32")  # batch, time, channels
outputs = model.serve(inputs)
```

What the channels mean stands in the docstring of `keras_sam.tasks.{task}_task`.
"""


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--task", help="default: the one that the recipe names")
    add("--cell", default="sam")
    add("--recipe", type=Path, help="default: examples/recipes/TASK.toml")
    for name, kind in {**LAYER_OPTIONS, **TRAINING_OPTIONS}.items():
        add(f"--{name.replace('_', '-')}", type=kind, help="default: the recipe's")
    add("--seed", type=int, default=0)
    add("--output", type=Path, help="default: runs/TASK_CELL_SEED")
    add("--stop-after", type=int, help="stop after so many epochs; to be resumed")
    add("--smoke", action="store_true", help="a few small steps, no learning")
    arguments = parser.parse_args()
    if arguments.recipe is None:
        if arguments.task is None:
            parser.error("give --task or --recipe")
        arguments.recipe = RECIPES / f"{arguments.task}.toml"
    return arguments


def read_recipe(arguments):
    """The recipe's tables with what it says for this cell, and the options' values."""
    recipe = tomllib.loads(arguments.recipe.read_text(encoding="utf-8"))
    for part, options in (("layer", LAYER_OPTIONS), ("training", TRAINING_OPTIONS)):
        table = recipe.get(part, {})
        settings = {k: v for k, v in table.items() if not isinstance(v, dict)}
        settings |= table.get(arguments.cell, {})
        for name in options:
            if getattr(arguments, name) is not None:
                settings[name] = getattr(arguments, name)
        recipe[part] = settings
    recipe["task"] = arguments.task or recipe["task"]
    if arguments.smoke:
        recipe["layer"] |= {"units": 16, "memory_slots": 32}
        recipe["training"] |= {"batch_size": 2, "epochs": 2, "steps_per_epoch": 5}
    return recipe


def digits_cross_entropy(y_true, y_pred):
    """The cost of a step, `[batch, time]`: the sum over its digits, as in the paper."""
    costs = keras.losses.categorical_crossentropy(y_true, y_pred)
    return keras.ops.sum(costs, axis=-1)


class Problem:
    """A task, its streams and its curriculum, if the recipe has one."""

    def __init__(self, recipe, seed, backup):
        self.make = getattr(keras_sam.tasks, f"{recipe['task']}_task")
        self.settings = recipe.get("stream", {})
        self.batch_size = recipe["training"]["batch_size"]
        self.seed = seed
        self.sizes = {}
        self.curriculum = None
        if "curriculum" in recipe:
            settings = dict(recipe["curriculum"])
            kind = getattr(keras_sam.callbacks, settings.pop("class"))
            # The argument of the stream that the level is.
            self.sizes = {settings.pop("argument"): lambda: self.curriculum.level}
            self.curriculum = kind(path=backup / "curriculum.json", **settings)
        _, targets, _ = self.stream(0).element_spec
        self.channels = self.stream(0).element_spec[0].shape[-1]
        self.target_shape = tuple(targets.shape[2:])
        self.is_classes = len(self.target_shape) > 1

    def stream(self, number, **settings):
        """Stream `number` of this seed: all are different."""
        seed = np.random.SeedSequence([self.seed, number]).generate_state(1)[0]
        sizes = {**self.settings, **self.sizes, **settings}
        return self.make(self.batch_size, seed=int(seed), **sizes)

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
            # A curriculum's lengths are many, and XLA compiles anew for each; a sparse
            # layer compiles itself for few.
            jit_compile=self.curriculum is None,
        )


def make_model(problem, cell, layer):
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


def optimal_cost(model, data, steps, n=6):
    """Bits per sequence that dynamic n-grams cost the model, and the least possible."""
    cost, optimal, sequences = 0.0, 0.0, 0
    for inputs, targets, weights in data.take(steps).as_numpy_iterator():
        outputs = np.clip(model.predict_on_batch(inputs), 1e-7, 1 - 1e-7)
        of_truth = np.where(targets > 0.5, outputs, 1 - outputs)[..., 0]
        cost += float((-np.log2(of_truth) * weights).sum())
        optimal += float(
            (keras_sam.tasks.optimal_ngrams(targets, n)[1] * weights).sum()
        )
        sequences += len(inputs)
    return {"cost_bits": cost / sequences, "optimal_cost_bits": optimal / sequences}


def main():
    arguments = parse_arguments()
    recipe = read_recipe(arguments)
    task, training = recipe["task"], recipe["training"]
    output = arguments.output
    if output is None:
        output = ROOT / "runs" / f"{task}_{arguments.cell}_{arguments.seed}"
    backup = output / "backup"
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(arguments.seed)

    problem = Problem(recipe, arguments.seed, backup)
    model = make_model(problem, arguments.cell, recipe["layer"])
    model.summary()
    epochs, steps = training["epochs"], training["steps_per_epoch"]
    problem.compile(model, training, epochs * steps)
    curve = LearningCurve(steps * problem.batch_size, backup / "curve.json")
    # First what belongs to the state, then what saves the weights.
    callbacks = [problem.curriculum] if problem.curriculum else []
    callbacks += [
        curve,
        keras.callbacks.BackupAndRestore(backup, delete_checkpoint=False),
        keras.callbacks.TensorBoard(output / "tensorboard"),
    ]
    if arguments.stop_after is not None:
        epochs = min(epochs, arguments.stop_after)
    # A run that goes on does not see the sequences again that it has seen.
    data = problem.stream(2 + len(curve.points))
    validation = {"review": 0} if "review" in problem.settings else {}
    held_out_steps = 2 if arguments.smoke else -(-500 // problem.batch_size)
    model.fit(
        data,
        steps_per_epoch=steps,
        epochs=epochs,
        validation_data=problem.stream(0, **validation),
        validation_steps=held_out_steps,
        callbacks=callbacks,
    )
    if epochs < training["epochs"]:
        print(f"Stopped after {epochs} epochs; the same command goes on.")
        return

    def evaluate(**sizes):
        return model.evaluate(
            problem.stream(1, **validation, **sizes),
            steps=held_out_steps,
            return_dict=True,
            verbose=0,
        )

    results = {
        "command": " ".join(["python", "examples/train.py", *sys.argv[1:]]),
        "recipe": recipe,
        "seed": arguments.seed,
        "parameters": model.count_params(),
        "training_sequences": curve.points[-1]["sequences"],
        "training_seconds": curve.points[-1]["seconds"],
        "test": evaluate(),
        "test_of_size": {},
    }
    for name, sizes in recipe.get("test", {}).items():
        for size in sizes[:1] if arguments.smoke else sizes:
            # All sequences of exactly this size: the least is also the greatest.
            limits = {f"min_{name}": size, f"max_{name}": size}
            results["test_of_size"][f"{name} {size}"] = evaluate(**limits)
    if task == "dynamic_ngrams":
        n = problem.settings.get("n", 6)
        results["test"] |= optimal_cost(model, problem.stream(1), held_out_steps, n)
    results["curve"] = curve.points
    (output / "results.json").write_text(json.dumps(results, indent=1))
    for name in ("test", "test_of_size"):
        print(f"{name}: {json.dumps(results[name])}")

    curve.draw(problem.metric, output / "curve.png")
    examples = next(problem.stream(1).as_numpy_iterator())[0]
    export(model, examples, output)
    readme = README.format(
        title=f"{arguments.cell} on {task}",
        command=results["command"],
        seed=arguments.seed,
        sequences=results["training_sequences"],
        metric=problem.metric.replace("_", " "),
        value=results["test"][problem.metric],
        folder=output.name,
        channels=problem.channels,
        task=task,
    )
    (output / "README.md").write_text(readme)
    # Only now is there nothing left to resume.
    shutil.rmtree(backup)
    print(f"SavedModel, README, results.json and curve.png are in {output}")


if __name__ == "__main__":
    main()
