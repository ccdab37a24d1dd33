"""What do two workers on one machine gain?

    python benchmarks/workers.py

Steps of training per second, of one process and of two local workers that divide the
same batches, as `examples/train.py --workers 2` does: the copy task, sequences of up to
20 vectors, 100 units, one head, the SAM with 1,024 words and K = 4, the NTM with 128
words, no XLA but that of the layers. Each measurement is a process or a pair of its
own; the two take turns for `--rounds`. The first epoch compiles and is left out; the
others have `--steps` each, and the median of them counts.

Expected: a gain where the batch is large, since one process leaves cores idle between
operations; a loss where it is small, since each step sums the gradients of all weights.
The load of the machine is stored with the result: where other programs need the cores,
two processes also get a larger share of them than one.

Writes benchmarks/results/workers.json. `--smoke` tries it at a tiny size.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from measuring import Options, digits, numbers, report, store_part, summary

import keras_sam

RESULTS = Path(__file__).parent / "results" / "workers.json"
LAYER = {"word_size": 32, "read_heads": 1, "output_size": 8, "return_sequences": True}
LAYERS = {
    "SAM": lambda: keras_sam.SAM(100, memory_slots=1024, reads_per_head=4, **LAYER),
    "NTM": lambda: keras_sam.NTM(100, memory_slots=128, jit_compile=False, **LAYER),
}


class Speed(keras.callbacks.Callback):
    """Steps per second of each epoch but the first."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.values = steps, []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if epoch:
            self.values.append(self.steps / (time.perf_counter() - self.start))


def measure(layer, batch_size, steps, epochs, output):
    """The median speed of this process, or of the workers that it is the chief of."""
    strategy = tf.distribute.get_strategy()
    if "TF_CONFIG" in os.environ:
        strategy = keras_sam.distribute.MultiWorkerStrategy()
    keras.utils.set_random_seed(0)
    data = keras_sam.tasks.copy_task(batch_size, max_length=20, seed=0)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input(data.element_spec[0].shape[1:]),
                LAYERS[layer](),
                keras.layers.Activation("sigmoid"),
            ]
        )
        model.compile("adam", "binary_crossentropy", jit_compile=False)
    speed = Speed(steps)
    model.fit(data, steps_per_epoch=steps, epochs=epochs, callbacks=[speed], verbose=0)
    if getattr(strategy, "is_chief", True):
        Path(output).write_text(json.dumps(float(np.median(speed.values))))


def speed_of(workers, *settings):
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "speed.json"
        task = json.dumps([*settings, str(output)])
        command = [sys.executable, __file__, "--task", task]
        if workers == 1:
            status = subprocess.run(command, check=False).returncode
        else:
            status = keras_sam.distribute.run_local_workers(command, workers)
        if status:
            raise SystemExit(f"error: {workers} workers ended with {status}: {task}")
        return json.loads(output.read_text())


def main():
    options = Options(__doc__, RESULTS)
    options.add("--layers", ["SAM"], f"some of {list(LAYERS)}")
    options.add("--batches", [16, 64], "global batch sizes", numbers)
    options.add("--steps", 20, "of an epoch", int)
    options.add("--epochs", 4, "of a measurement, the first to compile", int)
    options.add("--rounds", 3, "measurements of each", int)
    options = options.parse()
    if options.smoke:
        options.layers, options.batches = ["NTM"], [2]
        options.steps, options.epochs, options.rounds = 2, 2, 1
    load, cases = [digits(os.getloadavg()[0])], {}
    for layer in options.layers:
        for batch_size in options.batches:
            settings = (layer, batch_size, options.steps, options.epochs)
            pairs = [
                [speed_of(workers, *settings) for workers in (1, 2)]
                for _ in range(options.rounds)
            ]
            one, two = zip(*pairs, strict=True)
            case = cases[f"{layer}, batch {batch_size}"] = {
                "one_process": summary(one),
                "two_workers": summary(two),
                "gain": summary([after / before for before, after in pairs]),
            }
            load.append(digits(os.getloadavg()[0]))
            report(f"{layer}, batch {batch_size}: {case}")
    store_part(
        options.output,
        "steps_per_second",
        {"load_average": load, "rounds": options.rounds, "cases": cases},
    )


if __name__ == "__main__":
    if "--task" in sys.argv:
        measure(*json.loads(sys.argv[2]))
    else:
        main()
