"""Dense memories run in LiteRT (TensorFlow Lite) with its builtin operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sam

SIZES = {"memory_slots": 8, "word_size": 4, "return_sequences": True}


def converted(layer):
    """A model of the layer for one sequence of six steps, and what LiteRT makes."""
    model = keras.Sequential([keras.Input((6, 3), batch_size=1), layer])
    return model, tf.lite.TFLiteConverter.from_keras_model(model).convert()


@pytest.mark.parametrize(
    "layer_class, arguments",
    [
        (keras_sam.NTM, {}),
        pytest.param(keras_sam.DNC, {}, marks=pytest.mark.slow),
        pytest.param(keras_sam.DAM, {}, marks=pytest.mark.slow),
        pytest.param(keras_sam.MANN, {}, marks=pytest.mark.slow),
        pytest.param(keras_sam.DNTM, {"address_size": 2}, marks=pytest.mark.slow),
    ],
)
def test_a_dense_memory_answers_in_litert(layer_class, arguments):
    model, content = converted(layer_class(5, **SIZES, **arguments))
    inputs = np.random.default_rng(0).normal(size=(1, 6, 3)).astype("float32")
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    outputs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(outputs, model(inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_sparse_memory_does_not_convert_yet():
    # docs/guides/serving.md and docs/limits.md say so, and why.
    with pytest.raises(Exception, match="InplaceUpdate"):
        converted(keras_sam.SAM(5, **SIZES, jit_compile=False))
