"""Trains small models in one process, or as one of several workers.

    python tests/support/distributed.py CASES OUTPUT [--epochs N] [--backup FOLDER]

With TF_CONFIG it is a worker of `keras_sam.distribute.MultiWorkerStrategy`. The chief
leaves the weights and all that Keras reports in OUTPUT, as NumPy's npz. With --kill
the last worker ends itself in the middle of that epoch, as `kill -9` would.
"""

import argparse
import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import keras_sam

BATCH = 8
# Of the last batch the second of two workers has no sequence at all.
SEQUENCES = 17
MEMORY = {"word_size": 4, "read_heads": 1, "return_sequences": True}
SPARSE = {"memory_slots": 8, "reads_per_head": 2, **MEMORY}
# A layer, and how the loss is reduced.
CASES = {
    "sam": (
        lambda: keras_sam.SAM(6, jit_compile=False, **SPARSE),
        "sum_over_batch_size",
    ),
    "sam_compiled": (lambda: keras_sam.SAM(6, **SPARSE), "sum_over_batch_size"),
    "sdnc": (lambda: keras_sam.SDNC(6, **SPARSE), "sum"),
    "ntm": (
        lambda: keras_sam.NTM(6, memory_slots=5, jit_compile=False, **MEMORY),
        "mean_with_sample_weight",
    ),
    "lstm": (
        lambda: keras.layers.LSTM(6, return_sequences=True),
        "mean_with_sample_weight",
    ),
}


def data():
    """Tokens of which 0 is padding, targets and weights, in batches."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 7, (SEQUENCES, 6))
    lengths = rng.integers(1, 7, SEQUENCES)
    tokens[np.arange(6) >= lengths[:, np.newaxis]] = 0
    targets = rng.normal(size=(SEQUENCES, 6, 2)).astype("float32")
    weights = rng.uniform(size=(SEQUENCES, 6)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((tokens, targets, weights)).batch(BATCH)


def make_model(case):
    make_layer, reduction = CASES[case]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Embedding(7, 4, mask_zero=True),
            make_layer(),
            keras.layers.Dense(2),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.5, momentum=0.9, global_clipnorm=0.2),
        keras.losses.MeanSquaredError(reduction=reduction),
        weighted_metrics=["mae"],
    )
    return model


def results(case, strategy, epochs=2, callbacks=(), backup=None):
    """The weights after the training, and what Keras reports, by name."""
    with strategy.scope():
        model = make_model(case)
    done = 0
    if backup is not None:
        callbacks = [*callbacks, keras_sam.callbacks.RunBackup(backup)]
        done = callbacks[-1].restore(model)
    before = model.get_weights()
    history = model.fit(
        data(), initial_epoch=done, epochs=epochs, callbacks=callbacks, verbose=0
    ).history
    changes = zip(before, model.get_weights(), strict=True)
    found = {
        "change": sum(np.abs(old - new).sum() for old, new in changes),
        **{f"history {name}": values for name, values in history.items()},
        **{f"weight {i}": value for i, value in enumerate(model.get_weights())},
    }
    if case == "lstm":  # No layer has a part in how Keras does these.
        found["evaluate"] = model.evaluate(data(), verbose=0)
        found["predict"] = model.predict(data(), verbose=0)
        found["live"] = losses_of_a_live_stream(strategy)
    return {f"{case}: {name}": np.asarray(value) for name, value in found.items()}


def losses_of_a_live_stream(strategy):
    """The level rises after each batch, and the next batch has to be of that level."""
    keras.utils.set_random_seed(0)
    curriculum = keras_sam.callbacks.ExponentialCurriculum(threshold=9, batches=1)
    stream = keras_sam.tasks.copy_task(
        4, max_length=lambda: curriculum.level, bits=3, seed=0
    )
    with strategy.scope():
        model = keras.Sequential([keras.layers.Dense(3, activation="sigmoid")])
        model.compile("sgd", "binary_crossentropy")
    history = model.fit(
        stream, steps_per_epoch=2, epochs=2, callbacks=[curriculum], verbose=0
    )
    return history.history["loss"]


class KillIn(keras.callbacks.Callback):
    """Ends the process in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cases")
    parser.add_argument("output")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--backup")
    parser.add_argument("--keras-backup", action="store_true")
    parser.add_argument("--kill", type=int)
    arguments = parser.parse_args()
    strategy = keras_sam.distribute.MultiWorkerStrategy()
    backup = arguments.backup and strategy.folder(arguments.backup)
    callbacks = []
    if arguments.keras_backup:
        callbacks, backup = [keras.callbacks.BackupAndRestore(backup)], None
    if arguments.kill is not None and not strategy.is_chief:
        callbacks.append(KillIn(arguments.kill))
    found = {}
    for case in arguments.cases.split(","):
        found |= results(case, strategy, arguments.epochs, callbacks, backup)
    if strategy.is_chief:
        np.savez(arguments.output, **found)


if __name__ == "__main__":
    main()
