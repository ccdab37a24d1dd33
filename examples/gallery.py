"""Draw what trained models do with their memory: the pictures of README.md and docs/.

Takes the models of saved_models/ as they are and writes saved_models/gallery/.

    python examples/gallery.py
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import long_recall
import numpy as np
import train
from training import MODELS

import keras_sam
from keras_sam import visualize
from keras_sam.tasks import copy_sequences


def copy_recording(name, length):
    inputs, _, _ = copy_sequences(0, [length])
    model = train.trained_model(MODELS / f"copy_{name}")
    return visualize.record(model.get_layer("memory"), inputs[0])


def sdnc_recording(task, *sizes):
    """An SDNC with what it learned, on one sequence of these sizes."""
    make = getattr(keras_sam.tasks, f"{task}_sequences")
    inputs, _, _ = make(0, *([size] for size in sizes))
    model = train.trained_model(MODELS / f"{task}_sdnc")
    return visualize.record(model.get_layer("memory"), inputs[0])


def recall_recording(pairs):
    """A SAM with 2^20 words that has learned to look up values by their keys."""
    model = keras.models.load_model(MODELS / "long_recall" / "model.keras")
    inputs, _, _ = long_recall.recall_sequences(np.random.default_rng(0), 1, pairs, 16)
    return visualize.record(model.get_layer("memory"), inputs[0])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=MODELS / "gallery")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)

    ntm = copy_recording("ntm", 10)
    visualize.animate(ntm, folder / "copy_ntm.gif", title="An NTM copies 10 vectors")
    dnc = copy_recording("dnc", 10)
    title = "A DNC copies 10 vectors"
    visualize.plot(dnc, title).savefig(folder / "copy_dnc.png")
    title = "What the DNC then has in its memory, and the order of writing"
    visualize.plot_memory(dnc, title=title).savefig(folder / "copy_dnc_memory.png")
    sam = copy_recording("sam", 10)
    title = "A SAM copies 10 vectors: slots touched, of 1,024"
    visualize.plot(sam, title).savefig(folder / "copy_sam.png")
    recall = recall_recording(12)
    title = "A SAM with 1,048,576 slots looks up 12 keys"
    visualize.plot(recall, title).savefig(folder / "long_recall.png")
    order = sdnc_recording("order_recall", 10)
    title = "An SDNC sees 10 items, then one of them: it names the rest"
    visualize.plot(order, title).savefig(folder / "order_recall_sdnc.png")
    repeat = sdnc_recording("repeat_copy", 5, 4)
    title = "An SDNC copies 5 vectors 4 times"
    visualize.plot(repeat, title).savefig(folder / "repeat_copy_sdnc.png")
    print(f"Pictures are in {folder}")


if __name__ == "__main__":
    main()
