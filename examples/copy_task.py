"""Train a network with an external memory to copy sequences of bits.

The task of Graves et al., 2014 (https://arxiv.org/abs/1410.5401), section 4.1: see
1 to 20 random 8-bit vectors, then write them down from memory. Trains on the
tensorflow-datasets builder `copy_task`, measures the wrong bits at lengths 20, 40,
80 and 120, draws what the memory did (after the paper's figure 6), exports a
SavedModel and checks it in a process that knows nothing but TensorFlow.

    python examples/copy_task.py --quick               # minutes, see --help
    python examples/copy_task.py                       # NTM, LSTM controller
    python examples/copy_task.py --controller dense    # NTM, feed-forward controller
    python examples/copy_task.py --cell dnc
    python examples/copy_task.py --cell sam
    python examples/copy_task.py --cell sdnc
    python examples/copy_task.py --cell sam --controller dense --positions \\
        --read-heads 1 --word-size 32 --memory-slots 256 --learning-rate 1e-3
    python examples/copy_task.py --cell lstm           # no memory, for comparison
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from positions import Positions
from training import LearningCurve, export, load_variables, writing_shut

import keras_sam
import keras_sam.datasets
from keras_sam.tasks import copy_sequences

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
BITS = 8

# No weight of the cells but the NTM's depends on the number of slots: they are trained
# on a small memory and tested on one that holds the longest sequence.
MEMORY_SLOTS = {"ntm": 128, "dnc": 32, "sam": 64, "sdnc": 64}
TEST_MEMORY_SLOTS = {"ntm": 128, "dnc": 128, "sam": 1024, "sdnc": 1024}
SPARSE = {"sam": keras_sam.SAM, "sdnc": keras_sam.SDNC}


def parse_arguments(command_line=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cell", choices=["ntm", "dnc", "sam", "sdnc", "lstm"], default="ntm")
    add("--controller", choices=["lstm", "dense"], default="lstm")
    add("--units", type=int, help="default: 100; 256 for --cell lstm")
    add("--memory-slots", type=int, help="default: 128 (ntm), 32 (dnc), 64 (sparse)")
    add("--word-size", type=int, default=20)
    add("--read-heads", type=int, help="default: 1 (ntm, dnc), 4 (sparse)")
    add("--max-length", type=int, choices=[10, 20], default=20)
    add("--sequences", type=int, default=128_000, help="how many to train on")
    add("--batch-size", type=int, default=16)
    add("--learning-rate", type=float, help="default: 1e-3; 5e-4 for sparse cells")
    add("--clip-norm", type=float, help="default: 10; 1 for sparse cells")
    add("--index", default="auto", help="of sparse cells")
    add(
        "--positions",
        action="store_true",
        help="with each step features of its position (positions.py)",
    )
    add("--seed", type=int, default=0)
    add("--data-dir", type=Path, default=ROOT / "data")
    add("--output", type=Path, help="default: saved_models/copy_CELL[_CONTROLLER]")
    add(
        "--quick",
        action="store_true",
        help="lengths 1 to 10, dense controller, minutes",
    )
    add("--smoke", action="store_true", help="everything in two minutes, no learning")
    arguments = parser.parse_args(command_line)
    if arguments.units is None:
        arguments.units = 256 if arguments.cell == "lstm" else 100
    sparse = arguments.cell in SPARSE
    if arguments.learning_rate is None:
        arguments.learning_rate = 5e-4 if sparse else 1e-3
    if arguments.clip_norm is None:
        arguments.clip_norm = 1.0 if sparse else 10.0
    if arguments.memory_slots is None:
        arguments.memory_slots = MEMORY_SLOTS.get(arguments.cell, 0)
    if arguments.quick or arguments.smoke:
        arguments.max_length = 10
        arguments.sequences = 32_000 if arguments.quick else 1_600
        # All that this controller remembers is in the memory: it learns the soonest.
        arguments.controller = "dense"
    if arguments.output is None:
        name = f"copy_{arguments.cell}"
        if arguments.quick or arguments.smoke:
            name = f"runs/{name}_{'quick' if arguments.quick else 'smoke'}"
        else:
            if arguments.controller != "lstm":
                name += f"_{arguments.controller}"
            name = f"saved_models/{name}{'_positions' if arguments.positions else ''}"
        arguments.output = ROOT / name
    return arguments


def make_model(arguments):
    memory_arguments = {
        "units": arguments.units,
        "controller": arguments.controller,
        "memory_slots": arguments.memory_slots,
        "word_size": arguments.word_size,
        "output_size": BITS,
        "return_sequences": True,
        "name": "memory",
    }
    if arguments.cell == "dnc":
        memory_arguments["read_heads"] = 1
    if arguments.read_heads is not None:
        memory_arguments["read_heads"] = arguments.read_heads
    if arguments.cell == "ntm":
        layers = [keras_sam.NTM(**memory_arguments)]
    elif arguments.cell == "dnc":
        layers = [keras_sam.DNC(**memory_arguments)]
    elif arguments.cell in SPARSE:
        if arguments.cell == "sdnc":
            # Else its weights fade as it walks along the links, beyond 20 vectors.
            memory_arguments["link_sharpening"] = True
        layers = [SPARSE[arguments.cell](index=arguments.index, **memory_arguments)]
    else:
        layers = [
            keras.layers.LSTM(arguments.units, return_sequences=True),
            keras.layers.Dense(BITS),
        ]
    if arguments.positions:
        layers.insert(0, Positions(name="positions"))
    return keras.Sequential(
        [
            keras.Input((None, BITS + 1)),
            *layers,
            keras.layers.Activation("sigmoid", name="bits"),
        ]
    )


def trained_model(folder):
    """The model that this script left in a folder: as it was tested there."""
    command = json.loads((folder / "results.json").read_text())["command"]
    arguments = parse_arguments(command.split()[2:])
    arguments.memory_slots = tested_slots(arguments)
    model = make_model(arguments)
    load_variables(model, folder)
    return model


def tested_slots(arguments):
    return max(arguments.memory_slots, TEST_MEMORY_SLOTS.get(arguments.cell, 0))


def load_data(arguments):
    """The data set's batches, all padded to one length: XLA compiles once."""
    steps = 2 * arguments.max_length + 1
    shapes = ((steps, BITS + 1), (steps, BITS), (steps,))
    train, validation, test = tfds.load(
        f"copy_task/length_{arguments.max_length}",
        split=["train", "validation", "test"],
        as_supervised=True,
        data_dir=arguments.data_dir,
    )
    train = (
        train.cache()
        .shuffle(20_000, seed=arguments.seed)
        .repeat()
        .padded_batch(arguments.batch_size, shapes, drop_remainder=True)
        .prefetch(2)
    )
    return train, *(
        split.padded_batch(250, shapes, drop_remainder=True).cache()
        for split in (validation, test)
    )


def train(model, arguments):
    train_data, validation_data, test_data = load_data(arguments)
    steps = arguments.sequences // arguments.batch_size
    epochs = max(1, steps // 500)
    # The rate falls to zero: at a constant one an NTM sooner or later forgets all.
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(arguments.learning_rate, steps),
        global_clipnorm=arguments.clip_norm,
    )
    model.compile(
        optimizer,
        loss="binary_crossentropy",
        weighted_metrics=[keras_sam.metrics.BitErrors()],
        jit_compile=True,
    )
    curve = LearningCurve(steps // epochs * arguments.batch_size)
    model.fit(
        train_data,
        steps_per_epoch=steps // epochs,
        epochs=epochs,
        validation_data=validation_data,
        callbacks=[curve],
    )
    test = model.evaluate(test_data, return_dict=True, verbose=0)
    return curve.points, float(test["bit_errors"])


def evaluate(model, lengths):
    """Wrong bits per sequence, of `8 * length` bits, at exactly these lengths."""
    errors = {}
    for length in lengths:
        inputs, targets, weights = copy_sequences(length, [length] * 200, BITS)
        outputs = model.predict(inputs, batch_size=50, verbose=0)
        metric = keras_sam.metrics.BitErrors()
        metric.update_state(targets, outputs, weights)
        errors[length] = float(metric.result())
        print(f"length {length:4}: {errors[length]:8.3f} wrong bits per sequence")
    return errors


def draw(model, arguments, path):
    """Inputs, targets, outputs and where the heads were, over time."""
    length = arguments.max_length
    inputs, targets, _ = copy_sequences(arguments.seed, [length], BITS)
    rows = {
        "inputs": inputs[0],
        "targets": targets[0],
        "outputs": model.predict(inputs, verbose=0)[0],
    }
    slots = []
    if arguments.cell != "lstm":
        layer = model.get_layer("memory")
        seen = model.get_layer("positions")(inputs) if arguments.positions else inputs
        trace = layer.trace(seen)
        shape = (inputs.shape[1], -1, layer.cell.memory_slots)
        weights = {}
        for name in ("write_weights", "read_weights"):
            values = trace[name]
            if isinstance(values, tf.SparseTensor):
                values = tf.sparse.to_dense(values)
            # Of several heads the one that has most.
            values = np.max(np.reshape(values[0], shape), axis=1)
            weights[name.replace("_", " ")] = values
        # Only the slots that a head was ever on: the rest of the memory is black.
        touched = np.max(list(weights.values()), axis=(0, 1)) > 0.05
        slots = np.flatnonzero(touched)
        rows |= {name: values[:, slots] for name, values in weights.items()}
    heights = [min(max(values.shape[1], 8), 40) for values in rows.values()]
    figure, axes = plt.subplots(
        len(rows),
        figsize=(8, sum(heights) / 11 + 1.5),
        height_ratios=heights,
        sharex=True,
        layout="constrained",
    )
    for axis, (name, values) in zip(axes, rows.items(), strict=True):
        picture = axis.imshow(
            values.T, aspect="auto", cmap="gray", vmin=0, vmax=1, interpolation="none"
        )
        axis.axvline(length, color="tab:orange", linewidth=1)
        if name.endswith("weights"):
            ticks = np.arange(0, len(slots), max(1, len(slots) // 6))
            axis.set_yticks(ticks, slots[ticks])
            axis.set_ylabel(f"{name}\nslot")
        else:
            axis.set_yticks([])
            axis.set_ylabel(name)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("time step (orange: the delimiter; copy from here on)")
    figure.colorbar(picture, ax=axes, label="value", shrink=0.5)
    figure.suptitle(f"{arguments.cell.upper()} copying {length} vectors of {BITS} bits")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main():
    arguments = parse_arguments()
    keras.utils.set_random_seed(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)

    model = make_model(arguments)
    model.summary()
    start = time.perf_counter()
    curve, test_errors = train(model, arguments)
    seconds = time.perf_counter() - start
    print(f"test, lengths 1 to {arguments.max_length}: {test_errors:.4f} wrong bits")

    if arguments.memory_slots < tested_slots(arguments):
        model = keras_sam.resize_memory(model, tested_slots(arguments))
    lengths = [arguments.max_length, 40, 80, 120]
    errors = evaluate(model, lengths[:2] if arguments.smoke else lengths)

    ablation = {}
    if arguments.cell != "lstm":
        print("writing nothing:")
        length = arguments.max_length
        with writing_shut(model):
            without_writing = evaluate(model, [length])[length]
        ablation["bit_errors_without_writing"] = without_writing

    draw(model, arguments, arguments.output / "memory.png")
    examples, _, _ = copy_sequences(1, [arguments.max_length, 3, 1], BITS)
    export(model, examples, arguments.output)
    results = {
        "command": " ".join(["python", "examples/copy_task.py", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} cores, {platform.processor() or 'CPU'}",
        "parameters": model.count_params(),
        "training_sequences": arguments.sequences,
        "training_seconds": round(seconds),
        "test_bit_errors": test_errors,
        "bit_errors_by_length": errors,
        **ablation,
        "curve": curve,
    }
    (arguments.output / "results.json").write_text(json.dumps(results, indent=1))
    print(f"Picture, SavedModel and results.json are in {arguments.output}")


if __name__ == "__main__":
    main()
