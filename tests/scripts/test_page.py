"""The page of the example server: what it is told, and what a reader sees of it."""

import asyncio
import importlib
import json
import multiprocessing

import keras
import numpy as np
import pytest
import tensorflow as tf
from browser import Browser, find_chromium
from running import ROOT, running_server
from starlette.testclient import TestClient

import keras_sam

MODELS = ROOT / "saved_models"
STORY = (
    "Mary moved to the bathroom.\nMary took the apple there.\n"
    "John went to the hallway.\nMary travelled to the kitchen."
)
APPLE = {"story": STORY, "question": "Where is the apple?"}
COPY = {"model": "copy_dnc", "size": 3, "seed": 0}


@pytest.fixture(scope="module")
def client():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        serve = importlib.import_module("serve")
        app = serve.make_app(MODELS / "copy_ntm", page=True)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client


def test_the_page_is_there_if_asked_for(client, import_example):
    for path, start in {
        "/": "<!doctype html>",
        "/page/page.js": '"use strict"',
        "/page/page.css": ":root",
    }.items():
        reply = client.get(path)
        assert reply.status_code == 200 and reply.text.startswith(start)
        # A browser runs no script but the page's, and asks nobody else.
        assert "default-src 'self'" in reply.headers["content-security-policy"]
    for path in ("/page/..%2f..%2fserve.py", "/page/page.py", "/page"):
        assert client.get(path).status_code == 404
    without = import_example("serve").make_app(MODELS / "copy_ntm")
    with TestClient(without) as other:
        assert other.get("/").status_code == 404
        assert other.post("/page/runs", json=COPY).status_code == 404


def test_models_of_the_page_are_those_of_the_folder(client):
    models = client.post("/page/models", json={}).json()
    stories = {each["name"] for each in models["stories"]}
    assert stories == {"babi_end_to_end", "babi_sam", "babi_sdnc"}
    tasks = {each["task"] for each in models["runs"]}
    assert tasks == {"copy", "associative recall", "traversal"}
    (dnc,) = (each for each in models["runs"] if each["name"] == "copy_dnc")
    assert dnc["layer"] == "DNC" and (dnc["size"], dnc["least"]) == ("vectors", 1)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("babi_end_to_end", ["hop 1", "hop 2", "hop 3"]),
        ("babi_sdnc", ["question", "thought 1", "thought 2", "thought 3"]),
        ("babi_sam", ["question", "thought 1", "thought 2", "thought 3"]),
    ],
)
def test_the_answer_is_that_of_the_saved_model(name, steps, client):
    reply = client.post("/page/stories", json={"model": name, **APPLE}).json()
    serve = tf.saved_model.load(MODELS / name / "1").signatures["serving_default"]
    story = "\n".join(APPLE.values())
    expected = {key: v.numpy()[0] for key, v in serve(tf.constant([story])).items()}
    assert reply["answer"] == expected["answer"].decode() == "kitchen"
    assert reply["probability"] == pytest.approx(expected["probability"], abs=1e-4)
    assert reply["steps"] == steps and reply["unknown"] == []
    sentences = story.splitlines()
    assert reply["sentences"] == sentences[: len(reply["sentences"])]
    read = np.array(reply["read"])
    assert read.shape == (len(steps), len(reply["sentences"]))
    if name == "babi_end_to_end":
        np.testing.assert_allclose(read.sum(axis=1), 1.0, atol=0.01)
        assert read.argmax(axis=1).tolist() == [1, 1, 3]  # takes, takes, travels
    else:  # Of four heads that which reads a sentence most: takes, travels.
        # The SDNC reads them at different thoughts, SAM both at the last one.
        found = read[3] if name == "babi_sam" else read.max(axis=0)
        assert (found[[1, 3]] > 0.5).all() and read.max() < 1.01
    odd = {"story": "Xerxes went to the Kitchen", "question": "where is mary ?"}
    reply = client.post("/page/stories", json={"model": name, **odd}).json()
    assert reply["unknown"] == ["xerxes"]


def test_the_vocabulary_is_that_of_the_saved_model(import_example):
    babi = import_example("babi")
    paths = [MODELS / name / "words.json" for name in ("babi_sdnc", "babi_end_to_end")]
    assert paths[0].read_text() == paths[1].read_text()
    vocabulary = babi.Vocabulary.load(paths[1])
    # Each word alone makes a story, of which the SavedModel thinks something else.
    stories = [f"mary {word}\nwhere is mary ?" for word in vocabulary.words[3:]]
    loaded = tf.saved_model.load(paths[1].parent / "1")
    answers = loaded.signatures["serving_default"](tf.constant(stories))
    model, _ = (
        import_example("server.stories").Stories(MODELS).loaded(paths[1].parent.name)
    )
    facts = np.array([[vocabulary.sentence(s.split("\n")[0])] for s in stories])
    question = np.array([vocabulary.sentence("where is mary ?")] * len(stories))
    probabilities = keras.ops.softmax(model({"facts": facts, "question": question}))
    best = np.argmax(probabilities, axis=-1)
    expected = [answer.decode() for answer in answers["answer"].numpy()]
    assert [vocabulary.answers[number] for number in best] == expected
    np.testing.assert_allclose(
        np.max(probabilities, axis=-1), answers["probability"], atol=1e-5
    )


def test_a_vocabulary_is_written_and_read(import_example, tmp_path):
    babi = import_example("babi")
    vocabulary = babi.Vocabulary([(1, ["Mary left.", "Where is Mary?"], ["", "away"])])
    vocabulary.save(tmp_path / "words.json")
    again = babi.Vocabulary.load(tmp_path / "words.json")
    for text in ("Where is Mary?", "Mary left", "John left home today"):
        np.testing.assert_array_equal(again.sentence(text), vocabulary.sentence(text))
    assert again.answer("away") == 0 and again.answers == ["away"]


def panels_of(reply):
    return {
        panel["kind"]: np.array(panel["values"], float) for panel in reply["panels"]
    }


def test_a_run_shows_what_the_memory_does(client):
    reply = client.post("/page/runs", json=COPY).json()
    shown = panels_of(reply)
    inputs, targets, _ = keras_sam.tasks.copy_sequences(0, lengths=[3])
    np.testing.assert_array_equal(shown["inputs"], inputs[0])
    np.testing.assert_array_equal(shown["targets"][4:], targets[0, 4:])
    model = keras_sam.models.load("copy_dnc")
    np.testing.assert_allclose(shown["outputs"][4:], model(inputs)[0, 4:], atol=1e-3)
    assert np.isnan(shown["outputs"][:4]).all()  # nobody asks
    assert reply["right"] == [None] * 4 + [True] * 3
    assert reply["captions"][3:5] == [
        "sees the delimiter: now repeat",
        "says vector 1 of 3",
    ]
    # The cell itself, step by step, without a graph.
    cell, slots = model.get_layer("memory").cell, reply["slots"]
    state = cell.unpack_state(cell.get_initial_state(1))
    for step, features in enumerate(tf.unstack(inputs, axis=1)):
        _, state, _ = cell.step(features, state)
        for kind in ("write", "read"):
            weights = np.reshape(getattr(state, f"{kind}_weights"), (-1, 128))
            weights = weights.max(axis=0)[slots]
            np.testing.assert_allclose(shown[f"{kind}s"][step], weights, atol=1e-3)
        usage = np.asarray(state.usage)[0, slots]
        np.testing.assert_allclose(shown["usage"][step], usage, atol=1e-3)
        links = np.zeros((len(slots), len(slots)))
        for before, after, weight in reply["links"][step]:
            links[after, before] = weight
        expected = np.asarray(state.link)[0][np.ix_(slots, slots)]
        np.testing.assert_allclose(links, expected, atol=0.02)
    assert links.max() > 0.9


def test_a_traversal_is_told_in_words(client):
    body = {"model": "traversal_sdnc", "size": 1, "seed": 3}
    reply = client.post("/page/runs", json=body).json()
    lesson = keras_sam.tasks.TRAVERSAL_LESSONS[0]
    _, targets, weights = keras_sam.tasks.traversal_sequences(3, [lesson])
    first = np.flatnonzero(weights[0])[0]
    digits = "".join(map(str, targets[0, first].argmax(-1)))
    edge = f"{digits[:3]} –{digits[3:6]}→ {digits[6:]}"
    captions = reply["captions"]
    assert reply["right"][first] is True
    assert captions[first] == f"says {edge}"
    assert f"sees the edge {edge}" in captions
    assert captions[first - 1] == f"is asked for {edge[:3]} –{digits[3:6]}→ ..."
    assert captions[-1] == "says the end"


def test_associative_recall_is_told_in_words(client):
    body = {"model": "associative_recall_sam", "size": 2, "seed": 0}
    reply = client.post("/page/runs", json=body).json()
    assert reply["captions"] == [
        *("sees that item 1 begins", "sees vector 1 of item 1"),
        *("sees vector 2 of item 1", "sees vector 3 of item 1"),
        *("sees that item 2 begins", "sees vector 1 of item 2"),
        *("sees vector 2 of item 2", "sees vector 3 of item 2"),
        *("sees that the query begins", "sees vector 1 of the item asked for"),
        "sees vector 2 of the item asked for",
        *("sees vector 3 of the item asked for", "sees that the query ends"),
        "says vector 1 of the item that came after it",
        "says vector 2 of the item that came after it",
        "says vector 3 of the item that came after it",
    ]
    assert reply["links"] is None  # A SAM has none.


END_TO_END = {"model": "babi_end_to_end", **APPLE}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("stories", {**END_TO_END, "model": "../copy_ntm"}, "'model' must be one of"),
        ("stories", {**END_TO_END, "model": ["x"]}, "integers and strings"),
        ("stories", {**END_TO_END, "story": 3}, "must be strings"),
        ("stories", {**END_TO_END, "story": "a" * 5001}, "at most 5000 characters"),
        ("stories", {**END_TO_END, "story": " \n "}, "1 to 50 sentences"),
        ("stories", {**END_TO_END, "story": "a\n" * 51}, "Received: 51"),
        ("stories", {**END_TO_END, "story": "a " * 99}, "at most 12 words"),
        ("stories", {**END_TO_END, "question": "where is Mary"}, "must end with '?'"),
        ("stories", {**END_TO_END, "story": "Where?\nHere."}, "must end with '?'"),
        ("runs", {**COPY, "model": "copy_lstm"}, "'model' must be one of"),
        ("runs", {**COPY, "size": 31}, "from 1 to 30"),
        ("runs", {**COPY, "size": True}, "must be an integer"),
        ("runs", {**COPY, "size": 3.0}, "integers and strings"),
        ("runs", {**COPY, "seed": -1}, "from 0 to 999"),
        ("runs", {**COPY, "seed": "9" * 999}, "from 0 to 999. Received: 99999"),
        ("runs", [COPY], "expected an object"),
    ],
)
def test_wrong_requests_are_refused(path, body, message, client):
    reply = client.post(f"/page/{path}", json=body)
    assert reply.status_code == 400 and message in reply.json()["error"]
    assert len(reply.text) < 500


def test_a_request_has_a_limit_in_bytes(client):
    body = {**END_TO_END, "story": "a" * 5_000_000}
    assert client.post("/page/stories", json=body).status_code == 413


def test_models_that_cannot_be_shown(import_example, tmp_path):
    for name, cell in (("baseline", "lstm"), ("broken", "dnc")):
        (tmp_path / name).mkdir()
        results = {"cell": cell, "recipe": {"task": "copy", "layer": {}}}
        (tmp_path / name / "results.json").write_text(json.dumps(results))
        (tmp_path / name / "model.keras").write_text("no model")
    looks = import_example("server.looks").Looks(tmp_path)

    def look(kind, **body):
        return asyncio.run(looks.look("a", kind, body))

    errors = import_example("server.errors")
    with pytest.raises(errors.RequestError, match="The look failed") as raised:
        look("runs", model="broken", size=3, seed=0)
    assert raised.value.status == 500
    # And the process lives on.
    models = json.loads(look("models"))
    assert [each["name"] for each in models["runs"]] == ["broken"]
    assert models["stories"] == []


def test_few_looks_wait(client, import_example):
    looks = import_example("server.looks").Looks(MODELS)
    errors = import_example("server.errors")

    async def ask_together(clients):
        asked = (looks.look(name, "runs", COPY) for name in clients)
        return await asyncio.gather(*asked, return_exceptions=True)

    for clients, answered in ((["a"] * 5, 2), (list("abcdefghijklmnopqrst"), 16)):
        answers = asyncio.run(ask_together(clients))
        assert sum(isinstance(each, str) for each in answers) == answered
        refused = [each for each in answers if not isinstance(each, str)]
        assert {type(each) for each in refused} == {errors.RequestError}
        assert {each.status for each in refused} == {429}


def test_the_server_outlives_the_process_of_the_page(import_example):
    others = set(multiprocessing.active_children())
    app = import_example("serve").make_app(MODELS / "copy_ntm", page=True)
    (process,) = set(multiprocessing.active_children()) - others
    process.kill()
    with TestClient(app) as other:
        reply = other.post("/page/runs", json=COPY)
        assert reply.status_code == 503 and "has ended" in reply.json()["error"]
        assert other.get("/v1/models/copy_ntm").status_code == 200


@pytest.mark.skipif(
    find_chromium() is None,
    reason="This test types into the page as a reader does. It needs the browser "
    "Chromium (Debian: apt-get install chromium), which no Python package brings "
    "along. What the page shows is tested without a browser above.",
)
def test_a_reader_asks_and_looks():
    options = (str(MODELS / "copy_ntm"), "--page", "--compiled-steps", "0")
    with running_server(*options) as url, Browser() as browser:
        browser.open(url)
        browser.wait_for("!!document.querySelector('#runs select')?.value")
        browser.type("#stories textarea", STORY)
        browser.type("#stories input", "Where is the apple")
        browser.click("#stories button")
        browser.wait_for("!!document.querySelector('#stories .error')")
        assert "must end with '?'" in browser.text("#stories .status")
        browser.type("#stories input", "Where is the apple?")
        browser.click("#stories button")
        browser.wait_for("!document.querySelector('#answer').hidden")
        assert browser.text("#said") == "kitchen"
        rows = [row.split("\t") for row in browser.text("#sentences").splitlines()]
        assert rows[1][0] == "Mary took the apple there."
        assert float(rows[1][1]) > 0.9 and rows[0][1] == ""
        # What is read is blue.
        colour = "getComputedStyle(document.querySelectorAll('#sentences td')[{}])"
        colours = [
            browser.evaluate(f"{colour.format(cell)}.backgroundColor")
            for cell in (1, 5)  # hop 1: the first sentence, the second
        ]
        assert colours == ["rgb(255, 255, 255)", "rgb(31, 111, 180)"]

        browser.type("#runs input[name=size]", "3")
        browser.click("#runs button")
        browser.wait_for("!document.querySelector('#run').hidden")
        assert "3 of 3 answers are right" in browser.text("#verdict")
        assert browser.text("#caption") == "says vector 1 of 3: right"
        reads = browser.text("#reads")
        assert reads.startswith("slot 0 (0.9")
        for _ in range(2):
            browser.evaluate("document.querySelector('#step').focus()")
            for kind in ("keyDown", "keyUp"):
                options = {"key": "ArrowRight", "windowsVirtualKeyCode": 39}
                browser.call("Input.dispatchKeyEvent", type=kind, **options)
        assert browser.text("#when") == "Step 7 of 7"
        assert browser.text("#reads") != reads
        panels = "[...document.querySelectorAll('#panels figcaption')]"
        names = browser.evaluate(f"{panels}.map(each => each.firstChild.data.trim())")
        assert names == [
            *("inputs", "targets", "outputs", "writes", "reads", "usage"),
            *("read modes", "gates"),
        ]
        assert inked(browser, "#links canvas") > 0.01
        assert browser.errors == []
        assert {
            address.startswith(url) or address == "data:,"
            for address in browser.requested
        } == {True}


def inked(browser, selector):
    """The share of a canvas's points that are dark."""
    script = (
        "(c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height)"
        ".data; let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i] < 60; "
        f"return 4 * n / d.length; }})(document.querySelector({json.dumps(selector)}))"
    )
    return browser.evaluate(script)
