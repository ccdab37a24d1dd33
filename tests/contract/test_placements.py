"""A layer does what its cell does in Keras's own loop, wherever Keras puts it."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from placements import (
    FEATURES,
    LAYERS,
    OUTPUTS,
    PLACEMENTS,
    STEPS,
    Module,
    assign,
    data,
    numbers,
    plain_course,
    run_course,
    spread_weights,
)

# What is quick: the places in which Keras builds or calls a layer in its own way.
QUICK = {
    "ntm_compiled": ["subclassed_model"],
    "sam": [
        "subclassed_model",
        "custom_layer_without_build",
        "own_train_step",
        "tf_module",
        "tape_in_function",
    ],
    "sam_compiled": ["subclassed_model"],
    "sdnc": ["nested_subclassed_model"],
}
PAIRS = [
    pytest.param(
        layer,
        place,
        marks=[pytest.mark.slow] * (place not in QUICK.get(layer, [])),
        id=f"{layer}-{place}",
    )
    for layer in LAYERS
    for place in PLACEMENTS
]


@pytest.mark.parametrize(("layer", "place"), PAIRS)
def test_layer_learns_and_answers_as_its_cell_in_the_same_place(layer, place):
    subject, placement = LAYERS[layer], PLACEMENTS[place]
    expected = plain_course(placement, subject.kind, subject.arguments)
    for first, last in zip(expected.start, expected.trained, strict=True):
        assert np.abs(first - last).max() > 1e-4, "A weight has nothing to learn."
    got = run_course(placement, subject.layer)
    for first, last in zip(got.start, got.trained, strict=True):
        assert np.abs(first - last).max() > 0, "A weight was not trained."
    for value, reference in zip(got.trained, expected.trained, strict=True):
        np.testing.assert_allclose(value, reference, rtol=0, atol=1e-5)
    answers = list(expected.answers.items())
    for (name, reference), (_, other) in zip(answers, answers[1:], strict=False):
        assert np.abs(reference - other).max() > 1e-2
        np.testing.assert_allclose(
            got.answers[name],
            reference,
            rtol=0,
            atol=1e-5,
            err_msg=f"It does not answer with the weights that it has: {name}.",
        )
    np.testing.assert_allclose(got.answers["zeros"], answers[-1][1], rtol=0, atol=1e-5)


# Called first as one thing, trained as another.


def all_trainable(memory):
    memory.trainable = True


def frozen(memory):
    memory.trainable = False


def controller_frozen(memory):
    memory.trainable = True
    memory.cell.controller.trainable = False


def only_controller(memory):
    memory.trainable = True
    memory.cell.interface.trainable = False
    memory.cell.output_projection.trainable = False


SETTINGS = {
    setting.__name__: setting
    for setting in (all_trainable, frozen, controller_frozen, only_controller)
}
QUICK_CHANGES = {
    "sam": [("frozen", "all_trainable"), ("frozen", "controller_frozen")],
    "ntm_compiled": [("frozen", "all_trainable")],
    "sam_compiled": [("controller_frozen", "all_trainable")],
}
CHANGES = [
    pytest.param(
        layer,
        first,
        now,
        marks=[pytest.mark.slow] * ((first, now) not in QUICK_CHANGES.get(layer, [])),
        id=f"{layer}-{first}-{now}",
    )
    for layer, subject in LAYERS.items()
    for first in SETTINGS
    for now in SETTINGS
    if subject.own_sequence
]


def weights_after_a_change(make, first, now, eagerly):
    """Called and fitted with some weights trainable, then fitted with others.

    Returns:
        The memory's weights between the fits and after them, by name.
    """
    keras.utils.set_random_seed(0)
    memory = make()
    model = keras.Sequential(
        [keras.Input((STEPS, FEATURES)), memory, keras.layers.Dense(OUTPUTS)]
    )
    assign(model.weights, spread_weights(model.weights, seed=1))
    inputs, targets = data()

    def fit(epochs):
        # What Keras asks for once `trainable` has changed.
        model.compile(
            keras.optimizers.SGD(0.3), "mse", jit_compile=False, run_eagerly=eagerly
        )
        model.fit(inputs, targets, epochs=epochs, shuffle=False, verbose=0)

    SETTINGS[first](memory)
    with tf.GradientTape() as tape:
        sources = tf.constant(inputs)
        tape.watch(sources)
        loss = tf.reduce_sum(model(sources, training=True))
    assert np.abs(tape.gradient(loss, sources)).max() > 0
    fit(epochs=1)
    between = numbers(memory.weights)
    SETTINGS[now](memory)
    trainable = {id(weight) for weight in memory.trainable_weights}
    moves = [id(weight) in trainable for weight in memory.weights]
    fit(epochs=2)
    return between, numbers(memory.weights), moves


@functools.cache
def plain_weights_after_a_change(kind, arguments, first, now):
    subject = next(
        each
        for each in LAYERS.values()
        if each.kind == kind and each.arguments == arguments
    )
    return weights_after_a_change(subject.plain, first, now, eagerly=True)


@pytest.mark.parametrize(("layer", "first", "now"), CHANGES)
def test_what_is_trainable_now_learns_whatever_was_trainable_before(layer, first, now):
    subject = LAYERS[layer]
    between, after, moves = weights_after_a_change(
        subject.layer, first, now, eagerly=False
    )
    for before, value, trainable in zip(between, after, moves, strict=True):
        moved = np.abs(value - before).max()
        assert moved > 0 if trainable else moved == 0
    expected = plain_weights_after_a_change(subject.kind, subject.arguments, first, now)
    for values, references in zip((between, after), expected[:2], strict=True):
        for value, reference in zip(values, references, strict=True):
            np.testing.assert_allclose(value, reference, rtol=0, atol=1e-5)


# Modules that are saved.


QUICK_SAVED = ("ntm", "ntm_compiled", "sam")
SAVED = [
    pytest.param(
        layer, marks=[pytest.mark.slow] * (layer not in ("ntm", "ntm_compiled", "sam"))
    )
    for layer in LAYERS
]


@pytest.mark.parametrize("layer", SAVED)
def test_module_that_holds_a_layer_is_saved_and_answers_the_same(layer, tmp_path):
    memory = LAYERS[layer].layer(dropout=0.3, recurrent_dropout=0.2)
    module = Module(memory)
    inputs = tf.constant(data()[0])
    module.run(inputs)
    assign(memory.weights, spread_weights(memory.weights, seed=1))
    expected = module.run(inputs)
    tf.saved_model.save(module, tmp_path / "module")
    reloaded = tf.saved_model.load(tmp_path / "module")
    np.testing.assert_allclose(reloaded.run(inputs), expected, atol=1e-6)
    longer = tf.concat([inputs] * 2, axis=1)
    np.testing.assert_allclose(reloaded.run(longer), memory(longer), atol=1e-6)


def test_module_around_the_cell_is_saved_too(tmp_path):
    """What the test above asks for is what Keras itself can do."""
    inputs = tf.constant(data()[0])
    module = Module(LAYERS["sam"].plain(dropout=0.3, recurrent_dropout=0.2))
    expected = module.run(inputs)
    tf.saved_model.save(module, tmp_path / "module")
    reloaded = tf.saved_model.load(tmp_path / "module")
    np.testing.assert_allclose(reloaded.run(inputs), expected, atol=1e-6)
