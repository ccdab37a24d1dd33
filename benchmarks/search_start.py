"""How many shortest paths does a memory find that starts with a search, untrained?

    python benchmarks/search_start.py

The weights are those that `examples/shortest_paths.py` sets, without any training. The
result is the share of right `walks`, as in the test of a trained model, between
stations of the Underground that are 2, 3 and 4 steps apart, with the gates as they are
and with no write gate open while the network plans.

The figures are stored in benchmarks/results/search_start.json, and a picture beside it
has the marks in the memory when the network has planned.
"""

import sys
from pathlib import Path

import keras
import matplotlib
import numpy as np
from measuring import Options, provenance, report, save

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples"))

import shortest_paths  # noqa: E402
from train import make_problem  # noqa: E402
from training import RECIPES, read_recipe  # noqa: E402
from walks import triples, walks  # noqa: E402

import keras_sam  # noqa: E402

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "search_start.json"


def untrained(cell, **layer):
    """The model of the recipe as a training begins with it."""
    recipe = read_recipe(RECIPES / "shortest_path.toml", cell, layer=layer)
    keras.utils.set_random_seed(0)
    problem = make_problem(recipe, 0, None, None)
    return problem.make_model(cell, recipe["layer"])


def leave_no_marks(model):
    """Shuts the write gate where a step shows no edge, as in planning."""
    cell = model.get_layer("memory").cell
    kernel, bias = cell.interface.get_weights()
    gates = cell.interface_columns["write_gates"]
    bias[gates] -= 100.0
    # The channels of an edge's label add up to 3.
    kernel[cell.units :][shortest_paths.EDGE, gates] += 100.0 / 3
    cell.interface.set_weights([kernel, bias])


def marks(model, inputs):
    """The marks in the memory when a question has been planned.

    Args:
        model: The model.
        inputs: Array `[1, time, 92]` of `keras_sam.tasks.shortest_path_sequences`, one
            query.

    Returns:
        For each edge, the number of steps from its end to the destination, and its
        mark.
    """
    query, _, answer = np.flatnonzero(inputs[0, :, shortest_paths.CHANGES])
    edges, destination = triples(inputs[0, :query]), triples(inputs[0, query:])[0, 2]
    steps = {destination: 0}
    for node in (reached := [destination]):
        for before in edges[edges[:, 2] == node, 0].tolist():
            if before not in steps:
                steps[before] = steps[node] + 1
                reached.append(before)

    cell = model.get_layer("memory").cell
    seen = model.get_layer("nodes")(inputs[:, :answer])
    state = keras.layers.RNN(cell, return_state=True)(seen)[1:]
    shape = (cell.memory_slots, cell.word_size)
    words = np.reshape(cell.unpack_state(state).memory, shape)
    words = words[words[:, shortest_paths.WRITTEN] > 0.25]
    ends = triples(words)[:, 2].tolist()
    far = max(steps.values()) + 1
    steps = np.array([steps.get(end, far) for end in ends])
    return steps, words[:, shortest_paths.MARK]


def draw(steps, mark, path):
    """Draws each edge's mark over the steps from its end to the destination."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    aside = np.random.default_rng(0).uniform(-0.25, 0.25, len(steps))
    axes.scatter(steps + aside, np.maximum(mark, 1e-6), s=14, alpha=0.6)
    axes.set(
        yscale="log",
        ylim=(1e-4, None),
        xlabel="steps from the end of an edge to the destination",
        ylabel="mark in the edge's word",
    )
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--cell", "sdnc", "sam or sdnc", str)
    parser.add("--questions", 256, "of each length", int)
    arguments = parser.parse()
    lengths, layer = (2, 3, 4), {}
    if arguments.smoke:
        arguments.questions, lengths, layer = 2, (2,), {"jit_compile": False}
    model = untrained(arguments.cell, **layer)
    graph = keras_sam.tasks.underground()
    lesson = keras_sam.tasks.Lesson((43, 43), (1, 10), (4, 4))
    inputs, _, _ = keras_sam.tasks.shortest_path_sequences(
        0, [lesson], graph=graph, unique=False
    )
    draw(*marks(model, inputs), arguments.output.with_suffix(".png"))
    shares = {"marks": {}, "no marks": {}}
    for name, found in shares.items():
        if name == "no marks":
            leave_no_marks(model)
        for length in lengths:
            lessons = [lesson._replace(length=(length, length))] * arguments.questions
            inputs, _, _ = keras_sam.tasks.shortest_path_sequences(
                0, lessons, graph=graph, unique=False
            )
            found[str(length)] = walks(model, inputs, length)
    results = {
        **provenance(),
        "cell": arguments.cell,
        "questions": arguments.questions,
        "underground": shares,
    }
    save(arguments.output, results)
    report(results)


if __name__ == "__main__":
    main()
