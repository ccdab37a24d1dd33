"""Memory words that start as triples, for the examples about graphs.

A graph is told triple by triple: (source, edge, destination). A network with random
weights takes ten thousand graphs to find out that a triple belongs in one word, and
that a node and an edge together name it.
"""

import numpy as np
from keras import ops

import keras_sam

# The channels of `keras_sam.tasks.graph`: a triple's labels, and all that a step shows.
SOURCE, EDGE, DESTINATION = slice(0, 30), slice(30, 60), slice(60, 90)
TRIPLE, SHOWN = slice(0, 90), slice(0, 92)
CHANGES, ANSWERS = 90, 91
# What is left of the random weights.
REST = 0.1
# How much the inputs that name where a path goes count in what is asked for.
NAMED = 2.0
# Of a read word's digit, as a logit.
SPOKEN = 8.0


def triple_start(cell, edges=None):
    """Has a cell start with a memory of triples, by its weights.

    A step writes all that it shows. Each head looks for the source and the edge that
    the step shows. Head 1 also looks for an edge that leads on from the destination of
    what it read at the step before, with the label of what head 2 read. The output is
    the triple that head 1 reads. The network has to learn which head reads what when:
    there is no order in it of the steps of a path.

    Args:
        cell: A built SAM or SDNC cell, with a `keras_sam.SkipCell` for a controller,
            whose words have at least 92 numbers.
        edges: Slice of the cell's inputs, of 30 numbers, with the label of the edge
            that leads on. Defaults to `None`: head 2 reads this label.
    """
    size, heads, units = cell.word_size, cell.read_heads, cell.units
    if size < SHOWN.stop or not isinstance(cell.controller, keras_sam.SkipCell):
        raise SystemExit(
            "error: a memory that starts with triples has words of at least "
            f"{SHOWN.stop} numbers and the controller of the recipe. Received: "
            f"word_size={size}, controller={cell.controller.name}"
        )
    columns = cell.interface_columns
    kernel, *bias = cell.interface.get_weights()
    # The interface sees the LSTM, the step, and what each head has read.
    step = slice(units, units + SHOWN.stop)
    read = np.split(np.arange(len(kernel) - heads * size, len(kernel)), heads)

    vectors = REST * kernel[:, columns["vectors"]]
    vectors[step, SHOWN] += np.eye(SHOWN.stop)
    kernel[:, columns["vectors"]] = vectors

    queries = REST * kernel[:, columns["queries"]]
    same = np.eye(SOURCE.stop)
    for query in np.split(queries, heads, axis=1):
        query[step][SOURCE, SOURCE] += NAMED * same
        query[step][EDGE, EDGE] += same
    first = queries[:, :size]
    first[read[0][DESTINATION], SOURCE] += same
    if edges is not None:
        first[units + edges.start : units + edges.stop, EDGE] += NAMED * same
    elif heads > 1:
        first[read[1][EDGE], EDGE] += same
    kernel[:, columns["queries"]] = queries
    cell.interface.set_weights([kernel, *bias])

    kernel, *bias = cell.output_projection.get_weights()
    kernel *= REST
    first_read = len(kernel) - heads * size
    kernel[first_read:][TRIPLE] += SPOKEN * np.eye(TRIPLE.stop)
    cell.output_projection.set_weights([kernel, *bias])


def numbers(inputs, label):
    """The numbers 0 .. 999 of a label of each step; where it is open, 0."""
    digits = ops.reshape(inputs[..., label], (*ops.shape(inputs)[:2], 3, 10))
    digits = ops.argmax(digits, axis=-1)
    return 100 * digits[..., 0] + 10 * digits[..., 1] + digits[..., 2]


def later(sequences, steps):
    """What stood so many steps earlier, `[batch, time, ...]`; 0 at the first steps."""
    padding = [(0, 0)] * len(sequences.shape)
    padding[1] = (steps, 0)
    return ops.pad(sequences, padding)[:, : ops.shape(sequences)[1]]
