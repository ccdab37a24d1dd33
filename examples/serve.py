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

With --page a browser finds a page at http://127.0.0.1:8501. It asks trained models of
the same folder, saved_models, about stories, and shows what their memories do.

This is an example for one machine: it has neither accounts nor encryption.
"""

import argparse
import asyncio
import functools
import json
import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Each of the server's threads runs a call by itself: --threads 16 for 16 cores.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import uvicorn
from server.connections import limited_protocol
from server.errors import RequestError
from server.looks import Looks
from server.page import page_routes
from server.servable import Servable
from server.sessions import Sessions
from server.workers import Workers, alone
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

MIB = 2**20
# The bytes of a request whose JSON is read at once, in less than a millisecond.
SMALL = 2**14
# So many times the bytes that a request may have are read before it is refused.
DRAINED = 8
# After SIGTERM answers that are being made have so long.
LAST_SECONDS = 5


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path, help="of the model: has a folder for each version")
    add("--name", help="default: that of the folder")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8501)
    add("--threads", type=int, default=2, help="that call the model, 2 at least")
    add("--session-seconds", type=float, default=600.0)
    add("--max-sessions", type=int, default=64)
    add("--max-batch", type=int, default=256, help="sequences of a request")
    add("--max-work", type=int, default=4096, help="steps of a request's sequences")
    add("--max-bytes", type=int, default=4 * MIB, help="of a request")
    add("--memory-mib", type=int, default=2048, help="of states: half for sessions")
    add("--compiled-steps", type=int, default=64, help="0: no programs of XLA")
    add("--request-seconds", type=float, default=10.0, help="to send or take it")
    add("--max-connections", type=int, default=128, help="of an address")
    add("--error-seconds", type=float, default=0.25, help="that an error is held back")
    add("--page", action="store_true", help="to look inside of trained models")
    return parser.parse_args()


def make_app(
    folder,
    name=None,
    threads=2,
    session_seconds=600.0,
    max_sessions=64,
    max_batch=256,
    max_work=4096,
    max_bytes=4 * MIB,
    memory_mib=2048,
    compiled_steps=0,
    error_seconds=0.0,
    page=False,
):
    """The server as an ASGI application."""
    folder = Path(folder)
    name = name or folder.resolve().name
    if not re.fullmatch(r"[\w.-]+", name):
        raise SystemExit(
            "error: --name must be of letters, digits, '_', '.' and '-'. Received: "
            f"{name!r}"
        )
    half = memory_mib * MIB // 2
    servable = Servable(folder, max_batch, max_work, half // threads, compiled_steps)
    workers = Workers(threads)
    sessions = Sessions(servable, workers.run, session_seconds, max_sessions, half)
    model, version = f"/v1/models/{name}", f"/versions/{servable.version}"

    async def read(request, check=lambda body: body):
        """What the request's JSON says, checked; 4 MiB take a while to read."""
        body, size = bytearray(), 0
        # A client sees no answer before it has sent all, or was too slow.
        async for part in request.stream():
            size += len(part)
            body += part if size <= max_bytes else b""
            if size > DRAINED * max_bytes:
                break
        if size > max_bytes:
            raise RequestError(413, f"A request has at most {max_bytes} bytes")
        if size <= SMALL:
            return parse(body, check)
        function = alone(functools.partial(parse, check=check))
        return await workers.run(client_of(request), 0.0, function, body)

    async def state(request):
        status = {"error_code": "OK", "error_message": ""}
        one = {"version": str(servable.version), "state": "AVAILABLE", "status": status}
        return reply(200, json.dumps({"model_version_status": [one]}))

    async def metadata(request):
        spec = {"name": name, "version": str(servable.version)}
        content = {"model_spec": spec, "metadata": servable.metadata()}
        return reply(200, json.dumps(content))

    async def predict(request):
        question = await read(request, servable.read)
        making = workers.run(
            client_of(request),
            servable.seconds(question),
            servable.answers,
            question,
            servable.group(question),
        )
        return await answer(request, making)

    async def start(request):
        body = await read(request)
        return await answer(request, sessions.start(client_of(request), body))

    async def step(request):
        body = await read(request)
        if "inputs" not in body:
            raise RequestError(400, "Missing 'inputs' key")
        moved = sessions.step(
            client_of(request), request.path_params["number"], body["inputs"]
        )
        return await answer(request, moved)

    async def end(request):
        return reply(200, sessions.end(request.path_params["number"]))

    async def told(request, error):
        # Who sends them in a flood has to wait: others have their turn.
        await asyncio.sleep(error_seconds)
        return reply(error.status, json.dumps({"error": str(error)}))

    async def gone(request, error):
        return reply(400, "")  # to nobody

    async def unknown(request, error):
        await asyncio.sleep(error_seconds)
        what = f"{request.method} {request.url.path}"
        if error.status_code == 404 and request.url.path.startswith("/v1/models/"):
            message = f"Servable not found for request: {what}"
        else:
            message = f"Malformed request: {what}"
        return reply(error.status_code, json.dumps({"error": message}))

    session = model + "/sessions/{number}"
    routes = [
        Route(f"{model}:predict", predict, methods=["POST"]),
        Route(f"{model}{version}:predict", predict, methods=["POST"]),
        Route(f"{session}:step", step, methods=["POST"]),
        Route(f"{model}/sessions", start, methods=["POST"]),
        Route(session, end, methods=["DELETE"]),
        *(Route(model + of, state) for of in ("", version)),
        *(Route(f"{model}{of}/metadata", metadata) for of in ("", version)),
    ]
    if page:
        looks = Looks(folder.resolve().parent)

        async def look(request, kind):
            body = await read(request)
            return await answer(request, looks.look(client_of(request), kind, body))

        routes += page_routes(look)
    told_of = {RequestError: told, ClientDisconnect: gone, HTTPException: unknown}
    return Starlette(routes=routes, exception_handlers=told_of)


async def answer(request, making):
    """The answer once it is made, unless its client leaves before."""
    tasks = [asyncio.ensure_future(each) for each in (making, request.receive())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientDisconnect
        return reply(200, tasks[0].result())
    finally:
        for task in tasks:
            task.cancel()


def client_of(request):
    return request.client.host if request.client else ""


def parse(body, check):
    try:
        body = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"JSON Parse error: {error}") from error
    if not isinstance(body, dict):
        raise RequestError(400, "JSON Parse error: expected an object, {...}")
    return check(body)


def reply(status, content):
    return Response(content, status, media_type="application/json")


def main():
    arguments = vars(parse_arguments())
    names = ("host", "port", "request_seconds", "max_connections")
    host, port, seconds, connections = map(arguments.pop, names)
    uvicorn.run(
        make_app(**arguments),
        host=host,
        port=port,
        http=limited_protocol(seconds, connections),
        ws="none",
        timeout_graceful_shutdown=LAST_SECONDS,
        log_level="info",
        access_log=False,  # A line for each request takes as long as reading one.
    )
    # Not after the calls that still run: their clients have been sent away.
    os._exit(0)


if __name__ == "__main__":
    main()
