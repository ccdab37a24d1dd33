"""The stream of a stateful layer: assigned, reset, saved and restored."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close, assert_differs, randomize

import keras_sam

SIZES = {"units": 5, "memory_slots": 7, "word_size": 3, "read_heads": 2}
pytestmark = pytest.mark.slow_rows("*sdnc*")

BATCH, STEPS, FEATURES = 2, 4, 3
# Weights that the initial state depends on: a layer that starts from an older one, or
# from zeros, gives other outputs.
LEARNED = {"initial_read_vectors": "learned"}


def lstm(**kwargs):
    return keras.layers.LSTM(5, **kwargs)


def ntm(**kwargs):
    return keras_sam.NTM(**SIZES, initial_memory="learned", **LEARNED, **kwargs)


def dnc(**kwargs):
    return keras_sam.DNC(**SIZES, **LEARNED, **kwargs)


def dam(**kwargs):
    return keras_sam.DAM(**SIZES, **LEARNED, **kwargs)


def sam(**kwargs):
    kwargs = {"jit_compile": False, **kwargs}
    return keras_sam.SAM(**SIZES, **LEARNED, reads_per_head=2, **kwargs)


def sdnc(**kwargs):
    kwargs = {"jit_compile": False, "links_per_slot": 2, **kwargs}
    return keras_sam.SDNC(**SIZES, **LEARNED, reads_per_head=2, **kwargs)


def compiled_sam(**kwargs):
    return sam(jit_compile=True, **kwargs)


OURS = [ntm, dnc, dam, sam, sdnc]
each_layer = pytest.mark.parametrize("make", [lstm, *OURS])
one_of_each_kind = pytest.mark.parametrize("make", [lstm, ntm, sam])
each_of_ours = pytest.mark.parametrize("make", OURS)


def chunks(count):
    shape = (count, BATCH, STEPS, FEATURES)
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def random_model(make, seed=0, **kwargs):
    """A stateful model and its layer, with random weights."""
    layer = make(stateful=True, **kwargs)
    model = keras.Sequential([keras.Input(batch_shape=(BATCH, None, FEATURES)), layer])
    randomize(layer, seed=seed)
    return model, layer


def copies(states):
    return [state.numpy() for state in states]


def assign(states, values):
    for state, value in zip(states, values, strict=True):
        state.assign(value)


def call_eagerly(model, chunk):
    return model(chunk)


def call_in_a_function(model, chunk):
    return tf.function(model)(chunk)


def call_predict(model, chunk):
    return model.predict(chunk, batch_size=BATCH, verbose=0)


each_way = pytest.mark.parametrize(
    "call", [call_eagerly, call_in_a_function, call_predict]
)


@one_of_each_kind
@each_way
def test_assigned_states_are_what_the_next_call_goes_on_from(make, call):
    model, layer = random_model(make)
    first, second = chunks(2)
    start = call(model, first)
    middle = copies(layer.states)
    expected = call(model, second)
    layer.reset_state()
    assert_differs(call(model, second), expected)
    for before in (layer.reset_state, lambda: call(model, first)):
        before()
        assign(layer.states, middle)
        assert_close(call(model, second), expected)
    layer.reset_state()
    assert_close(call(model, first), start)


@each_layer
def test_states_assigned_to_a_fresh_layer(make):
    model, layer = random_model(make)
    first, second = chunks(2)
    model(first)
    middle = copies(layer.states)
    expected = model(second)
    other, fresh = random_model(make)
    assign(fresh.states, middle)
    assert_close(other(second), expected)


@one_of_each_kind
def test_states_assigned_and_reset_within_a_function(make):
    model, layer = random_model(make)
    first, second = chunks(2)
    start = model(first)
    middle = copies(layer.states)
    expected = model(second)

    @tf.function
    def assigned(chunk):
        layer.reset_state()
        assign(layer.states, middle)
        return model(chunk)

    @tf.function
    def reset(chunk):
        layer.reset_state()
        return model(chunk)

    for _ in range(2):
        assert_close(assigned(second), expected)
        # The reset of an LSTM is to zeros, with which it starts.
        assert_close(reset(first), start)


def test_a_compiled_layer_takes_assigned_states():
    model, layer = random_model(compiled_sam)
    first, second = chunks(2)
    model(first)
    middle = copies(layer.states)
    expected = model(second)
    layer.reset_state()
    assign(layer.states, middle)
    assert_close(model(second), expected)


@pytest.mark.parametrize("make", [ntm, sam])
def test_states_assigned_to_a_model_that_xla_compiles(make):
    model, layer = random_model(make)
    model.compile("sgd", "mse", jit_compile=True)
    first, second = chunks(2)
    call_predict(model, first)
    middle = copies(layer.states)
    expected = call_predict(model, second)
    layer.reset_state()
    assign(layer.states, middle)
    assert_close(call_predict(model, second), expected)


@each_of_ours
def test_one_state_assigned_and_the_others_as_the_weights_are_by_then(make):
    model, layer = random_model(make, seed=1)
    randomize(layer, seed=0)  # After the layer has been built.
    other = make(stateful=False)
    other.build((BATCH, None, FEATURES))
    other.set_weights(layer.get_weights())
    state = other.get_initial_state(BATCH)
    memory = np.random.default_rng(2).normal(size=state[0].shape).astype("float32")
    layer.states[0].assign(memory)
    (chunk,) = chunks(1)
    expected = other(chunk, initial_state=[memory, *state[1:]])
    assert_differs(other(chunk), expected)
    assert_close(model(chunk), expected)


@each_of_ours
def test_a_fresh_stream_starts_from_the_initial_state_of_the_moment(make):
    model, layer = random_model(make, seed=1)
    plain = make()
    plain.build((BATCH, None, FEATURES))
    (chunk,) = chunks(1)
    # Before the first call, and after a reset.
    for seed in (2, 3):
        randomize(layer, seed=seed)
        plain.set_weights(layer.get_weights())
        assert_close(model(chunk), plain(chunk))
        layer.reset_state()


@each_layer
def test_assign_add_and_sub_count_too(make):
    model, layer = random_model(make)
    (chunk,) = chunks(1)
    start = model(chunk)
    layer.reset_state()
    for state in layer.states:
        state.assign_add(tf.ones_like(state.value))
        state.assign_sub(tf.ones_like(state.value))
    # What was there: the initial state as it was when the layer was reset.
    np.testing.assert_allclose(model(chunk), start, atol=1e-4)
    layer.reset_state()
    layer.states[-1].assign_add(tf.ones_like(layer.states[-1].value))
    assert_differs(model(chunk), start)


@pytest.mark.slow_rows("ntm")
@one_of_each_kind
def test_states_assigned_before_fit(make):
    (chunk,) = chunks(1)
    targets = np.zeros((BATCH, 5), "float32")

    def train(before):
        model, layer = random_model(make)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        before(layer)
        model.fit(chunk, targets, batch_size=BATCH, epochs=1, verbose=0)
        return np.concatenate([w.ravel() for w in layer.get_weights()])

    def start_in_the_middle(layer):
        rng = np.random.default_rng(3)
        state = layer.states[-1]
        state.assign(rng.normal(size=state.shape))

    trained = train(lambda layer: None)
    assert_differs(train(start_in_the_middle), trained)
    assert_close(train(lambda layer: layer.reset_state()), trained)


@each_layer
def test_a_stream_is_saved_and_restored(make, tmp_path):
    model, layer = random_model(make)
    first, second = chunks(2)
    start = call_predict(model, first)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "stream.npz", *copies(layer.states))
    expected = call_predict(model, second)

    def restore(layer):
        with np.load(tmp_path / "stream.npz") as file:
            for state, value in zip(layer.states, file.values(), strict=True):
                state.assign(value)

    again = keras.models.load_model(tmp_path / "model.keras")
    # Without its stream it starts from the beginning, and says so in the docs.
    assert_close(call_predict(again, first), start)
    restore(again.layers[0])
    assert_close(call_predict(again, second), expected)
    # And straight after it was loaded.
    again = keras.models.load_model(tmp_path / "model.keras")
    restore(again.layers[0])
    assert_close(again(second), expected)
    again.layers[0].reset_state()
    assert_close(again(first), start)


@pytest.mark.parametrize("make", [lstm, ntm, dnc, dam])
def test_a_saved_model_goes_on_from_where_the_layer_stood(make, tmp_path):
    model, _ = random_model(make)
    first, second = chunks(2)
    spec = tf.TensorSpec((BATCH, STEPS, FEATURES))
    module = tf.Module()
    module.model = model
    module.call = tf.function(lambda chunk: model(chunk), input_signature=[spec])
    model(first)
    tf.saved_model.save(module, tmp_path / "saved")
    expected = model(second)
    loaded = tf.saved_model.load(tmp_path / "saved")
    assert_close(loaded.call(second), expected)


@each_layer
def test_states_of_another_shape_are_refused(make):
    _, layer = random_model(make)
    state = layer.states[0]
    with pytest.raises(ValueError, match="shape"):
        state.assign(np.zeros((BATCH + 1, state.shape[1])))


@each_of_ours
def test_states_are_no_weights(make):
    model, layer = random_model(make)
    names = [weight.path for weight in model.variables]
    assert not [name for name in names if "rnn_state" in name]
    assert len(layer.states) == len(layer.cell.state_size)


class Subclassed(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


@one_of_each_kind
def test_in_a_subclassed_model(make):
    first, second = chunks(2)
    layer = make(stateful=True)
    model = Subclassed(layer)
    call_predict(model, first)
    middle = copies(layer.states)
    expected = call_predict(model, second)
    assert_differs(call_predict(model, second), expected)
    assign(layer.states, middle)
    assert_close(call_predict(model, second), expected)
