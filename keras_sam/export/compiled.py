"""The signature whose programs XLA compiles where the SavedModel runs.

XLA compiles a program for each size. So a batch, and sequences where that is possible,
are padded to a power of two, and what was added is cut from the outputs.
"""

import numpy as np
import tensorflow as tf

from keras_sam.export.signatures import checked, trace, trial_inputs


def compiled(function, whole, inputs, causal):
    """A signature like another one, compiled.

    Args:
        function: From a dictionary of named tensors, and the number of steps after
            which they are padding or None, to a dictionary of tensors.
        whole: The other signature, of the same function.
        inputs: Dictionary of `tf.TensorSpec` by name.
        causal: Boolean, whether outputs depend on no later step.

    Returns:
        A concrete function.

    Raises:
        ValueError: If XLA cannot compile the function, or the program gives something
            else.
    """
    outputs = whole.structured_outputs
    in_time = causal and all(
        spec.shape[1:2] == [None] for spec in (*inputs.values(), *outputs.values())
    )

    program = tf.function(function, jit_compile=True, autograph=False)

    def padded(**values):
        # Here, for XLA passes over checks.
        values = {n: checked(n, spec, values[n]) for n, spec in inputs.items()}
        shape = tf.shape(next(iter(values.values())))
        sequences, steps = shape[0], shape[1]
        more = [power_of_two(sequences) - sequences]
        if in_time:
            more.append(power_of_two(steps) - steps)
        values = {n: _pad(value, more) for n, value in values.items()}
        results = program(values, steps if in_time else None)
        return {
            name: value[:sequences, :steps] if in_time else value[:sequences]
            for name, value in results.items()
        }

    signature = trace(padded, inputs)
    try:
        same = _same(signature, whole, inputs)
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(
            f"XLA cannot compile the model. Pass jit_compile=False. Received: {error}"
        ) from error
    if not same:
        raise ValueError(
            "Compiled by XLA the model gave other outputs. Pass jit_compile=False."
        )
    return signature


def power_of_two(number):
    """The least power of two that is at least an integer tensor, which is positive."""
    bits = tf.math.log(tf.cast(number, tf.float64)) / np.log(2.0)
    return tf.cast(tf.round(2.0 ** tf.math.ceil(bits - 1e-9)), tf.int32)


def _pad(values, more):
    """Zeros at the end of the first axes, so many of each."""
    rest = [0] * (values.shape.rank - len(more))
    return tf.pad(values, [[0, each] for each in (*more, *rest)])


def _same(signature, whole, inputs):
    # Fewer than a power of two.
    values = {name: value[:, :3] for name, value in trial_inputs(inputs).items()}
    expected = whole(**values)
    return all(
        np.allclose(value, expected[name], rtol=1e-4, atol=1e-5)
        for name, value in signature(**values).items()
    )
