"""Sequences so long that counters and rounding could go wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sam
from keras_sam.ops import recency

SIZES = {"units": 6, "memory_slots": 40, "word_size": 4, "read_heads": 2}


def make_layer(**kwargs):
    keras.utils.set_random_seed(1)
    layer = keras_sam.SAM(
        **SIZES, reads_per_head=2, return_sequences=True, return_state=True, **kwargs
    )
    layer.build((2, None, 3))
    return layer


def inputs(steps):
    return np.random.default_rng(0).normal(size=(2, steps, 3)).astype("float32")


def levels_of(layer, state):
    """The levels of the tree of last accesses."""
    sizes = recency.level_sizes(layer.cell.memory_slots)
    return tf.split(state.last_access, sizes, axis=-1)


@pytest.mark.parametrize("jit_compile", ["auto", False])
def test_access_times_stay_right_across_two_to_the_24(jit_compile):
    """A stream that comes to 2^24 goes on as one that has just begun."""
    layer = make_layer(jit_compile=jit_compile)
    _, *early = layer(inputs(60))
    named = layer.cell.unpack_state(early)
    assert int(named.time[0, 0]) == 62
    # The same state much later, in the middle of a chunk of the stream: the first
    # row passes 2^24, the second has some way to go.
    shift = tf.constant([[2.0**24 - 62 - 10], [1000.0]])
    tree = [
        tf.where((level > 0) & (level < 2.0**29), level + shift, level)
        for level in levels_of(layer, named)
    ]
    late = layer.cell.pack_state(
        named._replace(time=named.time + shift, last_access=tf.concat(tree, axis=-1))
    )
    expected, *expected_state = layer(inputs(60)[:, ::-1], initial_state=early)
    got, *got_state = layer(inputs(60)[:, ::-1], initial_state=late)
    np.testing.assert_array_equal(got, expected)
    expected_state = layer.cell.unpack_state(expected_state)
    got_state = layer.cell.unpack_state(got_state)
    np.testing.assert_array_equal(got_state.memory, expected_state.memory)
    np.testing.assert_array_equal(got_state.read_slots, expected_state.read_slots)
    assert float(got_state.time[0, 0]) == 2**24 - 10 + 60 - 2**23
    for state in (got_state, expected_state):
        assert np.unique(np.diff(np.sort(state.last_access[0, :40]))).max() < 200
    # In the same order of age.
    np.testing.assert_array_equal(
        np.argsort(got_state.last_access[:, :40], axis=1, stable=True),
        np.argsort(expected_state.last_access[:, :40], axis=1, stable=True),
    )


@pytest.mark.slow
def test_a_stream_of_a_million_steps_stays_finite_and_correct():
    layer = make_layer(stateful=True)
    cell = keras.layers.RNN(layer.cell, return_sequences=True, return_state=True)
    chunk = 10_000
    rng = np.random.default_rng(0)
    for _ in range(1_000_000 // chunk):
        last = rng.normal(size=(2, chunk, 3)).astype("float32")
        outputs, *state = layer(last)
    assert np.isfinite(outputs).all()
    state = layer.cell.unpack_state(state)
    assert np.isfinite(state.memory).all()
    np.testing.assert_array_equal(state.time, 1_000_002)
    levels = levels_of(layer, state)
    for level, rebuilt in zip(
        levels, recency.build_tree(levels[0][:, :40]), strict=True
    ):
        np.testing.assert_array_equal(level, rebuilt)
    # From here on the cell, step by step, goes the same way.
    before = layer.cell.pack_state(state)
    following = inputs(50)
    expected, *_ = cell(following, initial_state=before)
    got, *_ = layer(following)
    np.testing.assert_allclose(got, expected, atol=1e-5)
