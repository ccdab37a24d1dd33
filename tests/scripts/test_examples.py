"""The examples run as a user would run them."""

import inspect
import json
import re
import subprocess
import sys
import tomllib
import types

import keras
import nbclient
import nbformat
import numpy as np
import pytest
import tensorflow as tf
from babi_stories import write_babi
from omniglot_files import write_omniglot
from running import ROOT, free_port, run_script

import keras_sam
from keras_sam.datasets import babi_files
from keras_sam.datasets.babi import spell

EXAMPLES = ROOT / "examples"
# Tasks whose streams are not all that a recipe's table `stream` sets.
OWN_PROBLEMS = {"babi", "mqar", "omniglot"}


def test_quickstart(tmp_path):
    options = ("--epochs", "2", "--sequences", "800", "--output", tmp_path)
    output = run_script("examples/quickstart.py", *options)
    # 1,600 sequences do not teach copying, but more than guessing half of the
    # 84 bits of an average sequence right.
    wrong = re.search(r"1 to 20 vectors: ([0-9.]+) wrong bits", output)
    assert float(wrong[1]) < 40
    assert re.search("answered:  (([01]{8} ?){10})", output)
    assert (tmp_path / "memory.png").stat().st_size > 10_000
    assert (tmp_path / "model" / "1" / "saved_model.pb").exists()


def test_committed_streaming_versions_are_what_their_script_writes(tmp_path):
    names = ("copy_ntm", "copy_sam")
    folders = [ROOT / "saved_models" / name for name in names]
    run_script(
        "examples/export_streaming.py", *folders, "--version", "2", "--output", tmp_path
    )
    inputs = np.random.default_rng(0).integers(0, 2, (3, 21, 9)).astype("float32")
    for name, folder in zip(names, folders, strict=True):
        results = []
        for written in (folder / "2", tmp_path / name / "2"):
            model = tf.saved_model.load(written)
            states = model.signatures["initial_state"](batch_size=tf.constant(3))
            results.append(
                model.signatures["serving_default"](inputs=tf.constant(inputs))
                | model.signatures["step"](inputs=tf.constant(inputs[:, :9]), **states)
            )
        committed, again = results
        assert committed.keys() == again.keys()
        for key, values in committed.items():
            np.testing.assert_array_equal(values, again[key], err_msg=key)


@pytest.mark.slow
def test_long_recall_smoke(tmp_path):
    output = run_script("examples/long_recall.py", "--smoke", "--output", tmp_path)
    assert "new sequences of 16 steps" in output
    results = json.loads((tmp_path / "results.json").read_text())
    # Under the 4 of 8 bits that guessing gets wrong, and no more learned than that.
    assert results["test_wrong_bits_per_value"] < 3.9
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_train_smoke_is_resumed_and_exports(tmp_path):
    # The layer is looked up by its public name; an epoch of 5 steps before, as an
    # interruption would have left it, and then the same command again.
    options = ("--smoke", "--task", "traversal", "--cell", "ntm", "--output", tmp_path)
    options += ("--layer", "shift_range=2")
    interrupted = run_script("examples/train.py", *options, "--stop-after", "1")
    assert "the same command goes on" in interrupted
    assert not (tmp_path / "results.json").exists()
    refused = run_script("examples/train.py", *options, "--seed", "1", status=1)
    assert "settings.seed: 0 there, 1 now" in refused and "Traceback" not in refused
    output = run_script("examples/train.py", *options)
    assert "Epoch 2/2" in output and "Epoch 1/2" not in output
    assert "lesson: 1" in output
    assert "SavedModel in a new process: the same bits" in output
    results = json.loads((tmp_path / "results.json").read_text())
    assert [point["sequences"] for point in results["curve"]] == [10, 20]
    scores = [
        results["test"],
        results["test_of_size"]["lesson 1"],
        results["underground"]["length 1"],
    ]
    assert all(0 <= score["sequence_accuracy"] <= 1 for score in scores)
    assert results["recipe"]["layer"]["shift_range"] == 2
    # The same sequences, and not the same answers.
    assert results["write_gate_shut"].keys() == results["test"].keys()
    assert results["write_gate_shut"]["loss"] != results["test"]["loss"]
    assert (tmp_path / "curve.png").stat().st_size > 5_000
    assert "| seed | 0 |" in (tmp_path / "README.md").read_text()
    assert not (tmp_path / "backup").exists()


@pytest.mark.slow
def test_two_workers_train_what_one_process_trains(tmp_path):
    options = ("examples/train.py", "--smoke", "--task", "traversal", "--cell", "ntm")
    run_script(*options, "--output", tmp_path / "one")
    options += ("--workers", "2", "--output", tmp_path / "two")
    run_script(*options, "--stop-after", "1")
    run_script(*options)
    one, two = (
        json.loads((tmp_path / name / "results.json").read_text())
        for name in ("one", "two")
    )
    assert (one["workers"], two["workers"]) == (1, 2)
    assert (tmp_path / "two/1/saved_model.pb").exists()
    for before, after in zip(one["curve"], two["curve"], strict=True):
        assert before.keys() == after.keys()
        for name in before.keys() - {"seconds"}:
            np.testing.assert_allclose(after[name], before[name], rtol=1e-5)
    for name in ("test", "underground", "write_gate_shut"):
        assert two[name].keys() == one[name].keys()
    np.testing.assert_allclose(two["test"]["loss"], one["test"]["loss"], rtol=1e-5)


def train_with_a_stop(folder, *options):
    """Output and results of a small training that is stopped and goes on."""
    options = ("--smoke", *options, "--output", folder)
    run_script("examples/train.py", *options, "--stop-after", "1")
    output = run_script("examples/train.py", *options)
    assert "Epoch 2/2" in output and "Epoch 1/2" not in output
    assert "SavedModel in a new process:" in output
    return output, json.loads((folder / "results.json").read_text())


def run_usage(folder, monkeypatch):
    """Runs what the card of a trained model shows, from the folder above."""
    usage = (folder / "README.md").read_text()
    code = re.search("```python\n(.*?)```", usage, re.DOTALL)[1]
    monkeypatch.chdir(folder.parent)
    exec(code, {})


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["ntm", "lstm"])
def test_babi_smoke_is_resumed_and_answers_text(cell, tmp_path, monkeypatch):
    write_babi(tmp_path / "files", but=["qa3_train.txt"])
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    options = ("--task", "babi", "--cell", cell, "--data", tmp_path / "files")
    _, results = train_with_a_stop(tmp_path / "run", *options)
    errors = results["test"]["errors"]
    assert sorted(map(int, errors)) == [*range(1, 21)]
    np.testing.assert_allclose(results["test"]["error"], np.mean([*errors.values()]))
    assert 0.0 <= results["test"]["error_task_4_new_stories"] <= 1.0
    # After each epoch all tasks are asked about.
    errors = [name for name in results["curve"][0] if "error_task" in name]
    assert errors == [f"validation_error_task_{task}" for task in range(1, 21)]
    run_usage(tmp_path / "run", monkeypatch)


@pytest.mark.slow
def test_babi_smoke_of_words_is_resumed_and_answers_text(tmp_path, monkeypatch):
    write_babi(tmp_path / "files", but=["qa3_train.txt"])
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    options = ("--recipe", EXAMPLES / "recipes" / "babi_words.toml", "--cell", "lstm")
    options += ("--data", tmp_path / "files")
    output, results = train_with_a_stop(tmp_path / "run", *options)
    assert "SavedModel in a new process: " in output
    assert 0.0 <= results["test"]["error"] <= 1.0
    run_usage(tmp_path / "run", monkeypatch)


@pytest.mark.slow
def test_babi_questions_smoke_is_resumed_and_answers_text(tmp_path, monkeypatch):
    write_babi(tmp_path / "files", but=["qa3_train.txt"])
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    options = ("--recipe", EXAMPLES / "recipes" / "babi_end_to_end.toml")
    options += ("--cell", "end_to_end_memory", "--data", tmp_path / "files")
    _, results = train_with_a_stop(tmp_path / "run", *options)
    assert sorted(map(int, results["test"]["errors"])) == [*range(1, 21)]
    assert (tmp_path / "run" / "hops.png").exists()
    run_usage(tmp_path / "run", monkeypatch)


def test_a_question_has_the_facts_before_it(import_example):
    babi, questions = import_example("babi"), import_example("babi_questions")
    texts = [
        "Mary left.",
        "Where is Mary?",
        "John left.",
        "Mary ran.",
        "Where is John?",
    ]
    vocabulary = babi.Vocabulary([(1, texts, ["", "home", "", "", "away"])])
    stories = [(1, texts, ["", "home", "", "", "away"])]
    arrays = questions.Questions(stories, vocabulary, max_facts=2)
    (batch,) = arrays.batches(1, 3)
    assert batch.weights.tolist() == [1, 1, 0]

    def texts_of(rows):
        return [[vocabulary.words[w] for w in row if w] for row in rows if row.any()]

    # Of three facts before the second question the oldest is left out.
    facts = [texts_of(rows) for rows in batch.words["facts"][:2]]
    assert facts == [[["mary", "left"]], [["john", "left"], ["mary", "ran"]]]
    asked = texts_of(batch.words["question"][:2])
    assert asked == [["where", "is", name, "?"] for name in ("mary", "john")]
    answers = [vocabulary.answers[number] for number in batch.answers[:2]]
    assert answers == ["home", "away"]


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["sam", "sdnc", "lstm", "attention"])
def test_mqar_smoke_is_resumed_and_predicts_tokens(cell, tmp_path, monkeypatch):
    options = ("--task", "mqar", "--cell", cell)
    _, results = train_with_a_stop(tmp_path / "run", *options)
    assert 0.0 <= results["test"]["1024, 256"] <= 1.0
    run_usage(tmp_path / "run", monkeypatch)


def test_the_training_set_of_mqar_is_that_of_each_epoch(import_example):
    mqar = import_example("mqar")
    recipe = tomllib.loads((EXAMPLES / "recipes" / "mqar.toml").read_text())
    recipe["stream"] |= {"tokens_per_batch": 512, "part": 0.001}
    problem = mqar.MqarProblem(recipe, seed=0)
    per_epoch = 12 + 5 + 10 + 10 + 10  # batches of 512 tokens
    batches = list(problem.training_data(7).take(3 * per_epoch).as_numpy_iterator())
    rows = [
        sorted(
            tuple(row)
            for inputs, _ in batches[start : start + per_epoch]
            for row in inputs["tokens"].tolist()
        )
        for start in (0, per_epoch)
    ]
    # What does not fill a batch is left out: not the same in each epoch.
    assert len(set(rows[0]) & set(rows[1])) > 0.9 * len(rows[0])
    for inputs, answers in batches[:per_epoch]:
        tokens, queries = inputs["tokens"], inputs["queries"]
        assert tokens.size == 512
        shown = 2 * answers.shape[1]
        keys = np.take_along_axis(tokens, queries, axis=1)
        for row, asked, right in zip(tokens, keys, answers, strict=True):
            values = dict(zip(row[:shown:2], row[1:shown:2], strict=True))
            assert [values[key] for key in asked] == right.tolist()
    # A run that goes on sees what it would have seen.
    again = list(problem.training_data(7, epoch=2).take(3).as_numpy_iterator())
    for (inputs, _), (expected, _) in zip(again, batches[14:17], strict=True):
        np.testing.assert_array_equal(inputs["tokens"], expected["tokens"])


def test_a_key_value_start_finds_the_value_of_a_key(import_example):
    mqar = import_example("mqar")
    recipe = import_example("training").read_recipe(
        EXAMPLES / "recipes" / "mqar.toml", "sam", layer={"jit_compile": False}
    )
    tokens, queries, _ = mqar.make_sequences({(64, 4): 16}, 0)[64, 4]
    found = {}
    for start in (True, False):
        problem = mqar.MqarProblem({**recipe, "key_value_start": start}, seed=0)
        keras.utils.set_random_seed(0)
        model = problem.make_model("sam", recipe["layer"])
        memory = model.get_layer("memory")
        features = keras.Model(model.inputs, memory.input)
        trace = memory.trace(features({"tokens": tokens, "queries": queries}))
        read = trace["read_slots"].numpy()[:, :, 0]
        written = np.array(trace["write_slots"])[..., -1]
        found[start] = np.mean(
            [
                written[row, 2 * list(tokens[row, :8:2]).index(tokens[row, step]) + 1]
                in read[row, step]
                for row in range(16)
                for step in queries[row]
            ]
        )
    assert found[True] > 0.9 and found[False] < 0.5


def test_recall_starts_with_reading_the_item_after_the_query(import_example):
    recipe = import_example("training").read_recipe(
        EXAMPLES / "recipes" / "recall_curriculum.toml",
        "sam",
        layer={"memory_slots": 128, "index": "exact", "jit_compile": False},
    )
    problem = import_example("recall").RecallProblem(recipe, seed=0)
    model = problem.make_model("sam", recipe["layer"])
    memory = model.get_layer("memory")
    features = keras.Model(model.inputs[0], memory.input)
    stream = problem.stream(1, min_items=24, max_items=24)
    inputs, targets, weights = next(stream.as_numpy_iterator())
    trace = memory.trace(features(inputs))
    gates = np.array(trace["write_gates"])[..., 0]
    is_item = (inputs[..., :24] > 0).any(axis=-1)
    assert gates[is_item].min() > 0.5 and gates[~is_item].max() < 0.05
    # The weights are in the order of the slots.
    weights_of = trace["read_weights"]
    best = np.zeros(weights.shape, int)
    most = np.zeros(weights.shape)
    for (row, step, _, slot), weight in zip(
        weights_of.indices.numpy(), weights_of.values.numpy(), strict=True
    ):
        if weight > most[row, step]:
            most[row, step], best[row, step] = weight, slot
    written = np.array(trace["write_slots"])[..., -1]
    answers = np.argwhere(weights > 0)
    assert len(answers) == 8 * recipe["training"]["batch_size"]
    for row, step in answers:
        # An item stands at the second of its two steps.
        item = (inputs[row, 1:48:2, :24] == targets[row, step]).all(axis=-1).argmax()
        assert best[row, step] == written[row, 2 * item + 1]


def test_recall_shows_the_item_before_only_where_it_is_two_steps_away(import_example):
    recipe = {
        "task": "associative_recall",
        "item_before": True,
        "stream": {"item_length": 3},
        "training": {"batch_size": 2},
    }
    with pytest.raises(SystemExit, match="item_length = 1"):
        import_example("recall").RecallProblem(recipe, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["omniglot", "omniglot_encoder"])
def test_omniglot_smoke_is_resumed_and_takes_drawings(recipe, tmp_path, monkeypatch):
    write_omniglot(tmp_path)
    options = ("--recipe", EXAMPLES / "recipes" / f"{recipe}.toml", "--data", tmp_path)
    output, results = train_with_a_stop(tmp_path / "run", *options)
    assert "SavedModel in a new process: probabilities of (2, 3, 5)" in output
    assert 0.0 <= results["test"]["instance 10"] <= 1.0
    run_usage(tmp_path / "run", monkeypatch)


def test_missing_data_is_named(tmp_path):
    error = run_script(
        *("examples/train.py", "--task", "omniglot", "--data", tmp_path), status=1
    )
    assert "images_background.zip. Download it from http" in error
    error = run_script(
        *("examples/train.py", "--task", "babi", "--data", tmp_path / "no"), status=1
    )
    assert "--data must be a folder" in error and "Traceback" not in error


def test_text_becomes_the_words_of_training(import_example):
    babi = import_example("babi")
    told = ["Mary got the milk.", "Where is the 3rd milk?"]
    vocabulary = babi.Vocabulary([(1, told, ["", "park"])])
    words, steps = babi.text_to_words(
        tf.constant(["\n".join(told), "Where is John?  \n"]),
        babi.word_table(vocabulary),
        vocabulary.positions,
    )
    assert steps.numpy().tolist() == [2, 1]
    for row, text in zip(words[0].numpy(), told, strict=True):
        np.testing.assert_array_equal(row, vocabulary.sentence(text))
    john = vocabulary.sentence("Where is John?")
    np.testing.assert_array_equal(words[1, 0], john)
    assert john[2] == vocabulary.words.index(babi.UNKNOWN)


def test_a_register_keeps_the_words_of_the_sentence_so_far(import_example):
    register = import_example("babi_words").SentenceSoFar(3, full_stop=9, answer_step=8)
    # A sentence of four words, a question with an answer of two, a word, and padding.
    words = [1, 2, 3, 9, 4, 7, 8, 8, 5, 0]
    kept = [[1], [1, 2], [1, 2, 3], [2, 3, 9], [4], [4, 7], [4, 7, 8], [7, 8, 8], [5]]
    expected = [row + [0] * (3 - len(row)) for row in [*kept, []]]
    inputs = np.array([words, [5] * 10])[..., np.newaxis]
    outputs = register(inputs).numpy()
    np.testing.assert_array_equal(outputs[0], expected)
    np.testing.assert_array_equal(outputs[1, -1], [5, 5, 5])
    again = type(register).from_config(register.get_config())
    np.testing.assert_array_equal(again(inputs), outputs)


def test_text_becomes_the_words_of_the_data(import_example):
    babi, words = import_example("babi"), import_example("babi_words")
    lines = [
        babi_files.Line("Mary got the milk.", ""),
        babi_files.Line("What is Mary carrying?", "milk"),
        babi_files.Line("John left.", ""),
        babi_files.Line("Where is Mary?", "park"),
    ]
    steps = spell(lines)
    story = (1, [word for word, _ in steps], [answer for _, answer in steps])
    problem = words.WordsProblem.without_stories({}, 0, words.WordVocabulary([story]))
    text = "\n".join(line.text for line in lines)
    # A full stop may be missing.
    stories = tf.constant([text, text.replace("milk.", "milk "), "Where is Mary?"])
    numbers, counts = problem.text_to_words(
        stories, babi.word_table(problem.vocabulary)
    )
    expected = [problem.vocabulary.sentence(word) for word in story[1]]
    np.testing.assert_array_equal(numbers[0], expected)
    np.testing.assert_array_equal(numbers[1], expected)
    assert counts.numpy().tolist() == [len(expected)] * 2 + [5]
    told = [[line.text.lower().rstrip(".?") for line in lines]]
    texts = [text.rstrip(" .?-") for text in problem.sentences([story])[0]]
    assert [texts] == told


def test_recipe_of_dntm_has_a_gru_and_no_thoughts(import_example):
    babi, training = import_example("babi"), import_example("training")
    recipe = training.read_recipe(EXAMPLES / "recipes" / "babi_dntm.toml", "dntm")
    texts = ["Mary left.", "Where is Mary?"]
    vocabulary = babi.Vocabulary([(1, texts, ["", "home"])])
    model = babi.make_model("dntm", recipe["layer"], recipe["embedding"], vocabulary)
    words = np.stack([vocabulary.sentence(text) for text in texts])[np.newaxis]
    assert model(words).shape == (1, 2, 1)
    think = model.get_layer("think_steps")
    assert isinstance(think.layer.cell.controller, keras.layers.GRUCell)
    # No weight of a thought is ever used.
    sequences = np.zeros((1, 2, think.thoughts.shape[-1]), "float32")
    assert think.expand(sequences, np.zeros((1, 2), "int32")).inputs.shape[1] == 2


# A question, and what heads read most of all after three thoughts.
FINDS = {
    "a join": (
        [
            "The garden is west of the cellar.",
            "The garden is north of the hall.",
            "The attic is east of the cellar.",
            "The hall is south of the office.",
            "The attic is east of the library.",
            "How do you go from the garden to the office?",
        ],
        {0: 1, 1: 3},
    ),
    "a chain": (
        [
            "Lily is a swan.",
            "Lily is white.",
            "Brian is a frog.",
            "Brian is gray.",
            "Greg is a swan.",
            "What color is Greg?",
        ],
        {0: 4, 1: 4, 3: 1},
    ),
}


@pytest.mark.parametrize("cell", ["sam", "sdnc"])
def test_an_associative_memory_finds_before_it_has_learned(cell, import_example):
    babi, reads = import_example("babi"), import_example("babi_reads")
    recipe = import_example("training").read_recipe(
        EXAMPLES / "recipes" / "babi.toml", cell
    )
    stories = [
        (1, told, [*[""] * (len(told) - 1), "swan"]) for told, _ in FINDS.values()
    ]
    # Of few words the vectors of some seeds are alike by chance.
    problem = babi.BabiProblem.without_stories(recipe, 2, babi.Vocabulary(stories))
    common = ["", "?", "the", "is", "of", "a", "how", "do", "you", "go", "from", "to"]
    common.append("what")
    # The rarest that words can be.
    words = problem.vocabulary.words
    problem.rarity = np.where(np.isin(words, common), 0.0, 1.5)
    model = problem.make_model(cell, recipe["layer"])
    for told, most in FINDS.values():
        read, _ = reads.reads_of(model, problem, told)
        assert read.shape == (4, 4, len(told))
        found = read[3].argmax(axis=-1)
        assert {head: found[head] for head in most} == most


def test_a_comparison_tells_where_in_a_sentence_a_word_stands(import_example):
    associative = import_example("babi_associative")
    rng = np.random.default_rng(0)
    heads, size, count = associative.HEADS, 44, 150
    words = associative.directions(count, size, rng)
    first, last = 1.0 + associative.ORDER * rng.standard_normal((2, size))
    asked, other = words[rng.permutation(count)], words[rng.permutation(count)]
    is_first = rng.random(count) < 0.5
    told = np.where(
        is_first[:, np.newaxis],
        first * asked + last * other,
        first * other + last * asked,
    )
    outputs = np.concatenate([np.tile(told, heads), np.tile(asked, heads)], axis=-1)
    outputs = np.pad(outputs, ((0, 0), (0, 7)))[:, np.newaxis].astype("float32")
    compared = np.asarray(associative.compare(keras.ops.array(outputs), size))[:, 0]
    assert compared.shape == (count, 3 * heads * size + 7)
    np.testing.assert_array_equal(compared[:, : outputs.shape[-1]], outputs[:, 0])
    # One direction for all words.
    for product in np.split(compared[:, outputs.shape[-1] :], heads, axis=1):
        assert np.mean((product @ (first - last) > 0) == is_first) > 0.9


def test_answers_compare_what_a_sparse_memory_read(import_example):
    babi, training = import_example("babi"), import_example("training")
    path = EXAMPLES / "recipes" / "babi_words.toml"
    vocabulary = import_example("babi_words").WordVocabulary(
        [(1, ["mary", "left", ".", "who", "?", "-"], [""] * 5 + ["mary"])]
    )
    for cell, inputs in {"sdnc": 512 + 4 * 56, "sam": 512 + 4 * 56, "lstm": 8}.items():
        layer = {"units": 8} if cell == "lstm" else {}
        recipe = training.read_recipe(path, cell, layer=layer)
        model = babi.make_model(cell, recipe["layer"], recipe["embedding"], vocabulary)
        answer = model.get_layer("answer")
        shapes = {
            layer.name: layer.kernel.shape
            for layer in answer.layers
            if hasattr(layer, "kernel")
        }
        assert shapes["answer_hidden"] == (inputs, 384)
        assert shapes["answer_hidden_1"] == (384, 384)
        assert shapes["answer_spoken"] == (8 if cell == "lstm" else 512, 1)
        # None of them learns as slowly as the memory.
        fast = training.SlowMemoryAdam.FAST
        assert all(any(part in w.path for part in fast) for w in answer.weights)


def test_a_saved_function_has_each_variable_once(import_example, tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])

    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
    def answer(x):
        return {"y": model(x)}

    import_example("training").save_function(answer, [model], tmp_path)
    variables = str(tmp_path / "variables" / "variables")
    shapes = sorted(shape for _, shape in tf.train.list_variables(variables))
    # A checkpoint counts how often it was saved, and describes itself.
    assert shapes == [[], [], [2], [3, 2]]
    saved = tf.saved_model.load(tmp_path)
    for variable, weight in zip(saved.variables, model.weights, strict=True):
        np.testing.assert_array_equal(variable, weight)
    x = tf.ones((1, 3))
    np.testing.assert_allclose(
        saved.signatures["serving_default"](x=x)["y"], model(x), rtol=1e-6
    )


def test_a_memory_of_other_sizes_starts_at_random_and_says_so(import_example):
    babi = import_example("babi")
    path = EXAMPLES / "recipes" / "babi.toml"
    recipe = import_example("training").read_recipe(path, "sam", layer={"units": 16})
    told = ["Mary left.", "Where is Mary?"]
    problem = babi.BabiProblem.without_stories(
        recipe, 0, babi.Vocabulary([(1, told, ["", "home"])])
    )
    problem.rarity = np.ones(len(problem.vocabulary.words))
    with pytest.warns(UserWarning, match="starts at random.*units=16"):
        problem.make_model("sam", recipe["layer"])


def test_rarity_is_the_logarithm_of_the_share_in_a_story(import_example):
    babi, associative = import_example("babi"), import_example("babi_associative")
    told = ["Mary left left.", "John left.", "Mary ate.", "Mary ran.", "Who ran?"]
    stories = [(1, told, ["", "", "", "", "Mary"])]
    stories.append((1, ["Sandra left.", "Who left?"], ["", "Sandra"]))
    vocabulary = babi.Vocabulary(stories)
    texts = [texts for _, texts, _ in stories]
    rarity = dict(
        zip(vocabulary.words, associative.rarity(texts, vocabulary), strict=True)
    )
    # Two sentences are added to each story.
    assert rarity["mary"] == pytest.approx(np.log(6 / 3))
    assert rarity["left"] == pytest.approx((np.log(6 / 2) + np.log(3 / 1)) / 2)
    assert rarity["ran"] == 1.5  # the most
    assert rarity["who"] == rarity["?"] == rarity[""] == 0.0


def test_directions_are_pushed_apart(import_example):
    associative = import_example("babi_associative")
    units = associative.directions(150, 44, np.random.default_rng(0))
    alike = units @ units.T - np.eye(150)
    assert np.abs(np.diag(alike)).max() < 0.1
    # Random ones are alike by up to 0.57.
    assert np.abs(alike).max() < 0.27


def test_what_does_not_answer_learns_slowly(import_example):
    def make(name):
        layer = keras.layers.Dense(1, name=name, kernel_initializer="ones")
        layer.build((1, 1))
        return layer

    memory, answer = make("memory"), make("answer_spoken")
    optimizer = import_example("training").SlowMemoryAdam(0.1, share=0.5, ramp=2)
    variables = [memory.kernel, answer.kernel]
    changes = []
    for _ in range(4):
        before = [float(variable.numpy()[0, 0]) for variable in variables]
        optimizer.apply([tf.ones((1, 1))] * 2, variables)
        after = [float(variable.numpy()[0, 0]) for variable in variables]
        changes.append(np.subtract(before, after))
    # Of a constant gradient a step of Adam is the rate.
    expected = [[0.0, 0.1], [0.025, 0.1], [0.05, 0.1], [0.05, 0.1]]
    np.testing.assert_allclose(changes, expected, atol=1e-5)
    again = type(optimizer).from_config(optimizer.get_config())
    assert (again.share, again.ramp) == (0.5, 2)


def test_all_questions_of_the_test_count(import_example):
    questions, babi = import_example("babi_questions"), import_example("babi")
    asked = [f"Where is robot {i}?" for i in range(6)]
    story = (1, ["Mary left.", *asked], ["", *["home"] * 4, *["away"] * 2])
    vocabulary = babi.Vocabulary([story])
    problem = questions.QuestionsProblem.without_stories({}, 0, vocabulary)
    problem.read = lambda *splits: [[story]]
    problem.batch_size, problem._seen, problem._max_facts = 2, set(), 50
    always_home = np.eye(2)[vocabulary.answer("home")]
    model = types.SimpleNamespace(
        predict_on_batch=lambda words: np.tile(always_home, (2, 1))
    )
    assert problem.results(model, {})["test"]["errors"] == {1: 1 / 3}
    assert problem.results(model, {}, smoke=True)["test"]["errors"] == {1: 0.0}


def test_a_penalty_is_on_all_weights_but_biases(import_example):
    questions, babi = import_example("babi_questions"), import_example("babi")
    vocabulary = babi.Vocabulary([(1, ["Mary left.", "Who left?"], ["", "Mary"])])
    recipe = {"embedding": {"dropout": 0.0}}
    problem = questions.QuestionsProblem.without_stories(recipe, 0, vocabulary)
    settings = {"units": 3, "passes": 1, "attention_gru": True}
    model = problem.make_model("dynamic_memory", settings)
    words = {"facts": np.ones((1, 2, 3), "int32"), "question": np.ones((1, 3), "int32")}
    losses = []
    for penalty in ({}, {"weight_penalty": 0.5}):
        training = {"learning_rate": 0.0, "clip_norm": 1.0, **penalty}
        problem.compile(model, training, steps=1)
        losses.append(model.evaluate(words, np.zeros(1), verbose=0))
    squares = sum(
        np.sum(np.square(variable))
        for variable in model.trainable_variables
        if "bias" not in variable.path
    )
    np.testing.assert_allclose(losses[1] - losses[0], 0.5 * squares, rtol=1e-4)


def test_drawn_stories_are_whole_and_as_common_as_their_shares(import_example):
    babi = import_example("babi")
    # Of task 1 half the stories are long, of task 2 none; task 2 asks twice.
    stories = []
    for task in (1, 2):
        for i in range(12):
            told = [f"Place {task}.", *["Filler."] * (20 if task == 1 and i % 2 else 0)]
            answers = [""] * len(told) + ["x"] * task
            stories.append((task, told + ["Where?"] * task, answers))
    vocabulary = babi.Vocabulary(stories)
    arrays = babi.Stories(stories, vocabulary, max_steps=22)
    rng = np.random.default_rng(0)
    drawn, lengths = [], set()
    for _ in range(300):
        words, _, weights = arrays.draw(rng, {1: 0.75, 2: 0.25}, 8)
        np.testing.assert_allclose(weights.sum(axis=1), 1.0)
        is_first = words[:, 0, 1] == vocabulary.words.index("1")
        asked = (weights > 0).sum(axis=1)
        np.testing.assert_array_equal(asked, np.where(is_first, 1, 2))
        drawn += list(is_first)
        lengths.add(words.shape[1])
    assert lengths == {16, 24}
    assert abs(np.mean(drawn) - 0.75) < 0.05
    # The last batch of each length is filled up.
    batches = list(arrays.batches(1, 5))
    assert sum(batch.weights.sum() for batch in batches) == 12
    assert {len(batch.words) for batch in batches} == {5}


def test_committed_omniglot_model_answers_drawings(import_example):
    check = import_example("omniglot").CHECK_EXPORT
    folder = ROOT / "saved_models" / "omniglot_sam" / "1"
    subprocess.run([sys.executable, "-c", check, str(folder)], check=True)


@pytest.mark.parametrize("name", ["babi_sam", "babi_sdnc", "babi_words_sdnc"])
def test_committed_babi_model_answers_a_story(name, import_example):
    babi = import_example("babi")
    folder = ROOT / "saved_models" / name / "1"
    run = subprocess.run(
        [sys.executable, "-c", babi.CHECK_ANSWERS, str(folder), babi.STORY],
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.split()[-1] == "bathroom"


def test_committed_mqar_model_answers_the_keys(import_example):
    check = import_example("mqar").CHECK_EXPORT
    folder = ROOT / "saved_models" / "mqar_sam" / "1"
    run = subprocess.run(
        [sys.executable, "-c", check, str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "[7754 5002]" in run.stdout


def test_sentences_read_are_those_that_were_written(import_example):
    script = import_example("babi_reads")
    written = np.zeros((4, 1, 2))
    # Sentence 0 fills slot 0; sentence 1 half of it, then slot 1; sentence 2 nothing.
    written[0, 0, 0], written[1, 0, 0], written[2, 0, 1] = 1.0, 0.5, 1.0
    recording = types.SimpleNamespace(
        slots=np.arange(2),
        write_weights=written,
        read_weights=np.array([[[1, 0]], [[1, 0]], [[0, 1]], [[0.5, 0.5]]]),
    )
    read = script.sentences_read(recording, np.array([0, 1, 1, 2]))
    expected = [[[1, 0, 0]], [[0.5, 0.5, 0]], [[0, 1, 0]], [[0.25, 0.75, 0]]]
    np.testing.assert_allclose(read, expected)


def test_rides_that_are_read_are_those_of_the_path(import_example):
    script = import_example("graph_reads")
    rng = np.random.default_rng(3)
    inputs, targets, step_of, rows, names = script.ask(rng, length=3)
    # 214 rides, three that are asked for, three answers and the end.
    assert inputs.shape == (221, 92) and names.shape == (214, 3)
    assert len(set(step_of)) == 214
    for number, row in enumerate(rows):
        edge = inputs[step_of[row], :90]
        np.testing.assert_array_equal(edge, targets[217 + number].ravel())
        np.testing.assert_array_equal(edge[30:60], inputs[214 + number, 30:60])
    assert inputs[214, :30].any() and not inputs[215:, :30].any()
    # A path goes on where the ride before has ended, and comes nowhere twice.
    path = names[rows]
    assert path[1:, 0].tolist() == path[:-1, 2].tolist()
    assert len({*path[:, 0], path[-1, 2]}) == 4
    # Each step writes to a slot of its own. The last ones read one ride and the rest.
    read = np.zeros((221, 1, 221))
    read[214:, 0, step_of[rows[1]]], read[214:, 0, 215] = 0.75, 0.125
    read[214:, 0, step_of[np.setdiff1d(range(214), rows)[0]]] = 0.125
    recording = types.SimpleNamespace(
        slots=np.arange(221),
        write_weights=np.eye(221)[:, np.newaxis],
        read_weights=read,
    )
    labels, shown = script.labels_and_reads(recording, step_of, rows, names)
    assert labels[1] == ", ".join(path[1]) and labels[4] == f"asked for: {path[1][1]}"
    # What is asked for second is not written yet when the first is.
    expected = [[[0, 0.75, 0, 0, 0.125 * (step > 0), 0, 0.125]] for step in range(7)]
    np.testing.assert_array_equal(shown, expected)


def test_instances_of_a_label(import_example):
    instances = import_example("omniglot").instances
    targets = np.eye(3)[[[0, 1, 0, 0, 2, 1]]]
    weights = np.array([[1, 1, 1, 1, 1, 0]])
    assert instances(targets, weights).tolist() == [[0, 0, 1, 2, 0, -1]]


def test_held_rate(import_example):
    rate = import_example("training").HeldRate(
        2.0, steps=30, warmup=4, held=2 / 3, final_rate=0.1
    )
    values = [float(rate(step)) for step in (0, 4, 20, 25, 30, 40)]
    np.testing.assert_allclose(values, [0.4, 2.0, 2.0, 1.1, 0.2, 0.2], rtol=1e-5)


def test_results_of_another_run_are_not_overwritten(import_example, tmp_path):
    train = import_example("train")
    recipe = {"task": "copy", "layer": {"units": 4}, "test": {"length": [9]}}
    settings = train.run_settings(recipe, "ntm", 0)
    # A folder without results takes any run, and one with results the same run.
    train.refuse_other_results(tmp_path, "ntm", settings)
    results = {"command": "python x.py --y", "cell": "ntm", "recipe": recipe, "seed": 0}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    train.refuse_other_results(tmp_path, "ntm", settings)
    more_tested = train.run_settings({**recipe, "test": {}}, "ntm", 0)
    train.refuse_other_results(tmp_path, "ntm", more_tested)
    for cell, seed, units in [("dnc", 0, 4), ("ntm", 1, 4), ("ntm", 0, 5)]:
        other = train.run_settings({**recipe, "layer": {"units": units}}, cell, seed)
        with pytest.raises(SystemExit, match="results of another run:\n  python x.py"):
            train.refuse_other_results(tmp_path, cell, other)
    path.write_text(json.dumps({"command": "python examples/x.py"}))
    with pytest.raises(SystemExit, match="results of another run"):
        train.refuse_other_results(tmp_path, "ntm", settings)


def test_results_with_names_of_before_are_understood(import_example, tmp_path):
    train = import_example("train")
    old = {"sharpen_links": True, "wipe_freed": True, "initial_weights": "first_slot"}
    new = {"link_sharpening": True, "deallocate": True}
    new |= {"initial_addressing": "first_slot"}
    recipe = {"task": "copy", "stream": {"queries": 8}}
    saved = {**recipe, "layer": {"units": 4, **old}, "held_out": {"queries": 1}}
    current = {**recipe, "layer": {"units": 4, **new}, "evaluation": {"queries": 1}}
    assert train.current_recipe(saved) == current
    assert train.current_recipe(current) == current
    results = {"command": "python x.py --y", "cell": "ntm", "recipe": saved, "seed": 0}
    (tmp_path / "results.json").write_text(json.dumps(results))
    settings = train.run_settings(current, "ntm", 0)
    train.refuse_other_results(tmp_path, "ntm", settings)
    other = train.run_settings({**current, "evaluation": {}}, "ntm", 0)
    with pytest.raises(SystemExit, match="results of another run"):
        train.refuse_other_results(tmp_path, "ntm", other)


@pytest.mark.parametrize("cell", ["sam", "sdnc"])
def test_a_memory_of_triples_finds_the_edges_of_a_path(import_example, cell):
    recipe = import_example("training").read_recipe(
        EXAMPLES / "recipes" / "traversal.toml",
        cell,
        layer={"memory_slots": 64, "jit_compile": False},
    )
    lesson = keras_sam.tasks.Lesson((8, 8), (2, 3), (3, 3))
    inputs, targets, _ = keras_sam.tasks.traversal_sequences(0, [lesson] * 8)
    found = {}
    for start in (True, False):
        recipe["triple_start"] = start
        problem = import_example("sequences").SequenceProblem(recipe, seed=0)
        keras.utils.set_random_seed(0)
        memory = problem.make_model(cell, recipe["layer"]).get_layer("memory")
        trace = memory.trace(inputs)
        written = np.array(trace["write_slots"])[..., -1]
        read = np.array(trace["read_slots"])[:, :, 0]
        found[start] = []
        for row in range(8):
            query, answer = np.flatnonzero(inputs[row, :, 90])
            # Each step of the query names the next edge, which is read at once.
            for number in range(3):
                edge = targets[row, answer + number].ravel()
                told = (inputs[row, :query, :90] == edge).all(axis=-1).argmax()
                found[start].append(written[row, told] in read[row, query + number])
    assert np.mean(found[True]) > 0.85 and np.mean(found[False]) < 0.7


def asked_relations(inputs):
    """The questions of one sequence: (step, source's digits, relation)."""
    for step in np.flatnonzero(inputs[:, 90] * (1 - inputs[:, 91])):
        if inputs[step, 30:60].any():
            digits = inputs[step, 30:60].reshape(3, 10).argmax(axis=1)
            yield step, inputs[step, :30], int(digits @ [100, 10, 1])


def test_a_relation_has_a_meaning_for_each_step_after_the_question(import_example):
    relations = import_example("relations")
    inputs, _, _ = keras_sam.tasks.family_tree_sequences(0, [2, 4], queries=2)
    layer = relations.RelationSteps()
    outputs = np.array(layer(inputs))
    table = layer.meaning.embeddings.numpy()
    expected = np.concatenate([inputs, np.zeros((*inputs.shape[:2], 46))], axis=-1)
    for row, sequence in zip(expected, inputs, strict=True):
        asked = list(asked_relations(sequence))
        assert len(asked) == 2
        for step, source, relation in asked:
            row[step + 1, :30] += source
            row[step : step + 12, 92:] = table[1 + relation * 12 :][:12]
    np.testing.assert_array_equal(outputs, expected.astype("float32"))
    assert len({*table[:, 0]}) == len(table) == 1 + 410 * 12
    # However long the sequence is.
    np.testing.assert_array_equal(layer(inputs[:, :5]), outputs[:, :5])


@pytest.mark.parametrize("cell", ["sam", "sdnc"])
def test_a_memory_of_triples_follows_a_relation_that_it_knows(import_example, cell):
    recipe = import_example("training").read_recipe(
        EXAMPLES / "recipes" / "family_tree.toml",
        cell,
        layer={"memory_slots": 96, "jit_compile": False},
    )
    problem = import_example("train").make_problem(recipe, 0, None, None)
    keras.utils.set_random_seed(0)
    model = problem.make_model(cell, recipe["layer"])
    meaning = model.get_layer("relation").meaning.embeddings
    table = np.zeros(meaning.shape, "float32")
    for relation, edges in keras_sam.tasks.RELATIONS.items():
        for number, edge in enumerate(edges):
            # From the first step of planning on. Three digits, each one of ten.
            table[2 + 12 * relation + number, [0, 10, 20 + edge]] = 1.0
    meaning.assign(table)
    memory = model.get_layer("memory")
    inputs, targets, _ = keras_sam.tasks.family_tree_sequences(
        1, [4] * 8, queries=1, hints="triples"
    )
    trace = memory.trace(model.get_layer("relation")(inputs))
    written = np.array(trace["write_slots"])[..., -1]
    read = np.array(trace["read_slots"])[:, :, 0]
    found = []
    for row in range(8):
        ((step, _, _),) = asked_relations(inputs[row])
        for planning in range(step + 1, step + 5):
            edge = targets[row, planning].ravel()
            told = (inputs[row, :step, :90] == edge).all(axis=-1).argmax()
            found.append(written[row, told] in read[row, planning])
    assert np.mean(found) > 0.85


@pytest.mark.parametrize(
    "option", [{"word_size": 64}, {"controller": "lstm"}], ids=["word", "controller"]
)
def test_a_memory_of_triples_refuses_another_shape(import_example, option):
    recipe = import_example("training").read_recipe(
        EXAMPLES / "recipes" / "traversal.toml", "sam", layer=option
    )
    problem = import_example("sequences").SequenceProblem(recipe, seed=0)
    with pytest.raises(SystemExit, match="words of at least 92 numbers and"):
        problem.make_model("sam", recipe["layer"])


def test_a_test_asks_for_a_larger_memory_where_there_is_one(import_example):
    training, sequences = import_example("training"), import_example("sequences")
    for cell, slots in (("lstm", None), ("ntm", 256)):
        recipe = training.read_recipe(
            EXAMPLES / "recipes" / "traversal.toml", cell, layer={"memory_slots": 16}
        )
        problem = sequences.SequenceProblem(recipe, seed=0)
        model = problem.make_model(cell, recipe["layer"])
        model = sequences.enlarged(model, problem, recipe, 256)
        memory = model.get_layer("memory")
        assert slots == getattr(getattr(memory, "cell", None), "memory_slots", None)


def test_node_codes_say_what_each_phase_names(import_example):
    paths = import_example("shortest_paths")
    lesson = keras_sam.tasks.Lesson((8, 8), (2, 3), (3, 3))
    inputs, _, _ = keras_sam.tasks.shortest_path_sequences(
        0, [lesson, lesson._replace(length=(2, 2))]
    )
    layer = paths.NodeCodes()
    outputs = np.array(layer(inputs))
    table = layer.codes.embeddings.numpy()
    assert not table[0].any() and not layer.trainable_weights
    # Different nodes have different codes of one length.
    np.testing.assert_allclose(np.linalg.norm(table[1:], axis=1), 1.0, rtol=1e-6)
    assert len(np.unique(table, axis=0)) == len(table)

    expected = np.zeros((*inputs.shape[:2], 2, table.shape[1]), "float32")
    for row, sequence in zip(expected, inputs, strict=True):
        digits = sequence[:, :90].reshape(-1, 3, 3, 10)
        label = digits.argmax(-1) @ [100, 10, 1]
        query, _, answer = np.flatnonzero(sequence[:, 90])
        row[:query, 0] = table[1 + label[:query, 0]]
        row[:query, 1] = table[1 + label[:query, 2]]
        row[query, 1] = table[1 + label[query, 2]]
        row[answer, 0] = table[1 + label[query, 0]]
        for step in range(answer + 1, len(sequence)):
            if digits[step].any():
                row[step, 0] = table[1 + label[step, 2]]
    np.testing.assert_array_equal(outputs[..., :92], inputs)
    np.testing.assert_array_equal(
        outputs[..., 92:], expected.reshape(*inputs.shape[:2], -1)
    )


@pytest.mark.parametrize("cell", ["sam", "sdnc"])
def test_a_search_in_memory_finds_shortest_paths_without_training(import_example, cell):
    recipe = import_example("training").read_recipe(
        EXAMPLES / "recipes" / "shortest_path.toml",
        cell,
        layer={"memory_slots": 64, "reads_per_head": 16, "jit_compile": False},
    )
    problem = import_example("train").make_problem(recipe, 0, None, None)
    keras.utils.set_random_seed(0)
    model = problem.make_model(cell, recipe["layer"])
    lesson = keras_sam.tasks.Lesson((12, 12), (2, 3), (4, 4))
    inputs, _, _ = keras_sam.tasks.shortest_path_sequences(
        0, [lesson] * 16, unique=False
    )
    walks = import_example("walks").walks
    assert walks(model, inputs, length=4) > 0.85
    with import_example("training").writing_shut(model):
        assert walks(model, inputs, length=4) < 0.5


def test_marks_are_stronger_where_fewer_steps_lead_to_the_destination(import_example):
    paths = import_example("shortest_paths")
    recipe = import_example("training").read_recipe(
        EXAMPLES / "recipes" / "shortest_path.toml",
        "sam",
        layer={"memory_slots": 32, "reads_per_head": 16, "jit_compile": False},
    )
    problem = paths.SearchProblem(recipe, 0)
    model = problem.make_model("sam", recipe["layer"])
    memory = model.get_layer("memory")
    # A line of nodes, 0 to 6, of edges forward and backward.
    forward = [[n, 0, n + 1] for n in range(6)]
    graph = np.array(forward + [[n + 1, 1, n] for n in range(6)])
    lesson = keras_sam.tasks.Lesson((7, 7), (1, 2), (4, 4))
    inputs, _, _ = keras_sam.tasks.shortest_path_sequences(0, [lesson], graph=graph)
    query, _, answer = np.flatnonzero(inputs[0, :, 90])
    features = model.get_layer("nodes")(inputs[:, :answer])
    cell = memory.cell
    layer = keras.layers.RNN(cell, return_state=True)
    words = np.array(cell.unpack_state(layer(features)[1:]).memory).reshape(32, -1)
    edges = words[words[:, paths.WRITTEN] > 0.4]
    labels = edges[:, :90].reshape(-1, 3, 3, 10).argmax(-1) @ [100, 10, 1]
    shown = inputs[0, :answer, :90].reshape(-1, 3, 3, 10).argmax(-1) @ [100, 10, 1]
    goal = shown[query, 2]
    adjacent = {}
    for source, _, destination in labels.tolist():
        adjacent.setdefault(destination, []).append(source)
    distance, frontier = {goal: 0}, [goal]
    while frontier:
        node = frontier.pop(0)
        for before in adjacent[node]:
            if before not in distance:
                distance[before] = distance[node] + 1
                frontier.append(before)
    assert len(edges) == 12 and len(distance) == 7
    steps = np.array([distance[destination] for destination in labels[:, 2]])
    marks = edges[:, paths.MARK]
    for near in range(4):
        assert marks[steps == near].min() > marks[steps == near + 1].max()
    # Which edges lead to the destination stands in their words, too.
    np.testing.assert_array_equal(edges[:, paths.LAST] > 0.01, steps == 0)


@pytest.mark.parametrize(
    "option",
    [{"word_size": 64}, {"controller": "lstm"}, {"read_heads": 2}, {"units": 64}],
    ids=["word", "controller", "heads", "units"],
)
def test_a_search_refuses_another_shape(import_example, option):
    recipe = import_example("training").read_recipe(
        EXAMPLES / "recipes" / "shortest_path.toml", "sam", layer=option
    )
    problem = import_example("train").make_problem(recipe, 0, None, None)
    with pytest.raises(SystemExit, match="the sizes of the recipe: words of 349"):
        problem.make_model("sam", recipe["layer"])


def test_the_committed_recall_model_recalls(import_example):
    folder = ROOT / "saved_models" / "recall_curriculum_sam"
    problem, model = import_example("train").trained(folder)
    stream = problem.stream(1, min_items=50, max_items=50)
    inputs, targets, weights = next(stream.as_numpy_iterator())
    wrong = (model.predict_on_batch(inputs) > 0.5) != (targets > 0.5)
    assert wrong[weights > 0].mean() < 0.01


@pytest.mark.parametrize(
    "name, task, size, value, bits",
    [
        pytest.param("copy_sdnc", "copy", "length", 120, 960, marks=pytest.mark.slow),
        ("copy_sam_dense_positions", "copy", "length", 120, 960),
        ("order_recall_sdnc", "order_recall", "items", 20, 152),
        pytest.param(
            *("repeat_copy_sdnc", "repeat_copy", "length", 20, 880),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_committed_models_go_far_beyond_their_training(
    import_example, name, task, size, value, bits
):
    # Six times or twice as long as in training.
    model = import_example("train").trained_model(ROOT / "saved_models" / name)
    sizes = {f"min_{size}": value, f"max_{size}": value}
    data = getattr(keras_sam.tasks, f"{task}_task")(batch_size=24, seed=11, **sizes)
    inputs, targets, weights = next(data.as_numpy_iterator())
    metric = keras_sam.metrics.BitErrors()
    metric.update_state(targets, model.predict(inputs, verbose=0), weights)
    # Guessing gets half of the bits wrong.
    assert metric.result() < 0.02 * bits


@pytest.mark.parametrize(
    "cell, setting, message",
    [
        ("dnc", "index='lsh'", "dnc has no argument 'index'; it has bias_constraint,"),
        ("sam", "output_size=3", "sam has no argument 'output_size'"),
        ("lstm", "memory_slots=3", "lstm has no argument 'memory_slots'; it has units"),
        ("sam", "index=lsh", "'index=lsh' is not TOML, NAME=VALUE with text in quotes"),
    ],
)
def test_unknown_layer_arguments(
    import_example, monkeypatch, capsys, cell, setting, message
):
    options = ["--task", "copy", "--cell", cell, "--layer", setting]
    monkeypatch.setattr(sys, "argv", ["train.py", *options])
    with pytest.raises(SystemExit):
        import_example("train").parse_arguments()
    assert message in capsys.readouterr().err


def test_recipe_settings_of_one_cell(import_example, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(
        "[layer]\nunits = 5\nword_size = 3\nsam = { units = 7 }\n"
        "[test]\nmemory_slots = 8\n[test.sam]\nmemory_slots = 9\n"
    )
    read_recipe = import_example("training").read_recipe
    assert read_recipe(path, "ntm") == {
        "layer": {"units": 5, "word_size": 3},
        "training": {},
        "test": {"memory_slots": 8},
    }
    assert read_recipe(path, "sam", layer={"word_size": 4}) == {
        "layer": {"units": 7, "word_size": 4},
        "training": {},
        "test": {"memory_slots": 9},
    }


@pytest.mark.parametrize("count, batch_size, batches", [(6, 3, 2), (2, 2, 1)])
def test_sizes_are_tested_with_what_the_recipe_names(
    import_example, count, batch_size, batches
):
    sequences = import_example("sequences")
    recipe = {
        "task": "associative_recall",
        "layer": {"units": 8, "memory_slots": 4, "word_size": 8, "read_heads": 1},
        "training": {"batch_size": 3, "learning_rate": 0.0, "clip_norm": 1.0},
        "test": {
            "items": [4],
            "memory_slots": 64,
            "sequences": count,
            "queries": 2,
        },
    }
    problem = sequences.SequenceProblem(recipe, seed=0)
    model = problem.make_model("sam", recipe["layer"])
    (result,) = sequences.evaluate_sizes(model, problem, recipe, steps=1).values()
    # By hand: all of four items. With 4 slots the outputs are others.
    resized, losses = keras_sam.resize_memory(model, 64), []
    data = keras_sam.tasks.associative_recall_task(
        batch_size,
        min_items=4,
        max_items=4,
        queries=2,
        seed=int(np.random.SeedSequence([0, 1]).generate_state(1)[0]),
    )
    for x, y, weights in data.take(batches):
        loss = keras.losses.binary_crossentropy(y, resized(x)) * weights
        losses.append(np.mean(loss))
    np.testing.assert_allclose(result["loss"], np.mean(losses), rtol=1e-5)


def test_each_size_is_tested_alone(import_example):
    sequences = import_example("sequences")
    recipe = {
        "task": "repeat_copy",
        "layer": {"units": 4},
        "training": {"batch_size": 3, "learning_rate": 0.0, "clip_norm": 1.0},
        "test": {"length": [2], "repeats": [5]},
    }
    problem = sequences.SequenceProblem(recipe, seed=0)
    model = problem.make_model("lstm", recipe["layer"])
    problem.compile(model, recipe["training"], steps=1)
    results = sequences.evaluate_sizes(model, problem, recipe, steps=2)
    for (name, size), result in zip(
        [("length", 2), ("repeats", 5)], results.values(), strict=True
    ):
        limits = {f"min_{name}": size, f"max_{name}": size}
        assert result == sequences.evaluate(model, problem, 2, **limits)


def test_the_underground_is_asked_for_paths_of_the_length(import_example):
    sequences = import_example("sequences")
    recipe = {
        "task": "traversal",
        "layer": {"units": 4},
        "training": {"batch_size": 2, "learning_rate": 0.0, "clip_norm": 1.0},
        "underground": {"length": [2, 3]},
    }
    problem = sequences.SequenceProblem(recipe, seed=1)
    model = problem.make_model("lstm", recipe["layer"])
    problem.compile(model, recipe["training"], steps=1)
    results = sequences.evaluate_underground(model, problem, recipe, steps=2)
    for length, result in zip((2, 3), results.values(), strict=True):
        lessons = [keras_sam.tasks.Lesson((43, 43), (1, 10), (length, length))] * 4
        x, y, weights = keras_sam.tasks.traversal_sequences(
            1, lessons, keras_sam.tasks.underground()
        )
        # 214 connections, the path, its answer and the end of it; others each time.
        assert x.shape[1] == 214 + 2 * length + 1 and (x[0] != x[1]).any()
        costs = sequences.digits_cross_entropy(y, model(x)) * weights
        np.testing.assert_allclose(result["loss"], np.mean(costs), rtol=1e-5)


def test_a_training_starts_from_a_stored_model(import_example):
    train, name = import_example("train"), "order_recall_sdnc"
    options = ["--task", "order_recall", "--cell", "sdnc", "--start", name]
    arguments = train.parse_arguments(options)
    recipe = import_example("training").read_recipe(
        arguments.recipe, "sdnc", **train.settings(arguments)
    )
    assert recipe["training"]["start"] == name
    model = train.SequenceProblem(recipe, 0).make_model("sdnc", recipe["layer"])
    train.start_from(model, name)
    stored = keras_sam.models.load(name)
    # But for the seeds of random generators.
    for one, other in zip(model.weights, stored.weights, strict=True):
        if "seed_generator" not in one.path:
            np.testing.assert_array_equal(one, other)
    with pytest.raises(SystemExit, match="--start must be a model.*Received: nothing"):
        train.start_from(model, "nothing")


def test_a_stored_model_of_other_sizes_is_refused(import_example, tmp_path):
    train, training = import_example("train"), import_example("training")

    def make(*units):
        return keras.Sequential([keras.Input((3,)), *map(keras.layers.Dense, units)])

    stored, others = make(2), (make(4), make(2, 2), make())
    stored.export(tmp_path / "1", verbose=False)
    again = make(2)
    training.load_variables(again, tmp_path)
    np.testing.assert_array_equal(again.weights[0], stored.weights[0])
    messages = (
        r"weight 1 of 2 the shape \[3, 4\]. Received: \[3, 2\]",
        r"weight 3 of 4 the shape \[2, 2\]. Received: none",
        r"weight 1 of 0 the shape none. Received: \[3, 2\]",
    )
    for model, message in zip(others, messages, strict=True):
        before = model.get_weights()
        with pytest.raises(ValueError, match=message):
            training.load_variables(model, tmp_path)
        with pytest.raises(SystemExit, match=f"error: .*{message}"):
            train.start_from(model, tmp_path)
        for one, other in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, other)


def test_walks_are_right_where_they_are_shortest(import_example):
    walks = import_example("walks").walks
    lesson = keras_sam.tasks.Lesson((8, 8), (2, 3), (3, 3))
    x, y, weights = keras_sam.tasks.shortest_path_sequences(0, [lesson] * 6)
    shown = []

    def knowing(inputs, **kwargs):
        shown.append(inputs.copy())
        return y

    assert walks(types.SimpleNamespace(predict=knowing), x, length=3) == 1.0
    # The model sees no step before the step is chosen, and in the end its own choice.
    assert x[weights > 0, :90].any() and not shown[0][weights > 0, :90].any()
    last = np.flatnonzero(weights[0])[2]
    np.testing.assert_array_equal(shown[2][0, : last + 1, :90], x[0, : last + 1, :90])

    def stubborn(inputs, **kwargs):
        """Of all edges the one least like the right one."""
        wrong = np.zeros_like(y)
        wrong[weights > 0] = 1 - y[weights > 0]
        return wrong

    assert walks(types.SimpleNamespace(predict=stubborn), x, length=3) == 0.0
    # Any of the shortest paths will do, the Underground has several.
    x = keras_sam.tasks.shortest_path_sequences(
        *(0, [lesson._replace(length=(1, 1))] * 4),
        graph=np.array([[0, 0, 1], [0, 1, 1], [1, 0, 0]]),
        unique=False,
    )[0]
    nothing = types.SimpleNamespace(predict=lambda x, **_: np.ones((4, 99, 9, 10)))
    assert walks(nothing, x, length=1) == 1.0


@pytest.mark.parametrize(
    "layer, options",
    [
        (keras_sam.NTM, {}),
        (keras_sam.DNC, {}),
        (keras_sam.DNC, {"normalize_interface": True}),
        (keras_sam.DAM, {}),
        (keras_sam.SAM, {}),
        (keras_sam.SDNC, {}),
    ],
)
def test_writing_shut(import_example, layer, options):
    memory = layer(8, memory_slots=16, word_size=4, name="memory", **options)
    model = keras.Sequential([keras.Input((None, 3)), memory])
    inputs = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    weights = model.get_weights()

    def largest():
        trace = memory.trace(inputs, keep={"memory": lambda state: state.memory})
        return float(tf.reduce_max(tf.abs(trace["memory"])))

    with import_example("training").writing_shut(model):
        # What it starts from; SAM and DAM erase even so.
        assert largest() <= 1.1e-6
    assert largest() > 1e-2
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_interface_held_reads_by_content_alone(import_example):
    memory = keras_sam.SDNC(8, memory_slots=16, normalize_interface=True)
    inputs = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    memory.build(inputs.shape)
    by_content = {"read_modes": [-20.0, 20.0, -20.0]}
    with import_example("training").interface_held(memory.cell, by_content):
        modes = keras_sam.visualize.record(memory, inputs[0]).read_modes
        np.testing.assert_allclose(modes[..., 1], 1.0)
    modes = keras_sam.visualize.record(memory, inputs[0]).read_modes
    assert modes[..., 1].max() < 0.9


@pytest.mark.parametrize("no_op", [False, True])
def test_writing_shut_keeps_stacks_empty(import_example, no_op):
    memory = keras_sam.StackRNN(8, stacks=3, no_op=no_op, name="memory")
    model = keras.Sequential([keras.Input((None, 3)), memory])
    inputs = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")

    def largest():
        trace = memory.trace(inputs, keep={"memory": lambda state: state.memory})
        return float(tf.reduce_max(trace["memory"]))

    with import_example("training").writing_shut(model):
        assert largest() == pytest.approx(-1.0)
    assert largest() > -0.9


@pytest.mark.slow
def test_train_smoke_of_a_formal_language(tmp_path):
    options = ("--task", "formal_language", "--cell", "stack_rnn", "--output", tmp_path)
    language = ("--stream", 'language="a^n b^2n"')
    run_script("examples/train.py", "--smoke", *options, *language)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["recipe"]["stream"]["language"] == "a^n b^2n"
    assert results["recipe"]["layer"]["round_actions"] is True
    assert set(results["test"]) == {"loss", "sequence_accuracy"}
    assert set(results["write_gate_shut"]) == {"loss", "sequence_accuracy"}


@pytest.mark.parametrize("normalize_interface", [False, True])
def test_interface_bias(import_example, normalize_interface):
    cell = keras_sam.SDNCCell(
        4, 16, 4, read_heads=2, normalize_interface=normalize_interface
    )
    cell.build((None, 3))
    biases = {"strengths": 4.0, "read_modes": [0.0, 2.0, 0.0], "no_such_part": 9.0}
    import_example("training").set_interface_bias(cell, biases)
    hidden = tf.zeros((1, 4))
    parts = cell.split_interface(cell.project_interface(hidden))
    assert parts["strengths"].numpy().tolist() == [[4.0, 4.0]]
    assert parts["read_modes"].numpy().tolist() == [[0.0, 2.0, 0.0] * 2]
    assert not parts["queries"].numpy().any()


def test_recipes_are_of_existing_tasks(import_example):
    sequences = import_example("sequences")
    recipes = [
        tomllib.loads(path.read_text())
        for path in (EXAMPLES / "recipes").glob("*.toml")
    ]
    streams = {name.removesuffix("_task") for name in dir(keras_sam.tasks)}
    for recipe in recipes:
        if recipe["task"] in OWN_PROBLEMS:
            continue
        make = getattr(keras_sam.tasks, f"{recipe['task']}_task")
        make(2, **recipe["stream"])
        make(2, **recipe["stream"] | recipe.get("evaluation", {}))
        for size in sequences.tested_sizes(recipe):
            asked = set(sequences.exactly(make, size, 1))
            assert asked <= set(inspect.signature(make).parameters)
        if "curriculum" in recipe:
            settings = dict(recipe["curriculum"])
            kind = getattr(keras_sam.callbacks, settings.pop("class"))
            argument = settings.pop("argument")
            assert argument in inspect.signature(make).parameters
            kind(**settings)
    # Every task has one.
    tasks = {name for name in streams if f"{name}_task" in keras_sam.tasks.__all__}
    assert tasks <= {recipe["task"] for recipe in recipes}


def run_notebook(name, values):
    """Executes a notebook of examples/ with other values of its variables.

    Returns:
        What its cells print, and how many pictures they show.
    """
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    for variable, value in values.items():
        line, found = re.compile(rf"^{variable} = [^#\n]*", re.M), 0
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.source, count = line.subn(f"{variable} = {value!r}  ", cell.source)
                found += count
        assert found == 1, variable
    place = {"metadata": {"path": EXAMPLES}}
    nbclient.NotebookClient(notebook, timeout=600, resources=place).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    return printed, sum("image/png" in output.get("data", {}) for output in outputs)


BRIEF = {"EPOCHS": 1, "BATCH": 6}


@pytest.mark.parametrize(
    "name, values, files, pictures, prints",
    [
        ("quickstart", {}, None, 2, ""),
        ("babi", {"CONFIG": "sentences_1k", **BRIEF}, "MANUAL_DIR", 1, "6 to test on"),
        ("babi", {"EPOCHS": 1, "OWN_STORIES": True}, None, 1, "200 to test on"),
        ("omniglot", {"EPISODES": 2, "INSTANCES": 4}, "DATA", 2, "instance  4: "),
        ("omniglot", {"EPISODES": 8, "CHARACTERS": 9}, None, 2, "10: (100|[6-9])"),
        ("stream", {"SLOTS": 2**12, "CHUNK": 64, "CHUNKS": 3}, None, 0, "parcel .*: s"),
    ],
)
@pytest.mark.slow
def test_notebooks(name, values, files, pictures, prints, tmp_path, monkeypatch):
    # Their own checks are in them. Kernels choose where pictures go.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    if name == "quickstart":
        values = {"PORT": free_port()}
    if files is not None:
        if name == "babi":
            write_babi(tmp_path, sizes=("en-valid",))
        else:
            write_omniglot(tmp_path)
        values = {**values, files: str(tmp_path)}
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    printed, shown = run_notebook(name, values)
    assert re.search(prints, printed)
    assert shown == pictures


def test_all_notebooks_are_executed():
    rows = next(m for m in test_notebooks.pytestmark if m.name == "parametrize").args[1]
    assert {row[0] for row in rows} == {path.stem for path in EXAMPLES.glob("*.ipynb")}
