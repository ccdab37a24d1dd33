"""Serve a SavedModel over HTTP, as TensorFlow Serving does.

    pip install -e ".[serve]"
    python examples/serve.py saved_models/copy_ntm
    python examples/client.py copy_ntm

The latest version in the folder answers at the addresses of TensorFlow Serving's REST
interface (https://www.tensorflow.org/tfx/serving/api_rest), with its bodies and status
codes, so that a client need not know which of the two it talks to:

    GET  /v1/models/NAME             the state of the model
    GET  /v1/models/NAME/metadata    its signatures
    POST /v1/models/NAME:predict     {"instances": [...]} or {"inputs": ...}

What TensorFlow Serving has not: sequences that go on from request to request. The
server keeps their states, which a model of keras_sam.export_saved_model takes and
returns, until nobody has asked for them for a while:

    POST   /v1/models/NAME/sessions           {"batch_size": 1}: {"session": ID}
    POST   /v1/models/NAME/sessions/ID:step   {"inputs": chunk}: {"outputs": ...}
    DELETE /v1/models/NAME/sessions/ID

This is an example for one machine: it has neither accounts nor encryption.
"""

import argparse
import collections
import contextlib
import json
import os
import secrets
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import fastapi
import numpy as np
import tensorflow as tf
import uvicorn
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.exceptions import HTTPException

# ScaNN's operations, where there are such, for models that look words up with it.
with contextlib.suppress(ImportError, tf.errors.NotFoundError):
    import scann  # noqa: F401

STATUS_OF = {
    tf.errors.InvalidArgumentError: 400,
    tf.errors.ResourceExhaustedError: 429,
}


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path, help="of the model: has a folder for each version")
    add("--name", help="default: that of the folder")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8501)
    add("--session-seconds", type=float, default=600.0)
    add("--max-sessions", type=int, default=64)
    add("--max-batch", type=int, default=256)
    add("--max-bytes", type=int, default=4 * 2**20, help="of a request")
    return parser.parse_args()


class RequestError(Exception):
    """What a client is told, and the status code."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Servable:
    """The latest version of a model: named arrays in, named arrays out."""

    def __init__(self, folder, max_batch):
        versions = [int(p.name) for p in folder.glob("*") if p.name.isdecimal()]
        if not versions:
            raise SystemExit(f"No version of a model, such as {folder}/1.")
        self.version = max(versions)
        self._max_batch = max_batch
        # Kept: signatures do not keep what they need.
        self._loaded = tf.saved_model.load(folder / str(self.version))
        self._signatures = self._loaded.signatures
        self._lock = threading.Lock()
        self._prepared = set()  # names of the signatures that have been called

    def signature(self, name):
        if name not in self._signatures:
            raise RequestError(
                400, f"Serving signature name: {name!r} not found in signature def"
            )
        return self._signatures[name]

    def inputs_of(self, name):
        """The signature's inputs: `tf.TensorSpec` by name."""
        return self.signature(name).structured_input_signature[1]

    def metadata(self):
        def describe(specs):
            return {
                key: {
                    "dtype": f"DT_{spec.dtype.name.upper()}",
                    "tensor_shape": [-1 if n is None else n for n in spec.shape],
                }
                for key, spec in specs.items()
            }

        return {
            name: {
                "inputs": describe(self.inputs_of(name)),
                "outputs": describe(signature.structured_outputs),
            }
            for name, signature in self._signatures.items()
        }

    def call(self, name, values):
        """Calls a signature; tensors by name for values by name."""
        specs = self.inputs_of(name)
        if values.keys() != specs.keys():
            raise RequestError(
                400, f"Expected the inputs {sorted(specs)}. Received: {sorted(values)}"
            )
        tensors = {
            key: self._tensor(key, spec, values[key]) for key, spec in specs.items()
        }
        try:
            return self._run(name, tensors)
        except tf.errors.OpError as error:
            raise RequestError(
                STATUS_OF.get(type(error), 500), error.message
            ) from error

    def _run(self, name, tensors):
        signature = self.signature(name)
        if name not in self._prepared:
            # TensorFlow prepares a function at its first call, for seconds. Calls at
            # the same time would each prepare it, all together for minutes.
            with self._lock:
                if name not in self._prepared:
                    outputs = signature(**tensors)
                    self._prepared.add(name)
                    return outputs
        return signature(**tensors)

    def _tensor(self, name, spec, value):
        if isinstance(value, tf.Tensor):  # a state, from here
            return value
        dtype = spec.dtype.as_numpy_dtype
        try:
            array = np.asarray(value)
        except ValueError:  # lists of different lengths
            array = np.asarray(None)
        kinds = "iuf" if spec.dtype.is_floating else "iu"
        # An empty list has no numbers to judge.
        if array.dtype.kind not in kinds and array.size:
            raise RequestError(
                400,
                f"{name!r} must be a tensor of {spec.dtype.name}, nested lists of "
                "equal lengths",
            )
        with np.errstate(over="ignore"):
            converted = array.astype(dtype)
        if not spec.dtype.is_floating and not np.array_equal(converted, array):
            raise RequestError(400, f"{name!r} has numbers beyond {spec.dtype.name}")
        if spec.shape.rank and 0 in array.shape[:2]:
            raise RequestError(
                400,
                f"{name!r} must have a sequence, of a step, at least. Received: shape "
                f"{list(array.shape)}",
            )
        if not spec.shape.is_compatible_with(array.shape):
            expected = [-1 if n is None else n for n in spec.shape]
            raise RequestError(
                400,
                f"{name!r} must be of shape {expected}. Received: {list(array.shape)}",
            )
        batch = array.shape[0] if array.ndim else int(array)
        if batch > self._max_batch:
            raise RequestError(
                400, f"{name!r}: at most {self._max_batch} sequences. Received: {batch}"
            )
        if not np.all(np.isfinite(converted)):
            raise RequestError(
                400, f"{name!r} must be finite numbers, of {spec.dtype.name}"
            )
        return tf.constant(converted)

    def predict(self, body):
        """The answer to a request in TensorFlow Serving's row or column format."""
        name = body.get("signature_name", "serving_default")
        if not isinstance(name, str):
            raise RequestError(400, "'signature_name' must be a string")
        keys = list(self.inputs_of(name))
        if ("instances" in body) == ("inputs" in body):
            raise RequestError(
                400, "Request must have either 'instances' (row) or 'inputs' (columnar)"
            )
        if "inputs" in body:
            values = body["inputs"]
            if not isinstance(values, dict):
                values = {keys[0]: values} if len(keys) == 1 else {}
            outputs = as_lists(self.call(name, values))
            return {"outputs": outputs if len(outputs) > 1 else first(outputs)}
        rows = body["instances"]
        if not isinstance(rows, list):
            raise RequestError(400, "'instances' must be a list")
        if rows and isinstance(rows[0], dict):
            if not all(
                isinstance(r, dict) and r.keys() == rows[0].keys() for r in rows
            ):
                raise RequestError(400, "All instances must have the same inputs")
            values = {key: [row[key] for row in rows] for key in rows[0]}
        else:
            values = {keys[0]: rows} if len(keys) == 1 else {}
        outputs = as_lists(self.call(name, values))
        if any(
            not isinstance(o, list) or len(o) != len(rows) for o in outputs.values()
        ):
            raise RequestError(
                400, "Outputs have no row for each instance; use 'inputs'"
            )
        if len(outputs) == 1:
            return {"predictions": first(outputs)}
        rows = zip(*outputs.values(), strict=True)
        return {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}


def as_lists(tensors):
    return {name: tensor.numpy().tolist() for name, tensor in tensors.items()}


def first(outputs):
    return next(iter(outputs.values()))


class Session:
    """The states of sequences that go on; one request at a time moves them on."""

    def __init__(self, states):
        self.states = states
        self.lock = threading.Lock()
        self.used = time.monotonic()


class Sessions:
    """The sessions of a model: so many at most, each until it has not been used."""

    def __init__(self, servable, seconds, most):
        self._servable = servable
        self._seconds = seconds
        self._most = most
        self._lock = threading.Lock()
        self._by_id = collections.OrderedDict()  # the one used longest ago first

    def start(self, batch_size):
        states = self._servable.call("initial_state", {"batch_size": batch_size})
        with self._lock:
            self._expire()
            if len(self._by_id) >= self._most:
                raise RequestError(
                    429,
                    f"There are {self._most} sessions; one not used for "
                    f"{self._seconds:g} seconds makes room.",
                )
            number = secrets.token_urlsafe(16)
            self._by_id[number] = Session(states)
        return {"session": number}

    def step(self, number, inputs):
        with self._lock:
            self._expire()
            session = self._get(number)
            session.used = time.monotonic()
            self._by_id.move_to_end(number)
        with session.lock:
            specs = self._servable.inputs_of("step")
            if not isinstance(inputs, dict):
                names = [name for name in specs if name not in session.states]
                inputs = dict.fromkeys(names, inputs)
            given = inputs.keys() & session.states.keys()
            if given:
                raise RequestError(400, f"States are the server's: {sorted(given)}")
            self._check_batch(inputs, session.states)
            results = dict(self._servable.call("step", inputs | session.states))
            # Only now: what failed has moved nothing on.
            session.states = {name: results.pop(name) for name in session.states}
        outputs = as_lists(results)
        return {"outputs": outputs if len(outputs) > 1 else first(outputs)}

    def _check_batch(self, inputs, states):
        batch = len(first(states))
        for name, value in inputs.items():
            if isinstance(value, list) and value and len(value) != batch:
                raise RequestError(
                    400,
                    f"{name!r} must have a chunk for each of the session's {batch} "
                    f"sequences. Received: {len(value)}",
                )

    def end(self, number):
        with self._lock:
            self._expire()
            self._get(number)
            del self._by_id[number]
        return {}

    def _get(self, number):
        if number not in self._by_id:
            raise RequestError(404, f"No session {number!r}, or it has expired")
        return self._by_id[number]

    def _expire(self):
        oldest = time.monotonic() - self._seconds
        while self._by_id and first(self._by_id).used < oldest:
            self._by_id.popitem(last=False)


def make_app(
    folder,
    name=None,
    session_seconds=600.0,
    max_sessions=64,
    max_batch=256,
    max_bytes=4 * 2**20,
):
    """The server as an ASGI application."""
    folder = Path(folder)
    name = name or folder.resolve().name
    servable = Servable(folder, max_batch)
    sessions = Sessions(servable, session_seconds, max_sessions)
    app = fastapi.FastAPI(title=f"{name}, version {servable.version}")
    model, version = f"/v1/models/{name}", f"/versions/{servable.version}"

    async def read(request):
        body, size = b"", 0
        # A client sees no answer before it has sent all, so all is read.
        async for part in request.stream():
            size += len(part)
            body += part if size <= max_bytes else b""
        if size > max_bytes:
            raise RequestError(413, f"A request has at most {max_bytes} bytes")
        try:
            body = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RequestError(400, f"JSON Parse error: {error}") from error
        if not isinstance(body, dict):
            raise RequestError(400, "JSON Parse error: expected an object, {...}")
        return body

    async def answer(function, *arguments):
        return reply(200, await run_in_threadpool(function, *arguments))

    @app.get(model)
    @app.get(model + version)
    def state():
        status = {"error_code": "OK", "error_message": ""}
        one = {"version": str(servable.version), "state": "AVAILABLE", "status": status}
        return reply(200, {"model_version_status": [one]})

    @app.get(model + "/metadata")
    @app.get(model + version + "/metadata")
    def metadata():
        spec = {"name": name, "version": str(servable.version)}
        return reply(200, {"model_spec": spec, "metadata": servable.metadata()})

    @app.post(model + ":predict")
    @app.post(model + version + ":predict")
    async def predict(request: fastapi.Request):
        return await answer(servable.predict, await read(request))

    @app.post(model + "/sessions")
    async def start(request: fastapi.Request):
        body = await read(request)
        return await answer(sessions.start, body.get("batch_size", 1))

    @app.post(model + "/sessions/{number}:step")
    async def step(number: str, request: fastapi.Request):
        body = await read(request)
        if "inputs" not in body:
            raise RequestError(400, "Missing 'inputs' key")
        return await answer(sessions.step, number, body["inputs"])

    @app.delete(model + "/sessions/{number}")
    async def end(number: str):
        return await answer(sessions.end, number)

    @app.exception_handler(RequestError)
    def told(request, error):
        return reply(error.status, {"error": str(error)})

    @app.exception_handler(HTTPException)
    def unknown(request, error):
        what = f"{request.method} {request.url.path}"
        if error.status_code == 404 and request.url.path.startswith("/v1/models/"):
            return reply(404, {"error": f"Servable not found for request: {what}"})
        return reply(error.status_code, {"error": f"Malformed request: {what}"})

    return app


def reply(status, content):
    return Response(json.dumps(content), status, media_type="application/json")


def main():
    arguments = vars(parse_arguments())
    host, port = arguments.pop("host"), arguments.pop("port")
    uvicorn.run(make_app(**arguments), host=host, port=port, log_level="info")


if __name__ == "__main__":
    main()
