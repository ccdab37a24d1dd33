"""A controller that passes on what it sees."""

import keras
import numpy as np
import pytest

import keras_sam

SEQUENCE = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")


@keras.saving.register_keras_serializable(package="tests")
class LastInput(keras.layers.Layer):
    """A cell of somebody's own: no `get_initial_state`, no `output_size`."""

    state_size = 3

    def call(self, inputs, states):
        return states[0], [inputs]


def test_the_inputs_follow_the_cells_output():
    lstm = keras.layers.LSTM(4, return_sequences=True)
    expected = np.concatenate([lstm(SEQUENCE), SEQUENCE], axis=-1)
    skip = keras_sam.SkipCell(lstm.cell)
    outputs = keras.layers.RNN(skip, return_sequences=True)(SEQUENCE)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-7)
    assert skip.output_size == outputs.shape[-1] == 7


def test_a_cell_of_ones_own_is_wrapped():
    layer = keras.layers.RNN(keras_sam.SkipCell(LastInput()), return_sequences=True)
    before = np.pad(SEQUENCE, [(0, 0), (1, 0), (0, 0)])[:, :-1]
    np.testing.assert_array_equal(
        layer(SEQUENCE), np.concatenate([before, SEQUENCE], axis=-1)
    )


def test_cells_can_be_wrapped_twice_and_stacked():
    twice = keras_sam.SkipCell(keras_sam.SkipCell(keras.layers.GRUCell(4)))
    stack = keras.layers.StackedRNNCells([twice, keras.layers.LSTMCell(2)])
    outputs = keras.layers.RNN(keras_sam.SkipCell(stack))(SEQUENCE)
    assert outputs.shape == (2, 2 + 3) and twice.output_size == 4 + 3 + 3
    np.testing.assert_array_equal(outputs[:, 2:], SEQUENCE[:, -1])


@pytest.mark.parametrize("kind", [keras_sam.SAM, keras_sam.SDNC, keras_sam.NTM])
def test_a_memory_addresses_its_words_by_what_it_sees(kind):
    options = {} if kind is keras_sam.NTM else {"jit_compile": False}
    layer = kind(
        *(5, 16, 4, 2),
        controller=keras_sam.SkipCell(keras.layers.LSTMCell(5)),
        return_sequences=True,
        **options,
    )
    layer.build(SEQUENCE.shape)
    # The LSTM, the inputs, the words of two heads.
    assert layer.cell.interface.kernel.shape[0] == 5 + 3 + 2 * 4
    # An LSTM that says nothing leaves the memory what the inputs say.
    for weight in layer.cell.controller.cell.weights:
        weight.assign(np.zeros(weight.shape))
    assert np.ptp(layer(SEQUENCE), axis=1).min() > 0


def test_a_model_with_it_trains_and_is_saved(tmp_path):
    skip = keras_sam.SkipCell(keras.layers.LSTMCell(5, name="inner"))
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            keras_sam.SAM(5, 16, 4, 2, controller=skip, jit_compile=False),
        ]
    )
    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile("adam", "mse")
    model.fit(SEQUENCE, np.ones((2, 5)), verbose=0)
    changed = [
        not np.array_equal(weight, old)
        for weight, old in zip(model.trainable_weights, before, strict=True)
    ]
    assert all(changed) and any("inner" in w.path for w in model.trainable_weights)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        again.predict(SEQUENCE, verbose=0), model.predict(SEQUENCE, verbose=0)
    )
    assert again.layers[0].cell.controller.get_config() == skip.get_config()


@pytest.mark.parametrize("layer", ["memory", "keras"])
def test_each_sequence_has_a_dropout_mask_of_its_own(layer):
    lstm = keras.layers.LSTMCell(5, dropout=0.5, recurrent_dropout=0.5, seed=1)
    stack = keras.layers.StackedRNNCells([keras_sam.SkipCell(lstm)])
    skip = keras_sam.SkipCell(stack)
    if layer == "memory":
        run = keras_sam.SAM(5, 16, 4, 2, controller=skip, jit_compile=False)
    else:
        run = keras.layers.RNN(skip)
    first, second = (np.array(run(SEQUENCE, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(run(SEQUENCE), run(SEQUENCE))


def test_its_output_has_the_cells_precision():
    skip = keras_sam.SkipCell(keras.layers.LSTMCell(4, dtype="float64"))
    inputs = SEQUENCE[:, 0]
    output, _ = skip(inputs, skip.get_initial_state(2))
    assert output.dtype == "float64"
    np.testing.assert_array_equal(output[:, 4:], inputs)


def test_what_is_no_cell_is_refused():
    for cell in (keras.layers.LSTM(4), keras.layers.Dense(4), "lstm"):
        message = "`cell` must be a Keras RNN cell .* Received: cell="
        with pytest.raises(ValueError, match=message):
            keras_sam.SkipCell(cell)
