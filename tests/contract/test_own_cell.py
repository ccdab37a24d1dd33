"""A sparse cell that is written outside the package runs wherever the package's do.

What the rows of support/conformance_cases.py get, its row gets too.
"""

import functools
import inspect
from pathlib import Path

import gated_sam
import helpers
import keras
import numpy as np
import pytest
import tensorflow as tf
from gated_sam import GatedSAM, GatedSAMCell
from helpers import make_layers, random_inputs, results_and_gradients

import keras_sam
from keras_sam import export_saved_model, prefill

FEATURES = 3
assert_close = functools.partial(helpers.assert_close, atol=3e-5)


@pytest.fixture(scope="module")
def model():
    """A model around the layer, of a memory that its sequences fill twice."""
    layer = GatedSAM(
        6,
        memory_slots=20,
        word_size=6,
        read_heads=2,
        write_heads=2,
        return_sequences=True,
        jit_compile=False,
        name="memory",
    )
    model = keras.Sequential([keras.Input((None, FEATURES)), layer])
    rng = np.random.default_rng(0)
    model.set_weights([0.7 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def test_the_cell_takes_fewer_than_a_hundred_lines():
    assert len(Path(gated_sam.__file__).read_text().splitlines()) < 100


@pytest.mark.parametrize("layer_class", [GatedSAM, keras_sam.SAM])
def test_the_oldest_word_is_kept_as_far_as_the_gate_is_closed(layer_class):
    layer = layer_class(4, 12, 3, read_heads=2, write_heads=2, jit_compile=False)
    layer.build((1, None, FEATURES))
    # Nothing is added, and both gates are 1/2.
    for weight in layer.cell.interface.weights:
        weight.assign(tf.zeros_like(weight))
    words = 1.0 + np.random.default_rng(0).random((12, 3)).astype("float32")
    trace = layer.trace(
        random_inputs(1, 5),
        layer.get_initial_state(1, memory=words),
        keep={"memory": lambda state: state.memory},
    )
    memories = np.concatenate([words[np.newaxis], trace["memory"][0]])
    kept = {GatedSAM: [0.75, 0.5, 0.5, 0.5, 0.5], keras_sam.SAM: [0.0] * 5}[layer_class]
    slots = np.reshape(trace["write_slots"][0], (5, 2, -1))[..., -1]
    for before, after, oldest, part in zip(
        memories[:-1], memories[1:], slots, kept, strict=True
    ):
        expected = before.copy()
        expected[oldest] *= part
        np.testing.assert_allclose(after, expected, rtol=1e-6)


# Slots are reused, and heads read and write the same ones.
ONE_HEAD = {"memory_slots": 9, "reads_per_head": 2}
TWO_HEADS = {"memory_slots": 7, "reads_per_head": 3, "write_heads": 2}


@pytest.mark.parametrize(
    ("path", "kwargs", "masked"),
    [
        ("in_place", ONE_HEAD, False),
        ("in_place", TWO_HEADS, True),
        ("compiled", TWO_HEADS, True),
    ],
)
def test_the_layer_equals_the_cell_in_a_keras_layer(path, kwargs, masked):
    layer, plain = make_layers(path, layer_class=GatedSAM, **kwargs)
    rng = np.random.default_rng(1)
    inputs = tf.constant(rng.normal(size=(3, 17, 5)))
    mask = tf.constant(rng.random((3, 17)) > 0.3) if masked else None
    state = layer.get_initial_state(3, memory=rng.normal(size=(5, 4)))
    got = results_and_gradients(layer, inputs, state, mask)
    expected = results_and_gradients(plain, inputs, state, mask)
    for values, references in zip(got, expected, strict=True):
        for value, reference in zip(values, references, strict=True):
            np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-9)
    # It is not the SAM of the same weights.
    other, _ = make_layers("in_place", **kwargs)
    outputs, *_ = other(inputs, initial_state=state, mask=mask)
    assert np.max(np.abs(outputs - got[0][0])) > 1e-3


def test_a_stream_goes_on_chunk_by_chunk(model, tmp_path):
    folder = export_saved_model(model, tmp_path)
    signatures = tf.saved_model.load(folder).signatures
    inputs = random_inputs(3, 20)
    states = signatures["initial_state"](batch_size=tf.constant(3))
    chunks = []
    for chunk in np.split(inputs, [1, 12], axis=1):
        states = signatures["step"](inputs=tf.constant(chunk), **states)
        chunks.append(states.pop("outputs"))
    assert_close(np.concatenate(chunks, axis=1), model(inputs))


def test_a_frozen_memory_answers_as_the_layer_that_has_read_it(model, tmp_path):
    context, inputs = random_inputs(1, 30, seed=1), random_inputs(3, 20)
    memory = prefill(model, context)
    folder = export_saved_model(model, tmp_path, memory=memory, streaming=False)
    whole = tf.saved_model.load(folder).signatures["serving_default"]
    contexts = np.repeat(context, 3, axis=0)
    expected = model(np.concatenate([contexts, inputs], axis=1))[:, 30:]
    assert_close(whole(inputs=tf.constant(inputs))["outputs"], expected)
    assert np.max(np.abs(expected - model(inputs))) > 1e-2


def test_a_trace_takes_the_same_steps(model):
    inputs = random_inputs(2, 7)
    trace = model.layers[0].trace(inputs)
    assert_close(trace["outputs"], model(inputs))
    assert trace["write_weights"].shape == (2, 7, 2, 20)
    assert trace["write_gates"].shape == (2, 7, 2)


def test_a_keras_file_gives_the_same_layer(model, tmp_path):
    inputs = random_inputs(2, 7)
    around_the_cell = keras.Sequential(
        [keras.Input((None, FEATURES)), keras.layers.RNN(GatedSAMCell(4, 8, 3))]
    )
    for each, kind in ((model, GatedSAM), (around_the_cell, keras.layers.RNN)):
        each.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert type(again.layers[0]) is kind
        assert type(again.layers[0].cell) is GatedSAMCell
        assert_close(again(inputs), each(inputs))


def test_help_names_the_arguments_of_the_cell():
    assert inspect.signature(GatedSAM) == inspect.signature(keras_sam.SAM)
