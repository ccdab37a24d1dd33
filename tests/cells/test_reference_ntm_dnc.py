"""Sanity tests of the reference implementations in tests/support/reference.

Two kinds: random weights, where the trace must keep the invariants of the papers and
agree with the plain-loop functions of `reference.ops`; and hand-made programs, where
the expected contents of the memory are known without computing anything.
"""

import itertools

import numpy as np
import pytest
from helpers import random_inputs
from reference import common, dnc, ntm, ops

BATCH, STEPS, FEATURES, OUTPUTS, UNITS = 3, 20, 5, 4, 6
SLOTS, WORDS = 8, 5
INPUTS = random_inputs(BATCH, STEPS, FEATURES, seed=1, dtype="float64")
ON, OFF = 20.0, -20.0


def ntm_interface_size(words, read_heads, write_heads, shift_range):
    heads = read_heads + write_heads
    per_head = words + 3 + (2 * shift_range + 1)
    return heads * per_head + 2 * write_heads * words


def dnc_interface_size(words, read_heads, key_masks=False, link_sharpening=False):
    size = words * read_heads + 3 * words + 5 * read_heads + 3
    if key_masks:
        size += words * read_heads + words
    if link_sharpening:
        size += 2 * read_heads
    return size


def random_weights(interface_size, read_heads, controller="lstm", scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    read_size = read_heads * WORDS
    gates = 4 if controller == "lstm" else 1
    shapes = {
        "controller/kernel": (FEATURES + read_size, gates * UNITS),
        "controller/recurrent_kernel": (UNITS, gates * UNITS),
        "controller/bias": (gates * UNITS,),
        "interface_kernel": (UNITS, interface_size),
        "interface_bias": (interface_size,),
        "output_kernel": (UNITS + read_size, OUTPUTS),
        "output_bias": (OUTPUTS,),
    }
    if controller == "dense":
        del shapes["controller/recurrent_kernel"]
    return {name: scale * rng.normal(size=shape) for name, shape in shapes.items()}


def random_weighting(rng, *shape):
    w = rng.random(shape)
    return w / np.sum(w, axis=-1, keepdims=True)


def program(interfaces, read_size):
    """Weights and inputs [1, T, T] that make step t use the interface vector t.

    The dense controller turns the one-hot input t into the one-hot h = e_t; the outputs
    are the read vectors.
    """
    steps = len(interfaces)
    weights = {
        "controller/kernel": np.vstack(
            [100.0 * np.eye(steps), np.zeros((read_size, steps))]
        ),
        "controller/bias": np.zeros(steps),
        "interface_kernel": np.array(interfaces),
        "interface_bias": np.zeros(len(interfaces[0])),
        "output_kernel": np.vstack([np.zeros((steps, read_size)), np.eye(read_size)]),
        "output_bias": np.zeros(read_size),
    }
    return weights, np.eye(steps)[np.newaxis]


# Common pieces.


def test_lstm_gate_order_is_i_f_c_o():
    zeros = np.zeros((1, 4))
    c = np.array([0.3])
    for bias, expected_c in (
        ([ON, OFF, 0.5, ON], np.tanh(0.5)),
        ([OFF, ON, 0.5, ON], 0.3),
        ([ON, ON, 0.5, ON], 0.3 + np.tanh(0.5)),
    ):
        h, new_c = common.lstm_step(
            np.zeros(1), np.zeros(1), c, zeros, zeros, np.array(bias)
        )
        np.testing.assert_allclose(new_c, expected_c, atol=1e-8)
        np.testing.assert_allclose(h, np.tanh(expected_c), atol=1e-8)
    h, _ = common.lstm_step(
        np.zeros(1), np.zeros(1), c, zeros, zeros, np.array([ON, ON, 0.5, OFF])
    )
    np.testing.assert_allclose(h, 0.0, atol=1e-8)


def test_lstm_recurrent_kernel_acts_on_h():
    rng = np.random.default_rng(0)
    kernel, recurrent = rng.normal(size=(2, 12)), rng.normal(size=(3, 12))
    x, h, c, bias = (rng.normal(size=n) for n in (2, 3, 3, 12))
    expected = common.lstm_step(
        np.concatenate([x, h]),
        np.zeros(3),
        c,
        np.vstack([kernel, recurrent]),
        np.zeros((3, 12)),
        bias,
    )
    got = common.lstm_step(x, h, c, kernel, recurrent, bias)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_scalar_functions():
    x = np.array([-700.0, -1.0, 0.0, 1.0, 700.0])
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_allclose(
            common.sigmoid(x)[1:], 1 / (1 + np.exp(-x[1:])), rtol=1e-14
        )
        np.testing.assert_allclose(
            common.softplus(x)[:4], np.log1p(np.exp(x[:4])), rtol=1e-14
        )
        np.testing.assert_allclose(common.oneplus(0.0), 1 + np.log(2))
        np.testing.assert_allclose(common.softmax(x)[-1], 1.0)
    assert common.clip(np.array([-3.0, 1.0, 3.0]), 2.0).tolist() == [-2.0, 1.0, 2.0]
    assert common.clip(x, None) is x


def test_cosine_of_a_zero_vector_is_zero():
    assert common.cosine(np.zeros(3), np.ones(3)) == 0.0
    np.testing.assert_allclose(
        common.cosine(np.array([3.0, 4.0]), np.array([3.0, 4.0])), 1.0, atol=1e-6
    )


def test_layer_norm():
    got = common.layer_norm(np.array([100.0, 300.0]), np.array([1.0, 2.0]), 0.5)
    np.testing.assert_allclose(got, [-0.5, 2.5], atol=1e-6)
    # Variance 1e-3, as large as the epsilon.
    small = np.sqrt(1e-3) * np.array([-1.0, 1.0])
    got = common.layer_norm(small, np.ones(2), np.zeros(2))
    np.testing.assert_allclose(got, [-np.sqrt(0.5), np.sqrt(0.5)])


def test_splitter_is_head_major_and_checks_the_length():
    split = common.Splitter(np.arange(7.0))
    assert split.take(2, 3).tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    with pytest.raises(ValueError, match="uses 6"):
        split.finish()
    with pytest.raises(ValueError, match="only 7"):
        split.take(2)


# The functions of ops.


def test_shift_moves_a_planted_weight_by_the_offset():
    weights = np.zeros((1, 1, 5))
    weights[0, 0, 4] = 1.0
    for offset, slot in ((-2, 2), (-1, 3), (0, 4), (1, 0), (2, 1)):
        shift = np.zeros((1, 1, 5))
        shift[0, 0, offset + 2] = 1.0
        assert np.argmax(ops.circular_shift(weights, shift)) == slot


def test_addressing_functions_keep_weightings():
    rng = np.random.default_rng(0)
    memory, keys = rng.normal(size=(2, SLOTS, WORDS)), rng.normal(size=(2, 3, WORDS))
    strengths = rng.uniform(1, 10, size=(2, 3))
    similarity = ops.cosine_similarity(memory, keys)
    assert np.all(np.abs(similarity) < 1.0)
    content = ops.content_weights(memory, keys, strengths)
    assert np.array_equal(np.argmax(content, -1), np.argmax(similarity, -1))
    previous = random_weighting(rng, 2, 3, SLOTS)
    gated = ops.interpolate(content, previous, rng.random((2, 3)))
    shifted = ops.circular_shift(gated, random_weighting(rng, 2, 3, 3))
    sharp = ops.sharpen(shifted, rng.uniform(1, 5, size=(2, 3)))
    for weights in (content, gated, shifted, sharp):
        np.testing.assert_allclose(np.sum(weights, -1), 1.0)
        assert np.all(weights >= 0.0)
    assert np.all(np.max(sharp, -1) >= np.max(shifted, -1))
    np.testing.assert_array_equal(
        ops.interpolate(content, previous, np.ones((2, 3))), content
    )
    np.testing.assert_allclose(ops.sharpen(shifted, np.ones((2, 3))), shifted)


def test_allocation_goes_to_slots_0_1_2_of_an_empty_memory():
    usage = np.zeros((1, SLOTS))
    for slot in range(SLOTS):
        allocation = ops.allocation_weights(usage)
        np.testing.assert_allclose(allocation, np.eye(SLOTS)[[slot]], atol=1e-5)
        usage = ops.usage_after_write(usage, np.eye(SLOTS)[[slot]])
    np.testing.assert_array_equal(usage, 1.0)
    np.testing.assert_allclose(ops.allocation_weights(usage), 0.0, atol=1e-15)


def test_allocation_prefers_the_least_used_slot_and_sums_to_at_most_one():
    rng = np.random.default_rng(0)
    usage = rng.random((4, SLOTS))
    allocation = ops.allocation_weights(usage)
    assert np.all(np.sum(allocation, -1) <= 1.0)
    # The sum telescopes: 1 - prod u'.
    np.testing.assert_allclose(
        np.sum(allocation, -1), 1 - np.prod(1e-6 + (1 - 1e-6) * usage, -1)
    )
    usage[:, 5] = 0.0
    assert np.array_equal(np.argmax(ops.allocation_weights(usage), -1), [5] * 4)


def test_usage_rises_with_writes_and_is_freed_by_reads():
    rng = np.random.default_rng(0)
    usage, write = rng.random((2, SLOTS)), random_weighting(rng, 2, SLOTS)
    after = ops.usage_after_write(usage, write)
    assert np.all((after >= usage) & (after <= 1.0))
    reads = np.eye(SLOTS)[np.array([[1, 4], [2, 2]])]
    freed = ops.usage_after_read(after, np.array([[1.0, 0.0], [1.0, 0.5]]), reads)
    assert freed[0, 1] == 0.0
    assert freed[1, 2] == 0.0
    assert freed[0, 4] == after[0, 4]


def test_link_follows_a_planted_write_order():
    order = [2, 0, 5, 1]
    link, precedence = np.zeros((1, SLOTS, SLOTS)), np.zeros((1, SLOTS))
    for slot in order:
        write = np.eye(SLOTS)[[slot]]
        link = ops.update_link(link, precedence, write)
        precedence = ops.update_precedence(precedence, write)
        np.testing.assert_array_equal(precedence, write)
    for earlier, later in itertools.pairwise(order):
        at_earlier, at_later = np.eye(SLOTS)[[[earlier]]], np.eye(SLOTS)[[[later]]]
        np.testing.assert_array_equal(
            ops.directional_weights(link, at_earlier, forward=True), at_later
        )
        np.testing.assert_array_equal(
            ops.directional_weights(link, at_later, forward=False), at_earlier
        )


# The NTM.

NTM_CASES = [(1, 1, 1, "lstm"), (2, 1, 2, "dense"), (1, 2, 0, "lstm")]


def run_ntm(read_heads, write_heads, shift_range, controller, **extra):
    size = ntm_interface_size(WORDS, read_heads, write_heads, shift_range)
    weights = random_weights(size, read_heads, controller)
    weights.update(extra)
    return ntm.run(
        weights,
        INPUTS,
        memory_slots=SLOTS,
        word_size=WORDS,
        read_heads=read_heads,
        write_heads=write_heads,
        shift_range=shift_range,
        controller=controller,
    )


@pytest.mark.parametrize("case", NTM_CASES)
def test_ntm_trace(case):
    read_heads, write_heads, _, controller = case
    trace = run_ntm(*case)
    head = (BATCH, STEPS)
    shapes = {
        "outputs": (*head, OUTPUTS),
        "memory": (*head, SLOTS, WORDS),
        "read_weights": (*head, read_heads, SLOTS),
        "write_weights": (*head, write_heads, SLOTS),
        "read_vectors": (*head, read_heads, WORDS),
    }
    for name, shape in shapes.items():
        assert trace[name].shape == shape, name
        assert trace[name].dtype == np.float64
        assert np.all(np.isfinite(trace[name]))
    for name in ("read_weights", "write_weights"):
        np.testing.assert_allclose(np.sum(trace[name], -1), 1.0)
        assert np.all(trace[name] >= 0.0)
    np.testing.assert_allclose(
        trace["read_vectors"], trace["read_weights"] @ trace["memory"]
    )
    parts = 2 if controller == "lstm" else 0
    assert [s.shape for s in trace["controller_state"]] == [(BATCH, UNITS)] * parts


def test_ntm_interface_of_zeros():
    size = ntm_interface_size(WORDS, 2, 1, 1)
    heads, erase, add = ntm._split_interface(np.zeros(size), WORDS, 2, 1, 1)
    for head in heads:
        assert head["key"].tolist() == [0.0] * WORDS
        np.testing.assert_allclose(head["strength"], np.log(2))
        np.testing.assert_allclose(head["gate"], 0.5)
        np.testing.assert_allclose(head["shift"], 1 / 3)
        np.testing.assert_allclose(head["gamma"], 1 + np.log(2))
    np.testing.assert_allclose(erase, 0.5)
    np.testing.assert_allclose(add, 0.0)


def test_ntm_initial_addressing_is_used():
    base = run_ntm(1, 1, 1, "lstm")
    rng = np.random.default_rng(7)
    for name, shape in {
        "initial_memory": (SLOTS, WORDS),
        "initial_read_vectors": (1, WORDS),
        "initial_read_weights": (1, SLOTS),
        "initial_write_weights": (1, SLOTS),
    }.items():
        other = run_ntm(1, 1, 1, "lstm", **{name: rng.normal(size=shape)})
        assert not np.allclose(other["outputs"], base["outputs"]), name


def test_ntm_step_agrees_with_ops():
    rng = np.random.default_rng(3)
    memory = rng.normal(size=(1, SLOTS, WORDS))
    previous = random_weighting(rng, 1, 1, SLOTS)
    shift = random_weighting(rng, 1, 1, 5)
    key = rng.normal(size=(1, 1, WORDS))
    strength, gate, gamma = (np.array([[v]]) for v in (3.0, 0.7, 2.5))
    content = ops.content_weights(memory, key, strength)
    gated = ops.interpolate(content, previous, gate)
    expected = ops.sharpen(ops.circular_shift(gated, shift), gamma)
    head = {"key": key[0, 0], "strength": 3.0, "gate": 0.7, "gamma": 2.5}
    head["shift"] = shift[0, 0]
    got = ntm._address(memory[0], previous[0, 0], head, 2)
    np.testing.assert_allclose(got, expected[0, 0], rtol=1e-12)


def ntm_instruction(
    read_move=0, write_move=0, erase=OFF, add=None, read_key=None, read_gate=OFF
):
    """One interface vector, 1 read head, 1 write head, shift_range 1."""
    none = np.zeros(WORDS)
    moves = np.full((2, 3), OFF)
    moves[0, read_move + 1] = moves[1, write_move + 1] = ON
    return np.concatenate(
        [
            none if read_key is None else read_key,
            none,
            [ON, ON],  # strengths
            [read_gate, OFF],  # interpolation: 1 looks up content, 0 stays
            moves.reshape(-1),
            [ON, ON],  # sharpening
            np.full(WORDS, erase),
            none if add is None else add,
        ]
    )


def test_ntm_runs_a_copy_program():
    words = np.random.default_rng(0).normal(size=(3, WORDS))
    instructions = [ntm_instruction(write_move=1, erase=ON, add=w) for w in words]
    instructions += [ntm_instruction(read_move=1)] * 3
    instructions += [ntm_instruction(read_move=-1)]
    instructions += [ntm_instruction(read_key=words[2], read_gate=ON)]
    weights, inputs = program(instructions, WORDS)
    trace = ntm.run(
        weights, inputs, memory_slots=SLOTS, word_size=WORDS, controller="dense"
    )
    stored = np.tanh(words)
    # The write head starts on slot 0 and moves before it writes.
    assert np.argmax(trace["write_weights"][0, :3, 0], -1).tolist() == [1, 2, 3]
    np.testing.assert_allclose(trace["memory"][0, -1, 1:4], stored, atol=1e-5)
    np.testing.assert_allclose(trace["memory"][0, -1, 4:], 1e-6, atol=1e-7)
    read = trace["outputs"][0, 3:]
    np.testing.assert_allclose(read, stored[[0, 1, 2, 1, 2]], atol=1e-3)
    np.testing.assert_array_equal(trace["outputs"], trace["read_vectors"][:, :, 0])


def test_ntm_two_write_heads_erase_first_and_add_after():
    memory = np.full((2, 2), 3.0)
    write_weights = np.array([[1.0, 0.0], [1.0, 0.0]])
    erase = np.array([[1.0, 0.0], [0.5, 0.5]])
    add = np.array([[1.0, 2.0], [10.0, 20.0]])
    got = ntm._write(memory, write_weights, erase, add)
    np.testing.assert_allclose(got, [[11.0, 1.5 + 22.0], [3.0, 3.0]])


def test_ntm_reads_see_the_write_of_the_same_step():
    word = np.linspace(-1, 1, WORDS)
    weights, inputs = program([ntm_instruction(erase=ON, add=word)], WORDS)
    trace = ntm.run(
        weights, inputs, memory_slots=SLOTS, word_size=WORDS, controller="dense"
    )
    np.testing.assert_allclose(trace["outputs"][0, 0], np.tanh(word), atol=1e-5)


# The DNC.

DNC_CASES = [
    {},
    {"controller": "dense", "read_heads": 1},
    {"key_masks": True, "mask_min": 0.1},
    {"link_sharpening": True},
    {"deallocate": True},
    {"normalize_interface": True},
    {
        "key_masks": True,
        "deallocate": True,
        "link_sharpening": True,
        "normalize_interface": True,
    },
]


def run_dnc(scale=1.0, interface_factor=1.0, extra=(), **options):
    read_heads = options.setdefault("read_heads", 2)
    size = dnc_interface_size(
        WORDS,
        read_heads,
        options.get("key_masks", False),
        options.get("link_sharpening", False),
    )
    weights = random_weights(size, read_heads, options.get("controller", "lstm"), scale)
    for name in ("interface_kernel", "interface_bias"):
        weights[name] = interface_factor * weights[name]
    weights["interface_norm/gamma"] = np.ones(size)
    weights["interface_norm/beta"] = np.zeros(size)
    weights.update(extra)
    return dnc.run(weights, INPUTS, memory_slots=SLOTS, word_size=WORDS, **options)


@pytest.mark.parametrize("options", DNC_CASES, ids=str)
def test_dnc_trace(options):
    trace = run_dnc(**options)
    read_heads = options.get("read_heads", 2)
    head = (BATCH, STEPS)
    shapes = {
        "outputs": (*head, OUTPUTS),
        "memory": (*head, SLOTS, WORDS),
        "read_weights": (*head, read_heads, SLOTS),
        "write_weights": (*head, SLOTS),
        "read_vectors": (*head, read_heads, WORDS),
        "usage": (*head, SLOTS),
        "link": (*head, SLOTS, SLOTS),
        "precedence": (*head, SLOTS),
    }
    for name, shape in shapes.items():
        assert trace[name].shape == shape, name
        assert trace[name].dtype == np.float64
        assert np.all(np.isfinite(trace[name]))
    for name in ("read_weights", "write_weights", "precedence"):
        assert np.all(np.sum(trace[name], -1) <= 1.0 + 1e-12), name
        assert np.all(trace[name] >= 0.0)
    usage, link = trace["usage"], trace["link"]
    assert np.all((usage >= 0.0) & (usage <= 1.0))
    assert np.all(usage[:, 0] == 0.0)
    assert np.all(link >= 0.0)
    assert np.all(np.sum(link, -1) <= 1.0 + 1e-12)
    assert np.all(np.sum(link, -2) <= 1.0 + 1e-12)
    assert np.all(np.diagonal(link, axis1=-2, axis2=-1) == 0.0)
    np.testing.assert_allclose(
        trace["read_vectors"], trace["read_weights"] @ trace["memory"]
    )
    parts = 0 if options.get("controller") == "dense" else 2
    assert [s.shape for s in trace["controller_state"]] == [(BATCH, UNITS)] * parts


def test_dnc_interface_layout():
    size = dnc_interface_size(2, 2, key_masks=True, link_sharpening=True)
    # Numbers small enough for every activation to give them back.
    numbers = np.arange(1.0, size + 1) / 100
    xi = dnc._split_interface(numbers, 2, 2, True, 0.0, True)

    def logit(p):
        return np.log(p / (1 - p))

    def inverse_oneplus(y):
        return np.log(np.expm1(y - 1))

    def from_softmax(p):
        return np.log(p / p[:, :1])

    np.testing.assert_allclose(
        np.concatenate(
            [
                xi["read_keys"].reshape(-1),
                inverse_oneplus(xi["read_strengths"]),
                xi["write_key"],
                inverse_oneplus(xi["write_strength"])[np.newaxis],
                logit(xi["erase"]),
                xi["write_vector"],
                logit(xi["free_gates"]),
                logit(xi["allocation_gate"])[np.newaxis],
                logit(xi["write_gate"])[np.newaxis],
                # A softmax forgets the common part of a head's three numbers.
                (from_softmax(xi["read_modes"]) + numbers[[[17], [20]]]).reshape(-1),
                logit(xi["read_masks"]).reshape(-1),
                logit(xi["write_mask"]),
                inverse_oneplus(xi["forward_sharpness"]),
                inverse_oneplus(xi["backward_sharpness"]),
            ]
        ),
        numbers,
        rtol=1e-9,
    )


def test_dnc_outputs_see_the_read_vectors_head_by_head():
    selector = np.vstack([np.zeros((UNITS, 2 * WORDS)), np.eye(2 * WORDS)])
    bias = np.zeros(2 * WORDS)
    trace = run_dnc(extra={"output_kernel": selector, "output_bias": bias})
    for head in range(2):
        np.testing.assert_allclose(
            trace["outputs"][..., head * WORDS : (head + 1) * WORDS],
            trace["read_vectors"][:, :, head],
        )


def test_dnc_trace_agrees_with_ops():
    trace = run_dnc()
    link, precedence = np.zeros((BATCH, SLOTS, SLOTS)), np.zeros((BATCH, SLOTS))
    for t in range(STEPS):
        write = trace["write_weights"][:, t]
        link = ops.update_link(link, precedence, write)
        precedence = ops.update_precedence(precedence, write)
        np.testing.assert_allclose(trace["link"][:, t], link, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(trace["precedence"][:, t], precedence, rtol=1e-9)
        expected = ops.allocation_weights(trace["usage"][:, t])
        got = [dnc._allocation(u) for u in trace["usage"][:, t]]
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_dnc_usage_agrees_with_ops():
    read_heads = 2
    size = dnc_interface_size(WORDS, read_heads)
    start = read_heads * WORDS + read_heads + WORDS + 1 + WORDS + WORDS
    bias = random_weights(size, read_heads)["interface_bias"]
    kernel = random_weights(size, read_heads)["interface_kernel"]
    kernel[:, start : start + read_heads] = 0.0
    bias[start : start + read_heads] = [0.0, 2.0]
    free_gates = np.tile(common.sigmoid(np.array([0.0, 2.0])), (BATCH, 1))
    trace = run_dnc(extra={"interface_bias": bias, "interface_kernel": kernel})
    usage = np.zeros((BATCH, SLOTS))
    for t in range(1, STEPS):
        usage = ops.usage_after_write(usage, trace["write_weights"][:, t - 1])
        usage = ops.usage_after_read(usage, free_gates, trace["read_weights"][:, t - 1])
        np.testing.assert_allclose(trace["usage"][:, t], usage, rtol=1e-9)


BACKWARD, CONTENT, FORWARD = 0, 1, 2


def dnc_instruction(
    write=None,
    write_key=None,
    read_key=None,
    mode=CONTENT,
    free=OFF,
    masks=None,
    sharpness=None,
):
    """One interface vector with 1 read head.

    A write goes to the slot found by write_key, or else to a newly allocated one. masks
    is (read, write), sharpness (forward, backward).
    """
    none = np.zeros(WORDS)
    modes = np.full(3, OFF)
    modes[mode] = ON
    parts = [
        none if read_key is None else read_key,
        [ON],  # read strength
        none if write_key is None else write_key,
        [ON],  # write strength
        np.full(WORDS, ON),  # erase
        none if write is None else write,
        [free],
        [ON if write_key is None else OFF],  # allocation gate
        [OFF if write is None else ON],  # write gate
        modes,
    ]
    if masks is not None:
        parts += [*masks]
    if sharpness is not None:
        parts += [sharpness]
    return np.concatenate(parts)


def test_dnc_runs_a_program_that_walks_the_links():
    words = np.eye(WORDS)[:4]
    instructions = [dnc_instruction(write=w) for w in words]
    instructions += [dnc_instruction(read_key=words[0])]
    instructions += [dnc_instruction(mode=FORWARD)] * 3
    instructions += [dnc_instruction(mode=BACKWARD)] * 2
    weights, inputs = program(instructions, WORDS)
    trace = dnc.run(
        weights, inputs, memory_slots=SLOTS, word_size=WORDS, controller="dense"
    )
    slots = np.argmax(trace["write_weights"][0, :4], -1)
    assert slots[0] == 0
    assert len(set(slots)) == 4
    np.testing.assert_allclose(trace["memory"][0, -1][slots], words, atol=1e-4)
    read = trace["outputs"][0, 4:]
    np.testing.assert_allclose(read, words[[0, 1, 2, 3, 2, 1]], atol=1e-3)
    np.testing.assert_allclose(trace["usage"][0, -1][slots], 1.0, atol=1e-4)


def test_dnc_free_gate_gives_the_slot_back_and_deallocation_wipes_it():
    word = np.eye(WORDS)[0]
    instructions = [
        dnc_instruction(write=word),
        dnc_instruction(read_key=word),
        dnc_instruction(free=ON),
    ]
    weights, inputs = program(instructions, WORDS)
    for deallocate in (False, True):
        trace = dnc.run(
            weights,
            inputs,
            memory_slots=SLOTS,
            word_size=WORDS,
            controller="dense",
            deallocate=deallocate,
        )
        np.testing.assert_allclose(trace["usage"][0, 1, 0], 1.0, atol=1e-5)
        np.testing.assert_allclose(trace["usage"][0, 2, 0], 0.0, atol=1e-5)
        left = 0.0 if deallocate else word
        np.testing.assert_allclose(trace["memory"][0, 2, 0], left, atol=1e-5)


def test_dnc_deallocation_does_not_blind_the_write_of_the_same_step():
    word = np.eye(WORDS)
    instructions = [
        dnc_instruction(write=word[0]),
        dnc_instruction(write=word[1]),
        dnc_instruction(read_key=word[0]),
        # Frees and wipes word 0, yet finds its slot by content in M_{t-1}.
        dnc_instruction(free=ON, write=word[2], write_key=word[0]),
    ]
    weights, inputs = program(instructions, WORDS)
    trace = dnc.run(
        weights,
        inputs,
        memory_slots=2,
        word_size=WORDS,
        controller="dense",
        deallocate=True,
    )
    np.testing.assert_allclose(trace["memory"][0, 3], word[[2, 1]], atol=1e-4)


def test_dnc_key_masks_hide_a_part_of_the_word():
    words = np.array([[1.0, 0, 0, 0, 1.0], [0, 1.0, 0, 0, -1.0]])
    # The first four numbers of the key say word 1, the last one says word 0, louder.
    key = np.array([0, 1.0, 0, 0, 5.0])
    everything, hide_last = np.full(WORDS, ON), np.array([ON, ON, ON, ON, OFF])
    new_word = np.array([0, 0, 1.0, 0, 0])
    for read_mask, read_slot in ((everything, 0), (hide_last, 1)):
        for write_mask, written_slot in ((everything, 0), (hide_last, 1)):
            masks = (read_mask, write_mask)
            instructions = [dnc_instruction(write=w, masks=masks) for w in words]
            instructions += [dnc_instruction(read_key=key, masks=masks)]
            instructions += [
                dnc_instruction(write=new_word, write_key=key, masks=masks)
            ]
            weights, inputs = program(instructions, WORDS)
            trace = dnc.run(
                weights,
                inputs,
                memory_slots=2,
                word_size=WORDS,
                controller="dense",
                key_masks=True,
            )
            np.testing.assert_allclose(
                trace["outputs"][0, 2], words[read_slot], atol=1e-2
            )
            expected = words.copy()
            expected[written_slot] = new_word
            np.testing.assert_allclose(trace["memory"][0, 3], expected, atol=1e-2)


@pytest.mark.parametrize("mode", [FORWARD, BACKWARD])
def test_dnc_link_sharpness_acts_on_its_own_direction(mode):
    word = np.eye(WORDS)
    # Three words in a row; a blurred read of two of them, then one step along the link.
    blurred = (0, 1) if mode == FORWARD else (1, 2)
    target = (1, 2) if mode == FORWARD else (0, 1)
    key = 1.1 * word[blurred[0]] + word[blurred[1]]
    for sharp_direction in (FORWARD, BACKWARD):
        sharpness = (ON, OFF) if sharp_direction == FORWARD else (OFF, ON)
        instructions = [dnc_instruction(write=w, sharpness=sharpness) for w in word[:3]]
        instructions += [
            dnc_instruction(read_key=key, sharpness=sharpness),
            dnc_instruction(mode=mode, sharpness=sharpness),
        ]
        weights, inputs = program(instructions, WORDS)
        trace = dnc.run(
            weights,
            inputs,
            memory_slots=3,
            word_size=WORDS,
            controller="dense",
            link_sharpening=True,
        )
        slots = np.argmax(trace["write_weights"][0, :3], -1)
        before = trace["read_weights"][0, 3, 0][slots[list(blurred)]]
        after = trace["read_weights"][0, 4, 0][slots[list(target)]]
        assert 1.5 < before[0] / before[1] < 10
        exponent = 21 if sharp_direction == mode else 1
        expected = before**exponent / np.sum(before**exponent)
        np.testing.assert_allclose(after, expected, atol=1e-4)


def test_dnc_open_mask_is_no_mask():
    base = run_dnc()
    size, masks = dnc_interface_size(WORDS, 2), 3 * WORDS
    kernel = np.hstack(
        [random_weights(size, 2)["interface_kernel"], np.zeros((UNITS, masks))]
    )
    plain = random_weights(size, 2)
    extra = dict(
        plain,
        interface_kernel=kernel,
        interface_bias=np.concatenate([plain["interface_bias"], np.zeros(masks)]),
    )
    # mask_min 1 leaves 1 + 0 * sigmoid(.).
    trace = run_dnc(extra=extra, key_masks=True, mask_min=1.0)
    np.testing.assert_allclose(trace["outputs"], base["outputs"], rtol=1e-9)


def test_dnc_sharpened_links_are_distributions():
    rng = np.random.default_rng(0)
    d = 0.5 * random_weighting(rng, SLOTS)
    sharp = dnc._sharpen(d, 1.0)
    np.testing.assert_allclose(sharp, d / np.sum(d), atol=1e-5)
    sharper = dnc._sharpen(d, 30.0)
    np.testing.assert_allclose(np.sum(sharper), 1.0)
    assert np.argmax(sharper) == np.argmax(d)
    assert np.max(sharper) > np.max(sharp)
    # No link yet: an even spread, not NaN.
    np.testing.assert_allclose(dnc._sharpen(np.zeros(SLOTS), 5.0), 1 / SLOTS)


def test_dnc_normalised_interface_ignores_the_scale_of_the_projection():
    base = run_dnc(normalize_interface=True, interface_factor=1e3)
    louder = run_dnc(normalize_interface=True, interface_factor=1e4)
    np.testing.assert_allclose(louder["outputs"], base["outputs"], atol=1e-5)
    assert not np.allclose(run_dnc()["outputs"], base["outputs"], atol=1e-2)


def test_layouts_of_the_wrong_size_are_refused():
    size = dnc_interface_size(WORDS, 2)
    bias, kernel = np.zeros(size + 1), np.zeros((UNITS, size + 1))
    with pytest.raises(ValueError, match="layout"):
        run_dnc(extra={"interface_bias": bias, "interface_kernel": kernel})


def test_clip_value_bounds_the_outputs():
    for clip_value in (0.5, None):
        trace = run_dnc(scale=3.0, clip_value=clip_value)
        largest = np.max(np.abs(trace["outputs"]))
        assert largest == 0.5 if clip_value else largest > 0.5
