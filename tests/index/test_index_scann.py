"""The ScaNN index against a sort of all similarities in NumPy."""

import builtins
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import brute_force, randomize

import keras_sam
from keras_sam import index as indexes
from keras_sam.index import scann

try:
    indexes.ScaNN()
except ImportError as error:
    pytest.skip(
        "These tests are of the one index that needs the package scann, which exists "
        "for Linux alone, for one version of TensorFlow at a time. All else works "
        f"without it. Its import says: {error}",
        allow_module_level=True,
    )

# All words are compared, by brute force or in all leaves of trees made very early.
BRUTE_FORCE = {"brute_force_up_to": 10_000}
WHOLE_TREE = {
    "brute_force_up_to": 16,
    "leaves_to_search": 1000,
    "reordering": 1000,
    "retrain_every": 25,
}
COMPLETE = {"brute_force": BRUTE_FORCE, "whole_tree": WHOLE_TREE}
UNWRITTEN = 1e-6


@pytest.fixture
def cache(monkeypatch):
    """A cache of the test's own."""
    cache = scann._Cache()
    monkeypatch.setattr(scann, "_cache", cache)
    return cache


@pytest.fixture
def built(monkeypatch):
    """The searchers that the test has caused to be built."""
    made = []
    init = scann._Searcher.__init__

    def counted(self, *args):
        made.append(args)
        init(self, *args)

    monkeypatch.setattr(scann._Searcher, "__init__", counted)
    return made


@pytest.fixture(params=["eager", "graph"])
def call(request):
    """Calls a function as it is or in a graph."""
    if request.param == "eager":
        return lambda function, *args: function(*args)
    programs = {}

    def call(function, *args):
        program = programs.setdefault(
            function, tf.function(function, autograph=False, reduce_retracing=True)
        )
        return program(*args)

    return call


class Moment:
    """A memory and the state of an index that belong together."""

    def __init__(self, index, memory, used, call):
        self.index, self.memory, self.used, self.call = index, memory, used, call
        self.state = call(index.reset, tf.constant(memory), used[0])

    def write(self, slots, rows, active=None):
        """The moment after; this one stays what it is."""
        after = object.__new__(Moment)
        after.__dict__.update(self.__dict__)
        batch = np.arange(len(slots))[:, np.newaxis]
        active = np.full(len(slots), True) if active is None else active
        after.memory = self.memory.copy()
        # The last word wins, and stands for all of its slot's.
        after.memory[batch[active], slots[active]] = rows[active]
        rows = tf.constant(after.memory[batch, slots])
        after.state = self.call(
            self.index.insert,
            self.state,
            tf.constant(slots),
            rows,
            tf.constant(active),
        )
        highest = np.where(active, slots.max(axis=1) + 1, 0)
        after.used = np.maximum(self.used, highest)
        return after

    def write_some(self, rng, writes=3):
        """New words in slots written before and in the next ones."""
        batch, size = len(self.memory), self.memory.shape[1]
        slots = np.stack(
            [
                rng.choice(min(used + writes, size), writes, replace=False)
                for used in self.used
            ]
        )
        # As a SAM does: no slot is left out.
        slots = np.minimum(slots, np.array(self.used)[:, np.newaxis] + [0, 1, 2])
        slots[:, 0] = np.minimum(self.used, size - 1)
        rows = rng.normal(size=(batch, writes, self.memory.shape[2]))
        active = rng.random(batch) < 0.8
        return self.write(slots.astype("int32"), rows.astype("float32"), active)

    def search(self, queries, count):
        found = self.call(
            self.index.search,
            self.state,
            tf.constant(self.memory),
            tf.constant(queries),
            count,
        )
        assert found.dtype == tf.int32
        return found.numpy()

    def check(self, rng, count=4):
        shape = (len(self.memory), 2, self.memory.shape[2])
        queries = rng.normal(size=shape).astype("float32")
        expected = brute_force(self.memory, queries, count)
        np.testing.assert_array_equal(self.search(queries, count), expected)


def start(settings, call, rng, slots=60, given=0, batch=2, words=5):
    memory = np.full((batch, slots, words), UNWRITTEN, "float32")
    memory[:, :given] = rng.normal(size=(batch, given, words))
    return Moment(indexes.ScaNN(**settings), memory, np.full(batch, given), call)


# What is found.


@pytest.mark.parametrize("given", [0, 30, 60])
@pytest.mark.parametrize("settings", COMPLETE.values(), ids=COMPLETE)
def test_a_sequence_of_writes(settings, given, call, cache, built):
    rng = np.random.default_rng(given)
    moment = start(settings, call, rng, given=given)
    moment.check(rng)
    for _ in range(40):
        moment = moment.write_some(rng)
        moment.check(rng)
    assert list(moment.used) == [60, 60] or not given
    assert len(built) == 2, "One searcher for each sequence is enough."


@pytest.mark.parametrize("limit", ["wide", "narrow", "lost"])
@pytest.mark.parametrize("settings", COMPLETE.values(), ids=COMPLETE)
def test_states_continued_again_and_again(settings, limit, call, cache, monkeypatch):
    """Whichever of all moments so far goes on; narrow: one searcher is kept."""
    rng = np.random.default_rng(1)
    monkeypatch.setattr(scann, "VERSIONS", 8)
    if limit == "narrow":
        monkeypatch.setattr(scann, "CACHE_BYTES", 0)
    moments = [start(settings, call, rng, given=20)]
    for _ in range(60):
        moments.append(moments[rng.integers(len(moments))].write_some(rng))
        moments[rng.integers(len(moments))].check(rng)
        moments[-1].check(rng)
        if limit == "lost" and rng.random() < 0.3:
            monkeypatch.setattr(scann, "_cache", scann._Cache())
        if limit == "narrow":
            assert len(cache._waiting) == 1


def test_going_back_needs_no_other_searcher(cache, built, call):
    """As under the mask of keras.layers.RNN: the step before is taken once more."""
    rng = np.random.default_rng(2)
    beginning = start(WHOLE_TREE, call, rng, given=30)
    for _ in range(3):
        moment = beginning
        for _ in range(10):
            moment.write_some(rng).check(rng)
            moment = moment.write_some(rng)
            moment.check(rng)
    assert len(built) == 2


def test_words_after_those_written(cache, call):
    """A constant word can be more similar than a written one, and ties with others."""
    memory = np.full((1, 12, 2), UNWRITTEN, "float32")
    memory[0, :3] = [[-1.0, 0.0], [0.0, -1.0], [-1.0, -1.0]]
    moment = Moment(indexes.ScaNN(), memory, np.array([3]), call)
    queries = np.array([[[1.0, 1.0], [-1.0, 0.5]]], "float32")
    np.testing.assert_array_equal(
        moment.search(queries, 5), [[[3, 4, 5, 6, 7], [0, 2, 3, 4, 5]]]
    )
    for count in (1, 11, 12):
        np.testing.assert_array_equal(
            moment.search(queries, count), brute_force(memory, queries, count)
        )


@pytest.mark.parametrize("used", range(6))
def test_as_many_as_there_are(used, cache, call):
    rng = np.random.default_rng(used)
    moment = start(BRUTE_FORCE, call, rng, slots=5, given=used)
    for count in range(1, 6):
        moment.check(rng, count)


@pytest.mark.parametrize("settings", COMPLETE.values(), ids=COMPLETE)
@pytest.mark.parametrize("word", [0.0, 1e-5, 3.0, 1e30, np.nan, np.inf])
def test_different_slots_whatever_the_words(word, settings, cache, call):
    rng = np.random.default_rng(3)
    moment = start(settings, call, rng, given=30)
    slots = np.tile(np.arange(30, 60, dtype="int32"), (2, 1))
    rows = np.full((2, 30, 5), word, "float32")
    moment = moment.write(slots, rows)
    for query in (word, 1.0, -1.0):
        found = moment.search(np.full((2, 2, 5), query, "float32"), 7)
        assert found.min() >= 0 and found.max() < 60
        assert all(len(set(slots)) == 7 for slots in found.reshape(-1, 7))
    if word == 3.0:
        found = moment.search(np.ones((2, 2, 5), "float32"), 7)
        # ScaNN has found some of thirty, the index ordered them.
        assert found.min() >= 30 and (np.diff(found) > 0).all()


def test_equal_words_tie_in_graphs_too(cache, call):
    """Whether they are computed many at a time or, the last ones, one by one."""
    for size in (3, 8, 32):
        rng = np.random.default_rng(size)
        memory = np.tile(rng.normal(size=size).astype("float32"), (3, 14, 1))
        moment = Moment(indexes.ScaNN(), memory, np.full(3, 14), call)
        for count in (3, 5, 8):
            queries = rng.normal(size=(3, 3, size)).astype("float32")
            np.testing.assert_array_equal(
                moment.search(queries, count), np.tile(np.arange(count), (3, 3, 1))
            )


def test_sequences_in_which_nothing_was_written(cache, call):
    index = indexes.ScaNN()
    memory = tf.zeros((3, 9, 2))
    state = call(index.reset, memory, 3)
    slots, rows = tf.constant([[7, 1]] * 3), tf.ones((3, 2, 2))
    active = tf.constant([True, False, True])
    new = call(index.insert, state, slots, rows, active)
    np.testing.assert_array_equal(new[1], state[1])
    np.testing.assert_array_equal(new[:, 3], [8, 3, 8])
    assert np.all(new.numpy()[::2, :3] != state.numpy()[::2, :3])
    np.testing.assert_array_equal(call(index.insert, state, slots, rows)[:, 3], [8] * 3)


def test_words_changed_behind_its_back_are_compared_as_they_are(cache, call):
    rng = np.random.default_rng(4)
    moment = start(BRUTE_FORCE, call, rng, slots=8, given=8)
    moment.check(rng)
    moment.memory = rng.normal(size=moment.memory.shape).astype("float32")
    moment.check(rng)  # it has found all of them


def test_slots_left_out(cache, call):
    rng = np.random.default_rng(5)
    moment = start(BRUTE_FORCE, call, rng)
    for slots in ([40, 7], [59, 0], [7, 3]):
        rows = rng.normal(size=(2, 2, 5)).astype("float32")
        moment = moment.write(np.array([slots, slots[::-1]], "int32"), rows)
        moment.check(rng, 10)


def test_a_trace_for_any_batch(cache):
    index = indexes.ScaNN()

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 9, 3)),
            tf.TensorSpec((None, 2), tf.int32),
            tf.TensorSpec((None, 2, 3)),
            tf.TensorSpec((None, 1, 3)),
        ]
    )
    def program(memory, slots, rows, queries):
        state = index.insert(index.reset(memory, 0), slots, rows)
        assert state.shape == (None, 4)
        found = index.search(state, memory, queries, 2)
        assert found.shape == (None, 1, 2)
        return state, found

    for batch in (5, 1, 0):
        state, found = program(
            np.ones((batch, 9, 3)),
            np.tile(np.int32([0, 1]), (batch, 1)),
            np.ones((batch, 2, 3)),
            np.ones((batch, 1, 3)),
        )
        assert state.shape == (batch, 4)
        np.testing.assert_array_equal(found, np.tile([0, 1], (batch, 1, 1)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_states_are_numbers_that_floats_hold(dtype, cache):
    index = indexes.ScaNN()
    memory = tf.zeros((1000, 3, 2), dtype)
    state = index.reset(memory, 2)
    assert state.shape == (1000, index.state_size(3, 2)) and state.dtype == dtype
    state = state.numpy()
    assert np.all(state == np.float32(state)) and state.max() < 2**24
    assert len(np.unique(state[:, :3], axis=0)) == 1000
    np.testing.assert_array_equal(state[:, 3], 2)


# Sequences do not mix.


def test_a_state_repeated_within_a_batch(cache, call):
    """As a beam search does it."""
    rng = np.random.default_rng(6)
    moment = start(BRUTE_FORCE, call, rng, given=10, batch=1).write_some(rng)
    moment.state = tf.repeat(moment.state, 3, axis=0)
    moment.memory = np.repeat(moment.memory, 3, axis=0)
    moment.used = np.repeat(moment.used, 3)
    for _ in range(5):
        moment.check(rng)
        moment = moment.write_some(rng)
    moment.check(rng)


def run_threads(*functions):
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:  # for the main thread to raise
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("limit", [2**31, 0])
def test_threads_that_continue_the_same_state(limit, cache, call, monkeypatch):
    monkeypatch.setattr(scann, "CACHE_BYTES", limit)
    rng = np.random.default_rng(7)
    beginning = start(WHOLE_TREE, call, rng, given=20).write_some(rng)
    switch = sys.getswitchinterval()

    def go_on(seed):
        rng = np.random.default_rng(seed)
        for _ in range(3):
            moment = beginning
            for _ in range(10):
                moment = moment.write_some(rng)
                moment.check(rng)

    go_on(0)  # graphs are traced by one thread
    try:
        sys.setswitchinterval(1e-5)
        run_threads(*(lambda seed=seed: go_on(seed) for seed in range(4)))
    finally:
        sys.setswitchinterval(switch)


# Bounds.


def test_searchers_are_bounded(cache, monkeypatch):
    rng = np.random.default_rng(8)

    def call(function, *args):
        return function(*args)

    monkeypatch.setattr(scann, "VERSIONS", 5)
    monkeypatch.setattr(scann, "CACHE_BYTES", 200_000)
    for _ in range(30):
        moment = start(BRUTE_FORCE, call, rng, given=50)
        for _ in range(7):
            moment = moment.write_some(rng)
        moment.check(rng)
    assert 2 <= len(cache._waiting) < 30
    assert cache._bytes == sum(s.bytes for s in cache._waiting) <= 200_000
    assert len(cache._by_token) <= 5 * len(cache._waiting)


def test_what_fails_leaves_no_half_written_searcher(cache, monkeypatch):
    rng = np.random.default_rng(9)
    moment = start(BRUTE_FORCE, lambda f, *args: f(*args), rng, given=10)
    moment.check(rng)
    with monkeypatch.context() as patch:
        patch.setattr(scann, "_normalised", lambda words: words[:, :1])
        with pytest.raises(Exception, match="Dimensionality"):
            moment.write_some(rng)
    moment.check(rng)


# Trees.


def clusters(rng, count, members=16, words=32):
    centres = rng.normal(size=(count, 1, words))
    return centres, centres + 0.1 * rng.normal(size=(count, members, words))


def recall_after_overwrites(slots, overwrites=50_000):
    """Of the four nearest, in clusters of which many have replaced others."""
    rng = np.random.default_rng(0)
    _, rows = clusters(rng, slots // 16)
    memory = rows.reshape(slots, 32).astype("float32")[rng.permutation(slots)]
    index = indexes.ScaNN()
    state = index.reset(tf.constant(memory[np.newaxis]), slots)
    # The first search makes the tree.
    queries = np.ones((1, 1, 32), "float32")
    index.search(state, tf.constant(memory[np.newaxis]), tf.constant(queries), 4)
    centres, rows = clusters(rng, overwrites // 16)
    rows = rows.reshape(-1, 500, 32).astype("float32")
    places = rng.permutation(slots).astype("int32")
    if overwrites > slots:
        raise ValueError("Clusters would be overwritten in part.")
    for step, words in enumerate(rows):
        slots_now = places[500 * step : 500 * (step + 1)]
        memory[slots_now] = words
        state = index.insert(
            state, tf.constant(slots_now[np.newaxis]), tf.constant(words[np.newaxis])
        )
    queries = centres[::50, 0] + 0.1 * rng.normal(size=centres[::50, 0].shape)
    queries = queries.astype("float32")[np.newaxis]
    memory = memory[np.newaxis]
    found = index.search(state, tf.constant(memory), tf.constant(queries), 4)
    norms = np.linalg.norm(memory[0], axis=-1)
    scores = queries[0] @ memory[0].T / norms
    expected = np.argpartition(-scores, 4, axis=-1)[:, :4]
    return np.mean(
        [len(np.intersect1d(a, b)) / 4 for a, b in zip(found[0], expected, strict=True)]
    )


def test_a_tree_finds_most(cache):
    assert recall_after_overwrites(2**16) >= 0.95


@pytest.mark.slow
def test_a_large_tree_finds_most(cache):
    assert recall_after_overwrites(2**20) >= 0.9


def test_when_trees_are_made(cache, monkeypatch):
    rng = np.random.default_rng(0)
    trained = []
    tree = scann._Searcher.train_if_due

    def noted(self):
        before = self._leaves, self._insertions
        tree(self)
        if (self._leaves, self._insertions) != before:
            trained.append(self._size)

    monkeypatch.setattr(scann._Searcher, "train_if_due", noted)
    for retrain_every, expected in ((None, [21, 42]), (30, [21, 51])):
        trained.clear()
        index = indexes.ScaNN(brute_force_up_to=20, retrain_every=retrain_every)
        memory = tf.constant(rng.normal(size=(1, 60, 4)), "float32")
        state = index.reset(memory, 0)
        for slot in range(60):
            state = index.insert(state, [[slot]], memory[:, slot : slot + 1])
            index.search(state, memory, memory[:, :1], 1)
        # 21 words have round(sqrt(21)) = 5 leaves, due again after 25 insertions.
        assert trained == ([21, 46] if retrain_every is None else expected)


# In layers.

SIZES = {"word_size": 4, "read_heads": 2, "reads_per_head": 3, "memory_slots": 24}
# Weights that spread reads and writes.
SPREAD = {"scale": 0.7, "shape": (3, None, 5)}


def make_layer(index, plain=False, **kwargs):
    options = {"return_sequences": True, "return_state": True, "dtype": "float64"}
    if plain:
        cell = keras_sam.SAMCell(6, index=index, dtype="float64", **SIZES)
        return keras.layers.RNN(cell, **options, **kwargs)
    return keras_sam.SAM(6, index=index, **SIZES, **options, **kwargs)


def values_and_gradients(layer, inputs, state, mask):
    sources = [inputs, *state, *(v.value for v in layer.trainable_variables)]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        results = layer(inputs, initial_state=state, mask=mask, training=True)
        names = layer.cell.unpack_state(results[1:])
        loss = tf.add_n(
            [
                tf.reduce_sum(tf.sin(value))
                for value in (results[0], names.memory, names.read_vectors)
            ]
        )
    gradients = tape.gradient(
        loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    # All but the states of the indexes, which are not alike.
    return [results[0], *names._replace(index=())], gradients


@pytest.mark.parametrize(
    ("settings", "masked", "given"),
    [
        pytest.param(BRUTE_FORCE, False, 0, id="brute_force", marks=pytest.mark.slow),
        pytest.param(BRUTE_FORCE, True, 20, id="brute_force_masked_given"),
        pytest.param(WHOLE_TREE, True, 0, id="whole_tree", marks=pytest.mark.slow),
    ],
)
def test_layers_equal_the_exact_index(settings, masked, given, cache):
    exact = make_layer("exact", jit_compile=False)
    layers = {
        "layer": make_layer(indexes.ScaNN(**settings)),
        "cell": make_layer(indexes.ScaNN(**settings), plain=True),
    }
    randomize(exact, *layers.values(), **SPREAD)
    rng = np.random.default_rng(1)
    inputs = tf.constant(rng.normal(size=(3, 30, 5)))
    mask = tf.constant(rng.random((3, 30)) < 0.7) if masked else None
    memory = rng.normal(size=(3, given, 4)) if given else None

    def run(layer):
        state = layer.cell.get_initial_state(3, memory=memory)
        kept = [value.numpy() for value in state]
        results = values_and_gradients(layer, inputs, state, mask)
        for value, before in zip(state, kept, strict=True):
            np.testing.assert_array_equal(value, before)
        return results

    expected = run(exact)
    slots = expected[0][5].numpy()
    assert np.unique(slots).size > 5, "The case reads too few slots."
    ways = {name: run(layer) for name, layer in layers.items()}
    graph = tf.function(
        lambda state: values_and_gradients(layers["cell"], inputs, state, mask),
        autograph=False,
    )
    ways["cell in a graph"] = graph(
        layers["cell"].cell.get_initial_state(3, memory=memory)
    )
    for results in ways.values():
        got, wanted = tf.nest.flatten(results), tf.nest.flatten(expected)
        sources = len(tf.nest.flatten(expected[0])) + 1
        for number, (value, reference) in enumerate(zip(got, wanted, strict=False)):
            if number < sources:
                np.testing.assert_allclose(value, reference, rtol=1e-8, atol=1e-8)
        # The states of the indexes have no gradient but are of other sizes.
        weights = len(layers["cell"].trainable_variables)
        for value, reference in zip(
            results[1][-weights:], expected[1][-weights:], strict=True
        ):
            np.testing.assert_allclose(value, reference, rtol=1e-8, atol=1e-8)


def test_masked_steps_of_a_plain_rnn_build_nothing(cache, built):
    layer = make_layer("scann", plain=True)
    randomize(layer, **SPREAD)
    inputs = np.random.default_rng(0).normal(size=(3, 20, 5))
    mask = np.arange(20) % 3 > 0
    layer(inputs, mask=np.tile(mask, (3, 1)))
    assert len(built) == 3


def make_model(plain=False, index="scann"):
    inputs = keras.Input((None, 5))
    hidden = inputs
    for _ in range(2):
        if plain:
            cell = keras_sam.SAMCell(6, index=index, **SIZES)
            layer = keras.layers.RNN(cell, return_sequences=True)
        else:
            layer = keras_sam.SAM(6, index=index, return_sequences=True, **SIZES)
        hidden = layer(hidden)
    return keras.Model(inputs, keras.layers.Dense(1)(hidden))


@pytest.mark.slow
@pytest.mark.parametrize("plain", [False, True], ids=["layer", "cell"])
def test_two_layers_learn(plain, cache):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(8, 6, 5)).astype("float32")
    model, exact = make_model(plain), make_model(plain=True, index="exact")
    exact.set_weights(model.get_weights())
    np.testing.assert_allclose(model(inputs), exact(inputs), atol=1e-5)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    options = {"epochs": 4, "batch_size": 4, "verbose": 0}
    losses = model.fit(inputs, inputs[..., :1], **options).history["loss"]
    assert losses[-1] < losses[0]


def test_threads_that_predict(cache):
    model = make_model()
    inputs = np.random.default_rng(0).normal(size=(2, 4, 12, 5)).astype("float32")
    expected = [model(one).numpy() for one in inputs]
    program = tf.function(model)
    program(inputs[0])

    def predict(number):
        for _ in range(5):
            np.testing.assert_allclose(
                program(inputs[number]), expected[number], atol=1e-6
            )

    run_threads(lambda: predict(0), lambda: predict(1), lambda: predict(0))


def test_rows_of_a_batch_are_independent(cache):
    layer = make_layer("scann")
    randomize(layer, **SPREAD)
    inputs = np.random.default_rng(0).normal(size=(3, 15, 5))
    together = layer(inputs)[0]
    for row in range(3):
        np.testing.assert_allclose(
            layer(inputs[row : row + 1])[0], together[row : row + 1], atol=1e-12
        )


@pytest.mark.parametrize("plain", [False, True], ids=["layer", "cell"])
def test_a_sequence_in_parts(plain, cache, monkeypatch, tmp_path):
    """Continued in this process, twice, and after a restart."""
    layer = make_layer("scann", plain)
    randomize(layer, **SPREAD)
    inputs = np.random.default_rng(0).normal(size=(3, 15, 5))
    whole = layer(inputs)[0][:, 8:]
    state = layer(inputs[:, :8])[1:]
    np.savez(tmp_path / "state.npz", *state)
    again = (state, state)
    for state in again:
        rest = layer(inputs[:, 8:], initial_state=list(state))[0]
        np.testing.assert_allclose(rest, whole, atol=1e-12)
    monkeypatch.setattr(scann, "_cache", scann._Cache())
    with np.load(tmp_path / "state.npz") as file:
        state = [tf.constant(file[name]) for name in file.files]
    rest = layer(inputs[:, 8:], initial_state=state)[0]
    np.testing.assert_allclose(rest, whole, atol=1e-12)


def test_stateful(cache):
    layer = make_layer("scann", stateful=True)
    plain = make_layer("scann")
    randomize(layer, plain, **SPREAD)
    inputs = np.random.default_rng(0).normal(size=(3, 15, 5))
    whole = plain(inputs)[0]
    for _ in range(2):
        parts = [layer(part)[0] for part in np.split(inputs, 3, axis=1)]
        np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-12)
        layer.reset_state()


def test_saved_and_loaded(cache, tmp_path):
    model = make_model(index=indexes.ScaNN(reordering=70))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[1].cell.index.reordering == 70
    inputs = np.random.default_rng(0).normal(size=(2, 9, 5))
    np.testing.assert_allclose(loaded(inputs), model(inputs), atol=1e-6)


def test_the_gradient_reaches_no_state_of_the_index(cache):
    index = indexes.ScaNN()
    memory = tf.random.normal((1, 6, 3))
    state = index.reset(memory, 6)
    with tf.GradientTape() as tape:
        tape.watch([memory, state])
        new = index.insert(state, [[0]], memory[:, :1])
        found = index.search(new, memory, memory[:, :1], 2)
        loss = tf.reduce_sum(new) + tf.reduce_sum(tf.cast(found, tf.float32))
    assert tape.gradient(loss, [memory, state]) == [None, None]


# Errors, name and configuration.


def test_xla():
    model = make_model()
    with pytest.warns(UserWarning, match="jit_compile=False"):
        model.compile("adam", "mse", jit_compile=True)
    assert model.jit_compile is False
    for plain in (False, True):
        layer = make_layer("scann", plain)
        layer.build((3, None, 5))
        program = tf.function(layer, jit_compile=True, autograph=False)
        with pytest.raises(ValueError, match="XLA cannot compile .*Received: index="):
            program(tf.zeros((3, 4, 5), "float64"))
    with pytest.raises(ValueError, match="Received: index="):
        make_layer("scann", jit_compile=True)


@pytest.mark.parametrize(
    "error", [ImportError("no scann"), tf.errors.NotFoundError(None, None, "symbol")]
)
def test_without_scann(error, monkeypatch):
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name.split(".")[0] == "scann":
            raise error
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(ImportError, match=r"pip install .*tensorflow") as raised:
        indexes.ScaNN()
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("brute_force_up_to", 15),
        ("brute_force_up_to", None),
        ("leaves_to_search", 0),
        ("reordering", 2.0),
        ("retrain_every", 0),
        ("retrain_every", True),
    ],
)
def test_arguments(name, wrong):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
        indexes.ScaNN(**{name: wrong})


def test_get():
    index = indexes.get("scann")
    assert type(index) is indexes.ScaNN
    assert not index.is_exact and not index.supports_jit


def test_configuration_round_trip():
    index = indexes.ScaNN(100, 5, 6, 7)
    config = keras.saving.serialize_keras_object(index)
    assert config["registered_name"] == "keras_sam>ScaNN"
    again = indexes.get(config)
    assert list(again.get_config().values()) == [100, 5, 6, 7]
    assert keras.saving.serialize_keras_object(again) == config
