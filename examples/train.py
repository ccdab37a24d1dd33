"""Train any cell on any task.

    python examples/train.py --task associative_recall --cell sam
    python examples/train.py --task associative_recall --cell sam --index lsh
    python examples/train.py --recipe examples/recipes/recall_curriculum.toml --cell sam

A task is one of `keras_sam.tasks`: `--task copy` trains on `keras_sam.tasks.copy_task`.
A cell is the public name of a layer of keras_sam in lower case (ntm, dnc, sam,
end_to_end_memory, ...), lstm, or attention, which the task mqar has. The settings stand
in a recipe, examples/recipes/TASK.toml unless --recipe names another: its tables
`layer`, `training` and `test`, what is tested in the end, and in them a table for one
cell alone; `stream` has the task's sizes, `evaluation` those that differ where it is
not trained, `curriculum` the callback, `underground` the tests on London's Underground;
with `positions = true` the inputs have features of their position, and `start` in
`training` names a model of saved_models whose weights the training starts from. Options
override it.

When the same command is given again, an interrupted run goes on after its last whole
epoch and ends as it would have ended without the interruption. Another seed, recipe,
cell or size is refused in the output folder of a run. In the end that folder has a
SavedModel (checked in a process that knows nothing but TensorFlow), its README,
results.json and the learning curve. In results.json, `write_gate_shut` is the test of
the same model while it writes nothing.

With `--workers N` the batches are divided among N processes of this machine. On several
machines give the same command on each, with the environment variable TF_CONFIG that
names them all (see docs/guides/distribute.md); what the first one writes is kept.
"""

import argparse
import itertools
import json
import os
import shutil
import sys
import tomllib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from cards import write_card
from recall import RecallProblem
from relations import RelationProblem
from sequences import SequenceProblem
from shortest_paths import SearchProblem
from training import (
    MODELS,
    RECIPES,
    LearningCurve,
    current_recipe,
    layer_arguments,
    load_variables,
    read_recipe,
)

import keras_sam

ROOT = Path(__file__).resolve().parents[1]
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


def parse_arguments(options=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--task", help="default: the one that the recipe names")
    add("--cell", default="sam")
    add("--recipe", type=Path, help="default: examples/recipes/TASK.toml")
    for name, kind in {**LAYER_OPTIONS, **TRAINING_OPTIONS}.items():
        add(f"--{name.replace('_', '-')}", type=kind, help="default: the recipe's")
    add(
        "--layer",
        action="append",
        default=[],
        type=toml,
        metavar="NAME=VALUE",
        help="any argument of the layer, as TOML: --layer link_sharpening=true",
    )
    add(
        "--stream",
        action="append",
        default=[],
        type=toml,
        metavar="NAME=VALUE",
        help="any argument of the task's stream, as TOML: --stream max_length=30",
    )
    add("--start", help="a model of saved_models, or a folder, to start from")
    add("--data", type=Path, help="folder of the files of a real data set")
    add("--seed", type=int, default=0)
    add("--output", type=Path, help="default: runs/TASK_CELL_SEED")
    add("--stop-after", type=int, help="stop after so many epochs; to be resumed")
    add("--workers", type=int, help="processes of this machine; not with TF_CONFIG")
    add("--smoke", action="store_true", help="a few small steps, no learning")
    arguments = parser.parse_args(options)
    if arguments.recipe is None:
        if arguments.task is None:
            parser.error("give --task or --recipe")
        arguments.recipe = RECIPES / f"{arguments.task}.toml"
    known = layer_arguments(arguments.cell)
    for name in itertools.chain(*arguments.layer):
        if name not in known:
            parser.error(
                f"argument --layer: {arguments.cell} has no argument {name!r}; "
                f"it has {', '.join(sorted(known))}"
            )
    return arguments


def toml(text):
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not TOML, NAME=VALUE with text in quotes: {error}"
        ) from None


def settings(arguments):
    """What the options say, for the recipe's tables of these names."""
    layer, training = (
        {
            name: getattr(arguments, name)
            for name in options
            if getattr(arguments, name) is not None
        }
        for options in (LAYER_OPTIONS, TRAINING_OPTIONS)
    )
    for given in arguments.layer:
        layer |= given
    if arguments.start:
        training["start"] = arguments.start
    if arguments.smoke:
        small = {"units": 16, "memory_slots": 32}
        known = layer_arguments(arguments.cell)
        layer |= {name: size for name, size in small.items() if name in known}
        # None: a trained model is of other sizes.
        training |= {"batch_size": 2, "epochs": 2, "steps_per_epoch": 5, "start": None}
    tables = {"layer": layer, "training": training}
    stream = {
        name: value for given in arguments.stream for name, value in given.items()
    }
    return {**tables, "stream": stream} if stream else tables


def trained_model(folder):
    """The model that this script left in a folder."""
    return trained(folder)[1]


def trained(folder, data=None):
    """The problem that a model was trained on, and the model.

    Args:
        folder: Path of the folder that this script left the model in.
        data: Path of the folder of a real data set, or None.
    """
    results = json.loads((folder / "results.json").read_text())
    recipe = current_recipe(results["recipe"])
    problem = make_problem(recipe, results["seed"], data, folder)
    model = problem.make_model(cell_of(results), recipe["layer"])
    load_variables(model, folder)
    return problem, model


def start_from(model, name):
    """Gives a model the weights of one of saved_models, or of one in a folder."""
    folder = next((f for f in (MODELS / name, Path(name)) if (f / "1").is_dir()), None)
    if folder is None:
        raise SystemExit(
            "error: --start must be a model of saved_models, or the folder of a run "
            f"that has ended. Received: {name}"
        )
    try:
        load_variables(model, folder)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None


def cell_of(results):
    """The cell of a results.json; the first of them name it in their command alone."""
    if "cell" in results:
        return results["cell"]
    return parse_arguments(results["command"].split()[2:]).cell


def run_settings(recipe, cell, seed):
    """What makes a training the one that it is; what is tested in the end does not.

    The number of epochs does: the learning rate falls over all of them.
    """
    parts = ("task", "layer", "training", "stream", "evaluation", "curriculum")
    parts += (
        "embedding",
        "images",
        "encoder",
        "interface_bias",
        "questions",
        "drawing_before",
        "item_before",
        "key_value_start",
        "value_gates",
        "triple_start",
        "relation_steps",
        "positions",
    )
    return {"cell": cell, "seed": seed, **{name: recipe.get(name) for name in parts}}


def refuse_other_results(output, cell, settings):
    """Ends the program if the folder has the results of a run with other settings."""
    path = output / "results.json"
    if not path.exists():
        return
    results = json.loads(path.read_text())
    if "recipe" in results:
        # The first results of this script did not name the cell.
        cell = results.get("cell", cell)
        recipe = current_recipe(results["recipe"])
        if run_settings(recipe, cell, results["seed"]) == settings:
            return
    raise SystemExit(
        f"error: {output} has the results of another run:\n  {results['command']}\n"
        "Choose another --output, or delete this one to begin again."
    )


def make_problem(recipe, seed, data, output):
    """The problem that a recipe describes; some need data, or train a part before."""
    if recipe["task"] == "babi":
        # These need tensorflow-datasets.
        from babi import BabiProblem, is_by_words
        from babi_questions import QuestionsProblem
        from babi_words import WordsProblem

        kind = QuestionsProblem if recipe.get("questions") else BabiProblem
        if is_by_words(recipe):
            kind = WordsProblem
        return kind(recipe, seed, data)
    if recipe["task"] == "omniglot":
        from omniglot import OmniglotProblem

        return OmniglotProblem(recipe, seed, data, output)
    if recipe["task"] == "mqar":
        from mqar import MqarProblem

        return MqarProblem(recipe, seed)
    if recipe["task"] == "associative_recall":
        return RecallProblem(recipe, seed)
    if recipe.get("search_start"):
        return SearchProblem(recipe, seed)
    if recipe.get("relation_steps"):
        return RelationProblem(recipe, seed)
    return SequenceProblem(recipe, seed)


def main():
    arguments = parse_arguments()
    if arguments.workers is not None and "TF_CONFIG" not in os.environ:
        command = [sys.executable, *sys.argv]
        sys.exit(keras_sam.distribute.run_local_workers(command, arguments.workers))
    strategy = tf.distribute.get_strategy()
    if "TF_CONFIG" in os.environ:
        strategy = keras_sam.distribute.MultiWorkerStrategy()
    recipe = read_recipe(arguments.recipe, arguments.cell, **settings(arguments))
    recipe["task"] = arguments.task or recipe["task"]
    if arguments.smoke and "encoder" in recipe:
        recipe["encoder"]["epochs"] = 1
    task, training = recipe["task"], recipe["training"]
    output = arguments.output
    if output is None:
        output = ROOT / "runs" / f"{task}_{arguments.cell}_{arguments.seed}"
    if "TF_CONFIG" in os.environ:
        output = strategy.folder(output)
    run_is = run_settings(recipe, arguments.cell, arguments.seed)
    backup = output / "backup"
    # Else the run has not ended, and the backup knows its settings.
    if not backup.exists():
        refuse_other_results(output, arguments.cell, run_is)
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(arguments.seed)

    problem = make_problem(recipe, arguments.seed, arguments.data, output)
    epochs, steps = training["epochs"], training["steps_per_epoch"]
    with strategy.scope():
        model = problem.make_model(arguments.cell, recipe["layer"])
        if training.get("start"):
            start_from(model, training["start"])
        problem.compile(model, training, epochs * steps)
    model.summary()
    curve = LearningCurve(steps * problem.batch_size)
    callbacks = [*problem.callbacks, curve]
    run = keras_sam.callbacks.RunBackup(backup, callbacks, run_is)
    try:
        done = run.restore(model)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    if run.stopped:
        epochs = done
    elif arguments.stop_after is not None:
        epochs = min(epochs, arguments.stop_after)
    evaluation_steps = 2 if arguments.smoke else -(-500 // problem.batch_size)
    model.fit(
        problem.training_data(steps, done),
        steps_per_epoch=steps,
        initial_epoch=done,
        epochs=epochs,
        **problem.validation(evaluation_steps),
        callbacks=[
            *callbacks,
            run,
            keras.callbacks.TensorBoard(output / "tensorboard"),
        ],
    )
    if not run.stopped and epochs < training["epochs"]:
        print(f"Stopped after {epochs} epochs; the same command goes on.")
        return

    results = {
        "command": " ".join(["python", "examples/train.py", *sys.argv[1:]]),
        "cell": arguments.cell,
        "recipe": recipe,
        "seed": arguments.seed,
        "workers": strategy.num_replicas_in_sync,
        "parameters": model.count_params(),
        "training_sequences": curve.points[-1]["sequences"],
        "training_seconds": curve.points[-1]["seconds"],
        **problem.results(model, recipe, arguments.smoke),
    }
    results["curve"] = curve.points
    (output / "results.json").write_text(json.dumps(results, indent=1))
    for name in ("test", "test_of_size", "underground", "write_gate_shut"):
        print(f"{name}: {json.dumps(results.get(name))}")

    curve.draw(problem.metric, output / "curve.png")
    usage = problem.export(model, output)
    write_card(output.resolve(), usage)
    # Only now is there nothing left to resume.
    shutil.rmtree(backup)
    print(f"SavedModel, README, results.json and curve.png are in {output}")


if __name__ == "__main__":
    main()
