"""Sparse links against the dictionary of the NumPy twin, and what they may not do."""

import numpy as np
import pytest
import tensorflow as tf
from reference import sdnc

from keras_sam import ops

BATCH = 3
MODES = {
    "graph": lambda function: tf.function(function, autograph=False),
    "xla": lambda function: tf.function(function, jit_compile=True),
}


def matrices(links, slots):
    """The link matrix, found by going forwards and by going backwards."""
    every = tf.tile(tf.range(slots)[tf.newaxis], (links.precedence.shape[0], 1))
    forward, backward = ops.follow_links(links, every)

    def dense(linked, weights):
        matrix = np.zeros((*weights.shape[:2], slots))
        batch, slot, _ = np.indices(weights.shape)
        np.add.at(matrix, (batch, slot, linked.numpy()), weights)
        return matrix

    return dense(*forward).transpose(0, 2, 1), dense(*backward)


def random_write(rng, slots, writes, erased):
    named = rng.integers(slots, size=(BATCH, writes)).astype("int32")
    named[:, -erased:] = [rng.permutation(slots)[:erased] for _ in range(BATCH)]
    weights = rng.random(named.shape) * rng.choice([0.05, 0.3, 1.0]) / writes
    if rng.random() < 0.4:  # Most of it to the erased slots.
        weights[:, -erased:] += 0.8
    return named, weights, named[:, -erased:]


@pytest.mark.parametrize(
    ("mode", "slots", "count", "writes", "erased"),
    [
        ("graph", 6, 2, 5, 1),
        ("graph", 9, 3, 7, 2),
        ("graph", 7, 7, 9, 1),
        ("graph", 5, 1, 4, 1),
        ("xla", 20, 4, 9, 2),
    ],
)
def test_links_are_those_of_the_twin(mode, slots, count, writes, erased):
    rng = np.random.default_rng(0)
    links = ops.empty_links(BATCH, slots, count, "float64")
    twins = [sdnc.SparseLinks(slots, count) for _ in range(BATCH)]
    update = MODES[mode](ops.update_sparse_links)
    entries = 0
    for _ in range(40):
        write = random_write(rng, slots, writes, erased)
        active = rng.random(BATCH) < 0.9
        links = update(links, *write, active)
        for twin, named, weights, gone in zip(
            np.array(twins)[active], *(each[active] for each in write), strict=True
        ):
            heads = [
                {slot: weight} for slot, weight in zip(named, weights, strict=True)
            ]
            twin.record(heads, set(gone))
        expected = np.stack([twin.dense() for twin in twins])
        for matrix in matrices(links, slots):
            np.testing.assert_allclose(matrix, expected, atol=1e-12)
        # Neither a walk forwards nor one backwards can gain weight.
        assert max(expected.sum(1).max(), expected.sum(2).max()) <= 1 + 1e-12
        entries += np.sum(expected > 0)
        named, weights = tf.unstack(links.precedence, axis=1)
        assert all(len(set(row)) == count for row in named.numpy().tolist())
    assert entries > 100


def write_all(links, *slots):
    for slot in slots:
        links = ops.update_sparse_links(links, [[slot]], [[1.0]], [[slot]])
    return links


def test_no_link_leads_to_or_from_what_a_slot_held_before():
    links = write_all(ops.empty_links(1, 6, 2, "float64"), 0, 1, 2, 3)
    links = write_all(links, 1)
    expected = np.zeros((6, 6))
    expected[3, 2] = expected[1, 3] = 1.0
    for matrix in matrices(links, 6):
        np.testing.assert_array_equal(matrix[0], expected)
    # Slots 0 and 2 do list it still: it is slot 1 that no longer lists them.
    assert links.link_ends[0, 2, 0, 0] == 1.0 and links.link_ends[0, 2, 1, 0] == 1.0
    assert links.link_ends[0, 6 + 0, 0, 0] == 1.0
    # Nor does what they list come back when slot 1 is linked to others again.
    links = write_all(links, 4, 5, 1)
    expected[1, 3], expected[1, 5], expected[5, 4] = 0.0, 1.0, 1.0
    for matrix in matrices(links, 6):
        np.testing.assert_array_equal(matrix[0], expected)


def test_an_erased_slot_is_forgotten_even_if_nothing_is_written():
    links = write_all(ops.empty_links(1, 6, 2), 0, 1, 2)
    links = ops.update_sparse_links(links, [[1, 2]], [[0.0, 0.0]], [[1, 2]])
    for matrix in matrices(links, 6):
        np.testing.assert_array_equal(matrix, 0.0)
    # Slot 2 was written last: what is written now follows nothing.
    links = write_all(links, 4)
    for matrix in matrices(links, 6):
        np.testing.assert_array_equal(matrix, 0.0)


def test_links_have_no_gradient():
    links = ops.empty_links(1, 4, 2)
    weights = tf.constant([[0.5, 0.5]])
    with tf.GradientTape() as tape:
        tape.watch([weights, *links])
        for slots in ([[0, 1]], [[2, 3]]):
            links = ops.update_sparse_links(links, slots, weights, [[0]])
        forward, backward = ops.follow_links(links, tf.constant([[0, 1, 2, 3]]))
        total = tf.reduce_sum(forward[1]) + tf.reduce_sum(backward[1])
    assert total > 0.0
    assert tape.gradient(total, weights) is None
