"""The example of a frozen memory of embeddings, and its benchmark, at tiny sizes."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from omniglot_files import write_omniglot
from running import run_script


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture
def example(import_example):
    return import_example("embeddings")


def test_queries_are_of_unseen_drawings(example):
    seen, unseen = np.arange(2 * 4).reshape(2, 4), 100 + np.arange(3 * 4).reshape(3, 4)
    (memory, labels), (queries, answers) = example.split(seen, unseen, 3)
    assert memory.tolist() == [*range(8), 100, 101, 102, 104, 105, 106, 108, 109, 110]
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 3 + [3] * 3 + [4] * 3
    assert queries.tolist() == [103, 107, 111] and answers.tolist() == [2, 3, 4]


def test_recall_counts_slots_in_any_order(example):
    words = np.zeros((6, example.FEATURES + 1))
    words[:, 0] = [0.9, 0.8, 0.1, 0.7, 0.2, 0.6]  # 0, 1, 3 and 5 are the nearest
    words[:, -1] = 5.0  # what is no key does not count
    queries = np.eye(1, example.FEATURES)
    assert example.recall(np.array([[5, 0, 3, 1]]), queries, words) == 1.0
    assert example.recall(np.array([[2, 0, 4, 1]]), queries, words) == 0.5


def test_sam_set_by_hand_scores_the_labels_of_the_nearest_words(
    example, import_example
):
    labelled = import_example("labelled_memory")
    rng = np.random.default_rng(0)
    keys = unit(rng.normal(size=(5, 8, example.FEATURES)))
    lookup = example.Lookup(keys[:3], keys[3:], 6, seed=0)
    assert lookup.words.shape == (36, 128) and len(lookup.queries) == 4
    codes = labelled.label_codes(5, 0)
    layer = labelled.make_memory(36, example.FEATURES, codes)
    start = layer.get_initial_state(4, memory=lookup.words)
    inputs = np.repeat(lookup.queries[:, np.newaxis], 2, axis=1)
    trace = layer.trace(
        inputs, initial_state=start, keep={"memory": lambda state: state.memory}
    )

    similarity = lookup.queries @ unit(lookup.words)[:, : example.FEATURES].T
    slots = np.argsort(-similarity, axis=1)[:, : example.READS]
    weights = np.exp(
        (1.0 + labelled.STRENGTH) * np.take_along_axis(similarity, slots, axis=1)
    )
    weights /= weights.sum(axis=1, keepdims=True)
    values = np.einsum("qk,qkv->qv", weights, codes[lookup.labels[slots]])
    for step in range(2):
        np.testing.assert_array_equal(trace["read_slots"][:, step, 0], slots)
        np.testing.assert_allclose(
            trace["outputs"][:, step], values @ codes.T, atol=1e-5
        )
        words = np.asarray(trace["memory"])[:, step]
        kept = np.tile(np.float32(lookup.words), (4, 1, 1))
        np.testing.assert_array_equal(words, kept)


def test_each_step_of_any_length_is_encoded(example):
    encoder = keras.Sequential([keras.Input((2, 3)), keras.layers.Flatten()])
    drawings = np.random.default_rng(0).normal(size=(2, 4, 2, 3)).astype("float32")
    layer = example.EachStep(encoder)
    spec = tf.TensorSpec([None, None, 2, 3])
    encoded = tf.function(layer, input_signature=[spec])(drawings)
    np.testing.assert_array_equal(encoded, drawings.reshape(2, 4, 6))
    assert layer(keras.Input((None, 2, 3))).shape == (None, None, 6)


@pytest.mark.slow
def test_smoke_of_the_example_and_of_its_benchmark(tmp_path):
    write_omniglot(tmp_path)
    output = run_script(
        *("examples/embeddings.py", "--data", tmp_path, "--output", tmp_path / "run"),
        *("--epochs", "1", "--shots", "1,3"),
    )
    rows = [line.split() for line in output.splitlines() if " lsh " in line]
    assert [row[:2] for row in rows] == [["1", "120"], ["3", "168"]]
    assert "Its label is" in output
    assert (tmp_path / "run" / "retrieved.png").stat().st_size > 5_000
    body = json.loads((tmp_path / "run" / "question.json").read_text())
    model = tf.saved_model.load(tmp_path / "run" / "recognizer" / "1")
    drawing = tf.constant(body["instances"], tf.float32)
    labels = model.signatures["serving_default"](inputs=drawing)["outputs"]
    assert f" {labels.numpy().item()}." in output
    wrong = ("--shots", "1,4", "--data", tmp_path, "--output", tmp_path / "run")
    error = run_script("examples/embeddings.py", *wrong, status=1)
    assert "from 1 to 3" in error and "Traceback" not in error

    results = tmp_path / "results.json"
    run_script(
        *("benchmarks/embeddings.py", "--data", tmp_path, "--output", results),
        *("--encoder", tmp_path / "run" / "encoder.keras", "--shots", "1,3"),
        *("--clients", "1,2", "--seconds", "2", "--rounds", "1"),
    )
    results = json.loads(results.read_text())
    assert results["found"]["rows"][0]["recall"] > 0.99
    assert results["shared"]["other_answers"] == 0
    for rounds in results["served"]["rounds_by_clients"].values():
        assert all(run["failed_or_wrong"] == 0 for (run,) in rounds.values())
    right = results["alone"]["right"]
    assert right["dense product"] == right["ScaNN"]
