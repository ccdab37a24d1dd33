"""The D-NTM's cell against its twin, and what its addressing means."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import dntm as twin
from twins import assert_near, assert_slope, draw, slope, twin_names, unit_direction

import keras_sam

BATCH, STEPS, FEATURES, UNITS, OUTPUTS = 2, 12, 5, 7, 4
SLOTS, WORDS, ADDRESS = 6, 5, 2
FIELDS = ("memory", "recent", "read_weights", "write_weights", "read_vectors")
CASES = {
    "lstm": {},
    "dense, 3 reads": {"controller": "dense", "reads_per_step": 3},
    "heads 2 3": {"read_heads": 2, "write_heads": 3, "reads_per_step": 2},
    "discrete": {"addressing": "discrete", "read_heads": 2},
    "clip": {"clip_value": 0.8, "initial_read_vectors": "learned"},
}


def layer_with_random_weights(dtype="float64", **options):
    """A layer, its weights by the twin's names, and inputs."""
    layer = keras_sam.DNTM(
        UNITS,
        SLOTS,
        WORDS,
        ADDRESS,
        output_size=OUTPUTS,
        return_sequences=True,
        return_state=True,
        dtype=dtype,
        **options,
    )
    layer.build((BATCH, None, FEATURES))
    rng = np.random.default_rng(0)
    weights = {
        name: draw(rng, name, variable.shape, options.get("controller", "lstm"))
        for name, variable in twin_names(layer.cell).items()
    }
    for name, variable in twin_names(layer.cell).items():
        variable.assign(weights[name])
    return layer, weights, rng.normal(size=(BATCH, STEPS, FEATURES))


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_that_of_the_twin(name):
    options = CASES[name]
    layer, weights, inputs = layer_with_random_weights(**options)
    expected = twin.run(
        weights,
        inputs,
        memory_slots=SLOTS,
        word_size=WORDS,
        address_size=ADDRESS,
        **{k: v for k, v in options.items() if not k.startswith("initial_")},
    )
    trace = layer.trace(inputs, keep={"memory": lambda state: state.memory})
    for field in ("outputs", *FIELDS):
        assert_near(trace[field], expected[field], 1e-10, field)
    outputs, *states = layer(inputs)
    assert_near(outputs, expected["outputs"], 1e-10, "outputs")
    state = layer.cell.unpack_state(states)
    for mine, theirs in zip(
        state.controller, expected["controller_state"], strict=True
    ):
        assert_near(mine, theirs, 1e-10, "controller")


def test_gradients_of_soft_addressing_are_finite_differences():
    layer, _, inputs = layer_with_random_weights(read_heads=2, reads_per_step=2)
    inputs = inputs[:, :5]
    rng = np.random.default_rng(1)
    direction_of_outputs = rng.normal(size=(BATCH, 5, OUTPUTS))

    def loss():
        return tf.reduce_sum(layer(inputs)[0] * direction_of_outputs)

    variables = layer.trainable_weights
    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        start = variable.numpy()
        direction = unit_direction(rng, start.shape)

        def moved(step, variable=variable, start=start, direction=direction):
            variable.assign(start + step * direction)
            return float(loss())

        numeric = slope(moved)
        variable.assign(start)
        assert_slope(gradient.numpy(), direction, numeric, variable.path)


def test_discrete_addressing_is_of_one_word_and_trains():
    layer, _, inputs = layer_with_random_weights(addressing="discrete")
    trace = layer.trace(inputs)
    for name in ("read_weights", "write_weights"):
        weights = trace[name].numpy()
        assert set(np.unique(weights)) == {0.0, 1.0}
        assert (weights.sum(axis=-1) == 1.0).all()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(inputs)[0] ** 2)
    variables = layer.trainable_weights
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    columns = layer.cell.interface_columns["keys"]
    kernel = [v.path.endswith("interface/kernel") for v in variables].index(True)
    assert np.abs(gradients[kernel].numpy()[:, columns]).min() > 0.0


def test_addresses_stay_and_contents_are_written():
    layer, weights, inputs = layer_with_random_weights()
    trace = layer.trace(inputs, keep={"memory": lambda state: state.memory})
    memory = trace["memory"].numpy()
    expected = np.broadcast_to(weights["addresses"], (BATCH, STEPS, SLOTS, ADDRESS))
    np.testing.assert_array_equal(memory[..., :ADDRESS], expected)
    assert memory[:, -1, :, ADDRESS:].any(axis=(1, 2)).all()


def test_what_a_head_was_like_of_late_counts_less():
    layer, _, inputs = layer_with_random_weights(controller="dense")
    interface = layer.cell.interface
    kernel, bias = interface.get_weights()
    columns = layer.cell.interface_columns
    # The same key at each step, sharp, and a gate that is open or shut.
    kernel[:] = 0.0
    bias[columns["strengths"]] = 20.0
    bias[columns["add"]] = 0.0  # so that what is written changes no content
    most = {}
    for gate in (-20.0, 20.0):
        bias[columns["recency_gates"]] = gate
        interface.set_weights([kernel, bias])
        weights = layer.trace(inputs)["read_weights"].numpy()
        most[gate] = weights[0, :3, 0].max(axis=-1)
    np.testing.assert_allclose(most[-20.0], most[-20.0][0], rtol=1e-6)
    np.testing.assert_allclose(most[20.0][0], most[-20.0][0], rtol=1e-6)
    # z, 0.1 z, 0.01 z under the softmax
    assert most[20.0][0] > 1.3 * most[20.0][1] > 1.3 * most[20.0][2]


def test_given_rows_are_whole_words():
    layer, weights, _ = layer_with_random_weights()
    rows = np.random.default_rng(2).normal(size=(3, WORDS))
    states = layer.cell.get_initial_state(BATCH, memory=rows)
    memory = layer.cell.unpack_state(states).memory.numpy()
    np.testing.assert_array_equal(memory[:, :3], np.stack([rows] * BATCH))
    rest = np.broadcast_to(weights["addresses"][3:], (BATCH, SLOTS - 3, ADDRESS))
    np.testing.assert_array_equal(memory[:, 3:, :ADDRESS], rest)
    assert not memory[:, 3:, ADDRESS:].any()


def test_its_memory_cannot_be_resized():
    model = keras.Sequential([keras.Input((None, 3)), keras_sam.DNTM(4, 8, 6, 2)])
    with pytest.raises(ValueError, match="none of its weights belongs to a slot"):
        keras_sam.resize_memory(model, 16)
