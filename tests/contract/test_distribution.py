"""Training on several devices gives what training on one gives."""

import subprocess
import sys

import pytest

# Logical devices must be made before TensorFlow starts: in a process of its own.
SCRIPT = """
import keras
import numpy as np
import tensorflow as tf

import keras_sam

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)


def train(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        layer = {layer}
        model = keras.Sequential(
            [keras.Input((7, 4)), layer, keras.layers.Activation("sigmoid")]
        )
        model.compile(
            keras.optimizers.SGD(0.5),
            "binary_crossentropy",
            weighted_metrics=[keras_sam.metrics.BitErrors()],
            jit_compile=False,
        )
    data = keras_sam.tasks.copy_task(4, max_length=3, bits=3, seed=0)
    history = model.fit(data, steps_per_epoch=3, epochs=2, verbose=0).history
    return history, model.get_weights()


one = train(tf.distribute.get_strategy())
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
two = train(strategy)
for name in one[0]:
    np.testing.assert_allclose(one[0][name], two[0][name], rtol=1e-4, err_msg=name)
assert len(one[1]) == len(two[1]) > 0
for a, b in zip(one[1], two[1]):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
print("the same on two devices")
"""
LAYERS = {
    "dnc": "keras_sam.DNC(6, memory_slots=5, word_size=4, read_heads=1, "
    "output_size=3, return_sequences=True)",
    "sam": "keras_sam.SAM(6, memory_slots=8, word_size=4, read_heads=1, "
    "reads_per_head=2, output_size=3, return_sequences=True, jit_compile=False)",
}


def train_on_two_devices(cell):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{layer}", LAYERS[cell])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "the same on two devices" in run.stdout


def test_a_dense_cell():
    train_on_two_devices("dnc")


@pytest.mark.slow
def test_a_sparse_cell():
    train_on_two_devices("sam")
