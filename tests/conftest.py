"""What every test shares: environment, seed and hypothesis profile."""

import fnmatch
import importlib
import os
import tempfile
from pathlib import Path

# Before anything imports TensorFlow. A value set by the caller wins.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")  # Figures open no window.
# Small programs run once or twice: XLA spends half of the time on making machine code
# faster. `XLA_FLAGS= python -m pytest` compiles as users do.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)

import forking
import hypothesis
import keras
import pytest
from running import ROOT

# Before test files import them: their assertions say what was compared.
pytest.register_assert_rewrite("helpers", "twins")

# A data set that older code prepared in the home folder must not be read here. tfds
# takes the variable when it is imported; the folder goes with the object, at exit.
_DATA_DIR = tempfile.TemporaryDirectory(prefix="keras_sam_tests_")
os.environ["TFDS_DATA_DIR"] = _DATA_DIR.name

TESTS = Path(__file__).parent
# What `-m fast` runs: folders, files, and one compiled SAM.
FAST = (
    *("ops/*", "index/test_index_exact.py", "cells/test_reference_*.py", "tasks/*"),
    *("contract/test_public_names.py", "contract/test_arguments.py"),
    *("contract/test_renamed.py", "test_metrics.py"),
    "recurrence/test_recurrence.py::test_sequence_equals_the_cell[given_masked-compiled]",
)

hypothesis.settings.register_profile("keras_sam", deadline=None, derandomize=True)
hypothesis.settings.load_profile("keras_sam")


@pytest.fixture(autouse=True)
def seed():
    """Every test starts from the same seed, alone or after others."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def import_example(monkeypatch):
    """Imports a script of examples/ by its name."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(forking.GroupProcesses(config))


def is_slow_row(item):
    """Whether `slow_rows` names the row, by a pattern of its parameters' names."""
    row = item.callspec.id if hasattr(item, "callspec") else ""
    patterns = [p for mark in item.iter_markers("slow_rows") for p in mark.args]
    return any(fnmatch.fnmatchcase(row, pattern) for pattern in patterns)


def is_fast(item):
    """Whether the test belongs to the tests that are run again and again."""
    path = item.path.relative_to(TESTS)
    name = f"{path.as_posix()}::{item.name}"
    return any(path.match(f) or name == f for f in FAST)


# Before pytest-xdist looks for the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks slow rows and fast tests; keeps on one worker what shares programs.

    That is a file; of the table of conformance a row, or what asks for the fixture that
    exports all rows; of the placements a layer; of the examples a script.
    """
    for item in items:
        if is_slow_row(item):
            item.add_marker("slow")
        if is_fast(item) and not item.get_closest_marker("slow"):
            item.add_marker("fast")
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        part = getattr(parameters.get("case"), "name", "")
        if "served" in item.fixturenames:
            part = "served"
        elif item.path.stem in ("test_examples", "test_benchmarks"):
            part = item.name  # What runs scripts shares nothing.
        elif item.path.stem == "test_placements":
            part = parameters.get("layer", "")
        item.add_marker(pytest.mark.xdist_group(f"{item.path.stem} {part}"))
