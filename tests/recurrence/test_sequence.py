"""Layers with jit_compile=True: the compiled loop equals the plain one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import results_and_gradients

import keras_sam

SIZES = {"units": 6, "memory_slots": 7, "word_size": 3, "read_heads": 2}
RNG = np.random.default_rng(0)
INPUTS = np.float32(RNG.normal(size=(3, 5, 4)))
MASK = RNG.random((3, 5)) > 0.3


def make_layer(layer_class, jit_compile, **kwargs):
    keras.utils.set_random_seed(3)
    layer = layer_class(
        **SIZES,
        return_sequences=True,
        return_state=True,
        jit_compile=jit_compile,
        **kwargs,
    )
    layer.build(INPUTS.shape)
    return layer


# Each case costs XLA half a minute: the cells share the two paths among them.
@pytest.mark.parametrize(
    ("layer_class", "mask"),
    [(keras_sam.NTM, None), (keras_sam.DNC, MASK)],
    ids=["NTM-whole", "DNC-masked"],
)
def test_compiled_equals_plain(layer_class, mask):
    compiled = make_layer(layer_class, True)
    plain = make_layer(layer_class, False)
    state = compiled.get_initial_state(3)
    for got, expected in zip(
        results_and_gradients(compiled, tf.constant(INPUTS), state, mask),
        results_and_gradients(plain, tf.constant(INPUTS), state, mask),
        strict=True,
    ):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_backward_pass_runs_with_the_dropout_of_the_forward_pass():
    """Finite differences with the generators set back before each evaluation."""
    layer = make_layer(keras_sam.NTM, True, dropout=0.4, recurrent_dropout=0.3)
    seeds = layer.cell.controller.seed_generator.state
    start = seeds.numpy()
    state = layer.get_initial_state(3)

    def loss():
        seeds.assign(start)
        return float(tf.reduce_sum(tf.sin(layer(INPUTS, state, training=True)[0])))

    kernel = layer.cell.controller.kernel
    seeds.assign(start)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.sin(layer(INPUTS, state, training=True)[0]))
    after_forward = seeds.numpy()
    gradient = tape.gradient(value, kernel.value).numpy()
    np.testing.assert_array_equal(seeds.numpy(), after_forward)
    assert (after_forward != start).any()

    direction = np.random.default_rng(1).normal(size=kernel.shape).astype("float32")
    original, step = kernel.numpy(), 1e-2
    kernel.assign(original + step * direction)
    above = loss()
    kernel.assign(original - step * direction)
    below = loss()
    kernel.assign(original)
    np.testing.assert_allclose(
        np.sum(gradient * direction), (above - below) / (2 * step), rtol=2e-2
    )
    # Other random numbers give another loss: the comparison is not an idle one.
    seeds.assign(start + 1)
    other = float(tf.reduce_sum(tf.sin(layer(INPUTS, state, training=True)[0])))
    assert abs(other - float(value)) > 1e-3


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_a_batch_without_sequences_has_gradients_of_zero(jit_compile):
    # One of several workers may get it, of the last batch.
    layer = make_layer(keras_sam.SAM, jit_compile, reads_per_head=2)

    @tf.function(input_signature=[tf.TensorSpec((None, 5, 4))])
    def step(inputs):
        weights = [variable.value for variable in layer.trainable_variables]
        with tf.GradientTape() as tape:
            outputs, *states = layer(inputs)
            loss = tf.reduce_sum(outputs)
        return (outputs, *states), tape.gradient(loss, weights)

    results, gradients = step(INPUTS[:0])
    assert all(result.shape[0] == 0 for result in results)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_trains_in_a_model_that_is_not_compiled():
    model = keras.Sequential(
        [
            keras.Input((None, 9)),
            keras_sam.NTM(
                16, 16, 8, output_size=8, return_sequences=True, jit_compile=True
            ),
            keras.layers.Activation("sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", jit_compile=False)
    data = keras_sam.tasks.copy_task(8, max_length=2, seed=0)
    history = model.fit(data, steps_per_epoch=20, epochs=3, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < losses[0]


def test_stateful_layer_moves_its_state_once_per_call():
    keras.utils.set_random_seed(3)
    compiled = keras_sam.NTM(**SIZES, stateful=True, jit_compile=True)
    plain = keras_sam.NTM(**SIZES, stateful=True, jit_compile=False)
    compiled(INPUTS)
    plain(INPUTS)
    plain.set_weights(compiled.get_weights())
    for layer in (compiled, plain):
        layer.reset_state()
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(INPUTS))
        tape.gradient(loss, layer.cell.interface.kernel.value)
    np.testing.assert_allclose(compiled(INPUTS), plain(INPUTS), atol=1e-5)


@pytest.mark.parametrize("layer_class", [keras_sam.NTM, keras_sam.SAM])
def test_says_what_it_compiles_and_that_it_has_no_second_derivatives(
    layer_class, caplog
):
    layer, inputs = make_layer(layer_class, True), tf.constant(INPUTS)

    def squared_gradient(inputs):
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                loss = tf.reduce_sum(layer(inputs)[0] ** 2)
            penalty = tf.reduce_sum(inner.gradient(loss, inputs) ** 2)
        return outer.gradient(penalty, inputs)

    for function in (squared_gradient, tf.function(squared_gradient)):
        with pytest.raises(
            NotImplementedError, match="no second deriv.*keras.layers.RNN"
        ):
            function(inputs)

    # Two tapes, of which neither asks for the other's.
    with tf.GradientTape() as outer, tf.GradientTape() as inner:
        outer.watch(inputs)
        inner.watch(inputs)
        loss = tf.reduce_sum(layer(inputs)[0] ** 2)
    gradient = inner.gradient(loss, inputs)
    assert np.abs(gradient).max() > 0
    np.testing.assert_array_equal(outer.gradient(loss, inputs), gradient)

    layer(INPUTS[:2])
    make_layer(layer_class, True)(INPUTS[:2])  # The same program.
    messages = [r.message for r in caplog.records if r.name == "keras_sam"]
    name = layer_class.__name__
    compiles = f"XLA compiles {name}(units=6, memory_slots=7)"
    trained = f"{compiles}, forward and backward, for batches of 3 and up to 5"
    called = f"{compiles} for batches of 2 and up to 5"
    assert len([m for m in messages if m.startswith(trained)]) <= 1
    (message,) = [m for m in messages if m.startswith(called)]
    assert "jit_compile=False" in message
