"""Converts every cell to ONNX, runs the files, and compares their answers.

    pip install tf2onnx onnxruntime
    python scripts/check_onnx.py

The package needs neither: install them in an environment of their own.
"""

import argparse

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx

import keras_sam

CELLS = {
    "NTM": {},
    "DNC": {},
    "DAM": {},
    "MANN": {},
    "DNTM": {"address_size": 2},
    "SAM": {},
    "SDNC": {},
}
WORDS = {"memory_slots": 8, "word_size": 4}
BATCH, STEPS, FEATURES = 2, 6, 3


def difference(layer, is_open):
    """Between the answers of a model and those of its converted file."""
    keras.utils.set_random_seed(0)
    batch, steps = (None, None) if is_open else (BATCH, STEPS)
    inputs = keras.Input((steps, FEATURES), batch_size=batch)
    model = keras.Model(inputs, layer(inputs))
    spec = tf.TensorSpec((batch, steps, FEATURES), tf.float32, "inputs")
    call = tf.function(lambda inputs: model(inputs, training=False))
    with keras_sam.builtin_ops():
        onnx, _ = tf2onnx.convert.from_function(call, [spec], opset=17)
    session = onnxruntime.InferenceSession(
        onnx.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    shape = (BATCH, STEPS, FEATURES)
    values = np.random.default_rng(0).normal(size=shape).astype("float32")
    (outputs,) = session.run(None, {"inputs": values})
    return np.abs(outputs - model.predict(values, verbose=0)).max()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open", action="store_true", help="any batch and length")
    is_open = parser.parse_args().open
    versions = tf2onnx.__version__, onnxruntime.__version__, tf.__version__
    print("tf2onnx {}, onnxruntime {}, TensorFlow {}".format(*versions))
    layers = {
        name: getattr(keras_sam, name)(5, return_sequences=True, **WORDS, **arguments)
        for name, arguments in CELLS.items()
    }
    layers["StackRNN"] = keras_sam.StackRNN(5, memory_slots=8, return_sequences=True)
    for name, layer in layers.items():
        print(f"{name}: {difference(layer, is_open):.1e}", flush=True)


if __name__ == "__main__":
    main()
