"""The processes that groups of tests run in tell what happened there."""

import os
import re
import subprocess
import sys
from pathlib import Path

CONFTEST = """
import forking
import pytest


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(forking.GroupProcesses(config))


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.name.split("_")[1]))
"""

TESTS = """
import os


def test_first_passes():
    pass


def test_first_fails():
    assert 1 == 2


def test_second_is_in_another_process():
    os.environ["LEFT_BEHIND"] = "1"


def test_third_ends_its_process():
    assert "LEFT_BEHIND" not in os.environ
    os._exit(0)


def test_third_runs_all_the_same():
    pass
"""


def test_failures_and_lost_processes_are_reported(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_groups.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-n1", "--dist=loadgroup", "-rA"]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    run = subprocess.run(
        [*command, "--rootdir", tmp_path, "-c", os.devnull, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    outcomes = re.findall(r"^(PASSED|FAILED) \S*::(\w+)", run.stdout, re.M)
    assert sorted(outcomes) == [
        ("FAILED", "test_first_fails"),
        ("FAILED", "test_third_ends_its_process"),
        ("PASSED", "test_first_passes"),
        ("PASSED", "test_second_is_in_another_process"),
        ("PASSED", "test_third_runs_all_the_same"),
    ], run.stdout
    assert "The process of this test ended" in run.stdout
