"""A memory that does not change, searched for a batch at once and row by row."""

import numpy as np
import pytest
import tensorflow as tf

from keras_sam import index as indexes
from keras_sam.index.frozen import FrozenIndex, SharedIndex

BATCH, HEADS, WORDS, COUNT = 5, 2, 4, 3
INDEXES = {
    "exact": indexes.Exact(),
    "lsh": indexes.LSH(2, bucket_size=4, probes=3, reordering=16),
}


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("slots", [50, 1500])
@pytest.mark.parametrize("name", INDEXES)
def test_a_batch_finds_what_its_rows_find(name, slots, jit_compile):
    rng = np.random.default_rng(slots)
    memory = tf.Variable(rng.normal(size=(slots, WORDS)).astype("float32"))
    queries = rng.normal(size=(BATCH, HEADS, WORDS)).astype("float32")
    # -1 names no slot.
    without = rng.integers(-1, slots, (BATCH, 6)).astype("int32")
    index = INDEXES[name]
    at_once = index.freeze(memory, COUNT)
    assert isinstance(at_once, SharedIndex)
    one_by_one = FrozenIndex(index, memory, COUNT, None)
    search = tf.function(
        at_once.search,
        jit_compile=jit_compile,
        input_signature=[
            tf.TensorSpec((None, HEADS, WORDS)),
            tf.TensorSpec((None, 6), tf.int32),
        ],
    )
    found = search(tf.constant(queries), tf.constant(without)).numpy()
    expected = one_by_one.search(tf.constant(queries), tf.constant(without)).numpy()
    np.testing.assert_array_equal(found, expected)
    # Rows of which each leaves other slots out.
    words = memory.numpy() / np.linalg.norm(memory, axis=1, keepdims=True)
    for row in range(BATCH):
        alike = queries[row] @ words.T
        alike[:, without[row][without[row] >= 0]] = -np.inf
        best = np.argsort(-alike, axis=1)[:, :COUNT]
        if name == "exact":
            np.testing.assert_array_equal(found[row], best)
        else:
            assert found[row].shape[1] > COUNT
            assert np.all((found[row] >= 0) & (found[row] < slots))
