"""bAbI a word a step, as in the papers of the DNC and SAM, for examples/train.py.

The data is that of `keras_sam.datasets.Babi`, form "words": an answer of several words
is asked for a word at each `-`. A register keeps the words of the sentence so far, so
that what a step tells or asks is that of a sentence whose last words have not come yet.
"""

import keras
import numpy as np
import tensorflow as tf
from babi import BabiProblem, Vocabulary
from keras import ops

from keras_sam.datasets.babi import ANSWER_STEP

FULL_STOP = "."


@keras.saving.register_keras_serializable(package="examples")
class SentenceSoFar(keras.layers.Layer):
    """The words of each step's sentence up to the step.

    Takes words `[batch, time, 1]` and returns `[batch, time, size]`, from a sentence's
    first word on and then zeros. A longer sentence has lost its first words.

    Args:
        size: Integer, how many words are kept.
        full_stop: Integer, the word after which a sentence begins.
        answer_step: Integer, another one, if not more of them come.
    """

    def __init__(self, size, full_stop, answer_step, **kwargs):
        super().__init__(**kwargs)
        self.size, self.full_stop, self.answer_step = size, full_stop, answer_step

    def call(self, words):
        words = words[..., 0]
        before = _shifted(words, 1)
        begins = (before == self.full_stop) | (
            (before == self.answer_step) & (words != self.answer_step)
        )
        # Two steps are of one sentence if as many sentences have begun.
        sentence = ops.cumsum(ops.cast(begins, "int32"), axis=1) + 1
        count = sum(
            ops.cast(_shifted(sentence, n) == sentence, "int32")
            for n in range(1, self.size)
        )
        # From the word of n steps ago to the word at each position.
        latest = ops.stack([_shifted(words, n) for n in range(self.size)], axis=-1)
        ago = count[..., np.newaxis] - ops.arange(self.size)
        kept = ops.take_along_axis(latest, ops.maximum(ago, 0), axis=-1)
        is_there = (ago >= 0) & ops.not_equal(words, 0)[..., np.newaxis]
        return ops.where(is_there, kept, 0)

    def compute_output_shape(self, words_shape):
        return (*words_shape[:-1], self.size)

    def get_config(self):
        names = ("size", "full_stop", "answer_step")
        return super().get_config() | {name: getattr(self, name) for name in names}


def _shifted(array, steps):
    """What was there so many steps before, and zeros."""
    padded = ops.pad(array, ((0, 0), (steps, 0)))
    return padded[:, : ops.shape(array)[1]]


class WordVocabulary(Vocabulary):
    """The words and answers of stories that have a word at each step."""

    def split(self, text):
        return [text]


class WordsProblem(BabiProblem):
    """What examples/train.py needs to know; see `sequences.SequenceProblem`."""

    vocabulary_class = WordVocabulary

    @staticmethod
    def read_steps(words, vocabulary, embedding):
        stop, answer = map(vocabulary.words.index, (FULL_STOP, ANSWER_STEP))
        sentences = SentenceSoFar(embedding["register"], stop, answer)(words)
        return (
            sentences,
            ops.equal(words[..., 0], stop),
            ops.equal(words[..., 0], answer),
        )

    def sentences(self, stories):
        return [_sentences(words) for _, words, _ in stories]

    def text_to_words(self, stories, table):
        text = tf.strings.lower(tf.strings.strip(stories))
        text = tf.strings.regex_replace(text, r"[^\w?\n]+", " ")
        lines = tf.strings.split(text, "\n")
        flat = tf.strings.strip(lines.flat_values)
        flat = tf.where(
            tf.strings.regex_full_match(flat, r".*\?"),
            tf.strings.regex_replace(flat, r"\?", f" ? {ANSWER_STEP}"),
            flat + f" {FULL_STOP}",
        )
        told = lines.with_flat_values(flat)
        words = tf.strings.split(tf.strings.reduce_join(told, axis=1, separator=" "))
        numbers = tf.ragged.map_flat_values(table.lookup, words)
        return numbers.to_tensor()[..., tf.newaxis], numbers.row_lengths()


def _sentences(words):
    """The sentences and questions that a story's words make."""
    text = " ".join(words)
    for end in (FULL_STOP, ANSWER_STEP):
        text = text.replace(f" {end}", f" {end}\n")
    return [line.strip() for line in text.splitlines()]
