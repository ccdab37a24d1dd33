"""The copy task, checked by a solver that sees the inputs alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_sam.tasks import copy_sequences, copy_task


def solve(inputs):
    """Returns the targets and weights of one sequence, in plain Python."""
    rows = inputs.tolist()
    bits = len(rows[0]) - 1
    (length,) = [t for t, row in enumerate(rows) if row[bits] == 1]
    assert rows[length][:bits] == [0] * bits, "the delimiter step carries bits"
    for row in rows[length + 1 :]:
        assert row == [0] * (bits + 1), "input after the delimiter"
    assert all(bit in (0, 1) for row in rows for bit in row)
    targets = [[0] * bits for _ in rows]
    weights = [0] * len(rows)
    for t in range(length):
        targets[length + 1 + t] = rows[t][:bits]
        weights[length + 1 + t] = 1
    return targets, weights


def check_batch(inputs, targets, sample_weight, lengths=None):
    for i in range(len(inputs)):
        expected_targets, expected_weights = solve(inputs[i])
        assert targets[i].tolist() == expected_targets
        assert sample_weight[i].tolist() == expected_weights
    if lengths is not None:
        assert sample_weight.sum(1).tolist() == list(lengths)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    bits=st.integers(1, 10),
    padding=st.integers(0, 4),
)
def test_targets_follow_from_the_inputs(lengths, bits, padding):
    steps = 2 * max(lengths) + 1 + padding
    arrays = copy_sequences(np.random.default_rng(0), lengths, bits, steps)
    inputs, targets, sample_weight = arrays
    assert inputs.shape == (len(lengths), steps, bits + 1)
    assert targets.shape == (len(lengths), steps, bits)
    assert sample_weight.shape == (len(lengths), steps)
    assert {array.dtype for array in arrays} == {np.dtype("float32")}
    check_batch(*arrays, lengths=lengths)


def test_default_time_steps_just_hold_the_longest_sequence():
    assert copy_sequences(0, [2, 5])[0].shape == (2, 11, 9)


def test_padding_does_not_change_the_bits():
    short = copy_sequences(np.random.default_rng(3), [4, 2])
    padded = copy_sequences(np.random.default_rng(3), [4, 2], time_steps=20)
    for a, b in zip(short, padded, strict=True):
        np.testing.assert_array_equal(a, b[:, :9])
        assert not b[:, 9:].any()


def test_bits_are_fair_coins():
    inputs, _, _ = copy_sequences(np.random.default_rng(0), [50] * 200)
    flips = inputs[:, :50, :8]
    # Four standard deviations: of each bit's mean, and of a correlation.
    np.testing.assert_allclose(flips.mean((0, 1)), 0.5, atol=4 * 0.5 / 100)
    correlations = np.corrcoef(flips.reshape(-1, 8), rowvar=False)
    np.testing.assert_allclose(correlations, np.eye(8), atol=4 / 100)
    following = np.corrcoef(flips[:, 1:].ravel(), flips[:, :-1].ravel())[0, 1]
    assert abs(following) < 4 / np.sqrt(200 * 49 * 8)


def test_a_generator_advances():
    rng = np.random.default_rng(0)
    first, second = (copy_sequences(rng, [20])[0] for _ in range(2))
    assert (first != second).any()


def batches(count, **kwargs):
    return list(copy_task(**kwargs).take(count).as_numpy_iterator())


def test_stream_content_and_shapes():
    dataset = copy_task(6, min_length=2, max_length=5, bits=3, seed=0)
    assert dataset.element_spec == (
        tf.TensorSpec((6, 11, 4), tf.float32),
        tf.TensorSpec((6, 11, 3), tf.float32),
        tf.TensorSpec((6, 11), tf.float32),
    )
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    for batch in dataset.take(5).as_numpy_iterator():
        check_batch(*batch)


def test_lengths_are_uniform_between_the_limits():
    ((_, _, sample_weight),) = batches(
        1, batch_size=8000, min_length=3, max_length=6, bits=1, seed=0
    )
    lengths, counts = np.unique(sample_weight.sum(1), return_counts=True)
    assert lengths.tolist() == [3, 4, 5, 6]
    np.testing.assert_allclose(counts, 2000, atol=4 * np.sqrt(8000 * 3 / 16))


def test_one_length_only():
    ((_, _, sample_weight),) = batches(1, batch_size=5, min_length=7, max_length=7)
    assert sample_weight.sum(1).tolist() == [7] * 5


def test_a_seed_fixes_the_stream():
    dataset = copy_task(3, seed=1)
    first, again = (list(dataset.take(3).as_numpy_iterator()) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert (first[0][0] != first[1][0]).any(), "the batches repeat"
    assert (first[0][0] != batches(1, batch_size=3, seed=2)[0][0]).any()


def test_without_a_seed_each_iteration_is_new():
    dataset = copy_task(3)
    first, again = (next(dataset.as_numpy_iterator())[0] for _ in range(2))
    assert (first != again).any()


class TraceCounter(keras.layers.Layer):
    def call(self, inputs):
        self.traces = getattr(self, "traces", 0) + 1
        return inputs


def test_a_compiled_model_compiles_once():
    counter = TraceCounter()
    model = keras.Sequential([counter, keras.layers.Dense(8, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy", jit_compile=True)
    data = copy_task(4, max_length=5, seed=0)
    model.fit(data, steps_per_epoch=1, epochs=1, verbose=0)
    traces = counter.traces
    model.fit(data, steps_per_epoch=8, epochs=2, verbose=0)
    assert counter.traces == traces


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"lengths": []}, "`lengths` must be a non-empty"),
        ({"lengths": 5}, r"pass `\[5\]`"),
        ({"lengths": [[5]]}, "one-dimensional"),
        ({"lengths": [2.0]}, "integers >= 1"),
        ({"lengths": [3, 0]}, "integers >= 1"),
        ({"lengths": [3], "bits": 0}, "`bits` must be an integer of at least 1"),
        ({"lengths": [3], "time_steps": 6}, r"at least 2 \* max\(lengths\) \+ 1 = 7"),
        ({"lengths": [3], "time_steps": 7.5}, "`time_steps` must be an integer"),
    ],
)
def test_copy_sequences_refuses(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        copy_sequences(np.random.default_rng(0), **arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"batch_size": True}, "`batch_size` must be an integer of at least 1"),
        ({"min_length": 0}, "`min_length` must be an integer of at least 1"),
        ({"max_length": 2.5}, "`max_length` must be an integer of at least 1"),
        ({"bits": "8"}, "`bits` must be an integer of at least 1"),
        ({"min_length": 9, "max_length": 8}, "must not exceed `max_length`"),
        ({"seed": -1}, "`seed` must be an integer of at least 0"),
        ({"seed": 0.5}, "`seed` must be an integer of at least 0"),
    ],
)
def test_copy_task_refuses(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        copy_task(**{"batch_size": 2, **arguments})
