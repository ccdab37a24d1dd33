"""The benchmarks' own arithmetic, tables and pictures; each script at tiny sizes."""

import json
import sys
from unittest import mock

import copy_tail
import figure1
import formal_languages
import graph_baseline
import measuring
import numpy as np
import peers
import pytest
import step_cost
import tables
from babi_stories import write_babi
from running import run_script

import keras_sam


def test_the_interval_holds_the_median_with_95_percent():
    # Of six values the probability that all lie on one side is 2 / 64.
    assert measuring.median_interval(range(5)) is None
    assert measuring.median_interval([5, 0, 4, 1, 3, 2]) == (0, 5)
    assert measuring.median_interval(range(10)) == (1, 8)
    draws = np.random.default_rng(0).exponential(size=(2000, 21))
    low, high = np.transpose([measuring.median_interval(draw) for draw in draws])
    covered = np.mean((low <= np.log(2)) & (np.log(2) <= high))
    assert 0.94 < covered < 0.99


def test_memory_is_the_slope_between_processes_that_lived():
    peaks = iter([100, 300, None, 400, 100, 200])
    slope = measuring.memory_slope(lambda length: next(peaks), (10, 20), 3)
    assert slope["bytes_per_step"]["range"] == [10, 20]
    assert measuring.memory_slope(lambda length: None, (10, 20), 2) is None


def test_a_run_replaces_only_its_row_and_hides_paths(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    monkeypatch.setattr(
        sys, "argv", ["/somewhere/peers.py", "--peer-python", "/home/me/bin/python"]
    )
    measuring.store_row(path, "time", "one", {"value": 1})
    measuring.store_row(path, "memory", "one", {"value": 2})
    measuring.store_row(path, "time", "two", {"value": 3})
    measuring.store_row(path, "time", "one", {"value": 4})
    results = json.loads(path.read_text())
    values = {
        part: [row["value"] for row in results[part].values()] for part in results
    }
    assert values == {"time": [4, 3], "memory": [2]}
    command = results["time"]["one"]["command"]
    assert command == "python benchmarks/peers.py --peer-python python"


def test_dense_layers_are_set_against_every_sparse_one():
    cases = [
        {"kind": kind, "index": index, "words": 64, "rounds": [value, value]}
        for kind, index, value in (
            ("sam", "lsh", 1.0),
            ("sam_full", "lsh", 2.0),
            ("lstm", None, 0.5),
            ("ntm", None, 8.0),
        )
    ]
    found = {(each["of"], each["to"]): each for each in step_cost.ratios(cases)}
    assert found["ntm 64", "sam lsh 64"]["median"] == 8
    assert found["ntm 64", "sam_full lsh 64"]["median"] == 4


def test_attention_sees_the_past_alone():
    layer = step_cost.make_layer("attention", None, None)
    inputs = np.random.default_rng(0).normal(size=(1, 6, 16)).astype("float32")
    changed = inputs.copy()
    changed[:, 4] += 1
    before, after = layer(inputs).numpy(), layer(changed).numpy()
    assert before.shape == (1, 6, step_cost.UNITS)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert not np.allclose(before[:, 4:], after[:, 4:])


def synthetic_results():
    """A time and a memory of every line of the figures at two N."""
    results = {"time": {}, "memory": {}}
    for name in figure1.MODELS:
        for words in (64, 2048):
            row = {"model": name, "words": words}
            times, slope = [words / 100] * 3, [1000.0 * words] * 3
            results["time"][f"{name} {words}"] = {
                **row,
                "ms_per_step": measuring.summary(times),
            }
            results["memory"][f"{name} {words}"] = {
                **row,
                "bytes_per_step": measuring.summary(slope),
                "initial_state_bytes": 2**20,
            }
    return results


def test_figure_draws_what_there_is_and_the_papers_points(tmp_path):
    results = synthetic_results()
    results["time"]["ntm 2048"]["left_out"] = "needs about 100 GiB"
    (tmp_path / "figure1.json").write_text(json.dumps(results))
    figure1.draw(tmp_path / "figure1.json")
    assert (tmp_path / "figure1.png").stat().st_size > 20_000
    found = figure1.points(results, "time", "ntm", figure1.SAM_FIGURE)
    assert found == {64: [0.64] * 3}
    # Over the initial state in one figure, with it in the other.
    over = figure1.points(results, "memory", "lsh", figure1.SAM_FIGURE)[64]
    total = figure1.points(results, "memory", "sdnc", figure1.SDNC_FIGURE)[64]
    np.testing.assert_allclose(over, 100 * 64_000 / 2**20, rtol=1e-3)
    np.testing.assert_allclose(total, 1 + 10 * 64_000 / 2**20, rtol=1e-3)


@pytest.mark.parametrize("document", tables.DOCUMENTS, ids=lambda path: path.stem)
def test_the_document_is_what_the_results_say(document):
    text = document.read_text()
    assert tables.BLOCK.search(text)
    assert tables.filled(text) == text


def test_the_table_of_layers_has_all():
    public = (getattr(keras_sam, name) for name in keras_sam.__all__)
    recurrent = {
        layer.__name__
        for layer in public
        if isinstance(layer, type) and issubclass(layer, keras_sam.MemoryRNN)
    }
    others = {"MemoryRNN", "EndToEndMemory", "DynamicMemory"}
    assert recurrent ^ others == set(tables.LAYERS)


def test_a_layer_s_figure_is_that_of_its_run(monkeypatch):
    test = {"error": 0.25, "errors": {"1": 0.2, "15": 0.3}}
    run = {"test": test, "command": "python train.py"}
    monkeypatch.setattr(tables, "stored", lambda name: run)
    figure, command = tables.result_of("DynamicMemory")
    assert figure == "bAbI, tasks 1, 15: 25.0% wrong"
    assert command == "python train.py"
    # Of many runs in one file, one.
    other = {"task": 3, "error": 0.5, "command": "python benchmark.py"}
    run["runs"] = {"another": {}, tables.SHOWN["babi_dntm"]: other}
    assert tables.result_of("DNTM") == ("bAbI, task 3: 50.0% wrong", other["command"])


def test_tables_say_what_did_not_run(monkeypatch):
    summary = measuring.summary([3.0, 3.0, 3.0])
    sam = {"kind": "sam_full", "words": 2**20, "lengths": [8, 32]}
    dense = {"kind": "NTM", "words": 2**18, "lengths": [2, 4]}
    results = {
        "time": {
            "sam_full, lsh index, 1,048,576 words, batch 1": {
                **sam,
                "ms_per_step": measuring.summary([0.5]),
            },
            "torch NTM, 262,144 words": {**dense, "ms_per_step": summary},
            "torch NTM, 1,048,576 words": {
                **dense,
                "words": 2**20,
                "error": "RuntimeError: out of memory",
            },
        }
    }
    monkeypatch.setattr(tables, "stored", lambda name: results)
    assert "does not run: RuntimeError: out of memory" in tables.peers()
    results["time"]["torch NTM, 1,048,576 words"]["error"] = (
        "RuntimeError: you tried to allocate 17179869184 bytes. Error code 12"
    )
    assert "does not run: no memory for 16 GiB |" in tables.peers()
    assert "| torch NTM, 262,144 words | 4 | 3 (3 to 3) | 6 |" in tables.peers()
    # Four times the words, 24 times SAM's step.
    assert "| pytorch-ntm | 262,144 | 12 | 24 |" in tables.extrapolated()


def test_a_package_that_cannot_run_is_reported():
    class Options:
        peer_python = sys.executable
        peer_gib = 4.0

    result = peers.in_torch(
        "measure_peak", Options, None, kind="DNC", words=8, length=2
    )
    assert result == {"error": "the process died"}  # no PyTorch here


@pytest.mark.slow
def test_figure1_smoke(tmp_path):
    output = tmp_path / "figure1.json"
    run_script(
        "benchmarks/figure1.py",
        "--smoke",
        "--only",
        "dam,scann,sdnc",
        "--output",
        output,
    )
    results = json.loads(output.read_text())
    for part, quantity in (("time", "ms_per_step"), ("memory", "bytes_per_step")):
        assert len(results[part]) == 3
        assert all(quantity in row for row in results[part].values())
    assert output.with_suffix(".png").exists()


@pytest.mark.slow
def test_peers_smoke(tmp_path):
    output = tmp_path / "peers.json"
    run_script("benchmarks/peers.py", "--smoke", "--output", output)
    results = json.loads(output.read_text())
    assert len(results["time"]) == len(results["memory"]) == 5


@pytest.mark.slow
def test_task_error_smoke(tmp_path):
    output = tmp_path / "results.json"
    run_script("benchmarks/task_error.py", "--smoke", "--output", output)
    results = json.loads(output.read_text())
    for name in ("long_recall", "long_recall_24", "recall_curriculum_sam"):
        rows = results[name]["rows"]
        assert [row["index"] for row in rows] == ["exact", "lsh"]
        assert all(row["wrong_bits"] == 0.0 for row in rows)


@pytest.mark.slow
def test_babi_ablations_smoke(tmp_path, monkeypatch):
    data, model = tmp_path / "files", tmp_path / "sdnc"
    write_babi(data, but=["qa3_train.txt"])
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    options = ("--task", "babi", "--cell", "sdnc", "--data", data, "--output", model)
    options += ("--stream", "tasks=[1, 4]")
    run_script("examples/train.py", *options, "--smoke")
    output = tmp_path / "results.json"
    options = ("--models", model, "--data", data, "--output", output)
    run_script("benchmarks/babi_ablations.py", *options, "--smoke")
    (part,) = json.loads(output.read_text()).values()
    changes = [row["change"] for row in part["rows"]]
    assert changes == ["as trained", "nothing written", "without links"]
    for row in part["rows"]:
        assert [*row["errors"]] == ["1", "4"]
        assert row["error"] == pytest.approx(np.mean([*row["errors"].values()]), 1e-2)


@pytest.mark.slow
def test_babi_dntm_smoke(tmp_path, monkeypatch):
    write_babi(tmp_path / "files", but=["qa3_train.txt"])
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    output = tmp_path / "results.json"
    options = ("--tasks", "15", "--reads", "1,3", "--addressing", "discrete")
    options += ("--data", tmp_path / "files", "--output", output)
    run_script("benchmarks/babi_dntm.py", *options, "--smoke")
    stored = output.read_text()
    runs = json.loads(stored)["runs"]
    assert [*runs] == [f"task 15, discrete, reads {n}, seed 0" for n in (1, 3)]
    assert all(0.0 <= run["error"] <= 1.0 for run in runs.values())
    # What is stored is not trained again.
    run_script("benchmarks/babi_dntm.py", *options, "--smoke")
    assert output.read_text() == stored


@pytest.mark.slow
def test_mqar_long_smoke(tmp_path):
    output = tmp_path / "results.json"
    run_script("benchmarks/mqar_long.py", "--smoke", "--output", output)
    rows = json.loads(output.read_text())["rows"]
    assert [row["index"] for row in rows] == ["exact", "lsh"]
    for row in rows:
        assert row["accuracy"] == 1.0 and row["us_per_token"] > 0
        assert row["attention_state_size"] == 2 * 2 * 64 * row["tokens"]


@pytest.mark.slow
def test_recall_length_smoke(tmp_path):
    output = tmp_path / "results.json"
    run_script("benchmarks/recall_length.py", "--smoke", "--output", output)
    rows = json.loads(output.read_text())["rows"]
    assert [row["index"] for row in rows] == ["exact", "exact", "lsh", "lsh"]
    assert all(row["wrong"] < 0.01 for row in rows)
    assert output.with_suffix(".png").exists()


def test_a_walker_looks_one_edge_ahead():
    # From 0 to 2: by 1, or astray; whoever stands at 1 sees the end.
    ahead = np.array([[0, 0, 1], [0, 1, 3], [1, 0, 2], [1, 1, 0], [3, 0, 4]])
    steps = graph_baseline.Lesson((5, 5), (1, 2), (2, 2))
    rng = np.random.default_rng(0)
    share = graph_baseline.share_of_walks(rng, steps, 400, graph=ahead)
    # The pairs at two steps: 0 to 2 and 0 to 4 by one edge of two, 1 to 3 by 0, of two.
    assert abs(share - 0.5) < 4.5 * 0.5 / np.sqrt(400)
    near = steps._replace(length=(1, 1))
    assert graph_baseline.share_of_walks(rng, near, 20, graph=ahead) == 1.0


def test_the_heads_of_a_copying_model_begin_at_the_first_vectors():
    problem, model = copy_tail.trained(copy_tail.ROOT / "saved_models" / "copy_sdnc")
    stream = problem.stream(0, batch_size=3, min_length=4, max_length=4)
    inputs, targets, weights = next(stream.as_numpy_iterator())
    begun = copy_tail.starts(model.get_layer("memory"), inputs, first=5)
    assert begun == [[0, 1, 0, 0]] * 3
    # One wrong bit is counted, and none where no answer is asked for.
    assert not copy_tail.wrong_bits(model, inputs, targets, weights).any()
    targets = targets.copy()
    targets[1, 6, 2] = 1 - targets[1, 6, 2]
    targets[:, 0] = 1 - targets[:, 0]
    wrong = copy_tail.wrong_bits(model, inputs, targets, weights)
    np.testing.assert_array_equal(wrong, [0, 1, 0])


@pytest.mark.slow
def test_copy_tail_smoke(tmp_path):
    output = tmp_path / "results.json"
    run_script("benchmarks/copy_tail.py", "--smoke", "--output", output)
    results = json.loads(output.read_text())
    assert results["usual_start"] == [0, 1, 0, 0]
    assert results["bit_errors"] == 0.0 and results["failures"] == []


@pytest.mark.slow
def test_search_start_smoke(tmp_path):
    output = tmp_path / "results.json"
    run_script("benchmarks/search_start.py", "--smoke", "--output", output)
    shares = json.loads(output.read_text())["underground"]
    assert shares["marks"]["2"] == 1.0 and 0.0 <= shares["no marks"]["2"] <= 1.0
    assert output.with_suffix(".png").stat().st_size > 10_000


@pytest.mark.slow
def test_formal_languages_smoke(tmp_path):
    output = tmp_path / "results.json"
    options = ("--smoke", "--seeds", "3", "--output", output)
    run_script("benchmarks/formal_languages.py", *options)
    runs = json.loads(output.read_text())["runs"]
    assert len(runs) == 10 and all(run["seed"] == 3 for run in runs.values())
    assert all(0.0 <= run["right"] <= 1.0 for run in runs.values())
    assert output.with_suffix(".png").stat().st_size > 20_000


def test_the_share_that_is_right_is_the_mean_over_lengths(monkeypatch):
    monkeypatch.setattr(formal_languages, "SPLITS", 4)
    lengths, *strings = formal_languages.test_set("a^n b^m c^(n+m)", 4)
    assert lengths.tolist() == [2] * 4 + [3] * 4 + [4] * 4
    predicted = strings[1].copy()
    # A wrong guess counts at a step that could be known alone.
    predicted[5] = 1.0 - predicted[5]
    predicted[8:, 0] = 1.0 - predicted[8:, 0]
    model = mock.Mock()
    model.predict = lambda inputs, batch_size, verbose: predicted
    found = formal_languages.share_right(model, lengths, *strings)
    assert found == pytest.approx((1 + 3 / 4 + 1) / 3)


@pytest.mark.slow
def test_scann_step_smoke(tmp_path):
    output = tmp_path / "scann_step.json"
    run_script("benchmarks/scann_step.py", "--smoke", "--output", output)
    rows = json.loads(output.read_text())["time"]["table"]
    assert [row["what"] for row in rows] == [
        *("step, scann", "step, exact", "index alone, scann")
    ]


@pytest.mark.slow
def test_workers_smoke(tmp_path):
    output = tmp_path / "workers.json"
    run_script("benchmarks/workers.py", "--smoke", "--output", output)
    (case,) = json.loads(output.read_text())["steps_per_second"]["cases"].values()
    speeds = [case[name]["median"] for name in ("one_process", "two_workers")]
    np.testing.assert_allclose(case["gain"]["median"], speeds[1] / speeds[0], rtol=2e-3)


@pytest.mark.slow
def test_first_call_smoke(tmp_path):
    output = tmp_path / "first_call.json"
    run_script("benchmarks/first_call.py", "--smoke", "--output", output)
    filled, none, full = json.loads(output.read_text())["first_call"]["processes"]
    assert [each["cache"] for each in (filled, none, full)] == [
        "filled",
        "none",
        "full",
    ]
    for process in (filled, none, full):
        (row,) = process["rows"]
        assert 0 < row["tracing_seconds"] < row["first_seconds"]
        assert row["gradient_norm"] == none["rows"][0]["gradient_norm"]


@pytest.mark.slow
def test_throughput_smoke(tmp_path):
    output = tmp_path / "throughput.json"
    run_script("benchmarks/throughput.py", "--smoke", "--output", output)
    sam, lstm = json.loads(output.read_text())["throughput"]["rows"]
    assert sam["stories_a_processor_second"]["median"] > 0
    assert lstm["lstm_over_it"]["median"] == 1.0


@pytest.mark.slow
def test_strengths_smoke(tmp_path):
    output = tmp_path / "results.json"
    run_script("benchmarks/strengths.py", "--smoke", "--output", output)
    rows = json.loads(output.read_text())["strengths"]["rows"]
    assert [row["clip_value"] for row in rows] == [20.0, None, None, None]
    # Of 8 bits; a memory that is exactly full loses a few.
    assert all(row["wrong_bits"][0] < 0.5 for row in rows)


@pytest.mark.slow
def test_step_cost_smoke(tmp_path):
    output = tmp_path / "step_cost.json"
    run_script(
        "benchmarks/step_cost.py",
        "--smoke",
        "--only",
        "sam_full,gru,dam",
        "--output",
        output,
    )
    results = json.loads(output.read_text())
    assert {"time", "memory", "rows", "long"} <= set(results)
