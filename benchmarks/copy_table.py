"""The README's table of the copy task, from the results of the training runs.

    python benchmarks/copy_table.py

Reads results.json of each model in saved_models/copy_* (written there by
examples/copy_task.py) and prints a row for each. "Learned after" is the number of
training sequences from which on the validation error stays under 0.01 bits.
"""

import json
from pathlib import Path

MODELS = Path(__file__).resolve().parents[1] / "saved_models"
LIMIT = 0.01
COLUMNS = (
    "model",
    "parameters",
    "learned after",
    "minutes",
    "1 to 20",
    "40",
    "80",
    "120",
)


def learned_after(curve):
    sequences = None
    for point in reversed(curve):
        if point["validation_bit_errors"] >= LIMIT:
            break
        sequences = point["sequences"]
    return "never" if sequences is None else f"{sequences:,} sequences"


def main():
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    for path in sorted(MODELS.glob("copy_*/results.json")):
        run = json.loads(path.read_text())
        errors = run["bit_errors_by_length"]
        row = [
            path.parent.name,
            f"{run['parameters']:,}",
            learned_after(run["curve"]),
            f"{run['training_seconds'] / 60:.0f}",
            f"{run['test_bit_errors']:.4f}",
            *(f"{errors[length]:.2f}" for length in ("40", "80", "120")),
        ]
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
