"""`keras_sam.ops` against the plain-loop twins, and what each function is for.

The first half holds every function to an independent float64 implementation, in
value and, by central finite differences of that implementation, in gradient. The
second half says in small examples what the functions mean.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import common
from reference import ops as twin

from keras_sam import ops
from keras_sam.ops.selection import top_k

ONE_HOT = np.eye(12)


# What the twins leave out, number by number.


def twin_read(memory, read_weights):
    batch, slots, words = memory.shape
    heads = read_weights.shape[1]
    result = np.zeros((batch, heads, words))
    for b, h, n, w in np.ndindex(batch, heads, slots, words):
        result[b, h, w] += read_weights[b, h, n] * memory[b, n, w]
    return result


def twin_erase_and_add(memory, write_weights, erase, add):
    result = np.array(memory)
    for b, n, w in np.ndindex(*memory.shape):
        for h in range(write_weights.shape[1]):
            result[b, n, w] *= 1 - write_weights[b, h, n] * erase[b, h, w]
        for h in range(write_weights.shape[1]):
            result[b, n, w] += write_weights[b, h, n] * add[b, h, w]
    return result


def twin_retention(free_gates, read_weights):
    every_slot_used = np.ones((len(read_weights), read_weights.shape[2]))
    return twin.usage_after_read(every_slot_used, free_gates, read_weights)


def twin_masked_cosine(memory, keys, masks):
    result = np.zeros((len(memory), keys.shape[1], memory.shape[1]))
    for b, h, n in np.ndindex(*result.shape):
        mask = masks[b, h]
        result[b, h, n] = common.cosine(memory[b, n] * mask, keys[b, h] * mask)
    return result


def twin_masked_content(memory, keys, strengths, masks):
    return np.array(
        [
            [
                common.content_weights(memory[b], keys[b, h], strengths[b, h], mask)
                for h, mask in enumerate(head_masks)
            ]
            for b, head_masks in enumerate(masks)
        ]
    )


# Each case: the function, its twin, and the names of its random arguments.

WIDE_EPSILON = 0.25

CASES = {
    "cosine_similarity": (
        ops.cosine_similarity,
        twin.cosine_similarity,
        ["memory", "keys"],
    ),
    "cosine_similarity, masked": (
        ops.cosine_similarity,
        twin_masked_cosine,
        ["memory", "keys", "masks"],
    ),
    "content_weights": (
        ops.content_weights,
        twin.content_weights,
        ["memory", "keys", "strengths"],
    ),
    "content_weights, masked": (
        ops.content_weights,
        twin_masked_content,
        ["memory", "keys", "strengths", "masks"],
    ),
    "interpolate": (
        ops.interpolate,
        twin.interpolate,
        ["weightings", "other_weightings", "gates"],
    ),
    "circular_shift": (
        ops.circular_shift,
        twin.circular_shift,
        ["weightings", "shift"],
    ),
    "sharpen": (ops.sharpen, twin.sharpen, ["weightings", "gamma"]),
    "sharpen, epsilon": (
        functools.partial(ops.sharpen, epsilon=WIDE_EPSILON),
        lambda weights, gamma: twin.sharpen(weights + WIDE_EPSILON, gamma),
        ["weightings", "gamma"],
    ),
    "read": (ops.read, twin_read, ["memory", "weightings"]),
    "erase_and_add": (
        ops.erase_and_add,
        twin_erase_and_add,
        ["memory", "weightings", "erase", "keys"],
    ),
    "usage_after_write": (
        ops.usage_after_write,
        twin.usage_after_write,
        ["usage", "written"],
    ),
    "retention": (ops.retention, twin_retention, ["gates", "weightings"]),
    "allocation_weights": (
        ops.allocation_weights,
        twin.allocation_weights,
        ["usage"],
    ),
    "update_link": (
        ops.update_link,
        twin.update_link,
        ["link", "precedence", "written"],
    ),
    "update_precedence": (
        ops.update_precedence,
        twin.update_precedence,
        ["precedence", "written"],
    ),
    "directional_weights, forward": (
        functools.partial(ops.directional_weights, forward=True),
        functools.partial(twin.directional_weights, forward=True),
        ["link", "weightings"],
    ),
    "directional_weights, backward": (
        functools.partial(ops.directional_weights, forward=False),
        functools.partial(twin.directional_weights, forward=False),
        ["link", "weightings"],
    ),
}

each_case = pytest.mark.parametrize("case", CASES)


def random_arguments(seed, batch=2, slots=5, words=3, heads=2):
    rng = np.random.default_rng(seed)

    def weighting(*shape):
        values = rng.random(shape) + 0.05
        return values / values.sum(-1, keepdims=True)

    # Far enough apart for the order to be beyond dispute.
    usage = np.stack([rng.permutation(slots) for _ in range(batch)]) + 0.2
    usage = (usage + 0.5 * rng.random((batch, slots))) / slots
    reach = rng.integers(0, (slots - 1) // 2 + 1)
    return {
        "memory": rng.normal(size=(batch, slots, words)),
        "keys": rng.normal(size=(batch, heads, words)),
        "masks": rng.random((batch, heads, words)),
        "erase": rng.random((batch, heads, words)),
        "strengths": rng.uniform(0.0, 6.0, (batch, heads)),
        "gates": rng.random((batch, heads)),
        "gamma": rng.uniform(1.0, 5.0, (batch, heads)),
        "weightings": weighting(batch, heads, slots),
        "other_weightings": weighting(batch, heads, slots),
        "shift": weighting(batch, heads, 2 * reach + 1),
        "usage": usage,
        "written": rng.random((batch, 1)) * weighting(batch, slots),
        "precedence": rng.random((batch, 1)) * weighting(batch, slots),
        "link": rng.random((batch, slots, slots)) / slots,
    }


def arguments_of(case, *args, **kwargs):
    function, reference, names = CASES[case]
    values = random_arguments(*args, **kwargs)
    return function, reference, [values[name] for name in names]


def constants(arrays, dtype):
    return [tf.constant(array, dtype) for array in arrays]


def gradients(function, arrays, dtype="float64"):
    """The value of `sum(function)` and its gradient for each array."""
    variables = constants(arrays, dtype)
    with tf.GradientTape() as tape:
        tape.watch(variables)
        value = tf.reduce_sum(function(*variables))
    return value.numpy(), [
        gradient.numpy()
        for gradient in tape.gradient(value, variables, unconnected_gradients="zero")
    ]


def finite_differences(function, arrays, step=1e-5):
    """Central differences of a scalar function of NumPy arrays."""
    results = []
    for k, array in enumerate(arrays):
        result = np.zeros_like(array)
        for position in np.ndindex(*array.shape):
            ends = []
            for sign in (1, -1):
                moved = [np.array(a) for a in arrays]
                moved[k][position] += sign * step
                ends.append(function(*moved))
            result[position] = (ends[0] - ends[1]) / (2 * step)
        results.append(result)
    return results


# Value and gradient, every function.


@each_case
@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 3),
    slots=st.integers(1, 7),
    words=st.integers(1, 4),
    heads=st.integers(1, 3),
)
def test_values_are_those_of_the_twin(case, seed, batch, slots, words, heads):
    function, reference, arguments = arguments_of(
        case, seed, batch, slots, words, heads
    )
    expected = reference(*arguments)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        got = function(*constants(arguments, dtype))
        assert got.dtype == dtype
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@each_case
def test_gradients_are_finite_differences_of_the_twin(case):
    function, reference, arguments = arguments_of(case, seed=1)
    rng = np.random.default_rng(2)
    share = rng.normal(size=reference(*arguments).shape)
    _, got = gradients(lambda *a: share * function(*a), arguments)
    expected = finite_differences(lambda *a: np.sum(share * reference(*a)), arguments)
    for name, mine, numeric in zip(CASES[case][2], got, expected, strict=True):
        assert np.max(np.abs(numeric)) > 1e-3, name
        np.testing.assert_allclose(mine, numeric, atol=1e-8, rtol=1e-7, err_msg=name)


def test_every_public_function_has_a_case():
    # test_sparse_ops.py and test_sparse_linkage.py have the sparse ones.
    sparse = {"sparse_read", "sparse_write", "SparseLinks"}
    sparse |= {"empty_links", "follow_links", "update_sparse_links"}
    tested = {case.split(",")[0] for case in CASES}
    assert tested == set(ops.__all__) - sparse


@pytest.mark.parametrize("jit_compile", [None, True])
@pytest.mark.parametrize("count", [1, 3, 16, 20])
def test_top_k_is_that_of_a_stable_sort(count, jit_compile):
    """Few or many, ties included, and as many different ones of equals."""
    values = np.random.default_rng(0).integers(-3, 4, size=(2, 3, 20)).astype("float32")
    values[0, 0] = np.finfo("float32").min
    expected = np.argsort(-values, axis=-1, kind="stable")[..., :count]
    best, positions = tf.function(top_k, jit_compile=jit_compile)(values, count)
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_array_equal(best, np.take_along_axis(values, expected, -1))


@each_case
def test_functions_work_in_a_graph_that_does_not_know_the_batch(case):
    function, reference, arguments = arguments_of(case, seed=3, batch=3)
    signature = [tf.TensorSpec([None, *a.shape[1:]], "float32") for a in arguments]
    compiled = tf.function(function, input_signature=signature)
    got = compiled(*constants(arguments, "float32"))
    np.testing.assert_allclose(got, reference(*arguments), atol=1e-5)


# Content.


def test_cosine_is_one_for_the_direction_and_does_not_see_the_length():
    memory = np.array([[[3.0, 4.0], [-30.0, -40.0], [4.0, -3.0]]])
    for length in (0.5, 1.0, 100.0):
        got = ops.cosine_similarity(memory, length * np.array([[[0.6, 0.8]]]))
        np.testing.assert_allclose(got, [[[1.0, -1.0, 0.0]]], atol=1e-5)


def test_content_weights_are_weightings_and_strength_concentrates_them():
    values = random_arguments(seed=0, slots=6)
    memory, keys = constants([values["memory"], values["keys"]], "float32")
    ranking = np.argsort(ops.cosine_similarity(memory, keys), -1)
    largest = []
    for strength in (0.0, 1.0, 10.0, 1e4):
        got = ops.content_weights(memory, keys, np.full((2, 2), strength)).numpy()
        np.testing.assert_allclose(got.sum(-1), 1.0, rtol=1e-6)
        assert np.all(got >= 0.0)
        if 0.0 < strength <= 10.0:
            np.testing.assert_array_equal(np.argsort(got, -1), ranking)
        largest.append(got.max(-1))
    np.testing.assert_allclose(largest[0], 1 / 6, rtol=1e-6)  # strength 0: uniform
    assert np.all(np.diff(largest, axis=0) > 0.0)
    np.testing.assert_allclose(largest[-1], 1.0, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("masks", [None, 0.0, 1.0])
@pytest.mark.parametrize("zero", ["memory", "keys", "both"])
def test_zero_memory_and_zero_keys_have_finite_values_and_gradients(dtype, masks, zero):
    values = random_arguments(seed=0)
    memory, keys = values["memory"], values["keys"]
    arguments = [
        memory if zero == "keys" else 0.0 * memory,
        keys if zero == "memory" else 0.0 * keys,
    ]
    if masks is not None:
        masks = tf.fill(keys.shape, tf.constant(masks, dtype))
    similarity = functools.partial(ops.cosine_similarity, masks=masks)
    np.testing.assert_array_equal(similarity(*constants(arguments, dtype)), 0.0)

    def content(memory, keys, strengths):
        weights = ops.content_weights(memory, keys, strengths, masks=masks)
        np.testing.assert_allclose(weights, 1 / 5, rtol=1e-6)
        return weights[..., 0]

    for function, inputs in (
        (similarity, arguments),
        (content, [*arguments, values["strengths"]]),
    ):
        value, slopes = gradients(function, inputs, dtype)
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(slope)) for slope in slopes)


def test_masked_elements_do_not_count_for_similarity():
    rng = np.random.default_rng(0)
    memory, keys = rng.normal(size=(2, 5, 6)), rng.normal(size=(2, 2, 6))
    seen = np.array([0, 2, 3])
    masks = np.zeros((2, 2, 6))
    masks[..., seen] = 1.0
    expected = ops.cosine_similarity(memory[..., seen], keys[..., seen])
    hidden = np.setdiff1d(np.arange(6), seen)
    for _ in range(3):
        memory[..., hidden] = rng.normal(size=(2, 5, 3), scale=100.0)
        keys[..., hidden] = rng.normal(size=(2, 2, 3), scale=100.0)
        got = ops.cosine_similarity(memory, keys, masks)
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    _, slopes = gradients(
        lambda memory, keys: ops.cosine_similarity(memory, keys, masks)[..., 0],
        [memory, keys],
    )
    for slope in slopes:
        np.testing.assert_array_equal(slope[..., hidden], 0.0)
        assert np.any(slope[..., seen] != 0.0)


def test_each_head_has_its_own_mask_and_open_masks_are_no_masks():
    values = random_arguments(seed=0)
    memory, keys, masks = (values[name] for name in ("memory", "keys", "masks"))
    strengths = values["strengths"]
    both = ops.content_weights(memory, keys, strengths, masks)
    for head in range(2):
        alone = slice(head, head + 1)
        np.testing.assert_allclose(
            ops.content_weights(
                memory, keys[:, alone], strengths[:, alone], masks[:, alone]
            ),
            both[:, alone],
            rtol=1e-12,
        )
    np.testing.assert_allclose(
        ops.content_weights(memory, keys, strengths, np.ones_like(masks)),
        ops.content_weights(memory, keys, strengths),
        rtol=1e-12,
    )


# Location.


def test_interpolation_ends_at_the_content_and_at_the_previous_weighting():
    values = random_arguments(seed=0)
    content, previous = values["weightings"], values["other_weightings"]
    np.testing.assert_array_equal(
        ops.interpolate(content, previous, np.ones((2, 2))), content
    )
    np.testing.assert_array_equal(
        ops.interpolate(content, previous, np.zeros((2, 2))), previous
    )
    # One gate a head; plain lists will do.
    got = ops.interpolate(content, previous, [[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(got[0, 0], content[0, 0])
    np.testing.assert_array_equal(got[0, 1], previous[0, 1])
    np.testing.assert_array_equal(got[1, 0], previous[1, 0])
    np.testing.assert_array_equal(got[1, 1], content[1, 1])


@pytest.mark.parametrize("slots", [1, 2, 7, 8])
def test_shift_by_d_moves_every_weight_by_exactly_d_slots(slots):
    weights = np.random.default_rng(0).random((2, 3, slots))
    for reach in range((slots - 1) // 2 + 1):
        for offset in range(-reach, reach + 1):
            shift = np.zeros((2, 3, 2 * reach + 1))
            shift[..., reach + offset] = 1.0
            np.testing.assert_array_equal(
                ops.circular_shift(weights, shift), np.roll(weights, offset, axis=-1)
            )


def test_shift_wraps_round_at_both_ends():
    first, last = ONE_HOT[0, :5], ONE_HOT[4, :5]
    weights = np.array([[last, first, last]])
    shift = np.array([[[0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]])
    np.testing.assert_array_equal(
        ops.circular_shift(weights, shift), [[first, last, ONE_HOT[1, :5]]]
    )


def test_a_blurred_shift_shares_the_weight_out_and_keeps_its_sum():
    got = ops.circular_shift(
        np.array([[[0.0, 0.0, 0.0, 1.0]]]), np.array([[[0.2, 0.5, 0.3]]])
    )
    np.testing.assert_allclose(got, [[[0.3, 0.0, 0.2, 0.5]]], rtol=1e-12)
    values = random_arguments(seed=4, slots=9)
    got = ops.circular_shift(values["weightings"], values["shift"])
    np.testing.assert_allclose(np.sum(got, -1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("slots, offsets", [(5, 2), (5, 4), (5, 0), (5, 7), (2, 3)])
def test_shifts_of_bad_shape_are_refused(slots, offsets):
    with pytest.raises(ValueError, match=rf"Received: shift.shape=\(1, 1, {offsets}\)"):
        ops.circular_shift(np.ones((1, 1, slots)), np.ones((1, 1, offsets)))


def test_sharpening_with_gamma_one_changes_no_weighting():
    weights = random_arguments(seed=0)["weightings"]
    weights[0, 0] = [0.0, 0.25, 0.0, 0.75, 0.0]
    for dtype, tolerance in (("float64", 1e-14), ("float32", 1e-6)):
        got = ops.sharpen(tf.constant(weights, dtype), np.ones((2, 2)))
        np.testing.assert_allclose(got, weights, rtol=tolerance, atol=tolerance)


def test_sharpening_keeps_the_order_and_the_sum():
    weights = random_arguments(seed=0)["weightings"]
    previous = weights
    for gamma in (1.5, 3.0, 20.0):
        got = ops.sharpen(weights, np.full((2, 2), gamma)).numpy()
        np.testing.assert_allclose(got.sum(-1), 1.0, rtol=1e-12)
        np.testing.assert_array_equal(np.argsort(got, -1), np.argsort(weights, -1))
        assert np.all(got.max(-1) > previous.max(-1))
        previous = got


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gamma", [21.0, 1e3, 1e6])
def test_a_large_gamma_gives_one_slot_and_no_nan(gamma, dtype):
    weights = np.array([[[0.1, 0.5, 0.4, 0.0], [1e-30, 0.0, 0.0, 1.0 - 1e-7]]])
    expected = np.array([[ONE_HOT[1, :4], ONE_HOT[3, :4]]])
    sharp = ops.sharpen(tf.constant(weights, dtype), np.full((1, 2), gamma))
    np.testing.assert_allclose(sharp, expected, atol=0.01)  # 0.8^21 is 0.0092
    np.testing.assert_allclose(np.sum(sharp, -1), 1.0, rtol=1e-6)
    _, slopes = gradients(
        lambda *a: ops.sharpen(*a)[..., 1], [weights, np.full((1, 2), gamma)], dtype
    )
    assert all(np.all(np.isfinite(slope)) for slope in slopes)
    # Between equals sharpening does not decide.
    tie = ops.sharpen(tf.constant([[[0.0, 0.5, 0.5, 0.0]]], dtype), [[gamma]])
    np.testing.assert_allclose(tie, [[[0.0, 0.5, 0.5, 0.0]]], atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sharpening_a_weighting_of_zeros_gives_the_uniform_one(dtype):
    weights, gamma = np.zeros((1, 1, 4)), np.full((1, 1), 3.0)
    got = ops.sharpen(tf.constant(weights, dtype), gamma)
    np.testing.assert_allclose(got, 0.25, rtol=1e-6)
    _, slopes = gradients(lambda *a: ops.sharpen(*a)[..., 0], [weights, gamma], dtype)
    assert all(np.all(np.isfinite(slope)) for slope in slopes)


# Reading and writing.


def test_reading_one_slot_gives_its_word_and_two_their_mean():
    memory = random_arguments(seed=0)["memory"]
    weights = np.stack([ONE_HOT[3, :5], 0.5 * (ONE_HOT[0, :5] + ONE_HOT[2, :5])])
    got = ops.read(memory, np.stack([weights, weights]))
    np.testing.assert_array_equal(got[:, 0], memory[:, 3])
    np.testing.assert_allclose(got[:, 1], (memory[:, 0] + memory[:, 2]) / 2)


def test_a_full_write_replaces_the_word_and_touches_no_other():
    memory = random_arguments(seed=0)["memory"]
    word = np.array([[[1.0, -2.0, 3.0]]] * 2)
    weights = np.array([[ONE_HOT[3, :5]]] * 2)
    got = ops.erase_and_add(memory, weights, np.ones((2, 1, 3)), word).numpy()
    np.testing.assert_array_equal(got[:, 3], word[:, 0])
    others = [0, 1, 2, 4]
    np.testing.assert_array_equal(got[:, others], memory[:, others])
    # Nothing erased: what is written adds up. Nothing weighted: nothing happens.
    got = ops.erase_and_add(memory, weights, np.zeros((2, 1, 3)), word)
    np.testing.assert_array_equal(got[:, 3], memory[:, 3] + word[:, 0])
    got = ops.erase_and_add(memory, 0.0 * weights, np.ones((2, 1, 3)), word)
    np.testing.assert_array_equal(got, memory)


def test_heads_erase_before_any_adds_in_whatever_order_they_come():
    values = random_arguments(seed=0, heads=3)
    memory, weights = values["memory"], values["weightings"]
    erase, add = values["erase"], values["keys"]
    expected = ops.erase_and_add(memory, weights, erase, add)
    for order in ([1, 0, 2], [2, 1, 0], [1, 2, 0]):
        got = ops.erase_and_add(
            memory, weights[:, order], erase[:, order], add[:, order]
        )
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    # Two heads wipe one slot: both words survive.
    weights = np.broadcast_to(ONE_HOT[2, :5], (2, 3, 5))
    got = ops.erase_and_add(memory, weights, np.ones((2, 3, 3)), add)
    np.testing.assert_allclose(got[:, 2], add.sum(1), rtol=1e-12)


# Usage and allocation.


@given(seed=st.integers(0, 2**32 - 1), heads=st.integers(1, 4))
@settings(max_examples=25)
def test_usage_rises_with_writes_falls_with_freed_reads_and_stays_a_fraction(
    seed, heads
):
    values = random_arguments(seed, heads=heads)
    before = tf.constant(values["usage"], "float32")
    written = tf.constant(values["written"], "float32")
    after = ops.usage_after_write(before, written).numpy()
    assert np.all(after >= np.maximum(before, written) - 1e-6)
    assert np.all(after <= 1.0 + 1e-6)
    gates, weights = constants([values["gates"], values["weightings"]], "float32")
    kept = (after * ops.retention(gates, weights)).numpy()
    assert np.all(kept >= 0.0)
    assert np.all(kept <= after)


def test_a_full_write_uses_a_slot_up_and_a_freed_full_read_gives_it_back():
    usage = np.array([[0.0, 0.3, 1.0, 0.7]])
    full = ops.usage_after_write(usage, ONE_HOT[[1], :4])
    np.testing.assert_array_equal(full, [[0.0, 1.0, 1.0, 0.7]])
    np.testing.assert_array_equal(ops.usage_after_write(usage, 0.0 * usage), usage)
    reads = ONE_HOT[np.array([[1, 3]]), :4]  # two heads
    for gates, expected in (
        ([[0.0, 0.0]], [[0.0, 1.0, 1.0, 0.7]]),
        ([[1.0, 0.0]], [[0.0, 0.0, 1.0, 0.7]]),
        ([[0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]),
        ([[0.5, 1.0]], [[0.0, 0.5, 1.0, 0.0]]),
    ):
        got = full * ops.retention(np.array(gates), reads)
        np.testing.assert_array_equal(got, expected)


def test_retention_has_a_gradient_where_slots_are_let_go_of_for_good():
    # Two heads free slot 0, one of them fully: the product's gradient is that of the
    # other factors, not 0 / 0.
    gates = np.array([[1.0, 0.5, 1.0]])
    reads = np.array([[[1.0, 0.0], [0.5, 0.0], [0.0, 0.25]]])
    _, (gate_slopes, read_slopes) = gradients(ops.retention, [gates, reads])
    np.testing.assert_allclose(gate_slopes, [[-0.75, 0.0, -0.25]], atol=1e-12)
    np.testing.assert_allclose(
        read_slopes, [[[-0.75, -0.75], [0.0, -0.375], [0.0, -1.0]]], atol=1e-12
    )


def test_allocation_points_to_the_least_used_slot():
    usage = np.array([[0.9, 0.3, 1.0, 0.0, 0.6], [0.2, 1.0, 1.0, 1.0, 1.0]])
    got = ops.allocation_weights(usage).numpy()
    np.testing.assert_allclose(got[0], ONE_HOT[3, :5], atol=1e-5)
    np.testing.assert_allclose(got[1], [0.8, 0.0, 0.0, 0.0, 0.0], atol=1e-5)
    # Half used slots share what is left, the least used first.
    got = ops.allocation_weights(np.array([[0.5, 0.25, 0.75]]))
    np.testing.assert_allclose(got, [[0.25 * 0.5, 0.75, 0.25 * 0.5 * 0.25]], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_allocation_sums_to_one_with_a_free_slot_and_to_nothing_without(dtype):
    rng = np.random.default_rng(0)
    usage = rng.random((20, 8))
    # The sum telescopes: 1 - prod u.
    got = ops.allocation_weights(tf.constant(usage, dtype)).numpy()
    assert np.all(got >= 0.0)
    np.testing.assert_allclose(got.sum(-1), 1 - usage.prod(-1), atol=1e-5)
    usage[np.arange(20), rng.integers(0, 8, 20)] = 0.0
    got = ops.allocation_weights(tf.constant(usage, dtype)).numpy()
    np.testing.assert_allclose(got.sum(-1), 1.0, atol=1e-5)
    full = ops.allocation_weights(tf.ones((2, 8), dtype)).numpy()
    np.testing.assert_allclose(full, 0.0, atol=1e-6)


def test_among_equally_used_slots_the_first_comes_first():
    got = ops.allocation_weights(np.full((1, 4), 0.5))
    np.testing.assert_allclose(got, [[0.5, 0.25, 0.125, 0.0625]], atol=1e-5)
    got = ops.allocation_weights(np.array([[1.0, 0.5, 0.0, 0.5, 0.0]]))
    np.testing.assert_allclose(got, [ONE_HOT[2, :5]], atol=1e-5)
    # Rounding makes no difference; more than 2^-16 does.
    for first, expected in ((0.5 + 1e-6, [0.5, 0.25]), (0.5 + 1e-4, [0.25, 0.5])):
        got = ops.allocation_weights(np.array([[first, 0.5]]))
        np.testing.assert_allclose(got, [expected], atol=2e-4)


@given(
    usage=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=9)
)
@settings(max_examples=40)
def test_allocation_with_ties_is_that_of_the_twin(usage):
    for dtype in ("float32", "float64"):
        got = ops.allocation_weights(tf.constant([usage], dtype))
        np.testing.assert_allclose(got, twin.allocation_weights([usage]), atol=1e-6)


def test_an_empty_memory_is_filled_from_its_first_slot_to_its_last():
    usage = tf.zeros((1, 6))
    for slot in range(6):
        allocation = ops.allocation_weights(usage)
        np.testing.assert_allclose(allocation, ONE_HOT[[slot], :6], atol=1e-5)
        usage = ops.usage_after_write(usage, allocation)


def allocation_in_order(usage, orders):
    """The formula with the order given: what the gradient must differentiate."""
    result = np.zeros_like(usage)
    for b, order in enumerate(orders):
        lifted = 1e-6 + (1 - 1e-6) * usage[b]
        for j, slot in enumerate(order):
            before = [lifted[i] for i in order[:j]]
            result[b, slot] = (1 - lifted[slot]) * np.prod(before)
    return result


@pytest.mark.parametrize(
    "usage",
    [[0.9, 0.3, 0.7, 0.1, 0.5], [0.5, 0.5, 0.2, 0.2, 0.5], [0.0, 0.0, 0.0, 0.0, 0.0]],
    ids=["distinct", "ties", "empty"],
)
def test_the_gradient_of_allocation_is_for_usage_at_a_fixed_order(usage):
    # Where slots tie the order itself jumps; no gradient may come of that.
    usage = np.array([usage])
    order = [np.argsort(usage[0], kind="stable")]
    share = np.random.default_rng(0).normal(size=usage.shape)
    _, (got,) = gradients(lambda u: share * ops.allocation_weights(u), [usage])
    (expected,) = finite_differences(
        lambda u: np.sum(share * allocation_in_order(u, order)), [usage], step=1e-7
    )
    assert np.all(expected != 0.0) or np.all(usage == 0.0)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_allocation_in_float32_is_finite_at_the_ends_and_in_a_large_memory(level):
    value, (slope,) = gradients(
        lambda u: ops.allocation_weights(u)[:, :3],
        [np.full((1, 500), level)],
        "float32",
    )
    assert np.isfinite(value)
    assert np.all(np.isfinite(slope))


# Links.


def written_in_order(order, slots):
    """Link and precedence once the slots were written to, one after the other."""
    link, precedence = tf.zeros((1, slots, slots)), tf.zeros((1, slots))
    for slot in order:
        write_weights = tf.one_hot([slot], slots)
        link = ops.update_link(link, precedence, write_weights)
        precedence = ops.update_precedence(precedence, write_weights)
    return link, precedence


@given(order=st.permutations(range(7)), length=st.integers(2, 7))
@settings(max_examples=15)
def test_a_planted_write_order_is_recovered_and_followed_both_ways(order, length):
    order = order[:length]
    link, precedence = written_in_order(order, slots=7)
    expected = np.zeros((1, 7, 7))
    for earlier, later in zip(order[:-1], order[1:], strict=True):
        expected[0, later, earlier] = 1.0
    np.testing.assert_array_equal(link, expected)
    np.testing.assert_array_equal(precedence, tf.one_hot([order[-1]], 7))

    for path, forward in ((order, True), (order[::-1], False)):
        position = tf.one_hot([[path[0]]], 7)
        for slot in path[1:]:
            position = ops.directional_weights(link, position, forward)
            np.testing.assert_array_equal(position, tf.one_hot([[slot]], 7))
        # Nothing was written after the last, or before the first.
        end = ops.directional_weights(link, position, forward)
        np.testing.assert_array_equal(end, np.zeros((1, 1, 7)))


def test_writing_to_a_slot_again_forgets_its_old_place_in_the_order():
    link, _ = written_in_order([0, 1, 2, 1], slots=3)
    expected = np.zeros((1, 3, 3))
    expected[0, 1, 2] = 1.0  # 0 -> 1 and 1 -> 2 are gone
    np.testing.assert_array_equal(link, expected)


def test_a_step_without_a_write_leaves_the_order_as_it_is():
    link, precedence = written_in_order([2, 0], slots=3)
    nothing = tf.zeros((1, 3))
    np.testing.assert_array_equal(ops.update_link(link, precedence, nothing), link)
    np.testing.assert_array_equal(
        ops.update_precedence(precedence, nothing), precedence
    )


def test_no_slot_is_linked_to_itself():
    values = random_arguments(seed=0)
    link = ops.update_link(values["link"], values["precedence"], values["written"])
    np.testing.assert_array_equal(tf.linalg.diag_part(link), np.zeros((2, 5)))
    link, _ = written_in_order([1, 1, 1], slots=3)
    np.testing.assert_array_equal(link, np.zeros((1, 3, 3)))


@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 12))
@settings(max_examples=15)
def test_links_and_precedence_stay_shares_of_one(seed, steps):
    rng = np.random.default_rng(seed)
    link, precedence = tf.zeros((2, 4, 4)), tf.zeros((2, 4))
    for _ in range(steps):
        # From spread out to nearly one slot, from faint to full writes.
        logits = rng.normal(scale=rng.choice([0.1, 3.0, 30.0]), size=(2, 4))
        amount = rng.choice([0.01, 0.5, 1.0])
        written = tf.constant(amount * common.softmax(logits), "float32")
        link = ops.update_link(link, precedence, written)
        precedence = ops.update_precedence(precedence, written)
        assert np.all(link >= -1e-6)
        assert np.all(np.sum(link, 1) <= 1.0 + 1e-5)
        assert np.all(np.sum(link, 2) <= 1.0 + 1e-5)
        assert np.all(precedence >= -1e-6)
        assert np.all(np.sum(precedence, -1) <= 1.0 + 1e-5)
