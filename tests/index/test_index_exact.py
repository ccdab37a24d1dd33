"""The exact index against a sort of all similarities in NumPy."""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import UNWRITTEN, similarities, small_numbers
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_sam
from keras_sam import index as indexes
from keras_sam.index import exact

BATCH, HEADS, WORDS = 2, 2, 3


def assert_are_the_best(found, memory, queries):
    """The most similar slots of all; of equal words the lowest numbers, in order.

    Different words that are exactly as alike may come in any order.
    """
    scores = similarities(memory, queries)
    best = -np.sort(-scores, axis=-1)[..., : found.shape[-1]]
    tolerance = 1e-5 if memory.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(
        np.take_along_axis(scores, found, axis=-1), best, tolerance, tolerance
    )
    for batch, heads in enumerate(found):
        for slots in heads:
            assert len(set(slots)) == len(slots)
            _, kinds = np.unique(memory[batch], axis=0, return_inverse=True)
            for kind in set(kinds[slots].flat):
                equal = np.flatnonzero(kinds == kind)
                of_them = slots[np.isin(slots, equal)]
                np.testing.assert_array_equal(of_them, equal[: len(of_them)])


class Sequence:
    """A memory that is written to as a SAM does it, and an index that follows."""

    def __init__(self, slots, given=None, dtype="float64"):
        self.memory = np.full((BATCH, slots, WORDS), UNWRITTEN, dtype)
        self.index = indexes.Exact()
        self.used = [0 if given is None else given.shape[1]] * BATCH
        if given is not None:
            self.memory[:, : given.shape[1]] = given
        self.state = self.index.reset(tf.constant(self.memory), self.used[0])
        self.check_state()

    def check_state(self):
        size = self.index.state_size(*self.memory.shape[1:])
        assert self.state.shape == (BATCH, size)
        assert self.state.dtype == self.memory.dtype

    def write(self, choices, rows):
        """Each choice is a slot used before, or else the next new one."""
        slots = np.zeros(choices.shape, "int32")
        for b in range(BATCH):
            for w, choice in enumerate(choices[b]):
                new = self.used[b] < self.memory.shape[1]
                slots[b, w] = choice % (self.used[b] + new)
                self.used[b] = max(self.used[b], slots[b, w] + 1)
                self.memory[b, slots[b, w]] = rows[b, w]
        # The index is told of the words as they stand at the end.
        rows = np.take_along_axis(self.memory, slots[..., np.newaxis], axis=1)
        self.state = self.index.insert(self.state, tf.constant(slots), rows)
        self.check_state()

    def assert_finds_all(self, queries, count, search=None):
        found = (search or self.index.search)(
            self.state, tf.constant(self.memory), tf.constant(queries), count
        )
        assert found.dtype == tf.int32 and found.shape == (BATCH, HEADS, count)
        assert_are_the_best(found.numpy(), self.memory, queries)


@settings(max_examples=80)
@given(st.data())
def test_any_writes_and_queries(data):
    slots = data.draw(st.integers(1, 40), "slots")
    prefixes = data.draw(st.sampled_from([None, (), (16,), (16, 32)]), "prefixes")
    # None: words that the state does not keep, of which there are no prefixes.
    kept = {"MAX_UNKEPT": 1024 if prefixes is None else 0, "PREFIXES": prefixes or ()}
    rows = data.draw(st.integers(0, slots), "given rows")
    given_rows = data.draw(small_numbers(BATCH, rows, WORDS), "given") if rows else None
    with mock.patch.multiple(exact, **kept):
        sequence = Sequence(slots, given_rows)
        for _ in range(data.draw(st.integers(0, 6), "steps")):
            writes = data.draw(st.integers(1, 3), "writes")
            choices = st.lists(
                st.sampled_from([slots, slots, *range(slots)]),
                min_size=BATCH * writes,
                max_size=BATCH * writes,
            )
            choices = np.reshape(data.draw(choices, "choices"), (BATCH, writes))
            # Any number past the used slots is the next new one.
            choices = np.minimum(choices, np.array(sequence.used)[:, np.newaxis])
            rows = data.draw(small_numbers(BATCH, writes, WORDS), "rows")
            sequence.write(choices, rows)
        queries = data.draw(small_numbers(BATCH, HEADS, WORDS), "queries")
        for count in {1, min(4, slots), slots}:
            sequence.assert_finds_all(queries, count)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_many_steps_through_several_prefixes(mode, monkeypatch):
    monkeypatch.setattr(exact, "PREFIXES", (16, 32))
    monkeypatch.setattr(exact, "MAX_UNKEPT", 0)
    rng = np.random.default_rng(0)
    search = None
    if mode != "eager":
        search = tf.function(indexes.Exact().search, jit_compile=mode == "xla")
    sequence = Sequence(45, rng.integers(-1, 2, size=(BATCH, 5, WORDS)))
    for _ in range(60):
        choices = rng.integers(90, size=(BATCH, 2))
        choices = np.minimum(choices, np.array(sequence.used)[:, np.newaxis])
        sequence.write(choices, rng.integers(-1, 2, size=(BATCH, 2, WORDS)))
        queries = rng.integers(-1, 2, size=(BATCH, HEADS, WORDS)).astype(float)
        sequence.assert_finds_all(queries, 10, search)
    assert sequence.used == [45, 45]


@pytest.mark.parametrize("slots", [1024, 1025, 2500])
def test_a_memory_of_more_than_a_prefix(slots):
    rng = np.random.default_rng(slots)
    words = rng.normal(size=(BATCH, slots, WORDS)).astype("float32")
    words[:, slots // 2 :] = words[:, slots - slots // 2 - 1 :: -1][:, : -(-slots // 2)]
    queries = rng.normal(size=(BATCH, HEADS, WORDS)).astype("float32")
    assert slots >= exact.PREFIXES[0]
    for used in (0, 3, slots - 2, slots):
        sequence = Sequence(slots, words[:, :used] if used else None, "float32")
        sequence.assert_finds_all(queries, 5)


def test_as_many_words_as_there_are_over_several_blocks():
    rng = np.random.default_rng(1)
    words = rng.integers(-3, 4, size=(BATCH, 1500, WORDS)).astype(float)
    queries = rng.integers(-3, 4, size=(BATCH, HEADS, WORDS)).astype(float)
    Sequence(1500, words).assert_finds_all(queries, 1500)
    Sequence(1500, words[:, :40]).assert_finds_all(queries, 1500)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slots", [5, 7, 13, 16, 30, 100])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_equal_words_tie_wherever_they_lie(
    jit_compile, kept, slots, dtype, monkeypatch
):
    """Rounding is the same for each of them."""
    if kept:
        monkeypatch.setattr(exact, "MAX_UNKEPT", 0)
    rng = np.random.default_rng(2)
    index = indexes.Exact()

    def search(state, memory, queries):
        return index.search(state, memory, queries, slots)

    if jit_compile:
        search = tf.function(search, jit_compile=True)
    for words in (4, 8, 32):
        for _ in range(4):
            memory = np.full((1, slots, words), 1e-6, dtype)
            memory[:, : slots // 2] = rng.normal(size=words)
            queries = rng.normal(size=(1, 4, words)).astype(dtype)
            memory, queries = tf.constant(memory), tf.constant(queries)
            state = index.reset(memory, slots // 2)
            found = search(state, memory, queries).numpy()
            halves = np.split(np.arange(slots), [slots // 2])
            upwards, downwards = np.concatenate(halves), np.concatenate(halves[::-1])
            for order in found[0]:
                np.testing.assert_array_equal(
                    order, upwards if order[0] == 0 else downwards
                )


def test_sequences_in_which_nothing_was_written(monkeypatch):
    monkeypatch.setattr(exact, "MAX_UNKEPT", 0)
    index = indexes.Exact()
    rng = np.random.default_rng(3)
    memory = rng.normal(size=(2, 9, WORDS)).astype("float32")
    state = index.reset(tf.constant(memory), 4)
    slots, rows = [[7, 1], [7, 1]], rng.normal(size=(2, 2, WORDS)).astype("float32")
    active = tf.constant([True, False])
    after = index.insert(state, tf.constant(slots), rows, active)
    memory[0, slots[0]] = rows[0]
    queries = rng.normal(size=(2, HEADS, WORDS)).astype("float32")
    found = index.search(after, tf.constant(memory), tf.constant(queries), 9)
    assert_are_the_best(found.numpy(), memory, queries)
    columns = index.state_size(9, WORDS) // WORDS
    np.testing.assert_array_equal(after[:, columns - 1], [8, 4])


def test_slots_that_are_left_out(monkeypatch):
    monkeypatch.setattr(exact, "PREFIXES", (16,))
    monkeypatch.setattr(exact, "MAX_UNKEPT", 0)
    rng = np.random.default_rng(4)
    memory = rng.normal(size=(BATCH, 40, WORDS))
    queries = rng.normal(size=(BATCH, HEADS, WORDS))
    index = indexes.Exact()
    state = index.reset(tf.constant(memory), 40)
    without = np.stack([rng.permutation(40)[:30] for _ in range(BATCH)])
    found = index.search_without(
        state, tf.constant(memory), tf.constant(queries), 5, tf.constant(without)
    )
    for batch in range(BATCH):
        left = np.setdiff1d(np.arange(40), without[batch])
        scores = similarities(memory, queries)[batch][:, left]
        best = left[np.argsort(-scores, axis=-1)[:, :5]]
        np.testing.assert_array_equal(found[batch], best)


def test_a_trace_for_any_batch():
    index = indexes.Exact()
    search = tf.function(
        lambda state, memory, queries: index.search(state, memory, queries, 2),
        input_signature=[
            tf.TensorSpec((None, index.state_size(4, WORDS))),
            tf.TensorSpec((None, 4, WORDS)),
            tf.TensorSpec((None, 1, WORDS)),
        ],
    )
    words = tf.ones((5, 4, WORDS))
    found = search(index.reset(words, 4), words, tf.ones((5, 1, WORDS)))
    assert found.shape == (5, 1, 2)
    np.testing.assert_array_equal(found[:, 0], [[0, 1]] * 5)


# By name and configuration.


def test_get():
    index = indexes.get("exact")
    assert type(index) is indexes.Exact
    assert index.is_exact and index.supports_jit
    assert indexes.get(index) is index


@pytest.mark.parametrize("identifier", ["flann", "", None, 3, indexes.Exact, ["exact"]])
def test_get_says_what_it_takes(identifier):
    with pytest.raises(ValueError, match="'exact'.* Received: index="):
        indexes.get(identifier)


def test_get_takes_no_other_object_s_configuration():
    config = keras.saving.serialize_keras_object(keras.layers.Dense(2))
    with pytest.raises(ValueError, match="'exact'.* Received: index="):
        indexes.get(config)


def test_configuration_round_trip():
    config = keras.saving.serialize_keras_object(indexes.Exact())
    assert config["registered_name"] == "keras_sam>Exact"
    for again in (keras.saving.deserialize_keras_object(config), indexes.get(config)):
        assert type(again) is indexes.Exact
        assert keras.saving.serialize_keras_object(again) == config


def test_auto_depends_on_the_slots_alone_and_is_kept():
    small, large = (keras_sam.SAMCell(4, memory_slots=n) for n in (2**16, 2**16 + 1))
    assert isinstance(small.index, indexes.Exact)
    assert isinstance(large.index, indexes.LSH)
    # A saved model keeps the choice when its memory is resized.
    config = {**small.get_config(), "memory_slots": 2**17}
    assert isinstance(keras_sam.SAMCell.from_config(config).index, indexes.Exact)
    with pytest.raises(ValueError, match="needs `memory_slots`"):
        indexes.get("auto")
    with pytest.raises(ValueError, match="'exact', 'lsh', 'scann'.*Received"):
        indexes.get("nearest")
