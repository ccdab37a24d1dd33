"""What the examples share: the learning curve, and a SavedModel that is checked."""

import json
import subprocess
import sys
import time
from pathlib import Path

import keras
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

CHECK_EXPORT = """
import sys
import numpy as np
import tensorflow as tf

folder, examples = sys.argv[1:]
examples = np.load(examples)
model = tf.saved_model.load(folder)
outputs = model.serve(examples["inputs"]).numpy()
assert "keras_sam" not in sys.modules
same = np.array_equal(outputs > 0.5, examples["bits"])
print("SavedModel in a new process:", "the same bits" if same else "OTHER BITS")
sys.exit(0 if same else 1)
"""


class LearningCurve(keras.callbacks.Callback):
    """Keeps the logs against the sequences seen; with `path`, across interruptions."""

    def __init__(self, sequences_per_epoch, path=None):
        super().__init__()
        self.sequences_per_epoch = sequences_per_epoch
        self.path = path
        self.points = []
        if path is not None and path.exists():
            self.points = json.loads(path.read_text())

    def on_train_begin(self, logs=None):
        before = self.points[-1]["seconds"] if self.points else 0.0
        self.start = time.perf_counter() - before

    def on_epoch_end(self, epoch, logs=None):
        # An epoch whose weights were lost is there already.
        self.points = self.points[:epoch]
        self.points.append(
            {
                "sequences": (epoch + 1) * self.sequences_per_epoch,
                "seconds": round(time.perf_counter() - self.start, 1),
                **{
                    name.replace("val_", "validation_"): float(value)
                    for name, value in logs.items()
                },
            }
        )
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.points))

    def draw(self, metric, path):
        """The metric, and the level of a curriculum, against the sequences seen."""
        figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
        sequences = [point["sequences"] for point in self.points]
        for name in (metric, f"validation_{metric}"):
            values = [point[name] for point in self.points]
            axis.plot(sequences, values, label=name.replace("_", " "))
        axis.set_xlabel("sequences seen")
        axis.set_ylabel(metric.replace("_", " "))
        axis.set_ylim(bottom=0)
        for name in {"level", "lesson"} & set(self.points[-1]):
            levels = axis.twinx()
            values = [point[name] for point in self.points]
            levels.plot(sequences, values, color="gray", linestyle=":")
            levels.set_ylabel(f"{name} (dotted)")
        axis.legend()
        figure.savefig(path, dpi=100)
        plt.close(figure)


def export(model, inputs, output):
    """A SavedModel in `output/1`, checked where keras_sam is not even imported."""
    folder = Path(output) / "1"
    model.export(folder, verbose=False)
    examples = Path(output) / "examples.npz"
    bits = model.predict(inputs, verbose=0) > 0.5
    np.savez_compressed(examples, inputs=inputs, bits=bits)
    try:
        subprocess.run(
            [sys.executable, "-c", CHECK_EXPORT, str(folder), str(examples)],
            check=True,
        )
    finally:
        examples.unlink()
