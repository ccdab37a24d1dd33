"""The bAbI tasks for examples/train.py: stories, the model, the error of each task.

The data is that of the tfds builder `keras_sam.datasets.Babi`, a sentence a step. The
stories of a batch are of about one length. The tasks that the network does worst are
drawn most often.
"""

import collections
import itertools
import json
import subprocess
import sys

import babi_associative
import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from training import (
    held_rate,
    layer_class,
    memory_adam,
    save_function,
    set_interface_bias,
    with_memory_slots,
)

import keras_sam
import keras_sam.datasets
from keras_sam.datasets import babi_files

PADDED_LENGTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1152, 1728)
UNKNOWN = "[unknown]"
# Of the stories that a task is drawn for: the least, and what its error adds at most.
LEAST_SHARE, MOST_SHARE = 0.05, 0.5


STORY = "Mary moved to the bathroom.\nJohn went to the hallway.\nWhere is Mary?"

USAGE = '''```python
import tensorflow as tf

model = tf.saved_model.load("{folder}/1")
story = """{story}"""
answers = model.signatures["serving_default"](story=tf.constant([story]))
print(answers["answer"], answers["probability"])
```

A sentence a line, the question last.
'''

CHECK_ANSWERS = """
import sys
import tensorflow as tf

folder, story = sys.argv[1:]
model = tf.saved_model.load(folder)
answers = model.signatures["serving_default"](story=tf.constant([story]))
assert "keras_sam" not in sys.modules
assert 0.0 < float(answers["probability"][0]) <= 1.0
print("SavedModel in a new process:", answers["answer"][0].numpy().decode())
"""


def load_stories(configuration, data, splits):
    """Reads splits of bAbI, which are prepared first where they are not.

    Args:
        configuration: String, of `keras_sam.datasets.Babi`.
        data: Path of the folder with the files, or None to download them.
        splits: Names of splits.

    Returns:
        For each split a list of (task, sentences, answers).
    """
    if data is not None and not data.is_dir():
        raise SystemExit(f"error: --data must be a folder. Received: {data}")
    builder = keras_sam.datasets.Babi(config=configuration)
    download = tfds.download.DownloadConfig(manual_dir=data)
    try:
        builder.download_and_prepare(download_config=download)
    except FileNotFoundError as error:
        raise SystemExit(f"error: {error} Then pass its folder as --data.") from None
    return [
        [
            (
                int(example["task"]),
                [text.decode() for text in example["inputs"]],
                [text.decode() for text in example["answers"]],
            )
            for example in tfds.as_numpy(builder.as_dataset(split=split))
        ]
        for split in splits
    ]


def story_text(story):
    """What a story says and asks, to compare it with others."""
    _, sentences, answers = story
    return (*sentences, *answers)


class Vocabulary:
    """The words and the answers of stories, as numbers.

    Attributes:
        words: List of strings; number 0 is padding and 1 what is not known.
        answers: List of strings.
        positions: Integer, the words of the longest sentence.
    """

    def __init__(self, stories):
        sentences = {text for _, texts, _ in stories for text in texts}
        split = [self.split(text) for text in sentences]
        words = ["", UNKNOWN, *sorted({word for words in split for word in words})]
        answers = sorted({a for _, _, answers in stories for a in answers if a})
        self._number(words, answers, max(map(len, split)))

    @classmethod
    def load(cls, path):
        """The vocabulary that `save` wrote."""
        vocabulary = cls.__new__(cls)
        vocabulary._number(**json.loads(path.read_text()))
        return vocabulary

    def save(self, path):
        """Writes the vocabulary as JSON."""
        names = ("words", "answers", "positions")
        content = {name: getattr(self, name) for name in names}
        path.write_text(json.dumps(content, indent=1) + "\n")

    def _number(self, words, answers, positions):
        self.words, self.answers, self.positions = words, answers, positions
        self._word_numbers = {word: i for i, word in enumerate(self.words)}
        self._answer_numbers = {answer: i for i, answer in enumerate(self.answers)}
        self._rows = {}

    def split(self, text):
        """The words of what stands at a step."""
        return babi_files.words(text)

    def sentence(self, text):
        """The numbers of a sentence's words, `[positions]`; too long a one is cut."""
        if text not in self._rows:
            numbers = [self._word_numbers.get(w, 1) for w in self.split(text)]
            numbers = numbers[: self.positions]
            padding = [0] * (self.positions - len(numbers))
            self._rows[text] = np.array(numbers + padding, "int32")
        return self._rows[text]

    def answer(self, text):
        """The number of an answer; -1, which no prediction is, of an unknown one."""
        return self._answer_numbers.get(text, -1)


def is_by_words(recipe):
    """Whether a model reads a word a step, and not a sentence."""
    return recipe["stream"]["configuration"].startswith("words")


Batch = collections.namedtuple("Batch", "words answers weights")


class Stories:
    """Stories as arrays, by task and by length.

    Args:
        stories: List of (task, sentences, answers).
        vocabulary: A `Vocabulary`.
        max_steps: Integer: longer stories lose their last questions, and are left out
            if none is left. Defaults to the greatest length.
    """

    def __init__(self, stories, vocabulary, max_steps=PADDED_LENGTHS[-1]):
        rows = collections.defaultdict(list)
        for task, texts, answers in stories:
            asked = [t for t, answer in enumerate(answers[:max_steps]) if answer]
            if asked:
                steps = asked[-1] + 1
                length = next(n for n in PADDED_LENGTHS if n >= steps)
                rows[task, length].append((texts[:steps], answers[:steps]))
        self.groups = {
            key: _as_batch(group, key[1], vocabulary)
            for key, group in sorted(rows.items())
        }
        self.tasks = sorted({task for task, _ in self.groups})
        self._positions = vocabulary.positions

    def spec(self, batch_size):
        """What `draw` returns, as tf.data wants to know."""
        return Batch(
            tf.TensorSpec((batch_size, None, self._positions), tf.int32),
            tf.TensorSpec((batch_size, None), tf.int32),
            tf.TensorSpec((batch_size, None), tf.float32),
        )

    def draw(self, rng, shares, batch_size):
        """Random stories of one of the lengths. Each counts as much in the loss.

        Args:
            rng: A `np.random.Generator`.
            shares: Dictionary from a task to its share of all stories that are drawn.
            batch_size: Integer.
        """
        keys, groups = zip(*self.groups.items(), strict=True)
        sizes = np.array([len(group.words) for group in groups])
        of_task = collections.Counter()
        for (task, _), size in zip(keys, sizes, strict=True):
            of_task[task] += size
        chances = [
            shares[task] * size / of_task[task]
            for (task, _), size in zip(keys, sizes, strict=True)
        ]
        chances = np.divide(chances, sum(chances))
        length = keys[rng.choice(len(keys), p=chances)][1]
        chances = np.where([key[1] == length for key in keys], chances, 0.0)
        chosen = rng.choice(len(keys), size=batch_size, p=chances / chances.sum())
        parts = [
            [array[row] for array in groups[key]]
            for key, row in zip(chosen, rng.integers(sizes[chosen]), strict=True)
        ]
        words, answers, weights = map(np.stack, zip(*parts, strict=True))
        return Batch(words, answers, weights / weights.sum(axis=1, keepdims=True))

    def batches(self, task, batch_size):
        """All stories of a task; the last batch of each length is filled up.

        Its added stories have weights of 0, so that all batches have one shape.
        """
        for key, group in self.groups.items():
            if key[0] == task:
                for start in range(0, len(group.words), batch_size):
                    part = [array[start : start + batch_size] for array in group]
                    missing = batch_size - len(part[0])
                    rows = [*range(len(part[0])), *[0] * missing]
                    words, answers, weights = (array[rows] for array in part)
                    weights[batch_size - missing :] = 0.0
                    yield Batch(words, answers, weights)


def _as_batch(stories, length, vocabulary):
    words = np.zeros((len(stories), length, vocabulary.positions), "int32")
    answers = np.zeros((len(stories), length), "int32")
    weights = np.zeros((len(stories), length), "float32")
    for i, (texts, expected) in enumerate(stories):
        for t, (text, answer) in enumerate(zip(texts, expected, strict=True)):
            words[i, t] = vocabulary.sentence(text)
            if answer:
                answers[i, t], weights[i, t] = vocabulary.answer(answer), 1.0
    return Batch(words, answers, weights)


def read_sentences(words, vocabulary, embedding):
    """The sentence of each step, whether it tells something, and whether it asks."""
    mark = vocabulary.words.index("?")
    asks = keras.ops.any(keras.ops.equal(words, mark), axis=-1)
    return words, ~asks, asks


def make_model(cell, layer, embedding, vocabulary, read=read_sentences):
    """A model from words `[batch, time, positions]` to logits `[batch, time, answers]`.

    Args:
        cell: As of examples/train.py.
        layer: Dictionary, the arguments of the cell's layer.
        embedding: Dictionary: `units` of each of two embeddings, those of a
            `convolution` over a sentence and the two before it, `dropout`,
            `think_steps` after a `question` and after another `sentence`, and
            `output_units`, of a layer before the answers, or of several, none
            without it, and their `output_activation`. With `associative` and
            `compares`, see babi_associative.py.
        vocabulary: A `Vocabulary`.
        read: A function as `read_sentences`.
    """
    words = keras.Input((None, vocabulary.positions), dtype="int32", name="words")
    sentences, tells, asks = read(words, vocabulary, embedding)
    steps = embedding["think_steps"]
    counts = keras.ops.where(tells, steps["sentence"], 0)
    counts = keras.ops.where(asks, steps["question"], counts)
    features = keras.layers.Concatenate()(
        [
            keras_sam.SentenceEmbedding(
                len(vocabulary.words), embedding["units"], position
            )(sentences)
            for position in ("mask", "table")
        ]
    )
    features = keras.layers.LayerNormalization()(features)
    features = keras.layers.Dropout(embedding["dropout"])(features)
    convolution = keras.layers.Conv1D(
        embedding["convolution"], 3, padding="causal", activation="relu"
    )
    # It looks backward, and padding stands at the end.
    convolution.supports_masking = True
    features = keras.layers.Concatenate()([features, convolution(features)])
    features = keras_sam.SinePositions()(features)
    if "associative" in embedding:
        told_and_asked = babi_associative.told_and_asked(
            sentences, tells, vocabulary, layer["word_size"], embedding["associative"]
        )
        features = [
            keras.layers.Concatenate()([part, features]) for part in told_and_asked
        ]
        features = keras.layers.Concatenate()(features)
    if cell == "lstm":
        memory = keras.layers.LSTM(layer["units"], return_sequences=True, name="memory")
    else:
        kind = layer_class(cell)
        memory = kind(**layer, return_sequences=True, name="memory")
    most = max(1, *steps.values())  # A layer that takes none has a number for it.
    inputs = "halves" if "associative" in embedding else "repeat"
    think = keras_sam.ThinkSteps(memory, most, inputs, name="think_steps")
    outputs = think(features, counts)
    is_sparse = isinstance(memory, keras_sam.SAM | keras_sam.SDNC)
    compares = embedding.get("compares") and is_sparse
    word_size = layer["word_size"] if compares else None
    answer = answer_layers(embedding, vocabulary, outputs, word_size)
    return keras.Model(words, answer(outputs))


def answer_layers(embedding, vocabulary, outputs, word_size=None):
    """A model from such outputs of the memory to logits, by hidden layers if asked.

    With a word size the hidden layers see `babi_associative.compare`.
    """
    inputs = hidden = keras.Input(outputs.shape[1:])
    logits = keras.layers.Dense(len(vocabulary.answers), name="answer_spoken")(inputs)
    if word_size is not None:
        hidden = babi_associative.compare(inputs, word_size)
        # By its name it learns at the rate of what answers: `training.SlowMemoryAdam`.
        hidden = keras.layers.LayerNormalization(name="answer_normalization")(hidden)
    activation = embedding.get("output_activation", "relu")
    for number, units in enumerate(hidden_units(embedding)):
        name = f"answer_hidden_{number}" if number else "answer_hidden"
        hidden = keras.layers.Dense(units, activation, name=name)(hidden)
        hidden = keras.layers.Dropout(embedding["dropout"])(hidden)
    if hidden is not inputs:
        logits += keras.layers.Dense(len(vocabulary.answers), name="answer")(hidden)
    return keras.Model(inputs, logits, name="answer")


def hidden_units(embedding):
    """The units of each hidden layer before the answers. A number means one layer."""
    units = embedding.get("output_units", [])
    return [units] if isinstance(units, int) else units


class TaskErrors(keras.callbacks.Callback):
    """The share of wrong answers to each task, after each epoch.

    Adds to the logs `val_error_task_K` and their mean `val_error`. Put it before other
    callbacks.

    Args:
        stories: `Stories`.
        batch_size: Integer.
        most: Integer, the stories of a task that are asked about at most.
    """

    def __init__(self, stories, batch_size, most):
        super().__init__()
        self._stories, self._batch_size, self._most = stories, batch_size, most
        self.errors = {}

    def get_state(self):
        return {str(task): error for task, error in self.errors.items()}

    def set_state(self, state):
        self.errors = {int(task): error for task, error in state.items()}

    def on_epoch_end(self, epoch, logs=None):
        for task in self._stories.tasks:
            batches = spread(self._stories.batches(task, self._batch_size), self._most)
            self.errors[task] = share_of_wrong(self.model, batches)
            logs[f"val_error_task_{task}"] = self.errors[task]
        logs["val_error"] = float(np.mean(list(self.errors.values())))


def spread(batches, most):
    """Batches of at most so many sequences in all, spread evenly over all batches."""
    batches = list(batches)
    count = max(1, most // len(batches[0].answers))
    if count >= len(batches):
        return batches
    return [batches[i * len(batches) // count] for i in range(count)]


def share_of_wrong(model, batches):
    """The share of the questions of some batches that get a wrong answer."""
    wrong = asked = 0.0
    for words, answers, weights in batches:
        predicted = np.argmax(model.predict_on_batch(words), axis=-1)
        wrong += float(((predicted != answers) * weights).sum())
        asked += float(weights.sum())
    return wrong / asked


class BabiProblem:
    """What examples/train.py needs to know of bAbI; see `sequences.SequenceProblem`."""

    metric = "error"
    vocabulary_class = Vocabulary
    arrays = Stories
    read_steps = staticmethod(read_sentences)
    jit_compile = False  # a sparse layer compiles itself

    def __init__(self, recipe, seed, data):
        stream = recipe["stream"]
        limits = {"max_steps": stream["max_steps"]} if "max_steps" in stream else {}
        self.seed = seed
        self.batch_size = recipe["training"]["batch_size"]
        self._embedding = recipe.get("embedding")
        self._interface_bias = recipe.get("interface_bias", {})
        self._source = stream["configuration"], data
        self._trained_on = stream.get("tasks", [*range(1, 21)])
        loaded = self.read("train", "validation")
        self.vocabulary = self.vocabulary_class(loaded[0])
        self.rarity = None
        if "associative" in (self._embedding or {}):
            told = self.sentences(loaded[0])
            self.rarity = babi_associative.rarity(told, self.vocabulary)
        # Most stories of task 4's test are in these as well.
        self._seen = {
            story_text(story) for split in loaded for story in split if story[0] == 4
        }
        train, validation = (
            self.arrays(split, self.vocabulary, **limits) for split in loaded
        )
        self._stories = train
        self.errors = TaskErrors(
            validation, self.batch_size, stream["validation_stories"]
        )
        self.callbacks = [self.errors]

    @classmethod
    def without_stories(cls, recipe, seed, vocabulary):
        """A problem that can make its model, and no more: it has no data."""
        problem = cls.__new__(cls)
        problem.seed, problem.vocabulary = seed, vocabulary
        problem._embedding = recipe.get("embedding")
        problem._interface_bias = recipe.get("interface_bias", {})
        problem.rarity = None
        return problem

    def read(self, *splits):
        """For each split the stories of the tasks in question, see `load_stories`."""
        return [
            [story for story in stories if story[0] in self._trained_on]
            for stories in load_stories(*self._source, splits)
        ]

    def sentences(self, stories):
        """The sentences and questions of each story, a list of lists."""
        return [texts for _, texts, _ in stories]

    def draw(self, rng):
        """A batch in which a task that is answered badly is more common."""
        errors = {
            task: self.errors.errors.get(task, 1.0) for task in self._stories.tasks
        }
        shares = {
            task: LEAST_SHARE + min(error, MOST_SHARE) for task, error in errors.items()
        }
        return self._stories.draw(rng, shares, self.batch_size)

    def training_data(self, steps, epoch=0):
        """All batches from an epoch on; each epoch has random numbers of its own."""

        def batches():
            for number in itertools.count(epoch):
                rng = np.random.default_rng([self.seed, number])
                for _ in range(steps):
                    yield tuple(self.draw(rng))

        data = tf.data.Dataset.from_generator(
            batches, output_signature=tuple(self._stories.spec(self.batch_size))
        )
        # Batches made ahead of time would be of the errors of some steps ago.
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return data.with_options(options)

    def validation(self, steps):
        """Arguments of `fit`: none, for `TaskErrors` validates."""
        return {}

    def make_model(self, cell, layer):
        model = make_model(
            cell, layer, self._embedding, self.vocabulary, self.read_steps
        )
        if cell != "lstm":
            memory = model.get_layer("think_steps").layer
            set_interface_bias(memory.cell, self._interface_bias)
        # A problem without stories makes a model for weights that are there already.
        if self.rarity is not None:
            rng = np.random.default_rng(self.seed)
            babi_associative.start(model, self.vocabulary, self.rarity, rng)
        return model

    def compile(self, model, training, steps):
        model.compile(
            memory_adam(held_rate(training, steps), training),
            loss=keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction="mean_with_sample_weight"
            ),
            jit_compile=self.jit_compile,
        )

    def results(self, model, recipe, smoke=False):
        """The errors on the official test files, a few batches of each if `smoke`."""
        # Memory networks, which share this test, have no cell and ask for no slots.
        memory_slots = recipe.get("test", {}).get("memory_slots")
        if memory_slots is not None:
            cell = model.get_layer("think_steps").layer.cell
            model = with_memory_slots(model, cell, memory_slots)
        (loaded,) = self.read("test")
        stories = self.arrays(loaded, self.vocabulary)
        new = self.arrays(
            [s for s in loaded if story_text(s) not in self._seen], self.vocabulary
        )

        def wrong(arrays, task):
            batches = arrays.batches(task, self.batch_size)
            return share_of_wrong(
                model, spread(batches, self.batch_size) if smoke else batches
            )

        errors = {task: wrong(stories, task) for task in stories.tasks}
        results = {
            "test": {
                "error": float(np.mean(list(errors.values()))),
                "failed_tasks": sum(error > 0.05 for error in errors.values()),
                "errors": errors,
            }
        }
        if 4 in new.tasks:
            results["test"]["error_task_4_new_stories"] = wrong(new, 4)
        return results

    def export(self, model, output):
        """A SavedModel in `output/1` that answers text, checked without keras_sam.

        Beside it words.json, the vocabulary.
        """
        self.vocabulary.save(output / "words.json")
        table = word_table(self.vocabulary)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="story")])
        def answer(story):
            words, steps = self.text_to_words(story, table)
            logits = self.logits(model, words, steps)
            probabilities = tf.nn.softmax(logits)
            return {
                "answer": tf.gather(self.vocabulary.answers, tf.argmax(logits, -1)),
                "probability": tf.reduce_max(probabilities, axis=-1),
            }

        save_function(answer, [model, table], output / "1")
        subprocess.run(
            [sys.executable, "-c", CHECK_ANSWERS, str(output / "1"), STORY], check=True
        )
        return USAGE.format(folder=output.name, story=STORY)

    def text_to_words(self, stories, table):
        """Words and steps of stories in text, see `text_to_words`."""
        return text_to_words(stories, table, self.vocabulary.positions)

    def logits(self, model, words, steps):
        """Logits `[batch, answers]` of stories `[batch, time, positions]`.

        Args:
            model: The model.
            words: Integer tensor.
            steps: Integer tensor `[batch]`: the last of them is the question.
        """
        return tf.gather(model(words), steps - 1, axis=1, batch_dims=1)


def word_table(vocabulary):
    """A lookup table of TensorFlow from words to their numbers."""
    words = tf.constant(vocabulary.words[1:])
    numbers = tf.range(1, len(vocabulary.words), dtype=tf.int32)
    pairs = tf.lookup.KeyValueTensorInitializer(words, numbers)
    return tf.lookup.StaticHashTable(pairs, default_value=1)


def text_to_words(stories, table, positions):
    """What `babi_files.words` and a `Vocabulary` do, in TensorFlow.

    Args:
        stories: String tensor `[batch]`, a sentence a line.
        table: See `word_table`.
        positions: Integer, the words of a sentence.

    Returns:
        Words `[batch, time, positions]` and the number of sentences `[batch]`.
    """
    text = tf.strings.lower(tf.strings.strip(stories))
    lines = tf.strings.split(text, "\n")
    flat = tf.strings.regex_replace(lines.flat_values, r"\?", " ? ")
    flat = tf.strings.regex_replace(flat, r"[^\w?]+", " ")
    numbers = tf.ragged.map_flat_values(table.lookup, tf.strings.split(flat))
    steps = lines.row_lengths()
    words = tf.RaggedTensor.from_row_lengths(
        numbers.to_tensor(shape=[None, positions]), steps
    )
    return words.to_tensor(), steps
