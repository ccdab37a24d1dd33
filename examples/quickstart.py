"""A network with an external memory in three minutes: train, look inside, serve.

A SAM learns to copy: it sees 1 to 20 vectors of 8 random bits, then writes them down
from memory (Graves et al. 2014, https://arxiv.org/abs/1410.5401, section 4.1).

    pip install -e ".[viz]"
    python examples/quickstart.py
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib  # noqa: F401  keras_sam draws with it, after the training.
import tensorflow as tf

import keras_sam.datasets

runs = Path(__file__).resolve().parents[1] / "runs"
parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--sequences", type=int, default=8_000, help="in an epoch")
parser.add_argument("--output", type=Path, default=runs / "quickstart")
arguments = parser.parse_args()
keras.utils.set_random_seed(0)

# tfds keeps the data of a configuration under its name.
config = keras_sam.datasets.CopyTaskConfig(
    name=f"train_{arguments.sequences}", train_size=arguments.sequences
)
builder = keras_sam.datasets.CopyTask(config=config, data_dir=arguments.output / "data")
builder.download_and_prepare()
train, test, longer = builder.as_dataset(
    split=["train", "test", "test_120"], as_supervised=True
)


def batches(split, length):
    """16 sequences each, all padded to one length: XLA compiles once for it."""
    steps = 2 * length + 1
    shapes = ((steps, 9), (steps, 8), (steps,))
    return split.padded_batch(16, shapes, drop_remainder=True)


train = batches(train.cache().shuffle(8_000), 20)

# The controller keeps nothing from step to step. What it knows of the past is in the
# words of the memory, which it finds by their contents: by the position written there.
memory = keras_sam.SAM(
    100,
    memory_slots=1024,
    read_heads=1,
    controller="dense",
    output_size=8,
    return_sequences=True,
)
bits = keras.layers.Activation("sigmoid")
positions = keras_sam.RandomPositions()
model = keras.Sequential([keras.Input((None, 9)), positions, memory, bits])
model.compile(
    keras.optimizers.Adam(1e-3, global_clipnorm=1.0),
    "binary_crossentropy",
    weighted_metrics=[keras_sam.metrics.BitErrors()],
)
model.fit(train, epochs=arguments.epochs)
for name, data in {"1 to 20": batches(test, 20), "120": batches(longer, 120)}.items():
    wrong = model.evaluate(data, return_dict=True, verbose=0)["bit_errors"]
    print(f"{name} vectors: {wrong:.2f} wrong bits a sequence")

inputs, targets, _ = keras_sam.tasks.copy_sequences(1, lengths=[10])
recording = keras_sam.visualize.record(memory, model.layers[0](inputs)[0])
figure = keras_sam.visualize.plot(recording, "A SAM copies 10 vectors")
figure.savefig(arguments.output / "memory.png")

folder = keras_sam.export_saved_model(model, arguments.output / "model")
served = tf.saved_model.load(folder).signatures["serving_default"]
answer = served(inputs=tf.constant(inputs))["outputs"][0, 11:].numpy().round()
print("asked:    ", *("".join(map(str, row)) for row in targets[0, 11:].astype(int)))
print("answered: ", *("".join(map(str, row)) for row in answer.astype(int)))
print(f"Picture: {arguments.output / 'memory.png'}; SavedModel: {folder}")
