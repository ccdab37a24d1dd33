"""How many bits of its answers does a trained SAM get wrong with each index?

    python benchmarks/task_error.py

The SAMs of saved_models/long_recall, long_recall_24 and recall_curriculum_sam answer
sequences of more and more pairs, with the index that they were trained with or with
another one. The memory has eight slots for each pair, more than a sequence has steps,
or as many as `--slots`. The weights are the same: what differs is what the index finds.
Exact search takes hours for the longest sequences, beyond `--exact-up-to` pairs.

Expected: as many wrong bits with LSH as with exact search.

Writes benchmarks/results/task_error.json; a run of some of the models replaces those
only. `--smoke` tries it at a tiny size.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measuring
import numpy as np
from measuring import Options, digits, listed, numbers, report

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "examples"))
from long_recall import VALUE_BITS, recall_sequences  # noqa: E402
from train import trained  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "task_error.json"


class LongRecall:
    """The model of examples/long_recall.py, its keys of as many bits as it takes."""

    pairs = (1024, 8192, 32768)
    sequences = 2

    def __init__(self, folder):
        model = keras.models.load_model(folder / "model.keras")
        self.layer = model.get_layer("memory")
        self.key_bits = model.input_shape[-1] - 1 - VALUE_BITS

    def draw(self, pairs, seed):
        rng = np.random.default_rng(seed)
        return recall_sequences(rng, 1, pairs, self.key_bits)


class LongRecall24(LongRecall):
    """The same, with keys of 24 bits."""

    pairs = (4096, 65536, 262144)
    sequences = 1


class RecallCurriculum:
    """A model of examples/recipes/recall_curriculum.toml: pairs of items."""

    pairs = (1000,)
    sequences = 64

    def __init__(self, folder, queries=16):
        self._problem, model = trained(folder)
        self._queries = queries
        self.layer = model.get_layer("memory")
        # What stands before the memory.
        self._features = keras.Model(model.inputs[0], self.layer.input)

    def draw(self, pairs, seed):
        sizes = {"min_items": pairs, "max_items": pairs, "queries": self._queries}
        settings = {**self._problem.settings, **sizes}
        stream = self._problem.make(1, seed=seed, **settings)
        inputs, targets, weights = next(stream.as_numpy_iterator())
        return self._features(inputs), targets, weights


MODELS = {
    "long_recall": LongRecall,
    "long_recall_24": LongRecall24,
    "recall_curriculum_sam": RecallCurriculum,
}


def with_settings(trained, **settings):
    """The trained layer with other settings, on which no weight depends."""
    layer = type(trained).from_config({**trained.get_config(), **settings})
    layer.build_from_config(trained.get_build_config())
    layer.set_weights(trained.get_weights())
    return layer


def wrong_bits(layer, sequence):
    """Of each answer of a sequence of logits: `[answers]`."""
    inputs, targets, weights = sequence
    is_wrong = (layer(inputs).numpy() > 0) != (targets > 0.5)
    return np.sum(is_wrong, axis=-1)[weights > 0]


def measure(model, options):
    """A row for each number of pairs and index."""
    rows = []
    for pairs in options.pairs or model.pairs:
        sequences = [
            model.draw(pairs, seed)
            for seed in range(options.sequences or model.sequences)
        ]
        slots = options.slots or 8 * pairs
        for index in options.indexes:
            if index == "exact" and pairs > options.exact_up_to:
                continue
            layer = with_settings(model.layer, index=index, memory_slots=slots)
            wrong = [wrong_bits(layer, sequence) for sequence in sequences]
            rows.append(
                {
                    "pairs": pairs,
                    "slots": slots,
                    "index": index,
                    "answers": sum(map(len, wrong)),
                    "bits": sequences[0][1].shape[-1],
                    "wrong_bits": digits(np.mean(np.concatenate(wrong))),
                }
            )
            report(rows[-1])
    return rows


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--models", ",".join(MODELS), "of saved_models", listed)
    parser.add("--folder", None, "of another model of long_recall.py", Path)
    parser.add("--indexes", "exact,lsh", "the same words", listed)
    parser.add("--pairs", None, "in a sequence; default: of each model", numbers)
    parser.add("--slots", None, "default: eight for each pair", int)
    parser.add("--sequences", None, "for each row; default: of each model", int)
    parser.add("--exact-up-to", 65536, "pairs", int)
    options = parser.parse()
    if options.smoke:
        options.pairs, options.sequences = [16], 1
    folders = {name: ROOT / "saved_models" / name for name in options.models}
    if options.folder is not None:
        folders = {options.folder.name: options.folder}
    for name, folder in folders.items():
        model = MODELS.get(name, LongRecall)(folder)
        rows = measure(model, options)
        measuring.store_part(options.output, name, {"rows": rows})


if __name__ == "__main__":
    main()
