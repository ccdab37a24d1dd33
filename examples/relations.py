"""Inference and family trees for examples/train.py: what a relation means.

A relation stands, once and for all, for a sequence of edges. So the network has a table
of what each relation means at each step after it was asked for. What the table says,
such as which edge is the next, is learned.
"""

import keras
from keras import ops
from sequences import SequenceProblem
from triples import ANSWERS, CHANGES, EDGE, SHOWN, SOURCE, later, numbers

from keras_sam.tasks import RELATIONS
from keras_sam.tasks.graph import PLANNING_STEPS

# The question, the steps of planning and the answer.
STEPS = 1 + PLANNING_STEPS + 1
# The labels of edges and of relations.
LABELS = 1 + max(RELATIONS)
# What the table says beside an edge's label.
MORE = 16


@keras.saving.register_keras_serializable(package="examples")
class RelationSteps(keras.layers.Layer):
    """Appends to each step what the relation that was asked for last means at it.

    The first step of planning also shows the source that the question has named.

    Call arguments:
        inputs: Tensor `[batch, time, 92]`, see `keras_sam.tasks.inference_sequences`.

    Returns:
        Tensor `[batch, time, 92 + 46]`. The added features are 0 where nothing was
        asked within the last twelve steps.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.meaning = keras.layers.Embedding(
            1 + LABELS * STEPS,  # the first is nothing
            SOURCE.stop + MORE,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="meaning",
        )

    def build(self, input_shape):
        self.meaning.build(input_shape[:2])

    def call(self, inputs):
        changes, answers = inputs[..., CHANGES], inputs[..., ANSWERS]
        names = ops.sum(inputs[..., EDGE], axis=-1)
        # A question is the only first step of a phase with an edge, and no answer.
        asks = changes * (1.0 - answers) * ops.minimum(names, 1.0)
        rows = 1 + STEPS * ops.minimum(numbers(inputs, EDGE), LABELS - 1)
        asks_now = ops.cast(asks, "int32")
        meant = sum(later((rows + step) * asks_now, step) for step in range(STEPS))
        source = later(inputs[..., SOURCE] * asks[..., None], 1)
        inputs = ops.concatenate(
            [inputs[..., SOURCE] + source, inputs[..., SOURCE.stop :]], axis=-1
        )
        named = ops.cast(meant > 0, inputs.dtype)[..., None]
        return ops.concatenate([inputs, named * self.meaning(meant)], axis=-1)


class RelationProblem(SequenceProblem):
    """A task whose questions name relations."""

    path_edges = slice(SHOWN.stop, SHOWN.stop + EDGE.stop - EDGE.start)

    def input_layers(self):
        return [RelationSteps(name="relation")]
