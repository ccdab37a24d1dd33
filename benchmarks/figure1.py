"""What does figure 1 of Rae et al. (2016) look like with these layers?

    python benchmarks/figure1.py --parts time --words 64,1024,16384
    python benchmarks/figure1.py --parts memory --only ntm,dam
    python benchmarks/figure1.py --parts picture

Time of one step, forward and backward, at batch 8, and memory for a sequence at batch
1, both against the number of words N on logarithmic axes, as in the paper: 100 units,
words of 32, 4 read heads, K = 4. Above, memory for 100 steps *over what the initial
state takes*: NTM, DAM and SAM with each index. Below, the paper's figure of the sparse
DNC, memory for 10 steps *with* the initial state: DNC and SDNC.

The paper's own numbers are drawn in, hollow, as far as its text gives them. It does
not say how long its sequence for the time was; we give the marginal time of one step.

Every point is measured in a process of its own by the functions of step_cost.py: time
as the difference between two lengths over the steps between them; memory as the same
difference of the peaks, times the steps. The initial state is counted as the numbers
that it has: what a process takes for the program and for its work comes to some hundred
MiB and would hide it. Time is taken with a memory full of random rows, except that a
ScaNN index holds at most 65,536 of them, because it is built again before each
sequence; and from a fresh memory for the DNC and the SDNC. Dense models go as far as
`--max-gib`.

Expected: the lines of NTM and DAM rise with N in time and memory, SAM with exact search
in time alone, SAM with LSH and ScaNN hardly at all; the DNC's rise with N^2.

Writes benchmarks/results/figure1.json and .png; a run replaces only the points that it
measured. `--smoke` tries everything at tiny sizes.
"""

import json
from pathlib import Path
from typing import NamedTuple

import matplotlib
import step_cost
from measuring import GIB, MIB, Options, digits, load, numbers, report, store_row
from step_cost import Case

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "figure1.json"
TIME_BATCH = 8
MOST_ROWS = 2**16  # that a ScaNN index starts with


class Model(NamedTuple):
    """A line of the figures."""

    label: str
    kind: str
    index: str | None
    color: str
    marker: str


class Figure(NamedTuple):
    """A row of axes: its lines, its N and its memory."""

    models: dict
    words: list
    steps: int
    with_initial_state: bool


SAM_FIGURE = Figure(
    {
        "ntm": Model("NTM", "ntm", None, "tab:orange", "^"),
        "dam": Model("DAM", "dam", None, "tab:red", "<"),
        "exact": Model("SAM, exact", "sam", "exact", "tab:blue", "o"),
        "lsh": Model("SAM, LSH", "sam", "lsh", "tab:purple", "s"),
        "scann": Model("SAM, ScaNN", "sam", "scann", "tab:cyan", "D"),
    },
    words=[4**i for i in range(3, 11)],
    steps=100,
    with_initial_state=False,
)
SDNC_FIGURE = Figure(
    {
        "dnc": Model("DNC", "dnc", None, "tab:green", "v"),
        "sdnc": Model("SDNC", "sdnc", "exact", "tab:blue", "o"),
    },
    words=[64, 256, 1024, 2048, 16384, 65536],
    steps=10,
    with_initial_state=True,
)
FIGURES = (SAM_FIGURE, SDNC_FIGURE)
MODELS = SAM_FIGURE.models | SDNC_FIGURE.models

# The text of Rae et al., arXiv:1610.09027: abstract, sections 3 and 4.1, supplement.
# Milliseconds and MiB against N; its SAM has a k-d tree, its time a batch of 8.
PAPER = {
    "time": {"ntm": {2**20: 12_000}, "lsh": {2**20: 7}},
    "memory": {"ntm": {64: 30, 2**16: 29 * 1024}, "lsh": {2**16: 7.8}},
}
# Of the DNC and the SDNC it gives ratios alone.
PAPER_DNC_TO_SDNC = {"time": (2048, 440), "memory": (2048, 240)}


def time_case(model, words, options):
    kind = "sam_full" if model.kind == "sam" else model.kind
    if model.index == "scann":
        kind, rows = "sam", min(words, MOST_ROWS)
        lengths = tuple(length // 4 for length in options.lengths)
    else:
        rows = 0
        lengths = step_cost.time_lengths(kind, words, TIME_BATCH, model.index, options)
    return Case(kind, words, TIME_BATCH, lengths, model.index, rows)


def memory_case(model, words, options):
    """Lengths far enough apart for a process's other memory not to matter."""
    lengths = options.memory_lengths
    if model.kind in step_cost.DENSE_KINDS:
        most = lengths[1] - lengths[0]
        kept = step_cost.kept_bytes(model.kind, words)
        steps = min(max(int(options.apart_bytes / kept), 2), most)
        lengths = (max(2, steps // 4), max(2, steps // 4) + steps)
    return Case(model.kind, words, 1, lengths, model.index)


def measure_time(case, options):
    result = step_cost.in_process(
        step_cost.measure_times, cases=[case], rounds=options.rounds
    )
    if result is None:
        return None
    (measured,) = result["cases"]
    return {
        "ms_per_step": measured["ms_per_step"],
        "rounds": measured["rounds"],
        "first_calls_seconds": measured["first_calls_seconds"],
        "peak_gib": result["peak_gib"],
    }


def measure_memory(case, options):
    slope = step_cost.peak_slope(case, options.repeats)
    if slope is None:
        return None
    layer = step_cost.make_layer(case.kind, case.words, case.index)
    return {"initial_state_bytes": 4 * sum(layer.cell.state_size), **slope}


PARTS = {"time": (time_case, measure_time), "memory": (memory_case, measure_memory)}


def measure(part, options):
    make_case, function = PARTS[part]
    for figure in FIGURES:
        for name, model in figure.models.items():
            if name not in options.only:
                continue
            for words in options.words or figure.words:
                case = make_case(model, words, options)
                row = {"model": name, **case._asdict()}
                needs = step_cost.needed_bytes(case) / GIB
                result = function(case, options) if needs < options.max_gib else None
                if result is None:
                    result = {"left_out": f"needs about {needs:.1f} GiB"}
                report(f"{name}, {words:,} words: {json.dumps(result)[:150]}")
                store_row(options.output, part, f"{name} {words}", {**row, **result})


# The picture.


def memory_mib(row, figure):
    """For the steps of the figure, of the median and its quartiles."""
    first = row["initial_state_bytes"] if figure.with_initial_state else 0
    slope = row["bytes_per_step"]
    return [
        digits((first + figure.steps * value) / MIB)
        for value in (slope["median"], *slope["quartiles"])
    ]


def points(results, part, name, figure):
    """N: median and quartiles, in milliseconds or MiB."""
    found = {}
    for row in results.get(part, {}).values():
        if row["model"] != name or "left_out" in row:
            continue
        if part == "memory":
            found[row["words"]] = memory_mib(row, figure)
        else:
            times = row["ms_per_step"]
            found[row["words"]] = [times["median"], *times["quartiles"]]
    return dict(sorted(found.items()))


def draw(path):
    results = load(path)
    plt.rcParams.update({"font.size": 11, "axes.grid": True, "grid.alpha": 0.3})
    picture, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for row, figure in zip(axes, FIGURES, strict=True):
        for part, each in zip(PARTS, row, strict=True):
            draw_lines(each, results, part, figure)
        state = "with" if figure.with_initial_state else "over"
        row[0].set_ylabel(f"time per step, batch {TIME_BATCH} (ms)")
        row[1].set_ylabel(f"{figure.steps} steps, {state} the initial state (MiB)")
        # The legend is beside both, because the lines cross all of their area.
        handles = row[0].get_legend_handles_labels()
        row[1].legend(*handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[0, 0].set_title("forward + backward")
    axes[0, 1].set_title("memory, batch 1")
    picture.savefig(path.with_suffix(".png"), dpi=100)


def draw_lines(axes, results, part, figure):
    for name, model in figure.models.items():
        style = {"color": model.color, "marker": model.marker, "markersize": 5}
        if found := points(results, part, name, figure):
            medians, low, high = zip(*found.values(), strict=True)
            axes.plot(found.keys(), medians, label=model.label, **style)
            band = {"color": model.color, "alpha": 0.2, "linewidth": 0}
            axes.fill_between(found.keys(), low, high, **band)
        if theirs := PAPER[part].get(name):
            draw_paper(axes, theirs, model, f"{model.kind.upper()} of the paper")
    words, ratio = PAPER_DNC_TO_SDNC[part]
    sparse = points(results, part, "sdnc", figure).get(words)
    if figure is SDNC_FIGURE and sparse:
        theirs = {words: ratio * sparse[0]}
        draw_paper(axes, theirs, MODELS["dnc"], "our SDNC times\nthe paper's ratio")
    axes.set_xlabel("words in the memory, N")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")


def draw_paper(axes, theirs, model, label):
    style = {"color": model.color, "marker": model.marker, "markersize": 9}
    hollow = {"linestyle": "none", "fillstyle": "none", "label": label}
    axes.plot(theirs.keys(), theirs.values(), **style, **hollow)


def parse_options():
    parser = Options(__doc__, RESULTS)
    add = parser.add
    add("--parts", "time,memory,picture", "of time, memory and picture")
    add("--only", ",".join(MODELS), "which lines")
    add("--words", None, "sizes N; else those of the figures", numbers)
    add("--rounds", 7, "rounds of timing", int)
    add("--repeats", 1, "processes for each peak of memory", int)
    add("--max-gib", 10.0, "memory that one process may take", float)
    parser.set_defaults(
        # SAM pads to such lengths anyway.
        lengths=(128, 896),
        memory_lengths=(2**10, 2**14),
        apart_bytes=GIB / 2,
    )
    options = parser.parse()
    if unknown := set(options.only) - set(MODELS):
        parser.error(f"argument --only: unknown {', '.join(unknown)}")
    if options.smoke:
        options.words, options.rounds = [64], 1
        options.lengths, options.memory_lengths = (8, 32), (8, 24)
    return options


def main():
    options = parse_options()
    for part in PARTS:
        if part in options.parts:
            measure(part, options)
    if "picture" in options.parts:
        draw(options.output)


if __name__ == "__main__":
    main()
