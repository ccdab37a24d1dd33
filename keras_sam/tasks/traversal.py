"""The graph traversal task: follow a path through a graph, edge by edge.

The query names a node and the edges to follow: first (source, edge, open), then (open,
edge, open). The answer is the complete triple of each step of the path and then the
termination pattern, without any input. Encoding: `keras_sam.tasks.graph`.

Reference: Graves et al. 2016, Methods and extended data table 3
(https://doi.org/10.1038/nature20101).
"""

import csv
from functools import partial
from importlib import resources

import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_positive_integer
from keras_sam.options import Rng, Sequences, Size
from keras_sam.tasks.graph import (
    OPEN,
    TERMINATION,
    Lesson,
    Phase,
    check_lessons,
    description,
    draw_graph,
    encode_batch,
    lesson_stream,
    most_edges,
    outgoing,
)

# Lessons 1, 7, 10, 12, 13 and 14 are the paper's; those between are steps from one of
# them to the next, for we have no source of them.
TRAVERSAL_LESSONS = (
    Lesson((3, 10), (2, 4), (1, 1)),
    Lesson((3, 10), (2, 4), (1, 2)),
    Lesson((5, 10), (2, 4), (1, 2)),
    Lesson((5, 10), (2, 4), (1, 3)),
    Lesson((10, 15), (2, 4), (1, 3)),
    Lesson((10, 15), (2, 4), (1, 4)),
    Lesson((10, 20), (2, 4), (1, 5)),
    Lesson((10, 20), (2, 4), (1, 6)),
    Lesson((10, 30), (2, 4), (1, 6)),
    Lesson((10, 30), (2, 4), (1, 7)),
    Lesson((10, 30), (2, 4), (1, 8)),
    Lesson((10, 30), (2, 4), (1, 9)),
    Lesson((10, 40), (2, 6), (1, 10)),
    Lesson((10, 40), (2, 6), (1, 20)),
)


def traversal_sequences(
    rng: Rng,
    lessons: list[Lesson],
    graph: np.ndarray | None = None,
    queries: int = 1,
    time_steps: int | None = None,
) -> Sequences:
    """Makes one traversal for each given lesson.

    A random graph is described; a path of random length is drawn from a random node on,
    at each node a random edge.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed.
        lessons: List of `keras_sam.tasks.Lesson`, one for each sequence, such as
            members of `keras_sam.tasks.TRAVERSAL_LESSONS`.
        graph: Triples `[edges, 3]` of a graph for all sequences, such as
            `keras_sam.tasks.underground()`; each gets labels of its own, and of the
            lessons the lengths alone matter. Defaults to `None`: random graphs.
        queries: Integer, how many paths are asked for in each graph, one after the
            other. Defaults to `1`, as in the paper; a network learns from fewer
            graphs with more.
        time_steps: Integer, the number of steps of the returned arrays. Defaults to as
            many as the longest sequence has.

    Returns:
        A tuple `(inputs, targets, sample_weight)` of float32 arrays that hold only 0
        and 1, of shapes `[batch, time_steps, 92]`, `[batch, time_steps, 9, 10]` and
        `[batch, time_steps]` (1 where the target counts). See `keras_sam.tasks.graph`.

    Raises:
        ValueError: If `lessons` are not lessons, `queries` is not a positive integer,
            or `time_steps` is too small.

    Reference: Graves et al. 2016, Methods (https://doi.org/10.1038/nature20101).

    Example:

    >>> lesson = keras_sam.tasks.Lesson(nodes=(4, 4), degree=(2, 2), length=(3, 3))
    >>> x, y, w = keras_sam.tasks.traversal_sequences(0, [lesson])
    >>> x.shape, y.shape  # 8 edges, 3 to follow, 3 triples and termination
    ((1, 15, 92), (1, 15, 9, 10))
    >>> w.astype(int)
    array([[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]])
    """
    rng = np.random.default_rng(rng)
    queries = check_positive_integer("queries", queries)
    episodes = []
    for lesson in check_lessons(lessons):
        triples = draw_graph(rng, lesson, graph)
        edges = outgoing(triples)
        phases = [description(rng, triples)]
        for _ in range(queries):
            phases += question(random_path(rng, edges, lesson.length))
        episodes.append(phases)
    return encode_batch(episodes, time_steps)


def random_path(rng, edges, length):
    """Triples from a random node on, along random edges."""
    node = rng.choice([node for node in edges if edges[node]]).item()
    path = []
    for _ in range(rng.integers(length[0], length[1] + 1)):
        edge = rng.choice(list(edges[node])).item()
        path.append((node, edge, edges[node][edge]))
        node = edges[node][edge]
    return path


def question(path):
    """The phases that ask for a path: its query, and its answer."""
    query = [(OPEN, edge, OPEN) for _, edge, _ in path]
    query[0] = (*path[0][:2], OPEN)
    silence = [(OPEN, OPEN, OPEN)] * (len(path) + 1)
    return Phase(query), Phase(silence, [*path, TERMINATION])


def traversal_task(
    batch_size: int,
    lesson: Size = 1,
    review: float = 0.1,
    graph: np.ndarray | None = None,
    queries: int = 1,
    seed: int | None = None,
) -> tf.data.Dataset:
    """An endless stream of traversals, ready for `model.fit`.

    Args:
        batch_size: Integer, sequences in each batch.
        lesson: Integer, the number of one of `keras_sam.tasks.TRAVERSAL_LESSONS`, 1 to
            14, or a function that returns it and is asked before each batch, such as
            `lambda: curriculum.level` of a `keras_sam.callbacks.LessonCurriculum`.
            Defaults to `1`.
        review: Fraction of sequences that come from an earlier lesson. Defaults to
            `0.1`, as in the paper; use `0` to test a lesson.
        graph: See `keras_sam.tasks.traversal_sequences`. Defaults to `None`.
        queries: See there. Defaults to `1`.
        seed: Non-negative integer; the same seed gives the same stream.
            Defaults to `None`: a new stream at each iteration.

    Returns:
        An infinite `tf.data.Dataset` of `(inputs, targets, sample_weight)`, see
        `keras_sam.tasks.traversal_sequences`, padded to the longest sequence of the
        lesson.

    Raises:
        ValueError: If `batch_size`, `lesson`, `queries` or `seed` is not such an
            integer, or `review` is not in [0, 1).

    Reference: Graves et al. 2016, Methods (https://doi.org/10.1038/nature20101).

    Example:

    >>> data = keras_sam.tasks.traversal_task(batch_size=2, lesson=1, seed=0)
    >>> [tuple(spec.shape) for spec in data.element_spec]
    [(2, 43, 92), (2, 43, 9, 10), (2, 43)]
    """
    queries = check_positive_integer("queries", queries)

    def longest(lesson):
        return most_edges(lesson, graph) + queries * (2 * lesson.length[1] + 1)

    return lesson_stream(
        partial(traversal_sequences, graph=graph, queries=queries),
        TRAVERSAL_LESSONS,
        longest,
        batch_size,
        lesson,
        review,
        seed,
    )


def underground(names: bool = False) -> np.ndarray:
    """London's Underground: stations of zone 1 where one can change, and rides.

    A line leads to several neighbours, so a ride is named by its line and the point of
    the compass: ("Oxford Circus", "Central Line E", "Tottenham Court Road"). The map
    stands for the test graph of the DNC paper, which was not published.

    Args:
        names: Boolean: the names, or labels? Defaults to `False`.

    Returns:
        An array `[214, 3]` of triples (station, ride, next station): integers, or
        strings with `names=True`. 43 stations.

    The table is an extract (`scripts/underground.py`) of a larger one by b-d-e, 2023,
    under the MIT licence, which stands beside it.

    Example:

    >>> graph = keras_sam.tasks.underground()
    >>> lessons = [keras_sam.tasks.Lesson((43, 43), (1, 10), (7, 7))] * 2
    >>> x, y, w = keras_sam.tasks.traversal_sequences(0, lessons, graph)
    >>> x.shape, int(w.sum())
    ((2, 229, 92), 16)
    >>> keras_sam.tasks.underground(names=True)[1].tolist()
    ['Aldgate', 'Circle Line S', 'Tower Hill']
    """
    table = resources.files("keras_sam.tasks").joinpath("underground.csv")
    rows = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))
    triples = np.array(rows[1:])
    if names:
        return triples
    stations, rides = np.unique(triples[:, [0, 2]]), np.unique(triples[:, 1])
    columns = [
        np.searchsorted(stations, triples[:, 0]),
        np.searchsorted(rides, triples[:, 1]),
        np.searchsorted(stations, triples[:, 2]),
    ]
    return np.stack(columns, axis=1)
