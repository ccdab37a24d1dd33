"""The end-to-end memory network: hops of attention over stored sentences."""

from typing import Any, Literal

import keras
from keras import ops

from keras_sam.arguments import (
    check_boolean,
    check_option,
    check_positive_integer,
    check_rate,
)
from keras_sam.checks import check_numbers
from keras_sam.layers.sentence_embedding import SentenceEmbedding, SentencePosition
from keras_sam.options import Shape

# What the softmax sees of a fact that is padding: finite in half precision, too.
NOWHERE = -3e4


@keras.saving.register_keras_serializable(package="keras_sam")
class EndToEndMemory(keras.layers.Layer):
    """Answers a question by several hops of attention over stored facts.

    The network of [Sukhbaatar et al., 2015](https://arxiv.org/abs/1503.08895). A hop
    compares the question with all facts and adds what the like ones say. For the
    facts x_i and the question q, with embeddings A, B and C of sentences,

        m_i = A(x_i) + T_A[i]     c_i = C(x_i) + T_C[i]     u = B(q)
        p = softmax(u^T m)        attention, equation 1
        o = sum_i p_i c_i         response, equation 2
        u = u + o                 adjacent tying, equation 4
        u = H u + o               layer-wise tying, equation 7

    T_A and T_C are learned vectors of a fact's age: row 0 is the last fact's. With
    adjacent tying A of a hop is C of the hop before, and B is A of the first hop. With
    layer-wise tying all hops have the same A and C, and B is another. The layer gives
    the u of the last hop. A `keras.layers.Dense(answers, use_bias=False)` after it is
    the paper's answer, equation 3.

    Args:
        vocabulary_size: Integer, one more than the greatest number of a word.
        units: Integer d, the size of a sentence's vector.
        hops: Integer K. Defaults to `3`.
        tying: `"adjacent"` or `"layer_wise"`, see above. Defaults to `"adjacent"`.
        position: What `keras_sam.SentenceEmbedding` makes of the order of words:
            `"encoding"` is the paper's, `None` a bag of words. Defaults to
            `"encoding"`.
        max_facts: Integer, how many ages there are; older facts are not read. `None`:
            a fact's age does not count. Defaults to `50`.
        time_noise: Number in `[0, 1)`: in training each fact is made older by so many
            empty facts for each fact after it, at random. The paper's is 0.1. Defaults
            to `0.0`.
        linear_start: Boolean, whether hops begin without the softmax: p = u^T m, until
            you call `end_linear_start()`. Defaults to `False`.
        return_logits: Boolean, whether the layer gives C u with the last C, a logit
            for each word, instead of u: the paper's answer with adjacent tying.
            Defaults to `False`.
        seed: Integer, of the time noise. Defaults to `None`.
        **kwargs: As of `keras.layers.Layer`.

    Call arguments:
        facts: Integer tensor `[batch, facts, P]`: the words of each fact from the
            oldest to the last, 0 where there is none. A fact without words is padding.
        question: Integer tensor `[batch, P]`.
        training: Boolean, whether there is time noise.

    Returns:
        Tensor `[batch, units]`, or `[batch, vocabulary_size]` with `return_logits`.

    Raises:
        ValueError: If a size is not a positive integer, an option is unknown,
            `time_noise` is not in `[0, 1)`, logits are asked for with layer-wise
            tying or with `position="table"`, or the shapes do not fit.

    Example: two facts, and one of padding.

    >>> layer = keras_sam.EndToEndMemory(vocabulary_size=9, units=4)
    >>> facts = np.array([[[1, 2, 0], [3, 2, 8], [0, 0, 0]]])
    >>> question = np.array([[4, 2, 0]])
    >>> layer(facts, question).shape
    TensorShape([1, 4])
    >>> layer.attention(facts, question).shape  # batch, hops, facts
    TensorShape([1, 3, 3])
    """

    def __init__(
        self,
        vocabulary_size: int,
        units: int,
        hops: int = 3,
        tying: Literal["adjacent", "layer_wise"] = "adjacent",
        position: SentencePosition = "encoding",
        max_facts: int | None = 50,
        time_noise: float = 0.0,
        linear_start: bool = False,
        return_logits: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = check_positive_integer(
            "vocabulary_size", vocabulary_size
        )
        self.units = check_positive_integer("units", units)
        self.hops = check_positive_integer("hops", hops)
        self.tying = check_option("tying", tying, ("adjacent", "layer_wise"))
        if max_facts is not None:
            max_facts = check_positive_integer("max_facts", max_facts)
        self.max_facts = max_facts
        self.time_noise = check_rate("time_noise", time_noise)
        self.linear_start = check_boolean("linear_start", linear_start)
        self.return_logits = check_boolean("return_logits", return_logits)
        if return_logits and tying == "layer_wise":
            raise ValueError(
                "With layer-wise tying the answer has weights of its own: put a Dense "
                "layer after this one. Received: return_logits=True, "
                "tying='layer_wise'"
            )
        if return_logits and position == "table":
            raise ValueError(
                "A word has a vector for each position, and so no logit: choose "
                "another `position`. Received: return_logits=True, position='table'"
            )
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        # With adjacent tying hop k reads by table k and answers by table k + 1; with
        # layer-wise tying the tables are A, C and B.
        self.tables = [
            SentenceEmbedding(
                vocabulary_size,
                units,
                position,
                dtype=self.dtype_policy,
                name=f"table_{i}",
            )
            for i in range(self.hops + 1 if tying == "adjacent" else 3)
        ]
        self.position = self.tables[0].position
        # Integers enter, which a float dtype would round.
        self.autocast = False

    def build(self, facts_shape: Shape, question_shape: Shape) -> None:
        if len(facts_shape) != 3 or len(question_shape) != 2:
            raise ValueError(
                "`facts` must be [batch, facts, words] and `question` [batch, words]. "
                f"Received: facts.shape={tuple(facts_shape)}, "
                f"question.shape={tuple(question_shape)}"
            )
        if facts_shape[-1] != question_shape[-1]:
            raise ValueError(
                "Pad the sentences of `facts` and `question` to one number of words. "
                f"Received: facts.shape={tuple(facts_shape)}, "
                f"question.shape={tuple(question_shape)}"
            )
        for table in self.tables:
            table.build(question_shape)
        if self.max_facts is not None:
            self.ages = [
                self.add_weight(
                    shape=(self.max_facts, self.units),
                    name=f"ages_{i}",
                    initializer=keras.initializers.RandomNormal(stddev=0.1),
                )
                for i in range(self.hops + 1 if self.tying == "adjacent" else 2)
            ]
        if self.tying == "layer_wise":
            self.between_hops = self.add_weight(
                shape=(self.units, self.units),
                name="between_hops",
                initializer=keras.initializers.RandomNormal(stddev=0.1),
            )
        if self.linear_start:
            self.is_linear = self.add_weight(
                shape=(), name="is_linear", initializer="ones", trainable=False
            )

    def end_linear_start(self) -> None:
        """Puts the softmax into the hops, from now on.

        Raises:
            ValueError: If the layer has no linear start, or is not built.
        """
        if not self.linear_start or not self.built:
            raise ValueError(
                "A linear start ends after the layer was built with linear_start=True. "
                f"Received: linear_start={self.linear_start}, built={self.built}"
            )
        self.is_linear.assign(0.0)

    def call(self, facts: Any, question: Any, training: bool = False) -> Any:
        u, _ = self._hops(facts, question, training)
        if not self.return_logits:
            return u
        words = ops.cast(self.tables[-1].embeddings, u.dtype)
        return ops.matmul(u, ops.transpose(words))

    def attention(self, facts: Any, question: Any) -> Any:
        """What each hop reads: p, `[batch, hops, facts]`, for facts and a question.

        Args:
            facts: As of a call.
            question: As of a call.
        """
        if not self.built:
            self(facts, question)
        _, attention = self._hops(facts, question, training=False)
        return ops.stack(attention, axis=1)

    def _hops(self, facts, question, training):
        check_numbers("facts", facts)
        check_numbers("question", question)
        facts, question = (ops.cast(each, "int32") for each in (facts, question))
        is_fact = ops.any(ops.not_equal(facts, 0), axis=-1)
        if self.max_facts is not None:
            age = self._age(is_fact, training)
            is_fact = ops.logical_and(is_fact, age < self.max_facts)
            age = ops.minimum(age, self.max_facts - 1)

        def stored(i):
            table: Any = self.tables[i]
            vectors = table(facts)
            if self.max_facts is not None:
                vectors += ops.take(ops.cast(self.ages[i], vectors.dtype), age, axis=0)
            return vectors

        adjacent = self.tying == "adjacent"
        of_question: Any = self.tables[0 if adjacent else 2]
        u = of_question(question)
        read, said = stored(0), stored(1)
        attention = []
        for hop in range(self.hops):
            if adjacent and hop:
                read, said = said, stored(hop + 1)
            p = self._weights(ops.einsum("bd,bfd->bf", u, read), is_fact)
            response = ops.einsum("bf,bfd->bd", p, said)
            if not adjacent:
                u = ops.matmul(u, ops.cast(self.between_hops, u.dtype))
            u += response
            attention.append(p)
        return u, attention

    def _age(self, is_fact, training):
        """How many facts come after each, `[batch, facts]`."""
        later = ops.cast(is_fact, "int32")
        if training and self.time_noise:
            noise = keras.random.uniform(ops.shape(later), seed=self.seed_generator)
            later += later * ops.cast(noise < self.time_noise, "int32")
        # The sum from the other end, without the fact itself.
        return ops.sum(later, axis=-1, keepdims=True) - ops.cumsum(later, axis=-1)

    def _weights(self, likeness, is_fact):
        weights: Any = ops.softmax(ops.where(is_fact, likeness, NOWHERE))
        if self.linear_start:
            weights = ops.where(self.is_linear > 0.5, likeness, weights)
        # Where there is no fact at all the softmax is not 0.
        return weights * ops.cast(is_fact, weights.dtype)

    def compute_mask(self, facts: Any, question: Any, mask: Any = None) -> None:
        return None  # There is no time axis left.

    def compute_output_shape(self, facts_shape: Shape, question_shape: Shape) -> Shape:
        width = self.vocabulary_size if self.return_logits else self.units
        return (facts_shape[0], width)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "units": self.units,
            "hops": self.hops,
            "tying": self.tying,
            "position": self.position,
            "max_facts": self.max_facts,
            "time_noise": self.time_noise,
            "linear_start": self.linear_start,
            "return_logits": self.return_logits,
            "seed": self.seed,
        }
