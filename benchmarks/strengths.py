"""Do read strengths limit a large memory? A trained SAM with weaker and stronger ones.

    python benchmarks/strengths.py

The SAM of saved_models/long_recall looks up values with exact search, in more and more
pairs. Its strengths are cut off by `clip_value` or multiplied by a factor, without any
training. Where a larger strength has fewer wrong bits, the softmax over the words found
was too flat: in a large memory the words next to the right one are nearly as similar.

Writes benchmarks/results/strengths.json. `--smoke` tries it at a tiny size.
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measuring
import numpy as np
from measuring import Options, digits, numbers, report

import keras_sam

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "strengths.json"
MODEL = ROOT / "saved_models" / "long_recall" / "model.keras"
KEY_BITS, VALUE_BITS = 16, 8
# The interface's clip value, and what its strengths are multiplied by.
SETTINGS = [(20.0, 1.0), (None, 1.0), (None, 2.0), (None, 4.0)]


def sequence(rng, pairs):
    """Pairs, then their keys in another order; and the values of these."""
    keys = rng.choice(2**KEY_BITS, pairs, replace=False)
    keys = 2.0 * (keys[:, np.newaxis] >> np.arange(KEY_BITS) & 1) - 1.0
    values = rng.integers(0, 2, (pairs, VALUE_BITS))
    order = rng.permutation(pairs)
    inputs = np.zeros((1, 2 * pairs, 1 + KEY_BITS + VALUE_BITS), "float32")
    inputs[0, :pairs, 1:] = np.concatenate([keys, 2.0 * values - 1.0], axis=1)
    inputs[0, pairs:, 0] = 1.0
    inputs[0, pairs:, 1 : 1 + KEY_BITS] = keys[order]
    return inputs, values[order]


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


def wrong_bits(layer, inputs, values):
    """Of the 8 of a value, on average."""
    outputs = layer(inputs).numpy()[0, len(values) :]
    return digits(float(np.mean(np.sum((outputs > 0) != (values > 0), axis=-1))))


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
            rngs = [np.random.default_rng(seed) for seed in range(options.sequences)]
            errors = [wrong_bits(layer, *sequence(rng, pairs)) for rng in rngs]
            row = {"pairs": pairs, "clip_value": clip_value, "factor": factor}
            rows.append({**row, "wrong_bits": errors})
            report(rows[-1])
            measuring.store_part(options.output, "strengths", {"rows": rows})


if __name__ == "__main__":
    main()
