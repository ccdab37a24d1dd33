"""How many items can a model recall that was trained with ten thousand?

    python benchmarks/recall_length.py

The models of examples/recipes/recall_curriculum.toml, with weights as they were
trained, in a memory with a slot for each item. Each sequence asks for 64 items. Exact
search compares a query with all words at each step, so that its time grows with the
square of the length: `--exact-up-to`.

Expected: few wrong bits far beyond the training, as many with LSH as with exact search,
and a time of a step with LSH that hardly grows.

Writes benchmarks/results/recall_length.json, a row for each model, length and index in
the place of an earlier one, and draws recall_length.png. `--smoke` tries it at a tiny
size.
"""

import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import matplotlib
import numpy as np
from measuring import (
    GIB,
    Options,
    digits,
    listed,
    load,
    numbers,
    peak_bytes,
    provenance,
    report,
    save,
)
from task_error import RecallCurriculum, with_settings, wrong_bits

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "recall_length.json"
QUERIES = 64


def measure(model, name, items, index, sequences):
    # What shows no item is not written.
    slots = 2 ** int(np.ceil(np.log2(items + 2 * QUERIES)))
    layer = with_settings(model.layer, index=index, memory_slots=slots)
    wrong, seconds = [], []
    for seed in range(sequences):
        sequence = model.draw(items, seed)
        start = time.perf_counter()
        wrong.append(wrong_bits(layer, sequence))
        seconds.append(time.perf_counter() - start)
    steps = sequence[1].shape[1]
    return {
        "model": name,
        "items": items,
        "index": index,
        "steps": steps,
        "memory_slots": slots,
        "sequences": sequences,
        "answers": sum(map(len, wrong)),
        "wrong": digits(np.mean(np.concatenate(wrong)) / sequence[1].shape[-1]),
        # The first sequence compiles as well.
        "us_per_step": digits(1e6 * min(seconds) / steps),
        "peak_gib": digits(peak_bytes() / GIB),
    }


def draw(rows, path):
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    for name, index in dict.fromkeys((row["model"], row["index"]) for row in rows):
        curve = sorted(
            (row["items"], row["wrong"])
            for row in rows
            if (row["model"], row["index"]) == (name, index)
        )
        cell = name.rsplit("_", 1)[-1].upper()
        label = {"exact": "exact search", "lsh": "LSH"}[index]
        axis.plot(
            *zip(*curve, strict=True),
            "o-" if index == "lsh" else "s--",
            label=f"{cell}, {label}",
        )
    axis.set_xscale("log")
    axis.set_yscale("symlog", linthresh=1e-4)
    axis.set_ylim(-2e-5, 1.0)
    axis.axvline(10_000, color="gray", linestyle=":", label="longest in training")
    axis.set_xlabel("items")
    axis.set_ylabel("share of wrong bits")
    axis.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main():
    parser = Options(__doc__, RESULTS)
    names = "recall_curriculum_sam,recall_curriculum_sdnc"
    parser.add("--models", names, "of saved_models", listed)
    parser.add("--items", "1000,10000,50000,200000,1000000", "in a sequence", numbers)
    parser.add("--indexes", "exact,lsh", "how words are found", listed)
    parser.add("--exact-up-to", 10_000, "items", int)
    parser.add("--sequences", 4, "for each row", int)
    options = parser.parse()
    if options.smoke:
        options.items, options.sequences = [16, 32], 1
    rows = {}
    if options.output.exists():
        for row in load(options.output)["rows"]:
            rows[row["model"], row["items"], row["index"]] = row
    for name in options.models:
        model = RecallCurriculum(ROOT / "saved_models" / name, QUERIES)
        for items in options.items:
            for index in options.indexes:
                if index == "exact" and items > options.exact_up_to:
                    continue
                row = measure(model, name, items, index, options.sequences)
                report(row)
                rows[name, items, index] = {**row, **provenance()}
    rows = sorted(
        rows.values(), key=lambda row: (row["model"], row["index"], row["items"])
    )
    save(options.output, {"rows": rows})
    draw(rows, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
