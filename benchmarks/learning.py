"""After how many sequences does a model know a task? Figure 2 of Rae et al., 2016.

    python benchmarks/learning.py                      # all that is not stored yet
    python benchmarks/learning.py --tasks copy --models sam_exact,sam_lsh --seeds 0,1,2
    python benchmarks/learning.py --models "" --picture --table   # of what is stored

Each of `--models` learns each of `--tasks` once for each of `--seeds`, in a process of
its own, with the settings that its recipe in examples/recipes has for it, on as many of
the same sequences (`--sequences`; the learning rate falls to zero over them). Each time
that it has seen `--every` more it is tested on 512 held-out ones: wrong bits per
sequence, and what the sequence costs, minus the logarithm to base 2 of its probability.

`--size paper` has the tasks as in the paper (copy 1 to 20 vectors, recall 3 to 6 items,
sort 20 keys), `--size small` smaller ones (1 to 8, 2 to 3, 5) and a memory of 256
words, enough that none is overwritten. A model has learned after the number of
sequences from which on it gets under 0.1 bits wrong.

Expected: all with a memory learn to copy and to recall, the LSTM later or never; the
sparse SAM, with any index, and SDNC after as many sequences as the dense DAM and DNC,
or fewer.

Each run is stored when it ends, in benchmarks/results/learning.json, and not done again
unless its settings differ. `--picture` draws learning_SIZE.png beside it: of a model's
seeds the median and the range.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from measuring import digits, markdown, numbers, provenance

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from sequences import SequenceProblem  # noqa: E402
from training import RECIPES, LearningCurve, plt, read_recipe  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "learning.json"
MODELS = {
    "lstm": ("lstm", {}),
    "ntm": ("ntm", {}),
    "dam": ("dam", {}),
    "sam_exact": ("sam", {"index": "exact"}),
    "sam_lsh": ("sam", {"index": "lsh"}),
    "sam_scann": ("sam", {"index": "scann"}),
    "dnc": ("dnc", {}),
    "sdnc": ("sdnc", {}),
}
# Of each size the streams' settings, and what of the layers differs from the recipe.
STREAMS = {
    "smoke": {
        "copy": {"max_length": 2},
        "associative_recall": {"max_items": 2},
        "priority_sort": {"min_keys": 2, "max_keys": 2},
    },
    "small": {
        "copy": {"max_length": 8},
        "associative_recall": {"max_items": 3, "item_length": 1, "bits": 8},
        "priority_sort": {"min_keys": 5, "max_keys": 5},
    },
    "paper": {
        "copy": {"max_length": 20},
        "associative_recall": {"min_items": 3, "max_items": 6},
        "priority_sort": {"min_keys": 20, "max_keys": 20},
    },
}
LAYERS = {
    "smoke": {"units": 8, "memory_slots": 16},
    "small": {"memory_slots": 256},
    "paper": {},
}
EVALUATION_SEQUENCES = 512
LEARNED = 0.1  # wrong bits per sequence


# One run.


class StopBelow(keras.callbacks.Callback):
    """Stops once `evaluations` in a row have found fewer than `limit` wrong bits."""

    def __init__(self, limit, evaluations):
        super().__init__()
        self.limit, self.evaluations = limit, evaluations
        self.below = 0

    def on_epoch_end(self, epoch, logs=None):
        self.below = self.below + 1 if logs["val_bit_errors"] < self.limit else 0
        self.model.stop_training = self.below >= self.evaluations


def run(task, size, model, seed, sequences, every, stop_below, evaluations):
    """Trains a model; returns its curve, and how long it took."""
    start = time.perf_counter()
    cell, layer = MODELS[model]
    recipe = read_recipe(
        RECIPES / f"{task}.toml",
        cell,
        stream=STREAMS[size][task],
        layer={**layer, **LAYERS[size]},
    )
    keras.utils.set_random_seed(seed)
    problem = SequenceProblem(recipe, seed)
    network = problem.make_model(cell, recipe["layer"])
    steps, epochs = every // problem.batch_size, sequences // every
    problem.compile(network, recipe["training"], steps * epochs)
    curve = LearningCurve(steps * problem.batch_size)
    callbacks = [curve]
    if stop_below is not None:
        callbacks.append(StopBelow(stop_below, evaluations))
    evaluation = (
        problem.stream(0).take(EVALUATION_SEQUENCES // problem.batch_size).cache()
    )
    network.fit(
        problem.stream(1),
        steps_per_epoch=steps,
        epochs=epochs,
        validation_data=evaluation,
        callbacks=callbacks,
        verbose=0,
    )
    # Keras's loss is the mean over all steps and bits, those of no weight as well.
    _, targets, _ = problem.stream(0).element_spec
    bits = targets.shape[1] * targets.shape[2] / math.log(2)
    points = curve.points
    return {
        "parameters": network.count_params(),
        "seconds": round(time.perf_counter() - start, 1),
        "curve": {
            "sequences": [point["sequences"] for point in points],
            "seconds": [point["seconds"] for point in points],
            "bit_errors": [digits(point["validation_bit_errors"]) for point in points],
            "cost_bits": [digits(bits * point["validation_loss"]) for point in points],
        },
    }


def learned_after(curve, limit=LEARNED):
    """From how many sequences on the error stays under the limit, or None."""
    learned = None
    for sequences, errors in zip(curve["sequences"], curve["bit_errors"], strict=True):
        if errors >= limit:
            learned = None
        elif learned is None:
            learned = sequences
    return learned


# The record.


def key(result):
    return tuple(result[name] for name in ("task", "size", "model", "seed"))


def load(path):
    results = json.loads(path.read_text()) if path.exists() else []
    return {key(result): result for result in results}


def store(path, result):
    """Adds a run, a line of the file, or replaces it."""
    results = load(path)  # Again: another command may have added.
    results[key(result)] = result
    lines = ",\n".join(json.dumps(results[each]) for each in sorted(results))
    temporary = path.with_suffix(".new")
    temporary.write_text(f"[\n{lines}\n]\n")
    temporary.replace(path)


def settings_of(options):
    """The settings of every run that the options ask for."""
    return [
        {
            "task": task,
            "size": options.size,
            "model": model,
            "seed": seed,
            "sequences": options.sequences,
            "every": options.every,
            "stop_below": options.stop_below,
            "evaluations": options.evaluations,
        }
        for seed in options.seeds  # First all models once.
        for task in options.tasks
        for model in options.models
    ]


def run_all(options):
    stored, lock = load(options.output), threading.Lock()
    command = provenance()["command"]

    def run_and_store(settings):
        name = " ".join(str(part) for part in key(settings))
        if settings.items() <= stored.get(key(settings), {}).items():
            print(f"{name}: stored", flush=True)
            return
        done = subprocess.run(
            [sys.executable, __file__, "--run", json.dumps(settings)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        result = json.loads(done.stdout.splitlines()[-1])
        learned = learned_after(result["curve"])
        facts = {"learned_after": learned, **result}
        with lock:
            store(options.output, {**settings, "command": command, **facts})
        errors = result["curve"]["bit_errors"][-1]
        print(
            f"{name}: learned after {learned}, {errors} wrong bits in the end, "
            f"{result['seconds']} s",
            flush=True,
        )

    with ThreadPoolExecutor(options.jobs) as pool:
        # Each in the end, so that one that fails does not end the others.
        runs = [
            pool.submit(run_and_store, settings) for settings in settings_of(options)
        ]
    for each in runs:
        each.result()


# What it shows.


def by_model(results, task, size):
    """The runs of each model, in the order of MODELS."""
    runs = [
        result
        for result in results.values()
        if (result["task"], result["size"]) == (task, size)
    ]
    groups = {name: [run for run in runs if run["model"] == name] for name in MODELS}
    return {name: group for name, group in groups.items() if group}


def tasks_of(results, size):
    return [t for t in STREAMS[size] if by_model(results, t, size)]


def table(results, size):
    """Columns and rows; the median of the seeds, and their range in brackets."""
    columns = ["task", "model", "seeds", "learned after", "times sam_exact"]
    columns += ["of them learned", "cost (bits)", "wrong bits", "seconds"]
    rows = []
    for task in tasks_of(results, size):
        groups = by_model(results, task, size)
        # What has not learned within its budget comes last.
        learned = {
            name: [run["learned_after"] or math.inf for run in runs]
            for name, runs in groups.items()
        }
        medians = {
            name: statistics.median_low(counts) for name, counts in learned.items()
        }
        reference = medians.get("sam_exact", math.inf)
        for name, runs in groups.items():
            known = math.isfinite(reference) and math.isfinite(medians[name])
            row = [
                task,
                name,
                len(runs),
                spread(learned[name], ",.0f").replace("inf", "never"),
                f"{medians[name] / reference:.2f}" if known else "",
                sum(map(math.isfinite, learned[name])),
                *(
                    spread([run["curve"][quantity][-1] for run in runs], ".3g")
                    for quantity in ("cost_bits", "bit_errors")
                ),
                spread([run["seconds"] for run in runs], ".0f"),
            ]
            rows.append(row)
    return columns, rows


def spread(values, form):
    low, high = min(values), max(values)
    median = format(statistics.median_low(values), form)
    return median if low == high else f"{median} ({low:{form}} to {high:{form}})"


def draw(results, size, path):
    tasks = tasks_of(results, size)
    plt.rcParams.update({"font.size": 10, "axes.grid": True, "grid.alpha": 0.3})
    figure, rows = plt.subplots(
        1, len(tasks), figsize=(4 * len(tasks), 4), squeeze=False, layout="constrained"
    )
    handles = {}
    for axis, task in zip(rows[0], tasks, strict=True):
        for name, runs in by_model(results, task, size).items():
            handles[name] = plot(axis, runs, f"C{list(MODELS).index(name)}")
        axis.set_title(task.replace("_", " "))
        axis.set_xlabel("sequences seen")
        axis.set_yscale("log")
    rows[0, 0].set_ylabel("cost per sequence (bits)")
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
    figure.savefig(path, dpi=100)


def plot(axis, runs, color):
    """The median of a model's runs, and their range; returns the line."""
    curves = [run["curve"] for run in runs]
    sequences = max((curve["sequences"] for curve in curves), key=len)
    # A run that was stopped because it had learned stays where it was.
    costs = [
        np.pad(cost, (0, len(sequences) - len(cost)), mode="edge")
        for cost in (curve["cost_bits"] for curve in curves)
    ]
    low, median, high = np.quantile(costs, [0.0, 0.5, 1.0], axis=0)
    axis.fill_between(sequences, low, high, color=color, alpha=0.2, linewidth=0)
    (line,) = axis.plot(sequences, median, color=color)
    return line


# The command.


def some_of(kinds):
    def parse(text):
        names = [name for name in text.split(",") if name]
        if unknown := set(names) - set(kinds):
            raise argparse.ArgumentTypeError(
                f"unknown {', '.join(unknown)}; there are {', '.join(kinds)}"
            )
        return names

    return parse


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def add(name, default, text, kind):
        parser.add_argument(name, default=default, type=kind, help=text)

    tasks = list(STREAMS["paper"])
    add("--tasks", tasks, f"default: {','.join(tasks)}", some_of(tasks))
    add("--models", list(MODELS), f"default: {','.join(MODELS)}", some_of(MODELS))
    add("--seeds", [0, 1, 2], "default: 0,1,2", numbers)
    add("--sequences", 100_000, "to learn from; default: %(default)s", int)
    add("--every", 2_000, "sequences between two tests; default: %(default)s", int)
    add("--stop-below", None, "stop early: below so many wrong bits", float)
    add("--evaluations", 5, "... in so many tests; default: %(default)s", int)
    add("--jobs", 1, "runs at the same time; default: %(default)s", int)
    add("--output", RESULTS, "the results; the picture goes beside them", Path)
    parser.add_argument("--size", default="small", choices=STREAMS)
    parser.add_argument("--picture", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--run", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stop_below is not None and options.stop_below > LEARNED:
        parser.error(f"argument --stop-below: at most {LEARNED}, or nothing is learned")
    if options.sequences < options.every:
        parser.error("argument --every: more than --sequences")
    return options


def main():
    options = parse_options()
    if options.run:
        return print(json.dumps(run(**options.run)))
    run_all(options)
    results = load(options.output)
    if options.table:
        print(markdown(*table(results, options.size)), end="")
    if options.picture:
        name = f"{options.output.stem}_{options.size}.png"
        draw(results, options.size, options.output.with_name(name))


if __name__ == "__main__":
    main()
