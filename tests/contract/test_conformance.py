"""What every cell and layer owes Keras and TensorFlow, by comparing values.

The cells are the rows of support/conformance_cases.py; a row gets every test here.
"""

import functools
import inspect
import json
import subprocess
import sys
import textwrap

import helpers
import keras
import numpy as np
import pytest
import tensorflow as tf
from conformance_cases import CASES, FEATURES
from helpers import arrays, assert_close, assert_differs

BATCH, STEPS = 3, 4
EXPORT_SHAPES = [(batch, steps) for batch in (1, 4) for steps in (1, 5, 9)]

# One mask per row: right-padded, left-padded, in the middle, nothing, everything.
MASKS = np.array(
    [[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool
)

# A value other than the default for each argument that all cells share.
CELL_ARGUMENTS = {
    "kernel_initializer": keras.initializers.RandomNormal(stddev=0.3, seed=1),
    "recurrent_initializer": keras.initializers.RandomUniform(-0.3, 0.3, seed=2),
    "bias_initializer": keras.initializers.Constant(0.1),
    "kernel_regularizer": keras.regularizers.L2(0.01),
    "recurrent_regularizer": "l1",
    "bias_regularizer": keras.regularizers.L1L2(0.03, 0.04),
    "kernel_constraint": keras.constraints.MaxNorm(2.5),
    "recurrent_constraint": keras.constraints.UnitNorm(axis=0),
    "bias_constraint": keras.constraints.NonNeg(),
    "clip_value": 7.5,
    "seed": 5,
    "name": "given_name",
    "dtype": "float64",
    "trainable": False,
}
LAYER_FLAGS = (
    "return_sequences",
    "return_state",
    "go_backwards",
    "stateful",
    "unroll",
    "zero_output_for_mask",
)
LAYER_ARGUMENTS = {
    **dict.fromkeys(LAYER_FLAGS, True),
    "activity_regularizer": keras.regularizers.L2(0.05),
}


def each_of(cases, is_slow):
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(case, marks=[pytest.mark.slow] * is_slow(case), id=case.name)
            for case in cases
        ],
    )


each_case = each_of(CASES, lambda case: case.slow)
each_case_in_time = each_of(CASES, lambda case: case.slow or case.variant)
each_wrapping = pytest.mark.parametrize("wrapping", ["layer", "rnn"])


# Helpers.


random_inputs = functools.partial(helpers.random_inputs, steps=STEPS, seed=1)
randomize = functools.partial(helpers.randomize, seed=2, scale=0.4)


def built(layer, like=None, batch=None):
    """The layer with random weights, or those of another one."""
    layer.build((batch, None, FEATURES))
    if like is None:
        randomize(layer)
    else:
        layer.set_weights(like.get_weights())
    return layer


def full_layer(case, **arguments):
    """A layer that returns all it has, with weights that depend on nothing else."""
    return built(case.layer(return_sequences=True, return_state=True, **arguments))


@functools.cache
def reference(case):
    """A layer in float32 that no test changes."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # For a controller that is given, too.
    try:
        return full_layer(case)
    finally:
        keras.config.set_dtype_policy(policy)


def wrapped(case, wrapping, **arguments):
    """The memory layer, or keras.layers.RNN around the cell; same weights."""
    own = {
        name: arguments.pop(name)
        for name in ("dropout", "name", "dtype")
        if name in arguments
    }
    if wrapping == "layer":
        return built(case.layer(**own, **arguments))
    return built(keras.layers.RNN(case.cell(**own), **arguments))


def assert_equal(actual, expected):
    assert_close(actual, expected, rtol=0, atol=0)


def assert_finite(structure):
    for value in arrays(structure):
        assert np.all(np.isfinite(value))


def weighted_sum(values):
    """One number that depends on every entry of every tensor, each differently."""
    total = 0.0
    for index, value in enumerate(values):
        size = int(np.prod(value.shape))
        factors = np.cos(np.arange(size) + index).reshape(value.shape)
        total += tf.reduce_sum(value * tf.constant(factors, value.dtype))
    return total


def outputs_and_gradients(layer, inputs, **call_arguments):
    """Outputs and states; gradients for inputs, trainable weights and states."""
    inputs = tf.convert_to_tensor(inputs)
    given = call_arguments.get("initial_state", [])
    with tf.GradientTape() as tape:
        tape.watch([inputs, *given])
        results = list(layer(inputs, **call_arguments))
        loss = weighted_sum(results)
    weights = [weight.value for weight in layer.trainable_weights]
    return results, tape.gradient(loss, [inputs, *weights, *given])


@functools.cache
def eager_reference(case):
    """Outputs and states, gradients, of the reference on `random_inputs()`."""
    return outputs_and_gradients(reference(case), random_inputs())


@functools.cache
def masked_reference(case):
    """Outputs and states of the reference on one sequence for each row of MASKS."""
    return reference(case)(random_inputs(batch=len(MASKS)), mask=tf.constant(MASKS))


@pytest.fixture
def policy():
    """Sets the global dtype policy for one test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


# Configuration and weights.


def constructor_arguments(made):
    """Names of the arguments of a class and its bases within the package."""
    names = set()
    for base in type(made).__mro__:
        if base.__module__.startswith("keras_sam."):
            parameters = inspect.signature(base.__init__).parameters.values()
            names |= {p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD}
            names |= {p.name for p in parameters if p.kind == p.KEYWORD_ONLY}
    return names - {"self"}


@each_case
@pytest.mark.parametrize("kind", ["cell", "layer"])
def test_config_round_trip(case, kind):
    common = dict(CELL_ARGUMENTS)
    if kind == "cell":
        original = case.cell(dropout=0.3, **common)
    else:
        common |= LAYER_ARGUMENTS
        original = case.layer(dropout=0.3, **common)
    config = original.get_config()
    text = json.dumps(config, sort_keys=True)
    missing = constructor_arguments(original) - set(config) - set(case.refused)
    assert not missing, f"get_config() leaves out {missing}"
    given = {**case.arguments(0.3), **common}
    for name, value in given.items():
        if name == "dtype":
            assert keras.dtype_policies.get(config[name]).name == value
        elif name == "recurrent_regularizer":
            assert config[name]["class_name"] == "L1"
        elif isinstance(value, bool | int | float | str | None):
            assert config[name] == value and type(config[name]) is type(value)
        else:
            assert config[name]["class_name"] == type(value).__name__
            if name != "controller":
                assert config[name]["config"] == value.get_config()

    def check(again):
        assert type(again) is type(original)
        assert json.dumps(again.get_config(), sort_keys=True) == text
        for name in LAYER_FLAGS if kind == "layer" else []:
            assert getattr(again, name) is True

    check(type(original).from_config(config))
    # The configuration is the caller's: from_config left it alone.
    assert json.dumps(config, sort_keys=True) == text
    check(type(original).from_config(json.loads(text)))
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(original)))
    check(keras.saving.deserialize_keras_object(serialized))


@each_case
def test_config_does_not_depend_on_being_built(case):
    for original in (case.cell(), case.layer()):
        text = json.dumps(original.get_config(), sort_keys=True)
        is_cell = isinstance(original, case.cell_class)
        original.build((None, FEATURES) if is_cell else (None, None, FEATURES))
        config = original.get_config()
        assert json.dumps(config, sort_keys=True) == text
        again = type(original).from_config(config)
        assert json.dumps(again.get_config(), sort_keys=True) == text
        assert not again.weights
    # The copy is free to take inputs of another width.
    again.build((None, None, FEATURES + 2))
    assert again(np.ones((2, STEPS, FEATURES + 2))).shape[0] == 2


@each_case
def test_regularizers_and_constraints_act_and_survive(case):
    names = [name for name in CELL_ARGUMENTS if name.endswith(("izer", "constraint"))]
    arguments = {name: CELL_ARGUMENTS[name] for name in names}
    layer = built(case.layer(**arguments))
    again = built(type(layer).from_config(layer.get_config()), like=layer)
    dense = [layer.cell.interface, layer.cell.output_projection]
    expected = sum(0.01 * np.sum(np.square(d.kernel)) for d in dense)
    expected += sum(
        0.03 * np.sum(np.abs(d.bias)) + 0.04 * np.sum(np.square(d.bias)) for d in dense
    )
    losses = [sum(float(loss) for loss in made.losses) for made in (layer, again)]
    if isinstance(case.arguments(0.0).get("controller"), keras.layers.Layer):
        # A controller that was given brings its own.
        np.testing.assert_allclose(losses[0], expected, rtol=1e-5)
    else:
        assert losses[0] > expected
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    for made in (layer, again):
        for d in (made.cell.interface, made.cell.output_projection):
            assert d.kernel.constraint.max_value == 2.5
            assert isinstance(d.bias.constraint, keras.constraints.NonNeg)


@each_case
@each_wrapping
@pytest.mark.slow_rows("rnn-*_all_options")
def test_keras_file_round_trip(case, wrapping, tmp_path):
    inputs = random_inputs(steps=2)
    memory = wrapped(case, wrapping, return_sequences=True, dropout=0.3)
    model = keras.Sequential(
        [keras.Input((None, FEATURES)), memory, keras.layers.Dense(2)]
    )
    randomize(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.layers[0]) is type(memory)
    assert_equal(again.get_weights(), model.get_weights())
    assert_close(again(inputs), model(inputs))
    if wrapping == "layer":  # And once more from the loaded one.
        randomize(again, seed=9)
        again.save(tmp_path / "again.keras")
        third = keras.saving.load_model(tmp_path / "again.keras")
        assert_close(third(inputs), again(inputs))


@each_case_in_time
def test_keras_file_of_a_stateful_model_starts_from_its_initial_state(case, tmp_path):
    inputs = random_inputs()
    model = keras.Sequential(
        [keras.Input(batch_shape=(BATCH, STEPS, FEATURES)), case.layer(stateful=True)]
    )
    randomize(model)
    model.layers[0].reset_state()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(again(inputs), model(inputs))


@each_case
def test_weights_round_trip(case, tmp_path):
    def make():
        return keras.Sequential(
            [keras.Input((None, FEATURES)), case.layer(return_sequences=True)]
        )

    inputs = random_inputs(steps=2)
    model, from_file, from_list = make(), make(), make()
    randomize(model)
    assert_differs(from_file(inputs), model(inputs))
    model.save_weights(tmp_path / "model.weights.h5")
    from_file.load_weights(tmp_path / "model.weights.h5")
    from_list.set_weights(model.get_weights())
    for other in (from_file, from_list):
        assert_equal(other.get_weights(), model.get_weights())
        assert_close(other(inputs), model(inputs))


# Ways to run it.


def assert_like_eager(case, results_and_gradients):
    results, gradients = results_and_gradients
    expected_results, expected_gradients = eager_reference(case)
    assert_close(results, expected_results)
    assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-5)


@each_case
def test_eager_and_graph_agree(case):
    run = functools.partial(outputs_and_gradients, reference(case))
    assert_like_eager(case, tf.function(run)(tf.constant(random_inputs())))


@each_case_in_time
def test_eager_and_jit_agree(case):
    run = functools.partial(outputs_and_gradients, reference(case))
    compiled = tf.function(run, jit_compile=True)
    assert_like_eager(case, compiled(tf.constant(random_inputs())))


@each_case_in_time
def test_eager_and_unrolled_agree(case):
    layer, inputs = full_layer(case, unroll=True), tf.constant(random_inputs())
    assert_like_eager(case, outputs_and_gradients(layer, inputs))
    assert_close(tf.function(layer)(inputs), eager_reference(case)[0])


@each_case
def test_every_weight_gets_a_gradient(case):
    layer = reference(case)
    _, (of_inputs, *of_weights) = eager_reference(case)
    assert_finite(of_inputs)
    for step in range(STEPS):
        assert np.all(np.any(np.asarray(of_inputs)[:, step], axis=-1))
    for weight, gradient in zip(layer.trainable_weights, of_weights, strict=True):
        assert gradient is not None, weight.path
        assert_finite(gradient)
        assert np.any(gradient), weight.path
        if weight is layer.cell.interface.kernel:
            # No part of the interface vector is without effect.
            assert np.all(np.any(gradient, axis=0))


@each_of([case for case in CASES if case.exact_gradients], lambda case: case.slow)
def test_gradients_are_the_slope(case, policy):
    policy("float64")
    layer = full_layer(case)
    inputs = random_inputs(dtype="float64")
    _, (of_inputs, *of_weights) = outputs_and_gradients(layer, inputs)
    rng = np.random.default_rng(3)
    weights = layer.trainable_weights
    starts = [weight.numpy() for weight in weights]
    directions = [rng.normal(size=start.shape) for start in starts]
    input_direction = rng.normal(size=inputs.shape)

    def loss(distance):
        for weight, start, direction in zip(weights, starts, directions, strict=True):
            weight.assign(start + distance * direction)
        outputs, *states = layer(inputs + distance * input_direction)
        for k, name in enumerate(layer.cell.state_shapes):
            if name in case.counters:  # They may move, but nothing follows from it.
                states[k] = tf.zeros_like(states[k])
        return float(weighted_sum([outputs, *states]))

    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    expected = np.sum(of_inputs * input_direction)
    for gradient, direction in zip(of_weights, directions, strict=True):
        expected += np.sum(gradient * direction)
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


@each_case
def test_keras_rnn_around_the_cell_equals_the_layer(case):
    inputs, mask = random_inputs(batch=len(MASKS)), tf.constant(MASKS)
    layer = reference(case)
    rnn = keras.layers.RNN(case.cell(), return_sequences=True, return_state=True)
    built(rnn, like=layer)
    assert [w.name for w in rnn.weights] == [w.name for w in layer.weights]
    assert_close(rnn(inputs, mask=mask), masked_reference(case))
    results, gradients = outputs_and_gradients(rnn, random_inputs())
    assert_close(results, eager_reference(case)[0])
    assert_close(gradients, eager_reference(case)[1], atol=1e-5)


@each_case
def test_calling_the_cell_step_by_step_equals_the_layer(case):
    layer, inputs = reference(case), random_inputs()
    cell = layer.cell
    state, outputs = cell.get_initial_state(BATCH), []
    for step in range(STEPS):
        output, state = cell(inputs[:, step], state)
        outputs.append(output)
        assert [tuple(s.shape) for s in state] == [(BATCH, s) for s in cell.state_size]
    assert_close([tf.stack(outputs, axis=1), *state], layer(inputs))


@each_case
def test_trace_takes_the_same_steps(case):
    inputs = random_inputs()
    _, *state = eager_reference(case)[0]
    for go_backwards, initial_state in ((False, None), (True, state)):
        layer = full_layer(case, go_backwards=go_backwards)
        trace = layer.trace(inputs, initial_state=initial_state)
        outputs, *final = layer(inputs, initial_state=initial_state)
        assert_close(trace["outputs"], outputs)
        fields = layer.cell.unpack_state(final)._asdict()
        shared = set(fields) & set(trace)
        assert shared >= {"read_weights", "read_vectors"} & set(fields)
        for name in shared:
            last = trace[name]
            if isinstance(last, tf.SparseTensor):
                # Over all slots in a trace, over those named in a state.
                slots = tf.cast(fields[name.replace("weights", "slots")], tf.int32)
                last = tf.gather(
                    tf.sparse.to_dense(last)[:, -1], slots, axis=2, batch_dims=2
                )[:, tf.newaxis]
            assert_close(last[:, -1], fields[name])
        for values in trace.values():
            assert tuple(values.shape[:2]) == (BATCH, STEPS)


# Order and masks.


@functools.cache
def reversed_reference(case):
    """The same on reversed sequences, without a mask and with the mask reversed."""
    inputs = random_inputs(batch=len(MASKS))[:, ::-1]
    mask = tf.constant(MASKS[:, ::-1])
    return reference(case)(inputs), reference(case)(inputs, mask=mask)


@each_case_in_time
@each_wrapping
def test_go_backwards(case, wrapping):
    inputs, mask = random_inputs(batch=len(MASKS)), tf.constant(MASKS)
    arguments = {"return_sequences": True, "return_state": True}
    backwards = wrapped(case, wrapping, go_backwards=True, **arguments)
    expected, expected_masked = reversed_reference(case)
    assert_close(backwards(inputs), expected)
    assert_close(backwards(inputs, mask=mask), expected_masked)
    assert_differs(expected_masked[0], masked_reference(case)[0])


@functools.cache
def without_masked_steps(case):
    """What each row of MASKS must give, from sequences that lack the masked steps."""
    layer, inputs = reference(case), random_inputs(batch=len(MASKS))
    width = layer.cell.output_size
    results = []
    for row, mask in enumerate(MASKS):
        outputs, states = np.zeros((0, width)), layer.get_initial_state(1)
        if mask.any():
            outputs, *states = layer(inputs[row : row + 1, mask])
            outputs = np.asarray(outputs[0])
        # A masked step repeats the output before it; before the first, zeros.
        padded = np.concatenate([np.zeros((1, width)), outputs])
        results.append([padded[np.newaxis, np.cumsum(mask)], *states])
    return [np.concatenate(values) for values in zip(*results, strict=True)]


@each_case_in_time
@pytest.mark.parametrize("mode", ["eager", "graph", "unroll"])
def test_a_masked_step_changes_nothing(case, mode):
    layer = reference(case)
    if mode == "unroll":
        layer = full_layer(case, unroll=True)
    run = layer
    if mode == "graph":
        run = tf.function(lambda inputs, mask: layer(inputs, mask=mask))
    inputs, mask = random_inputs(batch=len(MASKS)), tf.constant(MASKS)
    results = run(tf.constant(inputs), mask=mask)
    assert_close(results, without_masked_steps(case))
    # What stands in the masked steps does not matter at all.
    changed = np.where(MASKS[..., np.newaxis], inputs, np.float32(1e3))
    assert_equal(run(tf.constant(changed), mask=mask), results)


@each_case_in_time
@pytest.mark.parametrize("unroll", [False, True])
def test_zero_output_for_mask(case, unroll):
    inputs, mask = random_inputs(batch=len(MASKS)), tf.constant(MASKS)
    outputs, *states = full_layer(case, zero_output_for_mask=True, unroll=unroll)(
        inputs, mask=mask
    )
    expected, *expected_states = masked_reference(case)
    assert_close(states, expected_states)
    assert_close(outputs, np.where(MASKS[..., np.newaxis], expected, 0.0))
    assert not np.any(np.asarray(outputs)[~MASKS])


@each_case_in_time
def test_masked_steps_get_no_gradient(case):
    layer = reference(case)
    inputs, mask = random_inputs(batch=len(MASKS)), tf.constant(MASKS)
    _, (of_inputs, *of_weights) = outputs_and_gradients(layer, inputs, mask=mask)
    assert not np.any(np.asarray(of_inputs)[~MASKS])
    assert np.all(np.any(np.asarray(of_inputs)[MASKS], axis=-1))
    assert_finite(of_weights)


@each_case_in_time
def test_masking_layer_in_front(case):
    inputs = random_inputs(batch=len(MASKS))
    inputs[~MASKS] = -1.0
    outer = keras.layers.Dense(2)
    for return_sequences in (True, False):
        layer = built(case.layer(return_sequences=return_sequences))
        model = keras.Sequential(
            [
                keras.Input((None, FEATURES)),
                keras.layers.Masking(-1.0),
                layer,
                outer if not return_sequences else keras.layers.Identity(),
            ]
        )
        expected = layer(inputs, mask=tf.constant(MASKS))
        unmasked = layer(inputs)
        if not return_sequences:
            expected, unmasked = outer(expected), outer(unmasked)
        assert_close(model(inputs), expected)
        assert_differs(expected, unmasked)


# States.


@each_case_in_time
@pytest.mark.parametrize("return_state", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_symbolic_shapes_and_what_is_returned(case, return_sequences, return_state):
    layer = case.layer(return_sequences=return_sequences, return_state=return_state)
    symbol = keras.Input((None, FEATURES))
    symbolic = keras.tree.flatten(layer(symbol))
    model = keras.Model(symbol, symbolic)
    built(layer, like=reference(case))
    real = keras.tree.flatten(model(random_inputs()))
    assert len(symbolic) == len(real)
    for spec, value in zip(symbolic, real, strict=True):
        sizes = dict(zip(range(3), (BATCH, STEPS), strict=False))
        shape = [sizes[i] if s is None else s for i, s in enumerate(spec.shape)]
        assert tuple(shape) == tuple(value.shape)
        assert spec.shape[0] is None and spec.shape[-1] is not None
        assert keras.backend.standardize_dtype(spec.dtype) == "float32"
        assert value.dtype == "float32"
    expected, *states = eager_reference(case)[0]
    expected = expected if return_sequences else expected[:, -1]
    assert_close(real, [expected, *states] if return_state else [expected])


@each_case_in_time
@each_wrapping
def test_halves_with_the_state_passed_on_equal_the_whole(case, wrapping):
    arguments = {"return_sequences": True, "return_state": True}
    layer = wrapped(case, wrapping, **arguments)
    inputs = tf.constant(random_inputs())
    weights = [weight.value for weight in layer.trainable_weights]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        first, *states = layer(inputs[:, :2])
        second, *states = layer(inputs[:, 2:], initial_state=states)
        results = [tf.concat([first, second], axis=1), *states]
        loss = weighted_sum(results)
    expected_results, expected_gradients = eager_reference(case)
    assert_close(results, expected_results)
    gradients = tape.gradient(loss, [inputs, *weights])
    assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-5)


@each_case_in_time
def test_initial_state_as_input_of_a_functional_model(case):
    layer = case.layer(return_sequences=True, return_state=True)
    symbol = keras.Input((None, FEATURES))
    state_symbols = [keras.Input((size,)) for size in layer.cell.state_size]
    model = keras.Model(
        [symbol, *state_symbols], layer(symbol, initial_state=state_symbols)
    )
    built(layer, like=reference(case))
    inputs = tf.constant(random_inputs())
    _, *states = reference(case)(random_inputs(seed=7))
    expected = reference(case)(inputs, initial_state=states)
    assert_differs(expected[0], eager_reference(case)[0][0])
    assert_close(model([inputs, *states]), expected)


@each_case_in_time
def test_given_initial_state_is_the_default_one(case):
    layer, inputs = reference(case), random_inputs()
    state = layer.get_initial_state(BATCH)
    assert_equal(layer.cell.get_initial_state(batch_size=BATCH), state)
    assert_equal(layer.get_initial_state(tf.constant(BATCH)), state)
    assert [tuple(s.shape) for s in state] == [
        (BATCH, size) for size in layer.cell.state_size
    ]
    before = arrays(state)
    assert_close(layer(inputs, initial_state=state), eager_reference(case)[0])
    assert_equal(state, before)  # A caller's state is not written to.


@each_case
def test_initial_state_may_be_asked_for_before_the_cell_is_built(case):
    cell = case.cell()
    early = cell.get_initial_state(BATCH)
    cell.build((None, FEATURES))
    assert_equal(cell.get_initial_state(BATCH), early)
    expected = [(w.name, w.shape) for w in reference(case).weights]
    assert [(w.name, w.shape) for w in cell.weights] == expected
    cell.set_weights(reference(case).get_weights())
    assert_equal(
        cell.get_initial_state(BATCH), reference(case).get_initial_state(BATCH)
    )


@each_case
def test_pack_state_undoes_unpack_state(case):
    layer = reference(case)
    cell = layer.cell
    _, *states = eager_reference(case)[0]
    named = cell.unpack_state(states)
    assert_equal(cell.pack_state(named), states)
    slots, words = cell.memory_slots, cell.word_size
    assert tuple(named.memory.shape) == (BATCH, slots, words)
    assert tuple(named.read_vectors.shape) == (BATCH, cell.read_heads, words)


@each_case_in_time
def test_given_memory(case):
    layer, inputs = reference(case), random_inputs()
    rng = np.random.default_rng(4)
    slots, words = layer.cell.memory_slots, layer.cell.word_size
    default = np.asarray(layer.cell.unpack_state(layer.get_initial_state(BATCH)).memory)
    for shape in ((2, words), (BATCH, 2, words), (slots, words), (BATCH, slots, words)):
        memory = rng.normal(size=shape).astype("float32")
        state = layer.get_initial_state(BATCH, memory=memory)
        found = np.asarray(layer.cell.unpack_state(state).memory)
        rows = shape[-2]
        assert_equal(found[:, :rows], np.broadcast_to(memory, (BATCH, rows, words)))
        assert_equal(found[:, rows:], default[:, rows:])
        outputs, *_ = layer(inputs, initial_state=state)
        assert_finite(outputs)
        assert_differs(outputs, eager_reference(case)[0][0])


@each_case_in_time
def test_stateful(case):
    inputs = random_inputs(steps=6)
    expected, *states = reference(case)(inputs)
    symbol = keras.Input(batch_shape=(BATCH, None, FEATURES))
    layer = case.layer(return_sequences=True, stateful=True)
    model = keras.Model(symbol, layer(symbol))
    built(layer, like=reference(case), batch=BATCH)

    def halves(call):
        parts = [call(inputs[:, :3]), call(inputs[:, 3:])]
        return np.concatenate(arrays(parts), axis=1)

    initial = layer.cell.get_initial_state(BATCH)
    assert any(np.any(value) for value in arrays(initial))
    for call in (layer, functools.partial(model.predict, verbose=0, batch_size=BATCH)):
        layer.reset_state()
        assert_equal([state.value for state in layer.states], initial)
        assert_close(halves(call), expected)
        assert_close([state.value for state in layer.states], states)
    # Without a reset it goes on from where it stood.
    goes_on = reference(case)(inputs[:, :3], initial_state=states)[0]
    assert_close(layer(inputs[:, :3]), goes_on)


# Within other layers.


@each_case_in_time
def test_bidirectional(case, tmp_path):
    inputs = random_inputs(steps=2)
    both = keras.layers.Bidirectional(case.layer(return_state=True))
    symbol = keras.Input((None, FEATURES))
    model = keras.Model(symbol, both(symbol))
    randomize(both)
    results = both(inputs)
    assert model.output_shape[0] == (None, results[0].shape[-1])
    count = len(both.weights) // 2
    forward = built(case.layer(return_state=True))
    forward.set_weights(both.get_weights()[:count])
    backward = built(case.layer(return_state=True, go_backwards=True))
    backward.set_weights(both.get_weights()[count:])
    there, *forward_states = forward(inputs)
    back, *backward_states = backward(inputs)
    assert_differs(there, back)
    states = [*forward_states, *backward_states]
    assert_close(results, [tf.concat([there, back], axis=-1), *states])
    # The halves of an initial state go to one layer each.
    there, *_ = forward(inputs, initial_state=forward_states)
    back, *_ = backward(inputs, initial_state=backward_states)
    outputs = both(inputs, initial_state=states)[0]
    assert_close(outputs, tf.concat([there, back], axis=-1))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(again(inputs), results)


@each_case_in_time
def test_bidirectional_sequences_with_a_mask(case):
    inputs, mask = random_inputs(batch=len(MASKS)), tf.constant(MASKS)
    arguments = {"return_sequences": True, "zero_output_for_mask": True}
    forward = case.layer(**arguments)
    backward = case.layer(go_backwards=True, **arguments)
    both = keras.layers.Bidirectional(forward, backward_layer=backward)
    both.build((None, None, FEATURES))
    randomize(both)
    there, back = both.forward_layer(inputs, mask=mask), backward(inputs, mask=mask)
    expected = tf.concat([there, back[:, ::-1]], axis=-1)
    assert_close(both(inputs, mask=mask), expected)
    assert not np.any(np.asarray(expected)[~MASKS])


@each_case_in_time
def test_stacked(case, tmp_path):
    inputs = random_inputs(steps=2)
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            case.layer(return_sequences=True),
            case.layer(return_sequences=True),
        ]
    )
    randomize(model)
    lower, upper = model.layers
    expected = upper(lower(inputs))
    assert_close(model(inputs), expected)

    cells = [case.cell(name="lower"), case.cell(name="upper")]
    stacked_cells = keras.layers.StackedRNNCells(cells)
    rnn = keras.layers.RNN(stacked_cells, return_sequences=True)
    stack = keras.Sequential([keras.Input((None, FEATURES)), rnn])
    for cell, layer in zip(cells, model.layers, strict=True):
        cell.set_weights(layer.get_weights())
    assert_close(stack(inputs), expected)
    assert_close(tf.function(stack)(inputs), expected)
    stack.save(tmp_path / "stack.keras")
    again = keras.saving.load_model(tmp_path / "stack.keras")
    assert_close(again(inputs), expected)


# Dtypes.


@each_case_in_time
def test_mixed_float16(case, policy):
    inputs = random_inputs()
    policy("mixed_float16")
    layer = case.layer(return_sequences=True, return_state=True)
    built(layer, like=reference(case))
    # A controller that was given computes in half precision, the memory does not.
    given = isinstance(case.arguments(0.0).get("controller"), keras.layers.Layer)
    tolerances = (1e-2, 1e-2) if given else (1e-5, 1e-6)
    assert layer.compute_dtype == layer.cell.compute_dtype == "float32"
    for weight in layer.weights:
        assert weight.dtype == "float32"
    for state in layer.cell.get_initial_state(BATCH):
        assert state.dtype == "float32"
    for call in (layer, tf.function(layer)):
        results = call(inputs)
        for value in results:
            assert value.dtype == "float32"
        assert_close(results, eager_reference(case)[0], *tolerances)
    output, state = layer.cell(inputs[:, 0], layer.cell.get_initial_state(BATCH))
    assert {value.dtype for value in [output, *state]} == {tf.float32}
    # Keras hands a float16 sequence on where the layer before computed in it.
    halved = inputs.astype("float16")
    expected = reference(case)(halved.astype("float32"))
    assert_close(layer(halved), expected, *tolerances)


@each_case_in_time
@each_wrapping
def test_mixed_float16_fit(case, wrapping, policy):
    policy("mixed_float16")
    memory = keras.layers.RNN(case.cell()) if wrapping == "rnn" else case.layer()
    model = keras.Sequential([keras.layers.Dense(4), memory, keras.layers.Dense(2)])
    model.compile("adam", "mse", run_eagerly=True)  # Graphs cost seconds each.
    inputs = random_inputs(steps=2)
    history = model.fit(inputs, np.ones((BATCH, 2)), verbose=0)
    assert_finite(history.history["loss"])
    assert memory.cell.compute_dtype == "float32"
    assert model(inputs).dtype == "float16"
    assert_finite(model(inputs))
    assert_finite(model.get_weights())


@each_case
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_refused(case, name, policy):
    expected = f'float32 or float64.*mixed_{name}".*Received: dtype=.{name}.'
    for make in (case.cell, case.layer):
        with pytest.raises(ValueError, match=expected):
            make(dtype=name)
    policy(name)
    for make in (case.cell, case.layer):
        with pytest.raises(ValueError, match=expected):
            make()


@each_case
def test_float64(case, policy):
    policy("float64")
    layer = full_layer(case)
    layer.set_weights(reference(case).get_weights())
    inputs = random_inputs(dtype="float64")
    for weight in layer.weights:
        assert weight.dtype == "float64"
    eager = layer(inputs)
    for value in [*eager, *layer.get_initial_state(BATCH)]:
        assert value.dtype == "float64"
    assert_close(eager, eager_reference(case)[0], rtol=1e-4, atol=1e-5)
    # Computed in float64 all through: rounding to float32 anywhere would show up as
    # bends of some 1e-8 in what is straight at this scale.
    steps = [layer(inputs + 1e-6), eager, tf.function(layer)(inputs - 1e-6)]
    for after, here, before in zip(*map(arrays, steps), strict=True):
        assert np.max(np.abs(after - 2.0 * here + before)) < 1e-10


# Rows of a batch.


@each_case
@pytest.mark.slow_rows("*_all_options")
def test_rows_of_a_batch_are_independent(case):
    layer, inputs = reference(case), random_inputs()
    results = layer(inputs)
    changed = inputs.copy()
    changed[1] = 5.0 * random_inputs(seed=8)[1]
    for before, after in zip(results, layer(changed), strict=True):
        for row in (0, 2):
            assert_equal(after[row], before[row])
    assert_differs(layer(changed)[0][1], results[0][1])
    order = [2, 0, 1]
    assert_close(layer(inputs[order]), [np.asarray(value)[order] for value in results])
    for row in range(BATCH):
        alone = layer(inputs[row : row + 1])
        assert_close(alone, [value[row : row + 1] for value in results])


@each_case
@pytest.mark.slow_rows("*_all_options")
def test_gradients_stay_within_their_row(case):
    layer, inputs = reference(case), tf.constant(random_inputs())
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = weighted_sum([value[1] for value in layer(inputs)])
    gradient = np.asarray(tape.gradient(loss, inputs))
    assert np.any(gradient[1])
    assert not np.any(gradient[[0, 2]])


@each_case
def test_calls_leave_nothing_behind(case):
    layer, inputs = reference(case), random_inputs()
    first = layer(inputs)
    layer(random_inputs(batch=2, steps=7, seed=8))
    assert_equal(layer(inputs), first)


# Training.


@each_case_in_time
def test_fit_changes_every_weight(case):
    layer = case.layer(dropout=0.3)
    model = keras.Sequential([keras.Input((None, FEATURES)), layer])
    randomize(layer)
    trainable = [weight.numpy() for weight in layer.trainable_weights]
    fixed = [weight.numpy() for weight in layer.non_trainable_weights]
    optimizer = keras.optimizers.Adam(1e-6)
    optimizer.build(model.trainable_variables)  # Or Keras traces the step twice.
    model.compile(optimizer, "mse")
    inputs = random_inputs(batch=2 * BATCH, steps=3)
    targets = np.ones((2 * BATCH, layer.cell.output_size))
    history = model.fit(
        inputs, targets, batch_size=BATCH, epochs=2, shuffle=False, verbose=0
    )
    assert len(history.history["loss"]) == 2
    assert_finite(history.history["loss"])
    # The same sequences and nearly the same weights, but other dropout masks.
    assert_differs(*history.history["loss"])
    for weight, before in zip(layer.trainable_weights, trainable, strict=True):
        assert_finite(weight)
        assert np.any(weight.numpy() != before), weight.path
    for weight, before in zip(layer.non_trainable_weights, fixed, strict=True):
        assert_equal(weight, before)
    # No mask of the traced step is left.
    outputs = model(inputs)
    assert_equal(model(inputs), outputs)
    assert_close(model(inputs[:2]), outputs[:2])


@each_case_in_time
@each_wrapping
def test_dropout(case, wrapping):
    layer = wrapped(case, wrapping, return_sequences=True, dropout=0.3)
    without = wrapped(case, wrapping, return_sequences=True)
    inputs = random_inputs(steps=2)
    expected = without(inputs)
    assert_equal(without(inputs, training=True), expected)

    def eager(inputs):
        return layer(inputs, training=True)

    trained = [eager]
    if wrapping == "rnn":  # Another test fits the layer in graph mode.
        signature = [tf.TensorSpec((None, 2, FEATURES))]
        trained.append(tf.function(eager, input_signature=signature))
    for train in trained:
        one, other = train(inputs), train(inputs)
        assert_differs(one, expected)
        assert_differs(one, other)
        # Masks made for three rows do not serve four; each row has its own.
        outputs = train(np.repeat(inputs[:1], 4, axis=0))
        assert outputs.shape[0] == 4
        assert_differs(outputs[0], outputs[1])
        assert_close(layer(inputs), expected)
    # Nor does anything of the graph's stay behind.
    assert_differs(eager(inputs[:2]), expected[:2])
    assert_equal(layer(inputs), layer(inputs))


@each_case_in_time
def test_dropout_of_stacked_cells(case):
    cells = [case.cell(dropout=0.3, name=name) for name in ("lower", "upper")]
    rnn = built(keras.layers.RNN(cells))
    inputs = random_inputs(steps=1)
    assert_differs(rnn(inputs, training=True), rnn(inputs, training=True))
    outputs = rnn(np.repeat(inputs[:1], 2, axis=0), training=True)
    assert_differs(outputs[0], outputs[1])
    assert_equal(rnn(inputs), rnn(inputs))


# Export.

SERVE = """
import json, sys

sys.modules["keras"] = sys.modules["keras_sam"] = None  # Not to be had here.
import numpy as np, tensorflow as tf

folder, names, shapes = sys.argv[1], *map(json.loads, sys.argv[2:])
inputs = np.load(f"{folder}/inputs.npz")
outputs = {}
for name in names:
    loaded = tf.saved_model.load(f"{folder}/{name}")
    for key in shapes:
        outputs[f"{name}-{key}"] = loaded.serve(tf.constant(inputs[key])).numpy()
assert not [name for name in sys.modules if name.startswith(("keras.", "keras_sam."))]
np.savez(f"{folder}/outputs.npz", **outputs)
"""


@pytest.fixture(scope="module")
def served(request, tmp_path_factory):
    """Every case asked for, exported here, answered by a process without Keras."""
    items = [item for item in request.session.items if item.module is request.module]
    items = [item for item in items if "served" in item.fixturenames]
    cases = [item.callspec.params["case"] for item in items]
    folder = tmp_path_factory.mktemp("exported")
    shapes = [f"{batch}x{steps}" for batch, steps in EXPORT_SHAPES]
    inputs = [random_inputs(batch, steps=steps) for batch, steps in EXPORT_SHAPES]
    inputs = dict(zip(shapes, inputs, strict=True))
    np.savez(folder / "inputs.npz", **inputs)
    expected = {}
    for case in cases:
        layer = case.layer(return_sequences=True)
        model = keras.Sequential([keras.Input((None, FEATURES)), layer])
        randomize(model)
        model.export(folder / case.name, verbose=False)
        for key, values in inputs.items():
            expected[f"{case.name}-{key}"] = np.asarray(layer(values))
    names = [case.name for case in cases]
    command = [sys.executable, "-c", textwrap.dedent(SERVE), str(folder)]
    done = subprocess.run(
        [*command, json.dumps(names), json.dumps(shapes)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "outputs.npz") as outputs:
        return expected, dict(outputs)


@each_case_in_time
def test_saved_model_in_a_process_with_tensorflow_alone(case, served):
    expected, outputs = served
    for batch, steps in EXPORT_SHAPES:
        key = f"{case.name}-{batch}x{steps}"
        assert_close(outputs[key], expected[key])


# Numbers that do not run away.


@each_case
def test_state_of_zeros_has_finite_values_and_gradients(case):
    layer = full_layer(case)
    weights = layer.get_weights()
    zero_state = [tf.zeros((BATCH, size)) for size in layer.cell.state_size]
    inputs = random_inputs(steps=3)
    for scale in (0.0, 1.0, 10.0):
        layer.set_weights([scale * weight for weight in weights])
        results, gradients = outputs_and_gradients(
            layer, scale * inputs, initial_state=zero_state
        )
        assert_finite(results)
        # A given state leaves the weights of the layer's own one out.
        assert_finite([g for g in gradients if g is not None])


@each_case
def test_zero_and_large_weights_have_finite_values_and_gradients(case):
    layer = full_layer(case)
    weights = layer.get_weights()
    for scale in (0.0, 30.0):
        layer.set_weights([scale * weight for weight in weights])
        inputs = scale * random_inputs(steps=3)
        results, gradients = outputs_and_gradients(layer, inputs)
        assert all(gradient is not None for gradient in gradients)
        assert_finite([results, gradients])


@each_case_in_time
def test_ten_thousand_steps_stay_finite(case):
    layer = full_layer(case)
    weights = layer.get_weights()
    rng = np.random.default_rng(5)

    @tf.function(jit_compile=True)
    def run(inputs, state):
        outputs, *state = layer(inputs, initial_state=state)
        return outputs, state

    for scale, steps in ((1.0, 10_000), (10.0, 2_000)):
        layer.set_weights([scale * weight for weight in weights])
        state = layer.get_initial_state(2)
        for _ in range(0, steps, 500):
            inputs = scale * rng.normal(size=(2, 500, FEATURES)).astype("float32")
            outputs, state = run(tf.constant(inputs), state)
            assert_finite([outputs, state])
        if layer.cell.clip_value is not None:
            assert np.max(np.abs(outputs)) <= layer.cell.clip_value
        for name, values in layer.cell.unpack_state(state)._asdict().items():
            if name.endswith("_weights"):
                assert np.min(values) >= 0.0
                assert np.max(np.sum(values, axis=-1)) <= 1.0 + 1e-4
