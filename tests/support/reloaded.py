"""The gradients of a model that was exported: here, or where only TensorFlow is.

Usage: python tests/support/reloaded.py WAY FOLDER INPUTS.npz RESULTS.npz
"""

import sys

import numpy as np
import tensorflow as tf


def served(loaded):
    return loaded.serve, loaded.variables


def signature(loaded):
    function = loaded.signatures["serving_default"]
    return lambda inputs: function(inputs=inputs)["outputs"], loaded.weights


def method(loaded):
    variables = loaded.run.concrete_functions[0].variables
    return loaded.run, variables


FUNCTIONS = {
    "by_model_export": served,
    "by_export_saved_model": signature,
    "by_module": method,
}


def gradients(function, inputs, weights):
    """Outputs, and gradients of one number that depends on each of them."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(inputs)
        factors = np.cos(np.arange(np.prod(outputs.shape))).reshape(outputs.shape)
        loss = tf.reduce_sum(tf.sin(outputs) * tf.cast(factors, outputs.dtype))
    return outputs, lambda: tape.gradient(loss, [inputs, *weights])


def reloaded_gradients(way, folder, inputs, values):
    """Outputs, gradients by position (none for None), and the error or None.

    Args:
        way: A key of FUNCTIONS.
        folder: String, of the SavedModel.
        inputs: Array.
        values: List of arrays, all different: the weights in their order.
    """
    loaded = tf.saved_model.load(folder)
    function, variables = FUNCTIONS[way](loaded)
    weights = [
        next(
            variable
            for variable in variables
            if variable.shape == value.shape and np.array_equal(variable, value)
        )
        for value in values
    ]
    outputs = function(tf.constant(inputs))
    try:
        # TensorFlow may refuse while it records, before anybody asks.
        _, take = gradients(function, tf.constant(inputs), weights)
        got = take()
    except Exception as error:  # Whatever it is, the caller judges it.
        return outputs.numpy(), {}, f"{type(error).__name__}: {error}"
    got = {k: value.numpy() for k, value in enumerate(got) if value is not None}
    return outputs.numpy(), got, None


def main(way, folder, source, target):
    given = np.load(source)
    values = [given[f"weight_{k}"] for k in range(len(given.files) - 1)]
    outputs, got, error = reloaded_gradients(way, folder, given["inputs"], values)
    got = {f"gradient_{k}": value for k, value in got.items()}
    np.savez(target, outputs=outputs, error=error or "", **got)


if __name__ == "__main__":
    main(*sys.argv[1:])
