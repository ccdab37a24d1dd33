"""Writes the measured figures into README.md and the pages of docs/.

    python benchmarks/tables.py

Between a comment `<!-- table NAME ARGUMENTS -->` and the next `<!-- end -->` there
stands what the function NAME below makes of a file of benchmarks/results, or of the
results.json beside the models in saved_models. What has not been measured is left out.
"""

import json
import re
import shlex
import statistics
from pathlib import Path

import figure1
import learning as curves
import numpy as np
import step_cost
from babi import is_by_words
from cards import public_name, tested  # Where it is, learning.py says.
from measuring import MIB, digits, load, markdown
from train import cell_of

import keras_sam

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MODELS = ROOT / "saved_models"
PAGES = ROOT / "docs"
DOCUMENTS = (
    ROOT / "README.md",
    PAGES / "guides" / "choose-a-cell.md",
    PAGES / "guides" / "choose-an-index.md",
    PAGES / "guides" / "distribute.md",
    PAGES / "guides" / "embeddings.md",
    PAGES / "guides" / "serving.md",
    PAGES / "guides" / "training.md",
    PAGES / "guides" / "troubleshooting.md",
    PAGES / "results" / "benchmarks.md",
    PAGES / "results" / "copy.md",
    PAGES / "results" / "formal-languages.md",
    PAGES / "results" / "graphs.md",
    PAGES / "results" / "long.md",
    PAGES / "results" / "mqar.md",
    PAGES / "results" / "omniglot.md",
    PAGES / "results" / "babi.md",
    PAGES / "results" / "recall.md",
    PAGES / "results" / "sort-and-ngrams.md",
    MODELS / "README.md",
)
# Of copying: "learned" is under so many wrong bits; and lengths beyond the training's.
LIMIT = 0.01
LONGER = ("40", "80", "120")
# Of what is learned, in this order.
TASKS = {
    "associative_recall": "associative recall, 2 to 6 items",
    "repeat_copy": "repeat copy, 1 to 10 vectors, 1 to 10 times",
    "priority_sort": "priority sort, the 16 highest of 20 keys",
    "dynamic_ngrams": "dynamic n-grams, 200 bits",
}
# The metrics of a model: bits, or the share of the answers.
WRONG = ("bit_errors", "wrong_bits")
RIGHT = ("sequence_accuracy", "accuracy")
CELLS = ("sam", "sdnc", "dam", "dnc", "ntm", "lstm")
BLOCK = re.compile(r"(<!-- table (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def stored(name):
    return load(RESULTS / f"{name}.json")


def number(value):
    """Three digits, in figures."""
    value = float(f"{value:.3g}")
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:g}"


def measured(summary):
    """The median and the middle half."""
    low, high = summary["quartiles"]
    return f"{number(summary['median'])} ({number(low)} to {number(high)})"


def commands(*names):
    """Each once, as a block of code."""
    text = "\n".join(map(json_text, names))
    found = re.findall(r'"command": ("(?:[^"\\]|\\.)*")', text)
    lines = dict.fromkeys(json.loads(each) for each in found)
    return (
        "```bash\n" + "".join(f"{line}\n" for line in lines) + "```\n" if lines else ""
    )


def json_text(name):
    path = RESULTS / f"{name}.json"
    return path.read_text() if path.exists() else ""


def picture(name, text):
    path = RESULTS / f"{name}.png"
    # From the folder docs/results.
    return f"![{text}](../../{path.relative_to(ROOT)})\n" if path.exists() else ""


def row_name(row):
    words = f", {row['words']:,} words" if row["words"] else ""
    rows = f", {row['rows']:,} of them written" if row.get("rows") else ""
    return f"{step_cost.label(row['kind'], row['index'])}{words}{rows}"


def times(name, part="time", batch=None):
    results = stored(name).get(part, {})
    results = results.get(batch, {}) if batch else results
    rows = [
        [
            row_name(each),
            measured(each["ms_per_step"]),
            " to ".join(number(edge) for edge in each["ms_per_step"]["range"]),
            number(each["first_calls_seconds"][1]),
        ]
        for each in results.get("cases", [])
    ]
    columns = ["layer", "ms per step (middle half)", "range", "first call, seconds"]
    return markdown(columns, rows)


def ratios(name, batch):
    """Within a round."""
    rows = [
        [
            each["of"],
            each["to"],
            measured(each),
            *(
                " to ".join(map(number, each.get(edges, [])))
                for edges in ("interval_95", "range")
            ),
        ]
        for each in stored(name).get("time", {}).get(batch, {}).get("ratios", [])
    ]
    columns = ["of", "to", "ratio (middle half)", "95 % interval", "range"]
    return markdown(columns, rows)


def memory(name):
    rows = [
        [
            row_name(each),
            number(each["bytes_per_step"]["median"] / 1000),
            number(100 * each["bytes_per_step"]["median"] / MIB),
            number(each["record_bytes_per_step"] / 1000)
            if "record_bytes_per_step" in each
            else "",
        ]
        for each in stored(name).get("memory", {}).get("cases", [])
    ]
    columns = ["layer", "kB per step", "MiB for 100 steps", "recorded, kB per step"]
    return markdown(columns, rows)


def long(name):
    rows = [
        [
            f"{each['what']}, {each['steps']:,} steps, {each['index']}",
            number(each["seconds"]),
            number(each["first_call_seconds"]),
            number(each["peak_gib"]),
        ]
        for each in stored(name).get("long", {}).get("cases", [])
    ]
    columns = ["SAM, 2^20 words", "seconds", "first call, seconds", "peak, GiB"]
    return markdown(columns, rows)


def figure(part, which):
    """N against the lines of one figure, from the points that the picture has."""
    drawn = figure1.FIGURES[int(which)]
    results = stored("figure1")
    lines = {
        model.label: figure1.points(results, part, name, drawn)
        for name, model in drawn.models.items()
    }
    lines = {label: found for label, found in lines.items() if found}
    words = sorted({each for found in lines.values() for each in found})
    rows = [
        [f"{each:,}"]
        + [number(line[each][0]) if each in line else "" for line in lines.values()]
        for each in words
    ]
    return markdown(["N", *lines], rows)


def shortened(error):
    """An error message, or how much memory it asked for in vain."""
    asked = re.search(r"tried to allocate (\d+) bytes", error)
    return f"no memory for {int(asked[1]) / 2**30:,.0f} GiB" if asked else error


def peers():
    results = stored("peers")
    time, space = results.get("time", {}), results.get("memory", {})
    sam = time.get(f"sam_full, lsh index, {2**20:,} words, batch 1")
    rows = []
    for name in dict.fromkeys([*time, *space]):
        row, kept = time.get(name, {}), space.get(name, {})
        error = row.get("error") or kept.get("error")
        ms = row.get("ms_per_step")
        without = f"does not run: {shortened(error)}" if error else "not timed"
        rows.append(
            [
                name.removesuffix(", batch 1").replace(", batch 1,", ","),
                row["lengths"][1] if ms else "",
                measured(ms) if ms else without,
                number(ms["median"] / sam["ms_per_step"]["median"])
                if ms and sam
                else "",
                number(kept["bytes_per_step"]["median"] / 1000)
                if "bytes_per_step" in kept
                else "",
            ]
        )
    columns = [
        "network",
        "T",
        "ms per step (middle half)",
        "SAM's, 2^20 words",
        "kB per step",
    ]
    return markdown(columns, rows)


def extrapolated():
    """Dense NTMs at 2^20 words, in proportion to N from the largest that ran."""
    time = stored("peers").get("time", {})
    sam = time.get(f"sam_full, lsh index, {2**20:,} words, batch 1")
    rows = []
    for kind, name in (("ntm", "our NTM"), ("NTM", "pytorch-ntm")):
        ran = [
            row for row in time.values() if row["kind"] == kind and "error" not in row
        ]
        if not ran or not sam:
            continue
        largest = max(ran, key=lambda row: row["words"])
        ms = largest["ms_per_step"]["median"] * 2**20 / largest["words"]
        ratio = digits(ms / sam["ms_per_step"]["median"])
        rows.append([name, f"{largest['words']:,}", number(ms), number(ratio)])
    columns = ["", "largest N that ran", "ms per step at 2^20", "SAM's steps"]
    return markdown(columns, rows)


def found():
    """What LSH finds: the mean of the seeds of its planes."""
    names = {"clusters": "clusters", "trained": "trained SAM", "random": "random"}
    results = stored("index_quality_lsh")
    rows = []
    for kind, title in names.items():
        for words, indexes in results[kind]["results"].items():
            part = indexes["LSH"]
            shares = (
                f"{part[name]:.2f}"
                for name in ("recall_at_1", "recall_at_4", "read_mass")
            )
            rows.append([title, f"{int(words):,}", *shares])
    columns = ["kind of words", "N", "the best word", "the best 4 words", "read mass"]
    return markdown(columns, rows)


def task_error():
    """Wrong bits of an answer with each index, with the same words and weights."""
    rows = {}
    for model, part in stored("task_error").items():
        for row in part["rows"]:
            key = f"`{model}`", f"{row['pairs']:,}", f"{row['answers']:,}", row["bits"]
            rows.setdefault(key, {})[row["index"]] = f"{row['wrong_bits']:.4f}"
    columns = ["model", "pairs", "answers", "bits of an answer", "exact", "LSH"]
    found = (
        [*map(str, key), each.get("exact", ""), each["lsh"]]
        for key, each in rows.items()
    )
    return markdown(columns, [*found])


def found_by_scann():
    rows = []
    for kind, part in stored("index_quality").items():
        for words, indexes in part["results"].items():
            if "ScaNN" in indexes and int(words) >= 2**16:
                share = indexes["ScaNN"]["recall_at_4"]
                rows.append([kind, f"{int(words):,}", f"{share:.2f}"])
    return markdown(["kind of words", "N", "the best 4 words"], rows)


def learning_long():
    """The sequences until a number of pairs is learned, summed over the seeds."""
    runs = load(RESULTS / "learning_long.json")
    levels = list(next(iter(runs.values()))["levels"])
    rows = []
    for index in ("exact", "lsh"):
        seeds = [run["levels"] for name, run in runs.items() if name.startswith(index)]
        sums = [sum(seed[level]["sequences"] for seed in seeds) for level in levels]
        missed = [sum(not seed[level]["learned"] for seed in seeds) for level in levels]
        cells = [
            f"{number_of:,}"
            + (f" (not learned: {count} of {len(seeds)})" if count else "")
            for number_of, count in zip(sums, missed, strict=True)
        ]
        rows.append([index.upper() if index == "lsh" else index, *cells])
    return markdown(["index", *(f"{level} pairs" for level in levels)], rows)


def strengths():
    """Wrong bits with read strengths that are clipped, as they are, and multiplied."""
    rows = {}
    for each in stored("strengths")["strengths"]["rows"]:
        limit, factor = each["clip_value"], each["factor"]
        name = f"clipped to {limit:g}" if limit else f"not clipped, times {factor:g}"
        wrong = ", ".join(f"{bits:.4f}" for bits in each["wrong_bits"])
        rows.setdefault(f"{each['pairs']:,}", {})[name] = wrong
    columns = ["pairs", *next(iter(rows.values()))]
    return markdown(columns, [[pairs, *row.values()] for pairs, row in rows.items()])


def frozen():
    """Requests to an exported model with a frozen memory."""
    results = stored("serving")
    rows = [
        [
            each["index"],
            f"{each['words']:,}",
            number(each["milliseconds_median"]),
            number(each["milliseconds_first_request"] / 1000),
            number(each["mib_resident_one_at_a_time"]),
            number(each["mib_more_for_100_at_once"]),
            number(each["seconds_to_export"]),
        ]
        for each in results["frozen_lsh"] + results["frozen_scann"]
    ]
    columns = [
        *("index", "words", "ms per request", "first request, s", "process, MiB"),
        *("more for 100 at once, MiB", "export, s"),
    ]
    return markdown(columns, rows)


def frozen_programs():
    """A frozen memory in TensorFlow's graph and by programs of XLA."""
    rows = []
    for each in stored("serving")["programs"]:
        graph, xla = (
            each["signatures"][name]["milliseconds_median"]
            for name in ("serving_default", "compiled")
        )
        rows.append(
            [
                each["layer"].upper(),
                f"{each['words']:,}",
                *(number(value) for value in (graph, xla, graph / xla)),
            ]
        )
    columns = ["layer", "words", "`serving_default`, ms", "`compiled`, ms", "ratio"]
    return markdown(columns, rows)


def load_of_server():
    rows = [
        [
            "today's" if each["server"] == "now" else f"`{each['server']}`",
            each["clients"],
            number(each["requests_per_second"]),
            number(each["milliseconds_median"]),
            number(each["milliseconds_99_percent"]),
            f"{each['failed_or_wrong']} of {each['requests']:,}",
        ]
        for each in stored("serving")["load"]
    ]
    columns = [
        "server",
        "clients",
        "requests per second",
        "median, ms",
        "99 %, ms",
        "wrong answers",
    ]
    return markdown(columns, rows)


def embeddings_found():
    """What a frozen memory of embeddings answers, for each number of shots."""
    found = stored("embeddings")["found"]["rows"]
    by_shots = {}
    for row in found:
        by_shots.setdefault((row["shots"], row["words"], row["queries"]), []).append(
            row
        )
    rows = [
        [
            *(shots, f"{words:,}", f"{queries:,}"),
            *(f"{100 * row['right']:.1f}" for row in of_shots),
            *(f"{row['recall']:.3f}" for row in of_shots),
        ]
        for (shots, words, queries), of_shots in by_shots.items()
    ]
    indexes = [row["index"] for row in found[: len(found) // len(by_shots)]]
    columns = ["shots", "words", "queries"]
    columns += [f"{kind}, {i}" for kind in ("right, %", "recall@4") for i in indexes]
    return markdown(columns, rows)


def embeddings_of_two_models():
    rows = [
        [row["shots"], *(f"{100 * each:.1f}" for each in row["right_of_two_models"])]
        for row in stored("embeddings")["found"]["rows"]
        if "right_of_two_models" in row
    ]
    columns = ["shots", "one drawing, right, %", "mean of three, right, %"]
    return markdown(columns, rows)


def embeddings_alone():
    """A call without a server."""
    results = stored("embeddings")["alone"]
    rows = [
        [name, f"{100 * results['right'][name]:.1f}", *map(number, times.values())]
        for name, times in results["milliseconds_by_queries"].items()
    ]
    counts = next(iter(results["milliseconds_by_queries"].values()))
    columns = ["search", "right, %", *(f"ms, queries: {n}" for n in counts)]
    return markdown(columns, rows)


def embeddings_served():
    """The medians of the rounds, each of which has a median of its own."""
    rows, counts = [], []
    for name, clients in stored("embeddings")["served"]["rounds_by_clients"].items():
        counts, runs = list(clients), sum(clients.values(), [])
        rows.append(
            [
                name,
                *(middle(clients[n], "milliseconds_median") for n in counts),
                *(middle(clients[n], "requests_per_second") for n in counts),
                f"{sum(run['failed_or_wrong'] for run in runs)} of "
                f"{sum(run['requests'] for run in runs):,}",
            ]
        )
    columns = ["search", *(f"ms, clients: {n}" for n in counts)]
    columns += [*(f"requests/s, clients: {n}" for n in counts), "wrong"]
    return markdown(columns, rows)


def embeddings_shared():
    results = stored("embeddings")["shared"]
    rows = [
        [text, number(max(0.0, results[name]))]
        for text, name in (
            ("a first model with the memory", "first_model"),
            ("a second model of the same memory", "second_model_of_the_same_memory"),
            ("1,000 calls", "1000_calls"),
            ("a copy of the memory, as a second SavedModel", "copy_of_the_memory"),
        )
    ]
    return markdown(["what", "more resident memory, MiB"], rows)


def middle(runs, name):
    return number(statistics.median(run[name] for run in runs))


def attacks_on_server(results="serving_attack"):
    results = stored(results)
    rows = [
        [
            each["attack"].replace("_", " "),
            number(each["milliseconds_without"]),
            number(each["milliseconds_under_attack"]),
            f"{each['times_as_long']:.1f}",
            number(each["mib_more"]),
        ]
        for each in results["attacks"]
    ]
    columns = [
        "attack",
        "median without, ms",
        "median under attack, ms",
        "times as long",
        "more memory, MiB",
    ]
    return markdown(columns, rows)


def dense():
    rows = [
        [name, number(each["ms_per_step"]), " to ".join(map(number, each["range"]))]
        for name, each in stored("dense_step").get("results", {}).items()
    ]
    return markdown(["layer", "ms per step", "range"], rows)


def workers():
    """Steps per second of one process and of two workers."""

    def spread(each):
        low, high = each["range"]
        return f"{number(each['median'])} ({number(low)} to {number(high)})"

    keys = ("one_process", "two_workers", "gain")
    cases = stored("workers").get("steps_per_second", {}).get("cases", {})
    rows = [
        [name, *(spread(case[key]) for key in keys)] for name, case in cases.items()
    ]
    return markdown(["training", "one process", "two workers", "gain"], rows)


def learning(size):
    """After how many sequences each model has learned each task."""
    return markdown(*curves.table(curves.load(curves.RESULTS), size))


def copying():
    """The models of copying. From when on they are under LIMIT bits."""
    columns = ["model", "parameters", "learned after", "minutes", "1 to 20", *LONGER]
    rows = []
    for path in sorted(MODELS.glob("copy_*/results.json")):
        run = load(path)
        points, errors = run["curve"], run["bit_errors_by_length"]
        curve = {
            "sequences": [point["sequences"] for point in points],
            "bit_errors": [point["validation_bit_errors"] for point in points],
        }
        learned = curves.learned_after(curve, LIMIT)
        row = [
            f"`{path.parent.name}`",
            f"{run['parameters']:,}",
            f"{learned:,}" if learned else "never",
            minutes(run),
            f"{run['test_bit_errors']:.4f}",
            *(f"{errors[length]:.2f}" for length in LONGER),
        ]
        rows.append(row)
    return markdown(columns, rows)


def models():
    """All trained models, with what they get wrong of sequences as in training."""
    columns = ["folder", "task", "layer", "parameters", "unseen sequences", "by name"]
    rows = []
    for path in sorted(MODELS.glob("*/results.json")):
        run = load(path)
        task = run.get("recipe", run)["task"].replace("_", " ")
        # Of n-grams, bits are guessed as often as not: their cost counts.
        result = next(iter(tested(run).values()))
        if "cost_bits" in result:
            above = result["cost_bits"] - result["optimal_cost_bits"]
            figure = f"{number(above)} bits above the best"
        elif wrong := [result[name] for name in WRONG if name in result]:
            figure = f"{number(wrong[0])} wrong bits"
        elif "error" in result:
            figure = f"{100 * result['error']:.1f} % wrong"
        else:
            (share,) = (result[name] for name in RIGHT if name in result)
            figure = f"{100 * share:.1f} % right"
        name = path.parent.name
        by_name = "yes" if (path.parent / "model.keras").exists() else ""
        row = [f"`{name}`", task, f"`{public_name(cell_of(run))}`"]
        rows.append([*row, f"{run['parameters']:,}", figure, by_name])
    return markdown(columns, rows)


def learned(*tasks):
    """The models of examples/train.py on tasks of the NTM paper."""
    columns = ["task", "model", "wrong bits", "nothing written", "sequences", "minutes"]
    rows = []
    for task in tasks:
        title = TASKS[task]
        results = map(load, MODELS.glob(f"{task}_*/results*.json"))
        runs = {cell_of(run): run for run in results}
        for cell in sorted(runs, key=CELLS.index):
            run = runs[cell]
            shut = run.get("write_gate_shut")
            row = [
                title,
                cell.upper(),
                number(run["test"]["bit_errors"]),
                number(shut["bit_errors"]) if shut else "",
                f"{run['training_sequences']:,}",
                minutes(run),
            ]
            rows.append(row)
            title = ""
    return markdown(columns, rows)


def longer(task, size):
    """Wrong bits of larger sequences than those trained on."""
    results = map(load, MODELS.glob(f"{task}_*/results*.json"))
    runs = {cell_of(run): run["test_of_size"] for run in results}
    sizes = [name for name in next(iter(runs.values())) if name.split()[0] == size]
    rows = [
        [cell.upper(), *(number(runs[cell][name]["bit_errors"]) for name in sizes)]
        for cell in sorted(runs, key=CELLS.index)
    ]
    return markdown(["model", *sizes], rows)


def order_recall():
    folder = MODELS / "order_recall_sdnc"
    rows = []
    for title, name in (("SDNC", "results"), ("SAM, no links", "results_sam")):
        run = load(folder / f"{name}.json")
        errors = [run["test"], *run["test_of_size"].values(), run["write_gate_shut"]]
        rows.append([title, *(number(each["bit_errors"]) for each in errors)])
    columns = ["model", "2 to 10 items", "10 items", "20 items", "nothing written"]
    return markdown(columns, rows)


def recall_curriculum():
    """Shares of the bits that are wrong, by the number of items."""
    rows = [
        [
            public_name(row["model"].rsplit("_", 1)[-1]),
            f"{row['items']:,}",
            f"{row['steps']:,}",
            {"exact": "exact", "lsh": "LSH"}[row["index"]],
            f"{row['wrong']:.2%}",
            number(row["us_per_step"]),
        ]
        for row in sorted(
            stored("recall_length").get("rows", []),
            key=lambda row: (row["model"], row["items"], row["index"]),
        )
    ]
    columns = ["model", "items", "steps", "index", "wrong bits", "µs for a step"]
    return markdown(columns, rows)


def headline():
    """Wrong bits per sequence of the stored models, one column for a cell."""

    def copies(length):
        runs = {
            cell: load(MODELS / f"copy_{cell}" / "results.json")
            for cell in ("ntm", "dnc", "sam", "sdnc", "lstm")
        }
        return {
            cell: run["test_bit_errors"]
            if length is None
            else run["bit_errors_by_length"][length]
            for cell, run in runs.items()
        }

    def errors(task):
        results = map(load, MODELS.glob(f"{task}_*/results*.json"))
        return {cell_of(run): run["test"]["bit_errors"] for run in results}

    tasks = {
        "copy 1 to 20 vectors": copies(None),
        "copy 120 vectors": copies("120"),
        "associative recall": errors("associative_recall"),
        "order recall": errors("order_recall"),
        "repeat copy": errors("repeat_copy"),
        "priority sort": errors("priority_sort"),
    }
    cells = ("ntm", "dnc", "sam", "sdnc", "lstm")
    rows = [
        [title, *(number(found[cell]) if cell in found else "" for cell in cells)]
        for title, found in tasks.items()
    ]
    return markdown(["task", *(cell.upper() for cell in cells)], rows)


def traversal():
    """Right answers of the traversing model, in each lesson and on the Underground."""
    run = load(MODELS / "traversal_sdnc" / "results.json")
    rows = []
    for name, score in (run["test_of_size"] | run["underground"]).items():
        kind, number_of = name.split()
        graph, steps = "Underground", number_of
        if kind == "lesson":
            lesson = keras_sam.tasks.TRAVERSAL_LESSONS[int(number_of) - 1]
            graph = f"lesson {number_of}: {span(lesson.nodes)} nodes"
            steps = span(lesson.length)
        rows.append([graph, steps, f"{score['sequence_accuracy']:.1%}"])
    return markdown(["graph", "steps", "right"], rows)


def relations():
    """Right answers to questions for relations: relatives, and nodes of any graph."""
    rows = []
    families = stored("family_tree_sdnc")
    for length in ("2", "3", "4"):
        right = families["test_of_size"][f"length {length}"]["sequence_accuracy"]
        of_paper = "81.8%" if length == "4" else ""
        rows.append([f"family trees, {length} ties", f"{right:.1%}", of_paper])
    inference = stored("inference_sdnc")
    for name, score in inference["test_of_size"].items():
        lesson = keras_sam.tasks.INFERENCE_LESSONS[int(name.split()[1]) - 1]
        rows.append(
            [
                f"inference, {name}: {span(lesson.nodes)} nodes, "
                f"{span(lesson.length)} edges",
                f"{score['sequence_accuracy']:.1%}",
                "",
            ]
        )
    return markdown(["questions", "right", "DNC"], rows)


def shortest_paths():
    """Shortest paths by lesson, beside walks without a search and the DNC."""
    walkers, run = stored("graph_baseline"), stored("shortest_path_sdnc")
    rows = []
    for name, score in run["test_of_size"].items():
        number = name.split()[1]
        lesson = keras_sam.tasks.SHORTEST_PATH_LESSONS[int(number) - 1]
        rows.append(
            [
                f"{name}: {span(lesson.nodes)} nodes",
                span(lesson.length),
                f"{score['sequence_accuracy']:.1%}",
                f"{walkers['lesson'][number]:.1%}",
                "",
            ]
        )
    for name, score in run["underground"].items():
        length = name.split()[1]
        of_paper = "55.3%" if length == "4" else ""
        right, walker = score["walks"], walkers["underground"][length]
        rows.append(["Underground", length, f"{right:.1%}", f"{walker:.1%}", of_paper])
    return markdown(["graph", "steps", "right", "walker", "DNC"], rows)


def search_start():
    """Walks of a memory that starts with a search, untrained and trained."""
    untrained = stored("search_start")["underground"]
    trained = stored("shortest_path_sdnc")["underground"]
    columns = {
        "untrained, no marks": untrained["no marks"],
        "untrained": untrained["marks"],
        "trained": {name.split()[1]: run["walks"] for name, run in trained.items()},
    }
    rows = [
        [length, *(f"{found[length]:.1%}" for found in columns.values())]
        for length in untrained["marks"]
    ]
    return markdown(["steps", *columns], rows)


def copy_tail():
    """Sequences that are copied with errors, by how many heads begin elsewhere."""
    run = stored("copy_tail")
    wrong = {}
    for failure in run["failures"]:
        places = zip(failure["start"], run["usual_start"], strict=True)
        others = sum(place != usual for place, usual in places)
        wrong.setdefault(others, []).append(failure["wrong_bits"])
    rows = [
        [f"{others}", f"{len(bits)}", span((min(bits), max(bits)))]
        for others, bits in sorted(wrong.items())
    ]
    columns = ["heads that begin elsewhere", "sequences with errors", "wrong bits"]
    return markdown(columns, rows)


def omniglot():
    """Right labels of unseen characters by how often they came before."""
    paths = [MODELS / "omniglot_sam" / "results.json"]
    paths += sorted(RESULTS.glob("omniglot_peer_*.json"))
    instances = (1, 2, 3, 5, 10)
    rows = [
        [
            cell_of(run).upper(),
            f"{run['seed']}",
            *(f"{run['test'][f'instance {number_of}']:.1%}" for number_of in instances),
            f"{run['parameters']:,}",
            f"{run['training_sequences']:,}",
            minutes(run),
        ]
        for run in map(load, paths)
    ]
    columns = [f"instance {number_of}" for number_of in instances]
    columns += ["parameters", "episodes", "minutes"]
    return markdown(["cell", "seed", *columns], rows)


def omniglot_classes():
    """The same in episodes of more characters than in training."""
    instances = (2, 3, 5, 10)
    rows = [
        [
            name.removeprefix("classes "),
            f"{1.0 - right['accuracy']:.3f}",
            *(f"{right[f'instance {number_of}']:.1%}" for number_of in instances),
        ]
        for name, right in stored("omniglot_curriculum")["test_of_size"].items()
    ]
    columns = [f"instance {number_of}" for number_of in instances]
    return markdown(["characters", "error", *columns], rows)


def mqar():
    """The accuracy at the queries for each size of the test."""
    runs = [load(path) for path in sorted(MODELS.glob("mqar_*/results.json"))]
    runs += [load(path) for path in sorted(RESULTS.glob("mqar_peer_*.json"))]
    sizes = [name for name in runs[0]["test"] if name != "accuracy"]
    rows = [
        [
            cell_of(run).upper() if cell_of(run) != "attention" else "attention",
            str(run["seed"]),
            f"{run['state_size']:,}",
            *(f"{run['test'][size]:.4f}" for size in sizes),
            f"{run['test']['accuracy']:.4f}",
            minutes(run),
        ]
        for run in runs
    ]
    return markdown(["model", "seed", "state", *sizes, "mean", "minutes"], rows)


def mqar_long():
    """Far longer sequences, and what attention would keep of them."""
    columns = ["tokens", "pairs", "slots", "index", "accuracy", "us per token", "state"]
    columns += ["attention: us per token", "attention: state"]
    rows = [
        [
            f"{row['tokens']:,}",
            f"{row['pairs']:,}",
            f"{row['memory_slots']:,}",
            row["index"],
            f"{row['accuracy']:.4f}",
            number(row["us_per_token"]),
            f"{row['state_size']:,}",
            number(row["attention_us_per_token"])
            if "attention_us_per_token" in row
            else "",
            f"{row['attention_state_size']:,}",
        ]
        for row in stored("mqar_long")["rows"]
    ]
    return markdown(columns, rows)


# In percent, Joulin & Mikolov 2015: LSTM, Stack RNN with 40 units and 10 stacks,
# and the same with rounding.
FORMAL_LANGUAGES_OF_THE_PAPER = {
    "a^n b^n": (100, 100, 100),
    "a^n b^n c^n": (100, 100, 100),
    "a^n b^n c^n d^n": (68.3, 100, 100),
    "a^n b^2n": (75, 100, 100),
    "a^n b^m c^(n+m)": (100, 43.3, 100),
}


def formal_languages():
    """The share of the lengths up to 60 that are right, over the seeds."""
    runs = stored("formal_languages")["runs"].values()
    models = (
        ("LSTM", "lstm", "right"),
        ("Stack RNN", "stack_rnn", "right_unrounded"),
        ("Stack RNN, rounded", "stack_rnn", "right"),
    )
    rows = []
    for language, of_paper in FORMAL_LANGUAGES_OF_THE_PAPER.items():
        for (name, cell, kind), theirs in zip(models, of_paper, strict=True):
            of_model = [
                run
                for run in runs
                if (run["language"], run["cell"]) == (language, cell)
            ]
            if not of_model:
                continue
            found = [run[kind] for run in of_model]
            seconds = statistics.median(run["seconds"] for run in of_model)
            perfect = sum(share == 1.0 for share in found)
            best, median = max(found), statistics.median(found)
            rows.append(
                [
                    f"`{language}`",
                    name,
                    f"{theirs}",
                    f"{100 * best:.1f}",
                    f"{100 * median:.1f}",
                    f"{perfect} of {len(found)}",
                    f"{of_model[0]['parameters']:,}",
                    f"{seconds:.0f}",
                ]
            )
    columns = ["language", "model", "paper", "best", "median", "seeds with 100"]
    columns += ["parameters", "seconds"]
    return markdown(columns, rows)


# The mean errors of 15 runs, in percent: Rae et al. 2016, their supplement's table.
RAE = {
    "SDNC": [0.0, 7.1, 9.4, 0.1, 0.9, 0.1, 1.6, 0.5, 0.0, 0.3]
    + [0.0, 0.2, 0.1, 5.6, 3.6, 53.0, 12.4, 1.6, 30.8, 0.0],
    "SAM": [4.7, 30.9, 31.4, 0.2, 1.0, 3.9, 7.3, 3.6, 3.8, 5.7]
    + [2.6, 2.9, 1.3, 15.0, 5.5, 53.6, 20.4, 3.0, 33.7, 0.0],
}


def babi():
    """Wrong answers to the official tests of bAbI, beside those of Rae et al."""
    runs = [load(path) for path in sorted(MODELS.glob("babi_*/results.json"))]
    ours = {}
    for run in runs:
        form = "words" if is_by_words(run["recipe"]) else "sentences"
        ours[f"{public_name(cell_of(run))}, {form}"] = run["test"]
    columns = ["task", *ours, *(f"{cell}, words (Rae et al.)" for cell in RAE)]
    rows = [
        [
            task,
            *(f"{test['errors'][str(task)]:.1%}" for test in ours.values()),
            *(f"{errors[task - 1]:.1f}%" for errors in RAE.values()),
        ]
        for task in range(1, 21)
    ]
    means = [f"{test['error']:.1%}" for test in ours.values()]
    means += [f"{sum(errors) / len(errors):.1f}%" for errors in RAE.values()]
    return markdown(columns, [*rows, ["mean", *means]])


def babi_seeds():
    """Each training of SAM and SDNC on all tasks: of other seeds than the table's."""
    paths = [MODELS / f"babi_{cell}" / "results.json" for cell in ("sam", "sdnc")]
    paths += sorted(RESULTS.glob("babi_peer_*.json"))
    runs = sorted(map(load, paths), key=lambda run: (cell_of(run), run["seed"]))
    rows = [
        [
            public_name(cell_of(run)),
            f"{run['seed']}",
            f"{run['curve'][-1]['validation_error']:.1%}",
            f"{run['test']['error']:.1%}",
            ", ".join(
                f"{task}: {error:.1%}"
                for task, error in run["test"]["errors"].items()
                if error > 0.05
            ),
            minutes(run),
            f"`{run['commit']}`",
        ]
        for run in runs
    ]
    columns = ["model", "seed", "validation", "test", "tasks over 5 %", "minutes"]
    return markdown([*columns, "commit"], rows)


def babi_three_tasks():
    """Two tasks of two relations and one of a chain, by one SAM."""
    errors = stored("babi_three_tasks")["test"]["errors"]
    names = {"16": "induction", "17": "positions", "19": "paths"}
    rows = [[task, names[task], f"{error:.1%}"] for task, error in errors.items()]
    return markdown(["task", "of", "wrong"], rows)


def babi_ablations():
    """What the wrong answers become without a part of a model."""
    errors = {
        (model, row["change"]): f"{row['error']:.1%}"
        for model, part in stored("babi_ablations").items()
        for row in part["rows"]
    }
    models = {"SAM": "babi_sam", "SDNC": "babi_sdnc"}
    rows = [
        [change, *(errors.get((model, change), "") for model in models.values())]
        for change in dict.fromkeys(change for _, change in errors)
    ]
    return markdown(["wrong answers", *models], rows)


# What each layer is for; the time of a step, and the memory of a step in training.
LAYERS = {
    "NTM": ("order and positions", "N W", "N W"),
    "DNC": ("any order of access, memory freed", "N W + N²", "N W + N²"),
    "SAM": ("long sequences, large memories", "n W, or K W", "K W"),
    "SDNC": ("as SAM, with the order of items", "as SAM + K L²", "K (W + L)"),
    "DAM": ("SAM's dense twin, to compare", "N W", "N W"),
    "MANN": ("classes from few examples", "N W", "N W"),
    "DNTM": ("several reads a step", "K N (W + A)", "K N (W + A)"),
    "StackRNN": ("counting, nesting, reversing", "N S", "N S"),
    "EndToEndMemory": ("all facts of a story at once", "K N W", "K N W"),
    "DynamicMemory": ("facts read in order, again and again", "K N W²", "K N W"),
}
# Of the layers whose parameters are counted: features that come in, and arguments.
FEATURES, SLOTS, HEADS = 32, {"memory_slots": 128}, {"read_heads": 1}
WORDS = {"units": 64, "word_size": 32}
ARGUMENTS = {
    **dict.fromkeys(
        ("NTM", "DNC", "SAM", "SDNC", "DAM", "MANN"), WORDS | SLOTS | HEADS
    ),
    "DNTM": WORDS | SLOTS | {"address_size": 8},
    "StackRNN": {"units": 64, "stacks": 1} | SLOTS,
}


def parameters_of(name):
    """The parameters of a layer of the one size."""
    if name in ARGUMENTS:
        layer = getattr(keras_sam, name)(**ARGUMENTS[name])
        layer.build((None, None, FEATURES))
    elif name == "DynamicMemory":
        layer = keras_sam.DynamicMemory(units=FEATURES)
        layer(np.zeros((1, 2, FEATURES)), np.zeros((1, FEATURES)))
    else:
        layer = keras_sam.EndToEndMemory(vocabulary_size=128, units=FEATURES)
        layer(np.zeros((1, 2, 1), int), np.zeros((1, 1), int))
    return layer.count_params()


def of_babi(run):
    errors = run["test"]["errors"]
    tasks = f"task{'s' * (len(errors) > 1)} {', '.join(errors)}"
    if len(errors) == 20:
        tasks = "all tasks"
    return f"bAbI, {tasks}: {run['test']['error']:.1%} wrong"


def of_copy(run):
    return f"copy of 1 to 20 vectors: {number(run['test_bit_errors'])} wrong bits"


def of_recall(run):
    wrong = number(run["test"]["bit_errors"])
    return f"associative recall, 2 to 6 items: {wrong} wrong bits"


def of_language(run):
    return f"a^n b^n up to n = 60: {run['right']:.0%} right"


# A run of each layer, one of saved_models or of the results, and its figure.
RUNS = {
    "NTM": ("copy_ntm", of_copy),
    "DNC": ("copy_dnc", of_copy),
    "SAM": (
        "mqar_sam",
        lambda run: f"multi-query recall: {run['test']['accuracy']:.1%} right",
    ),
    "SDNC": ("babi_sdnc", of_babi),
    "DAM": ("associative_recall_dam", of_recall),
    "MANN": (
        "omniglot_peer_mann",
        lambda run: f"Omniglot, second instance: {run['test']['instance 2']:.1%} right",
    ),
    "DNTM": (
        "babi_dntm",
        lambda run: f"bAbI, task {run['task']}: {run['error']:.1%} wrong",
    ),
    "StackRNN": ("formal_languages", of_language),
    "EndToEndMemory": ("babi_end_to_end", of_babi),
    "DynamicMemory": ("babi_dynamic_memory_task_2", of_babi),
}
# Of results of many runs, one.
SHOWN = {
    "babi_dntm": "task 1, soft, reads 1, seed 0",
    "formal_languages": "a^n b^n, stack_rnn, seed 0",
}


def result_of(name):
    """A figure of a layer, and the command that it is from."""
    source, figure = RUNS[name]
    folder = MODELS / source
    run = load(folder / "results.json") if folder.is_dir() else stored(source)
    if source in SHOWN:
        run = run["runs"][SHOWN[source]]
    return figure(run), run["command"]


def layers():
    """All layers side by side, and the commands of their figures."""
    rows, lines = [], {}
    for name, (purpose, time, space) in LAYERS.items():
        figure, command = result_of(name)
        parameters = f"{parameters_of(name):,}"
        rows.append([f"`{name}`", purpose, time, space, parameters, figure])
        lines.setdefault(command, []).append(name)
    columns = ["layer", "for", "time", "memory", "parameters", "a result"]
    code = "".join(
        f"{command}  # {', '.join(names)}\n" for command, names in lines.items()
    )
    return markdown(columns, rows) + f"\n```bash\n{code}```\n"


def first_call():
    """The first call of each length, by the round and by what XLA has on disk."""
    processes = stored("first_call").get("first_call", {}).get("processes", [])
    found = {(each["round"], each["cache"]): each["rows"] for each in processes}
    rows = [
        [
            f"{row['length']}",
            f"{part['round']}",
            *(number(each["processor_seconds"]) for each in (row, full)),
            number(full["processor_seconds"] / row["processor_seconds"]),
            *(number(each["tracing_seconds"]) for each in (row, full)),
            *(number(each["first_seconds"]) for each in (row, full)),
        ]
        for part in processes
        if part["cache"] == "none" and (part["round"], "full") in found
        for row, full in zip(part["rows"], found[part["round"], "full"], strict=True)
    ]
    columns = ["steps", "round", "no cache", "full cache", "ratio"]
    columns += ["traced", "traced, full cache", "wall clock", "wall clock, full cache"]
    return markdown(columns, rows)


def throughput():
    """Stories a processor's second, before some changes and with them."""
    both = [
        {each["kind"]: each for each in stored(name)["throughput"]["rows"]}
        for name in ("throughput_before", "throughput")
    ]
    rows = [
        [
            kind.upper(),
            *(measured(run[kind]["stories_a_processor_second"]) for run in both),
            *(number(run[kind]["lstm_over_it"]["median"]) for run in both),
        ]
        for kind in both[-1]
    ]
    columns = ["layer", "before, stories a second", "now, stories a second"]
    columns += ["before, LSTM over it", "now, LSTM over it"]
    return markdown(columns, rows)


# Wrong answers of DMN+, a model a task, in percent: Xiong et al. 2016.
DMN_PLUS = {1: 0.0, 2: 0.3, 3: 1.1, 15: 0.0, 16: 45.3, 17: 4.2}
# Wrong answers of D-NTMs with a GRU to all 20 tasks: Gulcehre et al. 2016.
D_NTM = {
    (1, "soft"): 29.5,
    (3, "soft"): 24.2,
    (1, "discrete"): 27.9,
    (3, "discrete"): 21.8,
}


def babi_dynamic_memory():
    """Wrong answers of DynamicMemory to six tasks of bAbI, beside those of DMN+."""
    # A model of one task comes after one of several, and counts.
    runs = sorted(
        map(load, RESULTS.glob("babi_dynamic_memory_*.json")),
        key=lambda run: -len(run["test"]["errors"]),
    )
    ours = {task: (run, e) for run in runs for task, e in run["test"]["errors"].items()}
    rows = []
    for task, paper in DMN_PLUS.items():
        run, error = ours[str(task)]
        rows.append(
            [
                task,
                f"{error:.1%}",
                f"{paper:.1f}%",
                ", ".join(run["test"]["errors"]),
                f"{run['parameters']:,}",
                minutes(run),
                f"`{run['commit']}`",
            ]
        )
    columns = ["task", "DynamicMemory", "DMN+ (Xiong et al.)", "one model of tasks"]
    return markdown([*columns, "parameters", "minutes", "commit"], rows)


def babi_dntm():
    """Wrong answers of four D-NTMs to six tasks of bAbI, and to 20 in the paper."""
    runs = {}
    for run in map(load, sorted(RESULTS.glob("babi_dntm_*.json"))):
        layer = run["recipe"]["layer"]
        runs[layer["reads_per_step"], layer["addressing"]] = run["test"]
    rows = [
        [
            f"{kind[0]}, {kind[1]}",
            *(f"{runs[kind]['errors'][str(task)]:.1%}" for task in DMN_PLUS),
            f"{runs[kind]['error']:.1%}",
            f"{paper:.1f}%",
        ]
        for kind, paper in D_NTM.items()
        if kind in runs
    ]
    columns = ["reads, addressing", *(f"task {task}" for task in DMN_PLUS)]
    return markdown([*columns, "mean", "paper, mean of 20 tasks"], rows)


def babi_dntm_alone():
    """Wrong answers of D-NTMs to tasks that each was trained on alone.

    A task is shown once all kinds have been trained on it.
    """
    errors = {}
    for run in stored("babi_dntm")["runs"].values():
        kind = run["reads_per_step"], run["addressing"]
        errors.setdefault(run["task"], {}).setdefault(kind, []).append(run["error"])
    tasks = [task for task in sorted(errors) if errors[task].keys() == D_NTM.keys()]
    rows = []
    for kind, paper in D_NTM.items():
        means = [np.mean(errors[task][kind]) for task in tasks]
        shown = [f"{mean:.1%}" for mean in (*means, np.mean(means))]
        rows.append([f"{kind[0]}, {kind[1]}", *shown, f"{paper:.1f}%"])
    columns = ["reads, addressing", *(f"task {task}" for task in tasks)]
    return markdown([*columns, "mean", "paper, mean of 20 tasks"], rows)


def span(limits):
    low, high = limits
    return f"{low}" if low == high else f"{low} to {high}"


def minutes(run):
    return f"{run['training_seconds'] / 60:.0f}"


TABLES = {
    function.__name__: function
    for function in (
        commands,
        layers,
        picture,
        times,
        ratios,
        memory,
        long,
        figure,
        peers,
        extrapolated,
        found,
        found_by_scann,
        first_call,
        throughput,
        task_error,
        learning_long,
        strengths,
        frozen,
        load_of_server,
        frozen_programs,
        attacks_on_server,
        embeddings_found,
        embeddings_of_two_models,
        embeddings_alone,
        embeddings_served,
        embeddings_shared,
        longer,
        order_recall,
        recall_curriculum,
        headline,
        dense,
        workers,
        learning,
        models,
        copying,
        learned,
        omniglot,
        omniglot_classes,
        babi,
        babi_seeds,
        babi_three_tasks,
        babi_ablations,
        babi_dynamic_memory,
        babi_dntm,
        babi_dntm_alone,
        mqar,
        mqar_long,
        formal_languages,
        traversal,
        relations,
        shortest_paths,
        search_start,
        copy_tail,
    )
}


def filled(text):
    def fill(match):
        start, call, end = match.groups()
        name, *arguments = shlex.split(call)
        body = TABLES[name](*arguments)
        return start + (f"\n{body}\n" if body else "") + end

    return BLOCK.sub(fill, text)


def main():
    for document in DOCUMENTS:
        document.write_text(filled(document.read_text()))


if __name__ == "__main__":
    main()
