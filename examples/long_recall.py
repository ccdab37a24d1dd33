"""Train a Sparse Access Memory on sequences of 10,000 steps, without truncation.

First the network sees pairs, one at each step: a random key of 16 bits and a value
of 8 bits. Then it sees all the keys again, in another order, and has to give the
value of each. So it has to keep thousands of facts apart and find each of them some
thousands of steps later. Gradients go back through all the steps. It starts with 4
pairs and goes on to more whenever it gives nearly all values right, up to 5,120 pairs:
10,240 steps. The memory has 2^20 words of 32 numbers; only as long as a batch has
several sequences, each with a memory of its own, it is smaller: no weight depends on
its size.

    python examples/long_recall.py
    python examples/long_recall.py --smoke    # a minute, short sequences
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib
import numpy as np

import keras_sam

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
KEY_BITS, VALUE_BITS = 16, 8
SMALL_MEMORY = 1024


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--memory-slots", type=int, default=2**20)
    add("--pairs", type=int, nargs="+", default=[4, 32, 256, 2048, 5120])
    add("--index", default="exact")
    add("--read-heads", type=int, default=1)
    add("--controller", default="dense")
    add("--learning-rate", type=float, default=1e-3)
    add("--max-updates", type=int, default=3000, help="at each number of pairs")
    add("--seed", type=int, default=0)
    add("--output", type=Path, help="default: saved_models/long_recall")
    add("--smoke", action="store_true", help="two short lengths, no learning")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.pairs, arguments.max_updates = [2, 8], 30
        arguments.memory_slots = 2**12
    if arguments.output is None:
        folder = "runs" if arguments.smoke else "saved_models"
        arguments.output = ROOT / folder / "long_recall"
    return arguments


def recall_sequences(rng, batch, pairs):
    """Inputs `[batch, 2 * pairs, 1 + 16 + 8]`, targets and weights of the values."""
    # Keys all different: a random choice among the 2^16.
    keys = np.stack([rng.choice(2**KEY_BITS, pairs, False) for _ in range(batch)])
    keys = 2.0 * (keys[..., np.newaxis] >> np.arange(KEY_BITS) & 1) - 1.0
    values = rng.integers(0, 2, (batch, pairs, VALUE_BITS))
    order = np.argsort(rng.random((batch, pairs)))[..., np.newaxis]
    steps = 2 * pairs
    inputs = np.zeros((batch, steps, 1 + KEY_BITS + VALUE_BITS), "float32")
    inputs[:, :pairs, 1 : 1 + KEY_BITS] = keys
    inputs[:, :pairs, 1 + KEY_BITS :] = 2.0 * values - 1.0
    inputs[:, pairs:, 0] = 1.0
    inputs[:, pairs:, 1 : 1 + KEY_BITS] = np.take_along_axis(keys, order, 1)
    targets = np.zeros((batch, steps, VALUE_BITS), "float32")
    targets[:, pairs:] = np.take_along_axis(values, order, 1)
    weights = np.zeros((batch, steps), "float32")
    weights[:, pairs:] = 1.0
    return inputs, targets, weights


def make_model(arguments):
    model = keras.Sequential(
        [
            keras.Input((None, 1 + KEY_BITS + VALUE_BITS)),
            keras_sam.SAM(
                100,
                memory_slots=SMALL_MEMORY,
                word_size=32,
                read_heads=arguments.read_heads,
                controller=arguments.controller,
                index=arguments.index,
                output_size=VALUE_BITS,
                return_sequences=True,
                name="memory",
            ),
            keras.layers.Activation("sigmoid", name="bits"),
        ]
    )
    compile_model(model, arguments)
    return model


def compile_model(model, arguments):
    model.compile(
        keras.optimizers.Adam(arguments.learning_rate, global_clipnorm=1.0),
        loss="binary_crossentropy",
        weighted_metrics=[keras_sam.metrics.BitErrors()],
    )


def train(model, arguments, rng):
    """From few pairs to many; returns the model and a point for every few updates."""
    curve, start = [], time.perf_counter()
    for pairs in arguments.pairs:
        # About as many pairs in an update whatever the length, but for the longest.
        batch = max(1, min(32, 256 // pairs))
        slots = arguments.memory_slots if batch == 1 else SMALL_MEMORY
        if slots != model.get_layer("memory").cell.memory_slots:
            model = keras_sam.resize_memory(model, slots)
            compile_model(model, arguments)
        group = 50 if pairs < 500 else 5
        update = 0
        while update < arguments.max_updates:
            tick = time.perf_counter()
            model.reset_metrics()
            for _ in range(group):
                results = model.train_on_batch(
                    *recall_sequences(rng, batch, pairs), return_dict=True
                )
            update += group
            curve.append(
                {
                    "pairs": pairs,
                    "memory_slots": slots,
                    "steps": 2 * pairs,
                    "updates": update,
                    "sequences": update * batch,
                    "seconds": round(time.perf_counter() - start, 1),
                    "seconds_per_update": (time.perf_counter() - tick) / group,
                    "wrong_bits_per_value": float(results["bit_errors"]) / pairs,
                }
            )
            print(
                "{pairs:5} pairs, {steps:6} steps, update {updates:5}: "
                "{wrong_bits_per_value:.4f} wrong bits of 8 per value, "
                "{seconds_per_update:.2f} s per update".format(**curve[-1]),
                flush=True,
            )
            if curve[-1]["wrong_bits_per_value"] < 0.01:
                break
    return model, curve


def draw(curve, path):
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    for pairs in dict.fromkeys(point["pairs"] for point in curve):
        points = [point for point in curve if point["pairs"] == pairs]
        axis.semilogy(
            [point["seconds"] / 60 for point in points],
            [max(point["wrong_bits_per_value"], 1e-4) for point in points],
            "o-",
            markersize=3,
            label=f"{pairs} pairs, {2 * pairs} steps",
        )
    axis.axhline(VALUE_BITS / 2, color="gray", linestyle=":", label="chance")
    axis.set_xlabel("minutes of training")
    axis.set_ylabel("wrong bits of 8 per value")
    axis.legend()
    axis.set_title("SAM recalling values by key, gradients through all steps")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main():
    arguments = parse_arguments()
    keras.utils.set_random_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    model = make_model(arguments)
    model, curve = train(model, arguments, rng)

    test_rng = np.random.default_rng(arguments.seed + 1)
    pairs = arguments.pairs[-1]
    model.reset_metrics()
    for _ in range(4):
        results = model.test_on_batch(
            *recall_sequences(test_rng, 1, pairs), return_dict=True
        )
    test_errors = float(results["bit_errors"]) / pairs
    print(f"new sequences of {2 * pairs} steps: {test_errors:.4f} wrong bits of 8")

    draw(curve, arguments.output / "curve.png")
    model.save(arguments.output / "model.keras")
    results = {
        "command": " ".join(["python", "examples/long_recall.py", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} cores",
        "memory_slots": arguments.memory_slots,
        "test_wrong_bits_per_value": test_errors,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "curve": curve,
    }
    (arguments.output / "results.json").write_text(json.dumps(results, indent=1))
    print(f"Curve, model and results.json are in {arguments.output}")


if __name__ == "__main__":
    main()
