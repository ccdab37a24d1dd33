"""Sparse reads and writes against dense NumPy, in value and in gradient."""

import numpy as np
import pytest
import tensorflow as tf

from keras_sam import ops
from keras_sam.ops.sparse import first_occurrences, same_slots

BATCH, SLOTS, WORDS, HEADS = 3, 7, 4, 2

# (sequence, head, slot): in order, as TensorFlow likes its sparse tensors best, and
# two weights for one slot, two heads on one slot, a head and a sequence that read
# nothing.
INDICES = {
    "in order": [(0, 0, 2), (0, 0, 5), (0, 1, 5), (1, 0, 0), (1, 1, 6), (2, 1, 3)],
    "out of order": [(1, 1, 6), (0, 1, 5), (2, 1, 3), (0, 0, 5), (1, 0, 0)],
    "duplicates": [(0, 0, 5), (0, 0, 5), (2, 1, 3), (0, 1, 5), (2, 1, 0), (2, 1, 3)],
    "one": [(1, 0, 4)],
    "none": np.zeros((0, 3)),
}
MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": lambda function: tf.function(function, jit_compile=True),
}
each_mode = pytest.mark.parametrize("mode", MODES)


def sparse(values, indices):
    shape = (BATCH, HEADS, SLOTS)
    return tf.SparseTensor(np.reshape(indices, (-1, 3)).astype("int64"), values, shape)


def dense(values, indices):
    weights = np.zeros((BATCH, HEADS, SLOTS))
    np.add.at(weights, tuple(np.reshape(indices, (-1, 3)).astype(int).T), values)
    return weights


def numbers(name, dtype="float64"):
    """Memory, the weights of a case, and what comes down to the read vectors."""
    rng = np.random.default_rng(0)
    memory = rng.normal(size=(BATCH, SLOTS, WORDS)).astype(dtype)
    values = rng.normal(size=len(INDICES[name])).astype(dtype)
    upstream = rng.normal(size=(BATCH, HEADS, WORDS)).astype(dtype)
    return memory, values, upstream


# Reads.


@pytest.mark.parametrize("as_rows", [False, True], ids=["memory", "rows"])
@pytest.mark.parametrize("name", INDICES)
@each_mode
def test_read_is_a_dense_product(mode, name, as_rows):
    memory, values, upstream = numbers(name)
    indices = np.reshape(INDICES[name], (-1, 3)).astype(int)
    given = memory.reshape(-1, WORDS) if as_rows else memory
    sparse_gradient = []

    def read(given, values):
        with tf.GradientTape() as tape:
            tape.watch([given, values])
            reads = ops.sparse_read(given, sparse(values, indices))
        gradients = tape.gradient(reads, [given, values], output_gradients=upstream)
        sparse_gradient.append(isinstance(gradients[0], tf.IndexedSlices))
        if sparse_gradient[-1]:
            # Nothing in it but the rows that were read.
            assert gradients[0].values.shape == (len(indices), WORDS)
            gradients[0] = tf.convert_to_tensor(gradients[0])
        return reads, *gradients

    read = MODES[mode](read)
    reads, of_memory, of_values = read(tf.constant(given), tf.constant(values))
    assert sparse_gradient == [as_rows]
    weights = dense(values, indices)
    expected = np.einsum("bhn,bnw->bhw", weights, memory)
    np.testing.assert_allclose(reads, expected, atol=1e-14)
    assert reads.shape == (BATCH, HEADS, WORDS)
    expected = np.einsum("bhn,bhw->bnw", weights, upstream)
    np.testing.assert_allclose(of_memory, expected.reshape(given.shape), atol=1e-14)
    sequence, head, slot = indices.T
    expected = np.sum(memory[sequence, slot] * upstream[sequence, head], axis=-1)
    np.testing.assert_allclose(of_values, expected, atol=1e-14)


def test_a_tape_around_a_traced_read():
    memory, values, upstream = numbers("duplicates")
    indices = INDICES["duplicates"]
    rows, values = tf.constant(memory.reshape(-1, WORDS)), tf.constant(values)
    read = tf.function(
        lambda rows, values: ops.sparse_read(rows, sparse(values, indices))
    )
    with tf.GradientTape() as tape:
        tape.watch(rows)
        reads = read(rows, values)
    gradient = tape.gradient(reads, rows, output_gradients=upstream)
    assert isinstance(gradient, tf.IndexedSlices)
    expected = np.einsum("bhn,bhw->bnw", dense(values, indices), upstream)
    got = np.reshape(tf.convert_to_tensor(gradient), expected.shape)
    np.testing.assert_allclose(got, expected, atol=1e-14)


def test_read_with_shapes_that_only_the_call_knows():
    """And in float32, of a sparse tensor made from the graph's own tensors."""
    memory, values, _ = numbers("duplicates", "float32")

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, WORDS)),
            tf.TensorSpec((None, 3), tf.int64),
            tf.TensorSpec((None,)),
        ]
    )
    def read(memory, indices, values):
        shape = tf.cast(tf.shape(memory), tf.int64)
        shape = tf.stack([shape[0], HEADS, shape[1]])
        return ops.sparse_read(memory, tf.SparseTensor(indices, values, shape))

    reads = read(memory, INDICES["duplicates"], values)
    weights = dense(values, INDICES["duplicates"])
    expected = np.einsum("bhn,bnw->bhw", weights, memory)
    np.testing.assert_allclose(reads, expected, atol=1e-6)


# Writes.

# A slot twice and three times, the last slot, none twice.
NAMED = np.array([[4, 1, 4, 6], [2, 2, 0, 2], [5, 3, 6, 0]], "int32")


def written(memory, rows):
    memory = memory.copy()
    for sequence, slots in enumerate(NAMED):
        for write in reversed(range(len(slots))):  # So that the first one stays.
            memory[sequence, slots[write]] = rows[sequence, write]
    return memory


@each_mode
def test_write_puts_the_first_row_named_and_differentiates_alike(mode):
    rng = np.random.default_rng(1)
    memory = rng.normal(size=(BATCH, SLOTS, WORDS))
    rows = rng.normal(size=(*NAMED.shape, WORDS))
    upstream = rng.normal(size=memory.shape)

    def write(memory, rows):
        with tf.GradientTape() as tape:
            tape.watch([memory, rows])
            new = ops.sparse_write(memory, tf.constant(NAMED), rows)
        return new, *tape.gradient(new, [memory, rows], output_gradients=upstream)

    write = MODES[mode](write)
    results = write(tf.constant(memory), tf.constant(rows))
    new, of_memory, of_rows = (result.numpy() for result in results)
    np.testing.assert_array_equal(new, written(memory, rows))
    assert np.all(new[0, 0] == memory[0, 0])

    overwritten = np.zeros((BATCH, SLOTS, 1), bool)
    overwritten[np.arange(BATCH)[:, np.newaxis], NAMED] = True
    np.testing.assert_array_equal(of_memory, np.where(overwritten, 0.0, upstream))
    # A write is linear: what a row adds is the difference of two writes.
    for place in np.ndindex(rows.shape):
        moved = rows.copy()
        moved[place] += 1.0
        slope = np.sum(upstream * (written(memory, moved) - written(memory, rows)))
        np.testing.assert_allclose(of_rows[place], slope, atol=1e-12)
    np.testing.assert_array_equal(of_rows[1, [1, 3]], 0.0)  # Slot 2 once more.


# Slots named more than once.


@each_mode
def test_which_entries_name_the_same_slot(mode):
    slots = np.concatenate([NAMED, [[2**24 - 1, 2**24 - 2, 2**24 - 1, 2**24 - 2]]])
    same = slots[:, :, np.newaxis] == slots[:, np.newaxis]
    first = np.array([[0, 1, 0, 3], [0, 0, 2, 0], [0, 1, 2, 3], [0, 1, 0, 1]])

    def compare(slots):
        return same_slots(slots, "float64"), first_occurrences(slots)

    found, occurrences = MODES[mode](compare)(tf.constant(slots, tf.int32))
    assert found.dtype == tf.float64 and occurrences.dtype == tf.int32
    np.testing.assert_array_equal(found, same)
    np.testing.assert_array_equal(occurrences, first)


def test_a_product_with_same_slots_sums_over_a_slot():
    rng = np.random.default_rng(2)
    values = rng.normal(size=NAMED.shape)
    sums = tf.linalg.matvec(same_slots(tf.constant(NAMED), tf.float64), values)
    totals = np.zeros((BATCH, SLOTS))
    sequences = np.arange(BATCH)[:, np.newaxis]
    np.add.at(totals, (sequences, NAMED), values)
    np.testing.assert_allclose(sums, totals[sequences, NAMED], atol=1e-14)


def test_first_occurrences_in_a_long_list():
    slots = np.random.default_rng(3).integers(40, size=(2, 300)).astype("int32")
    expected = [[list(row).index(slot) for slot in row] for row in slots]
    np.testing.assert_array_equal(first_occurrences(tf.constant(slots)), expected)
