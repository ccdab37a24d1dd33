"""Scripts run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]


def run_script(path, *arguments, status=0):
    """What the script prints, given by its path in the project; it has to succeed.

    With another `status` it has to end with that one, and what it prints is the error.
    """
    # A script trains: code that conftest.py has compiled in a hurry takes longer.
    environment = {key: os.environ[key] for key in os.environ.keys() - {"XLA_FLAGS"}}
    run = subprocess.run(
        [sys.executable, ROOT / path, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == status, run.stderr[-2000:]
    return run.stderr if status else run.stdout
