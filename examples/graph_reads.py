"""What does a network read while it follows a path through London's Underground?

    python examples/graph_reads.py

A trained model of saved_models is told the 214 rides of the Underground in random
order, is asked for some rides one after another, and names the path. The picture has
how much each of its heads reads of what each step wrote: of the path's rides, as they
were told, of what was asked for, and of all other steps together. A slot holds what was
written to it, each time with a weight w, over the part 1 - w of what it held before.

Writes reads.png beside the model.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from babi_reads import sentences_read
from train import trained_model
from training import MODELS

from keras_sam import resize_memory, visualize
from keras_sam.tasks import graph, traversal, underground

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def ask(rng, length):
    """A question of the task `traversal` with the names of what it is about.

    Returns:
        Inputs `[time, 92]`, targets `[time, 9, 10]`, for each ride its step, the rides
        of the path as rows, and all rides `[214, 3]` as names.
    """
    triples = graph.relabel(rng, underground())
    edges, path = graph.outgoing(triples), []
    # A path that comes to no station twice.
    while len({node for a, _, b in path for node in (a, b)}) <= length:
        path = traversal.random_path(rng, edges, (length, length))
    rows = [(triples == edge).all(axis=1).argmax() for edge in path]
    told = rng.permutation(len(triples))
    description = graph.Phase(triples[told].tolist())
    inputs, targets, _ = graph.encode_batch([[description, *traversal.question(path)]])
    return inputs[0], targets[0], np.argsort(told), rows, underground(names=True)


def labels_and_reads(recording, step_of, rows, names):
    """What the picture shows: labels, and the reads `[steps, heads, labels]`."""
    read = sentences_read(recording, np.arange(len(recording.write_weights)))
    told, length = len(names), len(rows)
    shown = [*step_of[rows], *range(told, told + length)]
    rest = np.delete(np.arange(told + 2 * length + 1), shown)
    labels = [f"{a}, {ride}, {b}" for a, ride, b in names[rows]]
    labels += [f"asked for: {ride}" for _, ride, _ in names[rows]]
    read = np.concatenate([read[..., shown], read[..., rest].sum(-1)[..., None]], -1)
    return [*labels, "all other steps"], read[told:]


def draw(labels, read, right, path):
    steps, heads, count = read.shape
    length = (steps - 1) // 2
    figure, axis = plt.subplots(figsize=(14, 0.34 * count + 1.6), layout="constrained")
    image = axis.imshow(
        read.reshape(steps * heads, -1).T,
        cmap="Blues",
        vmin=0,
        vmax=1,
        aspect="auto",
        extent=(0, steps, count - 0.5, -0.5),
    )
    axis.set_yticks(range(count), labels)
    names = [f"ask {i}" for i in range(1, 1 + length)]
    names += [f"say {i}" for i in range(1, 1 + length)] + ["say the end"]
    axis.set_xticks(np.arange(steps) + 0.5, names, rotation=45, ha="right")
    for step in range(1, steps):
        axis.axvline(step, color="gray", linewidth=0.6)
    axis.axhline(length - 0.5, color="gray", linewidth=0.6)
    axis.axhline(2 * length - 0.5, color="gray", linewidth=0.6)
    axis.set_title(
        f"{length} rides: {right} of {length + 1} answers are right. "
        f"In each step heads 1 to {heads}, from left to right"
    )
    figure.colorbar(image, ax=axis, label="read weight")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="traversal_sdnc", help="one of saved_models")
    parser.add_argument("--rides", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="defaults to the model's reads.png")
    options = parser.parse_args()
    folder = MODELS / options.model
    model = resize_memory(trained_model(folder), 512)
    rng = np.random.default_rng(options.seed)
    inputs, targets, step_of, rows, names = ask(rng, options.rides)
    said = model.predict(inputs[np.newaxis], verbose=0)[0].argmax(-1)
    answers = slice(-options.rides - 1, None)
    right = (said[answers] == targets[answers].argmax(-1)).all(-1).sum()
    recording = visualize.record(model.get_layer("memory"), inputs, max_slots=512)
    labels, read = labels_and_reads(recording, step_of, rows, names)
    output = options.output or folder / "reads.png"
    draw(labels, read, right, output)
    print(f"{right} of {options.rides + 1} answers are right. The picture is {output}")


if __name__ == "__main__":
    main()
