"""The tree of last accesses against plain NumPy: a row of times, sorted."""

from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_sam.ops import recency

SIZES = [1, 5, 32, 33, 1024, 1025, 4099, 40000]


def oldest_first(times):
    """All slots of each row, by time and then by number."""
    numbers = np.arange(times.shape[-1])
    return np.stack([np.lexsort((numbers, row)) for row in times])


def tree_of(times, dtype="float32"):
    return recency.build_tree(tf.constant(times, dtype))


def assert_tree_over(levels, times):
    """That the leaves are these times and each inner node the least below it."""
    sizes = recency.level_sizes(times.shape[-1])
    assert [tuple(level.shape) for level in levels] == [(len(times), n) for n in sizes]
    leaves = np.asarray(levels[0])
    np.testing.assert_array_equal(leaves[:, : times.shape[-1]], times)
    # What only fills a group up is never the oldest.
    assert np.all(leaves[:, times.shape[-1] :] > recency.LATEST_TIME)
    for children, parents in zip(levels[:-1], levels[1:], strict=True):
        least = np.min(np.reshape(children, (len(times), -1, recency.BRANCHING)), -1)
        parents = np.asarray(parents)
        np.testing.assert_array_equal(parents[:, : least.shape[-1]], least)
        assert np.all(parents[:, least.shape[-1] :] > recency.LATEST_TIME)


def assert_finds_the_oldest(levels, times, counts=(1, 2, 3, 4)):
    expected = oldest_first(times)
    for count in {min(count, times.shape[-1]) for count in counts}:
        found = recency.least_recently_accessed(levels, count)
        assert found.dtype == tf.int32
        np.testing.assert_array_equal(found, expected[:, :count])


def random_accesses(rng, slots, accesses, batch=2):
    """Slots, some of them twice, and for each slot whether the access counts."""
    named = rng.integers(slots, size=(batch, accesses), dtype=np.int32)
    named[:, -1] = named[:, 0]
    counts = rng.random((batch, slots)) < 0.7
    return named, np.take_along_axis(counts, named, axis=1)


def marked(times, named, accessed, time):
    times = times.copy()
    for b in range(len(times)):
        times[b, named[b][accessed[b]]] = time[b]
    return times


@pytest.mark.parametrize(
    ("slots", "sizes"),
    [
        (1, [1]),
        (5, [5]),
        (32, [32]),
        (33, [64, 2]),
        (1024, [1024, 32]),
        (1025, [1056, 64, 2]),
        (2**20, [2**20, 2**15, 2**10, 32]),
        (2**24, [2**24, 2**19, 2**14, 2**9, 16]),
    ],
)
def test_level_sizes(slots, sizes):
    assert recency.level_sizes(slots) == sizes


@pytest.mark.parametrize("slots", SIZES)
def test_random_accesses_are_those_of_a_sorted_row(slots):
    rng = np.random.default_rng(slots)
    # Few different times: ties are everywhere.
    times = rng.integers(3, size=(2, slots)).astype(float)
    levels = tree_of(times)
    assert_tree_over(levels, times)
    assert_finds_the_oldest(levels, times)
    for step in range(5 if slots > 5000 else 15):
        named, accessed = random_accesses(rng, slots, accesses=9)
        if step % 2 and slots > 9:  # The oldest ones, as a cell does.
            named[:, 1:5] = oldest_first(times)[:, :4]
            accessed[:] = True
        time = np.array([3.0 + step, 100.0 + 2 * step])
        levels = recency.mark_accessed(
            levels,
            tf.constant(named),
            tf.constant(accessed),
            tf.constant(time, "float32"),
        )
        times = marked(times, named, accessed, time)
        assert_tree_over(levels, times)
        assert_finds_the_oldest(levels, times)


@pytest.mark.parametrize("slots", [40, 1025, 1100])
def test_more_slots_than_a_group_has(slots):
    times = np.random.default_rng(0).integers(4, size=(3, slots)).astype(float)
    for count in (33, 34, 40, slots):
        found = recency.least_recently_accessed(tree_of(times), count)
        np.testing.assert_array_equal(found, oldest_first(times)[:, :count])


def test_ties_between_cousins_go_to_the_lowest_number():
    times = np.full((1, 4099), 9.0)
    times[0, [4000, 70, 33, 1056]] = 2.0
    found = recency.least_recently_accessed(tree_of(times), 4)
    np.testing.assert_array_equal(found, [[33, 70, 1056, 4000]])
    # The group with the oldest slot comes first on the way down, but its second
    # slot ties with one in a group of lower numbers.
    times[0, [4000, 4001]] = 1.0, 2.0
    found = recency.least_recently_accessed(tree_of(times), 4)
    np.testing.assert_array_equal(found, [[4000, 33, 70, 1056]])
    times[0, [33, 70, 1056]] = 2.0, 3.0, 3.0
    found = recency.least_recently_accessed(tree_of(times), 3)
    np.testing.assert_array_equal(found, [[4000, 33, 4001]])


@pytest.mark.parametrize("count", [1, 3])
def test_a_fresh_memory_is_filled_from_the_first_slot_on(count):
    slots = 70
    levels = tree_of(np.zeros((2, slots)))
    order = []
    for step in range(-(-slots // count)):
        found = recency.least_recently_accessed(levels, count)
        order.append(found)
        levels = recency.mark_accessed(
            levels, found, tf.ones((2, count), bool), tf.fill((2,), 2.0 + step)
        )
    order = np.concatenate(order, axis=1)[:, :slots]
    np.testing.assert_array_equal(order, [np.arange(slots)] * 2)


def test_accesses_that_do_not_count_change_nothing():
    rng = np.random.default_rng(1)
    levels = tree_of(rng.integers(5, size=(2, 1025)))
    named, _ = random_accesses(rng, 1025, accesses=6)
    after = recency.mark_accessed(
        levels, tf.constant(named), tf.zeros((2, 6), bool), tf.constant([9.0, 9.0])
    )
    for one, other in zip(levels, after, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=60)
@given(st.data())
def test_any_accesses_of_any_tree(data):
    """Narrow trees are deep ones even over a few slots."""
    slots = data.draw(st.integers(1, 20), "slots")
    row = st.lists(st.integers(0, 3), min_size=slots, max_size=slots)
    times = np.array([data.draw(row, "times") for _ in range(2)], float)
    with mock.patch.object(recency, "BRANCHING", data.draw(st.integers(2, 4), "width")):
        levels = tree_of(times)
        for step in range(data.draw(st.integers(0, 4), "steps")):
            named = st.lists(st.integers(0, slots - 1), min_size=4, max_size=4)
            named = np.array([data.draw(named, "slots") for _ in range(2)])
            counting = data.draw(st.sets(st.integers(0, slots - 1)), "counting")
            accessed = np.isin(named, list(counting))
            time = np.array([4.0, 4.0 - step])  # A time may even go back.
            levels = recency.mark_accessed(
                levels,
                tf.constant(named, tf.int32),
                tf.constant(accessed),
                tf.constant(time, "float32"),
            )
            times = marked(times, named, accessed, time)
        assert_tree_over(levels, times)
        assert_finds_the_oldest(levels, times, counts=(1, 3, 5, slots))


# Beyond the times that floats count exactly.

UNTOUCHED, GIVEN, ANCIENT = 0, 1, 5


def late_times(slots):
    """Exact times of a sequence that has run for long, and its next time."""
    now = recency.LATEST_TIME - 3
    times = np.random.default_rng(2).integers(now - 40, now, size=slots)
    times[[3, slots - 1]], times[[5, 8]], times[7] = UNTOUCHED, GIVEN, ANCIENT
    return times, now


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slots", [20, 33, 1100])
def test_rebase_keeps_the_order_and_every_recent_time(slots, dtype):
    long, now = late_times(slots)
    short = np.where(long > ANCIENT, long - now + 50, long)
    exact = np.stack([long, short])  # These count on beyond 2^24.
    times, levels = tf.constant([[now], [50]], dtype), tree_of(exact, dtype)
    moved, shift = None, recency.LATEST_TIME // 2
    for step in range(9):
        new_times, new_levels = recency.rebase(times, levels)
        if np.any(new_times != times):
            assert moved is None and step == 2  # At 2^24 - 1.
            moved = step
            assert new_times[0, 0] == times[0, 0] - shift
        times, levels = new_times, new_levels
        assert times.dtype == levels[0].dtype == dtype
        assert np.max(times) < recency.LATEST_TIME

        leaves = levels[0].numpy()[:, :slots]
        assert_tree_over(levels, leaves)
        age = times.numpy() - leaves
        expected = np.array([[now], [50]]) + step - exact
        recent = exact > ANCIENT
        np.testing.assert_array_equal(age[recent], expected[recent])
        ranked = exact.copy()
        if moved is not None:  # 2^23 steps ago or more is all the same.
            ranked[0] = np.where(ranked[0] == ANCIENT, GIVEN, ranked[0])
        np.testing.assert_array_equal(oldest_first(leaves), oldest_first(ranked))
        assert_finds_the_oldest(levels, leaves)

        # The oldest one, which may be an untouched one, and two by number.
        oldest = recency.least_recently_accessed(levels, 1)
        named = tf.concat([oldest, [[step, 9], [step, 9]]], axis=1)
        accessed = tf.ones((2, 3), bool)
        levels = recency.mark_accessed(levels, named, accessed, times[:, 0])
        exact = marked(exact, named, accessed.numpy(), [now + step, 50 + step])
        times += 1.0
    assert moved is not None
    # The other sequence was not late.
    np.testing.assert_array_equal(times[1], [59])
    np.testing.assert_array_equal(levels[0][1, :slots], exact[1])


@pytest.mark.parametrize("steps, kind", [(1, int), (10, int), (10, tf.constant)])
def test_rebase_makes_room_for_the_steps_to_come_and_not_before_it_must(steps, kind):
    times = np.array([[0.0, 1.0, 2.0, 2.0**24 - 90, *[3.0] * 29]])
    last = 2.0**24 - 1 - float(steps)
    time, levels = recency.rebase(tf.constant([[last]]), tree_of(times), kind(steps))
    assert time[0, 0] == last
    assert_tree_over(levels, times)
    padding = levels[0][:, 33:]
    time, levels = recency.rebase(
        tf.constant([[last + 1]]), tree_of(times), kind(steps)
    )
    assert time[0, 0] == last + 1 - 2**23
    assert_tree_over(levels, np.array([[0.0, 1.0, 1.0, 2.0**23 - 90, *[1.0] * 29]]))
    np.testing.assert_array_equal(levels[0][:, 33:], padding)


# Traced and compiled.


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graph_and_xla_do_the_same(jit_compile):
    def step(levels, time, named, accessed):
        time, levels = recency.rebase(time, levels)
        oldest = recency.least_recently_accessed(levels, 3)
        named = tf.concat([oldest, named], axis=1)
        accessed = tf.concat([tf.ones_like(oldest, tf.bool), accessed], axis=1)
        levels = recency.mark_accessed(levels, named, accessed, time[:, 0])
        return levels, time + 1.0, oldest

    def any_batch(*sizes, dtype=tf.float32):
        return tf.TensorSpec([None, *sizes], dtype)

    # As in Keras, which traces for a batch of any size.
    levels = [any_batch(size) for size in recency.level_sizes(1100)]
    named, accessed = any_batch(5, dtype=tf.int32), any_batch(5, dtype=tf.bool)
    compiled = tf.function(
        step,
        jit_compile=jit_compile,
        input_signature=(levels, any_batch(1), named, accessed),
    )
    rng = np.random.default_rng(3)
    long, now = late_times(1100)
    long[rng.integers(1100, size=300)] = UNTOUCHED
    levels = other = tree_of(np.stack([long, long % 7]))
    time = other_time = tf.constant([[float(now)], [50.0]])
    for _ in range(6):
        named, _ = random_accesses(rng, 1100, accesses=5)
        accessed = named % 3 > 0
        named, accessed = tf.constant(named, tf.int32), tf.constant(accessed)
        levels, time, oldest = step(levels, time, named, accessed)
        other, other_time, found = compiled(other, other_time, named, accessed)
        np.testing.assert_array_equal(found, oldest)
        np.testing.assert_array_equal(other_time, time)
        for one, same in zip(levels, other, strict=True):
            np.testing.assert_array_equal(same, one)
    assert time[0, 0] < now
