"""The index of hashes against sorts of all similarities in NumPy, and by itself."""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from test_index_exact import UNWRITTEN, brute_force, small_numbers
from test_recurrence import (
    compiled_programs,
    copies_in_loops,
    make_layers,
    results_and_gradients,
)

import keras_sam
from keras_sam import index as indexes
from keras_sam.index import LSH, lsh

BATCH, HEADS, WORDS = 2, 2, 3

# One that looks into all its buckets, each with room for all words: if no slot gets
# lost it finds what an exact search does.
EXHAUSTIVE = {"bits": 1, "probes": 2}


class Sequence:
    """A memory that is written to as a SAM does it, and an index that follows."""

    def __init__(self, index, slots, given=None):
        self.index = index
        self.memory = np.full((BATCH, slots, WORDS), UNWRITTEN)
        self.used = [0 if given is None else given.shape[1]] * BATCH
        if given is not None:
            self.memory[:, : given.shape[1]] = given
        self.state = index.reset(tf.constant(self.memory), self.used[0])

    def write(self, choices, rows, active=(True, True)):
        """Each choice is a slot used before, or else the next new one."""
        choices = np.minimum(choices, np.array(self.used)[:, np.newaxis])
        slots = np.zeros(choices.shape, "int32")
        for b in range(BATCH):
            used = self.used[b]
            for w, choice in enumerate(choices[b]):
                slots[b, w] = choice % (used + (used < self.memory.shape[1]))
                used = max(used, slots[b, w] + 1)
                if active[b]:
                    self.used[b] = used
                    self.memory[b, slots[b, w]] = rows[b, w]
        # The index is told of the words as they stand at the end.
        rows = np.take_along_axis(self.memory, slots[..., np.newaxis], axis=1)
        before = self.state
        self.state = self.index.insert(
            before, tf.constant(slots), rows, tf.constant(active)
        )
        assert self.state.dtype == before.dtype
        for b in range(BATCH):
            assert active[b] or np.array_equal(self.state[b], before[b])
        self.check_tables()

    def check_tables(self):
        """Each slot is once in a table at most, in the bucket of its word."""
        layout = self.index._layout(self.memory.shape[1])
        assert self.state.shape == (
            BATCH,
            self.index.state_size(*self.memory.shape[1:]),
        )
        state = self.state.numpy()
        assert not state[:, layout.nowhere].any()
        np.testing.assert_array_equal(state[:, layout.used], self.used)
        tables = state[:, : layout.homes].reshape(BATCH, self.index.tables, -1)
        buckets = lsh._hash(self.index._distances(layout.bits, self.memory)).numpy()
        for b, table in np.ndindex(tables.shape[:2]):
            (places,) = np.nonzero(tables[b, table])
            slots = tables[b, table, places].astype(int) - 1
            assert len(set(slots)) == len(slots)
            np.testing.assert_array_equal(
                places // self.index.bucket_size, buckets[b, slots, table]
            )

    def search(self, queries, count):
        found = self.index.search(
            self.state, tf.constant(self.memory), tf.constant(queries), count
        )
        assert found.dtype == tf.int32
        return found.numpy()

    def assert_finds_all(self, queries, count):
        expected = brute_force(self.memory, queries, count)
        np.testing.assert_array_equal(self.search(queries, count), expected)

    def assert_finds_some(self, queries, count):
        """Different slots, in the order of the words that they hold now."""
        found = self.search(queries, count)
        assert found.min() >= 0 and found.max() < self.memory.shape[1]
        order = brute_force(self.memory, queries, self.memory.shape[1])
        rank = np.argsort(order, axis=-1)
        assert (np.diff(np.take_along_axis(rank, found, axis=-1)) > 0).all()


def draw_sequence(data, index):
    """Writes what hypothesis likes."""
    slots = data.draw(st.integers(1, 14), "slots")
    rows = data.draw(st.integers(0, slots), "given rows")
    given_rows = data.draw(small_numbers(BATCH, rows, WORDS), "given") if rows else None
    sequence = Sequence(index, slots, given_rows)
    for _ in range(data.draw(st.integers(0, 6), "steps")):
        writes = data.draw(st.integers(1, 3), "writes")
        choices = st.lists(
            st.sampled_from([slots, slots, *range(slots)]),
            min_size=BATCH * writes,
            max_size=BATCH * writes,
        )
        choices = np.reshape(data.draw(choices, "choices"), (BATCH, writes))
        rows = data.draw(small_numbers(BATCH, writes, WORDS), "rows")
        active = data.draw(st.tuples(st.booleans(), st.booleans()), "active")
        sequence.write(choices, rows, active)
    return sequence, data.draw(small_numbers(BATCH, HEADS, WORDS), "queries")


@settings(max_examples=25)
@given(st.data())
def test_few_words_are_found_as_by_the_exact_index(data):
    sequence, queries = draw_sequence(data, LSH())
    slots = sequence.memory.shape[1]
    for count in {1, min(4, slots), slots}:
        sequence.assert_finds_all(queries, count)


@settings(max_examples=40)
@given(st.data())
def test_tables_alone_lose_no_slot(data):
    tables = data.draw(st.integers(1, 2), "tables")
    with mock.patch.object(lsh, "RECENT", 1):
        sequence, queries = draw_sequence(
            data, LSH(tables, bucket_size=14, **EXHAUSTIVE)
        )
        slots = sequence.memory.shape[1]
        for count in {1, min(4, slots), slots}:
            sequence.assert_finds_all(queries, count)


@settings(max_examples=40)
@given(st.data())
def test_full_buckets(data):
    with mock.patch.object(lsh, "RECENT", 2):
        sequence, queries = draw_sequence(data, LSH(bits=1, bucket_size=2))
        for count in {1, min(4, sequence.memory.shape[1])}:
            sequence.assert_finds_some(queries, count)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_many_steps(mode):
    """More moves than there are places: what leaves a bucket makes room."""
    rng = np.random.default_rng(0)
    slots = 29
    with mock.patch.object(lsh, "RECENT", 3):
        index = LSH(2, bucket_size=slots, **EXHAUSTIVE)
        if mode != "eager":
            for name in ("insert", "search"):
                method = tf.function(getattr(index, name), jit_compile=mode == "xla")
                setattr(index, name, method)
        sequence = Sequence(index, slots, rng.integers(-2, 3, (BATCH, 5, WORDS)))
        for step in range(60):
            choices = rng.integers(60, size=(BATCH, 4))
            active = (step % 3 > 0, step % 5 > 0)
            rows = rng.integers(-2, 3, size=(BATCH, 4, WORDS))
            sequence.write(choices, rows, active)
            queries = rng.integers(-2, 3, size=(BATCH, HEADS, WORDS)).astype(float)
            sequence.assert_finds_all(queries, 10)
        assert sequence.used == [slots, slots]


def test_eager_graph_and_xla_agree_on_crowded_tables():
    rng = np.random.default_rng(1)
    index = LSH(bits=4, bucket_size=3)
    ways = [
        (index.insert, index.search),
        *(
            (
                tf.function(index.insert, jit_compile=jit_compile),
                tf.function(index.search, jit_compile=jit_compile),
            )
            for jit_compile in (False, True)
        ),
    ]
    memory = rng.normal(size=(BATCH, 200, WORDS))
    states = [index.reset(tf.constant(memory), 200)] * 3
    for step in range(20):
        slots = rng.integers(200, size=(BATCH, 17)).astype("int32")
        slots[:, 5] = slots[:, 2]
        rows = rng.normal(size=(BATCH, 17, WORDS)) if step % 2 else 0.1 * memory[:, :17]
        # Many into the same bucket.
        rows[:, 10:] = rows[:, 9:10]
        rows[:, 5] = rows[:, 2]
        for b in range(BATCH):
            for slot, row in zip(slots[b, ::-1], rows[b, ::-1], strict=True):
                memory[b, slot] = row
        rows = np.take_along_axis(memory, slots[..., np.newaxis], axis=1)
        active = tf.constant([True, step % 4 > 0])
        queries = tf.constant(rng.normal(size=(BATCH, HEADS, WORDS)))
        found = []
        for number, (insert, search) in enumerate(ways):
            states[number] = insert(states[number], tf.constant(slots), rows, active)
            found.append(search(states[number], tf.constant(memory), queries, 4))
        for number in (1, 2):
            np.testing.assert_array_equal(states[number], states[0])
            np.testing.assert_array_equal(found[number], found[0])


def test_duplicates_count_once():
    index = LSH()
    state = index.reset(tf.zeros((1, 50, WORDS)), 0)
    rows = tf.random.stateless_normal((1, 3, WORDS), seed=(0, 1))
    once = index.insert(state, tf.constant([[7, 0, 9]]), rows)
    twice = index.insert(
        state, tf.constant([[7, 0, 7, 9, 0]]), tf.gather(rows, [0, 1, 0, 2, 1], axis=1)
    )
    np.testing.assert_array_equal(once, twice)


def test_sequences_of_a_batch_are_independent():
    rng = np.random.default_rng(2)
    index = LSH(bits=5, bucket_size=4)
    memory = tf.constant(rng.normal(size=(3, 150, WORDS)))
    slots = tf.constant(rng.integers(150, size=(3, 9)), tf.int32)
    rows = tf.gather(memory, slots, batch_dims=1)
    queries = tf.constant(rng.normal(size=(3, HEADS, WORDS)))

    def run(b):
        state = index.insert(index.reset(memory[b], 99), slots[b], rows[b])
        return state, index.search(state, memory[b], queries[b], 4)

    together = run(slice(None))
    for b in range(3):
        for one, all_of_them in zip(run(slice(b, b + 1)), together, strict=True):
            np.testing.assert_array_equal(one[0], all_of_them[b])


def test_a_trace_for_any_batch():
    index = LSH()
    size = index.state_size(40, WORDS)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, size)),
            tf.TensorSpec((None, 40, WORDS)),
            tf.TensorSpec((None, 2), tf.int32),
            tf.TensorSpec((None, 1, WORDS)),
        ]
    )
    def step(state, memory, slots, queries):
        state = index.insert(state, slots, tf.gather(memory, slots, batch_dims=1))
        return state, index.search(state, memory, queries, 2)

    memory = np.ones((5, 40, WORDS))
    state, found = step(np.zeros((5, size)), memory, [[0, 1]] * 5, memory[:, :1])
    assert state.shape == (5, size) and found.shape == (5, 1, 2)
    np.testing.assert_array_equal(found[:, 0], [[0, 1]] * 5)


def test_what_is_no_number_is_not_alike():
    index = LSH()
    memory = np.ones((1, 40, WORDS), "float32")
    memory[:, :38] = np.nan
    state = index.reset(tf.constant(memory), 40)
    found = index.search(state, tf.constant(memory), tf.ones((1, 1, WORDS)), 4).numpy()
    np.testing.assert_array_equal(found[0, 0, :2], [38, 39])
    assert len(set(found[0, 0])) == 4


# How many of the most alike it finds.


def clusters(rng, words, word_size=32):
    """A function that draws words around centres, 16 for each."""
    centres = rng.normal(size=(words // 16, word_size))

    def draw(*shape):
        chosen = centres[rng.integers(len(centres), size=shape)]
        return (chosen + 0.1 * rng.normal(size=chosen.shape)).astype("float32")

    return draw


def recall(index, state, memory, queries, count=4):
    """The part of the slots found that are as similar as the best ones."""
    search = tf.function(lambda some: index.search(state, memory, some, count))
    queries = np.reshape(queries, (-1, 1, 4, queries.shape[-1]))
    found = np.stack([search(some)[0] for some in queries])
    words = memory[0].numpy().astype(float)
    similarity = np.squeeze(queries, 1) @ words.T
    similarity = similarity / np.sqrt(np.sum(words**2, axis=-1) + 1e-6)
    similarity /= np.linalg.norm(queries[:, 0], axis=-1, keepdims=True)
    least = np.sort(similarity)[..., -count, np.newaxis]
    return np.mean(np.take_along_axis(similarity, found, -1) >= least - 1e-6)


def test_recall_on_clusters_however_often_they_are_rewritten():
    rng = np.random.default_rng(3)
    index, slots, steps = LSH(), 2**12, 1500
    draw = clusters(rng, slots)
    memory = tf.constant(draw(1, slots))
    queries = draw(400)
    built = index.reset(memory, slots)
    assert recall(index, built, memory, queries) > 0.9

    @tf.function(jit_compile=True, autograph=False)
    def rewrite(memory, state, slots, rows):
        def step(t, memory, state):
            update = tf.tensor_scatter_nd_update
            memory = update(memory[0], slots[t][:, tf.newaxis], rows[t])[tf.newaxis]
            state = index.insert(state, slots[t][tf.newaxis], rows[t][tf.newaxis])
            return t + 1, memory, state

        return tf.while_loop(
            lambda t, *_: t < slots.shape[0], step, (0, memory, state)
        )[1:]

    # First in order, each of the slots once; then everywhere, six times over.
    order = np.arange(17 * 241) % slots
    empty = index.reset(tf.zeros_like(memory), 0)
    _, state = rewrite(
        tf.zeros_like(memory),
        empty,
        tf.constant(order.reshape(-1, 17), tf.int32),
        tf.reshape(tf.gather(memory[0], order), (-1, 17, 32)),
    )
    assert (
        abs(
            recall(index, state, memory, queries)
            - recall(index, built, memory, queries)
        )
        < 0.03
    )
    everywhere = np.argsort(rng.random((steps, slots // 4)))[:, :17]
    everywhere = (everywhere + rng.integers(slots, size=(steps, 1))) % slots
    memory, state = rewrite(
        memory, state, tf.constant(everywhere, tf.int32), tf.constant(draw(steps, 17))
    )
    assert recall(index, state, memory, queries) > 0.9
    # What was there is gone: a query for it finds what is there now.
    assert np.mean(np.abs(memory[0].numpy()[:, 0])) > 0.1


def test_more_tables_and_probes_find_more():
    rng = np.random.default_rng(4)
    memory = tf.constant(rng.normal(size=(1, 1024, 16)).astype("float32"))
    queries = rng.normal(size=(400, 16)).astype("float32")

    def found(**kwargs):
        index = LSH(**kwargs)
        return recall(index, index.reset(memory, 1024), memory, queries)

    plain = found()
    assert found(probes=1) < plain - 0.05
    assert found(probes=6) > plain + 0.05
    assert found(tables=6) > plain + 0.05
    assert found(tables=30, probes=8) > 0.95


def test_the_last_words_are_found_whatever_their_hash():
    rng = np.random.default_rng(5)
    index, slots = LSH(probes=1, bucket_size=1), 4096
    memory = rng.normal(size=(1, slots, 32)).astype("float32")
    state = index.reset(tf.constant(memory), slots)
    batches = rng.choice(slots, (lsh.RECENT // 16, 16), replace=False).astype("int32")
    # Those rewritten again and again take no more room than once.
    for batch in [*batches, *batches[-1:].repeat(5, axis=0), batches[1]]:
        memory[0, batch] = rng.normal(size=(16, 32))
        state = index.insert(state, batch[np.newaxis], memory[:, batch])
    written = batches.ravel()
    found = index.search(state, tf.constant(memory), memory[:, written], 1)
    np.testing.assert_array_equal(found[0, :, 0], written)


def test_a_slot_enters_the_place_that_another_leaves():
    index = LSH(1, bits=1, bucket_size=1, probes=1)
    word = np.ones((1, WORDS))
    memory = np.full((1, 50, WORDS), UNWRITTEN)
    with mock.patch.object(lsh, "RECENT", 1):
        state = index.insert(
            index.reset(tf.constant(memory), 0), tf.constant([[7]]), word[np.newaxis]
        )
        memory[0, 7], memory[0, 9] = -word, word
        state = index.insert(state, tf.constant([[7, 9]]), memory[:, [7, 9]])
        found = index.search(state, tf.constant(memory), memory[:, [7, 9]], 1)
    np.testing.assert_array_equal(found, [[[7], [9]]])


def test_given_rows_that_are_all_alike():
    index = LSH()
    memory = tf.broadcast_to(tf.constant([[[1.0, 2.0, 3.0]]]), (2, 500, 3))
    state = index.reset(memory, 300)
    found = index.search(state, memory, tf.constant([[[1.0, 2.0, 3.0]]] * 2), 4)
    np.testing.assert_array_equal(found, [[[0, 1, 2, 3]]] * 2)


# In a layer.


@pytest.mark.parametrize("path", ["compiled", "in_place"])
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
def test_layer_equals_the_cell(path, masked):
    layer, plain = make_layers(
        path, memory_slots=300, reads_per_head=2, index=LSH(bits=4, bucket_size=4)
    )
    rng = np.random.default_rng(6)
    inputs = tf.constant(rng.normal(size=(3, 17, 5)))
    mask = tf.constant(rng.random((3, 17)) > 0.3) if masked else None
    state = layer.get_initial_state(3, memory=rng.normal(size=(290, 4)))
    got = results_and_gradients(layer, inputs, state, mask)
    expected = results_and_gradients(plain, inputs, state, mask)
    index = plain.cell.unpack_state(expected[0][1:]).index
    assert np.any(index != plain.cell.unpack_state(state).index)
    for values, references in zip(got, expected, strict=True):
        for value, reference in zip(values, references, strict=True):
            np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-9)


def test_compiled_loop_copies_neither_memory_nor_tables():
    slots, words = 4099, 6
    layer = keras_sam.SAM(5, slots, words, index="lsh", return_sequences=True)
    inputs = tf.zeros((2, 16, 3))
    layer.build(inputs.shape)
    states = layer.get_initial_state(2)
    index = layer.cell.unpack_state(states).index
    size = min(index.shape[1], slots * words)
    for program in compiled_programs(layer, inputs, states):
        assert not copies_in_loops(program, size // 2)


def test_saved_and_exported(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, 4)),
            keras_sam.SAM(
                8, 100, 6, 2, index=LSH(3, probes=2, seed=5), return_sequences=True
            ),
        ]
    )
    inputs = np.random.default_rng(7).normal(size=(2, 40, 4)).astype("float32")
    expected = model.predict(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    model.export(tmp_path / "exported", verbose=False)
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[0].cell.index.get_config() == {
        "tables": 3,
        "bits": None,
        "bucket_size": 16,
        "probes": 2,
        "seed": 5,
    }
    np.testing.assert_allclose(again.predict(inputs, verbose=0), expected, atol=1e-5)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(inputs), expected, atol=1e-5)


# Arguments, planes and sizes.


@pytest.mark.parametrize("name", ["tables", "bits", "bucket_size", "probes"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2"])
def test_positive_integers(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer.*Received: "):
        LSH(**{name: value})


@pytest.mark.parametrize("value", [-1, 0.5, None, 2**32])
def test_seeds(value):
    with pytest.raises(ValueError, match="`seed` must be .*Received: seed="):
        LSH(seed=value)


@pytest.mark.parametrize("kwargs", [{"bits": 21}, {"bucket_size": 2**24}])
def test_tables_of_too_many_places(kwargs):
    with pytest.raises(ValueError, match=r"at most 2\*\*24 places.*Received: bits="):
        LSH(**kwargs)


def test_get():
    index = indexes.get("lsh")
    assert type(index) is LSH
    assert index.supports_jit and not index.is_exact


def test_planes_come_from_the_seed():
    planes = LSH(tables=3)._planes(8, 5)
    assert planes.shape == (3, 5, 8)
    # At right angles as far as there are dimensions.
    for part in (planes[..., :5], planes[..., 5:]):
        products = np.swapaxes(part, 1, 2) @ part
        np.testing.assert_allclose(products, [np.eye(part.shape[-1])] * 3, atol=1e-12)
    assert len(np.unique(np.abs(planes))) == planes.size
    np.testing.assert_array_equal(planes, LSH(tables=3, seed=0)._planes(8, 5))
    assert np.all(planes != LSH(tables=3, seed=1)._planes(8, 5))
    np.testing.assert_allclose(planes[0, :3, 0], PLANE, atol=1e-12)


# Part of the first plane of seed 0: models that are saved count on it.
PLANE = [0.5388637501503593, -0.2985283427064745, 0.0440008819002606]


@pytest.mark.parametrize("kwargs", [{}, {"tables": 3, "bits": 4, "bucket_size": 5}])
def test_each_size_of_memory_has_its_size_of_state(kwargs):
    index = LSH(**kwargs)
    slots = [*range(1, 300), 4095, 4096, 4097, 2**20, 2**22 + 1, 2**24]
    sizes = [index.state_size(number, 32) for number in slots]
    assert (np.diff(sizes) > 0).all()
    for number, size in zip(slots, sizes, strict=True):
        layout = index._layout_of(tf.TensorSpec((None, size)))
        assert layout.homes == index._layout(number).homes
        assert layout.nowhere == index._layout(number).nowhere == size - 1


def test_a_table_has_places_for_four_times_the_memory():
    for slots in (100, 1000, 2**16, 3 * 2**18):
        places = LSH()._layout(slots).homes / 2
        assert 2**1.5 < places / slots < 2**2.5
    assert LSH()._layout(2**24).homes == 2 * 2**24


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slots", [5, 7, 13, 16, 30, 100])
def test_equal_words_tie_in_a_graph_too(slots, dtype):
    """Rounding is the same for each of them: the lowest slot comes first."""
    rng = np.random.default_rng(2)
    index = LSH()
    search = tf.function(index.search)
    halves = np.split(np.arange(slots), [slots // 2])
    upwards, downwards = np.concatenate(halves), np.concatenate(halves[::-1])
    for words in (4, 8, 32) * 3:
        memory = np.full((1, slots, words), UNWRITTEN, dtype)
        memory[:, : slots // 2] = rng.normal(size=words)
        memory = tf.constant(memory)
        queries = tf.constant(rng.normal(size=(1, 4, words)), dtype)
        found = search(index.reset(memory, slots // 2), memory, queries, slots)
        for order in found[0].numpy():
            np.testing.assert_array_equal(
                order, upwards if order[0] == 0 else downwards
            )
