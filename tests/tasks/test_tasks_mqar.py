"""Multi-query associative recall, by a solver that sees the tokens alone."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_sam import tasks


def solve(tokens, pairs):
    """From the step of each query to its answer; fillers must be 0."""
    shown = tokens[: 2 * pairs]
    values = dict(zip(shown[::2], shown[1::2], strict=True))
    assert len(values) == pairs, "a key comes twice"
    assert len(set(values.values())) == pairs, "a value comes twice"
    answers = {
        step: values[token]
        for step, token in enumerate(tokens)
        if step >= 2 * pairs and token
    }
    assert sorted(answers.values()) == sorted(values.values())
    assert all(step % 2 == 0 for step in answers)
    return answers


@pytest.mark.parametrize(("time_steps", "pairs"), [(16, 4), (64, 5), (16, 1)])
def test_targets_follow_from_the_tokens(time_steps, pairs):
    tokens, targets, weights = tasks.mqar_sequences(
        0, 50, time_steps, pairs, random_fillers=False
    )
    assert tokens.dtype == targets.dtype == np.int32 and weights.dtype == np.float32
    assert tokens.shape == targets.shape == weights.shape == (50, time_steps)
    for row, *truth in zip(tokens.tolist(), targets, weights, strict=True):
        answers = solve(row, pairs)
        expected = np.zeros((2, time_steps))
        for step, value in answers.items():
            expected[:, step] = value, 1
        np.testing.assert_array_equal(truth, expected)


def test_keys_and_values_are_the_halves_of_the_vocabulary():
    tokens, targets, _ = tasks.mqar_sequences(0, 400, 16, 4, vocabulary=10)
    keys, values = tokens[:, :8:2], tokens[:, 1:8:2]
    assert set(keys.ravel()) == {1, 2, 3, 4} and set(values.ravel()) == {5, 6, 7, 8, 9}
    # Any order, and fillers of all tokens.
    assert len({tuple(row) for row in keys}) == 24
    assert set(tokens[:, 8:].ravel()) == set(range(10))
    fixed = tasks.mqar_sequences(0, 400, 16, 4, 10, random_fillers=False)
    np.testing.assert_array_equal(fixed[1] > 0, fixed[2] > 0)


def test_queries_come_by_a_power_of_the_distance():
    """The share of each place among the first queries, and of sets of two."""
    count, steps = 60_000, 14
    _, targets, _ = tasks.mqar_sequences(0, count, steps, 1, 10, 0.3)
    places = np.arange(1, 7) ** (0.3 - 1.0)
    shares = places / places.sum()
    drawn = (targets[:, 2::2] > 0).mean(axis=0)
    np.testing.assert_allclose(drawn, shares, atol=4.5 * 0.5 / np.sqrt(count))

    tokens, targets, _ = tasks.mqar_sequences(0, count, steps, 2, 10, 0.3)
    places = np.arange(1, 6) ** (0.3 - 1.0)
    shares = places / places.sum()
    first, second = (
        np.argmax(targets[:, 4::2] == tokens[:, [step]], axis=1) for step in (1, 3)
    )
    # One after the other: the second among those that are left.
    for i, j in itertools.permutations(range(5), 2):
        expected = shares[i] * shares[j] / (1.0 - shares[i])
        got = np.mean((first == i) & (second == j))
        assert abs(got - expected) < 4.5 * 0.5 / np.sqrt(count)


def test_a_stream_has_the_sizes_in_their_proportions():
    sizes = {(16, 4): 3, (8, 1): 1}
    data = tasks.mqar_task(2, sizes, vocabulary=20, seed=0)
    assert data.element_spec == (
        tf.TensorSpec((2, None), tf.int32),
        tf.TensorSpec((2, None), tf.int32),
        tf.TensorSpec((2, None), tf.float32),
    )
    assert data.cardinality() == tf.data.INFINITE_CARDINALITY
    batches = list(data.take(400).as_numpy_iterator())
    drawn = [(tokens.shape[1], weights.sum() / 2) for tokens, _, weights in batches]
    assert set(drawn) == {(16, 4), (8, 1)}
    assert abs(drawn.count((16, 4)) - 300) < 4.5 * np.sqrt(75)
    again = data.take(400).as_numpy_iterator()
    assert all(
        np.array_equal(a, b)
        for one, other in zip(batches, again, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    other = next(tasks.mqar_task(2, sizes, vocabulary=20, seed=1).as_numpy_iterator())
    assert not np.array_equal(batches[0][0], other[0])


def test_the_sizes_are_those_of_the_benchmark():
    assert sum(tasks.MQAR_TRAINING.values()) == 180_000
    assert max(tasks.MQAR_TRAINING) == (256, 64)
    assert list(tasks.MQAR_TEST)[-2:] == [(512, 128), (1024, 256)]
    (spec, *_) = tasks.mqar_task(3, {(64, 4): 1, (64, 8): 1}).element_spec
    assert spec == tf.TensorSpec((3, 64), tf.int32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"time_steps": 14, "pairs": 4}, "`time_steps` must be even and at least 16"),
        ({"time_steps": 65}, "`time_steps` must be even.*time_steps=65"),
        ({"vocabulary": 8, "pairs": 4}, "`vocabulary` must be even and at least 10"),
        ({"pairs": 0}, "`pairs` must be an integer of at least 1"),
        ({"power": 0.0}, "`power` must be a positive number"),
        ({"random_fillers": 1}, "`random_fillers` must be"),
    ],
)
def test_impossible_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tasks.mqar_sequences(0, **{"batch_size": 2, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": {}}, "`sizes` must be a non-empty dictionary"),
        ({"sizes": {(64, 4): 0}}, "`sizes` must be"),
        ({"sizes": {(64, 4): 1, (8, 4): 1}}, "`time_steps` must be even and at least"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_impossible_streams_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tasks.mqar_task(2, **arguments)
