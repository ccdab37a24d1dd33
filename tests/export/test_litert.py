"""Memories run in LiteRT (TensorFlow Lite) with its builtin operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sam
from keras_sam.recurrence.buffers import Builtin

SIZES = {"memory_slots": 8, "word_size": 4, "return_sequences": True}


def converted(layer):
    """A model of the layer for one sequence of six steps, and what LiteRT makes."""
    model = keras.Sequential([keras.Input((6, 3), batch_size=1), layer])
    return model, tf.lite.TFLiteConverter.from_keras_model(model).convert()


def check_same_answers(model, content):
    """The converted file, run, gives what the model gives."""
    inputs = np.random.default_rng(0).normal(size=(1, 6, 3)).astype("float32")
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    outputs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


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
    check_same_answers(*converted(layer_class(5, **SIZES, **arguments)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer_class, arguments",
    [
        (keras_sam.SAM, {"read_heads": 2}),
        # Every head names the slots of the others, and twice as many words are kept.
        (keras_sam.SAM, {"read_heads": 2, "write_heads": 2, "memory_slots": 1200}),
        (keras_sam.SAM, {"read_heads": 2, "gated_erase": True, "jit_compile": True}),
        (keras_sam.SDNC, {"read_heads": 1, "reads_per_head": 2}),
    ],
)
def test_a_sparse_memory_answers_in_litert(layer_class, arguments):
    layer = layer_class(5, **SIZES | arguments)
    with keras_sam.builtin_ops():
        model, content = converted(layer)
    check_same_answers(model, content)


@pytest.mark.slow
def test_a_stack_answers_in_litert():
    layer = keras_sam.StackRNN(5, memory_slots=8, return_sequences=True)
    check_same_answers(*converted(layer))


@pytest.mark.slow
def test_without_builtin_ops_a_sparse_memory_does_not_convert():
    with pytest.raises(Exception, match="InplaceUpdate"):
        converted(keras_sam.SAM(5, **SIZES, jit_compile=False))


def test_an_index_that_litert_does_not_have():
    layer = keras_sam.SAM(5, **SIZES, index="lsh")
    with (
        keras_sam.builtin_ops(),
        pytest.raises(ValueError, match="index='exact' and give it the same weights"),
    ):
        layer(np.zeros((1, 6, 3), "float32"))


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2), (2, 3, 2, 2)])
@pytest.mark.parametrize("depth", [1, 2])
def test_of_equal_updates_one_counts(shape, depth):
    rng = np.random.default_rng(0)
    tensor = rng.normal(size=shape)
    indices = rng.integers(0, shape[:depth], (20, depth), "int32")
    new = rng.normal(size=shape)
    expected = tensor.copy()
    for index in map(tuple, indices):
        expected[index] = new[index]
    updates = new[tuple(indices.T)]
    got = Builtin.update(*map(tf.constant, (tensor, indices, updates)))
    np.testing.assert_array_equal(got, expected)
