"""The episodic memory of the dynamic memory network: passes over facts, gated."""

from typing import Any

import keras
from keras import ops

from keras_sam.arguments import check_boolean, check_positive_integer
from keras_sam.layers.end_to_end_memory import NOWHERE
from keras_sam.options import Shape


class _Episode(keras.layers.Layer):
    """RNN cell of a pass: a GRU that a fact's gate lets through.

    The inputs are `[batch, units + 1]`, a fact and its gate.
    """

    def __init__(self, units, attention_gru, **kwargs):
        super().__init__(**kwargs)
        self.state_size = self.output_size = units
        self.attention_gru = attention_gru
        self.gru = keras.layers.GRUCell(units, name="gru", dtype=self.dtype_policy)

    def build(self, input_shape):
        self.gru.build((*input_shape[:-1], input_shape[-1] - 1))

    def call(self, inputs, states):
        (before,) = states
        fact, gate = inputs[:, :-1], inputs[:, -1:]
        if self.attention_gru:
            new = self._candidate(fact, before)
        else:
            new, _ = self.gru(fact, [before])
        state = gate * new + (1.0 - gate) * before
        return state, [state]

    def _candidate(self, fact, before):
        """What a GRU would take over if its update gate were open."""
        units, gru = self.state_size, self.gru
        bias: Any = ops.convert_to_tensor(gru.bias)
        of_fact = ops.matmul(fact, gru.kernel) + bias[0]
        of_state = ops.matmul(before, gru.recurrent_kernel) + bias[1]
        reset = ops.sigmoid(
            of_fact[:, units : 2 * units] + of_state[:, units : 2 * units]
        )
        return ops.tanh(of_fact[:, 2 * units :] + reset * of_state[:, 2 * units :])


@keras.saving.register_keras_serializable(package="keras_sam")
class DynamicMemory(keras.layers.Layer):
    """Answers a question by several passes over facts, each gated by the ones before.

    The episodic memory of the dynamic memory network of
    [Kumar et al., 2016](https://arxiv.org/abs/1506.07285). In pass i each fact c_t gets
    a gate from the question q and the memory m of the pass before:

        z = [c, m, q, c * q, c * m, |c - q|, |c - m|, c^T W q, c^T W m]
        g = sigmoid(W_2 tanh(W_1 z + b_1) + b_2)            gate
        h_t = g_t GRU(c_t, h_t-1) + (1 - g_t) h_t-1         episode
        m = GRU(h_T, m)                                     memory, q at first

    With `attention_gru` the layer is that of
    [Xiong et al., 2016](https://arxiv.org/abs/1603.01417) (DMN+), where the gates of
    all facts sum to 1 and take the place of the GRU's update gate, and each pass has
    weights of its own for the memory:

        z = [c * q, c * m, |c - q|, |c - m|]
        g = softmax_t(W_2 tanh(W_1 z + b_1) + b_2)          equations 8 to 10
        h_t = g_t h~_t + (1 - g_t) h_t-1                    equation 12
        m = ReLU(W_i [m, h_T, q] + b_i)                     equation 13

    with the GRU's candidate h~. Facts and question enter as vectors: put a
    `keras_sam.SentenceEmbedding` before the layer, and for DMN+ a
    `keras.layers.Bidirectional` GRU over the facts.

    Args:
        units: Integer, the size of facts, question and memory.
        passes: Integer. Defaults to `3`.
        attention_gru: Boolean, see above. Defaults to `False`.
        **kwargs: As of `keras.layers.Layer`.

    Call arguments:
        facts: Tensor `[batch, facts, units]`.
        question: Tensor `[batch, units]`.
        facts_mask: Boolean tensor `[batch, facts]` or `None`: masked facts have gates
            of 0. Keras passes the mask that `facts` carries.

    Returns:
        The memory after the last pass, `[batch, units]`.

    Raises:
        ValueError: If a size is not a positive integer, or the shapes are not these.

    Example:

    >>> words = np.array([[[1, 2, 0], [3, 2, 8], [0, 0, 0]]])
    >>> embed = keras_sam.SentenceEmbedding(9, units=4, position="encoding")
    >>> layer = keras_sam.DynamicMemory(units=4)
    >>> facts, question = embed(words), embed(np.array([[4, 2, 0]]))
    >>> layer(facts, question).shape
    TensorShape([1, 4])
    >>> layer.attention(facts, question).shape  # batch, passes, facts
    TensorShape([1, 3, 3])
    """

    def __init__(
        self,
        units: int,
        passes: int = 3,
        attention_gru: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = check_positive_integer("units", units)
        self.passes = check_positive_integer("passes", passes)
        self.attention_gru = check_boolean("attention_gru", attention_gru)
        self.supports_masking = True
        inner = {"dtype": self.dtype_policy}
        self.episode = keras.layers.RNN(
            _Episode(units, attention_gru, **inner), name="episode", **inner
        )
        self.gate_hidden = keras.layers.Dense(
            units, activation="tanh", name="gate_hidden", **inner
        )
        self.gate = keras.layers.Dense(1, name="gate", **inner)
        if attention_gru:
            self.updates = [
                keras.layers.Dense(
                    units, activation="relu", name=f"update_{i}", **inner
                )
                for i in range(self.passes)
            ]
        else:
            self.likeness = keras.layers.Dense(
                units, use_bias=False, name="likeness", **inner
            )
            self.update = keras.layers.GRUCell(units, name="update", **inner)

    def build(self, facts_shape: Shape, question_shape: Shape) -> None:
        of_units = all(s[-1] == self.units for s in (facts_shape, question_shape))
        if len(facts_shape) != 3 or len(question_shape) != 2 or not of_units:
            raise ValueError(
                f"`facts` must be [batch, facts, {self.units}] and `question` [batch, "
                f"{self.units}], as units={self.units} says. Received: facts.shape="
                f"{tuple(facts_shape)}, question.shape={tuple(question_shape)}"
            )
        batch, width = facts_shape[0], self.units
        features = 4 * width if self.attention_gru else 7 * width + 2
        self.gate_hidden.build((batch, None, features))
        self.gate.build((batch, None, width))
        self.episode.build((batch, None, width + 1))
        if self.attention_gru:
            for update in self.updates:
                update.build((batch, 3 * width))
        else:
            self.likeness.build((batch, width))
            self.update.build((batch, width))

    def call(self, facts: Any, question: Any, facts_mask: Any = None) -> Any:
        memory, _ = self._remember(facts, question, facts_mask)
        return memory

    def attention(self, facts: Any, question: Any, facts_mask: Any = None) -> Any:
        """The gates of each pass, `[batch, passes, facts]`.

        Args:
            facts: As of a call.
            question: As of a call.
            facts_mask: As of a call. Defaults to the mask that `facts` carries.
        """
        if facts_mask is None:
            facts_mask = getattr(facts, "_keras_mask", None)
        if not self.built:
            self(facts, question)
        _, gates = self._remember(facts, question, facts_mask)
        return ops.stack(gates, axis=1)

    def _remember(self, facts, question, mask):
        facts, question = (
            ops.convert_to_tensor(each, self.compute_dtype)
            for each in (facts, question)
        )
        memory, gates = question, []
        for number in range(self.passes):
            gate = self._gates(facts, question, memory, mask)
            episode = self.episode(
                ops.concatenate([facts, ops.expand_dims(gate, -1)], axis=-1)
            )
            if self.attention_gru:
                known = ops.concatenate([memory, episode, question], axis=-1)
                memory = self.updates[number](known)
            else:
                memory, _ = self.update(episode, [memory])
            gates.append(gate)
        return memory, gates

    def _gates(self, facts, question, memory, mask):
        q, m = ops.expand_dims(question, 1), ops.expand_dims(memory, 1)
        alike = [facts * q, facts * m, ops.abs(facts - q), ops.abs(facts - m)]
        if not self.attention_gru:
            of_all = ops.ones_like(facts)
            products = [
                ops.sum(facts * self.likeness(each), axis=-1, keepdims=True)
                for each in (q, m)
            ]
            alike = [facts, of_all * m, of_all * q, *alike, *products]
        hidden = self.gate_hidden(ops.concatenate(alike, axis=-1))
        logits = ops.squeeze(self.gate(hidden), axis=-1)
        if mask is not None:
            mask = ops.cast(mask, "bool")
            logits = ops.where(mask, logits, NOWHERE)
        if not self.attention_gru:
            return ops.sigmoid(logits)
        gates: Any = ops.softmax(logits)
        # Where there is no fact at all the softmax is not 0.
        return gates if mask is None else gates * ops.cast(mask, gates.dtype)

    def compute_mask(self, facts: Any, question: Any, mask: Any = None) -> None:
        return None  # There is no time axis left.

    def compute_output_shape(self, facts_shape: Shape, question_shape: Shape) -> Shape:
        return (facts_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "passes": self.passes,
            "attention_gru": self.attention_gru,
        }
