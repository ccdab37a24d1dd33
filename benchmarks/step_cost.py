"""What does a step of SAM or SDNC cost, in time and memory, as the memory grows?

    python benchmarks/step_cost.py --long
    python benchmarks/step_cost.py --only sdnc,dnc --words 64,256,2048,1048576

One time step, forward and backward (gradients of the weights and the inputs), of SAM
and SDNC against the number of words N, beside the NTM, the DNC and a bare
`keras.layers.LSTM`, all compiled by XLA (but for `dnc_graph`: the cell in Keras's own
`keras.layers.RNN`, in TensorFlow's graph): 100 units, words of 32, 4 read heads, 1
write head, K = 4, 8 links a slot.

Time is marginal: the difference between two sequence lengths over the difference in
steps, so that set-up and the memory's allocation cancel. All configurations of a batch
size take turns in one process, round after round; ratios are taken within a round.
Memory is the slope of the peak between two lengths, each in a process of its own; for
SAM also the bytes that a step records for the backward pass. SAM starts from a fresh
memory or from one full of random rows; the exact index compares every word written,
so that a full memory costs it O(N) (`--index exact,lsh` sets another beside it), and
sequences from a fresh one are short enough for it to compare 1,024 words at most.
`--long` adds very long sequences, in which its cost grows; `--parts rows` measures SAM
with some and with more rows in its largest memory. `--huge-pages` measures what the
processor's address translation costs where memory is large and read at random.

Expected: SAM's time and memory per step hardly depend on N, time within a small factor
of the LSTM's; the NTM's grow with N, the DNC's with N^2 (its links), until no memory
holds what they keep for the backward pass.

Writes benchmarks/results/step_cost.json and .png; a run of some of the parts replaces
those only. `--smoke` tries everything at tiny sizes.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib
import measuring
import numpy as np
import tensorflow as tf
from measuring import (
    GIB,
    Options,
    digits,
    marginal_ms,
    memory_slope,
    numbers,
    peak_bytes,
    report,
    summary,
)

import keras_sam
from keras_sam.recurrence import operation_for

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

UNITS, FEATURES, WORD_SIZE = 100, 16, 32
SAM_KINDS = ("sam", "sam_full", "sdnc")
DNC_KINDS = ("dnc", "dnc_graph")
DENSE_KINDS = ("ntm", "dam", *DNC_KINDS)
NO_MEMORY = ("lstm", "gru", "attention")
KINDS = (*SAM_KINDS, *NO_MEMORY, *DENSE_KINDS)
RESULTS = Path(__file__).parent / "results" / "step_cost.json"
# A second call follows a long sequence's first, which compiles, unless that took so
# many seconds.
ENOUGH = 300


class Case(NamedTuple):
    """What is measured: a layer, its memory and two sequence lengths."""

    kind: str
    words: int | None
    batch: int
    lengths: tuple[int, int]
    index: str | None
    rows: int = 0  # random ones that a memory starts with, unless it is full

    @property
    def name(self):
        index = "" if self.index is None else f", {self.index} index"
        words = "" if self.words is None else f", {self.words:,} words"
        rows = f", {self.rows:,} rows in it" if self.rows else ""
        return f"{self.kind}{index}{words}{rows}, batch {self.batch}"


# Which cases.


def slot_counts(kind, options):
    """The N to measure; the DNC's, whose cost is O(N^2), are closer together."""
    if kind in NO_MEMORY:
        return [None]
    if kind not in DNC_KINDS:
        return options.words
    smallest, largest = min(options.words), max(options.words)
    return [smallest * 2**i for i in range((largest // smallest).bit_length())]


def cases_of(kinds, batch, lengths, options):
    return [
        Case(kind, words, batch, lengths(kind, words, batch, index, options), index)
        for kind in kinds
        for index in (options.index if kind in SAM_KINDS else [None])
        for words in slot_counts(kind, options)
    ]


def time_lengths(kind, words, batch, index, options):
    """Two lengths whose difference takes about half a second or more."""
    if kind not in DENSE_KINDS and (kind, index) != ("sam_full", "exact"):
        return options.lengths
    if kind in DNC_KINDS:
        work = 2**25 // words
    else:
        work = 2**24 if kind == "sam_full" else 2**19
    most = options.lengths[1] - options.lengths[0]
    if kind in DENSE_KINDS:
        most = min(most, 64)
    steps = min(max(work // (words * batch), 2), most)
    # XLA unrolls a loop of one step.
    return (max(2, steps // 4), max(2, steps // 4) + steps)


def memory_lengths(kind, words, batch, index, options):
    if kind in DENSE_KINDS:
        return time_lengths(kind, words, batch, index, options)
    return options.memory_steps


def needed_bytes(case):
    """About what a training step needs, from what smaller ones took.

    A dense layer needs as much as three steps besides those that it takes; a SAM takes
    five memories, however long the sequence, and an SDNC as much again for its links.
    """
    if case.kind in NO_MEMORY:
        return 0
    if case.kind in DENSE_KINDS:
        return case.batch * kept_bytes(case.kind, case.words) * (case.lengths[1] + 3)
    memories = 10 if case.kind == "sdnc" else 5
    return memories * 4 * case.words * case.batch * WORD_SIZE


def kept_bytes(kind, words):
    """About what a dense layer keeps of each step: five memories, or four links.

    And its weights, once a step, which is what counts where the memory is small.
    """
    return 6e5 + 4 * words * (4 * words if kind in DNC_KINDS else 5 * WORD_SIZE)


def split_by_need(cases, options):
    """The cases that fit into the memory allowed, and what the others would need."""
    chosen, left_out = [], []
    for case in cases:
        gib = needed_bytes(case) / GIB
        if gib > options.max_gib:
            left_out.append({"case": case.name, "needs_gib": round(gib, 1)})
        else:
            chosen.append(case)
    return chosen, left_out


# What is measured, each in a process of its own.


class CausalAttention(keras.layers.MultiHeadAttention):
    """Looks back at the whole sequence: its history is its memory."""

    def __init__(self):
        super().__init__(num_heads=4, key_dim=WORD_SIZE, output_shape=UNITS)

    def build(self, input_shape):
        super().build(input_shape, input_shape)

    def call(self, inputs, initial_state=None, training=None):
        return super().call(inputs, inputs, use_causal_mask=True, training=training)

    def get_initial_state(self, batch_size):
        return []


def make_layer(kind, words, index):
    if kind == "attention":
        return CausalAttention()
    if kind in ("lstm", "gru"):
        layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[kind]
        return layer(UNITS, return_sequences=True)
    memory = {
        "memory_slots": words,
        "word_size": WORD_SIZE,
        "read_heads": 4,
    }
    if kind == "dnc_graph":
        cell = keras_sam.DNCCell(UNITS, **memory)
        return keras.layers.RNN(cell, return_sequences=True)
    memory["return_sequences"] = True
    if kind in ("ntm", "dam"):
        dense = {"ntm": keras_sam.NTM, "dam": keras_sam.DAM}[kind]
        return dense(UNITS, write_heads=1, **memory)
    if kind == "dnc":
        return keras_sam.DNC(UNITS, **memory)
    sparse = keras_sam.SDNC if kind == "sdnc" else keras_sam.SAM
    return sparse(UNITS, write_heads=1, reads_per_head=4, index=index, **memory)


def initial_state(layer, case):
    rows = case.words if case.kind == "sam_full" else case.rows
    if not rows:
        return layer.get_initial_state(case.batch)
    rows = tf.random.normal((case.batch, rows, WORD_SIZE))
    return layer.get_initial_state(case.batch, memory=rows)


def training_step(layer, case, features=FEATURES):
    """Gradients of the inputs and weights, from the inputs and the initial state."""
    layer.build((case.batch, None, features))
    weights = [variable.value for variable in layer.trainable_variables]

    # A SAM compiles its sequence itself.
    @tf.function(jit_compile=case.kind not in (*SAM_KINDS, "dnc_graph"))
    def step(inputs, state):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, initial_state=state, training=True)
            loss = tf.reduce_sum(tf.square(outputs))
        return tape.gradient(loss, [inputs, *weights])

    return step


def seconds(function, *arguments):
    start = time.perf_counter()
    tf.nest.flatten(function(*arguments))[0].numpy()
    return time.perf_counter() - start


class Timed:
    """A case's training step and initial state, and the times that it took."""

    def __init__(self, case):
        layer = make_layer(case.kind, case.words, case.index)
        self.case = case
        self.step = training_step(layer, case)
        self.state = initial_state(layer, case)
        self.first_calls = None
        self.rounds = []

    def call(self):
        """Seconds for the short and the long sequence; the long one goes first."""
        shapes = [(self.case.batch, n, FEATURES) for n in self.case.lengths]
        long, short = (
            seconds(self.step, tf.random.normal(shape), self.state)
            for shape in reversed(shapes)
        )
        return short, long

    def take_round(self):
        self.rounds.append(marginal_ms(self.call(), self.case.lengths))


def measure_times(cases, rounds):
    """All cases in turn, round after round: milliseconds per step."""
    timed = [Timed(case) for case in cases]
    # The largest first: TensorFlow keeps the memory that it frees, but cannot join
    # what it took piece by piece.
    for each in sorted(timed, key=lambda each: -needed_bytes(each.case)):
        each.first_calls = each.call()
        report(f"{each.case.name}: first calls {np.round(each.first_calls, 1)} s")
    for number in range(rounds):
        start = time.perf_counter()
        for each in timed:
            each.take_round()
        report(f"round {number + 1}: {time.perf_counter() - start:.0f} s")
    return {
        "peak_gib": round(peak_bytes() / GIB, 2),
        "cases": [
            {
                **each.case._asdict(),
                "first_calls_seconds": [round(first, 2) for first in each.first_calls],
                "ms_per_step": summary(each.rounds),
                "rounds": [digits(value) for value in each.rounds],
            }
            for each in timed
        ],
    }


def measure_peak(case, length):
    """Peak memory of a process that takes one training step."""
    layer = make_layer(case.kind, case.words, case.index)
    step, state = training_step(layer, case), initial_state(layer, case)
    seconds(step, tf.random.normal((case.batch, length, FEATURES)), state)
    return peak_bytes()


def measure_record(case):
    """Bytes that a step of SAM keeps for the backward pass."""
    layer = make_layer(case.kind, case.words, case.index)
    layer.build((case.batch, None, FEATURES))
    states = [
        tf.TensorSpec((case.batch, size), layer.compute_dtype)
        for size in layer.cell.state_size
    ]
    length = 64
    inputs = tf.TensorSpec((case.batch, length, FEATURES), layer.compute_dtype)
    operation = operation_for(layer, layer.cell.index.supports_jit)
    weights = [tf.TensorSpec(w.shape, w.dtype) for w in layer.cell.weights]
    steps = tf.TensorSpec((), tf.int32)
    program = operation.forward_program.get_concrete_function(
        [inputs, *states], weights, [], None, steps, False, True
    )
    *_, kept = program.structured_outputs
    return sum(each.dtype.size * each.shape.num_elements() for each in kept) / length


def measure_long(case, training):
    """A very long sequence from a fresh memory."""
    layer = make_layer(case.kind, case.words, case.index)
    function = training_step(layer, case, features=8)
    if not training:
        function = tf.function(lambda x, s: layer(x, initial_state=s, training=False))
    state = initial_state(layer, case)
    inputs = tf.random.normal((case.batch, case.lengths[0], 8))
    times = [seconds(function, inputs, state)]
    if times[0] < ENOUGH:
        times.append(seconds(function, inputs, state))
    return {
        "first_call_seconds": round(times[0], 1),
        "seconds": round(times[1], 1) if len(times) > 1 else None,
        "peak_gib": round(peak_bytes() / GIB, 2),
    }


MEASUREMENTS = {
    function.__name__: function
    for function in (measure_times, measure_peak, measure_record, measure_long)
}


def in_process(measurement, **arguments):
    return measuring.in_process(__file__, measurement.__name__, **arguments)


def run_task(task):
    name, arguments = json.loads(task)
    if "case" in arguments:
        arguments["case"] = Case(*arguments["case"])
    if "cases" in arguments:
        arguments["cases"] = [Case(*case) for case in arguments["cases"]]
    tf.get_logger().setLevel("ERROR")
    print(json.dumps(MEASUREMENTS[name](**arguments)))


# The parts of the benchmark, each of which yields what it has so far.


def time_part(options):
    results = {}
    for batch in options.batches:
        cases = cases_of(options.only, batch, time_lengths, options)
        cases, left_out = split_by_need(cases, options)
        result = in_process(measure_times, cases=cases, rounds=options.rounds)
        if result is not None:
            result["ratios"] = ratios(result["cases"])
            for ratio in result["ratios"]:
                report(f"{ratio['of']} : {ratio['to']} = {ratio['median']}")
        results[f"batch_{batch}"] = {**(result or {}), "left_out": left_out}
        yield results


def ratios(results):
    """Of SAM to its smallest memory and to the LSTM, of the dense layers to SAM."""

    def find(**wanted):
        return [each for each in results if wanted.items() <= each.items()]

    pairs = []
    for each in results:
        others = []
        if each["kind"] in SAM_KINDS:
            smallest = find(kind=each["kind"], index=each["index"])[0]
            others = [smallest, *find(kind="lstm")]
        elif each["kind"] in DENSE_KINDS:
            others = [
                other
                for kind in SAM_KINDS
                for other in find(kind=kind, words=each["words"])
            ]
        pairs += [(each, other) for other in others if other is not each]
    return [
        {
            "of": short_name(over),
            "to": short_name(under),
            **summary(np.divide(over["rounds"], under["rounds"])),
        }
        for over, under in pairs
    ]


def short_name(result):
    parts = (result["kind"], result["index"], result["words"])
    return " ".join(str(part) for part in parts if part is not None)


def memory_part(options):
    kinds = [kind for kind in options.only if kind != "sam_full"]
    cases = cases_of(kinds, 1, memory_lengths, options)
    cases, left_out = split_by_need(cases, options)
    results = []
    so_far = {"cases": results, "left_out": left_out}
    for case in cases:
        slope = peak_slope(case, options.repeats)
        if slope is None:
            left_out.append({"case": case.name, "needs_gib": "more than there is"})
            yield so_far
            continue
        result = {**case._asdict(), **slope}
        if case.kind in ("sam", "sdnc"):
            result["record_bytes_per_step"] = in_process(measure_record, case=case)
        results.append(result)
        report(f"{case.name}: {result['bytes_per_step']['median']:,} bytes per step")
        yield so_far


def peak_slope(case, repeats):
    """Bytes per step, each peak in a process of its own."""

    def peak_of(length):
        return in_process(measure_peak, case=case, length=length)

    return memory_slope(peak_of, case.lengths, repeats)


def rows_part(options):
    """Does a step's time grow with the rows that are in the index?"""
    cases = [
        Case("sam", max(options.words), 1, options.lengths, index, rows)
        for index in options.index
        for rows in options.rows
    ]
    result = in_process(measure_times, cases=cases, rounds=options.rounds)
    cases = result["cases"]
    result["ratios"] = [
        {
            "of": f"{over['index']}, {over['rows']:,} rows",
            "to": f"{under['index']}, {under['rows']:,} rows",
            **summary(np.divide(over["rounds"], under["rounds"])),
        }
        for over in cases
        for under in cases
        # More rows to fewer, and an index to the one before it.
        if (over["index"] == under["index"] and over["rows"] > under["rows"])
        or (over["rows"] == under["rows"] and cases.index(over) > cases.index(under))
    ]
    for ratio in result["ratios"]:
        report(f"{ratio['of']} : {ratio['to']} = {ratio['median']}")
    yield result


def long_part(options):
    words = max(options.words)
    results = []
    for index in options.index:
        for training, length in enumerate(options.long_steps):
            case = Case("sam", words, 1, (length, length), index)
            result = {
                "index": index,
                "words": words,
                "batch": 1,
                "steps": length,
                "what": "training step" if training else "forward",
                **(in_process(measure_long, case=case, training=training) or {}),
            }
            results.append(result)
            report(result)
            yield {"cases": results}


# The picture.


MARKERS = {
    "sam": "o",
    "sam_full": "s",
    "sdnc": "D",
    "ntm": "^",
    "dam": "<",
    "dnc": "v",
    "dnc_graph": ">",
    "lstm": None,
    "gru": None,
    "attention": None,
}
LINES = {
    "sam": "-",
    "sam_full": "--",
    "sdnc": "-.",
    "ntm": "-",
    "dam": "-",
    "dnc": "-",
    "dnc_graph": "--",
    "lstm": ":",
    "gru": ":",
    "attention": ":",
}
COLORS = {
    "ntm": "tab:orange",
    "dam": "tab:red",
    "dnc": "tab:green",
    "dnc_graph": "tab:green",
    "lstm": "tab:gray",
    "gru": "tab:olive",
    "attention": "tab:brown",
}
SAM_COLORS = ("tab:blue", "tab:purple", "tab:cyan")


def draw(path, batch):
    """Time and memory per step against N, from the stored results."""
    results = json.loads(path.read_text())
    plt.rcParams.update({"font.size": 11, "axes.grid": True, "grid.alpha": 0.3})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
    times = results.get("time", {}).get(f"batch_{batch}", {}).get("cases", [])
    plot(left, times, "ms_per_step", 1.0)
    plot(right, results.get("memory", {}).get("cases", []), "bytes_per_step", 2**10)
    left.set_ylabel("time per step, forward + backward (ms)")
    right.set_ylabel("peak memory per step (KiB)")
    for axes in (left, right):
        axes.set_xlabel("words in the memory, N")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    handles = {
        label: handle
        for axes in (left, right)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
    figure.savefig(path.with_suffix(".png"), dpi=100)


def plot(axes, results, quantity, unit):
    lines = {}
    for each in results:
        lines.setdefault((each["kind"], each["index"]), []).append(each)
    indexes = list(dict.fromkeys(index for _, index in lines if index is not None))
    for (kind, index), found in lines.items():
        style = {
            "color": COLORS.get(kind) or SAM_COLORS[indexes.index(index)],
            "linestyle": LINES[kind],
            "label": label(kind, index),
        }
        medians = [each[quantity]["median"] / unit for each in found]
        if kind in NO_MEMORY:
            axes.axhline(medians[0], **style)
            continue
        words = [each["words"] for each in found]
        low, high = np.transpose([each[quantity]["quartiles"] for each in found]) / unit
        axes.plot(words, medians, marker=MARKERS[kind], markersize=5, **style)
        axes.fill_between(
            words, low, high, color=style["color"], alpha=0.2, linewidth=0
        )


def label(kind, index):
    if kind in NO_MEMORY:
        return f"{kind if kind == 'attention' else kind.upper()}, no memory"
    if kind == "dnc_graph":
        return "DNC, keras.layers.RNN, not compiled"
    if kind in DENSE_KINDS:
        return kind.upper()
    name = "SDNC" if kind == "sdnc" else "SAM"
    return f"{name}, {'full' if kind == 'sam_full' else 'fresh'} memory, {index}"


def parse_options():
    parser = Options(__doc__, RESULTS)
    add = parser.add
    add("--parts", "time,memory,picture", "of time, memory, rows, long and picture")
    add("--only", "sam,sam_full,sdnc,lstm,ntm,dnc", f"of {', '.join(KINDS)}")
    add("--index", "exact", "SAM's indexes, by name")
    add("--words", ",".join(str(4**i) for i in range(5, 11)), "sizes N", numbers)
    add("--rows", "4096,131072", "in SAM's largest memory, for `rows`", numbers)
    add("--batches", "1,8", "batch sizes; the picture shows the first", numbers)
    add("--long-steps", "100000,20000", "forward and training, for `long`", numbers)
    add("--memory-steps", "1000,5000", "lengths between which memory grows", numbers)
    add("--rounds", 11, "rounds of timing", int)
    add("--repeats", 3, "processes for each peak of memory", int)
    add("--max-gib", 8.0, "memory that an NTM or a DNC may take", float)
    parser.add_argument("--long", action="store_true", help="very long sequences too")
    parser.add_argument(
        "--huge-pages", action="store_true", help="glibc asks Linux for pages of 2 MiB"
    )
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.set_defaults(lengths=(128, 896))
    options = parser.parse()
    if unknown := set(options.only) - set(KINDS):
        parser.error(f"argument --only: unknown {', '.join(unknown)}")
    if options.smoke:
        options.words, options.batches = [64, 256], [1]
        options.rounds, options.repeats = 2, 1
        options.lengths, options.memory_steps = (4, 12), (8, 24)
        options.long_steps = [64, 32]
        options.long, options.max_gib = True, 0.001
        options.parts.append("rows")
        options.rows = [16, 64]
    if options.long and "long" not in options.parts:
        options.parts.append("long")
    return options


def main():
    options = parse_options()
    if options.task:
        return run_task(options.task)
    if options.huge_pages:
        # The processes that measure are started with it.
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    for name, part in (
        ("time", time_part),
        ("memory", memory_part),
        ("rows", rows_part),
        ("long", long_part),
    ):
        if name in options.parts:
            for result in part(options):
                measuring.store_part(options.output, name, result)
    if "picture" in options.parts:
        draw(options.output, options.batches[0])


if __name__ == "__main__":
    main()
