"""The example server: TensorFlow Serving's form, sessions, and requests gone wrong."""

import asyncio
import contextlib
import functools
import importlib
import json
import subprocess
import sys
import threading
import types
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
import uvicorn
from running import ROOT, run_script, running_server
from starlette.testclient import TestClient

import keras_sam

COPY_NTM = ROOT / "saved_models" / "copy_ntm"
MODEL = "/v1/models/copy_ntm"


@pytest.fixture(scope="module")
def serve():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        yield importlib.import_module("serve")


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
    clock = types.SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("server.sessions.time", clock)
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


def test_requests_at_the_same_time(client, signatures, monkeypatch, serve):
    """They are answered by few calls: padded, and cut apart again."""
    calls, call = [], serve.Servable.call

    def counted(servable, question):
        calls.append(question.sequences)
        return call(servable, question)

    monkeypatch.setattr(serve.Servable, "call", counted)
    requests = [random_bits(1 + n % 17, 1 + n % 3, seed=n) for n in range(40)]
    expected = [expected_outputs(signatures, inputs) for inputs in requests]

    def ask(inputs):
        reply = client.post(f"{MODEL}:predict", json={"inputs": inputs.tolist()})
        return np.float32(reply.json()["outputs"])

    with ThreadPoolExecutor(20) as pool:
        for got, one in zip(pool.map(ask, requests), expected, strict=True):
            np.testing.assert_allclose(got, one, atol=1e-5)
    assert len(calls) < 40 and sum(calls) == sum(map(len, requests))


def test_inputs_without_time_are_answered_together(serve, tmp_path):
    sequences, one = keras.Input((None, 2), name="many"), keras.Input((3,), name="one")
    memory = keras_sam.NTM(3, memory_slots=5)(sequences)
    model = keras.Model([sequences, one], keras.layers.Add(name="sum")([memory, one]))
    keras_sam.export_saved_model(model, tmp_path / "m", streaming=False)
    servable = serve.Servable(tmp_path / "m")
    rng = np.random.default_rng(0)
    questions = [
        servable.read(
            {
                "inputs": {
                    "many": rng.normal(size=(batch, 4, 2)).tolist(),
                    "one": rng.normal(size=(batch, 3)).tolist(),
                }
            }
        )
        for batch in (1, 2)
    ]
    assert len({servable.group(question).key for question in questions}) == 1
    together = servable.answers(questions)
    for answer, question in zip(together, questions, strict=True):
        got, alone = (
            json.loads(a)["outputs"] for a in (answer, servable.answer(question))
        )
        np.testing.assert_allclose(got, alone, atol=1e-6)


def test_programs_of_xla_answer_if_there_are_some(serve, tmp_path, monkeypatch):
    small_model(tmp_path / "m", jit_compile=True)
    servable = serve.Servable(tmp_path / "m", compiled_steps=16)
    called, call = [], serve.Servable.call

    def noted(servable, question):
        called.append((question.signature, question.sequences, question.steps))
        return call(servable, question)

    monkeypatch.setattr(serve.Servable, "call", noted)
    rng = np.random.default_rng(0)
    shapes = (1, 3), (2, 5), (6, 16), (9, 2), (1, 17)
    questions = [
        servable.read({"inputs": rng.normal(size=(*shape, 2)).tolist()})
        for shape in shapes
    ]
    answers = [json.loads(servable.answer(each))["outputs"] for each in questions]
    # Programs for up to 16 steps, and batches of 8 at most; else without XLA.
    whole = "serving_default"
    assert called == [
        *[("compiled", 1, 4), ("compiled", 2, 8), ("compiled", 8, 16)],
        *[(whole, 9, 2), (whole, 1, 17)],
    ]
    plain = serve.Servable(tmp_path / "m")
    for question, answer in zip(questions, answers, strict=True):
        expected = json.loads(plain.answer(question))["outputs"]
        np.testing.assert_allclose(answer, expected, atol=1e-5)
    # Several at once, in the smallest program that has room.
    together = servable.answers(questions[:2])
    for answer, alone in zip(together, answers, strict=False):
        np.testing.assert_allclose(json.loads(answer)["outputs"], alone, atol=1e-5)
    assert called[-1] == ("compiled", 4, 8)


def test_what_may_look_ahead_is_answered_with_its_like_alone(serve, tmp_path):
    small_model(tmp_path / "m", streaming=False)
    servable = serve.Servable(tmp_path / "m")
    groups = [
        servable.group(servable.read({"inputs": np.zeros((1, steps, 2)).tolist()}))
        for steps in (3, 3, 4)
    ]
    assert groups[0] == groups[1] and groups[0].key != groups[2].key


def test_states_have_a_limit_in_bytes(serve):
    # A quarter of a MiB for a request, half a MiB for all sessions together.
    with TestClient(serve.make_app(COPY_NTM, memory_mib=1)) as client:
        reply = client.post(f"{MODEL}:predict", json={"inputs": GOOD * 200})
        assert reply.status_code == 400
        assert "at most 262144 bytes" in reply.json()["error"]
        sessions, statuses = [], set()
        while len(statuses) < 2:
            reply = client.post(f"{MODEL}/sessions", json={"batch_size": 10})
            statuses.add(reply.status_code)
            sessions.append(reply.json())
        assert statuses == {200, 429}
        assert "all sessions have 524288" in sessions[-1]["error"]
        # The end of a session makes room.
        client.delete(f"{MODEL}/sessions/{sessions[0]['session']}")
        assert client.post(f"{MODEL}/sessions", json={"batch_size": 10}).is_success


def test_a_request_has_a_limit_in_steps(serve):
    with TestClient(serve.make_app(COPY_NTM, max_work=20)) as client:
        session = open_session(client)
        body = {"inputs": random_bits(7, 3).tolist()}
        message = "at most 20 steps, of all sequences together"
        reply = client.post(f"{MODEL}:predict", json=body)
        assert reply.status_code == 400 and message in reply.json()["error"]
        body = {"inputs": random_bits(21).tolist()}
        reply = client.post(f"{session}:step", json=body)
        assert reply.status_code == 400 and message in reply.json()["error"]
        body = {"inputs": random_bits(20).tolist()}
        assert client.post(f"{session}:step", json=body).is_success


def test_pages_of_the_framework_are_not_served(client):
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert client.get(path).status_code == 404


def small_model(folder, weight=0.1, **options):
    layer = keras_sam.NTM(4, memory_slots=5, return_sequences=True)
    model = keras.Sequential([keras.Input((None, 2)), layer])
    model.set_weights([np.full(w.shape, weight) for w in model.get_weights()])
    return keras_sam.export_saved_model(model, folder, **options)


def test_a_version_without_a_model_is_passed_over(serve, tmp_path):
    small_model(tmp_path / "m")
    (tmp_path / "m" / "7").mkdir()
    with TestClient(serve.make_app(tmp_path / "m")) as client:
        (state,) = client.get("/v1/models/m").json()["model_version_status"]
        assert state["version"] == "1"
    with pytest.raises(SystemExit, match="No version of a model"):
        serve.make_app(tmp_path)


def test_a_name_that_is_a_pattern_is_refused(serve, tmp_path):
    with pytest.raises(SystemExit, match=r"--name must be .* Received: 'a\{b\}'"):
        serve.make_app(tmp_path / "a{b}")


def test_answers_that_are_no_numbers_are_an_error(serve, tmp_path):
    small_model(tmp_path / "m", weight=np.nan, streaming=False)
    with TestClient(serve.make_app(tmp_path / "m")) as client:
        reply = client.post("/v1/models/m:predict", json={"inputs": [[[1.0, 2.0]]]})
        assert reply.status_code == 500
        assert "numbers that are not finite" in reply.json()["error"]


def test_a_session_has_few_requests_waiting(serve, client, monkeypatch):
    session, may_end = open_session(client), threading.Event()
    call = serve.Servable.call

    def slow(servable, question):
        may_end.wait()
        return call(servable, question)

    monkeypatch.setattr(serve.Servable, "call", slow)
    body = {"inputs": GOOD}
    with ThreadPoolExecutor(8) as pool:
        ask = functools.partial(client.post, f"{session}:step", json=body)
        replies = [pool.submit(ask) for _ in range(6)]
        # While they wait for the session they take none of the server's two threads.
        refused = client.post(f"{MODEL}/sessions/guess:step", json=body)
        assert refused.status_code == 404
        while sum(reply.done() for reply in replies) < 2:
            pass
        may_end.set()
    statuses = sorted(reply.result().status_code for reply in replies)
    assert statuses == [200] * 4 + [429] * 2


class Turns:
    """Runs calls of clients by `Workers`, each as long as it is told to."""

    def __init__(self, workers):
        self.workers, self.started, self.may_end = workers, [], {}

    def ask(self, client, name, seconds=0.0, group=None):
        self.may_end[name] = threading.Event()

        def function(names):
            self.started.extend(names)
            self.may_end[name].wait()
            return names

        run = self.workers.run(client, seconds, function, name, group)
        return asyncio.create_task(run)

    async def wait_for(self, *names):
        async with asyncio.timeout(5):
            while set(self.started) != set(names):
                await asyncio.sleep(0)


def test_clients_take_turns(serve):
    async def main():
        turns = Turns(serve.Workers(threads=2))
        tasks = [turns.ask("busy", f"busy_{i}") for i in range(6)]
        tasks.append(turns.ask("other", "other"))
        await turns.wait_for("busy_0", "busy_1")
        turns.may_end["busy_0"].set()
        # Before the four that have waited longer.
        await turns.wait_for("busy_0", "busy_1", "other")
        for event in turns.may_end.values():
            event.set()
        assert await asyncio.gather(*tasks) == [*turns.may_end]

    asyncio.run(main())


def test_long_calls_leave_a_thread_to_short_ones(serve):
    async def main():
        turns = Turns(serve.Workers(threads=2, long=0.05))
        tasks = [turns.ask(f"client_{i}", f"long_{i}", 1.0) for i in range(3)]
        await turns.wait_for("long_0")
        tasks.append(turns.ask("other", "short"))
        await turns.wait_for("long_0", "short")
        turns.may_end["short"].set()
        await tasks[-1]
        assert turns.started == ["long_0", "short"]
        for event in turns.may_end.values():
            event.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_who_waits_may_leave_and_few_of_a_client_wait(serve):
    async def main():
        turns = Turns(serve.Workers(threads=2, waiting=2))
        tasks = [turns.ask("client", i) for i in range(4)]
        await turns.wait_for(0, 1)
        with pytest.raises(serve.RequestError, match="2 of your requests wait"):
            await turns.ask("client", "refused")
        tasks[2].cancel()
        await asyncio.sleep(0)
        turns.may_end[0].set()
        await turns.wait_for(0, 1, 3)
        for event in turns.may_end.values():
            event.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert done[:2] + done[3:] == [0, 1, 3]

    asyncio.run(main())


def test_calls_of_a_group_are_made_together(serve):
    workers = importlib.import_module("server.workers")

    async def main():
        turns = Turns(serve.Workers(threads=2))
        tasks = [turns.ask("client", name) for name in ("first", "second")]
        await turns.wait_for("first", "second")
        groups = [("a", 1), ("a", 2), ("b", 1), None, ("a", 2), ("a", 1)]
        for i, group in enumerate(groups):
            group = group and workers.Group(*group, most=4)
            tasks.append(turns.ask(f"client_{i}", f"call_{i}", group=group))
        turns.may_end["first"].set()
        # Those of key "a" with a size of 4 in all; the fifth has no room.
        await turns.wait_for("first", "second", "call_0", "call_1", "call_5")
        for event in turns.may_end.values():
            event.set()
        assert await asyncio.gather(*tasks) == [*turns.may_end]

    asyncio.run(main())


def test_an_error_is_its_own_callers(serve):
    async def main():
        workers = serve.Workers()
        with pytest.raises(ZeroDivisionError):
            await workers.run("client", 0.0, lambda x: 1 // 0, None)
        assert await workers.run("client", 0.0, lambda x: [3], None) == 3

    asyncio.run(main())


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


@contextlib.asynccontextmanager
async def listening(serve, protocol, seconds):
    """The address of a server in this process, with limits of two connections."""
    base = sys.modules["server.connections"].PROTOCOLS[protocol]
    limited = serve.limited_protocol(seconds=seconds, most=2, base=base)
    config = uvicorn.Config(serve.make_app(COPY_NTM), port=0, http=limited)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize("whole_before", [False, True])
@pytest.mark.parametrize("protocol", [0, -1])  # -1 is faster, where it is installed.
@pytest.mark.parametrize(
    "half",
    [b"POST /v1/mod", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"],
)
def test_half_a_request_is_not_waited_for(half, protocol, whole_before, serve):
    async def main():
        async with listening(serve, protocol, seconds=0.2) as address:
            reader, writer = await asyncio.open_connection(*address)
            if whole_before:
                writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"404" in await reader.read(1000)
            writer.write(half)
            # Before uvicorn's own five seconds, for a client that sends nothing.
            async with asyncio.timeout(3):
                with contextlib.suppress(ConnectionResetError):
                    await reader.read()
            # Others are closed at once.
            three = [await asyncio.open_connection(*address) for _ in range(3)]
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionResetError):
                    assert await three[2][0].read() == b""

    asyncio.run(main())


@pytest.mark.parametrize("protocol", [0, -1])
def test_headers_without_end_are_not_kept(protocol, serve):
    async def main():
        async with listening(serve, protocol, seconds=60) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2**15)
            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionResetError):
                    assert b" 200 " not in await reader.read()

    asyncio.run(main())


def test_numbers_of_an_answer_are_those_of_the_model(serve):
    servable = sys.modules["server.servable"]
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        numbers = rng.normal(size=(2, 3, 4)) * 10.0 ** rng.integers(-30, 30, (2, 3, 4))
        numbers = numbers.astype(dtype)
        got = np.array(json.loads(servable.array_as_json(numbers)), dtype)
        np.testing.assert_array_equal(got, numbers)
    assert servable.array_as_json(np.arange(3)) == "[0, 1, 2]"
    assert servable.array_as_json(np.float32(0.5)) == "0.5"
    with pytest.raises(servable.RequestError, match="not finite"):
        servable.array_as_json(np.array([np.inf]))


def test_attacks_are_survived(tmp_path):
    attacks = "half_heads,steps_of_one_session,leaves_at_once,garbage"
    options = ["--attacks", attacks, "--seconds", "1", "--output", tmp_path / "out"]
    # No status 500, no traceback, and no client that is not answered: it checks them.
    run_script("benchmarks/serving_attack.py", *options)
    results = json.loads((tmp_path / "out").read_text())
    refused = {row["attack"]: set(row["attackers_got"]) for row in results["attacks"]}
    assert {"400", "404", "405"} <= refused["garbage"]
    assert "429" in refused["steps_of_one_session"]


def test_example_and_its_client():
    with running_server(str(COPY_NTM)) as url:
        output = subprocess.run(
            [sys.executable, "examples/client.py", "copy_ntm", "--url", url],
            **{"cwd": ROOT, "capture_output": True, "text": True, "check": True},
        ).stdout
        with pytest.raises(urllib.error.HTTPError, match="413"):
            urllib.request.urlopen(f"{url}{MODEL}:predict", bytes(2**25))
    assert output.count("0 of 48 bits wrong") == 2
