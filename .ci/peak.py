"""Runs a command and prints the most memory that its processes took together.

Usage: python .ci/peak.py COMMAND [ARGUMENT ...]

Memory is proportional set size: what processes share counts once.
"""

import subprocess
import sys
import threading
from pathlib import Path


def family(root):
    """The process `root` and all that descend from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # It has just ended.
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {root}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def memory(pid):
    """The proportional set size of a process, in KiB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main():
    process = subprocess.Popen(sys.argv[1:])
    ended, peak = threading.Event(), 0
    waiting = threading.Thread(target=lambda: (process.wait(), ended.set()))
    waiting.start()
    while not ended.wait(2.0):
        peak = max(peak, sum(memory(pid) for pid in family(process.pid)))
    print(f"Peak memory of all processes together: {peak / 2**20:.1f} GiB", flush=True)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
