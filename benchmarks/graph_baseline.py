"""How many shortest paths are found without a search?

    python benchmarks/graph_baseline.py

A walker takes the edge that leads to the destination where there is one, and any other
edge at random. The result is the share of its walks that are shortest paths, for
`--questions` questions of each lesson of `shortest_path` and on the Underground. A
model that has learned to look one edge ahead and no more answers as many.

The figures are stored in benchmarks/results/graph_baseline.json.
"""

import sys
from pathlib import Path

import numpy as np
from measuring import Options, provenance, report, save

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from walks import question  # noqa: E402

from keras_sam.tasks import (  # noqa: E402
    SHORTEST_PATH_LESSONS,
    Lesson,
    shortest_path_sequences,
    underground,
)

RESULTS = ROOT / "benchmarks" / "results" / "graph_baseline.json"


def share_of_walks(rng, lesson, questions, **graph):
    """The share of walks that end at the destination after a shortest path's steps."""
    inputs, _, weights = shortest_path_sequences(rng, [lesson] * questions, **graph)
    right = 0
    for sequence, steps in zip(inputs, weights.sum(1) - 1, strict=True):
        edges, node, destination, _ = question(sequence)
        for _ in range(int(steps)):
            ends = list(edges[node].values())
            if not ends:
                break
            node = destination if destination in ends else rng.choice(ends).item()
        right += node == destination
    return right / questions


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--questions", 2000, "of each lesson and length", int)
    arguments = parser.parse()
    if arguments.smoke:
        arguments.questions = 20
    rng = np.random.default_rng(0)
    lessons = {
        number: share_of_walks(rng, lesson, arguments.questions)
        for number, lesson in enumerate(SHORTEST_PATH_LESSONS, start=1)
    }
    stations = {
        length: share_of_walks(
            *(rng, Lesson((43, 43), (1, 10), (length, length)), arguments.questions),
            graph=underground(),
            unique=False,
        )
        for length in (2, 3, 4)
    }
    results = {
        **provenance(),
        "seed": 0,
        "questions": arguments.questions,
        "lesson": lessons,
        "underground": stations,
    }
    save(arguments.output, results)
    report(results)


if __name__ == "__main__":
    main()
