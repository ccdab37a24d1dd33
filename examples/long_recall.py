"""Train a Sparse Access Memory on sequences of 131,072 steps, without truncation.

First the network sees pairs, one at each step: a random key of 24 bits and a value
of 8 bits. Then it sees all the keys again, in another order, and has to give the
value of each. So it has to keep thousands of facts apart and find each of them some
thousands of steps later. Gradients go back through all the steps. Training starts with
4 pairs and goes on to more whenever nearly all values are right, up to 65,536 pairs.
Once the network looks keys up, those of a sequence differ in few of their bits alone,
so that they are as much alike as those of the longest sequence: on short ones, which
cost little, the network learns to tell keys apart that differ in one bit.
The memory has 2^20 words of 32 numbers. While a batch has several sequences, each with
a memory of its own, the memory is smaller: no weight depends on its size.

    python examples/long_recall.py
    python examples/long_recall.py --smoke    # a minute, short sequences

The same command goes on where an interrupted run was.
"""

import argparse
import itertools
import json
import math
import os
import resource
import shutil
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
VALUE_BITS = 8
SMALL_MEMORY = 1024
ALIKE_FROM = 256


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--memory-slots", type=int, default=2**20)
    add("--pairs", type=int, nargs="+", default=[4, 32, 256, 2048, 16384, 65536])
    add("--key-bits", type=int, default=24)
    add("--index", default="lsh")
    # Strengths beyond 21 tell 65,536 words apart (benchmarks/strengths.py).
    add("--clip-value", type=float, default=50.0)
    add("--read-heads", type=int, default=1)
    add("--controller", default="dense")
    add("--learning-rate", type=float, default=1e-3)
    add(
        "--learned",
        type=float,
        default=0.002,
        help="wrong bits of 8 under which a number of pairs is learned",
    )
    add(
        "--max-updates",
        type=int,
        nargs="+",
        default=[3000, 3000, 600, 300, 20, 10],
        help="at each number of pairs",
    )
    add("--seed", type=int, default=0)
    add("--output", type=Path, help="default: runs/long_recall")
    add("--smoke", action="store_true", help="two short lengths, no learning")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.pairs, arguments.max_updates = [2, 8], [50, 50]
        arguments.memory_slots = 2**12
    if arguments.output is None:
        arguments.output = ROOT / "runs" / "long_recall"
    return arguments


def recall_sequences(rng, batch, pairs, key_bits, free_bits=None):
    """Inputs `[batch, 2 * pairs, 1 + key_bits + 8]`, targets, weights of the values.

    All keys of a sequence are alike but for `free_bits` of their bits, others in each
    sequence; by default any two keys are as different as chance has it.
    """
    free_bits = free_bits or key_bits
    keys = np.stack([rng.choice(2**free_bits, pairs, False) for _ in range(batch)])
    keys = keys[..., np.newaxis] >> np.arange(free_bits) & 1
    alike = rng.integers(0, 2, (batch, 1, key_bits - free_bits))
    alike = np.repeat(alike, pairs, axis=1)
    keys = 2.0 * np.concatenate([keys, alike], axis=-1) - 1.0
    places = np.argsort(rng.random((batch, 1, key_bits)))
    keys = np.take_along_axis(keys, np.repeat(places, pairs, axis=1), axis=-1)
    values = rng.integers(0, 2, (batch, pairs, VALUE_BITS))
    order = np.argsort(rng.random((batch, pairs)))[..., np.newaxis]
    steps = 2 * pairs
    inputs = np.zeros((batch, steps, 1 + key_bits + VALUE_BITS), "float32")
    inputs[:, :pairs, 1 : 1 + key_bits] = keys
    inputs[:, :pairs, 1 + key_bits :] = 2.0 * values - 1.0
    inputs[:, pairs:, 0] = 1.0
    inputs[:, pairs:, 1 : 1 + key_bits] = np.take_along_axis(keys, order, 1)
    targets = np.zeros((batch, steps, VALUE_BITS), "float32")
    targets[:, pairs:] = np.take_along_axis(values, order, 1)
    weights = np.zeros((batch, steps), "float32")
    weights[:, pairs:] = 1.0
    return inputs, targets, weights


def make_model(arguments):
    model = keras.Sequential(
        [
            keras.Input((None, 1 + arguments.key_bits + VALUE_BITS)),
            keras_sam.SAM(
                100,
                memory_slots=SMALL_MEMORY,
                word_size=32,
                read_heads=arguments.read_heads,
                controller=arguments.controller,
                index=arguments.index,
                clip_value=arguments.clip_value,
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


class Level(keras.callbacks.Callback):
    """Training on one number of pairs: its curve, and its end when they are learned."""

    def __init__(self, pairs, memory_slots, batch, updates, learned):
        super().__init__()
        self.sizes = {"pairs": pairs, "memory_slots": memory_slots, "batch": batch}
        self.updates, self.learned = updates, learned
        self.points = []

    def get_state(self):
        return self.points

    def set_state(self, state):
        self.points = list(state)

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        wrong = float(logs["bit_errors"]) / self.sizes["pairs"]
        seconds = round(time.perf_counter() - self.start, 2)
        self.points.append({**self.sizes, "wrong_bits": wrong, "seconds": seconds})
        print(
            f"{self.sizes['pairs']:6} pairs, {(epoch + 1) * self.updates:5} updates: "
            f"{wrong:.4f} wrong bits of 8, {seconds / self.updates:.2f} s per update",
            flush=True,
        )
        self.model.stop_training |= wrong < self.learned


def train(model, arguments):
    """From few pairs to many; returns the model and a point for every few updates."""
    curve = []
    for pairs, max_updates in zip(arguments.pairs, arguments.max_updates, strict=True):
        # About as many pairs in an update whatever the length, but for the longest.
        batch = max(1, min(32, 256 // pairs))
        slots = arguments.memory_slots if batch == 1 else SMALL_MEMORY
        if slots != model.get_layer("memory").cell.memory_slots:
            model = keras_sam.resize_memory(model, slots)
            compile_model(model, arguments)
        updates = 50 if pairs < 500 else 5
        level = Level(pairs, slots, batch, updates, arguments.learned)
        settings = {
            name: value
            for name, value in vars(arguments).items()
            if name not in ("output", "pairs", "max_updates", "smoke")
        }
        run = keras_sam.callbacks.RunBackup(
            arguments.output / "backup" / str(pairs), [level], settings
        )
        done = run.restore(model)
        epochs = done if run.stopped else -(-max_updates // updates)
        model.fit(
            endless(arguments, pairs, batch, done * updates),
            steps_per_epoch=updates,
            initial_epoch=done,
            epochs=epochs,
            callbacks=[level, run],
            verbose=0,
        )
        curve += level.points
    return model, curve


def endless(arguments, pairs, batch, update):
    """The batches of a level from an update on: each has a seed of its own.

    From `ALIKE_FROM` pairs on there are as many possible keys for each pair as at the
    last level.
    """
    free_bits = arguments.key_bits
    if pairs >= ALIKE_FROM:
        shorter = math.log2(arguments.pairs[-1] / pairs)
        free_bits = math.ceil(max(free_bits - shorter, math.log2(pairs)))
    for number in itertools.count(update):
        rng = np.random.default_rng([arguments.seed, pairs, number])
        yield recall_sequences(rng, batch, pairs, arguments.key_bits, free_bits)


def draw(curve, path):
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    minutes = np.cumsum([point["seconds"] for point in curve]) / 60
    for pairs in dict.fromkeys(point["pairs"] for point in curve):
        points = [i for i, point in enumerate(curve) if point["pairs"] == pairs]
        axis.semilogy(
            minutes[points],
            [max(curve[i]["wrong_bits"], 1e-4) for i in points],
            "o-",
            markersize=3,
            label=f"{pairs:,} pairs, {2 * pairs:,} steps",
        )
    axis.axhline(VALUE_BITS / 2, color="gray", linestyle=":", label="chance")
    axis.set_xlabel("minutes of training")
    axis.set_ylabel("wrong bits of 8 per value")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    axis.set_title("SAM recalling values by key, gradients through all steps")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main():
    arguments = parse_arguments()
    keras.utils.set_random_seed(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    model = make_model(arguments)
    try:
        model, curve = train(model, arguments)
    except ValueError as error:  # The backup is of another run.
        raise SystemExit(f"error: {error}") from None

    test_rng = np.random.default_rng(arguments.seed + 1)
    pairs = arguments.pairs[-1]
    model.reset_metrics()
    for _ in range(4):
        sequences = recall_sequences(test_rng, 1, pairs, arguments.key_bits)
        results = model.test_on_batch(*sequences, return_dict=True)
    test_errors = float(results["bit_errors"]) / pairs
    print(f"new sequences of {2 * pairs} steps: {test_errors:.4f} wrong bits of 8")

    draw(curve, arguments.output / "curve.png")
    model.save(arguments.output / "model.keras")
    results = {
        "command": " ".join(["python", "examples/long_recall.py", *sys.argv[1:]]),
        "task": "long_recall",
        "cell": "sam",
        "parameters": model.count_params(),
        "seed": arguments.seed,
        "machine": f"{os.cpu_count()} cores",
        "memory_slots": arguments.memory_slots,
        "training_seconds": round(sum(point["seconds"] for point in curve)),
        "test_wrong_bits_per_value": test_errors,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "curve": curve,
    }
    (arguments.output / "results.json").write_text(json.dumps(results, indent=1))
    # Only now is there nothing left to resume.
    shutil.rmtree(arguments.output / "backup")
    print(f"Curve, model and results.json are in {arguments.output}")


if __name__ == "__main__":
    main()
