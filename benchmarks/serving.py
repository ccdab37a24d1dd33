"""What serving costs: a server under load, and a frozen memory of a million words.

    pip install -e ".[dev]"                         # locust
    python benchmarks/serving.py                    # all, some minutes
    python benchmarks/serving.py --parts load --before 705b18e --rounds 3
    python benchmarks/serving.py --parts growth
    python benchmarks/serving.py --parts frozen --words 1024,1048576
    python benchmarks/serving.py --parts frozen --layer sdnc

Question 1 (`load`): how long do 1, 8 and 64 clients at the same time wait for
examples/serve.py with saved_models/copy_ntm, and are all answers right? Each client
(of locust, benchmarks/locustfile.py) sends sequences of the copy task, one after the
other; each answer is compared with the SavedModel's own. Expected: throughput grows
until the cores are busy, then the waiting time grows with the clients; no answer is
wrong. With `--before` the servers of other commits are asked in turn; those before
bfc3a2e need the package fastapi.

Question 2 (`growth`): does the server's memory grow with 10,000 requests? Expected: no.

Question 3 (`frozen`): what do the first request, a later one and 100 at the same time
cost from a frozen memory, in seconds and in resident memory? Expected: with LSH hardly
more for 2^20 words than for 2^10; far less than 100 copies of the memory for 100
requests. The programs of XLA (`compiled`) answer the same requests in turn with
TensorFlow's graph, and both are compared with the layer that goes on from the memory.
"""

import argparse
import contextlib
import json
import os
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
from measuring import MIB, load, peak_bytes, resident_mib, save, store_row

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "saved_models" / "copy_ntm"
FEATURES = 8
# So many requests to a frozen memory are compared with the layer's own answers.
COMPARED = 10


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", default="load,growth,frozen")
    add("--clients", default="1,8,64")
    add(
        "--seconds", type=float, default=10.0, help="of load for each number of clients"
    )
    add("--rounds", type=int, default=1, help="of load; the best of them counts")
    add("--before", default="", help="commits whose servers are measured beside")
    add("--packages", default="", help="a folder with more packages, for this server")
    add("--requests", type=int, default=10_000, help="of the part growth")
    add("--words", default="1024,1048576")
    add("--index", default="lsh")
    add("--layer", default="sam", choices=("sam", "sdnc"))
    add("--layers", default="sam,sdnc", help="of the part programs")
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


def under_load(clients, url, questions, seconds):
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
    """Each number of clients, and each server in turn, so often; the best counts."""
    sequences = copy_sequences(100)
    expected = expected_answers(sequences)
    clients, rows = [*map(int, arguments.clients.split(","))], {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        questions = write_questions(folder, sequences, expected)
        servers = {"now": stack.enter_context(this_server(arguments))}
        for commit in filter(None, arguments.before.split(",")):
            examples = examples_of(commit, f"{folder}/{commit}")
            servers[commit] = stack.enter_context(running_server(MODEL, examples))
        for url, _ in servers.values():
            under_load(1, url, questions, arguments.seconds)  # warm
        for count in clients * arguments.rounds:
            for name, (url, process) in servers.items():
                before = processor_seconds(process)
                row = under_load(count, url, questions, arguments.seconds)
                spent = processor_seconds(process) - before
                row["server_milliseconds_each"] = round(
                    1e3 * spent / row["requests"], 2
                )
                rows.setdefault((name, count), []).append(row)
                print(name, row, flush=True)
    return [
        {
            "server": name,
            **max(them, key=lambda row: row["requests_per_second"]),
            "failed_or_wrong": sum(row["failed_or_wrong"] for row in them),
            "server_milliseconds_each": min(
                row["server_milliseconds_each"] for row in them
            ),
        }
        for (name, _), them in rows.items()
    ]


def measure_growth(arguments):
    """The server's memory before and after thousands of requests of 8 clients."""
    sequences = copy_sequences(100)
    expected = expected_answers(sequences)
    with this_server(arguments) as (url, process), tempfile.TemporaryDirectory() as f:
        questions = write_questions(f, sequences, expected)
        under_load(8, url, questions, arguments.seconds)  # threads, buffers, sizes
        done, failed, mib = 0, 0, [(0, round(resident_mib(process), 1))]
        while done < arguments.requests:
            row = under_load(8, url, questions, arguments.seconds)
            done, failed = done + row["requests"], failed + row["failed_or_wrong"]
            mib.append((done, round(resident_mib(process), 1)))
            print(mib[-1], flush=True)
    return {"mib_after_requests": mib, "requests": done, "failed_or_wrong": failed}


def examples_of(commit, folder):
    """The examples as a commit had them, in a folder."""
    Path(folder).mkdir()
    archive = subprocess.run(
        ["git", "archive", commit, "examples"], cwd=ROOT, stdout=-1, check=True
    )
    subprocess.run(["tar", "x", "-C", folder], input=archive.stdout, check=True)
    return Path(folder) / "examples"


def processor_seconds(process):
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def this_server(arguments):
    return running_server(MODEL, packages=arguments.packages)


@contextlib.contextmanager
def running_server(model, examples=ROOT / "examples", packages=""):
    """The address of a model, whose latest version serve.py serves, and the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1/models/{model.name}"
    command = [sys.executable, examples / "serve.py", model, "--port", str(port)]
    path = [os.environ.get("PYTHONPATH", ""), packages]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=-3, env=environment
    )
    try:
        wait_for(url, server)
        yield url, server.pid
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


def frozen_requests(steps):
    """Inputs `[100, 1, steps, features]`."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(100, 1, steps, FEATURES)).astype("float32")


def write_frozen(folder, words, index, kind, requests):
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
        model,
        folder,
        memory=memory,
        index=index,
        streaming=False,
        jit_compile=index != "scann",
    )
    seconds = time.perf_counter() - start
    if index != "scann":  # else the layer finds words by another index
        answers = [layer(each, initial_state=memory["memory"]) for each in requests]
        np.save(f"{folder}/answers.npy", answers)
    return size, seconds


def measure_one_frozen(folder, steps):
    """Run in a process that has TensorFlow alone; prints JSON."""
    with contextlib.suppress(ImportError):
        import scann  # noqa: F401  ScaNN's operations, if the model has them
    start = time.perf_counter()
    model = tf.saved_model.load(folder)
    loaded = time.perf_counter() - start
    requests = frozen_requests(steps)

    def answer(inputs, name="serving_default"):
        start = time.perf_counter(), time.process_time()
        outputs = model.signatures[name](inputs=tf.constant(inputs))["outputs"].numpy()
        spent = time.perf_counter() - start[0], time.process_time() - start[1]
        return outputs, spent

    _, (first, _) = answer(requests[0])
    names = ["serving_default"]
    if "compiled" in model.signatures:
        names.append("compiled")
        answer(requests[0], "compiled")
    # In turn, so that both have the same machine.
    made = [[answer(inputs, name) for name in names] for inputs in requests]
    expected = Path(folder).parent / "answers.npy"
    expected = np.load(expected) if expected.exists() else []
    results = {
        name: of_signature([each[i] for each in made], expected)
        for i, name in enumerate(names)
    }
    alone = [outputs for (outputs, _), *_ in made]
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
                "milliseconds_median": results[names[0]]["milliseconds_median"],
                "signatures": results,
                "milliseconds_per_request_of_100_at_once": round(10 * elapsed, 1),
                "mib_peak": round(peak_bytes() / MIB),
                "mib_resident_one_at_a_time": round(before),
                "mib_more_for_100_at_once": round(max(most) - before),
                "wrong_answers": sum(
                    not np.array_equal(a, b)
                    for a, b in zip(alone, together, strict=True)
                ),
            }
        )
    )


def of_signature(answers, expected):
    """Times, and how far the first answers are from those of the layer."""
    outputs, times = zip(*answers, strict=True)
    row = {
        "milliseconds_median": np.median(times, axis=0)[0],
        "milliseconds_least": np.min(times, axis=0)[0],
        "processor_milliseconds_median": np.median(times, axis=0)[1],
        "processor_milliseconds_least": np.min(times, axis=0)[1],
    }
    row = {name: round(1e3 * seconds, 2) for name, seconds in row.items()}
    if len(expected):
        apart = np.abs(expected - np.array(outputs[: len(expected)]))
        row["most_apart_from_predict"] = float(f"{np.max(apart):.1e}")
    return row


def measure_frozen(arguments):
    results = []
    for words in map(int, arguments.words.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            size, seconds = write_frozen(
                folder,
                words,
                arguments.index,
                arguments.layer,
                frozen_requests(arguments.steps)[:COMPARED],
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


def measure_programs(arguments):
    """Programs of XLA beside TensorFlow's graph, for both layers."""
    rows = []
    for layer in arguments.layers.split(","):
        arguments.layer = layer
        rows += measure_frozen(arguments)
    return rows


# Streams.


def measure_streams(arguments):
    """A chunk of 50 steps by `step`, its states carried, and as a whole sequence."""
    import keras

    import keras_sam

    options = {"memory_slots": 65536, "output_size": 8, "return_sequences": True}
    layer = keras_sam.SAM(100, **options, jit_compile=False, name="memory")
    model = keras.Sequential([keras.Input((None, FEATURES)), layer])
    memory = {"memory": layer.get_initial_state(1)}
    inputs = np.random.default_rng(1).normal(size=(1, 50, FEATURES))
    inputs, results = tf.constant(inputs, "float32"), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, given in (("carried as a whole", None), ("frozen", memory)):
            path = keras_sam.export_saved_model(model, folder, memory=given)
            signatures = tf.saved_model.load(path).signatures
            states = dict(signatures["initial_state"](batch_size=tf.constant(1)))
            results[name] = of_stream(signatures, inputs, states)
            print(name, results[name], flush=True)
    return results


def of_stream(signatures, inputs, states):
    """Processor time, the least of several calls in turn."""
    whole, step = signatures["serving_default"], signatures["step"]
    times, size = [], 0
    for _ in range(8):
        start = time.process_time()
        expected = whole(inputs=inputs)["outputs"].numpy()
        middle = time.process_time()
        after = dict(step(inputs=inputs, **states))
        got = after.pop("outputs").numpy()
        times.append((middle - start, time.process_time() - middle))
        np.testing.assert_allclose(got, expected, atol=1e-4)
        size = sum(each.numpy().nbytes for each in after.values())
    of_whole, of_step = 1e3 * np.min(times, axis=0)
    return {
        "milliseconds_whole": round(of_whole, 2),
        "milliseconds_step": round(of_step, 2),
        "mib_of_the_states": round(size / 2**20, 3),
    }


def main():
    arguments = parse_arguments()
    if arguments.one_frozen:
        return measure_one_frozen(arguments.one_frozen, arguments.steps)
    for part in arguments.parts.split(","):
        measure = {
            "load": measure_load,
            "growth": measure_growth,
            "streams": measure_streams,
            "frozen": measure_frozen,
            "programs": measure_programs,
        }[part]
        name = part
        if part == "frozen":
            kind = "" if arguments.layer == "sam" else f"_{arguments.layer}"
            name += f"{kind}_{arguments.index}"
        result = measure(arguments)
        save(arguments.output, {**load(arguments.output), name: result})
        store_row(arguments.output, "measured", name, {})


if __name__ == "__main__":
    main()
