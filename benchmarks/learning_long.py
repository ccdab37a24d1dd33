"""How many sequences does a SAM need when it is trained with each index?

    python benchmarks/learning_long.py

Trains the model of examples/long_recall.py with its settings, up to 1,024 pairs in
8,192 slots, once for each index and seed, in a process of its own. A number of pairs is
learned when under 0.002 of the 8 bits of a value are wrong in the sequences of an epoch
(of 50 updates, or of 5 beyond 500 pairs). LSH compares a query with the 64 words
written last and with what its tables find: with 256 pairs and more, most words can be
found through the tables alone.

Expected: with LSH as many sequences as with exact search.

Writes benchmarks/results/learning_long.json; runs that it has are not done again.
`--smoke` tries it at a tiny size.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
from measuring import Options, listed, numbers, report

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "examples" / "long_recall.py"
RESULTS = ROOT / "benchmarks" / "results" / "learning_long.json"
LEARNED = 0.002


def trained(index, seed, options):
    """The curve of a run of the example."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, SCRIPT, "--index", index, "--seed", seed),
            *("--memory-slots", options.slots, "--pairs", *options.pairs),
            *("--learned", LEARNED, "--max-updates", *options.max_updates),
            *("--output", folder),
        ]
        subprocess.run([str(part) for part in command], check=True)
        return json.loads((Path(folder) / "results.json").read_text())["curve"]


def needed(curve):
    """For each number of pairs the sequences it took, and whether it was learned."""
    levels = {}
    for point in curve:
        level = levels.setdefault(str(point["pairs"]), {"sequences": 0})
        updates = 50 if point["pairs"] < 500 else 5
        level["sequences"] += updates * point["batch"]
        level["learned"] = point["wrong_bits"] < LEARNED
    return levels


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--indexes", "exact,lsh", "how words are found", listed)
    parser.add("--seeds", "0,1,2", "of weights and sequences", numbers)
    parser.add("--pairs", "4,32,256,1024", "the curriculum", numbers)
    parser.add("--slots", 8192, "of the memory", int)
    parser.add("--max-updates", "2000,2000,2000,500", "at each of them", numbers)
    options = parser.parse()
    if options.smoke:
        options.pairs, options.seeds, options.max_updates = [2, 8], [0], [50, 50]
    stored = json.loads(options.output.read_text()) if options.output.exists() else {}
    for seed in options.seeds:
        for index in options.indexes:
            name = f"{index} {seed}"
            if name in stored and not options.smoke:
                continue
            levels = needed(trained(index, seed, options))
            report(f"{name}: {levels}")
            measuring.store_part(options.output, name, {"levels": levels})


if __name__ == "__main__":
    main()
