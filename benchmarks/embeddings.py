"""What a lookup in a frozen memory of real embeddings finds, and what it costs.

    python examples/embeddings.py --data FOLDER     # leaves the encoder
    python benchmarks/embeddings.py --data FOLDER \\
        --encoder runs/embeddings/encoder.keras     # some 20 minutes

The memories are those of examples/embeddings.py, all with the same encoder.

Question 1 (`found`): how often is the label of an unseen character right, and how many
of the four words most alike are read, with exact search, LSH and ScaNN? Expected: exact
search reads nearly all, ScaNN hardly fewer, LSH fewer: the embeddings of a character
that the encoder has not seen have many neighbours that are hardly less alike.

Question 2 (`alone`): how long do 1, 8 and 64 queries in one call of the SavedModel of
31,801 words take, beside ScaNN's own search and a dense product with the largest taken,
which are SavedModels as well? The five take turns. Expected: a SAM's step costs a few
milliseconds more, since a request has copies of what it reads.

Question 3 (`served`): the same from examples/serve.py, for 1, 8 and 64 clients at a
time. The servers run side by side and take turns.

Question 4 (`shared`): how much resident memory does a second model over the same memory
need, and how much 1,000 calls? Expected: hardly any, unlike a second copy.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import serving
from measuring import Options, in_process, numbers, report, resident_mib, store_part

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples"))

import embeddings as example  # noqa: E402
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

import keras_sam  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "embeddings.json"
SEED = 0
CALLS = 1000


def parse_arguments():
    options = Options(__doc__, RESULTS)
    options.add("--data", None, "folder of the archives; default: downloaded", Path)
    options.add("--encoder", None, "of examples/embeddings.py", Path)
    options.add("--parts", ["found", "alone", "served", "shared"], "questions")
    options.add("--shots", [1, 5, 19], "drawings of a character", numbers)
    options.add("--clients", [1, 8, 64], "clients, or queries of a call", numbers)
    options.add("--seconds", 4.0, "of load, in each round", float)
    options.add("--rounds", 3, "of load", int)
    options.add_argument("--task", help=argparse.SUPPRESS)  # in a process of its own
    parsed = options.parse()
    if not (parsed.task or parsed.encoder):
        options.error("--encoder is missing: examples/embeddings.py leaves one")
    return parsed


class Plain(tf.Module):
    """A search without a memory: the label of the embedding most alike.

    Args:
        keys: Unit vectors `[slots, features]`.
        labels: Integer array `[slots]`.
        scann: Boolean, whether ScaNN searches, with the settings of a frozen memory;
            else a dense product.
    """

    def __init__(self, keys, labels, scann):
        super().__init__()
        self._keys = tf.Variable(keys, trainable=False)
        self._labels = tf.Variable(labels, trainable=False)
        self._frozen = None
        if scann:
            self._frozen = keras_sam.index.ScaNN().freeze(self._keys, example.READS)
            self._resources = self._frozen.resources

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, example.FEATURES], tf.float32, name="inputs")
        ]
    )
    def answer(self, inputs):
        queries = tf.reshape(inputs, (-1, example.FEATURES))
        if self._frozen is None:
            products = tf.matmul(queries, self._keys, transpose_b=True)
            slots = tf.math.top_k(products, example.READS).indices
        else:
            slots = self._frozen.search(queries[:, tf.newaxis], None)[:, 0]
        labels = tf.gather(tf.convert_to_tensor(self._labels), slots[:, 0])
        return {"outputs": tf.reshape(labels, tf.shape(inputs)[:2])}


def write_models(folder, lookup):
    """SavedModels of a memory: their folders, by the names of the rows."""
    paths = {}
    for index in example.INDEXES:
        paths[f"SAM, {index}"] = Path(lookup.export(f"{folder}/{index}", index)).parent
    keys = lookup.words[:, : example.FEATURES]
    for name, scann in (("ScaNN", True), ("dense product", False)):
        plain = Plain(keys, lookup.labels, scann)
        paths[name] = path = Path(folder) / ("plain_scann" if scann else "dense")
        signatures = {"serving_default": plain.answer}
        tf.saved_model.save(plain, path / "1", signatures)
    return paths


def signatures_of(path):
    # With the model: signatures do not keep what they need.
    loaded = tf.saved_model.load(path / "1")
    return loaded, loaded.signatures


def measure_found(lookups, images, encoder, picture):
    rows = []
    for shots, lookup in lookups.items():
        for index in example.INDEXES:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(lookup.export(folder, index))
                _, signatures = signatures_of(path.parent)
                labels, *read = example.look_up(signatures, lookup.queries)
                row = {
                    "shots": shots,
                    "words": len(lookup.words),
                    "queries": len(lookup.queries),
                    "index": index,
                    "right": float(np.mean(labels == lookup.answers)),
                    "recall": float(
                        example.recall(read[0], lookup.queries, lookup.words)
                    ),
                }
                seen, unseen = images
                if index == "exact" and shots + example.TOGETHER <= unseen.shape[1]:
                    row["right_of_two_models"] = example.right_of_two_models(
                        str(path), encoder, unseen, len(seen), shots
                    )
            rows.append(row)
            report(row)
    # Of the most shots, by ScaNN.
    example.draw(picture, lookup, images, *read)
    return {"rows": rows}


def measure_alone(paths, lookup, options):
    """How long a call takes, and of single queries how many are named right."""
    models = {name: signatures_of(path) for name, path in paths.items()}
    call = {name: each["serving_default"] for name, (_, each) in models.items()}
    queries, answers = (
        each[:, np.newaxis] for each in (lookup.queries, lookup.answers)
    )
    times = {name: {} for name in paths}
    for count in options.clients:
        inputs, seconds = tf.constant(queries[:count]), {name: [] for name in paths}
        for _ in range(10 * options.rounds + 1):
            for name in paths:
                start = time.perf_counter()
                call[name](inputs=inputs)
                seconds[name].append(time.perf_counter() - start)
        for name, each in seconds.items():
            times[name][str(count)] = round(1e3 * float(np.median(each[1:])), 3)
    right = {
        name: float(np.mean(call[name](inputs=queries)["outputs"] == answers))
        for name in paths
    }
    report(f"{times} {right}")
    return {"milliseconds_by_queries": times, "right": right}


def measure_served(paths, lookup, options):
    inputs = [query[np.newaxis, np.newaxis] for query in lookup.queries[:100]]
    results = {name: {str(n): [] for n in options.clients} for name in paths}
    with contextlib.ExitStack() as stack:
        servers = {}
        for name, path in paths.items():
            whole = signatures_of(path)[1]["serving_default"]
            answers = [whole(inputs=tf.constant(each))["outputs"] for each in inputs]
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            questions = serving.write_questions(folder, inputs, answers)
            url, _ = stack.enter_context(serving.running_server(path))
            servers[name] = url, questions
            serving.under_load(1, url, questions, 2.0)  # warm
        for _ in range(options.rounds):
            for clients in options.clients:
                for name, (url, questions) in servers.items():
                    row = serving.under_load(clients, url, questions, options.seconds)
                    results[name][str(clients)].append(row)
                    report(f"{name}: {row}")
    return {"rounds_by_clients": results}


def measure_shared(path, encoder):
    """Resident memory, MiB, of a process of its own."""
    encoder = keras.models.load_model(encoder)
    drawing = np.zeros((1, example.SIZE, example.SIZE), "float32")
    drawing[:, ::3] = 1.0
    encoder(drawing)
    sizes = [resident_mib()]
    one, several = example.two_models(path, encoder)
    first = one(drawing)["outputs"].numpy()
    sizes.append(resident_mib())
    same = [np.array_equal(several(drawing[:, np.newaxis])["outputs"], first)]
    sizes.append(resident_mib())
    for _ in range(CALLS):
        same.append(np.array_equal(one(drawing)["outputs"], first))
    sizes.append(resident_mib())
    copy, _ = example.two_models(path, encoder)
    same.append(np.array_equal(copy(drawing)["outputs"], first))
    sizes.append(resident_mib())
    more = np.diff(sizes).round(1).tolist()
    names = ("first_model", "second_model_of_the_same_memory")
    names += (f"{CALLS}_calls", "copy_of_the_memory")
    return {**dict(zip(names, more, strict=True)), "other_answers": same.count(False)}


def main():
    options = parse_arguments()
    if options.task:
        print(json.dumps(measure_shared(**json.loads(options.task)[1])))
        return
    images = example.load_images(options.data)
    encoder = keras.models.load_model(options.encoder)
    keys = [example.embeddings(encoder, each) for each in images]
    lookups = {each: example.Lookup(*keys, each, SEED) for each in options.shots}
    largest = lookups[max(options.shots)]
    picture = options.output.with_suffix(".png")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_models(folder, largest)

        def shared():
            path = str(paths["SAM, exact"] / "1")
            arguments = {"path": path, "encoder": str(options.encoder)}
            return in_process(__file__, "shared", **arguments)

        measurements = {
            "found": lambda: measure_found(lookups, images, encoder, picture),
            "alone": lambda: measure_alone(paths, largest, options),
            "served": lambda: measure_served(paths, largest, options),
            "shared": shared,
        }
        for part in options.parts:
            result = measurements[part]()
            store_part(options.output, part, {"words": len(largest.words), **result})


if __name__ == "__main__":
    main()
