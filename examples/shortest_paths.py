"""Shortest paths for examples/train.py: a memory in which a search leaves its marks.

While the network plans, the search spreads from the destination, backward along the
edges. Each planning step reads all edges that lead to the nodes reached so far and, a
step later, writes a mark to the words of these edges. The fewer steps an edge is from
the destination, the stronger is its mark. To answer, the network reads the most
strongly marked edge that leads on from where the path stands.
"""

import keras
import numpy as np
from keras import ops
from sequences import SequenceProblem
from triples import (
    ANSWERS,
    CHANGES,
    DESTINATION,
    EDGE,
    SOURCE,
    SPOKEN,
    TRIPLE,
    later,
    numbers,
)

import keras_sam
from keras_sam.tasks.graph import LABELS, PLANNING_STEPS

# The code of a node has so many numbers, so many of which are not 0. So the sum of a
# few nodes' codes still tells which nodes they are.
CODE, ONES = 128, 6
# The layer's inputs: what `shortest_path_task` shows, and two codes.
FROM, TO = slice(92, 92 + CODE), slice(92 + CODE, 92 + 2 * CODE)
# A word: the digits of a triple, that it is one, its mark, whether it leads to the
# destination, and the codes of its source and destination.
WRITTEN, MARK, LAST = 90, 91, 92
SOURCE_CODE, DESTINATION_CODE = slice(93, 93 + CODE), slice(93 + CODE, 93 + 2 * CODE)
WORD_SIZE = DESTINATION_CODE.stop
# How much in a word, where each code has the length 1, the digits count, and what says
# that the word is a triple.
DIGIT, TOLD = 0.3, 0.5
# How far a gate of the LSTM is open or shut. Its activations are then 1 or 0.
OPEN = 6.0
SHUT = 20.0
# What a unit of the LSTM is where a node has been reached: tanh(tanh(large)).
REACHED = 0.75
# A node counts as reached if so much of its code has been.
ENOUGH = 0.6
# In how many planning steps marks are written.
SPREADING_STEPS = 5.5
# What a planning step adds to the unit that counts them.
COUNTED = 0.1
# A mark, which is small beside the rest of a word, and how much it counts in what is
# looked for. A mark of a later step is weaker, by this share of what the unit counts.
MARKED, SOUGHT, WEAKER = 0.3, 3.0, 1.0
# The strength of reads while the network plans, and what is added while it answers.
STRENGTH, SHARPER = 100.0, 500.0


class Codes(keras.initializers.Initializer):
    """For each node a random code of `ONES` equal numbers, of length 1; for none 0."""

    def __init__(self, seed=0):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        rng = np.random.default_rng(self.seed)
        codes = np.zeros(shape)
        for code in codes[1:]:
            code[rng.choice(len(code), ONES, replace=False)] = ONES**-0.5
        return ops.convert_to_tensor(codes, dtype)

    def get_config(self):
        return {"seed": self.seed}


@keras.saving.register_keras_serializable(package="examples")
class NodeCodes(keras.layers.Layer):
    """Appends the codes of two nodes to each step.

    | phase | first code | second code |
    |---|---|---|
    | description | the source | the destination |
    | query | 0 | the destination |
    | planning | 0 | 0 |
    | answer | the node where the path stands | 0 |

    The path stands at the destination that the step shows. At the first step of the
    answer the path stands at the source that the query has named, eleven steps before.

    Call arguments:
        inputs: Tensor `[batch, time, 92]`, see `keras_sam.tasks.shortest_path_task`.

    Returns:
        Tensor `[batch, time, 92 + 256]`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.codes = keras.layers.Embedding(
            1 + LABELS,  # the first is none
            CODE,
            embeddings_initializer=Codes(),
            trainable=False,
            name="codes",
        )

    def build(self, input_shape):
        self.codes.build(input_shape[:2])

    def call(self, inputs):
        source, edge, destination = (
            # 0 where the label is open.
            ops.where(
                ops.any(inputs[..., label] > 0, -1), 1 + numbers(inputs, label), 0
            )
            for label in (SOURCE, EDGE, DESTINATION)
        )
        answers = inputs[..., ANSWERS] > 0
        described = (edge > 0) & ~answers
        asked = (source > 0) & ~described & ~answers
        begins = later(ops.where(asked, source, 0), 1 + PLANNING_STEPS)
        stands = ops.where(answers, destination, 0)
        source = ops.where(described, source, 0) + begins + stands
        destination = ops.where(described | asked, destination, 0)
        return ops.concatenate(
            [inputs, self.codes(source), self.codes(destination)], axis=-1
        )


def search_start(cell):
    """Has a cell start with the search, by its weights.

    The network has to learn when a path ends, and may improve the search.

    Args:
        cell: A built SAM or SDNC cell with one read head, words of `WORD_SIZE` numbers
            and a `keras_sam.SkipCell` around an LSTM of more than `CODE` units.
    """
    units = cell.units
    if (
        cell.word_size != WORD_SIZE
        or cell.read_heads != 1
        or units <= CODE
        or not isinstance(cell.controller, keras_sam.SkipCell)
    ):
        raise SystemExit(
            "error: a memory that starts with a search has the sizes of the recipe: "
            f"words of {WORD_SIZE} numbers, one read head, more than {CODE} units. "
            f"Received: word_size={cell.word_size}, read_heads={cell.read_heads}, "
            f"units={units}, controller={cell.controller.name}"
        )
    start_lstm(cell.controller.cell)
    start_interface(cell)
    kernel, bias = cell.output_projection.get_weights()
    read = kernel[-WORD_SIZE:]
    read[TRIPLE] += SPOKEN / DIGIT * np.eye(TRIPLE.stop)
    cell.output_projection.set_weights([kernel, bias])


def start_lstm(lstm):
    """Units that say which nodes were reached, and one that counts planning steps."""
    kernel, recurrent, bias = lstm.get_weights()
    units = lstm.units
    read = kernel[-WORD_SIZE:]
    reached, count = slice(0, CODE), CODE
    parts = np.arange(4 * units).reshape(4, units)
    ours = parts[:, : CODE + 1].ravel()
    kernel[:, ours], recurrent[:, ours], bias[ours] = 0.0, 0.0, 0.0
    entered, kept, candidate, let_out = parts

    # Reached is what the planning step before has read, and what the query names. The
    # channels of a label add up to 3.
    bias[entered[reached]] = OPEN
    kernel[SOURCE, entered[reached]] = -2 * SHUT / 3
    kernel[EDGE, entered[reached]] = -SHUT / 3
    kernel[TO, entered[reached]] = 2 * SHUT * ONES**0.5 * np.eye(CODE)
    bias[kept[reached]] = -SHUT
    kernel[TO, candidate[reached]] = 10.0 * ONES**0.5 * np.eye(CODE)
    read[SOURCE_CODE, candidate[reached]] = 200.0 * np.eye(CODE)
    bias[let_out[reached]] = OPEN
    kernel[ANSWERS, let_out[reached]] = -2 * SHUT

    bias[entered[count]] = OPEN
    kernel[SOURCE, entered[count]] = -2 * SHUT / 3
    bias[kept[count]] = SHUT
    bias[candidate[count]] = COUNTED
    bias[let_out[count]] = OPEN

    # The other units notice that an edge was read which leads to the destination.
    read[LAST, candidate[CODE + 1 :]] = 15.0 / MARKED
    lstm.set_weights([kernel, recurrent, bias])


def start_interface(cell):
    """What is written and looked for in each phase."""
    columns = cell.interface_columns
    kernel, bias = (0.0 * weights for weights in cell.interface.get_weights())
    reached, count = kernel[:CODE], kernel[CODE]
    step = kernel[cell.units : cell.units + TO.stop]
    read = kernel[-WORD_SIZE:]

    vectors = columns["vectors"]
    written = step[:, vectors]
    written[TRIPLE, TRIPLE] = DIGIT * np.eye(TRIPLE.stop)
    written[EDGE, WRITTEN] = TOLD / 3
    written[FROM, SOURCE_CODE] = np.eye(CODE)
    written[TO, DESTINATION_CODE] = np.eye(CODE)
    written[CHANGES, LAST] = MARKED
    written[SOURCE, MARK] = -MARKED / 3
    bias[vectors][MARK] = MARKED
    count[vectors][MARK] = -MARKED * WEAKER

    queries = columns["queries"]
    step[FROM, queries][:, SOURCE_CODE] = np.eye(CODE)
    reached[:, queries][:, DESTINATION_CODE] = np.eye(CODE)
    enough = ENOUGH * REACHED * ONES**0.5 / TOLD
    bias[queries][WRITTEN] = -enough
    step[ANSWERS, queries][WRITTEN] = enough
    step[ANSWERS, queries][MARK] = SOUGHT

    bias[columns["strengths"]] = STRENGTH
    step[ANSWERS, columns["strengths"]] = SHARPER

    # A triple is written, a query is not, and of planning the first steps, if what was
    # read is words that are written.
    gates = columns["write_gates"]
    bias[gates] = 3 * SHUT * np.tanh(COUNTED * SPREADING_STEPS) - 2 * SHUT
    count[gates] = -3 * SHUT
    read[WRITTEN, gates] = 2 * SHUT / TOLD
    step[EDGE, gates] = 5 * SHUT / 3
    step[SOURCE, gates] = -2 * SHUT / 3
    step[ANSWERS, gates] = -10 * SHUT
    bias[columns["interpolation_gates"]] = SHUT
    step[SOURCE, columns["interpolation_gates"]] = -2 * SHUT / 3
    if "read_modes" in columns:
        bias[columns["read_modes"]] = [-OPEN, OPEN, -OPEN]
    cell.interface.set_weights([kernel, bias])


class SearchProblem(SequenceProblem):
    """Shortest paths by a memory in which a search leaves its marks."""

    skips = True

    def input_layers(self):
        return [NodeCodes(name="nodes")]

    def start(self, cell):
        search_start(cell)
