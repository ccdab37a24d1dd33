"""Where do the milliseconds of a SAM's step with the ScaNN index go?

    python benchmarks/scann_step.py

A training step of a SAM (100 units, words of 32 numbers, 4 read heads, K = 4, batch 1)
with the ScaNN index, and with the exact index in TensorFlow's graph as well, from a
memory with `--rows` random rows. And the index alone in a loop of TensorFlow's graph:
17 insertions and 4 queries, as such a step makes them.

Time is marginal: the difference between two sequence lengths, or numbers of turns, over
the steps between them. The median of `--rounds`.

Expected: the index takes the smaller part. Most goes to TensorFlow's graph, which runs
the forward and the backward pass operation by operation, and in which ScaNN has to run.

Writes benchmarks/results/scann_step.json. `--smoke` tries it at a tiny size.
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import step_cost
import tensorflow as tf
from measuring import Options, marginal_ms, numbers, report, store_part, summary
from step_cost import FEATURES, WORD_SIZE, Case, initial_state, make_layer, seconds

import keras_sam

RESULTS = Path(__file__).parent / "results" / "scann_step.json"
HEADS, COUNT, WRITES, LENGTHS = 4, 4, 17, (32, 160)


def training_step(index, rows):
    """Seconds of a training step, for a sequence of so many steps."""
    case = Case("sam", 2 * rows, 1, LENGTHS, index, rows)
    layer = make_layer(case.kind, case.words, index)
    layer = keras_sam.SAM.from_config({**layer.get_config(), "jit_compile": False})
    step, state = step_cost.training_step(layer, case), initial_state(layer, case)
    return lambda length: seconds(step, tf.random.normal((1, length, FEATURES)), state)


def index_alone(index, rows):
    """Seconds of so many insertions and searches in a loop of the graph."""
    index, rng = keras_sam.index.get(index), np.random.default_rng(0)
    memory = tf.random.normal((1, rows, WORD_SIZE))
    start = index.reset(memory, rows)
    slots = rng.permuted(np.tile(np.arange(rows), (8, 1)), axis=1)[:, :WRITES]
    slots = tf.constant(slots[:, np.newaxis], tf.int32)
    queries = tf.random.normal((8, 1, HEADS, WORD_SIZE))

    @tf.function
    def loop(turns):
        def turn(number, state, found):
            chosen = slots[number % 8]
            state = index.insert(state, chosen, tf.gather(memory, chosen, batch_dims=1))
            return (
                number + 1,
                state,
                index.search(state, memory, queries[number % 8], COUNT),
            )

        found = tf.zeros((1, HEADS, COUNT), tf.int32)
        return tf.while_loop(lambda n, *_: n < turns, turn, (0, start, found))[1:]

    return lambda turns: seconds(loop, tf.constant(turns))


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--rows", "4096,131072", "random ones that the memory has", numbers)
    parser.add("--rounds", 7, "of each", int)
    options = parser.parse()
    if options.smoke:
        options.rows, options.rounds = [64], 1
    table = []
    for rows in options.rows:
        timed = {
            "step, scann": training_step("scann", rows),
            "step, exact": training_step("exact", rows),
            "index alone, scann": index_alone("scann", rows),
        }
        for call in timed.values():
            for length in LENGTHS:  # Each is traced once.
                call(length)
        for name, call in timed.items():
            rounds = [
                marginal_ms([call(length) for length in LENGTHS], LENGTHS)
                for _ in range(options.rounds)
            ]
            table.append({"rows": rows, "what": name, "ms": summary(rounds)})
            report(table[-1])
    store_part(options.output, "time", {"table": table})


if __name__ == "__main__":
    main()
