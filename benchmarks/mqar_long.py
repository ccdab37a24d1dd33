"""How does a SAM trained on MQAR do on sequences of up to 131,072 tokens?

    python benchmarks/mqar_long.py

The weights are those of saved_models/mqar_sam, the memory is larger. Attention of two
blocks stands beside: the keys and values that it keeps, and the time of a token where
its weights fit into the memory.

Expected: at least 99 % of the answers right; a time and a state for each token that do
not grow with the sequence.

Writes benchmarks/results/mqar_long.json; `--smoke` tries it at a tiny size.
"""

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from measuring import Options, digits, provenance, report, save

import keras_sam

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "examples"))
import mqar  # noqa: E402
from train import trained_model  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "mqar_long.json"
# (tokens, pairs, slots of the memory, index, sequences)
SIZES = (
    (2**10, 256, 480, "exact", 64),
    (2**14, 2048, 2**13, "exact", 4),
    (2**14, 2048, 2**13, "lsh", 4),
    (2**17, 4000, 2**16, "lsh", 1),
)
SMOKE = ((64, 8, 64, "exact", 2), (64, 8, 64, "lsh", 2))
# Longer ones would need weights of some GiB.
ATTENTION_UP_TO = 2**14


def with_memory(model, slots, index):
    """The model with a memory of so many slots and another index."""

    def clone(layer):
        if not isinstance(layer, keras_sam.MemoryRNN):
            return layer.__class__.from_config(layer.get_config())
        config = {**layer.get_config(), "memory_slots": slots, "index": index}
        return layer.__class__.from_config(config)

    other = keras.models.clone_model(model, clone_function=clone)
    other.set_weights(model.get_weights())
    return other


def answered(model, tokens, queries, answers):
    """The share of right answers, sequence by sequence, and the seconds of a token."""
    right, seconds = [], []
    for row in range(len(tokens)):
        one = slice(row, row + 1)
        start = time.perf_counter()
        logits = model.predict_on_batch(
            {"tokens": tokens[one], "queries": queries[one]}
        )
        seconds.append((time.perf_counter() - start) / tokens.shape[1])
        right.append(np.mean(logits.argmax(axis=-1) == answers[one]))
    # The first call compiles.
    return float(np.mean(right)), float(np.median(seconds[1:] or seconds))


def measure(trained, attention, size, seed):
    steps, pairs, slots, index, count = size
    sequences = mqar.make_sequences({(steps, pairs): count}, seed)[steps, pairs]
    model = with_memory(trained, slots, index)
    if count == 1:  # so that the time is not that of compiling
        answered(model, *sequences)
    accuracy, seconds = answered(model, *sequences)
    row = {
        "tokens": steps,
        "pairs": pairs,
        "memory_slots": slots,
        "index": index,
        "sequences": count,
        "accuracy": digits(accuracy),
        "us_per_token": digits(1e6 * seconds),
        "state_size": mqar.state_size(model, steps),
        "attention_state_size": mqar.state_size(attention, steps),
    }
    if steps <= ATTENTION_UP_TO:
        row["attention_us_per_token"] = digits(1e6 * answered(attention, *sequences)[1])
    return row


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--seed", 1000, "of the sequences", int)
    options = parser.parse()
    trained = trained_model(ROOT / "saved_models" / "mqar_sam")
    # What it costs does not depend on what it has learned.
    attention = mqar.make_model("attention", {}, embedding=64)
    rows = []
    for size in SMOKE if options.smoke else SIZES:
        rows.append(measure(trained, attention, size, options.seed))
        report(rows[-1])
    save(options.output, {**provenance(), "seed": options.seed, "rows": rows})


if __name__ == "__main__":
    main()
