"""Ask a server to copy bits: in one request, then a few steps at a time.

    python examples/serve.py saved_models/copy_ntm &
    python examples/client.py copy_ntm

The first part asks TensorFlow Serving just as well; the second needs the sessions of
examples/serve.py.
"""

import argparse
import json
import time
import urllib.error
import urllib.request

import numpy as np

BITS = 8


def ask(url, body=None, method="POST"):
    """The answer to a request, from JSON to JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method)
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def wait_for(url, seconds):
    """Waits until there is a server, which may have been started just now."""
    end = time.monotonic() + seconds
    while True:
        try:
            return ask(url, method="GET")
        except urllib.error.URLError as error:
            refused = isinstance(error.reason, ConnectionRefusedError)
            if not refused or time.monotonic() > end:
                raise
            time.sleep(0.25)


def copy_inputs(rng, length):
    """Vectors to remember, the delimiter, then time to write them down."""
    inputs = np.zeros((2 * length + 1, BITS + 1))
    inputs[:length, :BITS] = rng.integers(0, 2, (length, BITS))
    inputs[length, BITS] = 1.0
    return inputs


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="of the model")
    parser.add_argument("--url", default="http://127.0.0.1:8501")
    parser.add_argument("--wait", type=float, default=60, help="seconds for a server")
    arguments = parser.parse_args()
    model = f"{arguments.url}/v1/models/{arguments.name}"

    wait_for(model, arguments.wait)
    inputs = copy_inputs(np.random.default_rng(0), length=6)
    vectors = inputs[:6, :BITS]
    outputs = ask(f"{model}:predict", {"instances": [inputs.tolist()]})["predictions"]
    wrong = np.sum((np.array(outputs[0])[7:] > 0.5) != vectors)
    print(f"one request: {wrong} of {vectors.size} bits wrong")

    session = ask(f"{model}/sessions", {"batch_size": 1})["session"]
    outputs = []
    for chunk in np.split(inputs, [4, 5, 9]):
        body = {"inputs": [chunk.tolist()]}
        outputs += ask(f"{model}/sessions/{session}:step", body)["outputs"][0]
    ask(f"{model}/sessions/{session}", method="DELETE")
    wrong = np.sum((np.array(outputs)[7:] > 0.5) != vectors)
    print(f"in chunks:   {wrong} of {vectors.size} bits wrong")


if __name__ == "__main__":
    main()
