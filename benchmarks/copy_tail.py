"""Which long sequences does a model that has learned to copy get wrong, and why?

    python benchmarks/copy_tail.py
    python benchmarks/copy_tail.py --model FOLDER

Most sequences that are twice as long as in training are copied without an error, and
the wrong bits are those of a few sequences. For each of these the result has the number
of wrong bits and, for each read head, at which step the word was written that the head
reads most of at the first step of the answer. `usual_start` is where the heads begin in
sequences that are copied without an error.

The figures are stored in benchmarks/results/copy_tail.json.
"""

import collections
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from measuring import Options, provenance, report, save

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from train import trained  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "copy_tail.json"
BATCH = 100


def wrong_bits(model, inputs, targets, weights):
    """How many bits of each sequence are wrong."""
    wrong = (model.predict_on_batch(inputs) > 0.5) != (targets > 0.5)
    return (wrong * (weights > 0)[..., np.newaxis]).sum(axis=(1, 2))


def starts(memory, inputs, first):
    """For each sequence, when the word was written with which each head begins.

    Args:
        memory: The layer.
        inputs: Array `[batch, time, channels]`.
        first: Integer, the first step of the answer.

    Returns:
        A list of lists of steps, one for each head; None where the word is none of the
        sequence's.
    """
    trace = memory.trace(inputs)
    read, written = (
        tf.sparse.to_dense(tf.sparse.reorder(trace[name])).numpy()
        for name in ("read_weights", "write_weights")
    )
    slots = written.sum(axis=2).argmax(axis=-1)[:, :first]
    begun = read[:, first].argmax(axis=-1)
    return [
        [steps.index(slot) if slot in steps else None for slot in heads]
        for steps, heads in zip(slots.tolist(), begun.tolist(), strict=True)
    ]


def main():
    parser = Options(__doc__, RESULTS)
    parser.add("--model", "saved_models/copy_sdnc", "folder of the model", str)
    parser.add("--sequences", 2000, "how many", int)
    parser.add("--length", 40, "vectors of a sequence", int)
    arguments = parser.parse()
    if arguments.smoke:
        arguments.sequences, arguments.length = BATCH, 3
    problem, model = trained(ROOT / arguments.model)
    memory, length = model.get_layer("memory"), arguments.length
    limits = {"min_length": length, "max_length": length}
    stream = problem.stream(1, batch_size=BATCH, **limits).as_numpy_iterator()
    failures, usual = [], collections.Counter()
    batches = -(-arguments.sequences // BATCH)
    for _ in range(batches):
        inputs, targets, weights = next(stream)
        wrong, first = wrong_bits(model, inputs, targets, weights), length + 1
        if not usual:
            right = inputs[wrong == 0][:32]
            usual.update(map(tuple, starts(memory, right, first)))
        for bits, row in zip(wrong[wrong > 0], inputs[wrong > 0], strict=True):
            begun = starts(memory, row[np.newaxis], first)[0]
            failures.append({"wrong_bits": int(bits), "start": begun})
    bits = sum(failure["wrong_bits"] for failure in failures)
    results = {
        **provenance(),
        "model": Path(arguments.model).name,
        "sequences": batches * BATCH,
        "length": length,
        "bit_errors": bits / (batches * BATCH),
        "usual_start": list(usual.most_common(1)[0][0]) if usual else None,
        "failures": failures,
    }
    save(arguments.output, results)
    report(results)


if __name__ == "__main__":
    main()
