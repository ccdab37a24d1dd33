"""Several workers on this machine."""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from keras_sam.arguments import check_positive_integer


def run_local_workers(command: Sequence[Any], workers: int) -> int:
    """Runs a program in several processes of this machine, as workers of one training.

    Each gets a `TF_CONFIG` with addresses of 127.0.0.1, so that
    `keras_sam.distribute.MultiWorkerStrategy` in it finds the others. If one of them
    fails, the others are ended. What the chief prints is shown; of the others it is
    what goes to standard error.

    Args:
        command: List of strings, the program and its arguments.
        workers: Positive integer, how many processes.

    Returns:
        0, or what the first that failed returned: negative the number of the signal
        that ended it.

    Raises:
        ValueError: If `workers` is not a positive integer.

    Example:

    >>> import sys
    >>> program = "import os; print(os.environ['TF_CONFIG'].count('127.0.0.1'))"
    >>> keras_sam.distribute.run_local_workers([sys.executable, "-c", program], 2)
    0
    """
    workers = check_positive_integer("workers", workers)
    addresses = _free_addresses(workers)
    processes = []
    try:
        for index in range(workers):
            task = {"type": "worker", "index": index}
            config = {"cluster": {"worker": addresses}, "task": task}
            processes.append(
                subprocess.Popen(
                    [str(part) for part in command],
                    env={**os.environ, "TF_CONFIG": json.dumps(config)},
                    stdout=subprocess.DEVNULL if index else None,
                )
            )
        return _wait(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _free_addresses(count):
    with contextlib.ExitStack() as open_sockets:
        # All at once, or one would be given twice.
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def _wait(processes):
    """0 once all have ended, or the status of one that failed."""
    while True:
        statuses = [process.poll() for process in processes]
        failed = [status for status in statuses if status]
        if failed:
            return failed[0]
        if None not in statuses:
            return 0
        time.sleep(0.1)
