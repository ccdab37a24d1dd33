"""Sentences as vectors: sums over their words."""

from typing import Any, Literal

import keras
from keras import ops

from keras_sam.arguments import check_option, check_positive_integer
from keras_sam.checks import check_numbers
from keras_sam.options import Constraint, Initializer, Regularizer, Shape

SentencePosition = Literal["mask", "table", "encoding"] | None


@keras.saving.register_keras_serializable(package="keras_sam")
class SentenceEmbedding(keras.layers.Layer):
    """Embeds sentences: each as the sum of its words' vectors, by their positions.

    With P words in the longest sentence, word `w[p]` at position p and 0 for padding,

        s = sum_p  f[p] * E[w[p]]       position="mask": f learned, ones at first
        s = sum_p  E[p, w[p]]           position="table": a vector for each pair
        s = sum_p  l[p] * E[w[p]]       position="encoding": l fixed
        s = sum_p  E[w[p]]              position=None: a bag of words

    where `*` is by element and padding adds 0. The first is the encoder of the
    Recurrent Entity Network. The third is the position encoding of the end-to-end
    memory network: of d units and a sentence of J words

        l[p, k] = (1 - p / J) - (k / d) (1 - 2 p / J)     p = 1..J, k = 1..d

    The output carries a Keras mask that leaves out the
    sentences of padding alone, for the layers after it.

    Args:
        vocabulary_size: Integer, one more than the greatest number of a word.
        units: Integer, the size of a sentence's vector.
        position: `"mask"`, `"table"`, `"encoding"` or `None`, see above. Defaults to
            `"mask"`.
        embeddings_initializer: Initializer of E. Defaults to a normal distribution of
            standard deviation 0.1.
        embeddings_regularizer: Regularizer of E. Defaults to `None`.
        embeddings_constraint: Constraint of E. Defaults to `None`.
        **kwargs: As of `keras.layers.Layer`.

    Call arguments:
        words: Integer tensor `[..., P]`, such as `[batch, time, P]`: the words of each
            sentence, 0 where there is none.

    Returns:
        Tensor `[..., units]`.

    Raises:
        ValueError: If a size is not a positive integer, `position` is none of these, or
            `words` has no fixed number of positions or no real numbers.

    Reference: Henaff et al. 2017 (https://arxiv.org/abs/1612.03969), equation 1;
    Sukhbaatar et al. 2015 (https://arxiv.org/abs/1503.08895), section 4.1.

    Example: two stories of two sentences, of which the second story's last is padding.

    >>> layer = keras_sam.SentenceEmbedding(vocabulary_size=9, units=4)
    >>> words = np.array([[[1, 2, 0], [3, 2, 8]], [[1, 2, 7], [0, 0, 0]]])
    >>> layer(words).shape
    TensorShape([2, 2, 4])
    >>> layer.compute_mask(words).numpy().tolist()
    [[True, True], [True, False]]
    """

    def __init__(
        self,
        vocabulary_size: int,
        units: int,
        position: SentencePosition = "mask",
        embeddings_initializer: Initializer | None = None,
        embeddings_regularizer: Regularizer = None,
        embeddings_constraint: Constraint = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = check_positive_integer(
            "vocabulary_size", vocabulary_size
        )
        self.units = check_positive_integer("units", units)
        self.position = check_option(
            "position", position, ("mask", "table", "encoding", None)
        )
        if embeddings_initializer is None:
            embeddings_initializer = keras.initializers.RandomNormal(stddev=0.1)
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.embeddings_regularizer = keras.regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = keras.constraints.get(embeddings_constraint)
        # Integers enter, which a float dtype would round.
        self.autocast = False

    def build(self, words_shape: Shape) -> None:
        positions = words_shape[-1]
        if positions is None:
            raise ValueError(
                "The number of positions must be known when the layer is built. Pad "
                "all sentences to one number of words. "
                f"Received: words.shape={tuple(words_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: positions})
        tables = positions if self.position == "table" else 1
        self.embeddings = self.add_weight(
            shape=(tables * self.vocabulary_size, self.units),
            name="embeddings",
            initializer=self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
        )
        if self.position == "mask":
            self.factors = self.add_weight(
                shape=(positions, self.units), name="factors", initializer="ones"
            )

    def call(self, words: Any) -> Any:
        check_numbers("words", words)
        words = ops.cast(words, "int32")
        rows = words
        if self.position == "table":
            rows += self.vocabulary_size * ops.arange(words.shape[-1], dtype="int32")
        vectors = ops.take(self.embeddings, rows, axis=0)
        if self.position == "mask":
            vectors *= self.factors
        # Keras's types have None among what the functions of its backends return.
        dtype = vectors.dtype  # pyright: ignore[reportOptionalMemberAccess]
        is_word = ops.expand_dims(ops.cast(ops.not_equal(words, 0), dtype), -1)
        if self.position == "encoding":
            vectors *= self._encoding(is_word)
        return ops.sum(vectors * is_word, axis=-2)

    def _encoding(self, is_word: Any) -> Any:
        """The l above, `[..., P, units]`, where `is_word` `[..., P, 1]` is 1."""
        count = ops.maximum(ops.sum(is_word, axis=-2, keepdims=True), 1.0)
        place = ops.cumsum(is_word, axis=-2) / count
        unit = ops.arange(1, self.units + 1, dtype=is_word.dtype) / self.units
        return (1.0 - place) - unit * (1.0 - 2.0 * place)

    def compute_mask(self, words: Any, mask: Any = None) -> Any:
        return ops.any(ops.not_equal(words, 0), axis=-1)

    def compute_output_shape(self, words_shape: Shape) -> Shape:
        return (*words_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "units": self.units,
            "position": self.position,
            "embeddings_initializer": keras.initializers.serialize(
                self.embeddings_initializer
            ),
            "embeddings_regularizer": keras.regularizers.serialize(
                self.embeddings_regularizer
            ),
            "embeddings_constraint": keras.constraints.serialize(
                self.embeddings_constraint
            ),
        }
