"""The family tree task: the inference task on families.

Seven couples in three generations, each of the first three with a son and a daughter
who marry in turn: 14 people, 44 edges. Each edge is one of eight ties, of which nobody
has two of a kind, so that every name for a relative is clear.

Reference: Graves et al. 2016 (https://doi.org/10.1038/nature20101), which tests a
network that has learned the inference task on one family tree of 54 edges.
"""

from functools import partial

import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_positive_integer
from keras_sam.options import Integers, Rng, Sequences, Size
from keras_sam.tasks.graph import LABELS, encode_batch, outgoing
from keras_sam.tasks.inference import (
    EDGE_LABELS,
    QUERIES,
    answerable,
    check_hints,
    episode,
)
from keras_sam.tasks.stream import check_sizes, size_stream

TIES = ("father", "mother", "brother", "sister", "son", "daughter", "husband", "wife")
_GENERATIONS = 3


def family_tree():
    """The triples (person, tie, relative) of the family, as numbers.

    Returns:
        An integer array `[44, 3]`. People are 0 .. 13, the ties are numbered as in
        `TIES`.

    Example:

    >>> from keras_sam.tasks.family_tree import TIES, family_tree
    >>> [(a, TIES[tie], b) for a, tie, b in family_tree()[:4].tolist()]
    [(0, 'wife', 1), (1, 'husband', 0), (0, 'son', 2), (0, 'daughter', 4)]
    """
    ties = {name: number for number, name in enumerate(TIES)}
    triples, people = [], 2
    couples = [(0, 1)]
    for generation in range(_GENERATIONS):
        children = []
        for husband, wife in couples:
            triples += [(husband, ties["wife"], wife), (wife, ties["husband"], husband)]
            if generation == _GENERATIONS - 1:
                continue
            # The son and his wife, the daughter's husband and the daughter.
            son, daughter = people, people + 2
            children += [(son, people + 1), (people + 3, daughter)]
            people += 4
            for parent in (husband, wife):
                triples += [
                    (parent, ties["son"], son),
                    (parent, ties["daughter"], daughter),
                ]
            for child in (son, daughter):
                triples += [
                    (child, ties["father"], husband),
                    (child, ties["mother"], wife),
                ]
            triples += [
                (son, ties["sister"], daughter),
                (daughter, ties["brother"], son),
            ]
        couples = children
    return np.array(triples)


def family_tree_sequences(
    rng: Rng,
    lengths: Integers,
    time_steps: int | None = None,
    queries: int = QUERIES,
    hints: str = "none",
) -> Sequences:
    """Makes one family tree with questions for each given length of relations.

    People get random labels and the eight ties eight of the edge labels 0 .. 9. Each
    question is a person and a relation of `keras_sam.tasks.RELATIONS`, or a tie, that
    the family has for this person, both together uniform.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed.
        lengths: Integers of shape `[batch]`, between 1 and 5: the number of ties in
            the relations that are asked for.
        time_steps: Integer, the number of steps of the returned arrays, at least
            44 + 12 queries, which is the default.
        queries: Integer, how many questions each family is asked. Defaults to `3`, as
            in the paper; a network learns from fewer families with more.
        hints: See `keras_sam.tasks.inference_sequences`. Defaults to `"none"`.

    Returns:
        A tuple `(inputs, targets, sample_weight)` as of
        `keras_sam.tasks.inference_sequences`.

    Raises:
        ValueError: If `lengths` is not a list of integers between 1 and 5, `queries`
            is not a positive integer, `hints` are unknown, or `time_steps` is too
            small.

    Example:

    >>> x, y, w = keras_sam.tasks.family_tree_sequences(0, lengths=[4])
    >>> x.shape  # 44 edges, and three times a query, 10 for planning, an answer
    (1, 80, 92)
    """
    rng = np.random.default_rng(rng)
    queries = check_positive_integer("queries", queries)
    hints = check_hints(hints)
    lengths = check_sizes("lengths", lengths)
    if lengths.max() > 5:
        raise ValueError(
            f"Relations have at most 5 ties. Received: lengths={lengths.tolist()}"
        )
    episodes = []
    for length in lengths:
        questions = []
        while not questions:
            triples = family_tree()
            people = rng.choice(LABELS, 14, replace=False)
            ties = rng.choice(EDGE_LABELS, len(TIES), replace=False)
            triples[:, [0, 2]] = people[triples[:, [0, 2]]]
            triples[:, 1] = ties[triples[:, 1]]
            questions = answerable(outgoing(triples), (length, length))
        chosen = rng.integers(len(questions), size=queries)
        episodes.append(episode(rng, triples, [questions[i] for i in chosen], hints))
    return encode_batch(episodes, time_steps)


def family_tree_task(
    batch_size: int,
    min_length: int = 2,
    max_length: Size = 4,
    seed: int | None = None,
    queries: int = QUERIES,
    hints: str = "none",
) -> tf.data.Dataset:
    """An endless stream of family trees with questions, ready for `model.fit`.

    Args:
        batch_size: Integer, sequences in each batch.
        min_length: Integer, the fewest ties in a relation. Defaults to `2`.
        max_length: Integer of at most 5, the most ties in a relation, or a function
            that returns it (see `keras_sam.tasks.copy_task`). Defaults to `4`.
        seed: Non-negative integer; the same seed gives the same stream.
            Defaults to `None`: a new stream at each iteration.
        queries: See `keras_sam.tasks.family_tree_sequences`. Defaults to `3`.
        hints: See there. Defaults to `"none"`.

    Returns:
        An infinite `tf.data.Dataset` of `(inputs, targets, sample_weight)`, see
        `keras_sam.tasks.family_tree_sequences`, of 80 steps with three queries.

    Raises:
        ValueError: If `seed` is negative or not an integer, another argument is not
            such an integer, or `min_length` exceeds `max_length`.

    Reference: Graves et al. 2016 (https://doi.org/10.1038/nature20101).

    Example:

    >>> data = keras_sam.tasks.family_tree_task(batch_size=2, seed=0)
    >>> [tuple(spec.shape) for spec in data.element_spec]
    [(2, 80, 92), (2, 80, 9, 10), (2, 80)]
    """
    return size_stream(
        partial(family_tree_sequences, queries=queries, hints=hints),
        batch_size,
        {"length": (min_length, max_length)},
        seed,
    )
