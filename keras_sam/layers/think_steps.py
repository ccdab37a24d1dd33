"""Steps of thought: a recurrent layer gets more than one step for an input."""

from typing import Any, Literal, NamedTuple, get_args

import keras
import tensorflow as tf

from keras_sam import checks
from keras_sam.arguments import check_option, check_positive_integer
from keras_sam.options import Shape, TensorLike

ThoughtInputs = Literal["repeat", "blank", "halves"]


class Expanded(NamedTuple):
    """What a layer within `ThinkSteps` is called on, and where each step comes from."""

    inputs: tf.Tensor  # [batch, steps, features]
    mask: tf.Tensor  # booleans [batch, steps]
    source: tf.Tensor  # integers [batch, steps], the step of the inputs
    last: tf.Tensor  # integers [batch, time], the step whose output is given


@keras.saving.register_keras_serializable(package="keras_sam")
class ThinkSteps(keras.layers.Wrapper):
    """Runs a recurrent layer with further steps after those that need thought.

    A memory that is read once a step answers a question of two facts if it has two
    steps for it. And what it reads for a sentence it can write with the sentence only
    at a step after it. For step t with input x[t] and the count n the layer within is
    called on

        x[t],  q + v[1],  ...,  q + v[n]        q = x[t] or 0
        a[t],  b[t] + v[1],  ...,  b[t] + v[n]  where x[t] is a[t] beside b[t]

    with learned vectors v. The output of the last of these is the output of step t, so
    the outputs have the time axis of the inputs. A whole story with all its questions
    takes one pass. Give the loss a `sample_weight`: 1 at the questions, 0 elsewhere.

    Args:
        layer: A recurrent layer of Keras or keras_sam with `return_sequences=True` and
            without `go_backwards`, `return_state` and `stateful`.
        max_steps: Integer, the greatest n. Defaults to `3`.
        inputs: `"repeat"`, the step is read again each time (q = x[t]), `"blank"`
            (q = 0), or `"halves"`: the first half of the features is read at the step
            and the second half at each thought. Defaults to `"repeat"`.
        **kwargs: As of `keras.layers.Layer`.

    Call arguments:
        sequences: Tensor `[batch, time, features]`.
        counts: Integer tensor `[batch, time]`, n for each step, 0 to `max_steps`.
            Greater ones count as `max_steps`.
        sequences_mask: Boolean tensor `[batch, time]` or `None`: masked steps are
            passed over, as by the layer within, and have no further ones. Keras passes
            the mask that `sequences` carries.
        training: Boolean, for the layer within.

    Returns:
        Tensor `[batch, time, output_size]`.

    Raises:
        ValueError: If `layer` is not such a layer, `max_steps` is not a positive
            integer, `inputs` is none of these, `counts` is not of shape
            `[batch, time]`, or an odd number of features has no halves.

    Reference: Csordás & Schmidhuber 2019 (https://arxiv.org/abs/1904.10278) give a DNC
    three blank steps before each answer of bAbI.

    Example: two further steps after the last one.

    >>> memory = keras_sam.NTM(8, memory_slots=16, return_sequences=True)
    >>> think = keras_sam.ThinkSteps(memory, max_steps=2)
    >>> think(np.ones((1, 4, 3), "float32"), counts=np.array([[0, 0, 0, 2]])).shape
    TensorShape([1, 4, 8])
    """

    def __init__(
        self,
        layer: keras.layers.RNN,
        max_steps: int = 3,
        inputs: ThoughtInputs = "repeat",
        **kwargs: Any,
    ) -> None:
        is_recurrent = isinstance(layer, keras.layers.RNN)
        if not is_recurrent or not layer.return_sequences:
            raise ValueError(
                "`layer` must be a recurrent layer with return_sequences=True. "
                f"Received: layer={layer!r}"
            )
        for option in ("go_backwards", "return_state", "stateful"):
            if getattr(layer, option):
                raise ValueError(
                    f"`layer` must not be one with {option}=True. "
                    f"Received: layer={layer!r}"
                )
        super().__init__(layer, **kwargs)
        self.max_steps = check_positive_integer("max_steps", max_steps)
        self.inputs = check_option("inputs", inputs, get_args(ThoughtInputs))
        self.supports_masking = True

    def build(self, sequences_shape: Shape, counts_shape: Shape | None = None) -> None:
        batch, _, features = self._read_shape(sequences_shape)
        self.thoughts = self.add_weight(
            shape=(self.max_steps, features),
            name="thoughts",
            initializer=keras.initializers.RandomNormal(stddev=0.5),
            dtype=self.variable_dtype,
        )
        # Of another number of steps than the inputs.
        super().build((batch, None, features))

    def call(
        self,
        sequences: TensorLike,
        counts: TensorLike,
        sequences_mask: TensorLike | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        inputs, mask, _, last = self.expand(sequences, counts, sequences_mask)
        outputs = self.layer(inputs, mask=mask, training=training)
        return tf.gather(outputs, last, axis=1, batch_dims=1)

    def expand(
        self,
        sequences: TensorLike,
        counts: TensorLike,
        sequences_mask: TensorLike | None = None,
    ) -> Expanded:
        """The steps that the layer within takes, to see what it does at each.

        Args:
            sequences: As of a call.
            counts: As of a call.
            sequences_mask: As of a call.

        Returns:
            A tuple with the fields `inputs` `[batch, steps, features]`, `mask`
            `[batch, steps]`, `source` `[batch, steps]` (the step of the sequences that
            each was made of) and `last` `[batch, time]` (the step whose output is that
            of a step of the sequences).

        Example:

        >>> memory = keras_sam.NTM(8, memory_slots=16, return_sequences=True)
        >>> think = keras_sam.ThinkSteps(memory, max_steps=2)
        >>> counts = np.array([[0, 0, 0, 2]])
        >>> _ = think(np.ones((1, 4, 3), "float32"), counts)
        >>> think.expand(np.ones((1, 4, 3), "float32"), counts).source.numpy()
        array([[0, 1, 2, 3, 3, 3]], dtype=int32)
        """
        sequences = checks.as_sequences(sequences, self.compute_dtype)
        mask = checks.as_mask(sequences_mask, sequences)
        counts = checks.as_numbers("counts", counts, tf.int32)
        checks.check_mask(counts, sequences)
        counts = tf.clip_by_value(tf.cast(counts, tf.int32), 0, self.max_steps)
        if mask is None:
            mask = tf.ones_like(counts, tf.bool)
        readings = 1 + tf.where(mask, counts, 0)
        last = tf.cumsum(readings, axis=1) - 1
        source, thought, exists = _laid_out(readings, last)
        inputs = tf.gather(sequences, source, axis=1, batch_dims=1)
        is_first = (thought == 0)[..., tf.newaxis]
        if self.inputs == "blank":
            inputs *= tf.cast(is_first, inputs.dtype)
        elif self.inputs == "halves":
            inputs = tf.where(is_first, *tf.split(inputs, 2, axis=-1))
        # The first reading of a step has no vector.
        vectors = tf.pad(tf.convert_to_tensor(self.thoughts), [[1, 0], [0, 0]])
        inputs += tf.gather(vectors, thought)
        inner_mask = exists & tf.gather(mask, source, axis=1, batch_dims=1)
        return Expanded(inputs, inner_mask, source, last)

    def compute_output_shape(
        self, sequences_shape: Shape, counts_shape: Shape | None = None
    ) -> Shape:
        return self.layer.compute_output_shape(self._read_shape(sequences_shape))

    def compute_output_spec(
        self,
        sequences: Any,
        counts: Any,
        sequences_mask: Any = None,
        training: bool = False,
    ) -> keras.KerasTensor:
        checks.check_sequences(sequences)
        checks.check_mask(counts, sequences)
        shape = self.compute_output_shape(tuple(sequences.shape))
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def _read_shape(self, sequences_shape):
        """The shape of what the layer within reads of such sequences."""
        *leading, features = sequences_shape
        if self.inputs != "halves":
            return (*leading, features)
        if features % 2:
            raise ValueError(
                'With inputs="halves" the number of features must be even: half of '
                "them for the step and half for its thoughts. "
                f"Received: sequences.shape={tuple(sequences_shape)}"
            )
        return (*leading, features // 2)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "max_steps": self.max_steps,
            "inputs": self.inputs,
        }


def _laid_out(readings, last):
    """Where each step of the layer within comes from.

    Args:
        readings: Integer tensor `[batch, time]`, how often each step is read.
        last: Integer tensor `[batch, time]`, the number of its last reading.

    Returns:
        For as many steps as the longest sequence has: the step that each reads, which
        of its readings it is, and whether the sequence is so long; `[batch, steps]`.
    """
    number = tf.range(tf.reduce_max(last[:, -1]) + 1)
    number = tf.broadcast_to(number, (tf.shape(last)[0], tf.size(number)))
    source = tf.searchsorted(last, number)
    exists = source < tf.shape(last)[1]
    source = tf.where(exists, source, 0)
    first = tf.gather(last - readings + 1, source, axis=1, batch_dims=1)
    return source, tf.where(exists, number - first, 0), exists
