"""What signatures are made of: functions of named tensors that check what they take."""

import numpy as np
import tensorflow as tf

# Of a sequence that a signature is tried with.
TRIAL_STEPS = 4


def trace(function, specs):
    return tf.function(function, autograph=False).get_concrete_function(**specs)


def checked(name, spec, values):
    """The values, if they are such that an answer means something."""
    checks = [
        require(tf.shape(values)[axis] > 0, f"`{name}` {message}")
        for axis, message in (
            (0, "must hold at least one sequence: the batch is empty"),
            (1, "must hold sequences of at least one step: the length is 0"),
        )
    ]
    with tf.control_dependencies(checks):
        values = tf.ensure_shape(values, spec.shape, name)
    if not spec.dtype.is_floating:
        return values
    return tf.debugging.check_numerics(values, f"`{name}` must be finite numbers")


def checked_state(name, values, sequences):
    """The values, if they are numbers, for each of so many sequences."""
    checks = [
        require(
            tf.shape(values)[0] == sequences,
            f"`{name}` must hold a state for each sequence of the chunk",
        )
    ]
    if values.dtype.is_floating:
        numbers = tf.reduce_all(tf.math.is_finite(values))
        checks.append(require(numbers, f"`{name}` must be finite numbers"))
    with tf.control_dependencies(checks):
        return tf.identity(values)


def require(condition, message):
    return tf.debugging.Assert(condition, [message])


def trial_inputs(inputs):
    """A sequence drawn by chance, to try signatures with.

    Args:
        inputs: Dictionary of `tf.TensorSpec` by name.

    Returns:
        Dictionary of tensors.
    """
    rng = np.random.default_rng(0)
    return {
        name: tf.cast(rng.integers(0, 2, (1, TRIAL_STEPS, *spec.shape[2:])), spec.dtype)
        for name, spec in inputs.items()
    }
