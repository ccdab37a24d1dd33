"""What does the same work cost in what people would use today?

    python -m venv peers && peers/bin/pip install torch dnc==1.1.0
    python benchmarks/peers.py --parts keras
    python benchmarks/peers.py --parts torch --peer-python peers/bin/python \\
        --ntm-checkout pytorch-ntm

One step, forward and backward, batch 1, and the memory that it takes, of

- `keras.layers.LSTM` and `GRU`, under XLA, without a memory;
- `keras.layers.MultiHeadAttention` over the whole history (causal, 4 heads, under XLA),
  in which a step costs more the longer the sequence, T, is;
- our SAM (LSH, full memory) and our NTM, under XLA;
- DNC, SDNC and SAM of the PyTorch package `dnc`, in an environment of its own, and the
  NTM of https://github.com/loudinthecloud/pytorch-ntm, of which we found no
  installable package and which needs a clone.

100 units, words of 32, 4 read heads, 1 write head, K = 4. Marginal, as in step_cost.py:
the difference between two lengths over the steps between them; the longer is T. Keras
layers take turns in one process; each PyTorch model has a process of its own, in which
one thread and all threads take turns and the faster counts. The interpreter of
`--peer-python` must have the package. What does not run is stored with the error that
it gave.

Expected: LSTM, GRU and SAM hardly depend on N or T; attention grows with T, an NTM with
N, a DNC with N^2.

Writes benchmarks/results/peers.json; a run replaces only the rows that it measured.
`--smoke` tries everything at tiny sizes.
"""

import os
from pathlib import Path

import step_cost
from measuring import Options, in_process, memory_slope, numbers, report, store_row
from step_cost import Case

RESULTS = Path(__file__).parent / "results" / "peers.json"
TORCH = str(Path(__file__).with_name("peers_torch.py"))
SIZES = {
    "features": step_cost.FEATURES,
    "units": step_cost.UNITS,
    "word_size": step_cost.WORD_SIZE,
    "read_heads": 4,
    "reads_per_head": 4,
}


def keras_cases(options):
    """Attention is measured between T/2 and T."""
    cases = [Case(kind, None, 1, options.lengths, None) for kind in ("lstm", "gru")]
    for steps in options.history:
        cases.append(Case("attention", None, 1, (steps // 2, steps), None))
    for words in options.words:
        cases.append(Case("sam_full", words, 1, options.lengths, "lsh"))
        lengths = step_cost.time_lengths("ntm", words, 1, None, options)
        cases.append(Case("ntm", words, 1, lengths, None))
    return step_cost.split_by_need(cases, options)[0]


def keras_time(options):
    """All in turn."""
    cases = keras_cases(options)
    result = step_cost.in_process(
        step_cost.measure_times, cases=cases, rounds=options.rounds
    )
    for case, row in zip(cases, result["cases"], strict=True):
        yield row_name(case), row


def keras_memory(options):
    for case in keras_cases(options):
        if case.kind not in ("attention", "ntm"):
            # What little they keep shows over more steps only.
            case = case._replace(lengths=options.memory_lengths)
        slope = step_cost.peak_slope(case, options.repeats)
        yield row_name(case), {**case._asdict(), **(slope or {"error": "died"})}


def row_name(case):
    history = f", T = {case.lengths[1]}" if case.kind == "attention" else ""
    return case.name + history


# PyTorch.


def torch_cases(options):
    """Kind, words and the checkout that it needs."""
    if options.ntm_checkout:
        yield from (("NTM", words, options.ntm_checkout) for words in options.words)
    yield from (("DNC", words, None) for words in options.dnc_words)
    yield from (
        (kind, words, None) for kind in ("SDNC", "SAM") for words in options.words
    )


def torch_time(options):
    for kind, words, checkout in torch_cases(options):
        result = in_torch(
            "measure_times",
            options,
            checkout,
            kind=kind,
            words=words,
            lengths=torch_lengths(words, options),
            rounds=options.rounds,
        )
        yield torch_row(kind, words, options, result)


def torch_memory(options):
    for kind, words, checkout in torch_cases(options):
        errors = []

        def peak_of(length, kind=kind, words=words, checkout=checkout, errors=errors):
            result = in_torch(
                "measure_peak",
                options,
                checkout,
                kind=kind,
                words=words,
                length=length,
            )
            errors += [result["error"]] if "error" in result else []
            return result.get("peak_bytes")

        slope = memory_slope(peak_of, torch_lengths(words, options), options.repeats)
        yield torch_row(kind, words, options, slope or {"error": errors[0]})


def torch_lengths(words, options):
    """A large dense memory is kept for each step."""
    most = options.lengths[1] // 14
    steps = min(max(2**18 // words, 2), most)
    return (max(2, steps // 4), max(2, steps // 4) + steps)


def torch_row(kind, words, options, result):
    row = {"kind": kind, "words": words, "lengths": torch_lengths(words, options)}
    return f"torch {kind}, {words:,} words", {**row, **result}


def in_torch(measurement, options, checkout, **arguments):
    result = in_process(
        TORCH,
        measurement,
        python=options.peer_python,
        sizes=SIZES,
        checkout=checkout,
        max_gib=options.peer_gib,
        **arguments,
    )
    return result or {"error": "the process died"}


PARTS = {
    "keras": {"time": keras_time, "memory": keras_memory},
    "torch": {"time": torch_time, "memory": torch_memory},
}


def parse_options():
    parser = Options(__doc__, RESULTS)
    add = parser.add
    add("--parts", "keras", "of keras and torch")
    add("--quantities", "time,memory", "of time and memory")
    add("--words", "1024,65536,262144,1048576", "sizes N", numbers)
    add("--dnc-words", "1024,2048,4096", "sizes N of PyTorch's DNC", numbers)
    add("--history", "1024,4096", "lengths T for attention", numbers)
    add("--rounds", 7, "rounds of timing", int)
    add("--repeats", 1, "processes for each peak of memory", int)
    add("--max-gib", 8.0, "memory that our NTM may take", float)
    add("--peer-gib", 14.0, "memory that a PyTorch model may take", float)
    add("--peer-python", None, "the interpreter that has PyTorch and dnc", str)
    add("--ntm-checkout", None, "the clone of pytorch-ntm", os.path.abspath)
    parser.set_defaults(lengths=(128, 896), memory_lengths=(2**10, 2**13))
    options = parser.parse()
    if "torch" in options.parts and not options.peer_python:
        parser.error("the part torch needs --peer-python")
    if options.smoke:
        options.words, options.dnc_words, options.history = [64], [64], [32]
        options.rounds = 1
        options.lengths, options.memory_lengths = (8, 32), (8, 24)
    return options


def main():
    options = parse_options()
    for part in options.parts:
        for quantity in options.quantities:
            for name, row in PARTS[part][quantity](options):
                amount = row.get("ms_per_step") or row.get("bytes_per_step")
                report(f"{name}: {row.get('error') or amount['median']}")
                store_row(options.output, quantity, name, row)


if __name__ == "__main__":
    main()
