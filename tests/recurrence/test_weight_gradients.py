"""Weight gradients summed by chunks of steps, against a tape around all steps."""

import keras
import numpy as np
import tensorflow as tf

from keras_sam.recurrence.weight_gradients import WeightGradients

BATCH, STEPS, CHUNK = 2, 11, 4
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(STEPS, BATCH, 3))


def make_variables():
    shapes = {"once": (3, 4), "twice": (4, 4), "also_added": (4, 4), "bias": (4,)}
    return {
        name: keras.Variable(RNG.normal(size=shape), dtype="float64", name=name)
        for name, shape in {**shapes, "unused": (2, 2)}.items()
    }


def step(inputs, weights):
    """One that uses weights in several ways."""
    hidden = tf.tanh(tf.matmul(inputs, weights["once"]) + weights["bias"])
    hidden = tf.matmul(tf.sin(tf.matmul(hidden, weights["twice"])), weights["twice"])
    return tf.matmul(hidden, weights["also_added"]) * tf.reduce_sum(
        weights["also_added"]
    )


def summed_by_chunks(weights, jit_compile):
    variables = list(weights.values())
    seen = []

    def named(values):
        return dict(zip(weights, values, strict=True))

    @tf.function(jit_compile=jit_compile, autograph=False)
    def run():
        tensors = [tf.convert_to_tensor(variable) for variable in variables]
        gradients = WeightGradients(
            tensors,
            lambda values, batch: step(
                tf.zeros((batch, 3), INPUTS.dtype), named(values)
            ),
        )

        def one(t, sums, factors):
            watched = gradients.watch()
            output = step(tf.constant(INPUTS)[t], named(watched.weights))
            seen.append([product.position for product in watched.products])
            new = tf.gradients(
                [tf.sin(output)],
                watched.analyze(),
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            return t + 1, *watched.add(sums, factors, t, new)

        def chunk(t, sums):
            end = tf.minimum(t + CHUNK, STEPS)
            t, sums, factors = tf.while_loop(
                lambda t, *_: t < end,
                one,
                (t, sums, gradients.empty_factors(CHUNK, BATCH)),
            )
            return t, gradients.multiply(sums, factors)

        return tf.while_loop(lambda t, _: t < STEPS, chunk, (0, gradients.zeros()))[1]

    return run(), seen


def check(jit_compile):
    weights = make_variables()
    got, seen = summed_by_chunks(weights, jit_compile)
    # What is only ever multiplied from the right: `once`, and `twice` twice.
    assert seen[0] == [0, 1, 1]
    with tf.GradientTape() as tape:
        outputs = [tf.reduce_sum(tf.sin(step(inputs, weights))) for inputs in INPUTS]
        total = tf.add_n(outputs)
    expected = tape.gradient(
        total,
        [variable.value for variable in weights.values()],
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    for name, value, reference in zip(weights, got, expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-11, err_msg=name)


def test_sums_equal_those_of_a_tape():
    check(jit_compile=None)


def test_sums_equal_those_of_a_tape_under_xla():
    check(jit_compile=True)


def test_no_weights():
    gradients = WeightGradients([], lambda weights, batch: INPUTS[0] + 1.0)
    assert gradients.zeros() == gradients.empty_factors(CHUNK, BATCH) == []
    assert gradients.multiply([], []) == []
