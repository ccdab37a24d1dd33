"""keras_sam.resize_memory: the same weights on another number of slots."""

import keras
import numpy as np
import pytest

import keras_sam


def dnc_model(**kwargs):
    return keras.Sequential(
        [
            keras.Input((None, 3)),
            keras.layers.Bidirectional(
                keras_sam.DNC(4, memory_slots=6, word_size=3, read_heads=1)
            ),
            keras.layers.RepeatVector(2),
            keras.layers.RNN(
                keras_sam.NTMCell(
                    4,
                    memory_slots=6,
                    word_size=3,
                    initial_addressing="first_slot",
                    **kwargs,
                )
            ),
        ]
    )


def test_resized_model_has_the_weights_and_the_slots():
    model = dnc_model()
    resized = keras_sam.resize_memory(model, 11)
    forward = resized.layers[0].forward_layer
    assert forward.cell.memory_slots == 11
    assert resized.layers[2].cell.memory_slots == 11
    assert model.layers[2].cell.memory_slots == 6
    for old, new in zip(model.get_weights(), resized.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert resized.predict(np.ones((2, 4, 3)), verbose=0).shape == (2, 4)


def test_a_model_compiled_with_functions_of_the_user_is_resized():
    def mean_output(y_true, y_pred):
        return keras.ops.mean(y_pred)

    model = dnc_model()
    model.compile("sgd", mean_output)
    resized = keras_sam.resize_memory(model, 11)
    assert not resized.compiled and model.compiled
    for old, new in zip(model.get_weights(), resized.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_unused_slots_of_a_larger_memory_change_nothing_for_location_reads():
    """An NTM that addresses by location only answers alike with more slots."""
    layer = keras_sam.NTM(
        4, memory_slots=9, word_size=3, initial_addressing="first_slot", shift_range=1
    )
    model = keras.Sequential([keras.Input((None, 3)), layer])
    # Interpolation gates shut: the weighting before, shifted, is all that counts.
    heads, words = 2, 3
    bias = layer.cell.interface.bias.numpy()
    bias[heads * words + heads : heads * words + 2 * heads] = -20.0
    layer.cell.interface.bias.assign(bias)
    kernel = layer.cell.interface.kernel.numpy()
    kernel[:, heads * words + heads : heads * words + 2 * heads] = 0.0
    layer.cell.interface.kernel.assign(kernel)
    inputs = np.random.default_rng(0).normal(size=(2, 3, 3)).astype("float32")
    resized = keras_sam.resize_memory(model, 40)
    np.testing.assert_allclose(
        resized.predict(inputs, verbose=0),
        model.predict(inputs, verbose=0),
        atol=1e-5,
    )


def test_weights_tied_to_slots_are_refused():
    for kwargs in ({"initial_memory": "learned"}, {"initial_memory": "random"}):
        with pytest.raises(ValueError, match="belongs to a slot.*initial_memory="):
            keras_sam.resize_memory(dnc_model(**kwargs), 11)
    model = keras.Sequential([keras.Input((None, 3)), keras_sam.NTM(4)])
    with pytest.raises(
        ValueError, match='Received: layer .* initial_addressing="learned"'
    ):
        keras_sam.resize_memory(model, 11)


def test_model_without_memory_is_refused():
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4)])
    with pytest.raises(ValueError, match="must have a layer or cell of keras_sam"):
        keras_sam.resize_memory(model, 11)
