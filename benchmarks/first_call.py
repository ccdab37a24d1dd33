"""What the first call of SAM's training costs, with and without XLA's cache on disk.

    python benchmarks/first_call.py

Each row is a process: it takes the gradient of a batch of each length for the first
time. In a round a process without a cache and one with a full cache take turns; the
first process of all fills the cache. The row has the seconds of the first call, those
that the processor works for it, and those of the latter in which Python traces the
programs; and the milliseconds of the next calls.

Expect the cache to halve the processor's seconds. Python traces the programs anyway.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from measuring import Options, digits, in_process, numbers, report, store_part

RESULTS = Path(__file__).parent / "results" / "first_call.json"
CACHE = "--tf_xla_persistent_cache_directory="
BATCH, FEATURES, CALLS = 16, 8, 5


def options():
    parser = Options(__doc__, RESULTS)
    parser.add("--lengths", "20,60,200", "of the sequences", numbers)
    parser.add("--rounds", 2, "of two processes each", int)
    parser.add_argument("--task", help=argparse.SUPPRESS)  # in a process of its own
    chosen = parser.parse()
    if chosen.smoke:
        chosen.lengths, chosen.rounds = [2], 1
    return chosen


def first_calls(lengths, words):
    """For each length the seconds of a first call, traced and in all, and the rest."""
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_sam
    from keras_sam.recurrence import Operation

    seconds = {"tracing": 0.0}

    def timed(method):
        def run(*arguments):
            start = time.process_time()
            try:
                return method(*arguments)
            finally:
                seconds["tracing"] += time.process_time() - start

        return run

    for name in ("_forward", "_backward"):
        setattr(Operation, name, timed(getattr(Operation, name)))

    keras.utils.set_random_seed(0)
    layer = keras_sam.SAM(100, memory_slots=words)
    layer.build((None, None, FEATURES))
    rows = []
    for length in lengths:
        sequences = tf.random.normal((BATCH, length, FEATURES), seed=length)

        def step(sequences=sequences):
            start = time.perf_counter()
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(layer(sequences))
            gradients = tape.gradient(total, layer.trainable_variables)
            norm = float(tf.linalg.global_norm(gradients))
            return norm, time.perf_counter() - start

        seconds["tracing"] = 0.0
        start = time.process_time()
        norm, first = step()
        work = time.process_time() - start
        tracing = seconds["tracing"]
        later = np.median([step()[1] for _ in range(CALLS)])
        rows.append(
            {
                "length": length,
                "first_seconds": digits(first),
                "processor_seconds": digits(work),
                "tracing_seconds": digits(tracing),
                "later_ms": digits(1e3 * later),
                "gradient_norm": digits(norm),
            }
        )
    return rows


def main():
    chosen = options()
    if chosen.task:
        _, arguments = json.loads(chosen.task)
        print(json.dumps(first_calls(**arguments)))
        return
    arguments = {"lengths": chosen.lengths, "words": 16 if chosen.smoke else 1024}
    before = os.environ.pop("TF_XLA_FLAGS", "")
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        order = ["filled", *("none", "full") * chosen.rounds]
        for number, cache in enumerate(order):
            flag = "" if cache == "none" else CACHE + folder
            os.environ["TF_XLA_FLAGS"] = f"{before} {flag}".strip()
            rows = in_process(__file__, "first_calls", **arguments)
            processes += [{"round": (number + 1) // 2, "cache": cache, "rows": rows}]
            report(processes[-1])
            store_part(chosen.output, "first_call", {"processes": processes})


if __name__ == "__main__":
    main()
