"""Sequences that go on from request to request: the server keeps their states."""

import asyncio
import collections
import functools
import json
import secrets
import time

from .errors import RequestError
from .servable import first, outputs_as_json
from .workers import alone


class Session:
    """The states of some sequences; one request at a time moves them on."""

    def __init__(self, states, size):
        self.states = states
        self.bytes = size
        self.lock = asyncio.Lock()
        self.waiting = 0
        self.used = time.monotonic()


class Sessions:
    """The sessions of a model: so many at most, each until it has not been used.

    Args:
        servable: A `Servable`.
        run: `Workers.run`.
        seconds: Number, how long a session is kept that nobody uses.
        most: Integer, the sessions.
        most_bytes: Integer, what the states of all sessions may take.
        waiting: Integer, the requests that may wait for a session.
    """

    def __init__(self, servable, run, seconds, most, most_bytes, waiting=4):
        self._servable, self._run = servable, run
        self._seconds, self._most, self._most_bytes = seconds, most, most_bytes
        self._waiting = waiting
        self._bytes = 0
        self._by_id = collections.OrderedDict()  # the one used longest ago first
        self._starting = 0

    async def start(self, client, body):
        values = {"batch_size": body.get("batch_size", 1)}
        question = self._servable.question("initial_state", values)
        size = self._servable.bytes(question)
        self._expire()
        if len(self._by_id) + self._starting >= self._most:
            raise RequestError(
                429,
                f"There are {self._most} sessions; one not used for "
                f"{self._seconds:g} seconds makes room.",
            )
        if self._bytes + size > self._most_bytes:
            raise RequestError(
                429,
                f"The states of this session take {size} bytes, and all sessions have "
                f"{self._most_bytes}, of which {self._bytes} are taken.",
            )
        # From now on: others start while this one waits for its turn.
        self._bytes += size
        self._starting += 1
        try:
            seconds = self._servable.seconds(question)
            call = alone(self._servable.call)
            states = await self._run(client, seconds, call, question)
        except BaseException:
            self._bytes -= size
            raise
        finally:
            self._starting -= 1
        number = secrets.token_urlsafe(16)
        self._by_id[number] = Session(states, size)
        return json.dumps({"session": number})

    async def step(self, client, number, inputs):
        self._expire()
        session = self._get(number)
        if session.waiting >= self._waiting:
            raise RequestError(
                429, f"{session.waiting} requests wait for this session already"
            )
        session.waiting += 1
        try:
            async with session.lock:
                self._get(number)  # It may have ended by now.
                session.used = time.monotonic()
                self._by_id.move_to_end(number)
                check = functools.partial(self._question, states=session.states)
                question = await self._run(client, 0.0, alone(check), inputs)
                seconds = self._servable.seconds(question)
                step = functools.partial(self._step, fields=list(session.states))
                states, answer = await self._run(client, seconds, alone(step), question)
                # Only now: what failed has moved nothing on.
                session.states = states
                return answer
        finally:
            session.waiting -= 1

    def _question(self, inputs, states):
        if not isinstance(inputs, dict):
            specs = self._servable.inputs_of("step")
            inputs = dict.fromkeys(
                (name for name in specs if name not in states), inputs
            )
        given = inputs.keys() & states.keys()
        if given:
            raise RequestError(400, f"States are the server's: {sorted(given)}")
        batch = len(first(states))
        for name, value in inputs.items():
            if isinstance(value, list) and value and len(value) != batch:
                raise RequestError(
                    400,
                    f"{name!r} must have a chunk for each of the session's {batch} "
                    f"sequences. Received: {len(value)}",
                )
        return self._servable.question("step", inputs | states)

    def _step(self, question, fields):
        results = dict(self._servable.call(question))
        states = {name: results.pop(name) for name in fields}
        return states, f'{{"outputs": {outputs_as_json(results)}}}'

    def end(self, number):
        self._expire()
        self._get(number)
        self._bytes -= self._by_id.pop(number).bytes
        return json.dumps({})

    def _get(self, number):
        if number not in self._by_id:
            raise RequestError(404, f"No session {number!r}, or it has expired")
        return self._by_id[number]

    def _expire(self):
        oldest = time.monotonic() - self._seconds
        while self._by_id and first(self._by_id).used < oldest:
            self._bytes -= self._by_id.popitem(last=False)[1].bytes
