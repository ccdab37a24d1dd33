"""The LSTM baseline against the paper's parameter counts and NumPy."""

import keras
import numpy as np
import pytest
from helpers import randomize

from keras_sam.tasks import lstm_baseline
from keras_sam.tasks.baseline import LearnedStateLSTM


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ((10, 9, 256), 1_352_969),  # copy
        ((8, 7, 512), 5_312_007),  # repeat copy
        ((8, 6, 256), 1_344_518),  # associative recall
        ((1, 1, 128), 331_905),  # dynamic n-grams
    ],
)
def test_parameter_counts_of_the_paper(sizes, parameters):
    assert lstm_baseline(*sizes).count_params() == parameters


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def run_lstm(layer, x):
    """The outputs of `layer` on x [batch, time, features], computed in NumPy."""
    kernel, recurrent_kernel, bias = layer.cell.get_weights()
    h = np.tile(layer.initial_h.numpy(), (len(x), 1))
    c = np.tile(layer.initial_c.numpy(), (len(x), 1))
    outputs = []
    for t in range(x.shape[1]):
        gates = x[:, t] @ kernel + h @ recurrent_kernel + bias
        i, f, candidate, o = np.split(gates, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_same_numbers_as_numpy(layers):
    model = lstm_baseline(3, 2, units=4, layers=layers)
    randomize(model)
    x = np.random.default_rng(1).normal(size=(5, 6, 3)).astype("float32")
    hidden = []
    for number in range(1, layers + 1):
        below = np.concatenate([x, *hidden[-1:]], axis=-1)
        hidden.append(run_lstm(model.get_layer(f"lstm_{number}"), below))
    kernel, bias = model.get_layer("outputs").get_weights()
    expected = sigmoid(np.concatenate(hidden, axis=-1) @ kernel + bias)
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


def test_the_initial_state_is_trained():
    model = lstm_baseline(3, 2, units=4)
    model.compile("rmsprop", "binary_crossentropy")
    x = np.ones((4, 5, 3))
    model.fit(x, x[..., :2], epochs=1, verbose=0)
    for number in (1, 2, 3):
        layer = model.get_layer(f"lstm_{number}")
        assert np.all(layer.initial_h.numpy() != 0)
        assert np.all(layer.initial_c.numpy() != 0)


def test_a_given_initial_state_wins():
    layer = LearnedStateLSTM(4)
    x = np.random.default_rng(0).normal(size=(2, 5, 3))
    layer(x)
    layer.initial_c.assign(np.ones(4))
    zeros = np.zeros((2, 4))
    plain = keras.layers.LSTM(4)
    plain(x)
    plain.cell.set_weights(layer.cell.get_weights())
    given = layer(x, initial_state=[zeros, zeros])
    np.testing.assert_allclose(given, plain(x), atol=1e-6)
    assert not np.allclose(layer(x), plain(x), atol=1e-3)


def test_saved_and_loaded_with_any_batch_and_length(tmp_path):
    model = lstm_baseline(3, 2, units=4)
    randomize(model)
    model.save(tmp_path / "baseline.keras")
    loaded = keras.models.load_model(tmp_path / "baseline.keras")
    assert loaded.count_params() == model.count_params()
    for batch, steps in ((1, 1), (2, 9), (7, 4)):
        x = np.random.default_rng(steps).normal(size=(batch, steps, 3))
        np.testing.assert_array_equal(loaded(x), model(x))


def test_mixed_precision():
    # The policy of the module, not the global one: other tests share that.
    layer = LearnedStateLSTM(4, dtype="mixed_float16")
    assert layer(np.ones((2, 5, 3))).dtype == "float16"
    assert layer.initial_h.dtype == "float32"


def test_refuses_a_stateful_layer():
    with pytest.raises(ValueError, match="`stateful` must be False"):
        LearnedStateLSTM(4, stateful=True)


@pytest.mark.parametrize("name", ["input_size", "output_size", "units", "layers"])
@pytest.mark.parametrize("value", [0, 2.5, True])
def test_refuses_sizes_that_are_no_positive_integer(name, value):
    sizes = {"input_size": 3, "output_size": 2, "units": 4, "layers": 2, name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1"):
        lstm_baseline(**sizes)
