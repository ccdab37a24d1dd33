"""Whose turn it is: threads that answer clients one after the other."""

import asyncio
import functools
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from .errors import RequestError

# Whose last turn is remembered.
MOST_CLIENTS = 1000


class Group(NamedTuple):
    """What calls must share to be made together, and how many may be."""

    key: Hashable
    size: int  # of this call
    most: int  # the sizes of all calls together


class Call(NamedTuple):
    """A call that waits for its turn."""

    is_long: bool
    done: asyncio.Future
    function: Callable
    argument: Any
    group: Group | None


class Workers:
    """Threads that the clients use in turn.

    A client with many calls delays a call of another client by no more than the calls
    that run. Long calls leave one thread to the short ones. All belongs to one event
    loop.

    Args:
        threads: Integer, at least 2.
        waiting: Integer, the calls of a client that may wait.
        long: Number of seconds from which on a call is a long one.
    """

    def __init__(self, threads=2, waiting=128, long=0.02):
        self._pool = ThreadPoolExecutor(threads, "worker")
        self._threads, self._waiting, self._long = threads, waiting, long
        self._running = self._running_long = 0
        self._calls = {}  # that wait, by client
        self._turns = {}  # the number of each client's last turn, the oldest first
        self._turn = 0

    async def run(self, client, seconds, function, argument, group=None):
        """Calls a function in a thread when it is the client's turn.

        Args:
            client: String.
            seconds: Number, what the call is expected to take.
            function: Takes a list of arguments, those of calls that are made together.
                Returns a list with a result, or an exception, for each.
            argument: Of this call.
            group: Optional `Group`. Calls of one key that wait are made together, by
                the function of the first.

        Returns:
            The result.
        """
        calls = self._calls.setdefault(client, [])
        if len(calls) >= self._waiting:
            raise RequestError(429, f"{len(calls)} of your requests wait already")
        done = asyncio.get_running_loop().create_future()
        calls.append(Call(seconds >= self._long, done, function, argument, group))
        self._start_calls()
        return await done

    def _start_calls(self):
        loop = asyncio.get_running_loop()
        while self._running < self._threads and (call := self._next_call()):
            calls = [call, *self._calls_to_join(call)]
            self._running += 1
            self._running_long += call.is_long
            arguments = [each.argument for each in calls]
            running = loop.run_in_executor(self._pool, call.function, arguments)
            running.add_done_callback(functools.partial(self._ended, calls))

    def _next_call(self):
        """A call of the client whose last turn is the longest time ago."""
        long_may_start = self._running_long < self._threads - 1
        for client in sorted(self._calls, key=lambda c: self._turns.get(c, 0)):
            # Some leave while they wait.
            waiting = [c for c in self._calls.pop(client) if not c.done.cancelled()]
            if waiting:
                self._calls[client] = waiting
            for i, call in enumerate(waiting):
                if long_may_start or not call.is_long:
                    self._took_turn(client)
                    return waiting.pop(i)
        return None

    def _calls_to_join(self, call):
        """Calls of the group that are waiting, as many as may be made together."""
        joined, group = [], call.group
        if group is None:
            return joined
        room = group.most - group.size
        for waiting in self._calls.values():
            for other in list(waiting):
                if (
                    other.group is not None
                    and other.group.key == group.key
                    and other.group.size <= room
                    and other.is_long <= call.is_long
                    and not other.done.cancelled()
                ):
                    room -= other.group.size
                    joined.append(other)
                    waiting.remove(other)
        return joined

    def _took_turn(self, client):
        self._turn += 1
        self._turns.pop(client, None)
        self._turns[client] = self._turn
        if len(self._turns) > MOST_CLIENTS:
            del self._turns[next(iter(self._turns))]

    def _ended(self, calls, running):
        self._running -= 1
        self._running_long -= calls[0].is_long
        error = running.exception()
        results = [error] * len(calls) if error else running.result()
        for call, result in zip(calls, results, strict=True):
            if call.done.cancelled():
                continue
            if isinstance(result, Exception):
                call.done.set_exception(result)
            else:
                call.done.set_result(result)
        self._start_calls()


def alone(function):
    """A function of one argument as one of a list with it, for `Workers.run`."""
    return lambda arguments: [function(*arguments)]
