"""What the graph tasks share: random graphs, the encoding of triples, lessons.

A graph is an integer array `[edges, 3]` of triples (source, edge, destination): from
the node with the label `source` an edge with the label `edge` leads to the node
`destination`. Labels are numbers of three digits. No two edges of a node have the same
label, so a source and an edge determine the destination.

A sequence has phases: the *description*, all triples of the graph in random order; a
*query*; sometimes ten empty steps for *planning*; the *answer*. Each step has one
triple on 90 channels, three labels of three digits, each digit one-hot in ten channels;
a label that is left open is zeros. Two more channels tell the phases apart:

| channels | meaning |
|---|---|
| 0 .. 29, 30 .. 59, 60 .. 89 | source, edge, destination |
| 90 | 1 at the first step of each phase but the first |
| 91 | 1 where an answer is required |

Targets are digits, `[time, 9, 10]`, for nine softmax functions of ten. The step after
the last triple of a path has a target of nine digits 0, the termination pattern. (No
edge is the triple 000 000 000, for none leads back to its source. How the paper's
pattern looks we do not know.)

Reference: Graves et al. 2016, "Hybrid computing using a neural network with dynamic
external memory", Methods (https://doi.org/10.1038/nature20101).
"""

from typing import NamedTuple

import numpy as np

from keras_sam.arguments import check_positive_integer, check_rate
from keras_sam.tasks.stream import check_time_steps, endless

LABELS = 1000
PLANNING_STEPS = 10
OPEN = -1  # Stands for a label that is left open.
TERMINATION = (0, 0, 0)


class Lesson(NamedTuple):
    """The sizes of the graphs and answers of a lesson, each `(least, greatest)`.

    Attributes:
        nodes: Number of nodes of the graph.
        degree: Number of edges that lead away from a node.
        length: Number of steps of a path.
    """

    nodes: tuple[int, int]
    degree: tuple[int, int]
    length: tuple[int, int]


def random_graph(rng, nodes, degree, edge_labels=None):
    """Draws the triples `[edges, 3]` of a random graph.

    Points are drawn uniformly in the unit square; edges lead from each to its nearest
    neighbours. Node labels are different numbers of 0 .. 999. The edges of a node have
    different labels, drawn from a set that all nodes share.

    Args:
        rng: A `np.random.Generator`.
        nodes: The least and the greatest number of nodes.
        degree: The least and the greatest number of edges that lead away from a node.
        edge_labels: Integers to draw edge labels from. Defaults to as many numbers of
            0 .. 999, drawn at random, as there are nodes.
    """
    count = rng.integers(nodes[0], nodes[1] + 1)
    points = rng.random((count, 2))
    distances = np.linalg.norm(points[:, np.newaxis] - points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)
    labels = rng.choice(LABELS, count, replace=False)
    if edge_labels is None:
        edge_labels = rng.choice(LABELS, count, replace=False)
    triples = []
    for node in range(count):
        edges = min(rng.integers(degree[0], degree[1] + 1), count - 1)
        names = rng.choice(edge_labels, edges, replace=False)
        for name, neighbour in zip(names, nearest[node, :edges], strict=True):
            triples.append((labels[node], name, labels[neighbour]))
    return np.array(triples)


def draw_graph(rng, lesson, graph=None):
    """A random graph of a lesson, or the given one with other labels."""
    if graph is None:
        return random_graph(rng, lesson.nodes, lesson.degree)
    return relabel(rng, graph)


def relabel(rng, triples):
    """The same graph with other labels, drawn at random."""
    nodes, edges = np.unique(triples[:, [0, 2]]), np.unique(triples[:, 1])
    new_nodes = rng.choice(LABELS, len(nodes), replace=False)
    new_edges = rng.choice(LABELS, len(edges), replace=False)
    columns = [
        new_nodes[np.searchsorted(nodes, triples[:, 0])],
        new_edges[np.searchsorted(edges, triples[:, 1])],
        new_nodes[np.searchsorted(nodes, triples[:, 2])],
    ]
    return np.stack(columns, axis=1)


def outgoing(triples):
    """From each node to its edges: `{source: {edge: destination}}`."""
    edges = {}
    for source, edge, destination in np.asarray(triples).tolist():
        edges.setdefault(source, {})[edge] = destination
        edges.setdefault(destination, {})
    return edges


class Phase(NamedTuple):
    """Steps of a sequence: what is shown, and what is to be answered, if anything.

    `hints` are targets of its first steps that the inputs do not ask for.
    """

    shown: list
    answers: list | None = None
    hints: list | None = None


def planning(hints=None):
    return Phase([(OPEN, OPEN, OPEN)] * PLANNING_STEPS, hints=hints)


def encode(triples):
    """Digits `[steps, 9, 10]`, one-hot, of triples; an open label is zeros."""
    triples = np.asarray(triples)
    digits = triples[:, :, np.newaxis] // [100, 10, 1] % 10
    digits = np.where(triples[:, :, np.newaxis] == OPEN, -1, digits)
    return (digits.reshape(-1, 9, 1) == np.arange(10)).astype(np.float32)


def encode_batch(episodes, time_steps=None):
    """Inputs, targets and weights of episodes, each a list of `Phase`."""
    lengths = [sum(len(phase.shown) for phase in episode) for episode in episodes]
    time_steps = check_time_steps(time_steps, max(lengths), "the longest sequence")
    batch = len(episodes)
    inputs = np.zeros((batch, time_steps, 92), np.float32)
    targets = np.zeros((batch, time_steps, 9, 10), np.float32)
    sample_weight = np.zeros((batch, time_steps), np.float32)
    for i, episode in enumerate(episodes):
        start = 0
        for phase in episode:
            steps = slice(start, start + len(phase.shown))
            inputs[i, steps, :90] = encode(phase.shown).reshape(-1, 90)
            inputs[i, start, 90] = start > 0
            inputs[i, steps, 91] = phase.answers is not None
            wanted = phase.hints if phase.answers is None else phase.answers
            if wanted is not None:
                counted = slice(start, start + len(wanted))
                targets[i, counted] = encode(wanted)
                sample_weight[i, counted] = 1
            start = steps.stop
    return inputs, targets, sample_weight


def description(rng, triples):
    return Phase(rng.permutation(triples).tolist())


def most_edges(lesson, graph=None):
    """The most edges of the graphs of a lesson, or those of the given graph."""
    nodes, degree = lesson.nodes[1], lesson.degree[1]
    return nodes * min(degree, nodes - 1) if graph is None else len(graph)


def check_lessons(lessons):
    """Returns the `Lesson` of each sequence of a batch."""
    checked = []
    for lesson in lessons:
        if not isinstance(lesson, Lesson):
            raise ValueError(
                "`lessons` must be a list of `keras_sam.tasks.Lesson`, one for each "
                f"sequence. Received: {lesson!r}"
            )
        for name, (least, greatest) in lesson._asdict().items():
            check_positive_integer(name, least)
            check_positive_integer(name, greatest, minimum=least)
        check_positive_integer("nodes", lesson.nodes[0], minimum=2)
        if lesson.nodes[1] > LABELS:
            raise ValueError(
                f"There are only {LABELS} labels of nodes. Received: {lesson}"
            )
        checked.append(lesson)
    if not checked:
        raise ValueError(
            "`lessons` must be a non-empty list of lessons, one for each sequence."
        )
    return checked


def lesson_stream(sequences, curriculum, longest, batch_size, lesson, review, seed):
    """An endless stream of batches of a lesson, and some of earlier ones.

    Args:
        sequences: Function of a `np.random.Generator`, a list of lessons, one for each
            sequence, and `time_steps`, which returns a batch.
        curriculum: List of all `Lesson`s.
        longest: Function from a `Lesson` to the most steps of its sequences.
        batch_size: Integer, sequences in each batch.
        lesson: Integer from 1 on, the number of the lesson, or a function without
            arguments that returns it and is asked before each batch.
        review: Fraction of sequences, at random, that come from an earlier lesson.
        seed: Non-negative integer or `None`.

    Returns:
        An infinite `tf.data.Dataset`, padded to the longest sequence of the lesson, so
        that a compiled model compiles once for each. With a function as `lesson` its
        time axis is not fixed.
    """
    batch_size = check_positive_integer("batch_size", batch_size)
    review = check_rate("review", review)
    if seed is not None:
        seed = check_positive_integer("seed", seed, minimum=0)

    def current():
        number = check_positive_integer(
            "lesson", lesson() if callable(lesson) else lesson
        )
        if number > len(curriculum):
            raise ValueError(
                f"`lesson` must be at most {len(curriculum)}. Received: lesson={number}"
            )
        return number

    def batch(rng, number):
        numbers = np.full(batch_size, number)
        again = rng.random(batch_size) < review
        if number > 1:
            numbers[again] = rng.integers(1, number, size=again.sum())
        return sequences(
            rng,
            [curriculum[n - 1] for n in numbers],
            time_steps=max(longest(earlier) for earlier in curriculum[:number]),
        )

    def batches():
        rng = np.random.default_rng(seed)
        while True:
            yield batch(rng, current())

    examples = batch(np.random.default_rng(0), current())
    return endless(batches, examples, time_axis_is_fixed=not callable(lesson))
