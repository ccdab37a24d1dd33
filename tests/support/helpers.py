"""What several test files share: inputs, weights, comparisons, pairs of layers."""

import re

import keras
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

import keras_sam

# Inputs and weights.


def random_inputs(batch=3, steps=7, features=3, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, steps, features)).astype(dtype)


def randomize(*layers, seed=0, scale=0.5, shape=None):
    """Gives layers, or models, the same random weights, initial states' included.

    Args:
        *layers: Layers with weights of the same shapes in the same order.
        seed: Integer.
        scale: The standard deviation.
        shape: That of the inputs, for layers that have not been built.
    """
    rng = np.random.default_rng(seed)
    for layer in layers:
        if shape is not None:
            layer.build(shape)
    for weights in zip(*(layer.weights for layer in layers), strict=True):
        mean = 1.0 if weights[0].name == "gamma" else 0.0
        value = rng.normal(mean, scale, size=weights[0].shape)
        for weight in weights:
            weight.assign(value)


# Comparisons.


def arrays(structure):
    return [np.asarray(value) for value in keras.tree.flatten(structure)]


def assert_close(actual, expected, rtol=1e-5, atol=1e-6):
    actual, expected = arrays(actual), arrays(expected)
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def assert_differs(one, other):
    assert np.max(np.abs(np.asarray(one) - np.asarray(other))) > 1e-4


# A sequence and its gradients.

SIZES = {"units": 6, "word_size": 4, "read_heads": 2, "output_size": 3}
# The two ways in which the layer runs its sequences.
PATHS = {"compiled": "auto", "in_place": False}


def make_layers(
    path="compiled",
    zero_output_for_mask=False,
    dtype="float64",
    layer_class=keras_sam.SAM,
    **kwargs,
):
    """The layer and its cell in Keras's own loop, with the same well-spread weights."""
    options = {
        "dtype": dtype,
        "return_sequences": True,
        "return_state": True,
        "zero_output_for_mask": zero_output_for_mask,
    }
    layer = layer_class(**SIZES, **options, **kwargs, jit_compile=PATHS[path])
    plain = keras.layers.RNN(
        layer_class.cell_class(**SIZES, **kwargs, dtype=dtype), **options
    )
    randomize(layer, plain, scale=0.7, shape=(3, None, 5))
    return layer, plain


def results_and_gradients(layer, inputs, state=(), mask=None, training=True):
    """Results, and the gradients of a sum of their sines.

    Returns a list of outputs and states, and a list for inputs, `state` and weights.
    """
    sources = [inputs, *state, *(v.value for v in layer.trainable_variables)]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        results = layer(
            inputs, initial_state=list(state) or None, mask=mask, training=training
        )
        loss = tf.add_n([tf.reduce_sum(tf.sin(result)) for result in results])
    gradients = tape.gradient(
        loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return results, gradients


# Programs that XLA has compiled.

# What a loop may do with the memory, or with its links: pass it through as it is. What
# makes a new one of its size copies it at each step.
ALLOWED = {"parameter", "tuple", "get-tuple-element", "bitcast", "call", "while"}


def copies_in_loops(program, size):
    """Instructions of a compiled program's loops that make something so large."""
    computations = {}
    for text in program.split("\n\n"):
        name = re.match(r"(?:ENTRY )?%?([\w.\-]+)", text.strip())
        if name:
            computations[name.group(1)] = text
    todo = set(re.findall(r"body=%?([\w.\-]+)", program))
    assert todo, "No loop was found in the program."
    seen, found = set(), []
    while todo:
        name = todo.pop()
        seen.add(name)
        for line in computations[name].splitlines():
            called = re.findall(r"(?:to_apply|body|condition)=%?([\w.\-]+)", line)
            todo |= {other for other in called if other not in seen}
            match = re.match(
                r"\s*(?:ROOT )?%?\S+ = \w+\[([\d,]*)\]\S* ([\w\-]+)\(", line
            )
            if match is None:
                continue
            shape, kind = match.groups()
            if np.prod([int(n) for n in shape.split(",") if n]) < size:
                continue
            if kind == "fusion":
                fused = re.search(r"calls=%?([\w.\-]+)", line).group(1)
                root = re.search(r"ROOT .*", computations[fused]).group()
                kind = "scatter" if " scatter(" in root else "fusion"
            if kind != "scatter" and kind not in ALLOWED:
                found.append(line.strip())
    return found


def compiled_programs(layer, inputs, states):
    """A layer's forward and backward pass as XLA has compiled them, two texts."""
    operation = layer._operation(jit_compile=True)
    weights = [tf.convert_to_tensor(weight) for weight in layer.cell.weights]
    arguments = ([inputs, *states], weights, [], None, tf.constant(16), False)
    results, _, records = operation.forward_program(*arguments, True)
    upstream = [tf.ones_like(result) for result in results]
    return [
        program.experimental_get_compiler_ir(*arguments, *more)(stage="optimized_hlo")
        for program, more in (
            (operation.forward_program, [True]),
            (operation.backward_program, [records, upstream]),
        )
    ]


# Searches.

# Of unwritten words. With this and whole numbers every product is exact, so that
# what ties does so to the last bit.
UNWRITTEN = 2.0**-20


def similarities(memory, queries):
    memory, queries = np.float64(memory), np.float64(queries)
    norms = np.sqrt(np.sum(memory**2, axis=-1) + 1e-6)
    return np.einsum("bnw,bhw->bhn", memory, queries) / norms[:, np.newaxis]


def brute_force(memory, queries, count):
    """The most similar slots of all, ties to the lowest number."""
    order = np.argsort(-similarities(memory, queries), axis=-1, kind="stable")
    return order[..., :count]


def small_numbers(*shape):
    """Words or queries in which much is alike, opposite or zero."""
    size = int(np.prod(shape))
    numbers = st.lists(st.integers(-2, 2), min_size=size, max_size=size)
    return numbers.map(lambda values: np.reshape(values, shape).astype(float))
