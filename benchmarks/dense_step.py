"""What does one step of the dense cells cost, forward and backward?

    python benchmarks/dense_step.py

Marginal time per step: the difference between two sequence lengths, so that
set-up cancels; batch 1, 100 units, 4 read heads (and for the NTM 4 write heads),
words of 32, compiled by XLA, median and range of interleaved repetitions, all in
one process. A bare `keras.layers.LSTM(100)` stands beside them.

Expected: the NTM's time grows with N, the DNC's with N^2 (its links).

Writes benchmarks/results/dense_step.json.
"""

import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import keras_sam

LENGTHS = (5, 15)
REPETITIONS = 7
FEATURES = 16
MEMORY = {"word_size": 32, "read_heads": 4, "return_sequences": True}
CASES = {
    "LSTM": lambda: keras.layers.LSTM(100, return_sequences=True),
    "NTM, 512 words": lambda: keras_sam.NTM(
        100, memory_slots=512, write_heads=4, **MEMORY
    ),
    "NTM, 32768 words": lambda: keras_sam.NTM(
        100, memory_slots=32_768, write_heads=4, **MEMORY
    ),
    "DNC, 512 words": lambda: keras_sam.DNC(100, memory_slots=512, **MEMORY),
    "DNC, 4096 words": lambda: keras_sam.DNC(100, memory_slots=4_096, **MEMORY),
}


def training_step(layer):
    layer.build((1, None, FEATURES))
    weights = [variable.value for variable in layer.trainable_variables]

    @tf.function(jit_compile=True)
    def step(inputs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer(inputs, training=True)))
        return tape.gradient(loss, weights)

    return step


def seconds(step, inputs):
    start = time.perf_counter()
    step(inputs)[0].numpy()
    return time.perf_counter() - start


def main():
    results = {}
    for name, make_layer in CASES.items():
        step = training_step(make_layer())
        short, long = (tf.random.normal((1, length, FEATURES)) for length in LENGTHS)
        seconds(step, short), seconds(step, long)  # compile
        marginal = [
            1e3 * (seconds(step, long) - seconds(step, short)) / np.diff(LENGTHS)[0]
            for _ in range(REPETITIONS)
        ]
        results[name] = {
            "ms_per_step": round(float(np.median(marginal)), 3),
            "range": [round(float(f(marginal)), 3) for f in (min, max)],
        }
        print(f"{name:18} {results[name]}", flush=True)
        keras.backend.clear_session()
    path = Path(__file__).parent / "results" / "dense_step.json"
    record = {"command": "python benchmarks/dense_step.py", "cores": os.cpu_count()}
    path.write_text(json.dumps({**record, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
