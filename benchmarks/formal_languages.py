"""Do stacks count beyond the lengths of training? As Joulin & Mikolov, 2015, ask.

    python benchmarks/formal_languages.py            # all that is not stored yet
    python benchmarks/formal_languages.py --seeds 0,1 --languages "a^n b^n" --cells lstm

Each of `--cells` learns each of `--languages` once for each of `--seeds`, with the
settings that examples/recipes/formal_language.toml has for it, on as many strings of
lengths 2 to 19. Then it is tested on lengths 2 to 60: on one string of each length, and
of a^n b^m c^(n+m) on 30 with random n. A string is right if all its symbols are
predicted that follow from those before. The result is the share that is right, the mean
over the lengths. A Stack RNN is tested twice, with its actions rounded and as they are.

Expected: with rounding the Stack RNN gets all strings of each language right with some
seeds, and more of them than the LSTM.

Each run is stored when it ends, in benchmarks/results/formal_languages.json. The first
Stack RNN that gets all of `--picture` right is drawn beside it, formal_languages.png,
while it reads the string of length 12.
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import sys
from pathlib import Path

import keras
import numpy as np
from measuring import Options, digits, load, numbers, report, store_row

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from sequences import SequenceProblem  # noqa: E402
from training import RECIPES, read_recipe  # noqa: E402

import keras_sam  # noqa: E402
from keras_sam.tasks import FORMAL_LANGUAGES, formal_language_sequences  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "formal_languages.json"
LONGEST, SPLITS, PICTURED = 60, 30, 12


def test_set(language, longest=LONGEST):
    """The lengths `[strings]`, and their strings."""
    draws = SPLITS if FORMAL_LANGUAGES[language] is None else 1
    lengths = np.repeat(np.arange(2, longest + 1), draws)
    return lengths, *formal_language_sequences(0, lengths, language)


def share_right(model, lengths, inputs, targets, weights):
    """The share of a length's strings that are right, the mean over the lengths."""
    # As many strings at a time as there are lengths: all batches have one shape.
    batch = len(set(lengths))
    predicted = model.predict(inputs, batch_size=batch, verbose=0).argmax(axis=-1)
    right = np.all((predicted == targets.argmax(axis=-1)) | (weights == 0), axis=1)
    return float(np.mean([right[lengths == n].mean() for n in sorted(set(lengths))]))


def with_actions(model, problem, cell, layer, **changes):
    """The same weights in a layer of other settings."""
    changed = problem.make_model(cell, {**layer, **changes})
    changed.set_weights(model.get_weights())
    return changed


def run(language, cell, seed, smoke=False):
    """Trains a model; returns what it gets right, and the model that was tested."""
    stream = {"language": language, "predictable_only": False}
    recipe = read_recipe(RECIPES / "formal_language.toml", cell, stream=stream)
    layer, training = recipe["layer"], recipe["training"]
    steps = 2 if smoke else training["epochs"] * training["steps_per_epoch"]
    keras.utils.set_random_seed(seed)
    problem = SequenceProblem(recipe, seed)
    model = problem.make_model(cell, layer)
    problem.compile(model, training, steps)
    start = time.perf_counter()
    model.fit(problem.training_data(steps), steps_per_epoch=steps, verbose=0)
    seconds = time.perf_counter() - start

    strings = test_set(language, 4 if smoke else LONGEST)
    if cell != "lstm":
        larger = {"memory_slots": recipe["test"]["memory_slots"]}
        mixed = with_actions(model, problem, cell, layer, **larger, round_actions=False)
        model = with_actions(model, problem, cell, layer, **larger)
    result = {
        "language": language,
        "cell": cell,
        "seed": seed,
        "parameters": model.count_params(),
        "strings": steps * problem.batch_size,
        "seconds": digits(seconds),
        "right": digits(share_right(model, *strings)),
    }
    if cell != "lstm":
        result["right_unrounded"] = digits(share_right(mixed, *strings))
    return result, model


def draw(model, language, path):
    """What the stacks hold while the model reads one string."""
    inputs, *_ = formal_language_sequences(0, [PICTURED], language)
    figure = keras_sam.visualize.plot_stacks(
        model.get_layer("memory"),
        inputs[0],
        labels=["abcd"[symbol] for symbol in inputs[0].argmax(axis=-1)],
        title=f"Stack RNN, {language} with n = {PICTURED}",
    )
    figure.savefig(path)


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--languages", list(FORMAL_LANGUAGES), "in quotes, between commas")
    parser.add("--cells", ["stack_rnn", "lstm"], "of examples/train.py")
    parser.add("--seeds", [0, 1, 2], "random seeds", numbers)
    parser.add("--picture", "a^n b^n c^n", "the language that is drawn", str)
    options = parser.parse()
    drawn = options.output.with_suffix(".png").exists()
    for seed in options.seeds:  # First all languages once.
        for language in options.languages:
            for cell in options.cells:
                name = f"{language}, {cell}, seed {seed}"
                if name in load(options.output).get("runs", {}):
                    report(f"{name}: stored")
                    continue
                result, model = run(language, cell, seed, options.smoke)
                store_row(options.output, "runs", name, result)
                report(f"{name}: {result}")
                is_picture = cell == "stack_rnn" and language == options.picture
                if is_picture and not drawn and (options.smoke or result["right"] == 1):
                    draw(model, language, options.output.with_suffix(".png"))
                    drawn = True


if __name__ == "__main__":
    main()
