"""The examples run as a user would run them."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run_example(name, *arguments):
    run = subprocess.run(
        [sys.executable, EXAMPLES / name, "--smoke", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


def test_copy_task_smoke(tmp_path):
    output = run_example(
        "copy_task.py", "--data-dir", tmp_path / "data", "--output", tmp_path / "model"
    )
    assert "SavedModel in a new process: the same bits" in output
    results = json.loads((tmp_path / "model" / "results.json").read_text())
    # 1,600 sequences do not teach copying, but more than guessing half of the
    # 44 bits of an average sequence right.
    assert results["test_bit_errors"] < 20
    assert (tmp_path / "model" / "memory.png").stat().st_size > 10_000
    assert (tmp_path / "model" / "1" / "saved_model.pb").exists()


def test_long_recall_smoke(tmp_path):
    output = run_example("long_recall.py", "--output", tmp_path)
    assert "new sequences of 16 steps" in output
    results = json.loads((tmp_path / "results.json").read_text())
    # Under the 4 of 8 bits that guessing gets wrong, and no more learned than that.
    assert results["test_wrong_bits_per_value"] < 3.9
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_quickstart_notebook():
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for cell in notebook.cells:
        cell.source = cell.source.replace("PORT = 8599", f"PORT = {port}")
    # Its own checks are in it.
    place = {"metadata": {"path": EXAMPLES}}
    nbclient.NotebookClient(notebook, timeout=300, resources=place).execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2
