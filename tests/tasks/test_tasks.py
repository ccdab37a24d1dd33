"""The tasks, each checked by a solver that sees the inputs alone.

What a solver returns are the targets and weights that follow from the inputs of one
sequence. It is written from the description of the task, in plain Python, and refuses
inputs that are not of the described form. (The copy task: test_tasks_copy.py.)
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from keras_sam import tasks


def steps_where(rows, channel):
    return [t for t, row in enumerate(rows) if row[channel] == 1]


def answer(rows, start, vectors):
    """Targets and weights with `vectors` from step `start` on and nothing else."""
    assert not any(map(any, rows[start:])), "input while answering"
    blank = [0] * len(vectors[0])
    after = len(rows) - start - len(vectors)
    targets = [blank] * start + vectors + [blank] * after
    return targets, [0] * start + [1] * len(vectors) + [0] * after


def solve_repeat_copy(rows):
    bits = len(rows[0]) - 2
    (length,) = steps_where(rows, bits)
    assert not any(rows[length][:bits])
    assert not any(any(row[bits:]) for row in rows[:length])
    repeats = round(rows[length][bits + 1] * np.sqrt((10**2 - 1) / 12) + (1 + 10) / 2)
    copies = [[*row[:bits], 0] for row in rows[:length]] * repeats
    return answer(rows, length + 1, [*copies, [0] * bits + [1]])


def solve_associative_recall(rows):
    bits = len(rows[0]) - 2
    starts, marks = steps_where(rows, bits), steps_where(rows, bits + 1)
    assert not any(any(rows[t][:bits]) for t in [*starts, *marks])
    block = marks[1] - marks[0]
    # No gaps, and an answer has the time of an item.
    assert [*starts, *marks] == list(range(0, marks[-1] + 1, block))
    items = [tuple(map(tuple, rows[t + 1 : t + block])) for t in starts]
    assert len(set(items)) == len(items), "the query has two answers"
    targets, weights = [], []
    limits = itertools.pairwise([0, *marks[2::2], len(rows)])
    for (first, last), query, end in zip(limits, marks[::2], marks[1::2], strict=True):
        asked = items.index(tuple(map(tuple, rows[query + 1 : end])))
        vectors = [list(row[:bits]) for row in items[asked + 1]]
        part = answer(rows[first:last], end + 1 - first, vectors)
        targets, weights = targets + part[0], weights + part[1]
    return targets, weights


def solve_order_recall(rows):
    bits = len(rows[0]) - 1
    (query,) = steps_where(rows, bits)
    items = [row[:bits] for row in rows[:query]]
    assert len(set(map(tuple, items))) == len(items), "the query has two answers"
    asked = items.index(rows[query][:bits])
    return answer(rows, query + 1, items[asked + 1 :])


def solve_priority_sort(rows):
    bits = len(rows[0]) - 2
    (count,) = steps_where(rows, bits + 1)
    assert not any(rows[count][: bits + 1])
    assert all(-1 <= row[bits] < 1 for row in rows)
    ranked = sorted(rows[:count], key=lambda row: row[bits], reverse=True)
    wanted = -(-count * 4 // 5)
    return answer(rows, count + 1, [row[:bits] for row in ranked[:wanted]])


@dataclasses.dataclass
class Task:
    """A task: the solver, and sizes for tests."""

    name: str
    solve: Callable
    sizes: tuple  # One list for each argument of sizes.
    limits: dict  # Of the sizes, for the stream.
    options: dict
    shapes: tuple  # Of the inputs and targets of the stream.

    def sequences(self, rng, **kwargs):
        make = getattr(tasks, f"{self.name}_sequences")
        return make(rng, *self.sizes, **self.options, **kwargs)

    def stream(self, batch_size=3, **kwargs):
        make = getattr(tasks, f"{self.name}_task")
        return make(batch_size, **{**self.limits, **self.options, **kwargs})


TASKS = [
    Task(
        "repeat_copy",
        solve_repeat_copy,
        ([3, 1, 4, 2], [2, 1, 1, 12]),
        {"max_length": 3, "max_repeats": 4},
        {"bits": 3},
        ((17, 5), (17, 4)),
    ),
    Task(
        "associative_recall",
        solve_associative_recall,
        ([2, 5, 3],),
        {"max_items": 5},
        {"bits": 3, "item_length": 2},
        ((21, 5), (21, 3)),
    ),
    Task(
        "order_recall",
        solve_order_recall,
        ([2, 8, 3],),
        {"max_items": 7},
        {"bits": 3},
        ((14, 4), (14, 3)),
    ),
    Task(
        "priority_sort",
        solve_priority_sort,
        ([1, 4, 20],),
        {"min_keys": 2, "max_keys": 7},
        {"bits": 3},
        ((14, 5), (14, 3)),
    ),
]
every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def check_batch(task, inputs, targets, sample_weight):
    for rows, *truth in zip(inputs, targets, sample_weight, strict=True):
        expected_targets, expected_weights = task.solve(rows.tolist())
        np.testing.assert_array_equal(truth[0], expected_targets)
        np.testing.assert_array_equal(truth[1], expected_weights)


@every_task
def test_targets_follow_from_the_inputs(task):
    for seed in range(20):
        arrays = task.sequences(seed)
        assert {array.dtype for array in arrays} == {np.dtype("float32")}
        check_batch(task, *arrays)


def test_several_items_are_asked_for():
    recall = next(task for task in TASKS if task.name == "associative_recall")
    recall = dataclasses.replace(recall, options=recall.options | {"queries": 4})
    check_batch(recall, *recall.sequences(0))
    inputs, targets, weights = next(recall.stream(300, seed=0).as_numpy_iterator())
    check_batch(recall, inputs, targets, weights)
    # Each time any, and of 1 to 4 items that can be.
    answers = targets[weights == 1].reshape(300, 4, -1)
    assert np.mean([len(np.unique(of, axis=0)) for of in answers]) > 2


@every_task
def test_padding_does_not_change_the_content(task):
    short = task.sequences(3)
    steps = short[0].shape[1]
    padded = task.sequences(3, time_steps=steps + 5)
    for a, b in zip(short, padded, strict=True):
        np.testing.assert_array_equal(a, b[:, :steps])
        assert b.shape[1] == steps + 5 and not b[:, steps:].any()
    # The default just holds the longest sequence.
    assert max(np.nonzero(short[2])[1]) <= steps - 1
    with pytest.raises(ValueError, match=f"`time_steps` must be .* = {steps} to hold"):
        task.sequences(3, time_steps=steps - 1)


@every_task
def test_a_generator_advances(task):
    rng = np.random.default_rng(0)
    assert (task.sequences(rng)[0] != task.sequences(rng)[0]).any()


@every_task
def test_stream(task):
    dataset = task.stream(seed=0)
    (time, channels), (_, width) = task.shapes
    assert dataset.element_spec == (
        tf.TensorSpec((3, time, channels), tf.float32),
        tf.TensorSpec((3, time, width), tf.float32),
        tf.TensorSpec((3, time), tf.float32),
    )
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    first, again = (list(dataset.take(4).as_numpy_iterator()) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        check_batch(task, *one)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert (first[0][0] != first[1][0]).any(), "the batches repeat"
    other = next(task.stream(seed=1).as_numpy_iterator())
    assert (first[0][0] != other[0]).any(), "the seed has no effect"
    new, newer = (next(task.stream().as_numpy_iterator())[0] for _ in range(2))
    assert (new != newer).any(), "without a seed the streams repeat"


@every_task
def test_all_sizes_are_drawn_equally_often(task):
    dataset = task.stream(batch_size=3000, seed=0)
    _, _, sample_weight = next(dataset.as_numpy_iterator())
    lasts = [np.flatnonzero(weights)[-1] + 1 for weights in sample_weight]
    # What a sequence needs, for each of the sizes that are drawn.
    needs = {
        "repeat_copy": [i * (j + 1) + 2 for i in (1, 2, 3) for j in (1, 2, 3, 4)],
        "associative_recall": [(i + 2) * 3 for i in (2, 3, 4, 5)],
        # n items end at step 2 n - k, k uniform in 0 .. n-2: in parts of 1 / lcm.
        "order_recall": [
            2 * n - k
            for n in range(2, 8)
            for k in range(n - 1)
            for _ in range(60 // (n - 1))
        ],
        "priority_sort": [n + 1 + -(-4 * n // 5) for n in range(2, 8)],
    }[task.name]
    total = len(needs)
    for steps, parts in Counter(needs).items():
        p = parts / total
        deviation = np.sqrt(3000 * p * (1 - p))
        assert abs(lasts.count(steps) - 3000 * p) < 4.5 * deviation
    assert set(lasts) == set(needs)


@pytest.mark.parametrize(
    ("make", "sizes", "shown"),
    [
        (tasks.repeat_copy_sequences, ([4] * 900, [2] * 900), [0, 1, 2, 3]),
        (tasks.associative_recall_sequences, ([2] * 900,), [1, 2, 3, 5, 6, 7]),
        (tasks.order_recall_sequences, ([4] * 900,), [0, 1, 2, 3]),
        (tasks.priority_sort_sequences, ([4] * 900,), [0, 1, 2, 3]),
    ],
)
def test_bits_are_fair_coins(make, sizes, shown):
    bits = make(0, *sizes, bits=3)[0][:, shown, :3].reshape(900, -1)
    np.testing.assert_allclose(bits.mean(0), 0.5, atol=4.5 * 0.5 / 30)
    # The bits know nothing of each other, but for 3-bit items that all differ: given
    # one of the 8, a bit of another is equal with probability 3 / 7.
    correlations = np.corrcoef(bits, rowvar=False) - np.eye(bits.shape[1])
    slack = 1 / 7 if make is tasks.order_recall_sequences else 0
    assert np.abs(correlations).max() < 4.5 / 30 + slack


def test_every_item_but_the_last_is_asked_for_equally_often():
    inputs, _, _ = tasks.associative_recall_sequences(0, [5] * 4000)
    items = inputs[:, :20].reshape(4000, 5, 4, 8)[:, :, 1:, :6]
    query = inputs[:, np.newaxis, 21:24, :6]
    asked = (items == query).all((2, 3))
    np.testing.assert_array_equal(asked.sum(1), 1)
    deviation = np.sqrt(4000 * 3 / 16)
    np.testing.assert_allclose(asked.sum(0), [1000] * 4 + [0], atol=4.5 * deviation)


def test_items_all_differ_even_where_all_there_are_are_used():
    for seed in range(20):
        inputs, _, _ = tasks.order_recall_sequences(seed, [16], bits=4)
        assert len(np.unique(inputs[0, :16], axis=0)) == 16
    first = [tasks.order_recall_sequences(s, [4], bits=2)[0][0, 0] for s in range(400)]
    _, counts = np.unique(first, axis=0, return_counts=True)
    np.testing.assert_allclose(counts, 100, atol=4.5 * np.sqrt(75))


def test_priorities_are_uniform_and_the_paper_s_16_of_20_are_asked_for():
    inputs, _, sample_weight = tasks.priority_sort_sequences(0, [20] * 500)
    priorities = np.sort(inputs[:, :20, 8].ravel())
    # Kolmogorov and Smirnov's test: p < 1e-4.
    expected = np.linspace(-1, 1, priorities.size)
    assert np.abs(priorities - expected).max() / 2 < 2.23 / np.sqrt(priorities.size)
    np.testing.assert_array_equal(sample_weight.sum(1), 16)


def test_the_count_channel_has_mean_0_and_variance_1_over_the_paper_s_task():
    inputs, _, _ = tasks.repeat_copy_sequences(0, [1] * 10, np.arange(1, 11))
    shown = inputs[:, 1, 9]
    np.testing.assert_allclose([shown.mean(), shown.var()], [0, 1], atol=1e-6)
    # Beyond the training task it goes on in equal steps.
    more = tasks.repeat_copy_sequences(0, [1], [20])[0][0, 1, 9]
    np.testing.assert_allclose(more, shown[9] + 10 * (shown[9] - shown[8]), rtol=1e-5)


def test_ngrams_show_the_bit_before():
    inputs, targets, sample_weight = tasks.dynamic_ngrams_sequences(0, [7, 3, 1], n=2)
    np.testing.assert_array_equal(sample_weight.sum(1), [7, 3, 1])
    for i, length in enumerate([7, 3, 1]):
        assert not inputs[i, 0].any() and not inputs[i, length:].any()
        np.testing.assert_array_equal(inputs[i, 1:length], targets[i, : length - 1])
        assert not targets[i, length:].any()
    stream = tasks.dynamic_ngrams_task(2, seed=0)
    assert stream.element_spec[0] == tf.TensorSpec((2, 200, 1), tf.float32)


def naive_optimal(bits, n):
    """(N1 + 1/2) / (N1 + N0 + 1), counted again for each bit."""
    result = []
    for t in range(len(bits)):
        context = bits[t - n + 1 : t] if t >= n - 1 else None
        seen = [bits[s] for s in range(n - 1, t) if bits[s - n + 1 : s] == context]
        result.append((sum(seen) + 0.5) / (len(seen) + 1))
    return result


@pytest.mark.parametrize("n", [1, 2, 6])
def test_the_optimal_estimator_counts(n):
    targets = tasks.dynamic_ngrams_sequences(0, [120] * 3, n=n)[1]
    probabilities, cost = tasks.optimal_ngrams(targets, n=n)
    for i in range(3):
        bits = targets[i, :, 0].astype(int).tolist()
        expected = naive_optimal(bits, n)
        np.testing.assert_allclose(probabilities[i, :, 0], expected, rtol=1e-6)
        of_truth = np.where(bits, expected, 1 - np.array(expected))
        np.testing.assert_allclose(cost[i], -np.log2(of_truth), rtol=1e-5)


def test_ngrams_are_drawn_from_tables_with_that_prior():
    # Without context a sequence is a coin of its own. For p ~ Beta(1/2, 1/2) the
    # number of ones in 2 bits is 0, 1, 2 with probability 3/8, 1/4, 3/8.
    ones = tasks.dynamic_ngrams_sequences(0, [2] * 4000, n=1)[1].sum((1, 2))
    counts = np.bincount(ones.astype(int))
    np.testing.assert_allclose(counts, [1500, 1000, 1500], atol=4.5 * 31)

    # With 5 bits of context: the first 5 bits are fair and independent, and no other
    # order is the source's own.
    targets = tasks.dynamic_ngrams_sequences(0, [200] * 1000)[1]
    starts = targets[:, :5, 0].astype(int) @ [16, 8, 4, 2, 1]
    np.testing.assert_allclose(np.bincount(starts), 1000 / 32, atol=4.5 * 5.5)
    costs = {n: tasks.optimal_ngrams(targets, n)[1].sum(1).mean() for n in (5, 6, 7)}
    assert min(costs, key=costs.get) == 6
    # What the paper's figure shows is about 133.
    assert 131.5 < costs[6] < 134.5
    # Where the estimator says p, a share p of the bits are ones.
    probabilities = tasks.optimal_ngrams(targets)[0]
    for low in np.arange(0, 1, 0.1):
        chosen = (probabilities >= low) & (probabilities < low + 0.1)
        slack = 4.5 * 0.5 / np.sqrt(chosen.sum())
        assert abs(targets[chosen].mean() - probabilities[chosen].mean()) < slack


@every_task
def test_a_function_as_the_greatest_size_is_asked_before_each_batch(task):
    greatest = {name: value for name, value in task.limits.items() if "max" in name}
    levels = dict.fromkeys(greatest, 2)
    asked = {name: (lambda name=name: levels[name]) for name in greatest}
    dataset = task.stream(**asked, seed=0)
    assert dataset.element_spec[0].shape[1] is None
    iterator = dataset.as_numpy_iterator()
    small = [next(iterator) for _ in range(8)]
    levels = dict.fromkeys(greatest, 6)
    large = [next(iterator) for _ in range(200)]
    for batch in (*small, *large):
        check_batch(task, *batch)
        # No sequence is padded: all have the same sizes (and order recall's queries
        # leave steps free).
        if task.name != "order_recall":
            assert batch[2][:, -1].all()

    def steps(batches):
        return [inputs.shape[1] for inputs, _, _ in batches]

    assert max(steps(small)) < max(steps(large))
    assert min(steps(small)) == min(steps(large)), "not uniform up to the greatest"
    # The very next batch knows: none is made ahead of time.
    levels = dict.fromkeys(greatest, 2)
    assert max(steps(next(iterator) for _ in range(3))) <= max(steps(small))


@pytest.mark.parametrize(
    ("make", "arguments", "expected"),
    [
        ("repeat_copy", {"lengths": [0], "repeats": [1]}, "`lengths` must be"),
        ("repeat_copy", {"lengths": [1], "repeats": [0]}, "`repeats` must be"),
        ("repeat_copy", {"lengths": [1], "repeats": [1, 2]}, "one number for each"),
        ("repeat_copy", {"lengths": [1], "repeats": [1], "bits": 0}, "`bits` must be"),
        ("associative_recall", {"items": [1]}, "`items` must be .* integers >= 2"),
        ("associative_recall", {"items": [2], "item_length": 0}, "`item_length` must"),
        ("associative_recall", {"items": [2], "bits": True}, "`bits` must be"),
        ("associative_recall", {"items": [2], "queries": 0}, "`queries` must be"),
        (
            "associative_recall",
            {"items": [5], "bits": 2, "item_length": 1},
            "only 2.2 = 4 different items of 2 bits",
        ),
        ("order_recall", {"items": [1]}, "`items` must be .* integers >= 2"),
        ("order_recall", {"items": [9], "bits": 3}, "only 2.3 = 8 different items"),
        ("order_recall", {"items": [2], "bits": 0}, "`bits` must be"),
        ("priority_sort", {"keys": 20}, r"pass `\[5\]`"),
        ("priority_sort", {"keys": [2], "bits": 0}, "`bits` must be"),
        ("dynamic_ngrams", {"lengths": []}, "`lengths` must be a non-empty"),
        ("dynamic_ngrams", {"lengths": [3], "n": 0}, "`n` must be an integer"),
        (
            "dynamic_ngrams",
            {"lengths": [3], "time_steps": 2},
            "at least max.lengths. = 3",
        ),
    ],
)
def test_sequences_refuse(make, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        getattr(tasks, f"{make}_sequences")(0, **arguments)


@pytest.mark.parametrize(
    ("make", "arguments", "expected"),
    [
        ("repeat_copy", {"batch_size": 0}, "`batch_size` must be an integer"),
        ("repeat_copy", {"max_repeats": 0}, "`max_repeats` must be an integer"),
        ("repeat_copy", {"min_repeats": 11}, "`min_repeats` must not exceed"),
        ("associative_recall", {"min_items": 1}, "`min_items` must be .* at least 2"),
        ("associative_recall", {"max_items": 1}, "`min_items` must not exceed"),
        ("associative_recall", {"max_items": lambda: 0}, "`max_items` must be"),
        ("order_recall", {"min_items": 1}, "`min_items` must be .* at least 2"),
        ("order_recall", {"max_items": 300}, "only 2.8 = 256 different"),
        ("priority_sort", {"min_keys": 30}, "`min_keys` must not exceed `max_keys`"),
        ("priority_sort", {"seed": 1.5}, "`seed` must be an integer of at least 0"),
        ("dynamic_ngrams", {"min_length": 0}, "`min_length` must be an integer"),
        ("dynamic_ngrams", {"n": "6"}, "`n` must be an integer"),
    ],
)
def test_streams_refuse(make, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        getattr(tasks, f"{make}_task")(**{"batch_size": 2, **arguments})


def test_optimal_ngrams_refuses_other_shapes():
    with pytest.raises(ValueError, match="bits of shape"):
        tasks.optimal_ngrams(np.zeros((2, 3)))
