"""Do read strengths limit a large memory? A trained SAM with weaker and stronger ones.

    python benchmarks/strengths.py

The SAM of saved_models/long_recall looks up values with exact search, in more and more
pairs. Its strengths are cut off by `clip_value` or multiplied by a factor, without any
training. Where a larger strength has fewer wrong bits, the softmax over the words found
was too flat: in a large memory the words next to the right one are nearly as similar.

Writes benchmarks/results/strengths.json. `--smoke` tries it at a tiny size.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measuring
import numpy as np
from measuring import Options, digits, numbers, report

import keras_sam

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "examples"))
from long_recall import VALUE_BITS, recall_sequences  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "strengths.json"
MODEL = ROOT / "saved_models" / "long_recall" / "model.keras"
KEY_BITS = 16
# The interface's clip value, and what its strengths are multiplied by.
SETTINGS = [(20.0, 1.0), (None, 1.0), (None, 2.0), (None, 4.0)]


def with_strengths(trained, slots, clip_value, factor):
    """The trained layer with other strengths, and so many slots."""
    config = {**trained.get_config(), "memory_slots": slots, "clip_value": clip_value}
    layer = keras_sam.SAM.from_config({**config, "index": "exact"})
    layer.build((None, None, 1 + KEY_BITS + VALUE_BITS))
    layer.set_weights(trained.get_weights())
    columns = layer.cell.interface_columns["strengths"]
    kernel, bias = layer.cell.interface.get_weights()
    kernel[:, columns] *= factor
    bias[columns] *= factor
    layer.cell.interface.set_weights([kernel, bias])
    return layer


def wrong_bits(layer, pairs, seed):
    """Of the 8 of a value, on average, in a random sequence."""
    rng = np.random.default_rng(seed)
    inputs, targets, _ = recall_sequences(rng, 1, pairs, KEY_BITS)
    outputs = layer(inputs).numpy()[0, pairs:]
    wrong = (outputs > 0) != (targets[0, pairs:] > 0)
    return digits(float(np.mean(np.sum(wrong, axis=-1))))


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--pairs", "1024,8192,32768", "in a sequence", numbers)
    parser.add("--sequences", 2, "for each row", int)
    options = parser.parse()
    if options.smoke:
        options.pairs, options.sequences = [16], 1
    trained = keras.models.load_model(MODEL).get_layer("memory")
    rows = []
    for pairs in options.pairs:
        for clip_value, factor in SETTINGS:
            layer = with_strengths(trained, 2 * pairs, clip_value, factor)
            seeds = range(options.sequences)
            errors = [wrong_bits(layer, pairs, seed) for seed in seeds]
            row = {"pairs": pairs, "clip_value": clip_value, "factor": factor}
            rows.append({**row, "wrong_bits": errors})
            report(rows[-1])
            measuring.store_part(options.output, "strengths", {"rows": rows})


if __name__ == "__main__":
    main()
