"""How does a SAM trained on MQAR do on sequences of up to 131,072 tokens?

    python benchmarks/mqar_long.py

The weights are those of saved_models/mqar_sam, the memory is larger. Attention of two
blocks stands beside: the keys and values that it keeps, and the time of a token where
its weights fit into the memory.

Expected: a time of a token that hardly grows with the sequence. How many answers are
right is what the benchmark finds out.

Writes benchmarks/results/mqar_long.json; `--smoke` tries it at a tiny size.
"""

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from measuring import Options, digits, load, provenance, report, save

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "examples"))
import mqar  # noqa: E402
from train import trained_model  # noqa: E402

MODEL = ROOT / "saved_models" / "mqar_sam"
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
    recipe = load(MODEL / "results.json")["recipe"]
    layer = {**recipe["layer"], "memory_slots": slots, "index": index}
    # No weight depends on the slots or on the index.
    model = mqar.make_model("sam", layer, recipe["embedding"]["units"])
    model.set_weights(trained.get_weights())
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
    trained = trained_model(MODEL)
    # What it costs does not depend on what it has learned.
    attention = mqar.make_model("attention", {}, embedding=64)
    rows = []
    for size in SMOKE if options.smoke else SIZES:
        rows.append(measure(trained, attention, size, options.seed))
        report(rows[-1])
    save(options.output, {**provenance(), "seed": options.seed, "rows": rows})


if __name__ == "__main__":
    main()
