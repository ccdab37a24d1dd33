"""The examples run as a user would run them."""

import inspect
import json
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import nbclient
import nbformat

import keras_sam

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


def test_train_smoke_is_resumed_and_exports(tmp_path):
    # The layer is looked up by its public name; an epoch of 5 steps before, as an
    # interruption would have left it, and then the same command again.
    options = ("--task", "traversal", "--cell", "ntm", "--output", tmp_path)
    interrupted = run_example("train.py", *options, "--stop-after", "1")
    assert "the same command goes on" in interrupted
    assert not (tmp_path / "results.json").exists()
    output = run_example("train.py", *options)
    assert "Epoch 2/2" in output and "Epoch 1/2" not in output
    assert "lesson: 1" in output
    assert "SavedModel in a new process: the same bits" in output
    results = json.loads((tmp_path / "results.json").read_text())
    assert [point["sequences"] for point in results["curve"]] == [10, 20]
    assert 0 <= results["test"]["sequence_accuracy"] <= 1
    assert (tmp_path / "curve.png").stat().st_size > 5_000
    assert "seed 0" in (tmp_path / "README.md").read_text()
    assert not (tmp_path / "backup").exists()


def test_recipes_are_of_existing_tasks():
    names = {recipe.stem for recipe in (EXAMPLES / "recipes").glob("*.toml")}
    streams = {name.removesuffix("_task") for name in dir(keras_sam.tasks)}
    for name in names:
        recipe = tomllib.loads((EXAMPLES / "recipes" / f"{name}.toml").read_text())
        make = getattr(keras_sam.tasks, f"{recipe['task']}_task")
        make(2, **recipe["stream"])
        for size in recipe.get("test", {}):
            assert f"max_{size}" in inspect.signature(make).parameters
        if "curriculum" in recipe:
            settings = dict(recipe["curriculum"])
            kind = getattr(keras_sam.callbacks, settings.pop("class"))
            argument = settings.pop("argument")
            assert argument in inspect.signature(make).parameters
            kind(**settings)
    # Every task has one.
    tasks = {name for name in streams if f"{name}_task" in keras_sam.tasks.__all__}
    assert tasks <= names


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
