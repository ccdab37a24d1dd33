"""The shortest path task: find the fewest edges that lead from one node to another.

The query is (source, open, destination). After ten steps for planning, the answer is
the triples of the shortest path, one at each step, and then the termination pattern.
While answering, the network sees the right triple of the step before: it has to choose
each step from where the path has come. (The paper shows it its own choice instead, in a
mixture with the right one; that takes the network, not only the data.) Encoding:
`keras_sam.tasks.graph`.

Reference: Graves et al. 2016, Methods and extended data table 5
(https://doi.org/10.1038/nature20101).
"""

from functools import partial

import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_positive_integer
from keras_sam.options import Rng, Sequences, Size
from keras_sam.tasks.graph import (
    OPEN,
    PLANNING_STEPS,
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
    planning,
)

# The first and the last are the paper's, as is their number; those between are steps
# from the one to the other, for we have no source of them.
SHORTEST_PATH_LESSONS = (
    Lesson((5, 10), (1, 2), (2, 2)),
    Lesson((5, 10), (1, 2), (2, 3)),
    Lesson((5, 10), (1, 3), (2, 3)),
    Lesson((5, 10), (2, 3), (2, 3)),
    Lesson((10, 15), (2, 3), (2, 3)),
    Lesson((10, 15), (2, 3), (2, 4)),
    Lesson((10, 15), (2, 4), (2, 4)),
    Lesson((10, 20), (2, 4), (2, 4)),
    Lesson((15, 20), (2, 4), (2, 4)),
    Lesson((15, 20), (2, 5), (2, 4)),
    Lesson((15, 25), (2, 5), (2, 4)),
    Lesson((20, 25), (2, 5), (2, 4)),
    Lesson((20, 25), (2, 5), (2, 5)),
    Lesson((20, 25), (2, 6), (2, 4)),
    Lesson((20, 25), (2, 6), (2, 5)),
)
_TRIES = 1000


def shortest_path_sequences(
    rng: Rng,
    lessons: list[Lesson],
    graph: np.ndarray | None = None,
    unique: bool = True,
    time_steps: int | None = None,
    queries: int = 1,
    guided: bool = False,
) -> Sequences:
    """Makes one shortest-path problem for each given lesson.

    Graphs are drawn until one has two nodes at each distance that was drawn.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed.
        lessons: List of `keras_sam.tasks.Lesson`, one for each sequence, such as
            members of `keras_sam.tasks.SHORTEST_PATH_LESSONS`.
        graph: Triples `[edges, 3]` of a graph for all sequences; see
            `keras_sam.tasks.traversal_sequences`. Defaults to `None`: random graphs.
        unique: Boolean: only pairs of nodes with a single shortest path, so that the
            inputs determine the targets? If not, the target is one of them at random
            (the Underground has several rides between most neighbours). Defaults to
            `True`.
        time_steps: Integer, the number of steps of the returned arrays. Defaults to as
            many as the longest sequence has.
        queries: Integer, how many paths are asked for in each graph, one after the
            other. Defaults to `1`, as in the paper; a network learns from fewer
            graphs with more.
        guided: Boolean, whether the planning steps have targets too: the path from its
            end to its start, again and again. Not in the paper: for training, where a
            network learns to search from both ends from fewer graphs. Defaults to
            `False`.

    Returns:
        A tuple `(inputs, targets, sample_weight)` as of
        `keras_sam.tasks.traversal_sequences`.

    Raises:
        ValueError: If `lessons` are not lessons, `queries` is not a positive integer,
            `time_steps` is too small, or 1,000 graphs in turn have no such pairs of
            nodes.

    Reference: Graves et al. 2016, Methods (https://doi.org/10.1038/nature20101).

    Example:

    >>> lesson = keras_sam.tasks.Lesson(nodes=(6, 6), degree=(2, 2), length=(2, 2))
    >>> x, y, w = keras_sam.tasks.shortest_path_sequences(0, [lesson])
    >>> x.shape  # 12 edges, 1 query, 10 for planning, 2 triples and termination
    (1, 26, 92)
    >>> bool((x[0, 24, :90] == y[0, 23].ravel()).all())  # the step before
    True
    """
    rng = np.random.default_rng(rng)
    queries = check_positive_integer("queries", queries)
    episodes = []
    for lesson in check_lessons(lessons):
        lengths = rng.integers(lesson.length[0], lesson.length[1] + 1, queries)
        for _ in range(_TRIES):
            triples = draw_graph(rng, lesson, graph)
            edges = outgoing(triples)
            paths = [_random_shortest_path(rng, edges, n, unique) for n in lengths]
            if all(paths):
                break
        else:
            raise ValueError(
                f"{_TRIES} graphs have no {'single ' * unique}shortest path of "
                f"{lengths.tolist()} steps. Choose a larger graph or a shorter path. "
                f"Received: {lesson}"
            )
        phases = [description(rng, triples)]
        for path in paths:
            phases += question(path, guided)
        episodes.append(phases)
    return encode_batch(episodes, time_steps)


def question(path, guided):
    """The phases that ask for a path: its query, planning, and its answer."""
    backward = [path[-1 - step % len(path)] for step in range(PLANNING_STEPS)]
    return (
        Phase([(path[0][0], OPEN, path[-1][2])]),
        planning(backward if guided else None),
        Phase([(OPEN, OPEN, OPEN), *path], [*path, TERMINATION]),
    )


def _random_shortest_path(rng, edges, length, unique):
    """A shortest path of `length` triples, from a random node to a random one."""
    for source in rng.permutation(list(edges)).tolist():
        # Breadth first: for each node the edges by which a shortest path arrives.
        arrivals, distance, frontier = {}, {source: 0}, [source]
        ways = {source: 1}
        for step in range(1, length + 1):
            reached = []
            for node in frontier:
                for edge, neighbour in edges[node].items():
                    if neighbour not in distance:
                        distance[neighbour] = step
                        arrivals[neighbour], ways[neighbour] = [], 0
                        reached.append(neighbour)
                    if distance[neighbour] == step:
                        arrivals[neighbour].append((node, edge, neighbour))
                        ways[neighbour] += ways[node]
            frontier = reached
        ends = [node for node in frontier if ways[node] == 1 or not unique]
        if ends:
            node, path = rng.choice(ends).item(), []
            while node != source:
                options = arrivals[node]
                path.insert(0, options[rng.integers(len(options))])
                node = path[0][0]
            return path
    return None


def shortest_path_task(
    batch_size: int,
    lesson: Size = 1,
    review: float = 0,
    graph: np.ndarray | None = None,
    unique: bool = True,
    seed: int | None = None,
    queries: int = 1,
    guided: bool = False,
) -> tf.data.Dataset:
    """An endless stream of shortest-path problems, ready for `model.fit`.

    Args:
        batch_size: Integer, sequences in each batch.
        lesson: Integer, the number of one of `keras_sam.tasks.SHORTEST_PATH_LESSONS`,
            1 to 15, or a function that returns it; see
            `keras_sam.tasks.traversal_task`. Defaults to `1`.
        review: Fraction of sequences that come from an earlier lesson. Defaults to `0`,
            as in the paper.
        graph: See `keras_sam.tasks.shortest_path_sequences`. Defaults to `None`.
        unique: See `keras_sam.tasks.shortest_path_sequences`. Defaults to `True`.
        seed: Non-negative integer; the same seed gives the same stream.
            Defaults to `None`: a new stream at each iteration.
        queries: See there. Defaults to `1`.
        guided: See there. Defaults to `False`.

    Returns:
        An infinite `tf.data.Dataset` of `(inputs, targets, sample_weight)`, padded to
        the longest sequence of the lesson.

    Raises:
        ValueError: If `batch_size`, `lesson`, `queries` or `seed` is not such an
            integer, or `review` is not in [0, 1).

    Reference: Graves et al. 2016, Methods (https://doi.org/10.1038/nature20101).

    Example:

    >>> data = keras_sam.tasks.shortest_path_task(batch_size=2, seed=0)
    >>> [tuple(spec.shape) for spec in data.element_spec]
    [(2, 34, 92), (2, 34, 9, 10), (2, 34)]
    """
    queries = check_positive_integer("queries", queries)

    def longest(lesson):
        asked = queries * (1 + PLANNING_STEPS + lesson.length[1] + 1)
        return most_edges(lesson, graph) + asked

    return lesson_stream(
        partial(
            shortest_path_sequences,
            graph=graph,
            unique=unique,
            queries=queries,
            guided=guided,
        ),
        SHORTEST_PATH_LESSONS,
        longest,
        batch_size,
        lesson,
        review,
        seed,
    )
