"""The inference task: name the node that a relation, a path of edges, leads to.

Edges have the labels 0 .. 9. The labels 10 .. 409 are relations: each stands, once and
for all, for a sequence of 2 to 5 edges, which the network has to learn from examples.
(The label of an edge may be asked for as well, as a relation of one edge.) A query is
(source, relation, open). After ten steps for planning, the answer is one triple,
(source, relation, destination): the node at the end of those edges. Each graph is asked
three times. Encoding: `keras_sam.tasks.graph`.

Family trees are such graphs (`family_tree_sequences`): their edges are father, mother,
son and so on, and relations are those of relatives farther away.

Reference: Graves et al. 2016, Methods (https://doi.org/10.1038/nature20101).
"""

from functools import partial

import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_option, check_positive_integer
from keras_sam.options import Rng, Sequences, Size
from keras_sam.tasks.graph import (
    OPEN,
    PLANNING_STEPS,
    Lesson,
    Phase,
    check_lessons,
    description,
    encode_batch,
    lesson_stream,
    most_edges,
    outgoing,
    planning,
    random_graph,
)

EDGE_LABELS = 10
QUERIES = 3
_TRIES = 1000


def _make_relations():
    """400 different sequences of edges, 100 of each length from 2 to 5."""
    rng = np.random.default_rng(2016)
    relations = {}
    for length in (2, 3, 4, 5):
        for number in rng.choice(EDGE_LABELS**length, 100, replace=False):
            digits = number // EDGE_LABELS ** np.arange(length) % EDGE_LABELS
            relations[EDGE_LABELS + len(relations)] = tuple(digits.tolist())
    return relations


RELATIONS = _make_relations()
_EDGES = {**{label: (label,) for label in range(EDGE_LABELS)}, **RELATIONS}
_OF_LENGTH = {
    length: [label for label, edges in _EDGES.items() if len(edges) == length]
    for length in (1, 2, 3, 4, 5)
}

# The first and the last are the paper's, as is their number; those between are steps
# from the one to the other, for we have no source of them.
INFERENCE_LESSONS = (
    Lesson((3, 3), (1, 2), (2, 2)),
    Lesson((3, 5), (1, 2), (2, 2)),
    Lesson((3, 5), (1, 3), (2, 2)),
    Lesson((5, 7), (1, 3), (2, 2)),
    Lesson((5, 7), (1, 3), (2, 3)),
    Lesson((5, 10), (1, 3), (2, 3)),
    Lesson((5, 10), (2, 3), (2, 3)),
    Lesson((8, 10), (2, 3), (2, 3)),
    Lesson((8, 10), (2, 3), (2, 4)),
    Lesson((10, 15), (2, 3), (2, 4)),
    Lesson((10, 15), (2, 4), (2, 4)),
    Lesson((10, 20), (2, 4), (2, 4)),
    Lesson((15, 20), (2, 4), (2, 4)),
    Lesson((15, 20), (2, 4), (2, 5)),
    Lesson((15, 25), (2, 4), (2, 5)),
    Lesson((18, 25), (2, 4), (2, 5)),
    Lesson((20, 25), (2, 4), (2, 5)),
)


def inference_sequences(
    rng: Rng,
    lessons: list[Lesson],
    time_steps: int | None = None,
    queries: int = QUERIES,
    hints: str = "none",
) -> Sequences:
    """Makes one inference problem for each given lesson.

    Relations are drawn first, then a graph in which they lead from random nodes to
    some node: edges of a random graph exchange their labels where they must.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed.
        lessons: List of `keras_sam.tasks.Lesson`, one for each sequence, such as
            members of `keras_sam.tasks.INFERENCE_LESSONS`; `length` is that of the
            relations, between 1 and 5.
        time_steps: Integer, the number of steps of the returned arrays. Defaults to as
            many as the longest sequence has.
        queries: Integer, how many questions each graph is asked. Defaults to `3`, as
            in the paper; a network learns from fewer graphs with more. Those after the
            third are drawn from all that the graph has an answer to.
        hints: What targets the first planning steps have: `"none"`, `"labels"`, the
            labels of the relation's edges, or `"triples"`, these edges as they are in
            the graph. Not in the paper: for training, where a network learns a relation
            from fewer examples. Defaults to `"none"`.

    Returns:
        A tuple `(inputs, targets, sample_weight)` as of
        `keras_sam.tasks.traversal_sequences`; one step of each query counts,
        and with hints one for each edge of its relation.

    Raises:
        ValueError: If `lessons` are not such lessons, `queries` is not a positive
            integer, `hints` are unknown, 1,000 graphs in turn have no room for the
            relations, or `time_steps` is too small.

    Reference: Graves et al. 2016, Methods (https://doi.org/10.1038/nature20101).

    Example:

    >>> lesson = keras_sam.tasks.Lesson(nodes=(4, 4), degree=(2, 2), length=(2, 2))
    >>> x, y, w = keras_sam.tasks.inference_sequences(0, [lesson])
    >>> x.shape  # 8 edges, and three times a query, 10 for planning, an answer
    (1, 44, 92)
    >>> np.flatnonzero(w[0])
    array([19, 31, 43])
    """
    rng = np.random.default_rng(rng)
    queries = check_positive_integer("queries", queries)
    hints = check_hints(hints)
    episodes = []
    for lesson in check_lessons(lessons):
        _check_relation_lengths(lesson)
        if lesson.degree[1] > EDGE_LABELS:
            raise ValueError(
                f"`degree` must be at most {EDGE_LABELS}, for edges have "
                f"{EDGE_LABELS} labels. Received: {lesson}"
            )
        for _ in range(_TRIES):
            triples = random_graph(rng, lesson.nodes, lesson.degree, EDGE_LABELS)
            answers = _plant(rng, triples, lesson.length, min(queries, QUERIES))
            if answers:
                break
        else:
            raise ValueError(
                f"{_TRIES} graphs have no room for {QUERIES} relations. Choose larger "
                f"graphs. Received: {lesson}"
            )
        if queries > QUERIES:
            possible = answerable(outgoing(triples), lesson.length)
            more = rng.integers(len(possible), size=queries - QUERIES)
            answers += [possible[i] for i in more]
        episodes.append(episode(rng, triples, answers, hints))
    return encode_batch(episodes, time_steps)


def _check_relation_lengths(lesson):
    if lesson.length[1] > 5:
        raise ValueError(
            f"Relations have at most 5 edges. Received: length={lesson.length}"
        )


def _draw_relation(rng, lengths):
    length = rng.integers(lengths[0], lengths[1] + 1).item()
    return rng.choice(_OF_LENGTH[length]).item()


def _plant(rng, triples, lengths, queries):
    """Relabels edges of `triples` so that so many relations lead somewhere.

    Returns the triples (source, relation, destination), or `None` where edges that
    relations share would need two labels.
    """
    rows = {}
    for row, source in enumerate(triples[:, 0].tolist()):
        rows.setdefault(source, []).append(row)
    fixed, answers = set(), []
    for _ in range(queries):
        source = node = rng.choice(list(rows)).item()
        relation = _draw_relation(rng, lengths)
        for label in _EDGES[relation]:
            free = [row for row in rows[node] if row not in fixed]
            named = [row for row in rows[node] if triples[row, 1] == label]
            if named and named[0] in fixed:
                row = named[0]
            elif free:
                row = free[rng.integers(len(free))]
                if named:
                    triples[named[0], 1] = triples[row, 1]
                triples[row, 1] = label
            else:
                return None
            fixed.add(row)
            node = triples[row, 2].item()
        answers.append((source, relation, node))
    return answers


def answerable(edges, lengths):
    """All triples (source, relation, destination) of a graph, as `outgoing` gives it.

    The relations have `lengths[0]` to `lengths[1]` edges.
    """
    found = []
    for length in range(lengths[0], lengths[1] + 1):
        for relation in _OF_LENGTH[length]:
            for source in edges:
                node = source
                for label in _EDGES[relation]:
                    node = edges.get(node, {}).get(label)
                if node is not None:
                    found.append((source, relation, node))
    return found


def episode(rng, triples, answers, hints):
    """The phases of a graph and the questions that `answers` answer."""
    phases, edges = [description(rng, triples)], outgoing(triples)
    for answer in answers:
        phases.append(Phase([(*answer[:2], OPEN)]))
        phases.append(planning(_hints(edges, answer, hints)))
        phases.append(Phase([(OPEN, OPEN, OPEN)], [answer]))
    return phases


def check_hints(hints):
    return check_option("hints", hints, ("none", "labels", "triples"))


def _hints(edges, answer, kind):
    """The edges that a relation stands for, or their labels alone."""
    node, relation, _ = answer
    path = []
    for label in _EDGES[relation]:
        path.append((node, label, edges[node][label]))
        node = edges[node][label]
    if kind == "labels":
        return [(OPEN, label, OPEN) for _, label, _ in path]
    return path if kind == "triples" else None


def inference_task(
    batch_size: int,
    lesson: Size = 1,
    review: float = 0.1,
    seed: int | None = None,
    queries: int = QUERIES,
    hints: str = "none",
) -> tf.data.Dataset:
    """An endless stream of inference problems, ready for `model.fit`.

    Args:
        batch_size: Integer, sequences in each batch.
        lesson: Integer, the number of one of `keras_sam.tasks.INFERENCE_LESSONS`, 1 to
            17, or a function that returns it; see `keras_sam.tasks.traversal_task`.
            Defaults to `1`.
        review: Fraction of sequences that come from an earlier lesson. Defaults to
            `0.1`, as in the paper.
        seed: Non-negative integer; the same seed gives the same stream.
            Defaults to `None`: a new stream at each iteration.
        queries: See `keras_sam.tasks.inference_sequences`. Defaults to `3`.
        hints: See there. Defaults to `"none"`.

    Returns:
        An infinite `tf.data.Dataset` of `(inputs, targets, sample_weight)`, padded to
        the longest sequence of the lesson.

    Raises:
        ValueError: If `batch_size`, `lesson`, `queries` or `seed` is not such an
            integer, or `review` is not in [0, 1).

    Reference: Graves et al. 2016, Methods (https://doi.org/10.1038/nature20101).

    Example:

    >>> data = keras_sam.tasks.inference_task(batch_size=2, seed=0)
    >>> [tuple(spec.shape) for spec in data.element_spec]
    [(2, 42, 92), (2, 42, 9, 10), (2, 42)]
    """
    queries = check_positive_integer("queries", queries)

    def longest(lesson):
        return most_edges(lesson) + queries * (PLANNING_STEPS + 2)

    return lesson_stream(
        partial(inference_sequences, queries=queries, hints=hints),
        INFERENCE_LESSONS,
        longest,
        batch_size,
        lesson,
        review,
        seed,
    )
