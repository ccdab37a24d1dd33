"""The processes that groups of tests run in tell what happened there."""

import os
import re
import subprocess
import sys

from running import SUPPORT

CONFTEST = """
import forking
import pytest


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(forking.GroupProcesses(config))


@pytest.hookimpl(FIRST)
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


def run_groups(folder, first):
    """Runs the tests. pytest-xdist sees groups that are there before it looks."""
    (folder / "conftest.py").write_text(CONFTEST.replace("FIRST", first))
    (folder / "test_groups.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-n1", "--dist=loadgroup", "-rA"]
    paths = [str(SUPPORT), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [*command, "--rootdir", folder, "-c", os.devnull, folder],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_tests_that_are_not_kept_together_do_not_run(tmp_path):
    run = run_groups(tmp_path, first="trylast=True")
    assert "5 failed" in run.stdout
    assert "does not keep the tests of a group together" in run.stdout


def test_failures_and_lost_processes_are_reported(tmp_path):
    run = run_groups(tmp_path, first="tryfirst=True")
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
