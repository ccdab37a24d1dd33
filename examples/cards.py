"""Writes the card of a trained model, README.md, from its results.json.

    python examples/cards.py saved_models/*/

examples/train.py writes the card of a run in the same way. In results.json, `notes`
are sentences that the card adds to the limits.
"""

import argparse
import json
import numbers
from pathlib import Path

TITLES = {
    "bit_errors": "wrong bits a sequence",
    "wrong_bits": "wrong bits of the 8 of a value",
    "sequence_accuracy": "share of right answers",
    "accuracy": "share of right answers",
    "cost_bits": "bits that a sequence costs",
    "optimal_cost_bits": "bits of the best estimator",
}
# Of layers whose names are not all in capitals.
LAYERS = {
    "dynamic_memory": "DynamicMemory",
    "end_to_end_memory": "EndToEndMemory",
    "stack_rnn": "StackRNN",
}
DATA = {
    "babi": "bAbI, downloaded or from a folder; stories in English",
    "omniglot": "Omniglot, downloaded or from a folder; unseen alphabets in the test",
    "long_recall": "random keys and values, made by the script",
}

DRAWN_APART = "The test sequences were drawn apart from those of the training."
TESTED = {
    "babi": "The test is the official one. 741 of the 1,000 test stories of task 4 are "
    "in the\ntraining or validation split as well.",
}

CARD = """# {name}

A trained {cell} on the task {task}.

{facts}
## Figures

{data_of_test}

{figures}
`results.json` has all figures and the learning curve.

## Limits

{limits}
## Use

{usage}"""

USAGE = """With TensorFlow alone, from the folder above this one:

"""

BY_NAME = """As a Keras model:

```python
import keras_sam

model = keras_sam.models.load("{name}")
```

"""


def write_card(folder, usage):
    """Writes README.md into a folder that has a results.json.

    Args:
        folder: Path.
        usage: String, Markdown that shows how the SavedModel is called, or "".
    """
    (folder / "README.md").write_text(card(folder, usage), encoding="utf-8")


def card(folder, usage):
    """The text of the card: see `write_card`."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    recipe = results.get("recipe", {})
    task = recipe.get("task") or results["task"]
    keras_file = folder / "model.keras"
    facts = {
        "task": task.replace("_", " "),
        "data": DATA.get(task, f"`keras_sam.tasks.{task}_task`, made on your machine"),
        "layer": layer_of(results, recipe),
        "parameters": f"{results['parameters']:,}",
        "command": f"`{results['command']}`",
        "seed": results["seed"],
        "training": training(results),
        "licence": "Apache-2.0",
    }
    if "commit" in results:
        changed = "the script or the recipe has changed since"
        facts["commit"] = f"`{results['commit']}`: {changed}"
    if keras_file.exists():
        facts["`model.keras`"] = f"{keras_file.stat().st_size / 1e6:.2f} MB"
    text = BY_NAME.format(name=folder.name) if keras_file.exists() else ""
    if usage:
        text += USAGE + usage
    elif not text:
        text = "The folder `1` has the SavedModel.\n"
    return CARD.format(
        name=folder.name,
        cell=layer_name(results["cell"]),
        task=task.replace("_", " "),
        facts=table(["what", "value"], facts.items()),
        data_of_test=TESTED.get(task, DRAWN_APART),
        figures=table(*figures(results)),
        limits="".join(f"- {limit}\n" for limit in limits(results, folder)),
        usage=text.rstrip("\n") + "\n",
    )


def layer_name(cell):
    """The public name of a cell's layer."""
    return LAYERS.get(cell, cell.upper())


def layer_of(results, recipe):
    """The layer with its settings."""
    settings = [f"{name}={value!r}" for name, value in recipe.get("layer", {}).items()]
    if recipe.get("positions"):
        settings.append("after `keras_sam.RandomPositions`")
    return ", ".join([f"`{layer_name(results['cell'])}`", *settings])


def training(results):
    """How long the training was."""
    parts, seconds = [], results.get("training_seconds")
    if "training_sequences" in results:
        parts.append(f"{results['training_sequences']:,} sequences")
    if seconds is None and "sequences" in results["curve"][-1]:
        # The long recall of then counted its seconds over all levels.
        seconds = results["curve"][-1]["seconds"]
    if seconds is not None:
        parts.append(f"{seconds / 60:.0f} minutes")
    if "machine" in results:
        parts.append(results["machine"])
    return ", ".join(parts)


def figures(results):
    """Columns and rows of the figures."""
    tests = tested(results)
    names = dict.fromkeys(
        name
        for test in tests.values()
        for name, value in test.items()
        if name != "loss" and isinstance(value, numbers.Number)
    )
    rows = [
        [title, *(f"{test[name]:.4f}" if name in test else "" for name in names)]
        for title, test in tests.items()
    ]
    titles = (TITLES.get(name, name.replace("_", " ")) for name in names)
    return ["sequences", *titles], rows


def tested(results):
    """What was tested: from names of sequences to metrics. Old results differ."""
    tests = {}
    if "test_wrong_bits_per_value" in results:
        pairs = results["curve"][-1]["pairs"]
        wrong = results["test_wrong_bits_per_value"]
        tests[f"{pairs:,} pairs"] = {"wrong_bits": wrong}
    if "test_bit_errors" in results:
        tests["as in training"] = {"bit_errors": results["test_bit_errors"]}
        for length, value in results["bit_errors_by_length"].items():
            tests[f"length {length}"] = {"bit_errors": value}
        if "bit_errors_without_writing" in results:
            wrong = results["bit_errors_without_writing"]
            tests["length 20, nothing written"] = {"bit_errors": wrong}
    if "test" in results:
        tests["as in training"] = results["test"]
    tests |= results.get("test_of_size", {})
    for size, test in results.get("underground", {}).items():
        tests[f"London's Underground, {size}"] = test
    if "write_gate_shut" in results:
        tests["as in training, nothing written"] = results["write_gate_shut"]
    return tests


def limits(results, folder):
    """Sentences."""
    yield "The figures are of one run with one seed."
    if results.get("recipe", {}).get("task") not in DATA:
        yield "The model answers inputs of its task's form alone."
    if "broken_off" in results:
        yield f"The training was broken off {results['broken_off']}."
    if results["cell"] in ("sam", "sdnc") and (folder / "1").exists():
        yield "Version 1 of the SavedModel needs XLA where the SavedModel runs."
    yield from results.get("notes", [])


def table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def usage_of(folder):
    """How the SavedModel of a folder that examples/train.py left is called."""
    # Here, because train.py imports this module.
    from babi import STORY
    from babi import USAGE as BABI
    from mqar import USAGE as MQAR
    from omniglot import USAGE as OMNIGLOT
    from sequences import SequenceProblem
    from training import current_recipe

    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if "recipe" not in results:
        return ""
    recipe = current_recipe(results["recipe"])
    if recipe["task"] == "omniglot":
        return OMNIGLOT.format(folder=folder.name)
    if recipe["task"] == "mqar":
        return MQAR.format(folder=folder.name)
    if recipe["task"] == "babi":
        return BABI.format(folder=folder.name, story=STORY)
    return SequenceProblem(recipe, results["seed"]).usage(folder)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    for folder in parser.parse_args().folders:
        if (folder / "results.json").exists():
            folder = folder.resolve()
            write_card(folder, usage_of(folder))


if __name__ == "__main__":
    main()
