"""Multi-query associative recall for examples/train.py: data, model, answers.

The training set of the benchmark is fixed: 180,000 sequences of five sizes. An epoch of
the recipe is a part of it, and a batch has sequences of one size. Logits are computed
at the queries alone.
"""

import itertools
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf
from key_values import StepBefore, key_value_start
from training import (
    layer_class,
    save_function,
    set_interface_bias,
    with_memory_slots,
)

from keras_sam.tasks import MQAR_TEST, MQAR_TRAINING, mqar_sequences

CHUNK = 1_000
ATTENTION_BLOCKS = 2

USAGE = """```python
import numpy as np
import tensorflow as tf

model = tf.saved_model.load("{folder}/1")
tokens = np.array([[17, 5002, 311, 7754, 311, 17]], "int32")  # batch, time
answers = model.signatures["serving_default"](tokens=tf.constant(tokens))
print(answers["predictions"][0, -2:])  # the values of 311 and of 17
```

A prediction counts where a key comes again. Keys are tokens from 1 to 4,095, values
from 4,096 to 8,191.
"""

CHECK_EXPORT = """
import sys
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
tokens = tf.constant([[17, 5002, 311, 7754, 311, 17]], tf.int32)
predictions = model.signatures["serving_default"](tokens=tokens)["predictions"]
assert "keras_sam" not in sys.modules
print("SavedModel in a new process:", predictions[0, -2:].numpy())
"""


@keras.saving.register_keras_serializable(package="examples")
class AtQueries(keras.layers.Layer):
    """The features of some steps: `[batch, queries, features]`."""

    def call(self, sequences, queries):
        return keras.ops.take_along_axis(sequences, queries[..., None], axis=1)


def make_sequences(sizes, seed, random_fillers=True):
    """All sequences of a set: for each size a tuple (tokens, queries, answers).

    Args:
        sizes: Dictionary from (time steps, pairs) to a number of sequences.
        seed: Integer, or a list of them.
        random_fillers: See `keras_sam.tasks.mqar_sequences`.
    """
    rng = np.random.default_rng(seed)
    made = {}
    for (steps, pairs), count in sizes.items():
        chunks = [
            mqar_sequences(
                rng,
                min(CHUNK, count - start),
                steps,
                pairs,
                random_fillers=random_fillers,
            )
            for start in range(0, count, CHUNK)
        ]
        tokens, targets, _ = map(np.concatenate, zip(*chunks, strict=True))
        queries = np.nonzero(targets)[1].reshape(count, pairs).astype("int32")
        answers = np.take_along_axis(targets, queries, axis=1)
        made[steps, pairs] = tokens, queries, answers
    return made


def make_model(cell, layer, embedding, vocabulary=8192):
    """A model from tokens `[batch, time]` and queries to logits at the queries.

    Args:
        cell: As of examples/train.py.
        layer: Dictionary, the arguments of the cell's layer.
        embedding: Integer, the width of a token.
        vocabulary: Integer, how many tokens there are.
    """
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    queries = keras.Input((None,), dtype="int32", name="queries")
    embed = keras.layers.ReversibleEmbedding(
        vocabulary,
        embedding,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=embedding**-0.5),
        name="embedding",
    )
    # Of unit variance, as the memory's own numbers.
    scaled = keras.layers.Rescaling(embedding**0.5)(embed(tokens))
    features = StepBefore()(scaled)
    if cell == "attention":
        outputs = attention(features, embedding)
    elif cell == "lstm":
        outputs = keras.layers.LSTM(
            layer["units"], return_sequences=True, name="memory"
        )(features)
        outputs = keras.layers.Dense(embedding)(outputs)
    else:
        kind = layer_class(cell)
        outputs = kind(
            **layer, output_size=embedding, return_sequences=True, name="memory"
        )(features)
    outputs = keras.layers.LayerNormalization(name="outputs")(outputs)
    logits = embed(AtQueries()(outputs, queries), reverse=True)
    return keras.Model({"tokens": tokens, "queries": queries}, logits)


def attention(features, width):
    """Two blocks of causal attention, without positions: a step sees the one before."""
    sequences = keras.layers.Dense(width)(features)
    for _ in range(ATTENTION_BLOCKS):
        normed = keras.layers.LayerNormalization()(sequences)
        sequences += keras.layers.MultiHeadAttention(1, width)(
            normed, normed, use_causal_mask=True
        )
        normed = keras.layers.LayerNormalization()(sequences)
        hidden = keras.layers.Dense(4 * width, activation="gelu")(normed)
        sequences += keras.layers.Dense(width)(hidden)
    return sequences


class MqarProblem:
    """What examples/train.py needs to know; see `sequences.SequenceProblem`."""

    metric = "accuracy"
    curriculum = None
    callbacks = ()

    def __init__(self, recipe, seed):
        self.seed = seed
        stream = recipe["stream"]
        self.tokens = stream["tokens_per_batch"]
        self._fillers = stream.get("random_fillers", True)
        self._embedding = recipe["embedding"]["units"]
        self._interface_bias = recipe.get("interface_bias", {})
        self._key_value_start = recipe.get("key_value_start", False)
        self._test_slots = recipe.get("test", {}).get("memory_slots")
        part = stream.get("part", 1.0)
        self._sizes = {size: int(part * n) for size, n in MQAR_TRAINING.items()}
        self._sets = None
        batches = sum(
            count // (self.tokens // steps) for (steps, _), count in self._sizes.items()
        )
        # On average: shorter sequences come in larger batches.
        self.batch_size = round(sum(self._sizes.values()) / batches)

    def training_data(self, steps, epoch=0):
        """The training set again and again, in another order each time."""
        if self._sets is None:
            self._sets = make_sequences(self._sizes, [self.seed, 0], self._fillers)

        def all_batches():
            for number in itertools.count():
                rng = np.random.default_rng([self.seed, 1, number])
                yield from self._shuffled(rng)

        def batches():
            yield from itertools.islice(all_batches(), epoch * steps, None)

        spec = tf.TensorSpec((None, None), tf.int32)
        data = tf.data.Dataset.from_generator(
            batches, output_signature=({"tokens": spec, "queries": spec}, spec)
        )
        return data.prefetch(tf.data.AUTOTUNE)

    def _shuffled(self, rng):
        """All batches of the training set; what does not fill one is left out."""
        parts = []
        for size, (tokens, *_) in self._sets.items():
            rows, count = rng.permutation(len(tokens)), self.tokens // size[0]
            whole = len(rows) // count * count
            parts += [(size, part) for part in rows[:whole].reshape(-1, count)]
        for i in rng.permutation(len(parts)):
            size, rows = parts[i]
            tokens, queries, answers = (each[rows] for each in self._sets[size])
            yield {"tokens": tokens, "queries": queries}, answers

    def validation(self, steps):
        """Other sequences of the training's sizes."""
        sizes = dict.fromkeys(self._sizes, 64)
        sets = make_sequences(sizes, [self.seed, 2], self._fillers)

        def batches():
            for tokens, queries, answers in sets.values():
                for rows in np.split(np.arange(64), 4):
                    yield (
                        {"tokens": tokens[rows], "queries": queries[rows]},
                        answers[rows],
                    )

        spec = tf.TensorSpec((16, None), tf.int32)
        data = tf.data.Dataset.from_generator(
            batches, output_signature=({"tokens": spec, "queries": spec}, spec)
        )
        # Of data that end unexpectedly Keras counts a batch too many in its metrics.
        count = 4 * len(sets)
        return {
            "validation_data": data.apply(
                tf.data.experimental.assert_cardinality(count)
            )
        }

    def make_model(self, cell, layer):
        model = make_model(cell, layer, self._embedding)
        if cell not in ("lstm", "attention"):
            memory = model.get_layer("memory")
            set_interface_bias(memory.cell, self._interface_bias)
            if self._key_value_start:
                # The word of a step is alike to what asks for the token before it.
                now = slice(0, self._embedding)
                before = slice(self._embedding, 2 * self._embedding)
                key_value_start(memory.cell, now, before, now, self.seed)
        return model

    def compile(self, model, training, steps):
        schedule = keras.optimizers.schedules.CosineDecay(
            training["learning_rate"],
            steps,
            alpha=training.get("final_rate", 0.0),
        )
        model.compile(
            keras.optimizers.Adam(schedule, global_clipnorm=training["clip_norm"]),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )

    def results(self, model, recipe, smoke=False):
        """The accuracy at the queries of new sequences, for each size of the test."""
        model = self._with_test_memory(model)
        sizes = {size: 16 if smoke else count for size, count in MQAR_TEST.items()}
        results = {}
        for fillers in (True, False):
            sets = make_sequences(sizes, [self.seed, 3], fillers)
            name = "test" if fillers else "test_of_zero_fillers"
            accuracies = {
                f"{steps}, {pairs}": self._accuracy(model, *sequences)
                for (steps, pairs), sequences in sets.items()
            }
            mean = float(np.mean(list(accuracies.values())))
            results[name] = {"accuracy": mean, **accuracies}
        steps, _ = max(MQAR_TEST)
        results["state_size"] = state_size(model, steps)
        return results

    def _with_test_memory(self, model):
        return with_memory_slots(model, memory_cell(model), self._test_slots)

    def _accuracy(self, model, tokens, queries, answers):
        right, count = 0, max(1, self.tokens // tokens.shape[1])
        for start in range(0, len(tokens), count):
            rows = slice(start, start + count)
            inputs = {"tokens": tokens[rows], "queries": queries[rows]}
            logits = model.predict_on_batch(inputs)
            right += int((logits.argmax(axis=-1) == answers[rows]).sum())
        return right / answers.size

    def export(self, model, output):
        """A SavedModel in `output/1` from tokens to predictions of the same steps."""
        model = self._with_test_memory(model)
        inner = keras.Model(model.input["tokens"], model.get_layer("outputs").output)
        table = model.get_layer("embedding").embeddings

        @tf.function(
            input_signature=[tf.TensorSpec([None, None], tf.int32, name="tokens")]
        )
        def predict(tokens):
            features = tf.transpose(inner(tokens), (1, 0, 2))

            def best(step):  # logits of all steps at once would be too large
                return tf.argmax(
                    tf.matmul(step, table, transpose_b=True), -1, output_type=tf.int32
                )

            predictions = tf.map_fn(best, features, fn_output_signature=tf.int32)
            return {"predictions": tf.transpose(predictions)}

        save_function(predict, [model], output / "1")
        subprocess.run(
            [sys.executable, "-c", CHECK_EXPORT, str(output / "1")], check=True
        )
        return USAGE.format(folder=output.name)


def memory_cell(model):
    """The cell of the recurrent layer; None where there is none."""
    names = [layer.name for layer in model.layers]
    return model.get_layer("memory").cell if "memory" in names else None


def state_size(model, time_steps):
    """How many numbers a sequence of so many steps leaves behind, for the next step."""
    cell = memory_cell(model)
    if cell is None:  # keys and values of all steps
        width = model.get_layer("embedding").output_dim
        return 2 * ATTENTION_BLOCKS * width * time_steps
    return int(sum(np.prod(size) for size in keras.tree.flatten(cell.state_size)))
