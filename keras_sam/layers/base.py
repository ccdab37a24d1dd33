"""What the memory layers share: `keras.layers.RNN` around one memory cell."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from keras_sam import checks
from keras_sam._compat import in_xla, no_automatic_dependency_tracking
from keras_sam.arguments import check_option, current_config, full_precision_policy
from keras_sam.cells.base import MemoryCell
from keras_sam.layers.stream import StreamState
from keras_sam.litert import has_builtin_ops
from keras_sam.options import BatchSize, Config, DType, JitCompile, Shape, TensorLike
from keras_sam.recurrence import is_xla_off, operation_for

Keep = dict[str, Callable[[Any], tf.Tensor]]

_LAYER_ARGUMENTS = ("name", "trainable", "activity_regularizer")


class _ClassSignature(inspect.Signature):
    """A signature that the class has, but not its instances: they are called too."""

    def __get__(self, instance, owner):
        if instance is not None:
            raise AttributeError("__signature__")
        return self


def _parameters(cls):
    """The parameters that a class and its bases up to Keras's name, each once."""
    parameters = {}
    left_out = {"self", "dtype", *getattr(cls, "refused_arguments", ())}
    for base in cls.__mro__:
        if base.__module__.startswith("keras."):
            break
        for name, parameter in inspect.signature(base.__init__).parameters.items():
            named = parameter.kind not in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            )
            if named and name not in left_out | set(parameters):
                if base is not cls:
                    parameter = parameter.replace(kind=parameter.KEYWORD_ONLY)
                parameters[name] = parameter
    return parameters.values()


class MemoryRNN(keras.layers.RNN):
    """Base class of the layers; a subclass names its cell in `cell_class`.

    Arguments that are not the layer's own go to the cell. The states of a stateful
    layer are the variables `states`; `reset_state` says how a stream is saved and
    restored. The sequences of a sparse cell, one with a `sparse_step`, run in a
    subclass of `keras_sam.SAM`.

    Args:
        units, memory_slots, word_size, ...: All arguments of the cell.
        return_sequences: Boolean, whether to return the output of every step
            or of the last one. Defaults to `False`.
        return_state: Boolean, whether to return the last state as well.
            Defaults to `False`.
        go_backwards: Boolean, whether to go through the sequence from its end.
            Defaults to `False`.
        stateful: Boolean, whether row i of a batch continues row i of the batch
            before; `reset_state()` starts again. A file of the model does not hold
            the stream: a loaded model starts again too, unless its `states` are
            restored, as the docstring of `reset_state` shows. Defaults to `False`.
        unroll: Boolean, whether to unroll the loop; for short sequences only.
            Defaults to `False`.
        zero_output_for_mask: Boolean, whether the output of a masked step is 0
            instead of the output before it. Defaults to `False`.
        jit_compile: `"auto"`, `True` or `False`: whether the layer compiles its
            own sequence with XLA. `"auto"` leaves it to the model
            (`model.compile(jit_compile=True)`). Defaults to `"auto"`.

    Call arguments:
        sequences: Tensor `[batch, time, features]`.
        initial_state: List of tensors as `get_initial_state` returns. Defaults to
            the cell's initial state.
        mask: Boolean tensor `[batch, time]`; a step where it is `False` changes
            neither the memory nor the output.
        training: Boolean, whether dropout is active.

    Returns:
        The outputs `[batch, time, output_size]` with `return_sequences`, else the
        last one, `[batch, output_size]`; with `return_state`, followed by the
        tensors of the last state (`layer.cell.unpack_state` names them).

    Example:

    >>> class SmallNTM(keras_sam.MemoryRNN):
    ...     cell_class = keras_sam.NTMCell
    >>> SmallNTM(8, memory_slots=16)(np.ones((2, 5, 6))).shape
    TensorShape([2, 8])
    """

    cell_class: type[MemoryCell]
    states: Any
    input_spec: Any

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # For help() and editors: the cell's arguments, then the layer's own.
        cls.__signature__ = _ClassSignature(
            [*_parameters(cls.cell_class), *_parameters(MemoryRNN)]
        )

    def __init__(
        self,
        *cell_arguments: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        jit_compile: JitCompile = "auto",
        dtype: DType = None,
        **kwargs: Any,
    ) -> None:
        dtype = full_precision_policy(dtype)
        layer_kwargs = {
            name: kwargs.pop(name) for name in _LAYER_ARGUMENTS if name in kwargs
        }
        cell = self.cell_class(
            *cell_arguments,
            dtype=dtype,
            trainable=layer_kwargs.get("trainable", True),
            **kwargs,
        )
        self.cell: MemoryCell  # Keras sets it.
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            dtype=dtype,
            **layer_kwargs,
        )
        self.jit_compile = check_option(
            "jit_compile", jit_compile, ("auto", True, False)
        )
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self._check_jit_compile()
        self._operations = {}

    def _check_jit_compile(self):
        if self.jit_compile is True and self.unroll:
            raise ValueError(
                "`jit_compile=True` needs unroll=False: XLA compiles the loop. "
                "Received: unroll=True"
            )

    def get_initial_state(
        self, batch_size: BatchSize, memory: TensorLike | None = None
    ) -> list[tf.Tensor]:
        """The state before the first step, as a flat list of tensors.

        Args:
            batch_size: Integer or scalar tensor.
            memory: Optional contents to start from, `[rows, W]` for every
                sequence alike or `[batch, rows, W]`, at most N rows.

        Returns:
            List of tensors `[batch, size]`, to pass as `initial_state`.
        """
        return self.cell.get_initial_state(batch_size, memory=memory)

    def reset_state(self) -> None:
        """Start the sequences of a stateful layer again, from the initial state.

        The stream of a stateful layer is in `states`: a variable `[batch, size]` for
        each entry of the cell's `state_size`. A state that is assigned is what the
        next call goes on from. Before the first call, and after a reset, the layer
        goes on from its initial state, as its weights are by then.

        A file of the model, or of its weights, does not hold the stream, as for
        `keras.layers.LSTM`: a model that is loaded starts again. To go on where the
        saved one stood, save its states as well and assign them.

        Example:

        >>> memory = keras_sam.NTM(8, memory_slots=16, stateful=True)
        >>> model = keras.Sequential([keras.Input(batch_shape=(1, None, 3)), memory])
        >>> chunk = np.ones((1, 5, 3), "float32")
        >>> first = model.predict(chunk, verbose=0)
        >>> model.save("model.keras")
        >>> np.savez("stream.npz", *[state.numpy() for state in memory.states])
        >>> second = model.predict(chunk, verbose=0)

        In another process:

        >>> model = keras.models.load_model("model.keras")
        >>> with np.load("stream.npz") as file:
        ...     for state, value in zip(model.layers[0].states, file.values()):
        ...         _ = state.assign(value)
        >>> np.allclose(model.predict(chunk, verbose=0), second)
        True
        >>> model.layers[0].reset_state()
        >>> np.allclose(model.predict(chunk, verbose=0), first)
        True
        """
        if self.states is not None:
            initial_state = self.get_initial_state(self.states[0].shape[0])
            for variable, value in zip(self.states, initial_state, strict=True):
                variable.reset(value)

    @no_automatic_dependency_tracking
    def _create_state_variables(self, batch_size):
        with keras.name_scope(self.name, caller=self):
            self.states = [
                StreamState(value, self.variable_dtype, "rnn_state")
                for value in self.get_initial_state(batch_size)
            ]
        # An attribute of the layer, or a SavedModel would not find them.
        self._assigned = [state.assigned for state in self.states]

    def _current_state(self):
        initial_state = self.get_initial_state(self.states[0].shape[0])
        return [
            variable.current(value)
            for variable, value in zip(self.states, initial_state, strict=True)
        ]

    def build(self, sequences_shape: Shape, initial_state_shape: Any = None) -> None:
        super().build(sequences_shape)
        features = sequences_shape[-1]
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: features})

    def compute_output_shape(
        self, sequences_shape: Shape, initial_state_shape: Any = None
    ) -> Any:
        if initial_state_shape is not None:
            checks.check_state_sizes(
                self.cell.state_size, initial_state_shape, sequences_shape[0]
            )
        return super().compute_output_shape(sequences_shape)

    def compute_output_spec(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        # What `call` checks, for symbolic tensors.
        checks.check_sequences(sequences)
        if mask is not None:
            checks.check_mask(mask, sequences)
        if initial_state is not None:
            self._check_state(initial_state, sequences)
        return super().compute_output_spec(
            sequences, initial_state=initial_state, mask=mask, training=training
        )

    def call(
        self,
        sequences: TensorLike,
        initial_state: Sequence[TensorLike] | None = None,
        mask: TensorLike | None = None,
        training: bool = False,
    ) -> Any:
        sequences = checks.as_sequences(sequences, self.compute_dtype)
        mask = checks.as_mask(mask, sequences)
        if initial_state is not None:
            initial_state = self._check_state(initial_state, sequences)
        elif self.stateful:
            initial_state = self._current_state()
        return super().call(
            sequences, initial_state=initial_state, mask=mask, training=training
        )

    def _check_state(self, initial_state, sequences):
        return checks.as_flat_state(
            initial_state, self.cell.state_size, sequences.shape[0]
        )

    @property
    def compiles_itself(self) -> bool:
        """Whether XLA compiles the layer's sequences, whatever the model does."""
        return self.jit_compile is True

    @property
    def runs_itself(self) -> bool:
        """Whether the layer's sequences are an `Operation`.

        Else the loop of `keras.layers.RNN` runs them.
        """
        return self.compiles_itself and not is_xla_off()

    def inner_loop(
        self,
        sequences: tf.Tensor,
        initial_state: Any,
        mask: tf.Tensor | None,
        training: bool = False,
    ) -> Any:
        if not self.runs_itself:
            return super().inner_loop(sequences, initial_state, mask, training)
        if self.go_backwards:
            sequences = tf.reverse(sequences, axis=[1])
            mask = None if mask is None else tf.reverse(mask, axis=[1])
        # What is compiled as a whole is compiled here, too.
        operation = self._operation(
            in_xla() or self.compiles_itself and not is_xla_off()
        )
        outputs, states = operation(self.cell, sequences, initial_state, mask, training)
        return outputs[:, -1], outputs, states

    def _operation(self, jit_compile):
        kind = (jit_compile, has_builtin_ops())
        if kind not in self._operations:
            self._operations[kind] = operation_for(self, jit_compile)
        return self._operations[kind]

    def trace(
        self,
        inputs: TensorLike,
        initial_state: Sequence[TensorLike] | None = None,
        keep: Keep | None = None,
    ) -> dict[str, Any]:
        """What the memory does with a batch of sequences, step by step.

        Runs the cell eagerly, in inference mode; meant for looking, plotting
        and testing, not for speed.

        Args:
            inputs: Tensor `[batch, time, features]`.
            initial_state: Optional list of tensors, as `get_initial_state` gives.
            keep: Optional dictionary that adds what a trace leaves out, such as
                `{"memory": lambda state: state.memory}`: from a name to a function of
                the cell's state, as `unpack_state` returns it.

        Returns:
            Dictionary of tensors `[batch, time, ...]`, in the order in which the
            steps were taken: `"outputs"`; every field of the cell's state but the
            memory, the links and the controller's state (`"read_weights"`,
            `"write_weights"`, `"read_vectors"`, `"usage"`, ...); and the gates that
            the cell's docstring names.
        """
        inputs = checks.as_numbers("inputs", inputs, self.compute_dtype)
        if inputs.shape.rank != 3:
            raise ValueError(
                "`inputs` must be of shape (batch, time, features). "
                f"Received: inputs.shape={tuple(inputs.shape)}"
            )
        inputs = checks.as_sequences(inputs, self.compute_dtype, "inputs")
        if not isinstance(keep, dict | None):
            raise ValueError(
                "`keep` must be a dictionary from names to functions of the cell's "
                f"state. Received: keep={keep!r}"
            )
        if not self.built:
            self.build(inputs.shape)
        features = self.input_spec.axes[-1]
        if inputs.shape[-1] != features:
            raise ValueError(
                f"`inputs` must have {features} features, as the layer was built for. "
                f"Received: inputs.shape={tuple(inputs.shape)}"
            )
        if initial_state is None:
            initial_state = self.get_initial_state(inputs.shape[0])
        else:
            initial_state = self._check_state(initial_state, inputs)
        if self.go_backwards:
            inputs = tf.reverse(inputs, axis=[1])
        state = self.cell.unpack_state(initial_state)
        steps = []
        for step_inputs in tf.unstack(inputs, axis=1):
            output, state, gates = self.cell.step(step_inputs, state)
            fields = {
                name: value
                for name, value in state._asdict().items()
                if name not in self.cell.untraced_fields
            }
            for name, part in (keep or {}).items():
                fields[name] = part(state)
            steps.append({"outputs": output, **fields, **gates})
        return {
            name: tf.stack([step[name] for step in steps], axis=1) for name in steps[0]
        }

    def get_config(self) -> Config:
        cell_config = self.cell.get_config()
        for name in ("name", "trainable", "dtype"):
            cell_config.pop(name)
        # Past keras.layers.RNN, which would store the cell as a whole.
        return {
            **super(keras.layers.RNN, self).get_config(),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "unroll": self.unroll,
            "zero_output_for_mask": self.zero_output_for_mask,
            "jit_compile": self.jit_compile,
            **cell_config,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(**current_config(cls.cell_class, config))
