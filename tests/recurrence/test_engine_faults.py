"""A layer's own sequence with what users put into it, ask of it and see of it."""

import functools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import results_and_gradients
from running import ROOT

import keras_sam

BATCH, STEPS, FEATURES = 3, 6, 4
each_jit_compile = pytest.mark.parametrize("jit_compile", [False, True])


# Controllers that a user writes.


class UserCell(keras.layers.Layer):
    """A cell with one state, its output."""

    def __init__(self, units=6, **kwargs):
        super().__init__(dtype="float64", **kwargs)
        self.units = self.state_size = self.output_size = units

    def dense(self, units, **kwargs):
        return keras.layers.Dense(units, dtype="float64", **kwargs)

    def call(self, inputs, states, training=False):
        output = self.step(tf.concat([inputs, states[0]], axis=-1), training)
        return output, [output]


class PairCell(UserCell):
    """Applies one layer to pairs, `[batch, 2, 4]`."""

    def build(self, input_shape):
        self.split = self.dense(8)
        self.split.build((None, input_shape[-1] + self.units))
        self.pair = self.dense(self.units // 2, activation="tanh")
        self.pair.build((None, 2, 4))

    def step(self, values, training):
        pairs = tf.reshape(self.split(values), (-1, 2, 4))
        return tf.reshape(self.pair(pairs), (-1, self.units))


class FoldedPairCell(PairCell):
    """The same with pairs below one another, `[2 batch, 4]`."""

    def step(self, values, training):
        pairs = self.pair(tf.reshape(self.split(values), (-1, 4)))
        return tf.reshape(pairs, (-1, self.units))


class WeightUsedInManyWaysCell(UserCell):
    """Multiplies by a weight, by its transpose, and by its mean."""

    def build(self, input_shape):
        width = input_shape[-1] + self.units
        self.kernel = self.add_weight(shape=(width, self.units), name="kernel")

    def step(self, values, training):
        kernel = tf.convert_to_tensor(self.kernel)
        hidden = tf.tanh(tf.matmul(values, kernel))
        back = tf.tanh(tf.matmul(hidden, kernel, transpose_b=True))
        return tf.matmul(back, kernel) + hidden * tf.reduce_mean(kernel**2)


class SharedDenseCell(UserCell):
    """Applies one layer twice."""

    def build(self, input_shape):
        self.first = self.dense(self.units)
        self.first.build((None, input_shape[-1] + self.units))
        self.twice = self.dense(self.units, activation="tanh")
        self.twice.build((None, self.units))

    def step(self, values, training):
        return self.twice(self.twice(self.first(values)))


class NormalizingCell(UserCell):
    """Keeps statistics of its batches, which it assigns at each step."""

    def build(self, input_shape):
        self.first = self.dense(self.units)
        self.first.build((None, input_shape[-1] + self.units))
        self.normalize = keras.layers.BatchNormalization(dtype="float64", momentum=0.8)
        self.normalize.build((None, self.units))

    def step(self, values, training):
        return tf.tanh(self.normalize(self.first(values), training=training))


class CountingCell(UserCell):
    """Counts its steps in a variable of its own, and uses the count."""

    def build(self, input_shape):
        self.first = self.dense(self.units)
        self.first.build((None, input_shape[-1] + self.units))
        self.count = self.add_weight(
            shape=(), name="count", initializer="zeros", trainable=False
        )

    def step(self, values, training):
        self.count.assign(self.count + 1.0)
        return tf.tanh(self.first(values) * (1.0 + 0.1 * self.count))


class AlwaysNoisyCell(UserCell):
    """Draws random numbers at each step, not in training alone."""

    def build(self, input_shape):
        self.first = self.dense(self.units)
        self.first.build((None, input_shape[-1] + self.units))
        self.seed_generator = keras.random.SeedGenerator(3)

    def step(self, values, training):
        hidden = self.first(values)
        noise = keras.random.normal(
            (BATCH, self.units), dtype="float64", seed=self.seed_generator
        )
        return tf.tanh(hidden * (1.0 + 0.3 * noise))


def inputs_of(steps=STEPS):
    rng = np.random.default_rng(0)
    return tf.constant(rng.normal(size=(BATCH, steps, FEATURES)))


def layer_and_plain(cell_class, jit_compile):
    """A SAM, and its cell in Keras's own loop, with the same weights."""
    sizes = {"units": 6, "memory_slots": 9, "word_size": 4, "read_heads": 2}
    sizes |= {"reads_per_head": 2, "output_size": 3, "dtype": "float64"}
    options = {"return_sequences": True, "return_state": True}
    layer = keras_sam.SAM(
        **sizes, **options, controller=cell_class(), jit_compile=jit_compile
    )
    plain = keras.layers.RNN(
        keras_sam.SAMCell(**sizes, controller=cell_class()), dtype="float64", **options
    )
    rng = np.random.default_rng(1)
    for one in (layer, plain):
        one.build((BATCH, None, FEATURES))
    for weight, other in zip(layer.weights, plain.weights, strict=True):
        if weight.trainable:
            value = rng.normal(scale=0.5, size=weight.shape)
            weight.assign(value)
            other.assign(value)
    return layer, plain


def assert_the_same(got, expected):
    got, expected = tf.nest.flatten(got), tf.nest.flatten(expected)
    for value, reference in zip(got, expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-8, atol=1e-9)


@each_jit_compile
@pytest.mark.parametrize(
    "cell_class", [PairCell, FoldedPairCell, WeightUsedInManyWaysCell, SharedDenseCell]
)
@pytest.mark.slow_rows("*-False")
def test_gradients_are_the_cells_however_a_controller_uses_its_weights(
    cell_class, jit_compile
):
    layer, plain = layer_and_plain(cell_class, jit_compile)
    expected = results_and_gradients(plain, inputs_of(), training=True)
    for gradient in expected[1][-len(plain.trainable_variables) :]:
        assert np.abs(gradient).max() > 0
    assert_the_same(results_and_gradients(layer, inputs_of(), training=True), expected)


@each_jit_compile
@pytest.mark.parametrize("cell_class", [NormalizingCell, CountingCell])
def test_variables_that_a_controller_assigns_are_those_of_the_cell_or_refused(
    cell_class, jit_compile
):
    layer, plain = layer_and_plain(cell_class, jit_compile)
    kept = [weight.numpy() for weight in plain.non_trainable_variables]
    expected = results_and_gradients(plain, inputs_of(), training=True)
    changed = [weight.numpy() for weight in plain.non_trainable_variables]
    assert not np.array_equal(kept[0], changed[0])
    try:
        got = results_and_gradients(layer, inputs_of(), training=True)
    except (NotImplementedError, ValueError) as error:
        # By the name of what cannot be done, and with what to do instead.
        assert "keras.layers.RNN" in str(error), error
        assert "assign" in str(error) or "variable" in str(error), error
        for weight, value in zip(layer.non_trainable_variables, kept, strict=True):
            np.testing.assert_array_equal(weight, value)
        return
    assert_the_same(got, expected)
    assert_the_same(layer.non_trainable_variables, changed)
    # And those of the second sequence after those of the first.
    assert_the_same(
        results_and_gradients(layer, inputs_of(), training=False),
        results_and_gradients(plain, inputs_of(), training=False),
    )


@each_jit_compile
def test_batch_statistics_are_used_at_inference(jit_compile):
    layer, plain = layer_and_plain(NormalizingCell, jit_compile)
    for one in (layer, plain):
        one.cell.controller.normalize.moving_mean.assign(0.3 * np.arange(6))
    assert_the_same(
        results_and_gradients(layer, inputs_of(), training=False),
        results_and_gradients(plain, inputs_of(), training=False),
    )


@each_jit_compile
def test_random_numbers_at_inference_are_new_ones_and_those_of_the_gradient(
    jit_compile,
):
    layer, _ = layer_and_plain(AlwaysNoisyCell, jit_compile)
    state = layer.cell.controller.seed_generator.state
    start = state.numpy()
    kernel = layer.cell.controller.first.kernel
    direction = np.random.default_rng(2).normal(size=kernel.shape)
    inputs = inputs_of()

    def loss():
        state.assign(start)
        return tf.reduce_sum(tf.sin(layer(inputs)[0]))

    with tf.GradientTape() as tape:
        value = loss()
    after = state.numpy()
    gradient = tape.gradient(value, kernel.value).numpy()
    # The backward pass draws the same ones, and leaves the generator where it was.
    assert not np.array_equal(after, start)
    np.testing.assert_array_equal(state, after)
    again = tf.reduce_sum(tf.sin(layer(inputs)[0]))
    assert abs(float(again - value)) > 1e-6, "The numbers are not new ones."
    np.testing.assert_allclose(loss(), value, rtol=1e-12)
    original = kernel.numpy()
    kernel.assign(original + 1e-6 * direction)
    above = float(loss())
    kernel.assign(original - 1e-6 * direction)
    slope = (above - float(loss())) / 2e-6
    np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-5)


@each_jit_compile
def test_each_step_draws_other_random_numbers(jit_compile):
    """As if each step were a call of its own, whose first numbers are others."""
    layer, plain = layer_and_plain(AlwaysNoisyCell, jit_compile)
    same = tf.repeat(inputs_of(1), STEPS, axis=1)
    for one in (layer, plain):
        one.cell.controller.first.kernel.assign(
            np.concatenate([np.ones((FEATURES, 6)), np.zeros((2 * 4 + 6, 6))])
        )
        controller = one(same)[-1]
        shorter = one(same[:, :1])[-1]
        # A controller without memory: only the noise tells one step from another.
        assert np.abs(controller - shorter).max() > 1e-3


@pytest.mark.parametrize("layer_class", [keras_sam.SAM, keras_sam.NTM])
@pytest.mark.parametrize("in_function", [False, True])
def test_second_derivatives_are_refused_in_words(layer_class, in_function):
    layer = layer_class(4, 7, 3, jit_compile=True)
    inputs = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 2)), tf.float32)

    def squared_gradient(inputs):
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                loss = tf.reduce_sum(layer(inputs) ** 2)
            penalty = tf.reduce_sum(inner.gradient(loss, inputs) ** 2)
        return outer.gradient(penalty, inputs)

    if in_function:
        squared_gradient = tf.function(squared_gradient)
    with pytest.raises((NotImplementedError, LookupError), match="second derivative"):
        squared_gradient(inputs)


# What is said.


def compiled_layer(units, **kwargs):
    return keras_sam.SAM(units, 11, 3, 1, jit_compile=True, **kwargs)


def messages(caplog):
    return [record.message for record in caplog.records if record.name == "keras_sam"]


def test_each_new_program_is_announced_once_and_one_that_is_there_never(caplog):
    inputs = tf.zeros((2, 5, 3))
    first = compiled_layer(5)
    first(inputs)
    assert len(messages(caplog)) == 1
    first(inputs)
    tf.function(first)(inputs)
    compiled_layer(5)(inputs)
    compiled_layer(5, name="another_name", trainable=False)(inputs)
    assert len(messages(caplog)) == 1, "A program was there, and was announced again."
    first(inputs[:1])
    assert len(messages(caplog)) == 2, "A batch of another size is another program."
    compiled_layer(5)(inputs[:1])
    assert len(messages(caplog)) == 2
    compiled_layer(6)(inputs)
    assert len(messages(caplog)) == 3, "Other sizes are another program."


@pytest.mark.slow
def test_training_of_a_second_equal_model_announces_nothing(caplog):
    inputs = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")

    def train():
        model = keras.Sequential([keras.Input((None, 3)), compiled_layer(7)])
        model.compile("sgd", "mse", jit_compile=False)
        model.fit(inputs, np.zeros((2, 7), "float32"), verbose=0)
        model.predict(inputs, verbose=0)

    train()
    count = len(messages(caplog))
    assert count >= 1
    train()
    assert len(messages(caplog)) == count


def test_programs_of_lengths_unknown_before_are_announced(caplog):
    layer = compiled_layer(8)
    run = tf.function(layer, input_signature=[tf.TensorSpec([2, None, 3])])
    for steps in (5, 9):
        run(tf.zeros((2, steps, 3)))
    said = messages(caplog)
    # One for each, or one that says that more will come.
    assert len(said) == 2 or len(said) == 1 and "any number of" in said[0]


# What is not kept. A step here records more than 4 * 4,000 numbers: 256 MiB in all.

PEAK = """
import json, pathlib, re, sys
import keras, numpy as np, tensorflow as tf
import keras_sam

way, jit_compile, steps = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
layer = keras_sam.SAM(
    8, 64, 64, 4, reads_per_head=8, output_size=1, jit_compile=jit_compile
)
model = keras.Sequential([keras.Input((None, 2)), layer])
model.compile("sgd", "mse", jit_compile=False)
if way == "predict":
    run = lambda inputs: model.predict(inputs, verbose=0)
elif way == "call":
    run = lambda inputs: model(inputs)
elif way == "export":
    folder = keras_sam.export.export_saved_model(model, sys.argv[4], streaming=False)
    served = tf.saved_model.load(folder).signatures["serving_default"]
    run = lambda inputs: served(inputs=tf.constant(inputs))
else:
    run = lambda inputs: model.fit(inputs, np.zeros((4, 1)), verbose=0)

def peak():
    # Not resource.getrusage, which begins with what the parent process has.
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s*(\\d+)", status).group(1)) / 1024

run(np.ones((4, 64, 2), "float32"))
before = peak()
run(np.ones((4, steps, 2), "float32"))
print(json.dumps(peak() - before))
"""


@functools.cache
def peak_growth(way, jit_compile, steps, folder=""):
    """How much more memory, in MiB, so many steps take at their peak than 64."""
    run = subprocess.run(
        [sys.executable, "-c", PEAK, way, json.dumps(jit_compile), str(steps), folder],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


RECORD = 4096 * 4 * 4000 * 4 / 2**20


@pytest.mark.parametrize(
    ("way", "jit_compile"),
    [
        ("predict", False),
        pytest.param("predict", True, marks=pytest.mark.slow),
        ("call", False),
        ("export", False),
    ],
)
@pytest.mark.slow_rows("call-False", "export-False")
def test_nothing_is_recorded_where_nobody_asks_for_a_gradient(
    way, jit_compile, tmp_path
):
    assert peak_growth(way, jit_compile, 4096, str(tmp_path)) < RECORD / 3


@pytest.mark.slow
def test_record_of_a_sequence_that_is_learned_from_is_seen():
    """What the test above does not find is there when there is a gradient."""
    assert peak_growth("fit", False, 4096) > RECORD * 0.8
