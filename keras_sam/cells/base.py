"""What all memory cells share: controller, interface, output, states by name."""

import abc
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import keras
import tensorflow as tf

from keras_sam import checks
from keras_sam._compat import DropoutRNNCell
from keras_sam.arguments import (
    check_option,
    check_positive_integer,
    check_rate,
    current_config,
    full_precision_policy,
    is_number,
    refuse_old_names,
)
from keras_sam.cells import controller as controllers
from keras_sam.options import (
    BatchSize,
    Config,
    Constraint,
    Controller,
    DType,
    Initializer,
    InitialMemory,
    InitialReadVectors,
    Regularizer,
    Shape,
    TensorLike,
)

# Memory that nothing was written to: a small constant trains fastest
# (Collier & Beel, 2018, https://arxiv.org/abs/1807.08518).
CONSTANT_MEMORY = 1e-6


class Part(NamedTuple):
    """A part of the interface vector."""

    shape: tuple[int, ...]  # without the batch
    activation: Callable[[tf.Tensor], tf.Tensor] = tf.identity


class MemoryCell(keras.layers.Layer, DropoutRNNCell, abc.ABC):
    """Base class of the RNN cells with an external memory.

    One step, whatever the memory:

        h        = controller([x; read vectors of the step before])
        interface = clip(linear(h))
        memory, read vectors = access(interface)      the subclass
        output   = clip(linear([h; read vectors of this step]))

    A subclass names its state in `State` (a NamedTuple with the fields `memory`,
    `read_vectors` and `controller` among others), gives the shapes of all but the
    controller's in `state_shapes`, the interface's parts in `interface_sizes` and
    what it does to the memory in `access`. With `interface_parts` in the place of
    `interface_sizes` the parts get a shape and an activation each, see
    `activate_interface`.

    Deriving from Keras's `DropoutRNNCell` has `keras.layers.RNN` tell the cell
    when a sequence ends and the controller needs new dropout masks.

    Example: a cell that reads the word written N steps before.

    >>> import collections
    >>> class QueueCell(keras_sam.MemoryCell):
    ...     State = collections.namedtuple("State", "memory read_vectors controller")
    ...
    ...     @property
    ...     def interface_sizes(self):
    ...         return {"word": self.word_size}
    ...
    ...     @property
    ...     def state_shapes(self):
    ...         return {
    ...             "memory": (self.memory_slots, self.word_size),
    ...             "read_vectors": (1, self.word_size),
    ...         }
    ...
    ...     def access(self, interface, state):
    ...         memory = tf.concat([state.memory, interface[:, tf.newaxis]], axis=1)
    ...         return {"memory": memory[:, 1:], "read_vectors": memory[:, :1]}, {}
    >>> cell = QueueCell(8, memory_slots=4, word_size=3, read_heads=1)
    >>> keras.layers.RNN(cell)(np.ones((2, 5, 6))).shape
    TensorShape([2, 8])
    """

    State: type[Any]  # a NamedTuple
    # The functions of Keras that make them have no types.
    kernel_initializer: Any
    bias_initializer: Any
    untraced_fields: tuple[str, ...] = ("memory", "link", "controller")
    # What a "constant" memory starts with, and the activation of a "dense" controller.
    constant_memory = CONSTANT_MEMORY
    controller_activation = "tanh"
    # Whether the output sees this step's read vectors, or the controller alone.
    output_sees_reads = True
    # Arguments of this class that a subclass does not take.
    refused_arguments: tuple[str, ...] = ()

    def __init__(
        self,
        units: int,
        memory_slots: int,
        word_size: int,
        read_heads: int,
        controller: Controller = "lstm",
        output_size: int | None = None,
        clip_value: float | None = 20.0,
        initial_memory: InitialMemory = "constant",
        initial_read_vectors: InitialReadVectors = "learned",
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        recurrent_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        dtype: DType = None,
        **kwargs: Any,
    ) -> None:
        refuse_old_names(type(self), kwargs)
        super().__init__(dtype=full_precision_policy(dtype), **kwargs)
        self.units = check_positive_integer("units", units)
        self.memory_slots = check_positive_integer("memory_slots", memory_slots)
        self.word_size = check_positive_integer("word_size", word_size)
        self.read_heads = check_positive_integer("read_heads", read_heads)
        self.output_size = check_positive_integer(
            "output_size", self.units if output_size is None else output_size
        )
        if clip_value is not None and not (is_number(clip_value) and clip_value > 0):
            raise ValueError(
                "`clip_value` must be positive and finite, or None for no clipping. "
                f"Received: clip_value={clip_value!r}"
            )
        self.clip_value = None if clip_value is None else float(clip_value)
        self.initial_memory = check_option(
            "initial_memory", initial_memory, ("constant", "random", "learned")
        )
        self.initial_read_vectors = check_option(
            "initial_read_vectors", initial_read_vectors, ("zeros", "learned")
        )

        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        # Named apart from Keras's `dropout` and `recurrent_dropout`, by which
        # `DropoutRNNCell` would make masks for this cell as well.
        self.dropout_rate = check_rate("dropout", dropout)
        self.recurrent_dropout_rate = check_rate("recurrent_dropout", recurrent_dropout)
        self.seed = seed

        self._controller_argument = controller
        self.controller = self._make_controller(controller)
        self.interface = keras.layers.Dense(
            self.interface_size,
            dtype=self.dtype_policy,
            name="interface",
            **self._dense_arguments(),
        )
        self.output_projection = keras.layers.Dense(
            self.output_size,
            dtype=self.dtype_policy,
            name="output_projection",
            **self._dense_arguments(),
        )
        self.state_size = [
            math.prod(shape) for shape in self.state_shapes.values()
        ] + keras.tree.flatten(self.controller.state_size)
        checks.check_state_fits({"units": (self.units,), **self.state_shapes})
        self._initial_weights_built = False

    def check_at_most_slots(self, name: str) -> None:
        """Raises a `ValueError` if the attribute `name` exceeds `memory_slots`."""
        value = getattr(self, name)
        if value > self.memory_slots:
            raise ValueError(
                f"`{name}` must be at most `memory_slots`. Received: {name}={value}, "
                f"memory_slots={self.memory_slots}"
            )

    def _make_controller(self, controller):
        if controller not in ("lstm", "dense"):
            if self.dropout_rate or self.recurrent_dropout_rate:
                raise ValueError(
                    "With a cell as `controller`, give the dropout to that cell. "
                    f"Received: controller={controller!r}, "
                    f"dropout={self.dropout_rate}, "
                    f"recurrent_dropout={self.recurrent_dropout_rate}"
                )
        elif controller == "dense" and self.recurrent_dropout_rate:
            raise ValueError(
                'A "dense" controller has no recurrent connection to drop. '
                f"Received: recurrent_dropout={self.recurrent_dropout_rate}"
            )
        return controllers.make_controller(
            controller,
            self.units,
            self.dtype_policy,
            self.controller_activation,
            dropout=self.dropout_rate,
            seed=self.seed,
            **self._dense_arguments(),
            lstm_only_arguments={
                "recurrent_initializer": self.recurrent_initializer,
                "recurrent_regularizer": self.recurrent_regularizer,
                "recurrent_constraint": self.recurrent_constraint,
                "recurrent_dropout": self.recurrent_dropout_rate,
            },
        )

    def _dense_arguments(self):
        # Each layer gets its own copy of an initializer: one object gives the
        # same numbers each time.
        return {
            "kernel_initializer": self.kernel_initializer.clone(),
            "bias_initializer": self.bias_initializer.clone(),
            "kernel_regularizer": self.kernel_regularizer,
            "bias_regularizer": self.bias_regularizer,
            "kernel_constraint": self.kernel_constraint,
            "bias_constraint": self.bias_constraint,
        }

    # What a subclass says.

    @property
    def interface_parts(self) -> dict[str, Part]:
        """Shape and activation of each part of the interface vector, in order.

        A cell that says `interface_sizes` instead takes its parts as they are.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `interface_parts` or "
            "`interface_sizes`."
        )

    @property
    @abc.abstractmethod
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape, without the batch, of each state but the controller's, by name."""

    def access(
        self, interface: tf.Tensor, state: Any
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Write to and read from the memory.

        A cell whose `step` is its own, such as `keras_sam.SAMCell`, has none.

        Args:
            interface: Tensor `[batch, interface_size]`.
            state: A `State`.

        Returns:
            The state's new fields but the controller's, as a dictionary; and a
            dictionary of what the cell decided (gates and the like), for traces.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `access`, or its own `step`."
        )

    # The interface vector.

    @property
    def interface_size(self) -> int:
        """How many numbers the controller sends to the memory at each step."""
        return sum(self.interface_sizes.values())

    @property
    def interface_sizes(self) -> dict[str, int]:
        """How many numbers each part of the interface vector has, by name, in order."""
        return {
            name: math.prod(shape) for name, (shape, _) in self.interface_parts.items()
        }

    @property
    def interface_columns(self) -> dict[str, slice]:
        """Where each part is in the interface vector, as slices by name.

        In these columns of the weights of `interface` a part is set, too: with a kernel
        of 0 a bias of -20 shuts a gate.
        """
        sizes = self.interface_sizes
        ends = itertools.accumulate(sizes.values())
        return {
            name: slice(end - size, end)
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }

    def split_interface(self, interface: tf.Tensor) -> dict[str, tf.Tensor]:
        """The parts of an interface vector as they are, by name."""
        sizes = self.interface_sizes
        parts = tf.split(interface, list(sizes.values()), axis=-1)
        return dict(zip(sizes, parts, strict=True))

    def activate_interface(self, interface: tf.Tensor) -> dict[str, tf.Tensor]:
        """The parts of an interface vector as `interface_parts` says, by name."""
        parts = self.split_interface(interface)
        return {
            name: activation(tf.reshape(parts[name], (-1, *shape)))
            for name, (shape, activation) in self.interface_parts.items()
        }

    # Building.

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 2:
            raise ValueError(
                f"{type(self).__name__} takes one time step, of shape (batch, "
                "features); wrap it in keras.layers.RNN for a sequence. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        if input_shape[-1] is None:
            raise ValueError(
                "The number of features must be known when the cell is built. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: input_shape[-1]})
        self._build_initial_weights()
        reads = self.read_heads * self.word_size
        if not self.controller.built:
            self.controller.build((input_shape[0], input_shape[-1] + reads))
        width = controllers.output_size(self.controller)
        self.interface.build((input_shape[0], width))
        seen = width + reads if self.output_sees_reads else width
        self.output_projection.build((input_shape[0], seen))

    def _build_initial_weights(self):
        """The weights that start a sequence, known before the input's width."""
        if self._initial_weights_built:
            return
        self._initial_weights_built = True
        if self.initial_memory != "constant":
            self.initial_memory_variable = self.add_weight(
                shape=(self.memory_slots, self.word_size),
                name="initial_memory",
                initializer=keras.initializers.RandomNormal(stddev=0.5, seed=self.seed),
                trainable=self.initial_memory == "learned",
            )
        if self.initial_read_vectors == "learned":
            self.initial_read_vectors_variable = self.add_weight(
                shape=(self.read_heads, self.word_size),
                name="initial_read_vectors",
                initializer="zeros",
            )

    # States.

    def get_initial_state(
        self, batch_size: BatchSize | None = None, memory: TensorLike | None = None
    ) -> list[tf.Tensor]:
        """The state before the first step, as a flat list of tensors.

        Args:
            batch_size: Integer or scalar tensor.
            memory: Optional contents to start from, `[rows, W]` for every
                sequence alike or `[batch, rows, W]`, at most N rows; the slots
                after them start as without this argument.

        Returns:
            List of tensors `[batch, size]`, one for each entry of `state_size`.

        Raises:
            ValueError: If `batch_size` is no integer of at least 0, or `memory` is not
                of such a shape or holds no real numbers.
        """
        batch_size = checks.check_batch_size(batch_size)
        self._build_initial_weights()
        rows = None
        if memory is not None:
            rows = checks.as_memory(
                memory,
                self.memory_slots,
                self.word_size,
                batch_size,
                self.compute_dtype,
            )
            rows = tf.broadcast_to(rows, (batch_size, rows.shape[-2], self.word_size))
        fields = self.initial_fields(batch_size, rows)
        controller_state = keras.tree.map_structure(
            lambda value: tf.cast(value, self.compute_dtype),
            controllers.initial_state(self.controller, batch_size, self.compute_dtype),
        )
        return self.pack_state(self.State(controller=controller_state, **fields))

    def initial_fields(
        self, batch_size: BatchSize, given_memory: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        """The state's fields before the first step; a subclass adds its own.

        Args:
            batch_size: Integer or scalar tensor.
            given_memory: Tensor `[batch, rows, W]`, the memory's first rows, or None.

        Returns:
            Dictionary of tensors.
        """
        if self.initial_memory == "constant":
            memory = tf.fill(
                (batch_size, self.memory_slots, self.word_size),
                tf.constant(self.constant_memory, self.compute_dtype),
            )
        else:
            memory = self._for_each(batch_size, self.initial_memory_variable)
        if given_memory is not None:
            rows = given_memory.shape[1]
            memory = tf.concat([given_memory, memory[:, rows:]], axis=1)
        if self.initial_read_vectors == "learned":
            reads = self._for_each(batch_size, self.initial_read_vectors_variable)
        else:
            reads = tf.zeros(
                (batch_size, self.read_heads, self.word_size), self.compute_dtype
            )
        return {"memory": memory, "read_vectors": reads}

    def _for_each(self, batch_size, values):
        """The same values for every sequence of the batch."""
        values = tf.convert_to_tensor(values)
        return tf.broadcast_to(values, (batch_size, *values.shape))

    def pack_state(self, state: Any) -> list[tf.Tensor]:
        """A named state as the flat list that Keras passes from step to step.

        Args:
            state: The NamedTuple that `unpack_state` returns.

        Returns:
            List of tensors `[batch, size]`.
        """
        flat = [
            tf.reshape(getattr(state, name), (-1, math.prod(shape)))
            for name, shape in self.state_shapes.items()
        ]
        return flat + keras.tree.flatten(state.controller)

    def unpack_state(self, states: Sequence[TensorLike]) -> Any:
        """A flat list of states as a NamedTuple of named, shaped tensors.

        Args:
            states: List of tensors as `get_initial_state`, a call of the cell or
                a layer with `return_state=True` gives.

        Returns:
            NamedTuple; the docstring of the cell names its fields.

        Raises:
            ValueError: If an entry is missing or of another size.
        """
        states = checks.as_flat_state(states, self.state_size)
        fields = {
            name: tf.reshape(flat, (-1, *shape))
            for (name, shape), flat in zip(
                self.state_shapes.items(), states, strict=False
            )
        }
        controller_state = self.nest_controller(states[len(fields) :])
        return self.State(controller=controller_state, **fields)

    def nest_controller(self, states: list[tf.Tensor]) -> Any:
        """The controller's states, from a flat list to what the controller takes."""
        structure = self.controller.state_size
        if isinstance(structure, int):
            return states
        return keras.tree.pack_sequence_as(structure, states)

    # One step.

    def call(
        self, inputs: TensorLike, states: Sequence[TensorLike], training: bool = False
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        inputs = checks.as_step_inputs(inputs, self.compute_dtype)
        # Keras hands `training` down to the layers called within.
        output, state, _ = self.step(inputs, self.unpack_state(states))
        new_states = self.pack_state(state)
        # Loops ask that a state's static shape does not change, and operations that
        # take the batch size from a tensor forget it.
        for new, old in zip(new_states, keras.tree.flatten(states), strict=True):
            new.set_shape(old.shape)
        return output, new_states

    def step(
        self, inputs: tf.Tensor, state: Any
    ) -> tuple[tf.Tensor, Any, dict[str, tf.Tensor]]:
        """One time step on a named state.

        Args:
            inputs: Tensor `[batch, features]`.
            state: A `State`.

        Returns:
            The output `[batch, output_size]`; the new `State`; a dictionary of
            what the cell decided at this step (gates and the like).
        """
        hidden, controller_state = self.run_controller(
            inputs, state.read_vectors, state.controller
        )
        fields, gates = self.access(self.interface_vector(hidden), state)
        output = self.output_vector(hidden, fields["read_vectors"])
        return output, self.State(controller=controller_state, **fields), gates

    def run_controller(
        self, inputs: tf.Tensor, read_vectors: tf.Tensor, controller_state: Any
    ) -> Any:
        """The controller's output and new state.

        Args:
            inputs: Tensor `[batch, features]`.
            read_vectors: Tensor `[batch, R, W]`, of the step before.
            controller_state: The controller's own states.
        """
        reads = self._flat_reads(read_vectors)
        results = self.controller(tf.concat([inputs, reads], axis=-1), controller_state)
        # A controller that was given may compute in another precision.
        return keras.tree.map_structure(
            lambda value: tf.cast(value, self.compute_dtype), results
        )

    def interface_vector(self, hidden: tf.Tensor) -> tf.Tensor:
        """What a controller's output tells the memory, `[batch, interface_size]`."""
        return self._clip(self.project_interface(hidden))

    def output_vector(self, hidden: tf.Tensor, read_vectors: tf.Tensor) -> tf.Tensor:
        """The cell's output, `[batch, output_size]`."""
        seen = self.skip_connection(hidden)
        if self.output_sees_reads:
            seen = tf.concat([seen, self._flat_reads(read_vectors)], axis=-1)
        return self._clip(self.output_projection(seen))

    def project_interface(self, hidden: tf.Tensor) -> tf.Tensor:
        """The interface vector, before clipping, of a controller's output."""
        return self.interface(hidden)

    def interface_kernel(self) -> tf.Tensor:
        """The weights by which `project_interface` multiplies, up to a factor."""
        return tf.convert_to_tensor(self.interface.kernel)

    def skip_connection(self, hidden: tf.Tensor) -> tf.Tensor:
        """What of the controller's output goes past the memory to the output."""
        return hidden

    def _flat_reads(self, read_vectors):
        return tf.reshape(read_vectors, (-1, self.read_heads * self.word_size))

    def _clip(self, values):
        if self.clip_value is None:
            return values
        return tf.clip_by_value(values, -self.clip_value, self.clip_value)

    # Dropout masks last one sequence; the controller makes its own at its first
    # step and keras.layers.RNN says when to drop them.

    def get_dropout_mask(self, step_input: tf.Tensor) -> None:
        return None

    def get_recurrent_dropout_mask(self, step_input: tf.Tensor) -> None:
        return None

    def mask_makers(self) -> list[Any]:
        """The cells that keep their dropout masks for a whole sequence."""
        return controllers.mask_makers(self.controller)

    def reset_dropout_mask(self) -> None:
        for cell in self.mask_makers():
            cell.reset_dropout_mask()
            cell.reset_recurrent_dropout_mask()

    def reset_recurrent_dropout_mask(self) -> None:
        pass  # reset_dropout_mask has reset both

    def get_config(self) -> Config:
        controller = self._controller_argument
        if controller not in ("lstm", "dense"):
            controller = controllers.serialize(self.controller)
        objects = {
            f"{part}_{kind}": keras.saving.serialize_keras_object(
                getattr(self, f"{part}_{kind}")
            )
            for kind in ("initializer", "regularizer", "constraint")
            for part in ("kernel", "recurrent", "bias")
        }
        return {
            **super().get_config(),
            "units": self.units,
            "memory_slots": self.memory_slots,
            "word_size": self.word_size,
            "read_heads": self.read_heads,
            "controller": controller,
            "output_size": self.output_size,
            "clip_value": self.clip_value,
            "initial_memory": self.initial_memory,
            "initial_read_vectors": self.initial_read_vectors,
            **objects,
            "dropout": self.dropout_rate,
            "recurrent_dropout": self.recurrent_dropout_rate,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return super().from_config(current_config(cls, config))


def oneplus(values: tf.Tensor) -> tf.Tensor:
    """`1 + log(1 + exp(x))`: at least 1."""
    return 1.0 + tf.nn.softplus(values)
