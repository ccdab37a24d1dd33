"""A memory of bAbI that starts as an associative one: it finds before it has learned.

A sentence is told as the sum of its words' vectors beside its time, and a question asks
in the same way. At the start the layer writes what it is told and looks for what it is
asked and for what it has just read, so that a question finds the sentences that share
its rare words. All of it is learned from there: the vectors, what is written, and what
is looked for at each step of thought.
"""

import collections
import math

import keras
import numpy as np
from keras import ops

import keras_sam
from keras_sam.datasets import babi_files

WAVES = 7
# A dense controller has a tanh, which hardly bends such values.
SCALE = 0.3


def rarity(stories, vocabulary):
    """How little a word says which sentence it is from: `[words]`.

    The logarithm of the inverse share of the sentences that have the word, as in
    inverse document frequency. Words of questions alone have 0.
    """
    told = collections.Counter(
        text for _, texts, _ in stories for text in texts if "?" not in text
    )
    count = collections.Counter()
    for text, times in told.items():
        count.update(dict.fromkeys(babi_files.words(text), times))
    logs = {word: math.log(told.total() / n) for word, n in count.items()}
    return np.array([logs.get(word, 0.0) for word in vocabulary.words])


def told_and_asked(words, questions, vocabulary, word_size, time_size):
    """What a step tells the memory and what it asks, `[batch, time, word_size]` each.

    The first is 0 at questions, the second elsewhere.

    Args:
        words: Keras tensor of integers `[batch, time, positions]`.
        questions: Keras tensor of booleans `[batch, time]`.
        vocabulary: A `babi.Vocabulary`.
        word_size: Integer.
        time_size: Number, the factor of the sines and cosines of a sentence's time.
    """
    both = []
    for name, kept in (("told", ~questions), ("asked", questions)):
        kept = kept[..., np.newaxis]
        embed = keras_sam.SentenceEmbedding(
            len(vocabulary.words), word_size - 2 * WAVES, name=name
        )
        content = embed(ops.where(kept, words, 0))
        timed = keras_sam.SinePositions(WAVES)(content)
        times = timed[..., -2 * WAVES :] * (time_size * ops.cast(kept, timed.dtype))
        both.append(ops.concatenate([content, times], axis=-1))
    return both


def start(model, rarity, rng):
    """Sets the weights that a model of `babi.make_model` starts from.

    Args:
        model: The model.
        rarity: Array `[words]`, see `rarity`.
        rng: A `numpy.random.Generator`.
    """
    told, asked = (model.get_layer(name) for name in ("told", "asked"))
    vectors = 0.2 * rarity[:, np.newaxis] * rng.standard_normal(told.embeddings.shape)
    for layer in (told, asked):
        layer.embeddings.assign(vectors)
    think = model.get_layer("think_steps")
    if isinstance(think.layer, keras.layers.LSTM):
        return
    cell = think.layer.cell
    size, reads = cell.word_size, cell.read_heads * cell.word_size
    thoughts = think.thoughts.numpy()
    thoughts[:, : 2 * size] = 0.0  # A thought tells nothing and asks for nothing.
    think.thoughts.assign(thoughts)

    # The controller's first units are what is told, what is asked and what was read,
    # of which the first two are its first inputs and the third are its last.
    copied = 2 * size + reads
    kernel, bias = cell.controller.get_weights()
    kernel[:, :copied] = 0.0
    kernel[: 2 * size, : 2 * size] = SCALE * np.eye(2 * size)
    kernel[-reads:, 2 * size : copied] = SCALE * np.eye(reads)
    cell.controller.set_weights([kernel, bias])

    # What is told is written. A head looks for that, for twice what is asked and for
    # half of what it has read.
    same, columns = np.eye(size) / SCALE, cell.interface_columns
    kernel, bias = cell.interface.get_weights()
    for part in ("vectors", "queries"):
        kernel[:, columns[part]] = 0.0
    kernel[:size, columns["vectors"]] = same
    kernel[: 2 * size, columns["queries"]] = np.tile(
        np.concatenate([same, 2.0 * same]), cell.read_heads
    )
    kernel[2 * size : copied, columns["queries"]] = 0.5 / SCALE * np.eye(reads)
    cell.interface.set_weights([kernel, bias])
