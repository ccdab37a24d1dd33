"""The example server: TensorFlow Serving's form, sessions, and requests gone wrong."""

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from fastapi.testclient import TestClient
from running import ROOT

import keras_sam

COPY_NTM = ROOT / "saved_models" / "copy_ntm"
MODEL = "/v1/models/copy_ntm"


def load_example(name):
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "examples" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def serve():
    return load_example("serve")


@pytest.fixture(scope="module")
def client(serve):
    with TestClient(serve.make_app(COPY_NTM), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def signatures():
    return tf.saved_model.load(COPY_NTM / "2").signatures


def random_bits(steps, batch=1, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, (batch, steps, 9)).astype("float32")


def expected_outputs(signatures, inputs):
    whole = signatures["serving_default"]
    return whole(inputs=tf.constant(inputs))["outputs"].numpy()


def test_state_and_metadata(client):
    (state,) = client.get(MODEL).json()["model_version_status"]
    assert state["version"] == "2" and state["state"] == "AVAILABLE"
    assert client.get(f"{MODEL}/versions/2").json() == client.get(MODEL).json()
    metadata = client.get(f"{MODEL}/metadata").json()["metadata"]
    inputs = metadata["serving_default"]["inputs"]
    assert inputs == {"inputs": {"dtype": "DT_FLOAT32", "tensor_shape": [-1, -1, 9]}}


def test_row_and_column_format(client, signatures):
    inputs = random_bits(5, batch=2)
    expected = expected_outputs(signatures, inputs)
    rows = inputs.tolist()
    for body, key in (
        ({"instances": rows}, "predictions"),
        ({"instances": [{"inputs": row} for row in rows]}, "predictions"),
        ({"inputs": rows}, "outputs"),
        ({"inputs": {"inputs": rows}, "signature_name": "serving_default"}, "outputs"),
    ):
        reply = client.post(f"{MODEL}:predict", json=body)
        assert reply.status_code == 200
        assert list(reply.json()) == [key]
        # JSON holds every float32 to the last bit.
        np.testing.assert_array_equal(np.float32(reply.json()[key]), expected)
    reply = client.post(
        f"{MODEL}/versions/2:predict",
        json={"signature_name": "initial_state", "inputs": {"batch_size": 1}},
    )
    states = reply.json()["outputs"]
    reply = client.post(
        f"{MODEL}:predict",
        json={"signature_name": "step", "inputs": {"inputs": rows[:1], **states}},
    )
    outputs = np.float32(reply.json()["outputs"]["outputs"])
    np.testing.assert_allclose(outputs, expected[:1], atol=1e-6)


GOOD = random_bits(3).tolist()


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("{", 400, "JSON Parse error"),
        ("[1]", 400, "expected an object"),
        ("[" * 100_000, 400, "JSON Parse error"),
        ("\xff", 400, "JSON Parse error"),
        ({}, 400, "either 'instances' (row) or 'inputs'"),
        ({"instances": GOOD, "inputs": GOOD}, 400, "either 'instances'"),
        ({"instances": 3}, 400, "must be a list"),
        ({"instances": GOOD, "signature_name": "x"}, 400, "not found in signature def"),
        ({"instances": GOOD, "signature_name": []}, 400, "must be a string"),
        ({"instances": [{"other": GOOD[0]}]}, 400, "Expected the inputs ['inputs']"),
        ({"instances": [{"inputs": 1}, {"other": 1}]}, 400, "the same inputs"),
        ({"instances": []}, 400, "at least"),
        ({"inputs": [[]]}, 400, "at least"),
        ({"inputs": random_bits(3)[..., :8].tolist()}, 400, "shape [-1, -1, 9]"),
        ({"inputs": GOOD[0]}, 400, "shape [-1, -1, 9]"),
        ({"inputs": [[["1"] * 9]]}, 400, "tensor of float32"),
        ({"inputs": [[[None] * 9]]}, 400, "tensor of float32"),
        ({"inputs": [[[True] * 9]]}, 400, "tensor of float32"),
        ({"inputs": [[[1.0] * 9, [1.0] * 8]]}, 400, "equal lengths"),
        ({"inputs": {"inputs": [[[{}] * 9]]}}, 400, "tensor of float32"),
        ('{"inputs": [[[NaN, 1, 1, 1, 1, 1, 1, 1, 1]]]}', 400, "finite"),
        ('{"inputs": [[[1e39, 1, 1, 1, 1, 1, 1, 1, 1]]]}', 400, "finite"),
        ({"inputs": random_bits(1, 257).tolist()}, 400, "at most 256 sequences"),
        (" " * (4 * 2**20 + 1), 413, "at most 4194304 bytes"),
        (
            {"signature_name": "initial_state", "inputs": {"batch_size": 2**40}},
            *(400, "beyond int32"),
        ),
        (
            {"signature_name": "initial_state", "inputs": {"batch_size": 10**6}},
            *(400, "at most 256"),
        ),
        (
            {"signature_name": "initial_state", "inputs": {"batch_size": 0}},
            *(400, "`batch_size` must be at least 1"),
        ),
    ],
)
def test_wrong_requests_get_an_error_and_the_server_lives_on(
    body, status, message, client, signatures
):
    body = body if isinstance(body, str) else json.dumps(body)
    reply = client.post(f"{MODEL}:predict", content=body.encode("latin-1"))
    assert reply.status_code == status, reply.text
    assert list(reply.json()) == ["error"]
    assert message in reply.json()["error"]
    reply = client.post(f"{MODEL}:predict", json={"inputs": GOOD})
    expected = expected_outputs(signatures, np.float32(GOOD))
    np.testing.assert_array_equal(np.float32(reply.json()["outputs"]), expected)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/other", 404),
        ("POST", "/v1/models/other:predict", 404),
        ("GET", f"{MODEL}/versions/9", 404),
        ("GET", "/somewhere", 404),
        ("GET", f"{MODEL}:predict", 405),
    ],
)
def test_wrong_addresses(method, path, status, client):
    reply = client.request(method, path)
    assert reply.status_code == status
    assert list(reply.json()) == ["error"]


def open_session(client, batch_size=1):
    reply = client.post(f"{MODEL}/sessions", json={"batch_size": batch_size})
    return f"{MODEL}/sessions/{reply.json()['session']}"


def test_sessions_go_on_and_do_not_mix(client, signatures):
    sequences = [random_bits(9, batch=2, seed=seed) for seed in range(3)]
    sessions = [open_session(client, 2) for _ in sequences]
    outputs = [[] for _ in sequences]
    for chunk in (slice(0, 4), slice(4, 5), slice(5, 9)):
        for session, sequence, so_far in zip(sessions, sequences, outputs, strict=True):
            # A chunk that is refused moves nothing on.
            for bad in (sequence[:1, chunk], sequence[:, chunk, :3], sequence[:, :0]):
                body = {"inputs": bad.tolist()}
                assert client.post(f"{session}:step", json=body).status_code == 400
            reply = client.post(
                f"{session}:step", json={"inputs": sequence[:, chunk].tolist()}
            )
            so_far.append(np.float32(reply.json()["outputs"]))
    for sequence, chunks in zip(sequences, outputs, strict=True):
        got = np.concatenate(chunks, axis=1)
        np.testing.assert_allclose(
            got, expected_outputs(signatures, sequence), atol=1e-6
        )


def test_wrong_sessions(client):
    session = open_session(client)
    for body, status in (
        ({}, 400),
        ({"inputs": {"memory_memory": [[0.0]], "inputs": GOOD}}, 400),
    ):
        assert client.post(f"{session}:step", json=body).status_code == status
    assert client.delete(session).status_code == 200
    for path in (session, f"{MODEL}/sessions/guess"):
        assert client.post(f"{path}:step", json={"inputs": GOOD}).status_code == 404
        assert client.delete(path).status_code == 404
    for batch_size in (0, -1, "x", None, 10**6):
        reply = client.post(f"{MODEL}/sessions", json={"batch_size": batch_size})
        assert reply.status_code == 400


def test_sessions_expire_and_are_bounded(serve, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(serve.time, "monotonic", lambda: now[0])
    app = serve.make_app(COPY_NTM, session_seconds=60, max_sessions=2)
    with TestClient(app) as client:
        sessions = [open_session(client) for _ in range(2)]
        reply = client.post(f"{MODEL}/sessions", json={})
        assert reply.status_code == 429 and "There are 2 sessions" in reply.text
        now[0] = 50.0
        assert client.post(f"{sessions[0]}:step", json={"inputs": GOOD}).is_success
        now[0] = 100.0  # The second has been idle for longer than 60 seconds.
        for session, status in zip(sessions, (200, 404), strict=True):
            reply = client.post(f"{session}:step", json={"inputs": GOOD})
            assert reply.status_code == status
        assert client.post(f"{MODEL}/sessions", json={}).is_success


def test_requests_at_the_same_time(client, signatures):
    requests = [random_bits(1 + n % 7, 1 + n % 3, seed=n) for n in range(40)]
    expected = [expected_outputs(signatures, inputs) for inputs in requests]

    def ask(inputs):
        reply = client.post(f"{MODEL}:predict", json={"inputs": inputs.tolist()})
        return np.float32(reply.json()["outputs"])

    with ThreadPoolExecutor(8) as pool:
        for got, one in zip(pool.map(ask, requests), expected, strict=True):
            np.testing.assert_array_equal(got, one)


def test_first_requests_wait_until_one_has_prepared_the_model(serve, monkeypatch):
    servable = serve.Servable(COPY_NTM, max_batch=256)
    signature, times = servable.signature("serving_default"), []

    def slow(**tensors):
        start = time.monotonic()
        time.sleep(0.2)
        outputs = signature(**tensors)
        times.append((start, time.monotonic()))
        return outputs

    slow.structured_input_signature = signature.structured_input_signature
    monkeypatch.setattr(servable, "_signatures", {"serving_default": slow})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(servable.predict, [{"inputs": GOOD}] * 8))
    first, *others = sorted(times)
    assert len(others) == 7 and all(start >= first[1] for start, _ in others)
    # Those after it do not wait for each other.
    assert others[1][0] < others[0][1]


def test_several_inputs_and_outputs_in_rows(serve, tmp_path):
    ins = [keras.Input((None, 2), name=name) for name in ("a", "b")]
    memory = keras_sam.NTM(4, memory_slots=5, return_sequences=True)
    memory = memory(keras.layers.Add()(ins))
    outs = [keras.layers.Dense(2, name=name)(memory) for name in ("left", "right")]
    keras_sam.export_saved_model(keras.Model(ins, outs), tmp_path / "m")
    with TestClient(serve.make_app(tmp_path / "m")) as client:
        row = {"a": [[1.0, 2.0]], "b": [[0.0, 1.0]]}
        reply = client.post("/v1/models/m:predict", json={"instances": [row, row]})
        left, right = reply.json()["predictions"]
        assert left == right and sorted(left) == ["left", "right"]
        reply = client.post("/v1/models/m:predict", json={"instances": [[[1.0, 2.0]]]})
        assert "Expected the inputs ['a', 'b']" in reply.json()["error"]


def test_knows_the_operations_of_scann():
    """Of models whose frozen memory is searched with it; in a process of its own."""
    code = (
        "import serve; from tensorflow.python.framework import op_def_registry as ops"
    )
    code += "; assert ops.get('Scann>TensorsToScann'), 'not registered'"
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=ROOT / "examples", check=True)


def test_example_and_its_client():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "examples/serve.py", str(COPY_NTM), "--port", str(port)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        output = subprocess.run(
            [sys.executable, "examples/client.py", "copy_ntm", "--url", url],
            **{"cwd": ROOT, "capture_output": True, "text": True, "check": True},
        ).stdout
        with pytest.raises(urllib.error.HTTPError, match="413"):
            urllib.request.urlopen(f"{url}{MODEL}:predict", bytes(2**25))
    finally:
        server.terminate()
        server.wait()
    assert output.count("0 of 48 bits wrong") == 2
