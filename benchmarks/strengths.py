"""Do read strengths limit a large memory? A trained SAM with weaker and stronger ones.

    python benchmarks/strengths.py

The SAM of saved_models/long_recall looks up values with exact search, in more and more
pairs. Its strengths are cut off by `clip_value` or multiplied by a factor, without any
training. Where a larger strength has fewer wrong bits, the softmax over the words found
was too flat: in a large memory the words next to the right one are nearly as similar.

Writes benchmarks/results/strengths.json. `--smoke` tries it at a tiny size.
"""

from pathlib import Path

import measuring
import numpy as np
from measuring import Options, digits, numbers, report
from task_error import LongRecall, with_settings, wrong_bits

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "strengths.json"
MODEL = ROOT / "saved_models" / "long_recall"
# The interface's clip value, and what its strengths are multiplied by.
SETTINGS = [(20.0, 1.0), (None, 1.0), (None, 2.0), (None, 4.0)]


def with_strengths(trained, slots, clip_value, factor):
    """The trained layer with other strengths, and so many slots."""
    layer = with_settings(
        trained, index="exact", memory_slots=slots, clip_value=clip_value
    )
    columns = layer.cell.interface_columns["strengths"]
    kernel, bias = layer.cell.interface.get_weights()
    kernel[:, columns] *= factor
    bias[columns] *= factor
    layer.cell.interface.set_weights([kernel, bias])
    return layer


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--pairs", "1024,8192,32768", "in a sequence", numbers)
    parser.add("--sequences", 2, "for each row", int)
    options = parser.parse()
    if options.smoke:
        options.pairs, options.sequences = [16], 1
    model = LongRecall(MODEL)
    rows = []
    for pairs in options.pairs:
        for clip_value, factor in SETTINGS:
            layer = with_strengths(model.layer, 2 * pairs, clip_value, factor)
            errors = [
                digits(np.mean(wrong_bits(layer, model.draw(pairs, seed))))
                for seed in range(options.sequences)
            ]
            row = {"pairs": pairs, "clip_value": clip_value, "factor": factor}
            rows.append({**row, "wrong_bits": errors})
            report(rows[-1])
            measuring.store_part(options.output, "strengths", {"rows": rows})


if __name__ == "__main__":
    main()
