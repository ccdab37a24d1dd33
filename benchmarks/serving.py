"""What serving costs: a server under load, and a frozen memory of a million words.

    pip install -e ".[dev]"                         # locust
    python benchmarks/serving.py                    # both, some minutes
    python benchmarks/serving.py --parts load
    python benchmarks/serving.py --parts frozen --words 1024,1048576
    python benchmarks/serving.py --parts frozen --layer sdnc

Question 1 (`load`): how long do 1, 8 and 64 clients at the same time wait for
examples/serve.py with saved_models/copy_ntm, and are all answers right? Each client
(of locust, benchmarks/locustfile.py) sends sequences of the copy task, one after the
other; each answer is compared with the SavedModel's own. Expected: throughput grows
until the cores are busy, then the waiting time grows with the clients; no answer is
wrong.

Question 2 (`frozen`): what do the first request, a later one and 100 at the same time
cost from a frozen memory, in seconds and in resident memory? Expected: with LSH hardly
more for 2^20 words than for 2^10; far less than 100 copies of the memory for 100
requests.
"""

import argparse
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import httpx
import numpy as np
import tensorflow as tf
from measuring import resident_mib

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "saved_models" / "copy_ntm"
FEATURES = 8


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", default="load,frozen")
    add("--clients", default="1,8,64")
    add(
        "--seconds", type=float, default=10.0, help="of load for each number of clients"
    )
    add("--words", default="1024,1048576")
    add("--index", default="lsh")
    add("--layer", default="sam", choices=("sam", "sdnc"))
    add("--steps", type=int, default=20, help="of a request to the frozen memory")
    add("--output", type=Path, default=ROOT / "benchmarks/results/serving.json")
    add("--one-frozen", help=argparse.SUPPRESS)  # in a process of its own
    return parser.parse_args()


# Load.


def copy_sequences(count):
    rng = np.random.default_rng(0)
    sequences = []
    for length in rng.integers(1, 21, count):
        inputs = np.zeros((1, 2 * length + 1, 9), "float32")
        inputs[0, :length, :8] = rng.integers(0, 2, (length, 8))
        inputs[0, length, 8] = 1.0
        sequences.append(inputs)
    return sequences


def expected_answers(sequences):
    version = max(int(p.name) for p in MODEL.glob("*") if p.name.isdecimal())
    model = tf.saved_model.load(MODEL / str(version))
    whole = model.signatures["serving_default"]
    return [whole(inputs=tf.constant(each))["outputs"].numpy() for each in sequences]


def load(clients, url, questions, seconds):
    """Runs locust, a load generator, in a process of its own."""
    path = url.split("/", 3)[3]
    environment = {
        **os.environ,
        "SERVING_QUESTIONS": questions,
        "SERVING_PATH": f"/{path}:predict",
    }
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", ROOT / "benchmarks/locustfile.py"]
        + ["--headless", "--json", "--host", url.removesuffix(f"/{path}")]
        + ["--users", str(clients), "--spawn-rate", str(clients)]
        + ["--run-time", f"{seconds:g}s", "--exit-code-on-error", "0"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    (row,) = json.loads(done.stdout)
    # Waiting times by milliseconds, rounded by locust.
    times = np.repeat(
        [float(time) for time in row["response_times"]],
        list(row["response_times"].values()),
    )
    elapsed = row["last_request_timestamp"] - row["start_time"]
    return {
        "clients": clients,
        "requests": row["num_requests"],
        "failed_or_wrong": row["num_failures"],
        "requests_per_second": round(row["num_requests"] / elapsed, 1),
        "milliseconds_median": float(np.median(times)),
        "milliseconds_99_percent": float(np.quantile(times, 0.99)),
    }


def measure_load(arguments):
    sequences = copy_sequences(100)
    expected = expected_answers(sequences)
    results = []
    with running_server(MODEL) as url, tempfile.TemporaryDirectory() as folder:
        questions = write_questions(folder, sequences, expected)
        load(1, url, questions, 2.0)  # warm
        for clients in map(int, arguments.clients.split(",")):
            results.append(load(clients, url, questions, arguments.seconds))
            print(results[-1], flush=True)
    return results


@contextlib.contextmanager
def running_server(model):
    """The address of a model, of which examples/serve.py serves the latest version."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1/models/{model.name}"
    command = [sys.executable, ROOT / "examples/serve.py", model, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=-3)
    try:
        wait_for(url, server)
        yield url
    finally:
        server.terminate()
        server.wait()


def write_questions(folder, inputs, answers):
    """The path of a file of requests and right answers, for locustfile.py."""
    bodies = [json.dumps({"inputs": each.tolist()}) for each in inputs]
    answers = {f"answer_{i}": answer for i, answer in enumerate(answers)}
    path = f"{folder}/questions.npz"
    np.savez(path, bodies=bodies, **answers)
    return path


def wait_for(url, server):
    while True:
        try:
            return httpx.get(url)
        except httpx.TransportError:
            if server.poll() is not None:
                raise SystemExit("The server did not start.") from None
            time.sleep(0.25)


# Frozen memory.


def write_frozen(folder, words, index, kind):
    """A SavedModel with a frozen memory of random words; its size and the seconds."""
    import keras

    import keras_sam

    keras.utils.set_random_seed(0)
    layer_class = {"sam": keras_sam.SAM, "sdnc": keras_sam.SDNC}[kind]
    layer = layer_class(
        100,
        memory_slots=words,
        word_size=32,
        index=index,
        output_size=8,
        return_sequences=True,
        jit_compile=False,
        name="memory",
    )
    model = keras.Sequential([keras.Input((None, FEATURES)), layer])
    contents = np.random.default_rng(0).normal(size=(words, 32)).astype("float32")
    memory = {"memory": layer.get_initial_state(1, memory=contents)}
    if kind == "sdnc":
        # For an SDNC a context as well, so that there are links.
        context = np.random.default_rng(2).normal(size=(1, 100, FEATURES))
        memory = keras_sam.prefill(model, context.astype("float32"), states=memory)
    state = layer.cell.unpack_state(memory["memory"])
    shared = [state.memory, *(getattr(state, name) for name in layer.cell.link_fields)]
    size = sum(np.prod(each.shape) for each in shared) * 4 / 2**20
    start = time.perf_counter()
    keras_sam.export_saved_model(
        model, folder, memory=memory, index=index, streaming=False
    )
    return size, time.perf_counter() - start


def measure_one_frozen(folder, steps):
    """Run in a process that has TensorFlow alone; prints JSON."""
    with contextlib.suppress(ImportError):
        import scann  # noqa: F401  ScaNN's operations, if the model has them
    start = time.perf_counter()
    model = tf.saved_model.load(folder)
    whole = model.signatures["serving_default"]
    loaded = time.perf_counter() - start
    rng = np.random.default_rng(1)
    requests = rng.normal(size=(100, 1, steps, FEATURES)).astype("float32")

    def answer(inputs):
        start = time.perf_counter()
        outputs = whole(inputs=tf.constant(inputs))["outputs"].numpy()
        return outputs, time.perf_counter() - start

    _, first = answer(requests[0])
    alone, times = zip(*map(answer, requests), strict=True)
    before, most = resident_mib(), []
    with ThreadPoolExecutor(101) as pool:
        start = time.perf_counter()
        waiting = [pool.submit(answer, inputs) for inputs in requests]
        while not all(each.done() for each in waiting):
            most.append(resident_mib())
            time.sleep(0.005)
        elapsed = time.perf_counter() - start
    together = [each.result()[0] for each in waiting]
    print(
        json.dumps(
            {
                "seconds_to_load": round(loaded, 2),
                "milliseconds_first_request": round(1e3 * first, 1),
                "milliseconds_median": round(1e3 * np.median(times), 1),
                "milliseconds_per_request_of_100_at_once": round(10 * elapsed, 1),
                "mib_peak": round(peak_mib()),
                "mib_resident_one_at_a_time": round(before),
                "mib_more_for_100_at_once": round(max(most) - before),
                "wrong_answers": sum(
                    not np.array_equal(a, b)
                    for a, b in zip(alone, together, strict=True)
                ),
            }
        )
    )


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure_frozen(arguments):
    results = []
    for words in map(int, arguments.words.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            size, seconds = write_frozen(
                folder, words, arguments.index, arguments.layer
            )
            done = subprocess.run(
                [sys.executable, __file__, "--one-frozen", f"{folder}/1"]
                + ["--steps", str(arguments.steps)],
                capture_output=True,
                text=True,
                check=True,
            )
        row = {
            "layer": arguments.layer,
            "words": words,
            "index": arguments.index,
            "steps": arguments.steps,
            "mib_of_the_memory": round(float(size), 1),
            "seconds_to_export": round(seconds, 1),
            **json.loads(done.stdout.splitlines()[-1]),
        }
        results.append(row)
        print(row, flush=True)
    return results


def main():
    arguments = parse_arguments()
    if arguments.one_frozen:
        return measure_one_frozen(arguments.one_frozen, arguments.steps)
    results = {}
    if arguments.output.exists():
        results = json.loads(arguments.output.read_text())
    for part in arguments.parts.split(","):
        measure = {"load": measure_load, "frozen": measure_frozen}[part]
        name = part
        if part == "frozen":
            kind = "" if arguments.layer == "sam" else f"_{arguments.layer}"
            name += f"{kind}_{arguments.index}"
        results[name] = measure(arguments)
    results["command"] = "python benchmarks/serving.py"
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
