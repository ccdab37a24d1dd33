"""What the benchmarks share: options, statistics, a process's peak of memory, results.

Needs NumPy alone, so that it works in another package's environment as well.
"""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MIB, GIB = 2**20, 2**30


def listed(text):
    return text.split(",")


def numbers(text):
    return [int(number) for number in text.split(",")]


class Options(argparse.ArgumentParser):
    """A benchmark's options, among them `--output` and `--smoke`.

    Args:
        description: The script's docstring.
        results: Path of its results. What is tried with `--smoke` goes elsewhere.
    """

    def __init__(self, description, results):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._results = results
        self.add("--output", None, "the results; the picture goes beside them", Path)
        text = "tiny sizes, some minutes"
        self.add_argument("--smoke", action="store_true", help=text)

    def add(self, name, default, text, kind=listed):
        text += "" if default is None else " (%(default)s)"
        self.add_argument(name, default=default, type=kind, help=text)

    def parse(self):
        options = self.parse_args()
        if options.output is None:
            smoke = Path(tempfile.gettempdir()) / f"{self._results.stem}_smoke.json"
            options.output = smoke if options.smoke else self._results
        return options


def digits(value):
    """Four of them."""
    return float(f"{value:.4g}")


def summary(values):
    """Median and spread, and what holds the median of many such values with 95 %."""
    median, quartiles = np.median(values), np.quantile(values, [0.25, 0.75])
    result = {
        "median": digits(median),
        "quartiles": [digits(value) for value in quartiles],
        "range": [digits(np.min(values)), digits(np.max(values))],
    }
    interval = median_interval(values)
    if interval is not None:
        result["interval_95"] = [digits(value) for value in interval]
    return result


def median_interval(values):
    """Two of the values themselves; None if there are too few for 95 %.

    Each value is above the median as a fair coin falls, whatever the distribution: in
    at most 2.5 % of all draws there are fewer than `left_out` values on one side of it.
    """
    ordered, count = sorted(values), len(values)
    left_out, tail = 0, 1 / 2**count
    while tail <= 0.025:
        left_out += 1
        tail += math.comb(count, left_out) / 2**count
    return (ordered[left_out - 1], ordered[-left_out]) if left_out else None


def marginal_ms(times, lengths):
    """Milliseconds per step, from the seconds of two lengths."""
    (short, long), (fewer, more) = times, lengths
    return 1e3 * (long - short) / (more - fewer)


def memory_slope(peak_of, lengths, repeats):
    """Bytes per step, from peaks at two lengths; None if no process lived.

    `peak_of` gives the peak of a process of its own for a length, None if it died.
    """
    pairs = [[peak_of(length) for length in lengths] for _ in range(repeats)]
    pairs = [pair for pair in pairs if None not in pair]
    if not pairs:
        return None
    steps = lengths[1] - lengths[0]
    return {
        "bytes_per_step": summary([(long - short) / steps for short, long in pairs]),
        "peaks_mib": [[round(peak / MIB, 1) for peak in pair] for pair in pairs],
    }


def peak_bytes():
    """The process's peak of resident memory."""
    status = Path("/proc/self/status")
    if not status.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if platform.system() == "Darwin" else peak * 1024
    # Not ru_maxrss, in which Linux counts the parent process too.
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def resident_mib(process="self"):
    """What a process, by its number, has in memory now."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def in_process(script, measurement, python=sys.executable, **arguments):
    """The result of a measurement in a process of its own; None if that died."""
    task = json.dumps([measurement, arguments])
    process = subprocess.run(
        [python, script, "--task", task], stdout=subprocess.PIPE, check=False
    )
    if process.returncode:
        report(f"{measurement} ended with {process.returncode}: {task}")
        return None
    return json.loads(process.stdout.splitlines()[-1])


def report(line):
    print(line, file=sys.stderr, flush=True)


def provenance():
    """The command, and what it ran on."""
    # What an absolute path says holds for this machine only.
    arguments = [Path(each).name if os.path.isabs(each) else each for each in sys.argv]
    arguments[0] = f"benchmarks/{Path(sys.argv[0]).name}"
    return {
        "command": shlex.join(["python", *arguments]),
        "commit": commit(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tensorflow": importlib.metadata.version("tensorflow"),
        "keras": importlib.metadata.version("keras"),
    }


def commit():
    """The commit of the code, or None outside of a checkout."""
    run = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip() or None


def load(path):
    return json.loads(path.read_text()) if path.exists() else {}


def store_part(path, part, result):
    """Replaces one part of the results."""
    save(path, {**load(path), part: {**provenance(), **result}})


def store_row(path, part, name, row):
    """Replaces one row of one part of the results."""
    results = load(path)
    results.setdefault(part, {})[name] = {**row, **provenance()}
    save(path, results)


def save(path, results):
    path.write_text(json.dumps(results, indent=1) + "\n")


def markdown(columns, rows):
    """A table, or nothing if it has no rows."""
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)
