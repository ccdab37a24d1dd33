"""The Stack RNN against its NumPy twin, and stacks that are told what to do."""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import stack_rnn
from twins import assert_near, assert_slope, draw, slope, twin_names, unit_direction

import keras_sam

BATCH, STEPS, FEATURES, UNITS, OUTPUTS = 3, 12, 5, 7, 4
SIZES = {"memory_slots": 6, "stacks": 3, "read_depth": 2}
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
GIVEN = np.random.default_rng(10).normal(size=(BATCH, 6, 3)).astype("float32")
MASK = np.random.default_rng(11).random((BATCH, STEPS)) < 0.7
MASK[0, :2], MASK[1, -2:] = False, False
CASES = {
    "dense": {},
    "rnn": {"controller": "rnn", "given_memory": GIVEN},
    "lstm": {"controller": "lstm", "read_depth": 6},
    "no no-op": {"no_op": False, "stacks": 1, "given_memory": GIVEN[0, :4, :1]},
    "rounded": {"round_actions": True},
    "rounded, no no-op": {"round_actions": True, "no_op": False, "memory_slots": 2},
    "clip": {"clip_value": 0.8, "read_depth": 1, "given_memory": GIVEN},
    "mask": {"mask": MASK, "given_memory": GIVEN[0]},
}


def layer_and_twin(options, dtype="float64"):
    """A layer with random weights, its inputs and weights, and the twin's trace."""
    of_twin = {**SIZES, **options}
    of_layer = {k: v for k, v in of_twin.items() if k not in ("given_memory", "mask")}
    if options.get("controller") == "rnn":
        of_layer["controller"] = keras.layers.SimpleRNNCell(
            UNITS, activation="sigmoid", dtype=dtype
        )
    layer = keras_sam.StackRNN(
        UNITS,
        output_size=OUTPUTS,
        return_sequences=True,
        return_state=True,
        dtype=dtype,
        **of_layer,
    )
    layer.build((BATCH, None, FEATURES))
    for seed in range(50):
        rng = np.random.default_rng(seed)
        weights = {
            name: draw(rng, name, variable.shape, "lstm").astype(dtype)
            for name, variable in twin_names(layer.cell).items()
        }
        inputs = rng.normal(size=(BATCH, STEPS, FEATURES)).astype(dtype)
        expected = stack_rnn.run(weights, inputs, **of_twin)
        # Each action is the greatest somewhere: else rounding would say little.
        kinds = expected["actions"].shape[-1]
        if len(np.unique(expected["actions"].argmax(axis=-1))) == kinds:
            break
    for name, variable in twin_names(layer.cell).items():
        variable.assign(weights[name])
    return layer, inputs, weights, expected


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", CASES)
def test_the_layer_and_its_trace_are_the_twin(name, dtype):
    options, tolerance = CASES[name], TOLERANCES[dtype]
    layer, inputs, _, expected = layer_and_twin(options, dtype)
    start = layer.get_initial_state(BATCH, memory=options.get("given_memory"))
    outputs, *states = layer(inputs, start, mask=options.get("mask"))
    assert_near(outputs, expected["outputs"], tolerance, "outputs")
    state = layer.cell.unpack_state(states)
    for field in ("memory", "read_vectors"):
        assert_near(getattr(state, field), expected[field][:, -1], tolerance, field)
    for got, theirs in zip(state.controller, expected["controller_state"], strict=True):
        assert_near(got, theirs, tolerance, "controller")
    if "mask" in options:
        return
    trace = layer.trace(inputs, start, keep={"memory": lambda state: state.memory})
    for field in set(expected) - {"controller_state"}:
        assert_near(trace[field], expected[field], tolerance, field)


@pytest.mark.parametrize("name", ["dense", "no no-op", "rnn"])
def test_gradients_of_the_weights(name):
    layer, inputs, weights, expected = layer_and_twin(CASES[name])
    options = {**SIZES, **CASES[name]}
    start = layer.get_initial_state(BATCH, memory=options.get("given_memory"))
    rng = np.random.default_rng(1)
    share = rng.normal(size=expected["outputs"].shape)
    variables = twin_names(layer.cell)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(share * layer(inputs, start)[0])
    gradients = tape.gradient(loss, [v.value for v in variables.values()])
    for (weight, value), gradient in zip(weights.items(), gradients, strict=True):
        direction = unit_direction(rng, value.shape)

        def moved(t):
            nudged = {**weights, weight: value + t * direction}  # noqa: B023
            trace = stack_rnn.run(nudged, inputs, **options)
            return np.sum(share * trace["outputs"])

        assert_slope(gradient.numpy(), direction, slope(moved), weight)


# Told what to do.

PUSH, POP, NO_OP = np.eye(3)


def contents(cell, program, training=False):
    """What the only stack holds after each of the steps (action, value)."""
    state = cell.unpack_state(cell.get_initial_state(1))
    found = []
    for action, value in program:
        logits = np.log(np.maximum(action, 1e-9))
        interface = [*logits, np.log(value / (1.0 - value))]
        interface = tf.constant([interface], "float32")
        with mock.patch.object(cell, "interface_vector", lambda hidden: interface):  # noqa: B023
            _, *states = keras.layers.RNN(cell, return_state=True)(
                tf.zeros((1, 1, 1)), cell.pack_state(state), training=training
            )
        state = cell.unpack_state(states)
        assert np.array_equal(state.read_vectors, state.memory[:, : cell.read_depth])
        found.append(state.memory[0, :, 0].numpy())
    return pytest.approx(np.array(found), abs=1e-6)


def one_stack(**options):
    return keras_sam.StackRNNCell(4, 3, stacks=1, clip_value=None, **options)


def test_last_in_first_out():
    program = [(PUSH, 0.1), (PUSH, 0.2), (NO_OP, 0.9), (POP, 0.9), (POP, 0.9)]
    program += [(POP, 0.9), (PUSH, 0.3)]
    e = stack_rnn.EMPTY
    assert contents(one_stack(), program) == np.array(
        [
            [0.1, e, e],
            [0.2, 0.1, e],
            [0.2, 0.1, e],
            [0.1, e, e],
            [e, e, e],
            [e, e, e],  # of an empty stack there is nothing to pop
            [0.3, e, e],
        ]
    )


def test_a_full_stack_loses_what_is_at_the_bottom():
    program = [(PUSH, 0.1), (PUSH, 0.2), (PUSH, 0.3), (PUSH, 0.4), (POP, 0.5)]
    assert contents(one_stack(), program) == np.array(
        [
            [0.1, -1, -1],
            [0.2, 0.1, -1],
            [0.3, 0.2, 0.1],
            [0.4, 0.3, 0.2],
            [0.3, 0.2, -1],
        ]
    )


def test_a_mixture_of_actions_is_rounded_at_inference_alone():
    mixture = [(np.array([0.5, 0.3, 0.2]), 0.6)]
    soft = np.array([[0.5 * 0.6 - 0.5, -1, -1]])
    assert contents(one_stack(), mixture) == soft
    rounded = one_stack(round_actions=True)
    assert contents(rounded, mixture) == np.array([[0.6, -1, -1]])
    assert contents(rounded, mixture, training=True) == soft


def test_a_rounded_stack_is_saved_and_compiled(tmp_path):
    symbol = keras.Input((None, 2))
    layer = keras_sam.StackRNN(4, 8, 3, round_actions=True, return_sequences=True)
    model = keras.Model(symbol, layer(symbol))
    inputs = np.random.default_rng(0).normal(size=(2, 6, 2)).astype("float32")
    expected = model(inputs)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.layers[-1].cell.round_actions is True
    np.testing.assert_array_equal(again(inputs), expected)
    compiled = tf.function(model, jit_compile=True)
    assert_near(compiled(inputs), expected, 1e-6, "outputs")
    model.export(tmp_path / "1", verbose=False)
    served = tf.saved_model.load(tmp_path / "1")
    assert_near(served.serve(inputs), expected, 1e-6, "outputs")


def test_a_deeper_stack_has_the_same_weights():
    symbol = keras.Input((None, 2))
    layer = keras_sam.StackRNN(4, memory_slots=8, stacks=2, return_sequences=True)
    model = keras.Model(symbol, layer(symbol))
    deeper = keras_sam.resize_memory(model, 32)
    inputs = np.random.default_rng(0).normal(size=(2, 6, 2)).astype("float32")
    assert_near(deeper(inputs), model(inputs), 1e-6, "outputs")
    assert deeper.layers[-1].cell.memory_slots == 32
