"""Checks of the tensors that enter a layer, a cell or a memory.

Each takes what a user gave and returns the tensor to compute with, or raises a
`ValueError` that says what was expected, what was received and what to do. What only a
running graph knows (a length, a batch) is asserted there.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

# The numbers in one field of a sequence's state: 64 GiB in float32, which a step of a
# dense cell holds twice. No accelerator has the memory.
LARGEST_FIELD = 2**34

_NO_STEPS = (
    "`{name}` must have at least one time step: leave empty sequences out, or pad them "
    "and mask the padding"
)


def as_sequences(sequences: Any, dtype: Any, name: str = "sequences") -> tf.Tensor:
    """The sequences that a layer takes, `[batch, time, features]`, in its dtype.

    Integers and booleans become floats, as in `keras.layers.LSTM`.
    """
    check_sequences(sequences, name)
    if sequences.shape[1] is None:
        message = _NO_STEPS.format(name=name)
        sequences = _ensure(sequences, tf.shape(sequences)[1] > 0, message)
    return tf.cast(sequences, dtype)


def check_sequences(sequences, name="sequences"):
    """What can be said of sequences, symbolic ones too, before anything runs."""
    check_numbers(name, sequences)
    if sequences.shape[1] == 0:
        raise ValueError(
            f"{_NO_STEPS.format(name=name)}. "
            f"Received: {name}.shape={tuple(sequences.shape)}"
        )


def as_step_inputs(inputs: Any, dtype: Any) -> tf.Tensor:
    """What a cell takes at one step, `[batch, features]`, in its dtype."""
    check_numbers("inputs", inputs)
    return tf.cast(inputs, dtype)


def as_mask(mask: Any, sequences: Any) -> tf.Tensor | None:
    """A mask of sequences as a boolean tensor `[batch, time]`, or None.

    As in `keras.layers.LSTM` numbers count as `True` where they are not 0, the shape
    may be `[batch, time, 1]`, and the mask may be the only entry of a list.
    """
    if mask is None:
        return None
    if isinstance(mask, list | tuple) and len(mask) == 1 and tf.is_tensor(mask[0]):
        mask = mask[0]
    mask = as_numbers("mask", mask, tf.bool)
    check_mask(mask, sequences)
    if mask.shape.rank == 3:
        mask = tf.squeeze(mask, axis=-1)
    mask = tf.cast(mask, tf.bool)
    if None in (*mask.shape, *sequences.shape[:2]):
        shape = tf.shape(sequences)[:2]
        same = tf.reduce_all(tf.shape(mask) == shape)
        mask = _ensure(mask, same, "`mask` must be of shape (batch, time)")
        # XLA runs no assertions, but stacks equal shapes alone.
        mask = tf.reduce_all(tf.stack([mask, tf.fill(shape, True)]), axis=0)
    return mask


def check_mask(mask, sequences):
    """What can be said of a mask, a symbolic one too, before anything runs."""
    check_numbers("mask", mask)
    shape, expected = tuple(mask.shape), tuple(sequences.shape[:2])
    if len(shape) == 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 2 or any(
        None not in pair and pair[0] != pair[1]
        for pair in zip(shape, expected, strict=True)
    ):
        raise ValueError(
            "`mask` must have an entry for each step of each sequence, True where the "
            f"step counts: shape (batch, time), here {expected}. "
            f"Received: mask.shape={tuple(mask.shape)}"
        )


def as_numbers(name: str, values: Any, dtype_hint: Any) -> tf.Tensor:
    """Something array-like as a tensor of real numbers or booleans."""
    check_numbers(name, values)
    hint = None if hasattr(values, "dtype") else dtype_hint
    try:
        values = tf.convert_to_tensor(values, dtype_hint=hint)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be a tensor, an array or nested lists of numbers, all of "
            f"one length. Received: {name}={values!r}"
        ) from error
    check_numbers(name, values)
    return values


def check_numbers(name, values):
    """That a tensor is dense, and of real numbers or booleans."""
    if isinstance(values, tf.SparseTensor) or getattr(values, "sparse", False):
        raise ValueError(
            f"`{name}` must be a dense tensor: use tf.sparse.to_dense. "
            f"Received: a sparse tensor, {values}"
        )
    if isinstance(values, tf.RaggedTensor) or getattr(values, "ragged", False):
        raise ValueError(
            f"`{name}` must be a dense tensor: pass values.to_tensor() and "
            "mask=tf.sequence_mask(values.row_lengths()). "
            f"Received: a ragged tensor of shape {tuple(values.shape)}"
        )
    dtype = getattr(values, "dtype", None)
    if dtype is not None and not _is_real(dtype):
        raise ValueError(
            f"`{name}` must hold real numbers or booleans. Received: {name}.dtype="
            f"{getattr(dtype, 'name', dtype)!r}"
        )


def _is_real(dtype):
    name = getattr(dtype, "name", dtype)  # TensorFlow's, NumPy's or Keras's
    return name.startswith(("bool", "int", "uint", "float", "bfloat"))


def check_batch_size(batch_size):
    """An integer of at least 0, or a scalar integer tensor of a graph."""
    given = batch_size
    if tf.is_tensor(given):
        known = tf.get_static_value(given)
        if known is None and given.dtype.is_integer and given.shape.rank in (0, None):
            return given
        given = known
    if isinstance(given, np.ndarray | np.generic) and given.ndim == 0:
        given = given.item()
    if type(given) is int and given >= 0:
        return given
    raise ValueError(
        "`batch_size` must be an integer of at least 0 or a scalar integer tensor. "
        "Where a graph alone knows it, take it from a tensor: tf.shape(x)[0]. "
        f"Received: batch_size={batch_size!r}"
    )


def as_memory(
    memory: Any, memory_slots: int, word_size: int, batch_size: Any, dtype: Any
) -> tf.Tensor:
    """The words that a memory starts from, `[rows, W]` or `[batch, rows, W]`."""
    memory = as_numbers("memory", memory, dtype)
    shape = memory.shape
    if (
        shape.rank not in (2, 3)
        or shape[-1] != word_size
        or shape[-2] is None
        or shape[-2] > memory_slots
        or (
            shape.rank == 3
            and isinstance(batch_size, int)
            and shape[0] not in (None, batch_size)
        )
    ):
        raise ValueError(
            "`memory` must be of shape (rows, word_size) or (batch, rows, "
            f"word_size) with word_size={word_size}, rows at most "
            f"{memory_slots} and batch={batch_size}. "
            f"Received: memory.shape={tuple(shape)}"
        )
    return tf.cast(memory, dtype)


def as_flat_state(
    states: Any, sizes: list[int], batch_size: int | None = None
) -> list[tf.Tensor]:
    """A state as the flat list of tensors that cells and layers pass on."""
    if isinstance(states, dict):
        raise ValueError(
            "The state must be a list of tensors as `get_initial_state` returns it. "
            f"Received: a dictionary with the keys {list(states)}"
        )
    states = keras.tree.flatten(states)
    shapes = [
        tuple(state.shape) if hasattr(state, "shape") else state for state in states
    ]
    check_state_sizes(sizes, shapes, batch_size)
    for state in states:
        check_numbers("initial_state", state)
    return states


def check_state_sizes(sizes, shapes, batch_size=None):
    """That a flat list of states has the entries, of the sizes, that it should."""
    if len(shapes) != len(sizes) or any(
        not isinstance(shape, tuple)
        or len(shape) != 2
        or shape[1] not in (None, size)
        or None not in (shape[0], batch_size)
        and shape[0] != batch_size
        for shape, size in zip(shapes, sizes, strict=True)
    ):
        expected = [("batch", size) for size in sizes]
        raise ValueError(
            "The state must be a list of tensors as `get_initial_state` returns it, "
            f"of shapes {expected}. Received shapes: {list(shapes)}"
            + ("" if batch_size is None else f" for a batch of {batch_size}")
        )


def check_state_fits(shapes):
    """That no field of a sequence's state is too large for any machine.

    Args:
        shapes: Dictionary from a field's name to its shape, without the batch.
    """
    sizes = {name: np.prod([*shape, 1], dtype=object) for name, shape in shapes.items()}
    name = max(sizes, key=lambda name: sizes[name])
    if sizes[name] > LARGEST_FIELD:
        raise ValueError(
            "A sequence's state must fit in memory: each of its fields may hold "
            "2**34 numbers (64 GiB in float32). Choose smaller sizes. "
            f"Received: `{name}` of shape {shapes[name]}, {sizes[name]} numbers"
        )


def _ensure(values, condition, message):
    """The same values, if a condition holds when the graph runs."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(values)
