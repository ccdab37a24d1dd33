"""A process of its own for the looks inside of models that the page asks for.

A look is Python for seconds at the first of a model. In the server's process it would
keep other clients waiting.
"""

import asyncio
import collections
import multiprocessing
import traceback
from concurrent.futures import ThreadPoolExecutor

from .errors import RequestError

# Looks that wait.
MOST_OF_A_CLIENT, MOST = 2, 16
# Of each value of a request.
MOST_CHARACTERS = 5000


class Looks:
    """Looks at the trained models of a folder, one after the other.

    Args:
        folder: Path, such as saved_models.
    """

    def __init__(self, folder):
        # Not forked: TensorFlow may have run here.
        context = multiprocessing.get_context("spawn")
        self._pipe, pipe = context.Pipe()
        context.Process(target=answer_looks, args=(pipe, folder), daemon=True).start()
        pipe.close()
        self._thread = ThreadPoolExecutor(1, "looks")
        self._waiting = collections.Counter()  # by client

    async def look(self, client, kind, body):
        """The answer as JSON.

        Args:
            client: String.
            kind: String, one of those in `answer_looks`.
            body: Dictionary, what the page asks.
        """
        for value in body.values():
            if not isinstance(value, str | int) or len(str(value)) > MOST_CHARACTERS:
                raise RequestError(
                    400,
                    "The page sends integers and strings of at most "
                    f"{MOST_CHARACTERS} characters",
                )
        if self._waiting[client] >= MOST_OF_A_CLIENT or self._waiting.total() >= MOST:
            raise RequestError(429, "Too many looks wait already")
        self._waiting[client] += 1
        try:
            loop = asyncio.get_running_loop()
            asked = kind, body
            status, text = await loop.run_in_executor(self._thread, self._ask, asked)
        finally:
            self._waiting[client] -= 1
            self._waiting += collections.Counter()  # without those that have none
        if status != 200:
            raise RequestError(status, text)
        return text

    def _ask(self, asked):
        try:
            self._pipe.send(asked)
            return self._pipe.recv()
        except (OSError, EOFError):
            return 503, "The process of the page has ended: start the server again"


def answer_looks(pipe, folder):
    """Answers looks until the server is gone."""
    # The server, or a training, has the GPU.
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    from .looking import as_json
    from .runs import Runs
    from .stories import Stories

    looking = {"stories": Stories(folder), "runs": Runs(folder)}
    while True:
        try:
            kind, body = pipe.recv()
        except EOFError:
            return
        try:
            if kind == "models":
                models = {name: each.models() for name, each in looking.items()}
                pipe.send((200, as_json(models)))
            else:
                checked = looking[kind].read(body)
                pipe.send((200, looking[kind].look(checked)))
        except RequestError as error:
            pipe.send((error.status, str(error)))
        except Exception:  # of a model that somebody has put there
            traceback.print_exc()
            pipe.send((500, "The look failed, and the server's log says why"))
