"""Which Dynamic NTM learns which tasks of bAbI? As Gulcehre et al., 2016, ask.

    python benchmarks/babi_dntm.py --data FOLDER   # all that is not stored yet
    python benchmarks/babi_dntm.py --data FOLDER --tasks 1,15 --reads 1

A D-NTM with a GRU reads a memory `--reads` times a step, with `--addressing`. Each
kind learns each of `--tasks` alone, by examples/train.py, in a process of its own, with
the settings of examples/recipes/babi_dntm.toml, and answers the official test file.
`--data` as of examples/train.py.

Expected, from the paper's means over 20 tasks: three discrete reads get the fewest
answers wrong, then three soft ones, one discrete one and one soft one.

Each run is stored when it ends, in benchmarks/results/babi_dntm.json.
"""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import Options, digits, load, numbers, report, store_row

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "babi_dntm.json"
TRAIN = ROOT / "examples" / "train.py"
RECIPE = ROOT / "examples" / "recipes" / "babi_dntm.toml"


def run(task, reads, addressing, seed, data, smoke):
    """Trains a model of one task; returns its settings and what it gets wrong."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--recipe", RECIPE, "--cell", "dntm", "--seed", str(seed)]
        options += ["--stream", f"tasks=[{task}]", "--output", folder]
        options += ["--layer", f"reads_per_step={reads}"]
        options += ["--layer", f'addressing="{addressing}"']
        options += [] if data is None else ["--data", data]
        options += ["--smoke"] if smoke else []
        command = [sys.executable, TRAIN, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        results = load(Path(folder) / "results.json")
    return {
        "task": task,
        "reads_per_step": reads,
        "addressing": addressing,
        "seed": seed,
        "parameters": results["parameters"],
        "stories": results["training_sequences"],
        "seconds": results["training_seconds"],
        "error": digits(results["test"]["error"]),
    }


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--tasks", [1, 2, 3, 15, 16, 17], "of bAbI", numbers)
    parser.add("--reads", [1, 3], "a step", numbers)
    parser.add("--addressing", ["soft", "discrete"], "of the memory")
    parser.add("--seeds", [0], "random seeds", numbers)
    parser.add("--data", None, "folder of the files of bAbI", Path)
    options = parser.parse()
    kinds = (options.seeds, options.tasks, options.reads, options.addressing)
    for seed, task, reads, addressing in itertools.product(*kinds):
        name = f"task {task}, {addressing}, reads {reads}, seed {seed}"
        if name in load(options.output).get("runs", {}):
            report(f"{name}: stored")
            continue
        result = run(task, reads, addressing, seed, options.data, options.smoke)
        store_row(options.output, "runs", name, result)
        report(f"{name}: {result}")


if __name__ == "__main__":
    main()
