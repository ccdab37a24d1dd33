"""The example runs as a user would run it."""

import json
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_copy_task_smoke(tmp_path):
    run = subprocess.run(
        [
            sys.executable,
            EXAMPLES / "copy_task.py",
            "--smoke",
            "--data-dir",
            tmp_path / "data",
            "--output",
            tmp_path / "model",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "SavedModel in a new process: the same bits" in run.stdout
    results = json.loads((tmp_path / "model" / "results.json").read_text())
    # 1,600 sequences do not teach copying, but more than guessing half of the
    # 44 bits of an average sequence right.
    assert results["test_bit_errors"] < 20
    assert (tmp_path / "model" / "memory.png").stat().st_size > 10_000
    assert (tmp_path / "model" / "1" / "saved_model.pb").exists()
