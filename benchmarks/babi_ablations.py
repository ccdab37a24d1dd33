"""What do trained answers about stories need: the words of the memory, its links?

    python benchmarks/babi_ablations.py --data FOLDER

The models of saved_models/babi_sam and babi_sdnc answer the test questions of bAbI as
they are, and while they write nothing. The SDNC also reads by content alone. `--data`
as of examples/train.py.

Expected: without its words the model knows what the question alone gives away.

Writes benchmarks/results/babi_ablations.json, where the rows of other models stay;
`--smoke` asks a few questions of each task.
"""

import contextlib
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from measuring import Options, digits, listed, load, report, store_part

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "examples"))
from train import trained  # noqa: E402
from training import MODELS, interface_held, shut_gates  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "babi_ablations.json"
BY_CONTENT = {"read_modes": [-20.0, 20.0, -20.0]}


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--models", "babi_sam,babi_sdnc", "of saved_models", listed)
    parser.add("--data", None, "folder of the files of bAbI", Path)
    options = parser.parse()
    for name in options.models:
        rows = []
        recipe = load(MODELS / name / "results.json")["recipe"]
        problem, model = trained(MODELS / name, options.data)
        cell = model.get_layer("think_steps").layer.cell
        changes = {
            "as trained": contextlib.nullcontext(),
            "nothing written": interface_held(cell, shut_gates(cell)),
        }
        if "read_modes" in cell.interface_columns:
            changes["without links"] = interface_held(cell, BY_CONTENT)
        for change, changed in changes.items():
            with changed:
                test = problem.results(model, recipe, options.smoke)["test"]
            errors = {task: digits(error) for task, error in test["errors"].items()}
            row = {"change": change, "error": digits(test["error"])}
            rows.append({**row, "errors": errors})
            report(rows[-1])
        store_part(options.output, name, {"rows": rows})


if __name__ == "__main__":
    main()
