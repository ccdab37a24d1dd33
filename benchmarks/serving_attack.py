"""What a client of examples/serve.py notices while another one attacks the server.

    pip install -e ".[dev]"
    python benchmarks/serving_attack.py                      # some minutes
    python benchmarks/serving_attack.py --attacks half_bodies,garbage --seconds 2

Attackers and server are on this machine, and the attackers use the address 127.0.0.2.
A client of 127.0.0.1 asks saved_models/copy_ntm one request after the other. Question:
how long does the client wait, without and with each attack? Expected: at most three
times as long, with no wrong answer; no status 500 and no traceback in the log; a
bounded memory; and the server ends within 10 seconds of SIGTERM, whatever is half sent.
"""

import argparse
import asyncio
import collections
import json
import multiprocessing
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from measuring import provenance, resident_mib

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "saved_models" / "copy_ntm"
PATH = f"/v1/models/{MODEL.name}"
HOST, ATTACKER = "127.0.0.1", "127.0.0.2"
CONNECTIONS = 32
OPTIONS = ("--memory-mib", "64", "--request-seconds", "5")
# What the server may need beyond what it has without an attack.
MOST_MIB = 512
LONGEST_WAIT, LONGEST_END = 10.0, 10.0  # seconds


def parse_arguments(options=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--attacks", default=",".join(ATTACKS))
    add("--seconds", type=float, default=10.0, help="of each attack")
    add("--seed", type=int, default=0)
    add("--output", type=Path, default=ROOT / "benchmarks/results/serving_attack.json")
    return parser.parse_args(options)


# Attacks: what one connection does, again and again. They return the status.


def request(method, path, body=b"", length=None):
    length = len(body) if length is None else length
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
    return head.encode("latin-1") + body


def sequence(steps, batch=1):
    return [[[0] * 9] * steps] * batch


def as_body(content):
    return json.dumps(content).encode()


class Connection:
    """A connection of the attacker."""

    def __init__(self, port, rng):
        self._port, self.rng = port, rng

    async def __aenter__(self):
        self._reader, self._writer = await asyncio.open_connection(
            HOST, self._port, local_addr=(ATTACKER, 0)
        )
        return self

    async def __aexit__(self, *_):
        self._writer.transport.abort()

    async def send(self, data):
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self):
        """The status of the answer and its body, read as a whole."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        _, named, rest = head.lower().partition(b"content-length:")
        size = int(rest.split()[0]) if named else 0
        return int(head.split()[1]), await self._reader.readexactly(size)

    async def status(self):
        status, _ = await self.answer()
        return status

    async def post(self, path, content):
        await self.send(request("POST", path, as_body(content)))


async def half_heads(connection):
    await connection.send(request("POST", f"{PATH}:predict")[:30])
    return await connection.status()


async def half_bodies(connection):
    await connection.send(request("POST", f"{PATH}:predict", b"{", length=1000))
    return await connection.status()


async def endless_bodies(connection):
    head = f"POST {PATH}:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked"
    await connection.send(head.encode() + b"\r\n\r\n")
    while True:
        await connection.send(b"2710\r\n" + b" " * 10_000 + b"\r\n")
        await asyncio.sleep(0.01)


async def long_sequences(connection):
    await connection.post(f"{PATH}:predict", {"inputs": sequence(4096)})
    return await connection.status()


async def too_long_sequences(connection):
    await connection.post(f"{PATH}:predict", {"inputs": sequence(20_000)})
    return await connection.status()


async def large_states(connection):
    await connection.post(f"{PATH}/sessions", {"batch_size": 256})
    return await connection.status()


_session = None


async def start_session(connection):
    await connection.post(f"{PATH}/sessions", {"batch_size": 1})
    _, body = await connection.answer()
    return json.loads(body).get("session", "none")


async def steps_of_one_session(connection):
    global _session
    if _session is None:
        _session = asyncio.ensure_future(start_session(connection))
    path = f"{PATH}/sessions/{await _session}:step"
    await connection.post(path, {"inputs": sequence(500)})
    return await connection.status()


async def leaves_at_once(connection):
    await connection.post(f"{PATH}:predict", {"inputs": sequence(20)})
    return 0


async def takes_no_answer(connection):
    body = as_body({"inputs": sequence(4, batch=256)})
    for _ in range(50):
        await connection.send(request("POST", f"{PATH}:predict", body))
    await asyncio.sleep(60)


async def looks_at_the_page(connection):
    """At one of the longest sequences."""
    names = ["copy_dnc", "copy_ntm", "copy_sam"]
    body = {"model": connection.rng.choice(names), "size": 30}
    await connection.post(
        "/page/runs", {**body, "seed": connection.rng.randrange(1000)}
    )
    return await connection.status()


async def garbage(connection):
    rng = connection.rng
    values = [0, -1, 1e400, "x", None, True, [], {}, [[]], 2**70, float("nan")]
    values += [sequence(2), sequence(1, batch=300), [[[0.5] * 8]], "\ud800"]
    names = ["inputs", "instances", "signature_name", "batch_size", "memory_memory"]
    content = {rng.choice(names): rng.choice(values) for _ in range(rng.randrange(4))}
    if rng.random() < 0.3:
        content = {"inputs": content, "signature_name": rng.choice(["step", "x"])}
    body = json.dumps(content).encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        body = rng.randbytes(rng.randrange(200))
    elif rng.random() < 0.2:
        body = rng.choice([b"[", b'{"inputs":[']) * 50_000
    path = PATH + rng.choice([":predict", "/sessions", "/sessions/x:step", "/x", ""])
    if rng.random() < 0.2:  # of the page, if there is one
        path = rng.choice(["/page/runs", "/page/stories", "/page/models", "/page/x"])
    if rng.random() < 0.2:
        path = "/" + rng.choice(["%00", "..%2f..", "v1/models/{x}", "docs", "a" * 5000])
    method = rng.choice(["POST", "POST", "POST", "GET", "DELETE", "PUT", "BREW"])
    data = bytearray(request(method, path, body))
    if rng.random() < 0.1:
        data[rng.randrange(60)] = rng.randrange(256)
    await connection.send(bytes(data))
    return await asyncio.wait_for(connection.status(), LONGEST_WAIT)


ATTACKS = {
    attack.__name__: attack
    for attack in (
        half_heads,
        half_bodies,
        endless_bodies,
        long_sequences,
        too_long_sequences,
        large_states,
        steps_of_one_session,
        leaves_at_once,
        takes_no_answer,
        looks_at_the_page,
        garbage,
    )
}


def attack(name, port, seconds, seed, results):
    """Attacks with many connections at the same time; run in a process of its own."""
    statuses = collections.Counter()
    end = time.monotonic() + seconds

    async def connect(number):
        rng = random.Random(f"{seed} {number}")
        while time.monotonic() < end:
            try:
                async with Connection(port, rng) as connection:
                    statuses[await ATTACKS[name](connection)] += 1
            except TimeoutError:
                statuses["no answer"] += 1
            except (OSError, EOFError):
                statuses["closed"] += 1
                await asyncio.sleep(0.01)

    async def attack_together():
        tasks = [asyncio.create_task(connect(i)) for i in range(CONNECTIONS)]
        await asyncio.sleep(end - time.monotonic())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(attack_together())
    results.put({str(status): count for status, count in statuses.items()})


# The client, and the server.


def ask_for(port, seconds):
    """The seconds that a client waits for each answer."""
    connection = HTTPConnection(HOST, port, timeout=LONGEST_WAIT)
    body = as_body({"inputs": sequence(20)})
    waits, answers, end = [], [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        connection.request("POST", f"{PATH}:predict", body)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answers.append(json.load(answer)["outputs"])
        waits.append(time.perf_counter() - start)
    # Requests that are answered together differ in the last bits.
    assert np.ptp(np.array(answers), axis=0).max() < 1e-5
    return waits


def start_server(log, *options):
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, ROOT / "examples/serve.py", MODEL, "--port", str(port)]
    process = subprocess.Popen(
        [*command, *OPTIONS, *options], stdout=subprocess.DEVNULL, stderr=log
    )
    while True:
        try:
            socket.create_connection((HOST, port)).close()
            return process, port
        except ConnectionRefusedError:
            if process.poll() is not None:
                raise SystemExit("The server did not start.") from None
            time.sleep(0.1)


def measure(name, server, port, arguments):
    """A row of the results: the client's waits without and with an attack."""
    time.sleep(1.0)  # What the last attack has begun may end.
    before, mib = ask_for(port, arguments.seconds / 2), resident_mib(server.pid)
    context = multiprocessing.get_context("spawn")
    results, most = context.Queue(), [mib]
    attacker = context.Process(
        target=attack, args=(name, port, arguments.seconds, arguments.seed, results)
    )
    attacker.start()

    def watch():
        while attacker.is_alive():
            most.append(resident_mib(server.pid))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    waits = ask_for(port, arguments.seconds)
    statuses = results.get(timeout=60)
    watcher.join()
    row = {
        "attack": name,
        "milliseconds_without": round(1e3 * statistics.median(before), 1),
        "milliseconds_under_attack": round(1e3 * statistics.median(waits), 1),
        "milliseconds_longest": round(1e3 * max(waits), 1),
        "mib_more": round(max(most) - mib),
        "attackers_got": statuses,
    }
    row["times_as_long"] = round(
        statistics.median(waits) / statistics.median(before), 2
    )
    assert "500" not in statuses and "no answer" not in statuses, row
    assert row["mib_more"] < MOST_MIB, row
    return row


def seconds_to_end(server, port):
    """From SIGTERM on, while a hundred requests are half sent."""
    open_ones = []
    for i in range(100):
        half = socket.create_connection((HOST, port), source_address=(ATTACKER, 0))
        data = request("POST", f"{PATH}:predict", b"{", length=1000)
        half.sendall(data if i % 2 else data[:30])
        open_ones.append(half)
    start = time.perf_counter()
    server.terminate()
    server.wait(timeout=60)
    return time.perf_counter() - start


def attack_all(arguments, log):
    names = arguments.attacks.split(",")
    with_page = looks_at_the_page.__name__ in names
    server, port = start_server(log, *["--page"] * with_page)
    try:
        ask_for(port, 1.0)  # warm
        if with_page:  # once its process has begun
            urllib.request.urlopen(f"http://{HOST}:{port}/page/models", b"{}").read()
        rows = []
        for name in names:
            rows.append(measure(name, server, port, arguments))
            print(rows[-1], flush=True)
        return rows, seconds_to_end(server, port)
    finally:
        server.kill()


def main(options=None):
    arguments = parse_arguments(options)
    with tempfile.TemporaryFile("w+") as log:
        rows, ended = attack_all(arguments, log)
        log.seek(0)
        lines = log.read().splitlines()
    print(f"The server ended {ended:.1f} s after SIGTERM.")
    assert ended < LONGEST_END
    assert not [line for line in lines if line.startswith("Traceback")], lines[-60:]
    results = {
        **provenance(),
        "connections": CONNECTIONS,
        "seconds": arguments.seconds,
        "seconds_from_sigterm_to_end": round(ended, 1),
        "attacks": rows,
    }
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
