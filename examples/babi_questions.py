"""bAbI for a network that sees all sentences at once: facts and a question.

Each question of a story is an example of its own: the sentences before it, without
earlier questions, are its facts. A batch has questions of all tasks.
"""

import keras
import numpy as np
import tensorflow as tf
from babi import BabiProblem, Batch

import keras_sam

LENGTHS = (10, 20, 50, 100, 160)  # numbers of facts that examples are padded to


class Questions:
    """Questions as arrays, by task and by the number of their facts.

    Args:
        stories: List of (task, sentences, answers).
        vocabulary: A `babi.Vocabulary`.
        max_facts: Integer: older facts are left out.
    """

    def __init__(self, stories, vocabulary, max_facts):
        rows = {}
        for task, texts, answers in stories:
            facts = []
            for text, answer in zip(texts, answers, strict=True):
                if not answer:
                    facts.append(text)
                    continue
                known = facts[-max_facts:]
                length = next(n for n in LENGTHS if n >= len(known))
                rows.setdefault((task, length), []).append((known, text, answer))
        self.groups = {
            key: _as_arrays(group, key[1], vocabulary)
            for key, group in sorted(rows.items())
        }
        self.tasks = sorted({task for task, _ in self.groups})
        self._positions = vocabulary.positions
        self._by_length = {
            length: {
                name: np.concatenate([g[name] for g in groups])
                for name in ("facts", "question", "answers")
            }
            for length in LENGTHS
            if (groups := [g for (_, n), g in self.groups.items() if n == length])
        }

    def spec(self, batch_size):
        """What `draw` returns, as tf.data wants to know."""
        facts = (batch_size, None, self._positions)
        words = {
            "facts": tf.TensorSpec(facts, tf.int32),
            "question": tf.TensorSpec((batch_size, self._positions), tf.int32),
        }
        answers = tf.TensorSpec((batch_size,), tf.int32)
        return Batch(words, answers, tf.TensorSpec((batch_size,), tf.float32))

    def draw(self, rng, batch_size):
        """Random questions of all tasks, all padded to one number of facts."""
        sizes = [len(group["answers"]) for group in self._by_length.values()]
        length = rng.choice(list(self._by_length), p=np.divide(sizes, sum(sizes)))
        group = self._by_length[length]
        rows = rng.integers(len(group["answers"]), size=batch_size)
        return _as_batch(group, rows)

    def batches(self, task, batch_size):
        """All questions of a task; see `babi.Stories.batches`."""
        for (of, _), group in self.groups.items():
            count = len(group["answers"]) if of == task else 0
            for start in range(0, count, batch_size):
                rows = np.arange(start, start + batch_size)
                weights = (rows < count).astype("float32")
                yield _as_batch(group, np.where(weights > 0, rows, 0), weights)


def _as_arrays(questions, length, vocabulary):
    count = len(questions)
    facts = np.zeros((count, length, vocabulary.positions), "int32")
    for row, (known, _, _) in enumerate(questions):
        for i, text in enumerate(known):
            facts[row, i] = vocabulary.sentence(text)
    return {
        "facts": facts,
        "question": np.stack([vocabulary.sentence(text) for _, text, _ in questions]),
        "answers": np.array([vocabulary.answer(a) for *_, a in questions], "int32"),
    }


def _as_batch(group, rows, weights=None):
    if weights is None:
        weights = np.ones(len(rows), "float32")
    words = {name: group[name][rows] for name in ("facts", "question")}
    return Batch(words, group["answers"][rows], weights)


class LinearStart(keras.callbacks.Callback):
    """Ends the linear start of the layer "memory" after so many epochs."""

    def __init__(self, epochs):
        super().__init__()
        self._epochs = epochs

    def get_state(self):
        return None  # The layer knows whether it is linear.

    def set_state(self, state):
        pass

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._epochs:
            self.model.get_layer("memory").end_linear_start()


class QuestionsProblem(BabiProblem):
    """What examples/train.py needs to know; see `sequences.SequenceProblem`."""

    jit_compile = True

    def __init__(self, recipe, seed, data):
        self._max_facts = recipe["stream"]["max_facts"]
        super().__init__(recipe, seed, data)
        if recipe["layer"].get("linear_start"):
            self.callbacks.append(LinearStart(recipe["training"]["linear_epochs"]))

    def arrays(self, stories, vocabulary):
        """The questions of stories, in the test with as many facts as in training."""
        return Questions(stories, vocabulary, self._max_facts)

    def draw(self, rng):
        """A batch of all tasks."""
        return self._stories.draw(rng, self.batch_size)

    def make_model(self, cell, layer):
        positions, words = self.vocabulary.positions, len(self.vocabulary.words)
        facts = keras.Input((None, positions), dtype="int32", name="facts")
        question = keras.Input((positions,), dtype="int32", name="question")
        if cell == "end_to_end_memory":
            memory = keras_sam.EndToEndMemory(
                words, **layer, seed=self.seed, name="memory"
            )
            features = memory(facts, question)
        elif cell == "dynamic_memory":
            features = self._remembered(facts, question, layer)
        else:
            raise SystemExit(
                "error: this recipe shows facts and a question at once, which is for "
                "--cell end_to_end_memory and --cell dynamic_memory. "
                f"Received: {cell}"
            )
        answer = keras.layers.Dense(len(self.vocabulary.answers), use_bias=False)
        return keras.Model({"facts": facts, "question": question}, answer(features))

    def compile(self, model, training, steps):
        if "weight_penalty" in training:
            penalty = keras.regularizers.L2(training["weight_penalty"])
            for variable in model.trainable_variables:
                if variable.name != "bias":
                    variable.regularizer = penalty
        super().compile(model, training, steps)

    def _remembered(self, facts, question, layer):
        """The memory of a question, and the question, as Xiong et al. have it."""
        dropout = keras.layers.Dropout(self._embedding["dropout"])
        # Vectors of variance 1, as in the paper's section 6: a gate sees products.
        embed = keras_sam.SentenceEmbedding(
            len(self.vocabulary.words),
            layer["units"],
            "encoding",
            keras.initializers.RandomUniform(-(3**0.5), 3**0.5),
            name="embedding",
        )
        told, asked = dropout(embed(facts)), embed(question)
        fused = keras.layers.Bidirectional(
            keras.layers.GRU(layer["units"], return_sequences=True),
            merge_mode="sum",
            name="facts_fused",
        )(told)
        memory = keras_sam.DynamicMemory(**layer, name="memory")(fused, asked)
        return dropout(keras.layers.Concatenate()([memory, asked]))

    def export(self, model, output):
        """As `BabiProblem.export`, and a picture of a question of two facts."""
        usage = super().export(model, output)
        known = []
        (stories,) = self.read("test")
        story = next((story for story in stories if story[0] == 2), stories[0])
        for text, answer in zip(*story[1:], strict=True):
            if answer:
                break
            known.append(text)
        facts = np.stack([self.vocabulary.sentence(fact) for fact in known])[np.newaxis]
        question = self.vocabulary.sentence(text)[np.newaxis]
        inputs = {"facts": facts, "question": question}
        logits = model(inputs)
        found = self.vocabulary.answers[int(np.argmax(logits))]
        memory = model.get_layer("memory")
        attention = memory.attention(*keras.Model(model.input, memory.input)(inputs))[0]
        title = f"{text} It answers {found}; right is {answer}."
        figure = keras_sam.visualize.plot_attention(attention, known, title)
        figure.savefig(output / "hops.png")
        return usage

    def logits(self, model, words, steps):
        question = tf.gather(words, steps - 1, axis=1, batch_dims=1)
        # The question is no fact, nor are earlier ones.
        mark = self.vocabulary.words.index("?")
        is_fact = ~tf.reduce_any(words == mark, axis=-1, keepdims=True)
        at = tf.range(tf.shape(words)[1])[tf.newaxis, :, tf.newaxis]
        is_fact &= at != tf.cast(steps, tf.int32)[:, tf.newaxis, tf.newaxis] - 1
        facts = tf.where(is_fact, words, 0)
        return model({"facts": facts, "question": question})
