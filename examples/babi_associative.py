"""A memory of bAbI that starts as an associative one: it finds before it has learned.

A sentence is told as the sum of its words' vectors beside its time, and a question asks
in the same way. Of a question the first head looks most of all for its first words, and
the second for its last words. At a step of thought

    head 1 looks for   its words + what head 2 read - what is asked       (a join)
    head 2 looks for   its words + what head 1 read - what is asked
    head 3 looks for   what heads 1 and 2 read - what is asked            (a chain)
    head 4 looks for   what head 3 read - what heads 1 and 2 read

So of "How do you go from the garden to the office?" heads 1 and 2 find the two
sentences that have a place in common, and of "What color is Greg?" heads 1 and 2 find
"Greg is a swan", head 3 other swans, and head 4 their colours. All of it is learned
from there: the vectors, what is written, and what is looked for.
"""

import collections
import math
import warnings

import keras
import numpy as np
from keras import ops

import keras_sam
from keras_sam.datasets import babi_files

HEADS = 4
WAVES = 6
# A dense controller has a tanh, which hardly bends such values.
SCALE = 0.3
# The length of a word's vector is this, times the word's rarity.
LENGTH = 2.5
# The greatest rarity, and how many sentences a story has beside its own when a word's
# share of the sentences is taken: of two sentences alone most words have a half.
MOST, FEW = 1.5, 2
# How different a word's vector is at each position of what is told, which keeps the
# order of the words.
ORDER = 0.5
# What is asked at a step itself; what was read, and is taken off, at a thought.
FIRST, READ = 2.0, 0.5
# How much a word that was read counts as an answer.
SPOKEN = 0.3
# A word counts e times as much as one so many words before or after it.
DECAY = 1.5


def rarity(stories, vocabulary):
    """How much a word says which sentence of its story it is from: `[words]`.

    The logarithm of the inverse share of a story's sentences that have the word, as in
    inverse document frequency, `MOST` at most: the mean over the stories that have the
    word. Words of questions alone have 0.

    Args:
        stories: List of lists of sentences and questions.
        vocabulary: A `babi.Vocabulary`.
    """
    logs = collections.defaultdict(list)
    for texts in stories:
        told = [set(babi_files.words(text)) for text in texts if "?" not in text]
        count = collections.Counter(word for words in told for word in words)
        for word, times in count.items():
            logs[word].append(math.log((len(told) + FEW) / times))
    means = {word: min(MOST, sum(each) / len(each)) for word, each in logs.items()}
    return np.array([means.get(word, 0.0) for word in vocabulary.words])


def directions(count, size, rng):
    """Unit vectors `[count, size]` that are pushed apart, as few are very alike."""
    vectors = rng.standard_normal((count, size))
    for _ in range(51):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        alike = vectors @ vectors.T - np.eye(count)
        vectors -= 0.5 * alike**3 @ vectors
    return vectors


def told_and_asked(words, tells, vocabulary, word_size, time_size):
    """What a step tells the memory and what it asks.

    Args:
        words: Keras tensor of integers `[batch, time, positions]`.
        tells: Keras tensor of booleans `[batch, time]`: which steps tell something.
        vocabulary: A `babi.Vocabulary`.
        word_size: Integer, W.
        time_size: Number, the factor of the sines and cosines of a sentence's time.

    Returns:
        Two tensors `[batch, time, (1 + HEADS) W + 1]`, for a step and for its thoughts:
        what is told, what each head asks for, and whether to write.
    """

    def embedded(name):
        embed = keras_sam.SentenceEmbedding(
            len(vocabulary.words), word_size - 2 * WAVES, name=name
        )
        return embed(words)

    told, whole = embedded("told"), embedded("asked_whole")
    size = ops.norm(whole, axis=-1, keepdims=True)
    parts = [
        size * keras.layers.UnitNormalization()(embedded(name))
        for name in ("asked_first", "asked_last")
    ]
    timed = keras_sam.SinePositions(WAVES)(whole)
    time = time_size * timed[..., -2 * WAVES :]
    is_told = ops.cast(tells, told.dtype)[..., np.newaxis]

    told = ops.concatenate([told, time], axis=-1) * is_told
    at_first = [*parts, whole, whole]
    later = [part - READ * whole for part in parts]
    later += [-READ * whole, ops.zeros_like(whole)]
    at_first, later = (
        [ops.concatenate([content, time], axis=-1) for content in contents]
        for contents in (at_first, later)
    )
    at_first = [FIRST * asked for asked in at_first]
    nothing, no = ops.zeros_like(told), ops.zeros_like(is_told)
    return (
        ops.concatenate([nothing, *at_first, no], axis=-1),
        ops.concatenate([told, *later, is_told], axis=-1),
    )


def compare(outputs, word_size):
    """The outputs, and what each head read times what was asked for it.

    These are the first outputs at the start. A word's vector differs with its position
    in what is told, so the sum of such products over a word tells where in the sentence
    it stands, whichever word it is: whether "the garden", that is asked about, is north
    of another place or this place north of it.

    Args:
        outputs: Keras tensor `[batch, time, 2 HEADS W or more]` of the memory.
        word_size: Integer, W.

    Returns:
        A tensor `[batch, time, outputs + HEADS W]`.
    """
    reads = HEADS * word_size
    product = outputs[..., :reads] * outputs[..., reads : 2 * reads]
    return ops.concatenate([outputs, product], axis=-1)


def start(model, vocabulary, rarity, rng):
    """Sets the weights that a model of `babi.make_model` starts from.

    Args:
        model: The model. Of a memory that is no SAM or SDNC the embeddings are set.
        vocabulary: A `babi.Vocabulary`.
        rarity: Array `[words]`, see `rarity`.
        rng: A `numpy.random.Generator`.
    """
    told = model.get_layer("told")
    units = directions(*told.embeddings.shape, rng)
    vectors = LENGTH * rarity[:, np.newaxis] * units
    positions = np.arange(told.factors.shape[0], dtype="float32")[:, np.newaxis]
    factors = {
        "told": 1.0 + ORDER * rng.standard_normal(told.factors.shape),
        "asked_whole": np.ones(told.factors.shape),
        "asked_first": np.exp(-positions / DECAY) * np.ones(told.factors.shape),
        "asked_last": np.exp((positions - len(positions)) / DECAY)
        * np.ones(told.factors.shape),
    }
    for name, values in factors.items():
        model.get_layer(name).embeddings.assign(vectors)
        model.get_layer(name).factors.assign(values)
    think = model.get_layer("think_steps")
    if not isinstance(think.layer, keras_sam.SAM | keras_sam.SDNC):
        return
    cell = think.layer.cell
    size, reads = cell.word_size, HEADS * cell.word_size
    copied = size + reads + 1
    if cell.read_heads != HEADS or cell.units < copied + reads:
        warnings.warn(
            f"A memory that finds before it has learned has {HEADS} read heads and at "
            f"least {copied + reads} units. This one starts at random. "
            f"Received: read_heads={cell.read_heads}, units={cell.units}",
            stacklevel=2,
        )
        return
    thoughts = think.thoughts.numpy()
    thoughts[:, :copied] = 0.0  # A thought tells nothing and asks for nothing.
    think.thoughts.assign(thoughts)

    # The controller's first units are what is told, what is asked and whether to write,
    # which are its first inputs, and what was read, its last.
    kernel, bias = cell.controller.get_weights()
    kernel[:, : copied + reads] = 0.0
    kernel[:copied, :copied] = SCALE * np.eye(copied)
    kernel[-reads:, copied : copied + reads] = SCALE * np.eye(reads)
    cell.controller.set_weights([kernel, bias])

    same, columns = np.eye(size) / SCALE, cell.interface_columns
    kernel, bias = cell.interface.get_weights()
    for part in ("vectors", "queries", "write_gates"):
        kernel[:, columns[part]] = 0.0
    kernel[:size, columns["vectors"]] = same
    queries = kernel[:, columns["queries"]]
    queries[size : size + reads] = np.kron(np.eye(HEADS), same)
    # From what was read, but for its time, to what is looked for.
    both = [0.5, 0.5, 0.0, 0.0]
    follow = np.array([[0, 1, 0, 0], [1, 0, 0, 0], both, [-0.5, -0.5, 1, 0]])
    content = same * (np.arange(size) < size - 2 * WAVES)
    queries[copied : copied + reads] = READ * np.kron(follow.T, content)
    kernel[:, columns["queries"]] = queries
    kernel[copied - 1, columns["write_gates"]] = 18.0 / np.tanh(SCALE)
    bias[columns["write_gates"]] = -16.0
    cell.interface.set_weights([kernel, bias])

    # The first outputs are what was read, in which an answer is a word, and, if there
    # are as many, what was asked for it.
    kernel, bias = cell.output_projection.get_weights()
    kernel[:, : 2 * reads] = 0.0
    kernel[-reads:, :reads] = np.eye(reads)
    if cell.output_size >= 2 * reads:
        kernel[size : size + reads, reads : 2 * reads] = np.eye(reads) / SCALE
    cell.output_projection.set_weights([kernel, bias])
    spoken = model.get_layer("answer").get_layer("answer_spoken")
    kernel, bias = spoken.get_weights()
    kernel[: 2 * reads] = 0.0
    numbers = {word: i for i, word in enumerate(vocabulary.words)}
    for column, answer in enumerate(vocabulary.answers):
        if answer in numbers:
            word = np.pad(units[numbers[answer]], (0, 2 * WAVES))
            kernel[:reads, column] = SPOKEN * np.tile(word, HEADS)
    spoken.set_weights([kernel, bias])
