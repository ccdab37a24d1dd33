"""Sanity tests of SAM and DAM in tests/support/reference.

Two kinds: random weights, where SAM's sparse and dense forms must agree and the trace
must explain itself; and hand-made programs, where slots and weights are known without
computing anything.
"""

import numpy as np
import pytest
from helpers import random_inputs
from reference import common, dam, sam

BATCH, STEPS, FEATURES, OUTPUTS, UNITS = 3, 25, 5, 4, 6
SLOTS, WORDS = 7, 5
INPUTS = random_inputs(BATCH, STEPS, FEATURES, seed=1, dtype="float64")
# Without clipping these make gates of exactly 1, 1/2 and 0; a strength of 1001 reads
# one word alone.
ON, HALF, OFF = 1000.0, 0.0, -1000.0
EYE = np.eye(WORDS)
ZERO = np.zeros(WORDS)

SAM_FORMS = {"sparse": sam.run, "dense": sam.run_dense}
RUNS = {**SAM_FORMS, "dam": dam.run}
each_sam_form = pytest.mark.parametrize("run", SAM_FORMS.values(), ids=SAM_FORMS)
each_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def random_weights(read_heads=2, write_heads=1, controller="lstm", scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    read_size = read_heads * WORDS
    interface_size = read_heads * (WORDS + 1) + write_heads * (WORDS + 2)
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


def random_mask(seed=2):
    mask = np.random.default_rng(seed).random((BATCH, STEPS)) < 0.7
    mask[0, :3] = False
    return mask


def instruction(queries, write=(ZERO,), gate=(ON,), follow=(OFF,), strength=ON):
    """One interface vector; queries [R, W], write [H, W], both gates [H] as logits."""
    strengths = np.full(len(queries), strength)
    parts = [np.ravel(queries), strengths, np.ravel(write), gate, follow]
    return np.concatenate(parts)


def run_program(run, interfaces, slots, read_heads=1, write_heads=1, **options):
    """Run with the interface vector t in step t; the trace without its batch axis.

    The dense controller turns the one-hot input t into the one-hot h = e_t; the outputs
    are the read vectors.
    """
    steps, read_size = len(interfaces), read_heads * WORDS
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
    trace = run(
        weights,
        np.eye(steps)[np.newaxis],
        memory_slots=slots,
        word_size=WORDS,
        read_heads=read_heads,
        write_heads=write_heads,
        controller="dense",
        clip_value=None,
        **options,
    )
    del trace["controller_state"]
    return {name: value[0] for name, value in trace.items()}


def assert_same(got, expected, atol=1e-12):
    assert got.keys() == expected.keys()
    for name in got:
        if name == "controller_state":
            assert len(got[name]) == len(expected[name])
            for part, other in zip(got[name], expected[name], strict=True):
                np.testing.assert_allclose(part, other, atol=atol)
        else:
            np.testing.assert_allclose(
                got[name], expected[name], atol=atol, err_msg=name
            )


# Random weights.

CASES = {
    "one head": {"read_heads": 1},
    "mean of heads": {"read_heads": 3},
    "paired heads": {"read_heads": 3, "write_heads": 3},
    "dense": {"controller": "dense", "write_heads": 2},
    "given": {"given": 3, "write_heads": 2},
    "given all": {"given": SLOTS},
    "masked": {"mask": random_mask(), "given": 2},
    "low threshold": {"usage_threshold": 0.005, "given": 5, "write_heads": 2},
    "clip": {"clip_value": 0.7},
    "no clip": {"clip_value": None},
    "first reads": {"first_reads": True},
}


def run_random(run, options):
    options = {"read_heads": 2, "memory_slots": SLOTS, "word_size": WORDS, **options}
    rng = np.random.default_rng(3)
    weights = random_weights(
        options["read_heads"],
        options.get("write_heads", 1),
        options.get("controller", "lstm"),
        scale=1.5,
    )
    # Reads so sharp, and a threshold so high, that not every slot is accessed in every
    # step even with K = N: equal rows, as of fresh memory, are read evenly.
    if run is not dam.run:
        options.setdefault("usage_threshold", 0.2 * options["read_heads"])
    size = options["read_heads"] * WORDS
    weights["interface_bias"][size : size + options["read_heads"]] += 8.0
    if "given" in options:
        rows = options.pop("given")
        options["given_memory"] = rng.normal(size=(BATCH, rows, WORDS))
    if options.pop("first_reads", False):
        first = rng.normal(size=(options["read_heads"], WORDS))
        weights["initial_read_vectors"] = first
    return weights, options, run(weights, INPUTS, **options)


@pytest.mark.parametrize("reads_per_head", [1, 4, SLOTS])
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_sparse_and_dense_sam_agree(options, reads_per_head):
    options = {**options, "reads_per_head": reads_per_head}
    _, _, sparse = run_random(sam.run, options)
    if reads_per_head == SLOTS:
        del options["reads_per_head"]  # K = N is what run_dense does on its own.
    _, _, dense = run_random(sam.run_dense, options)
    assert_same(sparse, dense, atol=1e-9)
    for name in ("read_slots", "lra_slots", "last_access"):
        assert sparse[name].dtype == dense[name].dtype == np.int64
    assert len(np.unique(sparse["lra_slots"])) >= 3
    assert len(np.unique(sparse["read_slots"])) >= 3


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_sam_trace_explains_itself(options):
    _, options, trace = run_random(sam.run, {**options, "reads_per_head": 3})
    heads, write_heads = options["read_heads"], options.get("write_heads", 1)
    mask = options.get("mask", np.ones((BATCH, STEPS), dtype=bool))
    head = (BATCH, STEPS)
    shapes = {
        "outputs": (*head, OUTPUTS),
        "memory": (*head, SLOTS, WORDS),
        "read_slots": (*head, heads, 3),
        "read_weights": (*head, heads, 3),
        "dense_read_weights": (*head, heads, SLOTS),
        "dense_write_weights": (*head, write_heads, SLOTS),
        "lra_slots": (*head, write_heads),
        "read_vectors": (*head, heads, WORDS),
        "last_access": (*head, SLOTS),
    }
    assert {name: trace[name].shape for name in shapes} == shapes
    assert set(trace) == {*shapes, "controller_state"}
    parts = 0 if options.get("controller") == "dense" else 2
    assert [s.shape for s in trace["controller_state"]] == [(BATCH, UNITS)] * parts

    reads, writes = trace["dense_read_weights"], trace["dense_write_weights"]
    started = np.cumsum(mask, axis=1) > 0
    np.testing.assert_allclose(np.sum(reads, -1)[started], 1.0)
    assert np.all(np.diff(trace["read_weights"], axis=-1) <= 0.0)
    np.testing.assert_array_equal(
        np.take_along_axis(reads, trace["read_slots"], -1), trace["read_weights"]
    )
    assert np.all(np.sum(reads > 0, -1) <= 3)
    assert np.all(np.sum(writes > 0, -1) <= (heads if write_heads == 1 else 1) * 3 + 1)
    np.testing.assert_allclose(
        trace["read_vectors"][started], (reads @ trace["memory"])[started]
    )
    threshold = options["usage_threshold"]
    given = len(options.get("given_memory", np.empty((1, 0)))[0])
    for b in range(BATCH):
        last_access, time = np.array([1] * given + [0] * (SLOTS - given)), 2
        for t in np.flatnonzero(mask[b]):
            oldest = np.argsort(last_access, kind="stable")[:write_heads]
            assert trace["lra_slots"][b, t].tolist() == oldest.tolist()
            accessed = np.sum(writes[b, t], 0) + np.sum(reads[b, t], 0) > threshold
            last_access[accessed] = time
            assert trace["last_access"][b, t].tolist() == last_access.tolist()
            time += 1
            untouched = np.all(writes[b, t] == 0, 0)
            if t:
                np.testing.assert_array_equal(
                    trace["memory"][b, t][untouched],
                    trace["memory"][b, t - 1][untouched],
                )


@pytest.mark.parametrize("name", [n for n in CASES if n != "low threshold"])
def test_dam_trace_explains_itself(name):
    _, options, trace = run_random(dam.run, {**CASES[name], "discount": 0.9})
    heads, write_heads = options["read_heads"], options.get("write_heads", 1)
    mask = options.get("mask", np.ones((BATCH, STEPS), dtype=bool))
    shapes = {
        "outputs": (BATCH, STEPS, OUTPUTS),
        "memory": (BATCH, STEPS, SLOTS, WORDS),
        "read_weights": (BATCH, STEPS, heads, SLOTS),
        "write_weights": (BATCH, STEPS, write_heads, SLOTS),
        "least_used_slots": (BATCH, STEPS, write_heads),
        "read_vectors": (BATCH, STEPS, heads, WORDS),
        "usage": (BATCH, STEPS, SLOTS),
    }
    assert {name: trace[name].shape for name in shapes} == shapes
    assert set(trace) == {*shapes, "controller_state"}
    reads, writes = trace["read_weights"], trace["write_weights"]
    started = np.cumsum(mask, axis=1) > 0
    np.testing.assert_allclose(np.sum(reads, -1)[started], 1.0)
    np.testing.assert_allclose(
        trace["read_vectors"][started], (reads @ trace["memory"])[started]
    )
    given = len(options.get("given_memory", np.empty((1, 0)))[0])
    for b in range(BATCH):
        usage = np.array([1.0] * given + [0.0] * (SLOTS - given))
        for t in np.flatnonzero(mask[b]):
            # The recomputed usage may split a tie by rounding; the traced one not.
            before = trace["usage"][b, t - 1] if t else usage
            least = np.argsort(before, kind="stable")[:write_heads]
            assert trace["least_used_slots"][b, t].tolist() == least.tolist()
            usage = 0.9 * usage + np.sum(writes[b, t], 0) + np.sum(reads[b, t], 0)
            np.testing.assert_allclose(trace["usage"][b, t], usage)


def test_dam_begins_like_dense_sam():
    # Later the usage of one and the times of the other choose different slots.
    for options in ({}, {"write_heads": 2}, {"given": 4}):
        _, _, one = run_random(dam.run, options)
        _, _, other = run_random(sam.run_dense, options)
        for name in ("outputs", "memory", "read_vectors"):
            np.testing.assert_allclose(one[name][:, 0], other[name][:, 0])
        for kind in ("read_weights", "write_weights"):
            np.testing.assert_allclose(one[kind][:, 0], other[f"dense_{kind}"][:, 0])


@each_run
def test_a_masked_step_is_as_good_as_absent(run):
    options = {"read_heads": 2, "write_heads": 2}
    options |= {"memory_slots": SLOTS, "word_size": WORDS}
    weights, inputs, mask = (
        random_weights(write_heads=2),
        INPUTS,
        random_mask(),
    )
    trace = run(weights, inputs, mask=mask, **options)
    per_step = trace.keys() - {"controller_state"}
    acts = {"dense_write_weights": 0.0, "lra_slots": -1}
    acts |= {"write_weights": 0.0, "least_used_slots": -1}
    for b in range(BATCH):
        short = run(weights, inputs[b : b + 1][:, mask[b]], **options)
        got = {name: trace[name][b : b + 1, mask[b]] for name in per_step}
        got["controller_state"] = tuple(s[b : b + 1] for s in trace["controller_state"])
        assert_same(got, short)
        for t in np.flatnonzero(~mask[b]):
            for name in per_step - acts.keys():
                if t:
                    np.testing.assert_array_equal(
                        trace[name][b, t], trace[name][b, t - 1]
                    )
            for name in per_step & acts.keys():
                assert np.all(trace[name][b, t] == acts[name])
    # Before the first step.
    assert not mask[0, 0]
    np.testing.assert_array_equal(trace["outputs"][0, 0], 0.0)
    np.testing.assert_array_equal(trace["memory"][0, 0], 1e-6)
    if run is not dam.run:
        np.testing.assert_array_equal(trace["last_access"][0, 0], 0)
        np.testing.assert_array_equal(trace["dense_read_weights"][0, 0], 0.0)
    trace = sam.run(weights, inputs, mask=mask, **options)
    assert trace["read_slots"][0, 0].tolist() == [[0, 1, 2, 3]] * 2
    assert trace["read_weights"][0, 0].tolist() == [[0.0] * 4] * 2


@each_run
def test_controller_and_outputs_see_the_read_vectors(run):
    weights = random_weights(controller="dense")
    weights["initial_read_vectors"] = np.random.default_rng(5).normal(size=(2, WORDS))
    size = UNITS + 2 * WORDS
    weights["output_kernel"], weights["output_bias"] = np.eye(size), np.zeros(size)
    options = {"read_heads": 2, "controller": "dense"}
    options |= {"memory_slots": SLOTS, "word_size": WORDS}
    inputs = INPUTS
    trace = run(weights, inputs, **options)
    h, reads = trace["outputs"][..., :UNITS], trace["outputs"][..., UNITS:]
    expected = trace["read_vectors"].reshape(BATCH, STEPS, -1)
    np.testing.assert_array_equal(reads, expected)
    first = np.tile(weights["initial_read_vectors"].reshape(1, 1, -1), (BATCH, 1, 1))
    chi = np.concatenate([inputs, np.hstack([first, reads[:, :-1]])], -1)
    z = chi @ weights["controller/kernel"] + weights["controller/bias"]
    np.testing.assert_allclose(h, np.tanh(z))


@each_run
def test_clip_value_bounds_the_outputs(run):
    options = {"read_heads": 2, "memory_slots": SLOTS, "word_size": WORDS}
    for clip_value in (0.5, None):
        weights = random_weights(scale=3.0)
        trace = run(weights, INPUTS, clip_value=clip_value, **options)
        largest = np.max(np.abs(trace["outputs"]))
        assert largest == 0.5 if clip_value else largest > 0.5


@each_run
def test_clip_value_bounds_the_interface(run):
    options = {"read_heads": 2, "memory_slots": SLOTS, "word_size": WORDS}
    weights = random_weights()
    weights["interface_kernel"][:] = 0.0
    clipped = {**weights, "interface_bias": np.clip(weights["interface_bias"], -1, 1)}
    trace = run(weights, INPUTS, clip_value=1.0, **options)
    assert_same(run(clipped, INPUTS, clip_value=1.0, **options), trace)
    other = run(weights, INPUTS, **options)
    assert not np.allclose(other["memory"], trace["memory"])


# The parts.


@pytest.mark.parametrize("twin", [sam, dam])
@pytest.mark.parametrize("write_heads", [1, 2])
def test_interface_layout(twin, write_heads):
    # Numbers small enough for every activation to give them back.
    numbers = np.arange(1.0, 2 * (3 + 1) + write_heads * (3 + 2) + 1) / 100
    p = twin._split_interface(numbers, 3, 2, write_heads)
    assert p["queries"].shape == (2, 3)
    assert p["write_vectors"].shape == (write_heads, 3)
    gates = np.concatenate([p["write_gates"], p["interpolation_gates"]])
    blocks = [
        p["queries"].reshape(-1),
        np.log(np.expm1(p["strengths"] - 1)),
        p["write_vectors"].reshape(-1),
        np.log(gates / (1 - gates)),
    ]
    np.testing.assert_allclose(np.concatenate(blocks), numbers, rtol=1e-9)
    with pytest.raises(ValueError, match="layout"):
        twin._split_interface(np.append(numbers, 0.0), 3, 2, write_heads)


def test_equal_rows_tie_exactly():
    rng = np.random.default_rng(0)
    for word_size in range(1, 70):
        memory = rng.normal(size=(3, word_size))[rng.integers(3, size=50)]
        query = rng.normal(size=word_size)
        scores = {common.cosine(row, query) for row in memory}
        assert len(scores) <= 3


def test_arguments_that_make_no_sense_are_refused():
    weights, inputs = random_weights(3, 3), INPUTS
    for run in RUNS.values():
        for bad in (
            {"write_heads": 2},
            {"given_memory": np.zeros((SLOTS + 1, WORDS))},
            {"given_memory": np.zeros((2, WORDS + 1))},
        ):
            options = {"memory_slots": SLOTS, "word_size": WORDS, "read_heads": 3}
            with pytest.raises(ValueError, match="head|given"):
                run(weights, inputs, **{**options, **bad})
    with pytest.raises(ValueError, match="cannot read"):
        sam.run(weights, inputs, memory_slots=3, word_size=WORDS, read_heads=3)
    options = {"memory_slots": 2, "word_size": WORDS}
    options |= {"read_heads": 3, "write_heads": 3}
    with pytest.raises(ValueError, match="as many slots"):
        sam.run(weights, inputs, reads_per_head=1, **options)
    with pytest.raises(ValueError, match="as many slots"):
        dam.run(weights, inputs, **options)


# Programs: reading.


@each_sam_form
def test_reads_the_k_most_similar_words_whatever_their_length(run):
    # Cosines with e0: 0.6, -1, 0, 1, 0.8; the dot products rank the rows otherwise.
    given = np.stack(
        [
            60 * EYE[0] + 80 * EYE[1],
            -EYE[0],
            EYE[1],
            0.5 * EYE[0],
            0.8 * EYE[0] - 0.6 * EYE[1],
        ]
    )
    read = instruction([3 * EYE[0]], gate=[OFF], strength=2.0)
    trace = run_program(run, [read], 6, reads_per_head=3, given_memory=given)
    assert trace["read_slots"][0, 0].tolist() == [3, 4, 0]
    scores = np.array([1.0, 0.8, 0.6])
    expected = common.softmax((1 + np.log1p(np.exp(2.0))) * scores)
    np.testing.assert_allclose(trace["read_weights"][0, 0], expected, atol=1e-5)
    np.testing.assert_allclose(
        trace["outputs"][0], expected @ given[[3, 4, 0]], atol=1e-3
    )


@each_sam_form
def test_equal_rows_are_read_lowest_slot_first(run):
    given = np.stack([EYE[1], EYE[0], EYE[1], EYE[0]])
    # Slot 4 is erased, slot 5 is as good as orthogonal.
    for query, slots in (
        (EYE[0], [1, 3, 5]),
        (EYE[1], [0, 2, 5]),
        (-EYE[0], [0, 2, 4]),
        (ZERO, [0, 1, 2]),
    ):
        read = instruction([query], gate=[OFF], strength=0.0)
        trace = run_program(run, [read], 6, reads_per_head=3, given_memory=given)
        assert trace["read_slots"][0, 0].tolist() == slots
        weights = trace["read_weights"][0, 0]
        assert weights[0] == weights[1]


# Programs: which slot is erased and written.


def write_and_read_back(slots, steps):
    words = [EYE[t % WORDS] + 0.1 * t * EYE[(t + 1) % WORDS] for t in range(steps)]
    return words, [instruction([w], write=[w]) for w in words]


@each_sam_form
@pytest.mark.parametrize("reads_per_head", [1, 4])
def test_fresh_memory_fills_from_the_first_slot_and_wraps_around(run, reads_per_head):
    words, program = write_and_read_back(4, 10)
    trace = run_program(run, program, 4, reads_per_head=reads_per_head)
    order = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert trace["lra_slots"][:, 0].tolist() == order
    np.testing.assert_array_equal(trace["dense_write_weights"][:, 0], np.eye(4)[order])
    np.testing.assert_array_equal(trace["memory"][-1], np.array(words)[[8, 9, 6, 7]])
    # The read sees the word written in the same step.
    np.testing.assert_allclose(trace["outputs"], words, atol=1e-12)
    assert trace["last_access"][:3].tolist() == [
        [2, 0, 0, 0],
        [2, 3, 0, 0],
        [2, 3, 4, 0],
    ]


@each_sam_form
def test_a_read_is_an_access_too(run):
    words, program = write_and_read_back(3, 3)
    program += [instruction([EYE[4]], write=[EYE[4]])]
    trace = run_program(run, program, 3, reads_per_head=1)
    assert trace["lra_slots"][:, 0].tolist() == [0, 1, 2, 0]
    program[2] = instruction([words[0]], write=[words[2]])  # Word 0 is needed again.
    trace = run_program(run, program, 3, reads_per_head=1)
    assert trace["read_slots"][:, 0, 0].tolist() == [0, 1, 0, 1]
    assert trace["last_access"][2].tolist() == [4, 3, 4]
    assert trace["lra_slots"][:, 0].tolist() == [0, 1, 2, 1]


@each_sam_form
def test_a_blurred_read_accesses_all_its_slots(run):
    blurred = instruction([ZERO], write=[EYE[0]])
    trace = run_program(run, [blurred] * 3, 9, reads_per_head=4)
    assert trace["lra_slots"][:, 0].tolist() == [0, 4, 5]
    assert trace["last_access"][2].tolist() == [4] * 4 + [3, 4] + [0] * 3


@each_sam_form
def test_erasing_is_not_gated_and_adding_is(run):
    given = np.stack([EYE[0], EYE[1]])
    # Reads go to slot 0.
    closed = instruction([EYE[0]], write=[EYE[2]], gate=[OFF])
    ajar = instruction([EYE[0]], write=[EYE[2]], gate=[HALF])
    options = {"given_memory": given, "reads_per_head": 1}
    trace = run_program(run, [closed, ajar], 2, **options)
    # Both rows are as old; slot 0 goes first, though the query asks for its word.
    np.testing.assert_array_equal(trace["memory"][0], [ZERO, EYE[1]])
    np.testing.assert_array_equal(trace["dense_write_weights"][0], 0.0)
    assert trace["lra_slots"][:, 0].tolist() == [0, 1]
    np.testing.assert_array_equal(trace["memory"][1], [ZERO, 0.5 * EYE[2]])


@each_sam_form
def test_usage_threshold_of_a_write_at_its_default(run):
    for weight, slots in ((0.0049, [1, 1, 1]), (0.0051, [1, 2, 3])):
        logit = np.log(weight / (1 - weight))
        write = instruction([EYE[0]], write=[EYE[1]], gate=[logit])
        options = {"given_memory": EYE[:1], "reads_per_head": 1}
        trace = run_program(run, [write] * 3, 5, **options)
        assert trace["lra_slots"][:, 0].tolist() == slots
        # An unaccessed slot is erased again before the next add.
        np.testing.assert_allclose(
            trace["memory"][2][slots[-1]], weight * EYE[1], rtol=1e-12
        )


@each_sam_form
def test_usage_must_exceed_the_threshold(run):
    blurred = instruction([ZERO], gate=[OFF])  # 1/4 for slots 0 to 3.
    for threshold, time in ((0.25, 0), (0.2499, 2)):
        options = {"usage_threshold": threshold, "reads_per_head": 4}
        trace = run_program(run, [blurred], 5, **options)
        assert trace["last_access"][0].tolist() == [time] * 4 + [0]


@each_sam_form
def test_usage_sums_over_heads_and_over_writes_and_reads(run):
    options = {"reads_per_head": 2, "read_heads": 2}
    # Slots 0, 1 are read with 1/2 by both heads.
    both = instruction([ZERO, ZERO], gate=[OFF])
    for threshold, time in ((0.6, 2), (1.0, 0)):
        trace = run_program(run, [both], 3, usage_threshold=threshold, **options)
        assert trace["last_access"][0].tolist() == [time, time, 0]
    # A write of 1/2 to slot 0 on top; it holds zeros.
    both = instruction([ZERO, ZERO], gate=[HALF])
    for threshold, times in ((0.9, [2, 2, 0]), (1.4, [2, 0, 0]), (1.5, [0, 0, 0])):
        trace = run_program(run, [both], 3, usage_threshold=threshold, **options)
        assert trace["last_access"][0].tolist() == times
    # Two write heads, 1/2 each, that both follow reads of slot 0.
    options |= {"reads_per_head": 1, "write_heads": 2, "given_memory": EYE[:1]}
    gates = {"write": [ZERO] * 2, "follow": [ON] * 2}
    program = [
        instruction([EYE[0]] * 2, gate=[OFF] * 2, **gates),
        instruction([ZERO] * 2, gate=[HALF] * 2, **gates),
    ]
    for threshold, time in ((2.9, 3), (3.0, 1)):
        trace = run_program(run, program, 4, usage_threshold=threshold, **options)
        # Reads of slot 0 weigh 2, writes 1 more.
        np.testing.assert_array_equal(trace["dense_write_weights"][1, :, 0], 0.5)
        assert trace["last_access"][1, 0] == time


# Programs: writing where one has read.


@each_sam_form
def test_one_write_head_follows_the_mean_of_the_reads(run):
    options = {"read_heads": 2, "reads_per_head": 1, "given_memory": EYE[:2]}
    for second, expected in ((0, [1.0, 0, 0, 0]), (1, [0.5, 0.5, 0, 0])):
        program = [
            instruction([EYE[0], EYE[second]], gate=[OFF]),
            instruction([ZERO, ZERO], write=[EYE[4]], follow=[ON]),
        ]
        trace = run_program(run, program, 4, **options)
        np.testing.assert_array_equal(trace["dense_write_weights"][1, 0], expected)
        # Previously read words are added to, not erased.
        np.testing.assert_array_equal(
            trace["memory"][1][:2], EYE[:2] + np.outer(expected[:2], EYE[4])
        )


@each_sam_form
def test_every_write_head_follows_its_own_read_head(run):
    options = {"read_heads": 2, "write_heads": 2, "reads_per_head": 1}
    options["given_memory"] = EYE[:2]
    for second in (0, 1):
        program = [
            instruction([EYE[0], EYE[second]], [ZERO] * 2, [OFF] * 2, [OFF] * 2),
            instruction(
                [ZERO, ZERO],
                write=[EYE[3], EYE[4]],
                gate=[ON, HALF],
                follow=[ON, HALF],
            ),
        ]
        trace = run_program(run, program, 5, **options)
        # Nothing was accessed in slots 2 and 3, erased in the first step: again theirs.
        assert trace["lra_slots"].tolist() == [[2, 3], [2, 3]]
        expected = np.zeros((2, 5))
        expected[0, 0] = 1.0
        expected[1, second] += 0.25
        expected[1, 3] += 0.25
        np.testing.assert_array_equal(trace["dense_write_weights"][1], expected)
        memory = np.vstack([EYE[:2], np.zeros((2, WORDS)), np.full((1, WORDS), 1e-6)])
        memory += np.outer(expected[0], EYE[3]) + np.outer(expected[1], EYE[4])
        np.testing.assert_array_equal(trace["memory"][1], memory)


@each_sam_form
def test_first_step_has_no_reads_to_follow(run):
    write = instruction([ZERO], write=[EYE[0]], follow=[ON])
    trace = run_program(run, [write], 3, reads_per_head=2)
    np.testing.assert_array_equal(trace["dense_write_weights"], 0.0)


@each_sam_form
def test_least_recently_accessed_slot_may_be_among_the_just_read(run):
    program = [
        instruction([ZERO], write=[EYE[0]]),
        instruction([ZERO], write=[EYE[1]], follow=[HALF]),
    ]
    trace = run_program(run, program, 2, reads_per_head=2)
    assert trace["lra_slots"][:, 0].tolist() == [0, 0]
    np.testing.assert_array_equal(trace["dense_write_weights"][1, 0], [0.75, 0.25])
    np.testing.assert_allclose(
        trace["memory"][1], [0.75 * EYE[1], 1e-6 + 0.25 * EYE[1]], rtol=1e-15
    )


@each_sam_form
def test_all_heads_erase_before_any_adds(run):
    program = [
        instruction([EYE[1], EYE[0]], EYE[:2], [ON] * 2, [OFF] * 2),
        instruction([ZERO, ZERO], EYE[2:4], [ON] * 2, [HALF] * 2),
    ]
    options = {"read_heads": 2, "write_heads": 2, "reads_per_head": 1}
    trace = run_program(run, program, 2, **options)
    assert trace["read_slots"][0].tolist() == [[1], [0]]
    assert trace["lra_slots"].tolist() == [[0, 1], [0, 1]]
    row = 0.5 * (EYE[2] + EYE[3])
    np.testing.assert_array_equal(trace["memory"][1], [row, row])


# Programs: given memory.


@each_sam_form
def test_given_rows_are_overwritten_last(run):
    given = np.stack([EYE[3], EYE[4]])
    words = [EYE[t % 3] for t in range(6)]
    program = [instruction([w], write=[w]) for w in words]
    options = {"reads_per_head": 1, "given_memory": given}
    trace = run_program(run, program, 5, **options)
    assert trace["lra_slots"][:, 0].tolist() == [2, 3, 4, 0, 1, 2]
    np.testing.assert_array_equal(trace["memory"][2][:2], given)
    assert trace["last_access"][0].tolist() == [1, 1, 2, 0, 0]
    # Unless they are read: then the rest of them goes first.
    program[0] = instruction([EYE[3]], write=[words[0]])
    trace = run_program(run, program, 5, **options)
    assert trace["lra_slots"][:, 0].tolist() == [2, 3, 4, 1, 0, 2]
    assert trace["outputs"][0].tolist() == EYE[3].tolist()


@each_run
def test_given_memory_may_differ_between_examples(run):
    weights, inputs = random_weights(), INPUTS
    options = {"read_heads": 2, "memory_slots": SLOTS, "word_size": WORDS}
    given = np.random.default_rng(4).normal(size=(BATCH, 3, WORDS))
    trace = run(weights, inputs, given_memory=given, **options)
    assert np.all(trace["memory"][:, 0, 4:] == 1e-6)
    np.testing.assert_array_equal(trace["memory"][:, 0, :3], given)
    for b in range(BATCH):
        one = run(weights, inputs[b : b + 1], given_memory=given[b], **options)
        np.testing.assert_array_equal(one["outputs"][0], trace["outputs"][b])


# Programs: DAM.


def test_dam_fills_fresh_memory_from_the_first_slot_and_wraps_around():
    words, program = write_and_read_back(4, 10)
    trace = run_program(dam.run, program, 4)
    order = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert trace["least_used_slots"][:, 0].tolist() == order
    np.testing.assert_array_equal(trace["write_weights"][:, 0], np.eye(4)[order])
    np.testing.assert_array_equal(trace["memory"][-1], np.array(words)[[8, 9, 6, 7]])
    np.testing.assert_allclose(trace["outputs"], words, atol=1e-12)
    usage = [2 * 0.99**3, 2 * 0.99**2, 2 * 0.99, 2.0]
    np.testing.assert_allclose(trace["usage"][3], usage, rtol=1e-12)


def test_dam_discount_weighs_often_against_lately():
    program = [
        instruction([EYE[0]], write=[EYE[0]]),
        instruction([EYE[0]], gate=[OFF]),
        instruction([EYE[1]], write=[EYE[1]]),
        instruction([EYE[1]], write=[EYE[2]]),
    ]
    for discount, slots in ((1.0, [0, 1, 1, 1]), (0.1, [0, 1, 1, 0])):
        trace = run_program(dam.run, program, 2, discount=discount)
        assert trace["least_used_slots"][:, 0].tolist() == slots
        usage = [2 * discount**2 + discount, 2]
        np.testing.assert_allclose(trace["usage"][2], usage, rtol=1e-12)


def test_dam_usage_of_given_rows():
    # Blurred reads leave 1/4 a step on every slot, writes 1.
    blurred = instruction([ZERO], write=[EYE[0]])
    trace = run_program(dam.run, [blurred] * 3, 4, discount=0.5, given_memory=EYE[3:])
    assert trace["least_used_slots"][:, 0].tolist() == [2, 3, 0]
    np.testing.assert_array_equal(trace["usage"][0], [0.75, 0.75, 1.25, 0.25])
    np.testing.assert_array_equal(trace["memory"][1], [EYE[3], EYE[4], EYE[0], EYE[0]])


def test_dam_writes_where_it_has_read():
    given = EYE[:3]
    # Discount 1 and usages 1: slot 3 is the least used one, then slot 2.
    read_0_and_1 = [EYE[0], EYE[1]]
    program = [
        instruction(read_0_and_1, gate=[OFF]),
        instruction([ZERO] * 2, write=[EYE[4]], gate=[HALF], follow=[HALF]),
    ]
    options = {"read_heads": 2, "given_memory": given, "discount": 1.0}
    trace = run_program(dam.run, program, 4, **options)
    expected = [[0.125, 0.125, 0.0, 0.25]]
    np.testing.assert_array_equal(trace["write_weights"][1], expected)
    memory = np.vstack([given, ZERO]) + np.outer(expected[0], EYE[4])
    np.testing.assert_array_equal(trace["memory"][1], memory)
    np.testing.assert_array_equal(trace["usage"][1], [2.625, 2.625, 1.5, 0.75])

    program = [
        instruction(read_0_and_1, [ZERO] * 2, [OFF] * 2, [OFF] * 2),
        instruction([ZERO] * 2, EYE[3:], [ON] * 2, [OFF, HALF]),
    ]
    trace = run_program(dam.run, program, 4, write_heads=2, **options)
    # Slot 0 is the first of the given, and erased; its query then ties everywhere but
    # at slots 1 and 2, which are orthogonal: read evenly.
    assert trace["least_used_slots"][0].tolist() == [3, 0]
    np.testing.assert_array_equal(trace["memory"][0], [ZERO, EYE[1], EYE[2], ZERO])
    np.testing.assert_allclose(trace["read_weights"][0], [[0.25] * 4, [0, 1, 0, 0]])
    np.testing.assert_allclose(trace["usage"][0], [1.25, 2.25, 1.25, 0.25])
    assert trace["least_used_slots"][1].tolist() == [3, 0]
    expected = [[0, 0, 0, 1.0], [0.5, 0.5, 0, 0]]
    np.testing.assert_allclose(trace["write_weights"][1], expected)
    np.testing.assert_allclose(
        trace["memory"][1],
        [0.5 * EYE[4], EYE[1] + 0.5 * EYE[4], EYE[2], EYE[3]],
        atol=1e-12,
    )
