"""What the memory layers share: `keras.layers.RNN` around one memory cell."""

import inspect

import keras
import tensorflow as tf

from keras_sam._compat import in_xla, no_automatic_dependency_tracking
from keras_sam.arguments import check_option, full_precision_policy
from keras_sam.cells.base import check_state_sizes
from keras_sam.recurrence import is_xla_off, operation_for

_LAYER_ARGUMENTS = ("name", "trainable", "activity_regularizer")


class _ClassSignature(inspect.Signature):
    """A signature that the class has, but not its instances: they are called too."""

    def __get__(self, instance, owner):
        if instance is not None:
            raise AttributeError("__signature__")
        return self


def _parameters(cls):
    """The parameters that a class of ours and its bases name, each once."""
    parameters = {}
    for base in cls.__mro__:
        if not base.__module__.startswith("keras_sam"):
            break
        for name, parameter in inspect.signature(base.__init__).parameters.items():
            named = parameter.kind not in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            )
            if named and name not in ("self", "dtype", *parameters):
                if base is not cls:
                    parameter = parameter.replace(kind=parameter.KEYWORD_ONLY)
                parameters[name] = parameter
    return parameters.values()


class MemoryRNN(keras.layers.RNN):
    """Base class of the layers; a subclass names its cell in `cell_class`.

    Arguments that are not the layer's own go to the cell.
    """

    cell_class = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # For help() and editors: the cell's arguments, then the layer's own.
        cls.__signature__ = _ClassSignature(
            [*_parameters(cls.cell_class), *_parameters(MemoryRNN)]
        )

    def __init__(
        self,
        *cell_arguments,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        jit_compile="auto",
        dtype=None,
        **kwargs,
    ):
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
        if self.jit_compile is True and self.unroll:
            raise ValueError(
                "`jit_compile=True` needs unroll=False: XLA compiles the loop. "
                "Received: unroll=True"
            )
        self._operations = {}

    def get_initial_state(self, batch_size, memory=None):
        """The state before the first step, as a flat list of tensors.

        Args:
            batch_size: Integer or scalar tensor.
            memory: Optional contents to start from, `[rows, W]` for every
                sequence alike or `[batch, rows, W]`, at most N rows.

        Returns:
            List of tensors `[batch, size]`, to pass as `initial_state`.
        """
        return self.cell.get_initial_state(batch_size, memory=memory)

    def reset_state(self):
        """Start the sequences of a stateful layer anew, from the initial state."""
        if self.states is not None:
            initial_state = self.get_initial_state(self.states[0].shape[0])
            for variable, value in zip(self.states, initial_state, strict=True):
                variable.assign(value)
            self._started.assign(False)

    @no_automatic_dependency_tracking
    def _create_state_variables(self, batch_size):
        super()._create_state_variables(batch_size)
        # Until the first call the state is the initial one as it is by then: its
        # weights may have been loaded or trained since the layer was built.
        self._started = keras.Variable(False, trainable=False, dtype="bool")

    def _current_state(self):
        initial_state = self.get_initial_state(self.states[0].shape[0])
        return [
            tf.where(self._started.value, variable.value, value)
            for variable, value in zip(self.states, initial_state, strict=True)
        ]

    def build(self, sequences_shape, initial_state_shape=None):
        super().build(sequences_shape)
        features = sequences_shape[-1]
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: features})

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        if initial_state_shape is not None:
            check_state_sizes(
                self.cell.state_size, initial_state_shape, sequences_shape[0]
            )
        return super().compute_output_shape(sequences_shape)

    def call(self, sequences, initial_state=None, mask=None, training=False):
        if initial_state is not None:
            check_state_sizes(
                self.cell.state_size,
                [tuple(state.shape) for state in keras.tree.flatten(initial_state)],
                sequences.shape[0],
            )
        elif self.stateful:
            initial_state = self._current_state()
        results = super().call(
            sequences, initial_state=initial_state, mask=mask, training=training
        )
        if self.stateful:
            self._started.assign(True)
        return results

    @property
    def compiles_itself(self):
        """Whether XLA compiles the layer's sequences, whatever the model does."""
        return self.jit_compile is True

    @property
    def runs_itself(self):
        """Whether the layer's sequences are an `Operation`.

        Else the loop of `keras.layers.RNN` runs them.
        """
        return self.compiles_itself and not is_xla_off()

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if not self.runs_itself:
            return super().inner_loop(sequences, initial_state, mask, training)
        if self.go_backwards:
            sequences = tf.reverse(sequences, axis=[1])
            mask = None if mask is None else tf.reverse(mask, axis=[1])
        # What is compiled as a whole is compiled here, too.
        operation = self._operation(
            in_xla() or self.compiles_itself and not is_xla_off()
        )
        outputs, states = operation(
            self.cell, sequences, initial_state, mask, training
        )
        return outputs[:, -1], outputs, states

    def _operation(self, jit_compile):
        if jit_compile not in self._operations:
            self._operations[jit_compile] = operation_for(self, jit_compile)
        return self._operations[jit_compile]

    def trace(self, inputs, initial_state=None, keep=None):
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
        inputs = tf.convert_to_tensor(inputs, self.compute_dtype)
        if inputs.shape.rank != 3:
            raise ValueError(
                "`inputs` must be of shape (batch, time, features). "
                f"Received: inputs.shape={tuple(inputs.shape)}"
            )
        if not self.built:
            self.build(inputs.shape)
        if initial_state is None:
            initial_state = self.get_initial_state(inputs.shape[0])
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

    def get_config(self):
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
    def from_config(cls, config):
        return cls(**config)
