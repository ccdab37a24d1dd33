"""How many of the words most alike does an index find, and what does a step cost?

    python benchmarks/index_quality.py

Full memories of words of 32 numbers, 50,000 times rewritten, 17 words at each step, as
a SAM with 4 read heads and K = 4 does. Then

- recall@4: the part of the slots found that are at least as similar to the query as the
  4th best of all; recall@1: how often the best is found;
- the read mass: the part of the read weights of the 4 best that is on slots found.
  Recall@4 misleads where the 2nd to 4th word carry little weight;
- the processor time of a step's 17 insertions and 4 queries in a loop
  (compiled by XLA, which cannot compile ScaNN's, where the memory is changed in place):
  the difference between two numbers of steps, minus that of a loop that only writes the
  words.

LSH draws its planes from several seeds (`--seeds`), in the directions of the queries.

Three kinds of words:

- clusters: 16 words around each of N / 16 centres, normal with deviations of 1 and 0.1;
  rewritten with more of the same; queries are more of the same as well;
- random: normal; so are the queries;
- trained: what a SAM of examples/long_recall.py (`--model`, its Keras file) has written
  after N pairs, and its queries and strengths when it recalls 400 of them. Rewritten by
  moving the words to other slots; up to as many words as there are keys. Beyond 2^16
  words the SAM wrote them with LSH: with exact search that takes hours.

The other kinds have a strength of 20. With `--slots` the memory has more slots than
words.

Expected: the exact index finds all, at a cost that grows with N. LSH costs about the
same for any N, more as it leaves the processor's cache. With clusters and of words that
a SAM has written it finds nearly all that carries weight, of random words few. ScaNN
finds more than LSH and takes longer.

Writes benchmarks/results/index_quality.json and .png; a run of some of the kinds
replaces those only. `--smoke` tries everything at
tiny sizes.
"""

import functools
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from measuring import Options, digits, load, provenance, save

import keras_sam
from keras_sam.index import LSH, Exact, ScaNN
from keras_sam.recurrence import buffers

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "index_quality.json"
MODEL = ROOT / "saved_models" / "long_recall" / "model.keras"
WORD_SIZE, WRITES, HEADS, COUNT = 32, 17, 4, 4
CLUSTER, SPREAD = 16, 0.1
VALUE_BITS = 8
INDEXES = {
    "exact": Exact,
    "LSH": LSH,
    "LSH, 64 compared": functools.partial(LSH, reordering=64),
    "LSH, 512 compared": functools.partial(LSH, reordering=512),
    "LSH, 2 tables": functools.partial(LSH, tables=2),
    "LSH, 8 tables, 512 compared": functools.partial(LSH, tables=8, reordering=512),
    "ScaNN": ScaNN,
}


# Words. Each kind has a memory, words to write to some slots, queries with their
# strengths, and the directions of these, as a cell tells its index.


class Clusters:
    """Words around centres."""

    directions, strength = None, 20.0

    def __init__(self, rng, words, options):
        self._rng = rng
        self._centres = normal(rng, (max(1, words // CLUSTER), WORD_SIZE))
        self.memory = self._around(rng.permutation(words) % len(self._centres))

    def draw(self, *shape):
        return self._around(self._rng.integers(len(self._centres), size=shape))

    def rows(self, slots):
        return self.draw(*slots.shape)

    def draw_queries(self, *shape):
        return self.draw(*shape), np.full(shape, self.strength)

    def _around(self, numbers):
        noise = normal(self._rng, (*numbers.shape, WORD_SIZE))
        return self._centres[numbers] + SPREAD * noise


class Random:
    """Words that have nothing to do with one another."""

    directions, strength = None, 20.0

    def __init__(self, rng, words, options):
        self._rng = rng
        self.memory = self.draw(words)

    def draw(self, *shape):
        return normal(self._rng, (*shape, WORD_SIZE))

    def rows(self, slots):
        return self.draw(*slots.shape)

    def draw_queries(self, *shape):
        return self.draw(*shape), np.full(shape, self.strength)


class Trained:
    """What a trained SAM writes and asks."""

    def __init__(self, rng, words, options):
        self._rng = rng
        model = keras.models.load_model(options.model)
        trained, bits = model.get_layer("memory"), key_bits(model)
        keys = rng.choice(2**bits, words, replace=False)
        keys = 2.0 * (keys[:, np.newaxis] >> np.arange(bits) & 1) - 1.0
        values = 2.0 * rng.integers(0, 2, (words, VALUE_BITS)) - 1.0
        pairs = np.concatenate([np.zeros((words, 1)), keys, values], axis=1)
        asked = rng.choice(words, min(words, options.queries), replace=False)
        questions = np.concatenate([pairs[asked, :-VALUE_BITS], 0 * values[asked]], 1)
        questions[:, 0] = 1.0

        layer = copy_of(trained, words, Exact() if words <= 2**16 else LSH())
        states = layer.get_initial_state(1)
        for part in np.split(np.float32(pairs), range(1024, words, 1024)):
            _, *states = layer(part[np.newaxis], initial_state=states)
        recorder = Recorder()
        cell = copy_of(trained, words, recorder).cell
        self.memory = layer.cell.unpack_state(states).memory.numpy()[0]
        state = cell.unpack_state(cell.get_initial_state(1, memory=self.memory))
        strengths = []
        for question in tf.constant(questions[:, np.newaxis], tf.float32):
            _, state, decisions = cell.step(question, state)
            strengths.append(decisions["read_strengths"].numpy()[0])
        self._queries = np.concatenate(recorder.queries)
        self._strengths = np.concatenate(strengths)
        self.directions = cell.query_directions()

    def rows(self, slots):
        """Words that change places, at each step those of its slots."""
        order = np.arange(len(self.memory))
        written = np.zeros_like(slots)
        for step, some in enumerate(slots):
            order[some] = written[step] = order[np.roll(some, 1)]
        return self.memory[written]

    def draw_queries(self, *shape):
        order = np.arange(np.prod(shape)).reshape(shape) % len(self._queries)
        return self._queries[order], self._strengths[order]


class Recorder(Exact):
    """An exact index that keeps the queries."""

    def __init__(self):
        self.queries = []

    def search(self, state, memory, queries, count):
        self.queries.append(queries[0].numpy())
        return super().search(state, memory, queries, count)


def copy_of(layer, words, index):
    config = {**layer.get_config(), "memory_slots": words, "return_state": True}
    copy = keras_sam.SAM.from_config({**config, "index": index})
    copy.build_from_config(layer.get_build_config())
    copy.set_weights(layer.get_weights())
    return copy


def normal(rng, shape):
    return rng.standard_normal(shape, dtype="float32")


KINDS = {"clusters": Clusters, "random": Random, "trained": Trained}


def key_bits(model):
    """Of a model of examples/long_recall.py."""
    return model.input_shape[-1] - 1 - VALUE_BITS


# Measurements.


def make_loop(index, searches, jit_compile):
    """A program that writes words, tells the index and asks it, step by step."""
    way = buffers.Values if jit_compile else buffers.InPlace

    @tf.function(jit_compile=jit_compile or None, autograph=False)
    def loop(memory, state, slots, rows, queries, steps):
        size = memory.shape[0]

        def step(t, memory, state, total):
            memory = way.update(memory, slots[t][:, tf.newaxis], rows[t])
            if index is not None:
                state = index.insert(state, slots[t][tf.newaxis], rows[t][tf.newaxis])
            if searches:
                words = tf.reshape(memory, (1, size, WORD_SIZE))
                found = index.search(state, words, queries[t][tf.newaxis], COUNT)
                memory = way.wait_for([found], memory)
                total += tf.reduce_sum(found)
            return t + 1, memory, state, total

        start = (0, way.allocate(memory), state, 0)
        return tf.while_loop(
            lambda t, *_: t < steps, step, start, parallel_iterations=1
        )[1:]

    return loop


def quality(index, state, memory, queries, strengths):
    """Recall@4, recall@1 and read mass."""
    jit_compile = index.supports_jit or None
    search = tf.function(index.search, jit_compile=jit_compile, autograph=False)
    words = tf.constant(memory[np.newaxis])
    units = memory.astype("float64")
    units /= np.sqrt(np.sum(np.square(units), axis=1, keepdims=True) + 1e-6)
    hits, best, mass = [], [], []
    for start in range(0, len(queries) - HEADS + 1, HEADS):
        some = queries[start : start + HEADS]
        found = search(state, words, tf.constant(some[np.newaxis]), COUNT)[0].numpy()
        similarity = some.astype("float64") @ units.T
        similarity /= np.linalg.norm(some, axis=1, keepdims=True)
        order = np.argpartition(similarity, -COUNT, axis=1)[:, -COUNT:]
        highest = np.take_along_axis(similarity, order, axis=1)
        of_found = np.take_along_axis(similarity, found, axis=1)
        least = highest.min(axis=1, keepdims=True)
        hits.append(np.mean(of_found >= least - 1e-6))
        most = highest.max(axis=1, keepdims=True)
        best.append(np.mean(of_found[:, 0] >= most[:, 0] - 1e-6))
        weights = np.exp(
            strengths[start : start + HEADS, np.newaxis] * (highest - most)
        )
        weights /= weights.sum(axis=1, keepdims=True)
        is_found = np.any(order[..., np.newaxis] == found[:, np.newaxis], axis=-1)
        mass.append(np.mean(np.sum(weights * is_found, axis=1)))
    return {
        "recall_at_4": float(np.mean(hits)),
        "recall_at_1": float(np.mean(best)),
        "read_mass": float(np.mean(mass)),
    }


def measure(kind, words, options):
    """All indexes over the same words, and a loop without one."""
    rng = np.random.default_rng(0)
    data = KINDS[kind](rng, words, options)
    steps = -(-options.overwrites // WRITES)
    slots = np.argsort(rng.random((steps, min(words, 1024))))[:, :WRITES]
    slots = (slots + rng.integers(words, size=(steps, 1))) % words
    arguments = (
        tf.constant(slots, tf.int32),
        tf.constant(data.rows(slots)),
        tf.constant(data.draw_queries(steps, HEADS)[0]),
    )
    queries = data.draw_queries(options.queries)
    # Slots after the words were never written.
    more = max(0, options.slots - words)
    memory = np.pad(data.memory, [[0, more], [0, 0]], constant_values=1e-6)
    memory = tf.constant(memory)

    # Each loop with the number of its steps, and one without an index for comparison.
    results, loops = {}, {}
    for jit_compile in (True, False):
        loop = make_loop(None, searches=False, jit_compile=jit_compile)
        loops[jit_compile] = (loop, tf.zeros((1, 1)), steps)
    for name in options.indexes:
        found = []
        for index in with_seeds(INDEXES[name], options.seeds):
            start = time.perf_counter()
            state = index.start(memory[tf.newaxis], words, data.directions)
            seconds = time.perf_counter() - start
            write = make_loop(index, False, index.supports_jit)
            new, after, _ = write(memory, state, *arguments, tf.constant(steps))
            before = quality(index, state, memory.numpy(), *queries)
            after = quality(index, after, new.numpy(), *queries)
            found.append((before, after))
        results[name] = {
            "reset_seconds": round(seconds, 2),
            "state_numbers": index.state_size(len(memory), WORD_SIZE),
            "before_overwrites": of_seeds([before for before, _ in found]),
            "seeds": of_seeds([after for _, after in found]),
            **{
                name: digits(np.mean([after[name] for _, after in found]))
                for name in found[0][1]
            },
        }
        most = max(4, min(steps, 2**22 // len(memory))) if index.is_exact else steps
        loops[name] = (make_loop(index, True, index.supports_jit), state, most)
    if not options.rounds:
        return results

    rounds = [
        {
            name: marginal(loop, most, memory, state, *arguments)
            for name, (loop, state, most) in loops.items()
        }
        for _ in range(options.rounds + 1)
    ][1:]  # The first round compiles.
    for name, result in results.items():
        without = INDEXES[name]().supports_jit
        differences = [1e6 * (times[name] - times[without]) for times in rounds]
        result["microseconds_per_step"] = summary(differences)
    return results


def with_seeds(make, seeds):
    """The index, once for each seed if it has any."""
    if "seed" not in make().get_config():
        return [make()]
    return [make(seed=seed) for seed in range(seeds)]


def of_seeds(found):
    """The measures, each a list of numbers."""
    return {name: [digits(each[name]) for each in found] for name in found[0]}


def marginal(loop, most, *arguments):
    """Seconds of the processor that one more step takes."""

    def seconds(steps):
        start = time.process_time()
        loop(*arguments, tf.constant(steps))[-1].numpy()
        return time.process_time() - start

    few = max(1, most // 20)
    short = seconds(few)
    return (seconds(most) - short) / (most - few)


def summary(values):
    return {
        "median": round(float(np.median(values)), 1),
        "quartiles": [round(float(q), 1) for q in np.quantile(values, [0.25, 0.75])],
    }


# The picture.


def draw(record, path):
    """Recall against the time of a step: a line for each index, from few words on."""
    kinds = [kind for kind in KINDS if kind in record]
    figure, panels = plt.subplots(
        1, len(kinds), figsize=(4.5 * len(kinds), 4.6), sharey=True, squeeze=False
    )
    for axes, kind in zip(panels[0], kinds, strict=True):
        results = record[kind]["results"]
        sizes = sorted(results, key=int)
        for name in results[sizes[0]]:
            points = [results[size][name] for size in sizes]
            times = [point["microseconds_per_step"]["median"] for point in points]
            found = [point["recall_at_4"] for point in points]
            (line,) = axes.plot(times, found, marker="o", markersize=3, label=name)
            axes.plot(times[-1], found[-1], "o", color=line.get_color(), markersize=8)
        axes.set_title(f"{kind}: {int(sizes[0]):,} to {int(sizes[-1]):,} words")
        axes.set_xlabel("microseconds of 17 insertions and 4 queries")
        axes.set_xscale("log")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("recall@4 (large dot: most words)")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper center", ncols=4
    )
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=100)


def parse_options():
    parser = Options(__doc__, RESULTS)
    add = parser.add_argument
    add("--words", type=int, nargs="+", default=[2**i for i in range(10, 21, 2)])
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    add("--indexes", nargs="+", choices=INDEXES, default=list(INDEXES))
    add("--model", type=Path, default=MODEL, help="for trained words")
    add("--overwrites", type=int, default=50_000)
    add("--queries", type=int, default=400, help="that the recall is measured with")
    add("--rounds", type=int, default=5, help="of timing; 0: none, and no picture")
    add("--seeds", type=int, default=3, help="of the planes of LSH")
    add("--slots", type=int, default=0, help="of the memory, if more than words")
    options = parser.parse()
    if options.smoke:
        options.words, options.overwrites = [64, 256], 500
        options.queries, options.rounds = 8, 1
    return options


def main():
    options = parse_options()
    path = options.output
    record = load(path)
    for kind in options.kinds:
        results = {}
        record[kind] = {**provenance(), "results": results}
        most = np.inf
        if kind == "trained":
            # Each pair needs a key of its own.
            most = 2 ** key_bits(keras.models.load_model(options.model))
        for words in options.words:
            if words > most:
                continue
            results[str(words)] = measure(kind, words, options)
            for name, result in results[str(words)].items():
                print(f"{kind}, {words:,} words, {name}: {result}", flush=True)
            save(path, record)
            keras.backend.clear_session()
    if options.rounds:
        draw(record, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
