"""The index of hashes against sorts of all similarities in NumPy, and by itself."""

import itertools
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    UNWRITTEN,
    brute_force,
    compiled_programs,
    copies_in_loops,
    make_layers,
    results_and_gradients,
    small_numbers,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.linear_hashing import Tables

import keras_sam
from keras_sam import index as indexes
from keras_sam.index import LSH, lsh_state, planes, sketches
from keras_sam.index.linear_hashing import bucket_of, buckets_in_use, due_splits
from keras_sam.index.lsh_state import LARGEST

BATCH, HEADS, WORDS = 2, 2, 3

# One that looks into all buckets and compares what it finds there: if no slot gets lost
# it finds what an exact search does.
EXHAUSTIVE = {"probes": 1024, "reordering": 2**12}


def few_listed(number):
    """Of the slots inserted last only so few are always compared."""
    return mock.patch.object(lsh_state, "RECENT", number)


def layout_of(index, slots, word_size):
    sizes = (index.tables, index.bucket_size, slots, word_size)
    return lsh_state.Layout.of(*sizes)


def tables_of(index, state, slots, word_size):
    """Slots + 1 and sketches, `[batch, tables, buckets, bucket_size]` each."""
    layout = layout_of(index, slots, word_size)
    rows = np.array(state)[:, : layout.homes].astype(int)
    shape = (-1, layout.tables, layout.buckets, 2, layout.bucket_size)
    return np.moveaxis(rows.reshape(shape), 3, 0)


def codes_of(index, state, memory):
    """The codes of all words in each table, and their sketches."""
    layout = layout_of(index, *np.shape(memory)[1:])
    distances = lsh_state.State(tf.constant(state), layout).distances(memory)
    of_tables, of_sketches = (planes.side_bits(each).numpy() for each in distances)
    return np.moveaxis(of_tables, 2, 1), of_sketches


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
        index, sizes = self.index, self.memory.shape[1:]
        layout = layout_of(index, *sizes)
        assert self.state.shape == (BATCH, index.state_size(*sizes))
        state = self.state.numpy()
        assert not state[:, layout.nowhere].any()
        np.testing.assert_array_equal(state[:, layout.used], self.used)
        codes, sketches_of = codes_of(index, state, self.memory)
        found, beside = tables_of(index, state, *sizes)
        splits = state[:, layout.splits : layout.splits + 1].astype(int)
        in_use = buckets_in_use(splits, index.tables).numpy()
        for b, table in np.ndindex(found.shape[:2]):
            buckets, places = np.nonzero(found[b, table])
            slots = found[b, table, buckets, places] - 1
            assert len(set(slots)) == len(slots)
            words = codes[b, table, slots]
            np.testing.assert_array_equal(bucket_of(words, in_use[b, table]), buckets)
            np.testing.assert_array_equal(
                beside[b, table, buckets, places], sketches_of[b, slots]
            )
            homes = state[b, layout.homes :][slots * index.tables + table]
            np.testing.assert_array_equal(homes, words * index.bucket_size + places)

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
    with few_listed(1):
        index = LSH(tables, bucket_size=14, **EXHAUSTIVE)
        sequence, queries = draw_sequence(data, index)
        slots = sequence.memory.shape[1]
        for count in {1, min(4, slots), slots}:
            sequence.assert_finds_all(queries, count)


@settings(max_examples=40)
@given(st.data())
def test_full_buckets(data):
    with few_listed(2):
        index = LSH(2, data.draw(st.integers(1, 3), "places"), reordering=3)
        sequence, queries = draw_sequence(data, index)
        for count in {1, min(4, sequence.memory.shape[1])}:
            sequence.assert_finds_some(queries, count)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_many_steps(mode):
    """More moves than there are places: what leaves a bucket makes room."""
    rng = np.random.default_rng(0)
    slots = 29
    with few_listed(3):
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
    index = LSH(2, bucket_size=3)
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
    # Of so few tables a step splits one bucket, however many slots it is given.
    index = LSH(tables=2)
    state = index.reset(tf.zeros((1, 50, WORDS)), 0)
    rows = tf.random.stateless_normal((1, 3, WORDS), seed=(0, 1))
    once = index.insert(state, tf.constant([[7, 0, 9]]), rows)
    twice = index.insert(
        state, tf.constant([[7, 0, 7, 9, 0]]), tf.gather(rows, [0, 1, 0, 2, 1], axis=1)
    )
    np.testing.assert_array_equal(once, twice)


def test_sequences_of_a_batch_are_independent():
    rng = np.random.default_rng(2)
    index = LSH(2, bucket_size=4)
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
    assert recall(index, built, memory, queries) > 0.95

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
    assert recall(index, state, memory, queries) > 0.95
    # What was there is gone: a query for it finds what is there now.
    assert np.mean(np.abs(memory[0].numpy()[:, 0])) > 0.1


def test_more_tables_and_probes_find_more():
    rng = np.random.default_rng(4)
    memory = tf.constant(rng.normal(size=(1, 1024, 16)).astype("float32"))
    queries = rng.normal(size=(400, 16)).astype("float32")

    def found(**kwargs):
        index = LSH(**kwargs)
        return recall(index, index.reset(memory, 1024), memory, queries)

    few = {"tables": 2, "bucket_size": 16, "probes": 3}
    plain = found(**few)
    assert found(**{**few, "probes": 1}) < plain - 0.05
    assert found(**{**few, "probes": 6}) > plain + 0.05
    assert found(**{**few, "tables": 6}) > plain + 0.05
    assert found(**{**few, "reordering": 16}) < plain - 0.05
    assert found(**EXHAUSTIVE) > 0.99


def test_the_last_words_are_found_whatever_their_hash():
    rng = np.random.default_rng(5)
    index, slots = LSH(probes=1, bucket_size=1, reordering=1), 4096
    memory = rng.normal(size=(1, slots, 32)).astype("float32")
    state = index.reset(tf.constant(memory), slots)
    batches = rng.choice(slots, (lsh_state.RECENT // 16, 16), replace=False).astype(
        "int32"
    )
    # Those rewritten again and again take no more room than once.
    for batch in [*batches, *batches[-1:].repeat(5, axis=0), batches[1]]:
        memory[0, batch] = rng.normal(size=(16, 32))
        state = index.insert(state, batch[np.newaxis], memory[:, batch])
    written = batches.ravel()
    found = index.search(state, tf.constant(memory), memory[:, written], 1)
    np.testing.assert_array_equal(found[0, :, 0], written)


def test_a_slot_enters_the_place_that_another_leaves():
    index = LSH(1, bucket_size=1, probes=1)
    word = np.ones((1, WORDS))
    memory = np.full((1, 50, WORDS), UNWRITTEN)
    with few_listed(1):
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


# Planes.


def test_planes_come_from_the_seed():
    groups = [(8, 5), (8, 5), (4, 3)]
    drawn = planes.draw_planes(0, tf.eye(5, dtype="float64"), groups).numpy()
    assert drawn.shape == (5, 20)
    # At right angles as far as there are dimensions.
    for start, end in ((0, 5), (5, 8), (8, 13), (13, 16), (16, 19), (19, 20)):
        part = drawn[:, start:end]
        np.testing.assert_allclose(part.T @ part, np.eye(end - start), atol=1e-12)
    assert len(np.unique(np.abs(drawn))) == drawn.size
    again = planes.draw_planes(0, 7 * tf.eye(5, dtype="float64"), groups)
    np.testing.assert_allclose(again, drawn, atol=1e-12)
    other = planes.draw_planes(1, tf.eye(5, dtype="float64"), groups)
    assert np.all(other != drawn)


def test_planes_are_the_factor_of_numbers_in_the_directions():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(9, 5))
    directions = kernel.T @ kernel
    drawn = planes.draw_planes(3, tf.constant(directions), [(4, 5), (2, 2)])
    squared = directions @ directions
    squared = squared / np.trace(squared) + 1e-7 * np.eye(5)
    numbers = np.random.RandomState(3).normal(size=(2, 5, 5))
    for start, end, number in ((0, 4, 0), (4, 6, 1)):
        basis, triangle = np.linalg.qr(squared @ numbers[number])
        expected = (basis * np.sign(np.diag(triangle)))[:, : end - start]
        np.testing.assert_allclose(drawn[:, start:end], expected, atol=1e-8)


@pytest.mark.parametrize("size", [1, 3])
def test_no_directions_are_all_directions(size):
    """As of a kernel of zeros."""
    zeros, ones = (
        planes.draw_planes(0, tf.eye(size) * factor, [(3, size)])
        for factor in (0.0, 1.0)
    )
    np.testing.assert_allclose(zeros, ones, atol=1e-5)


def test_what_queries_do_not_know_does_not_matter():
    """Words of a key, which the query knows, and a value, which it does not."""
    rng = np.random.default_rng(8)
    slots, size, known = 2**13, 32, 16
    turn, _ = np.linalg.qr(rng.normal(size=(size, size)))
    words = rng.normal(size=(slots, size)) @ turn
    asked = rng.choice(slots, 400, replace=False)
    queries = np.float32(words[asked] @ turn[:known].T @ turn[:known])
    memory = tf.constant(words[np.newaxis], tf.float32)

    def found(directions):
        index = LSH(tables=4, probes=8, reordering=128)
        state = index.start(memory, slots, directions)
        return recall(index, state, memory, queries, 1)

    directions = tf.constant(turn[:known].T @ turn[:known], tf.float32)
    plain, directed = found(None), found(directions)
    assert plain < 0.8
    assert directed > 0.95


# Tables that grow.


def test_linear_hashing_is_that_of_the_reference():
    rng = np.random.default_rng(9)
    tables, done = 3, 0
    reference = Tables(tables)
    codes = rng.integers(2**9, size=(400, tables))
    for key, code in enumerate(codes):
        reference.put(key, code)
        for _ in range(rng.integers(3)):
            splits = due_splits(tf.constant([[done]]), tf.constant([[done + 1]]), 3, 1)
            before = len(reference.tables[done % tables])
            source = reference.next[done % tables]
            reference.split()
            assert [int(part[0, 0]) for part in splits] == [
                *(done % tables, source, before, True)
            ]
            done += 1
        in_use = buckets_in_use(tf.constant([[done]]), tables)[0].numpy()
        np.testing.assert_array_equal(in_use, list(map(len, reference.tables)))
    for number, table in enumerate(reference.tables):
        for bucket, keys in enumerate(table):
            expected = bucket_of(codes[list(keys), number], in_use[number])
            assert set(expected.numpy()) <= {bucket}


@pytest.mark.parametrize(
    ("kwargs", "slots", "new"),
    [
        ({"tables": 1, "bucket_size": 32}, 100, 9),
        ({"tables": 3, "bucket_size": 96}, 500, 17),
        ({"tables": 4}, 700, 4),
    ],
    ids=str,
)
def test_tables_grow_like_the_reference(kwargs, slots, new):
    """Until all slots are written, and on while they are written again."""
    rng = np.random.default_rng(10)
    index, words = LSH(**kwargs), 5
    layout = layout_of(index, slots, words)
    state = index.reset(tf.zeros((1, slots, words)), 0)
    reference, memory, used = Tables(index.tables), np.zeros((1, slots, words)), 0
    insert = tf.function(index.insert)
    for _ in range(2 * slots // new):
        chosen = np.arange(used, used + new) % slots
        used = min(slots, max(used, chosen.max() + 1))
        again = rng.integers(used, size=5)
        chosen = np.concatenate([chosen, again])[np.newaxis].astype("int32")
        memory[0, chosen] = rng.normal(size=(*chosen.shape[1:], words))
        rows = tf.constant(memory[:, chosen[0]], tf.float32)
        state = insert(state, tf.constant(chosen), rows)
        codes, _ = codes_of(index, state, memory.astype("float32"))
        splits = int(state[0, layout.splits])
        while reference.splits < splits:
            reference.split()
        for slot in chosen[0]:
            reference.put(slot, codes[0, :, slot])
        (found,), _ = tables_of(index, state, slots, words)
        for table, expected in zip(found, reference.tables, strict=True):
            got = [set(bucket[bucket > 0] - 1) for bucket in table]
            assert not any(got[len(expected) :])
            lost = [set(e) - g for g, e in zip(got, expected, strict=False)]
            # Only a slot that finds no place is missing.
            assert all(g <= set(e) for g, e in zip(got, expected, strict=False))
            assert sum(map(len, lost)) <= 0.1 * used
    wanted = used * 2 * index.tables // index.bucket_size
    assert splits == min(wanted, index.tables * (layout.buckets - 1))


def test_a_few_words_of_a_large_memory_are_found_as_in_a_small_one():
    rng = np.random.default_rng(11)
    slots, words = 2**17, 2**11
    memory = np.full((1, slots, 32), UNWRITTEN, "float32")
    draw = clusters(rng, words)
    memory[0, :words] = draw(words)
    queries = draw(400)
    index = LSH()
    large, small = tf.constant(memory), tf.constant(memory[:, :words])
    grown = index.reset(large, 0)
    insert = tf.function(index.insert)
    for start in range(0, words, 8):
        chosen = tf.range(start, start + 8)[tf.newaxis]
        grown = insert(grown, chosen, memory[:, start : start + 8])
    for state, of in ((grown, large), (index.reset(large, words), large)):
        assert recall(index, state, of, queries) > 0.97
    assert recall(index, index.reset(small, words), small, queries) > 0.97


@settings(max_examples=15)
@given(st.data())
def test_sketches_tell_how_far_words_are(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    distances = rng.normal(size=(3, sketches.BITS)).astype("float32")
    codes = rng.integers(2**24, size=(3, 7)).astype("int32")
    weights = np.abs(distances) / np.mean(np.abs(distances), -1, keepdims=True)
    weights = np.minimum(np.round(weights * 7 / sketches.LARGE), 7)[:, np.newaxis]
    bits = codes[..., np.newaxis] >> np.arange(24) & 1
    crossed = bits != (distances > 0)[:, np.newaxis]
    expected = np.minimum(np.sum(weights * crossed, axis=-1), 127)
    got = sketches.differences(tf.constant(distances), tf.constant(codes))
    np.testing.assert_array_equal(got, expected)
    # How alike and a slot are one whole number of 31 bits.
    assert (sketches.FARTHEST + 1) * LARGEST <= 2**31


# In a layer.


def test_a_cell_draws_planes_in_the_directions_of_its_queries():
    for cell in (
        keras_sam.SAMCell(7, 50, 6, read_heads=3, index="lsh"),
        keras_sam.SDNCCell(7, 50, 6, index="lsh", normalize_interface=True),
    ):
        size = (1, 50, 6)
        assert cell.query_directions() is None
        before = cell.unpack_state(cell.get_initial_state(1)).index
        np.testing.assert_array_equal(before, cell.index.reset(tf.zeros(size), 0))
        cell.build((1, 4))
        rng = np.random.default_rng(0)
        cell.set_weights([rng.normal(size=w.shape) for w in cell.get_weights()])
        directions = cell.query_directions().numpy()
        np.testing.assert_allclose(np.trace(directions), 1.0, rtol=1e-5)
        # The second moment of queries for any output of the controller.
        hidden = rng.normal(size=(20_000, 7)).astype("float32")
        queries = cell.split_interface(cell.project_interface(hidden))["queries"]
        queries = queries - tf.reduce_mean(queries, axis=0)
        queries = tf.reshape(queries, (-1, 6)).numpy()
        moment = queries.T @ queries
        np.testing.assert_allclose(moment / np.trace(moment), directions, atol=0.03)
        state = cell.unpack_state(cell.get_initial_state(1)).index
        expected = cell.index.start(tf.zeros(size), 0, directions)
        np.testing.assert_array_equal(state, expected)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_words_are_found_when_the_weights_have_changed(jit_compile):
    """Each chunk of a stream inserts and searches by the planes that it began with."""
    rng = np.random.default_rng(12)
    slots, given, size = 1000, 700, 8
    layer = keras_sam.SAM(
        *(5, slots, size), index="lsh", return_state=True, jit_compile=jit_compile
    )
    chunk = tf.constant(rng.normal(size=(2, 150, 3)), tf.float32)
    layer.build(chunk.shape)
    cell = layer.cell
    words = tf.constant(rng.normal(size=(2, given, size)), tf.float32)
    states = layer.get_initial_state(2, memory=words)
    layout = layout_of(cell.index, slots, size)
    drawn = cell.unpack_state(states).index[:, layout.planes :]
    for _ in range(2):
        layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
        _, *states = layer(chunk, initial_state=states)
        state = cell.unpack_state(states)
        np.testing.assert_array_equal(state.index[:, layout.planes :], drawn)
        for asked in (slice(given), slice(given, given + 100)):
            asked = state.memory[:, asked]
            found = cell.index.search(state.index, state.memory, asked, 1)[..., 0]
            found = tf.gather(state.memory, found, batch_dims=1)
            alike = -keras.losses.cosine_similarity(asked, found)
            assert np.mean(alike > 0.999) > 0.95
    start = cell.unpack_state(layer.get_initial_state(2)).index
    assert np.any(start[:, layout.planes :] != drawn)


@pytest.mark.parametrize("path", ["compiled", "in_place"])
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.slow_rows("-in_place", "masked-compiled")
def test_layer_equals_the_cell(path, masked):
    layer, plain = make_layers(
        path, memory_slots=300, reads_per_head=2, index=LSH(2, bucket_size=4)
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
    # Larger than all that a search compares.
    slots, words = 2**16 + 3, 6
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
        "bucket_size": 64,
        "probes": 2,
        "reordering": 256,
        "seed": 5,
    }
    np.testing.assert_allclose(again.predict(inputs, verbose=0), expected, atol=1e-5)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(inputs), expected, atol=1e-5)


# Arguments, planes and sizes.


@pytest.mark.parametrize("name", ["tables", "bucket_size", "probes", "reordering"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2"])
def test_positive_integers(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer.*Received: "):
        LSH(**{name: value})


@pytest.mark.parametrize("value", [-1, 0.5, None, 2**32])
def test_seeds(value):
    with pytest.raises(ValueError, match="`seed` must be .*Received: seed="):
        LSH(seed=value)


@pytest.mark.parametrize("kwargs", [{"probes": 1025}, {"bucket_size": 2**22 + 1}])
def test_sizes_that_are_too_large(kwargs):
    with pytest.raises(ValueError, match="` must be at most .*Received: "):
        LSH(**kwargs)


def test_a_configuration_with_a_fixed_number_of_buckets():
    config = {"tables": 2, "bits": 9, "bucket_size": 16, "probes": 3, "seed": 1}
    index = LSH.from_config(config)
    del config["bits"]
    assert index.get_config() == {**config, "reordering": 256}


def test_get():
    index = indexes.get("lsh")
    assert type(index) is LSH
    assert index.supports_jit and not index.is_exact


@pytest.mark.parametrize("kwargs", [{}, {"tables": 3, "bucket_size": 5}])
def test_each_layout_has_its_size_of_state(kwargs):
    index = LSH(**kwargs)
    slots = [*range(1, 300), 4095, 4096, 4097, 2**20, 2**22 + 1, 2**24]
    layouts = [layout_of(index, number, 32) for number in slots]
    for before, after in itertools.pairwise(layouts):
        assert after.size > before.size or after == before
    for number, layout in zip(slots, layouts, strict=True):
        assert index.state_size(number, 32) == layout.size
        sizes = (index.tables, index.bucket_size, layout.size, 32)
        assert lsh_state.Layout.of_size(*sizes) == layout
        # Floats count the homes, and there is one for each slot.
        assert 2**layout.bits * layout.bucket_size <= 2**24
        assert layout.recent - layout.homes >= number * layout.tables
        assert layout.buckets <= 2**layout.bits


def test_a_table_has_places_for_twice_the_memory():
    for slots in (1024, 2**16, 3 * 2**18):
        assert layout_of(LSH(), slots, 8).buckets * 64 == 2 * slots
    assert layout_of(LSH(), 2**24, 8).buckets * 64 == 2**24


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slots", [5, 7, 13, 16, 30, 100])
@pytest.mark.slow_rows("*-float64")
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
