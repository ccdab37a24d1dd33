"""A client of examples/serve.py, for locust; started by benchmarks/serving.py.

SERVING_QUESTIONS names a file with the bodies of requests and the right answers.
"""

import itertools
import os

import locust
import numpy as np

with np.load(os.environ["SERVING_QUESTIONS"]) as questions:
    BODIES = questions["bodies"].tolist()
    ANSWERS = [questions[f"answer_{i}"] for i in range(len(BODIES))]

turns = itertools.count()


class Client(locust.FastHttpUser):
    """Asks, compares the answer, asks again at once."""

    @locust.task
    def predict(self):
        which = next(turns) % len(BODIES)
        with self.client.post(
            os.environ["SERVING_PATH"], data=BODIES[which], catch_response=True
        ) as reply:
            if reply.status_code != 200:
                reply.failure(f"{reply.status_code}: {reply.text}")
            else:
                outputs = np.float32(reply.json()["outputs"])
                # Requests that are answered together differ in the last bits.
                if not np.allclose(outputs, ANSWERS[which], rtol=0.0, atol=1e-5):
                    reply.failure("wrong answer")
