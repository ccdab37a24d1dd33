"""Shortest paths that a model walks by itself, as in the DNC paper's test.

In training the model sees the right triple of the step before. Here the model sees its
own choice: of the edges that lead away from where it stands, the one with the largest
product of its nine digits' probabilities. A walk is right if it ends at the destination
after as many steps as the shortest path has, whichever of the shortest paths it takes.

Reference: Graves et al. 2016, Methods (https://doi.org/10.1038/nature20101).
"""

import numpy as np

from keras_sam.tasks.graph import encode, outgoing


def walks(model, inputs, length, batch_size=16):
    """The share of right walks of a model of the task `shortest_path`.

    Args:
        model: Keras model from `[batch, time, 92]` to digits `[batch, time, 9, 10]`.
        inputs: Array `[batch, time, 92]` of `keras_sam.tasks.shortest_path_sequences`,
            one query in each, whose shortest paths all have `length` steps.
        length: Integer.
        batch_size: Integer. Defaults to `16`.

    Returns:
        A number from 0 to 1.
    """
    inputs = inputs.copy()
    questions = zip(*map(question, inputs), strict=True)
    graphs, nodes, destinations, starts = map(list, questions)
    for sequence, start in zip(inputs, starts, strict=True):
        sequence[start:, :90] = 0.0  # The right path is not shown.
    for step in range(length):
        outputs = model.predict(inputs, batch_size=batch_size, verbose=0)
        for i, (graph, start) in enumerate(zip(graphs, starts, strict=True)):
            edges = graph[nodes[i]]
            if not edges:  # A dead end.
                continue
            options = [(nodes[i], edge, end) for edge, end in edges.items()]
            digits = np.log(np.maximum(outputs[i, start + step], 1e-30))
            chosen = options[(encode(options) * digits).sum((1, 2)).argmax()]
            nodes[i] = chosen[2]
            inputs[i, start + step + 1, :90] = encode([chosen]).ravel()
    return float(np.mean(np.array(nodes) == destinations))


def question(sequence):
    """What inputs `[time, 92]` with one query ask.

    Returns:
        The graph as of `keras_sam.tasks.graph.outgoing`, the path's source, its
        destination, and the first step of the answer.
    """
    # The phases: description, query, planning, answer.
    query, _, answer = np.flatnonzero(sequence[:, 90])
    source, _, destination = triples(sequence[query : query + 1])[0].tolist()
    return outgoing(triples(sequence[:query])), source, destination, answer


def triples(steps):
    """The triples `[steps, 3]` that inputs `[steps, 92]` show; an open label is 0."""
    digits = steps[:, :90].reshape(-1, 3, 3, 10).argmax(-1)
    return digits @ [100, 10, 1]
