"""Scripts run as a user runs them."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
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


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def running_server(*options, seconds=300):
    """The address of examples/serve.py with these arguments, once it answers."""
    port = free_port()
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + seconds
    server = subprocess.Popen(
        [sys.executable, "examples/serve.py", *options, "--port", str(port)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            assert server.poll() is None and time.monotonic() < end, "no server"
            try:
                urllib.request.urlopen(f"{url}/v1")
            except urllib.error.HTTPError:
                break  # an answer
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait()
