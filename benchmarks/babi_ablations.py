"""What do the trained SDNC's answers about stories need: its words, its links?

    python benchmarks/babi_ablations.py --data FOLDER

The model of saved_models/babi_sdnc answers the test questions of bAbI as it is, while
it writes nothing, and while it reads by content alone. `--data` as of
examples/train.py.

Expected: without its words the model knows what the question alone gives away.

Writes benchmarks/results/babi_ablations.json; `--smoke` asks a few questions of each
task.
"""

import contextlib
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from measuring import Options, digits, load, provenance, report, save

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "examples"))
from train import trained  # noqa: E402
from training import MODELS, interface_held, shut_gates  # noqa: E402

MODEL = MODELS / "babi_sdnc"
RESULTS = ROOT / "benchmarks" / "results" / "babi_ablations.json"
BY_CONTENT = {"read_modes": [-20.0, 20.0, -20.0]}


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--data", None, "folder of the files of bAbI", Path)
    options = parser.parse()
    recipe = load(MODEL / "results.json")["recipe"]
    problem, model = trained(MODEL, options.data)
    cell = model.get_layer("think_steps").layer.cell
    changes = {
        "as trained": contextlib.nullcontext(),
        "nothing written": interface_held(cell, shut_gates(cell)),
        "without links": interface_held(cell, BY_CONTENT),
    }
    rows = []
    for name, change in changes.items():
        with change:
            test = problem.results(model, recipe, options.smoke)["test"]
        errors = {task: digits(error) for task, error in test["errors"].items()}
        rows.append({"change": name, "error": digits(test["error"]), "errors": errors})
        report(rows[-1])
    save(options.output, {**provenance(), "rows": rows})


if __name__ == "__main__":
    main()
