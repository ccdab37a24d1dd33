"""The cell of a Stack RNN: continuous stacks that it pushes to and pops from."""

from typing import Any, NamedTuple, Unpack

import keras
import tensorflow as tf

from keras_sam.arguments import check_boolean, check_positive_integer
from keras_sam.cells.base import MemoryCell, Part
from keras_sam.options import BatchSize, Controller, SparseCellOptions

EMPTY = -1.0  # what a stack holds where nothing was pushed


class StackState(NamedTuple):
    """State of a Stack RNN; S stacks of N numbers, of which the cell sees k."""

    memory: tf.Tensor  # [batch, N, S], the tops of the stacks first
    read_vectors: tf.Tensor  # [batch, k, S], the first of them
    controller: Any  # the controller's own states


@keras.saving.register_keras_serializable(package="keras_sam")
class StackRNNCell(MemoryCell):
    """RNN cell with stacks of numbers: push, pop, no-op.

    For `keras.layers.RNN`; `keras_sam.StackRNN` is the layer.

    The cell of [Joulin & Mikolov, 2015](https://arxiv.org/abs/1503.01007), section 3.2.
    For each stack s, with i = 0 at its top,

        h    = sigmoid(U x + R h' + P s'[:k])                     the controller
        a    = softmax(A h)                                       push, pop, no-op
        s[0] = a_push sigmoid(D h) + a_pop s'[1] + a_no-op s'[0]
        s[i] = a_push s'[i-1] + a_pop s'[i+1] + a_no-op s'[i]
        y    = V h                                                the output

    where a prime marks the step before. The controller sees the k numbers at the top of
    each stack. An empty place is -1, and so is what a pop brings in at the bottom. A
    push onto a full stack loses the number at the bottom.

    The default controller has no R, as the paper's for formal languages: what such a
    network knows of the past is on its stacks. The paper's controller with R is
    `keras.layers.SimpleRNNCell(units, activation="sigmoid")`.

    With `round_actions` an action at inference is one of push, pop and no-op, the most
    probable one (the first of equals). In training it stays a mixture, of the
    probabilities a: a rounded action has no gradient. Traces are of inference.

    Args:
        units: Integer, the size of the controller. The paper's is 40.
        memory_slots: Integer N, how many numbers a stack holds; no weight depends on
            N. Defaults to `128`.
        stacks: Integer S. Defaults to `10`.
        read_depth: Integer k, at most N, how many numbers of each stack the controller
            sees. Defaults to `2`.
        no_op: Boolean, whether a stack may also stay as it is. Defaults to `True`.
        round_actions: Boolean, whether actions are rounded at inference. Defaults to
            `False`.
        controller: `"dense"` (feed-forward, sigmoid), `"lstm"` or any Keras RNN cell,
            whose size is then its own; `units` is the width of the output. Defaults to
            `"dense"`.
        **kwargs: The arguments that `keras_sam.DNCCell` has from `output_size` on, but
            not `initial_memory` and `initial_read_vectors`: stacks start empty.

    Call arguments:
        inputs: Tensor `[batch, features]`, one time step.
        states: List of tensors as `get_initial_state` or the step before returns.
        training: Boolean, whether dropout is active and actions stay mixtures.

    Returns:
        The output `[batch, output_size]` and the list of new states.

    Raises:
        ValueError: If a size is not a positive integer, `read_depth` exceeds N, an
            option is unknown, or the dtype is a half precision.

    The state has the fields `memory` `[batch, N, S]`, the top first, `read_vectors`
    `[batch, k, S]` and `controller`; a trace also has `actions` `[batch, S, 3]`, the
    probabilities of push, pop and no-op (`[batch, S, 2]` without no-op), and
    `pushed_values` `[batch, S]`, sigmoid(D h). `get_initial_state(memory=)` takes what
    the stacks hold from their tops on.

    Example:

    >>> cell = keras_sam.StackRNNCell(40, stacks=3, round_actions=True)
    >>> states = cell.get_initial_state(batch_size=2)
    >>> output, states = cell(np.ones((2, 4), "float32"), states)
    >>> output.shape
    TensorShape([2, 40])
    >>> cell.unpack_state(states).memory.shape
    TensorShape([2, 128, 3])
    """

    State = StackState
    constant_memory = EMPTY
    controller_activation = "sigmoid"
    output_sees_reads = False
    refused_arguments = (
        *("initial_memory", "initial_read_vectors"),
        *("word_size", "read_heads"),
    )

    def __init__(
        self,
        units: int,
        memory_slots: int = 128,
        stacks: int = 10,
        read_depth: int = 2,
        no_op: bool = True,
        round_actions: bool = False,
        controller: Controller = "dense",
        **kwargs: Unpack[SparseCellOptions],
    ) -> None:
        for name in self.refused_arguments:
            if name in kwargs:
                raise ValueError(
                    f"A Stack RNN has no argument `{name}`. Its sizes are `stacks` and "
                    "`read_depth`. Its stacks start empty, or with what is given to "
                    f"`get_initial_state(memory=)`. Received: {name}={kwargs[name]!r}"
                )
        self.stacks = check_positive_integer("stacks", stacks)
        self.read_depth = check_positive_integer("read_depth", read_depth)
        self.no_op = check_boolean("no_op", no_op)
        self.round_actions = check_boolean("round_actions", round_actions)
        super().__init__(
            units,
            memory_slots,
            # A word has a number of each stack, and the top ones are read.
            word_size=self.stacks,
            read_heads=self.read_depth,
            controller=controller,
            initial_read_vectors="zeros",
            **kwargs,
        )
        self.check_at_most_slots("read_depth")
        self._rounding = RoundAtInference(dtype=self.dtype_policy, name="rounding")

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            "memory": (self.memory_slots, self.stacks),
            "read_vectors": (self.read_depth, self.stacks),
        }

    @property
    def interface_parts(self) -> dict[str, Part]:
        return {
            "actions": Part((self.stacks, 3 if self.no_op else 2), tf.nn.softmax),
            "pushed_values": Part((self.stacks,), tf.sigmoid),
        }

    def initial_fields(
        self, batch_size: BatchSize, given_memory: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        memory = super().initial_fields(batch_size, given_memory)["memory"]
        return {"memory": memory, "read_vectors": memory[:, : self.read_depth]}

    def access(
        self, interface: tf.Tensor, state: StackState
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        actions, values = self.activate_interface(interface).values()
        if self.round_actions:
            actions = self._rounding(actions)

        old = state.memory
        bottom = tf.fill(tf.shape(old[:, :1]), tf.constant(EMPTY, old.dtype))
        outcomes = [
            tf.concat([values[:, tf.newaxis], old[:, :-1]], axis=1),  # push
            tf.concat([old[:, 1:], bottom], axis=1),  # pop
            old,  # no-op
        ]
        shares = tf.unstack(actions[:, tf.newaxis], axis=-1)
        memory = tf.add_n([s * o for s, o in zip(shares, outcomes, strict=False)])
        fields = {"memory": memory, "read_vectors": memory[:, : self.read_depth]}
        return fields, {"actions": actions, "pushed_values": values}

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in self.refused_arguments:
            config.pop(name)
        return {
            **config,
            "stacks": self.stacks,
            "read_depth": self.read_depth,
            "no_op": self.no_op,
            "round_actions": self.round_actions,
        }


class RoundAtInference(keras.layers.Layer):
    """At inference 1 at the greatest of the last axis, else 0; in training nothing.

    A layer, since Keras tells layers whether it is training.
    """

    def call(self, probabilities, training=False):
        if training:
            return probabilities
        greatest = tf.argmax(probabilities, axis=-1)
        return tf.one_hot(greatest, probabilities.shape[-1], dtype=probabilities.dtype)
