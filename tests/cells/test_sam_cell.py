"""The SAM cell, in `keras.layers.RNN`, against its NumPy twin and by itself.

Words that nothing was written to are equal, and tie in the cell as in the twin. Of
other choices of slots none may be so close that rounding decides it: weights are drawn
until that is so.
"""

import numpy as np
import pytest
import tensorflow as tf
from reference import common, sam
from twins import (
    BATCH,
    DEFAULTS,
    GIVEN,
    MASK,
    OUTPUTS,
    STEPS,
    TOLERANCES,
    UNITS,
    WORDS,
    Pair,
    assert_near,
    assert_slope,
    assert_state,
    dense,
    slope,
    twin_names,
    unit_direction,
)

from keras_sam import SAM, SAMCell
from keras_sam.ops import recency

GIVEN_30 = np.random.default_rng(12).normal(size=(30, WORDS)).astype("float32")

# "given" (a memory to start from), "mask" and "steps" are for the call; the rest is
# for the cell. Words read for their likeness are equal as well: in a memory that is
# fresh rounding soon decides, but for short sequences and small or large K.
CASES = {
    "one write head": {"given": GIVEN},
    "write heads": {"given": GIVEN, "write_heads": 2},
    "one head, 13 slots": {"given": GIVEN, "read_heads": 1, "memory_slots": 13},
    "dense, 3 heads": {
        "given": GIVEN,
        "controller": "dense",
        "read_heads": 3,
        "write_heads": 3,
    },
    "dense, 3 and 1": {"given": GIVEN, "controller": "dense", "read_heads": 3},
    "clip": {"given": GIVEN, "clip_value": 0.8},
    "no clip": {"given": GIVEN, "clip_value": None, "write_heads": 2},
    "learned reads": {"given": GIVEN, "initial_read_vectors": "learned"},
    "high threshold": {
        "given": GIVEN[:, :6],
        "memory_slots": 6,
        "usage_threshold": 0.5,
        "write_heads": 2,
    },
    "given to all": {"given": GIVEN[0, :11], "usage_threshold": 0.4},
    "given to each": {"given": GIVEN[:, :7], "memory_slots": 8, "write_heads": 2},
    "mask": {"given": GIVEN, "mask": MASK, "write_heads": 2},
    # The oldest slots are the last two of the first group of 32, then those of the
    # second, then those of the first again.
    "two levels": {"given": GIVEN_30, "memory_slots": 36, "reads_per_head": 2},
    "gated erase": {"given": GIVEN, "gated_erase": True},
    "gated erase, write heads": {
        "given": GIVEN[:, :6],
        "memory_slots": 6,
        "usage_threshold": 0.5,
        "write_heads": 2,
        "gated_erase": True,
        "mask": MASK,
    },
    "fresh": {"steps": 5, "reads_per_head": 2},
    "fresh, write heads": {"steps": 6, "write_heads": 2},
    "fresh, two levels": {"memory_slots": 36, "reads_per_head": 1, "write_heads": 2},
    "fresh, mask": {"memory_slots": 6, "reads_per_head": 1, "mask": MASK},
    "three slots": {"memory_slots": 3, "reads_per_head": 2, "write_heads": 2},
    "three slots, 1 write head": {"memory_slots": 3, "reads_per_head": 1},
    "one slot": {"memory_slots": 1, "read_heads": 1, "reads_per_head": 1},
    "all slots": {"memory_slots": 5, "reads_per_head": 5},
    "all slots, write heads": {
        "memory_slots": 6,
        "reads_per_head": 6,
        "write_heads": 2,
        "usage_threshold": 0.3,
        "given": GIVEN[0, :4],
    },
}


# Values.


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "float64") for name in CASES]
    + [
        (name, "float32")
        for name in (
            "one write head",
            "write heads",
            "dense, 3 and 1",
            "high threshold",
            "mask",
            "fresh, write heads",
            "fresh, two levels",
            "three slots",
            "all slots",
        )
    ],
)
def test_a_sequence_is_that_of_the_twin(name, dtype):
    pair, tolerance = Pair(CASES[name], dtype), TOLERANCES[dtype]
    outputs, *states = pair.run()
    assert outputs.dtype == dtype
    state = pair.cell.unpack_state(states)
    twins = [pair.expected]
    if pair.options["reads_per_head"] == pair.options["memory_slots"]:
        twins.append(pair.twin(sam.run_dense))
    for expected in twins:
        assert_near(outputs, expected["outputs"], tolerance, "outputs")
        assert_state(pair, state, -1, tolerance, expected)
        for mine, theirs in zip(
            state.controller, expected["controller_state"], strict=True
        ):
            assert_near(mine, theirs, tolerance, "controller")
    if name == "clip":
        assert np.max(np.abs(pair.expected["outputs"])) == 0.8


@pytest.mark.parametrize(
    "name",
    [
        "one write head",
        "write heads",
        "dense, 3 heads",
        "clip",
        "fresh",
        "fresh, two levels",
        "three slots",
    ],
)
def test_every_step_and_what_it_decided_is_that_of_the_twin(name):
    pair = Pair(CASES[name])
    cell, expected = pair.cell, pair.expected
    state = cell.unpack_state(pair.initial_state())
    heads, slots = cell.write_heads, cell.memory_slots
    sizes = np.cumsum([cell.read_heads * WORDS, cell.read_heads, heads * WORDS, heads])
    for step in range(pair.inputs.shape[1]):
        output, state, trace = cell.step(tf.constant(pair.inputs[:, step]), state)
        assert_near(output, expected["outputs"][:, step], 1e-9, "outputs")
        assert_state(pair, state, step, 1e-9, expected)

        trace = {name: value.numpy() for name, value in trace.items()}
        assert trace["write_slots"].shape == trace["write_weights"].shape
        written = trace["write_slots"].reshape((BATCH, heads, -1))
        weights = trace["write_weights"].reshape((BATCH, heads, -1))
        np.testing.assert_array_equal(written[..., -1], expected["lra_slots"][:, step])
        weights = dense(written, weights, slots)
        theirs = expected["dense_write_weights"][:, step]
        assert_near(weights, theirs, 1e-9, "write weights")
        if pair.options.get("controller", "lstm") == "lstm":
            # The gates, as the twin lays out the interface.
            interface = state.controller[0] @ pair.weights["interface_kernel"]
            interface = common.clip(
                interface + pair.weights["interface_bias"], cell.clip_value
            )
            _, strengths, _, write, interpolation = np.split(interface, sizes, axis=-1)
            assert_near(
                trace["read_strengths"], common.oneplus(strengths), 1e-9, "strengths"
            )
            assert_near(trace["write_gates"], common.sigmoid(write), 1e-9, "write")
            assert_near(
                trace["interpolation_gates"],
                common.sigmoid(interpolation),
                1e-9,
                "interpolation",
            )


@pytest.mark.parametrize("name", ["one write head", "write heads", "three slots"])
def test_a_layers_trace_has_the_weights_of_the_twin(name):
    """Duplicates merged: a head that writes to a slot twice has one weight on it."""
    pair = Pair(CASES[name])
    layer = SAM(
        UNITS, word_size=WORDS, output_size=OUTPUTS, dtype="float64", **pair.options
    )
    layer.build(pair.inputs.shape)
    for key, variable in twin_names(layer.cell).items():
        variable.assign(pair.weights[key])
    trace = layer.trace(pair.inputs, initial_state=pair.initial_state())
    for kind in ("read", "write"):
        weights = trace[f"{kind}_weights"]
        expected = pair.expected[f"dense_{kind}_weights"]
        assert_near(tf.sparse.to_dense(weights), expected, 1e-9, kind)
        # In order, each place once, as TensorFlow's sparse operations ask for.
        places = np.ravel_multi_index(weights.indices.numpy().T, weights.shape)
        assert np.all(np.diff(places) > 0)
    np.testing.assert_array_equal(trace["read_slots"], pair.expected["read_slots"])
    written = np.reshape(
        trace["write_slots"], (*pair.inputs.shape[:2], layer.cell.write_heads, -1)
    )
    np.testing.assert_array_equal(written[..., -1], pair.expected["lra_slots"])


def test_the_columns_of_the_write_gates_shut_them():
    pair = Pair(CASES["write heads"])
    columns = pair.cell.interface_columns["write_gates"]
    kernel, bias = pair.cell.interface.get_weights()
    kernel[:, columns], bias[columns] = 0.0, -20.0
    pair.cell.interface.set_weights([kernel, bias])
    _, _, trace = pair.cell.step(
        tf.constant(pair.inputs[:, 0]), pair.cell.unpack_state(pair.initial_state())
    )
    assert np.max(trace["write_gates"]) < 1e-8
    assert np.min(trace["interpolation_gates"]) > 1e-6
    covered = np.concatenate(
        [np.arange(bias.size)[part] for part in pair.cell.interface_columns.values()]
    )
    np.testing.assert_array_equal(covered, np.arange(bias.size))


def test_the_cases_reach_the_corners():
    """Else the agreement above would say little."""
    reached = set()
    for options in CASES.values():
        pair = Pair(options)
        trace, slots = pair.expected, pair.options["memory_slots"]
        threshold = pair.options.get("usage_threshold", 0.005)
        for b in range(BATCH):
            used = set(trace["lra_slots"][b, 0])
            for step in range(1, pair.inputs.shape[1]):
                before = trace["read_slots"][b, step - 1]
                if len(np.unique(before)) < before.size:
                    reached.add("heads read the same slot")
                oldest = trace["lra_slots"][b, step]
                if oldest[0] < 0:
                    continue  # Masked.
                if len(oldest) == 1 and np.isin(oldest, before).any():
                    reached.add("the oldest slot was just read")
                for head in range(len(oldest) if len(oldest) > 1 else 0):
                    if oldest[head] in before[head]:
                        reached.add("a head's oldest slot was just read by it")
                    if oldest[head] in np.delete(before, head, axis=0):
                        reached.add("a head's oldest slot was just read by another")
                if used & set(oldest):
                    reached.add("a word is erased to make room")
                used |= set(oldest)
                weights = [trace["dense_write_weights"], trace["dense_read_weights"]]
                total = sum(weight[b, step].sum(axis=0) for weight in weights)
                if np.any((total > 0.05) & (total <= threshold)):
                    reached.add("an access does not count")
                each = np.concatenate([weight[b, step] for weight in weights])
                if np.any((total > threshold) & np.all(each <= threshold, axis=0)):
                    reached.add("accesses count in sum")
                if slots > 32 and np.all(trace["last_access"][b, step - 1] > 0):
                    reached.add("a large memory is full")
    assert len(reached) == 8, sorted(reached)


def test_what_the_random_weights_do_to_the_gates():
    pair = Pair(CASES["dense, 3 heads"])
    state = pair.cell.unpack_state(pair.initial_state())
    traces = []
    for step in range(STEPS):
        _, state, trace = pair.cell.step(tf.constant(pair.inputs[:, step]), state)
        traces.append(trace)
    for gate in ("write_gates", "interpolation_gates"):
        values = np.stack([trace[gate] for trace in traces])
        assert values.min() < 0.1 and values.max() > 0.9, gate
    assert np.max([trace["read_strengths"] for trace in traces]) > 3.0


# Gradients.

GRADIENT_CASES = {
    "one write head": {"given": GIVEN[:2, :5], "memory_slots": 8},
    "write heads, few slots": {
        "given": GIVEN[:2, :3],
        "memory_slots": 3,
        "reads_per_head": 2,
        "write_heads": 2,
    },
    "all slots, dense": {
        "given": GIVEN[:2, :4],
        "memory_slots": 4,
        "reads_per_head": 4,
        "controller": "dense",
        "clip_value": 1.5,
    },
    "high threshold": {
        "given": GIVEN[:2, :6],
        "memory_slots": 6,
        "write_heads": 2,
        "usage_threshold": 0.4,
    },
}
each_gradient_case = pytest.mark.parametrize("name", GRADIENT_CASES)


def gradient_pair(name, steps=6):
    options = {"initial_read_vectors": "learned", **GRADIENT_CASES[name]}
    pair = Pair(options, batch=2, steps=steps, nudge=1e-4)
    share = np.random.default_rng(100).normal(size=pair.expected["outputs"].shape)
    return pair, share


@each_gradient_case
def test_gradients_are_finite_differences_of_the_twin(name):
    pair, share = gradient_pair(name)
    inputs, memory = tf.constant(pair.inputs), tf.constant(pair.given)
    with tf.GradientTape() as tape:
        tape.watch([inputs, memory])
        outputs, *_ = pair.layer(
            inputs, initial_state=pair.cell.get_initial_state(2, memory=memory)
        )
        loss = tf.reduce_sum(share * outputs)
    sources = {name: variable.value for name, variable in pair.variables.items()}
    sources |= {"inputs": inputs, "given": memory}
    gradients = tape.gradient(loss, sources)
    assert len(pair.cell.trainable_variables) == len(sources) - 2

    def twin_loss(moved):
        moved = dict(moved)
        arguments = {name: moved.pop(name) for name in ("inputs", "given")}
        return np.sum(share * pair.twin(weights=moved, **arguments)["outputs"])

    here = {**pair.weights, "inputs": pair.inputs, "given": pair.given}
    np.testing.assert_allclose(loss, twin_loss(here), rtol=1e-9)
    rng = np.random.default_rng(101)
    for source, value in here.items():
        direction = unit_direction(rng, value.shape)
        numeric = slope(
            lambda t: twin_loss({**here, source: value + t * direction})  # noqa: B023
        )
        assert_slope(gradients[source].numpy(), direction, numeric, source)


@each_gradient_case
def test_gradients_for_every_part_of_the_state_it_starts_from(name):
    pair, share = gradient_pair(name)
    cell, before = pair.cell, 3
    _, *flat = pair.layer(pair.inputs[:, :before], initial_state=pair.initial_state())
    names = [*cell.state_shapes, "h", "c"][: len(flat)]

    def loss(flat):
        outputs, *_ = pair.layer(pair.inputs[:, before:], initial_state=flat)
        return tf.reduce_sum(share[:, before:] * outputs)

    with tf.GradientTape() as tape:
        tape.watch(flat)
        value = loss(flat)
    expected = np.sum(share[:, before:] * pair.expected["outputs"][:, before:])
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    rng = np.random.default_rng(102)
    with_gradient = set()
    for k, (field, gradient) in enumerate(
        zip(names, tape.gradient(value, flat), strict=True)
    ):
        if field in ("last_access", "time", "index", "read_slots"):
            assert gradient is None or not np.any(gradient), field
            continue
        with_gradient.add(field)
        direction = unit_direction(rng, flat[k].shape)

        def moved_loss(t):
            moved = [f + t * direction if i == k else f for i, f in enumerate(flat)]  # noqa: B023
            return loss(moved).numpy()

        assert_slope(gradient.numpy(), direction, slope(moved_loss), field)
    assert with_gradient >= {"memory", "read_weights", "read_vectors"}


# Eager, traced and compiled.


def results_and_gradients(pair, share):
    """A function of inputs and memory, its tape within it."""

    def run(inputs, memory):
        with tf.GradientTape() as tape:
            tape.watch([inputs, memory])
            state = pair.cell.get_initial_state(2, memory=memory)
            outputs, *states = pair.layer(
                inputs,
                initial_state=state,
                mask=tf.constant([[True] * 4, [True, False, True, False]]),
            )
            loss = tf.reduce_sum(share * outputs) + tf.reduce_sum(states[0] ** 2)
        variables = pair.cell.trainable_variables
        sources = [*[variable.value for variable in variables], inputs, memory]
        return [outputs, *states], tape.gradient(loss, sources)

    return run


@pytest.mark.parametrize(
    ("name", "mode"),
    # XLA takes many seconds for a step with its gradient.
    [
        ("one write head", "graph"),
        ("write heads, few slots", "graph"),
        ("write heads, few slots", "xla"),
    ],
)
@pytest.mark.slow_rows("*-graph")
def test_eager_graph_and_xla_agree_with_their_gradients(name, mode):
    pair, share = gradient_pair(name, steps=4)
    run = results_and_gradients(pair, share)
    arguments = tf.constant(pair.inputs), tf.constant(pair.given)
    expected_results, expected_gradients = run(*arguments)
    results, gradients = tf.function(run, jit_compile=mode == "xla")(*arguments)
    for one, other in zip(results, expected_results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)
    for one, other in zip(gradients, expected_gradients, strict=True):
        scale = np.max(np.abs(other))
        assert scale > 0.0
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11 * scale)


def test_a_traced_layer_reads_with_a_sparse_product_and_differentiates():
    pair, share = gradient_pair("one write head", steps=4)
    run = tf.function(lambda inputs: pair.layer(inputs)[0])
    graph = run.get_concrete_function(tf.constant(pair.inputs)).graph.as_graph_def()
    operations = {
        node.op for function in graph.library.function for node in function.node_def
    }
    assert {"While", "StatelessWhile"} & {node.op for node in graph.node}
    assert "SparseTensorDenseMatMul" in operations

    # A tape outside the traced function, unlike those above.
    variables = pair.cell.trainable_variables
    gradients = []
    for call in (run, lambda inputs: pair.layer(inputs)[0]):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(share * call(tf.constant(pair.inputs)))
        gradients.append(tape.gradient(loss, [v.value for v in variables]))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


# Long sequences.


def test_times_beyond_what_floats_count():
    """A run across 2^24 is the run at small times."""
    pair = Pair(
        {"memory_slots": 40, "given": GIVEN[0], "usage_threshold": 0.3}, "float32"
    )
    _, *early = pair.layer(pair.inputs[:, :8], initial_state=pair.initial_state())
    early = pair.cell.unpack_state(early)
    # Two sequences cross in the middle, at different steps, one does not.
    offset = np.array([[2**24 - 16], [2**24 - 20], [1000]], "float32")
    last_access = early.last_access.numpy()
    touched = (last_access >= 2.0) & (last_access < recency.LATEST_TIME)
    late = early._replace(
        last_access=tf.constant(np.where(touched, last_access + offset, last_access)),
        time=early.time + offset,
    )
    results = []
    for state in (early, late):
        flat = pair.cell.pack_state(state)
        outputs, *states = pair.layer(pair.inputs[:, 8:], initial_state=flat)
        results.append((outputs, pair.cell.unpack_state(states)))
    (outputs, state), (late_outputs, late_state) = results
    np.testing.assert_array_equal(late_outputs, outputs)
    assert_near(outputs, pair.expected["outputs"][:, 8:], 1e-5, "outputs")
    for field in ("memory", "read_slots", "read_weights", "read_vectors"):
        np.testing.assert_array_equal(getattr(late_state, field), getattr(state, field))
    moved = offset.astype(int) - np.array([[2**23], [2**23], [0]])
    np.testing.assert_array_equal(late_state.time, state.time.numpy() + moved)
    times, late_times = (s.last_access[:, :40].numpy() for s in (state, late_state))
    assert {0.0, 1.0} < set(times.flat)
    np.testing.assert_array_equal(
        late_times, np.where(times > 1.0, times + moved, times)
    )


# Wrong arguments.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"memory_slots": 4, "reads_per_head": 5},
            "at most `memory_slots`.*reads_per_head=5.*memory_slots=4",
        ),
        (
            {"memory_slots": 2, "reads_per_head": 1, "read_heads": 3, "write_heads": 3},
            "at most `memory_slots`.*write_heads=3.*memory_slots=2",
        ),
        (
            {"read_heads": 3, "write_heads": 2},
            "must be 1 or one for each.*write_heads=2, read_heads=3",
        ),
        ({"write_heads": 0}, "`write_heads`.*write_heads=0"),
        ({"reads_per_head": 2.5}, "`reads_per_head`.*reads_per_head=2.5"),
        ({"memory_slots": 2**24 + 1}, r"2\*\*24.*memory_slots=16777217"),
        ({"usage_threshold": 0.0}, "between 0 and 1.*usage_threshold=0.0"),
        ({"usage_threshold": 1.0}, "between 0 and 1.*usage_threshold=1.0"),
        ({"usage_threshold": -0.1}, "between 0 and 1.*usage_threshold=-0.1"),
        ({"usage_threshold": float("nan")}, "between 0 and 1.*usage_threshold=nan"),
        ({"initial_memory": "learned"}, "memory.*initial_memory='learned'"),
        ({"index": "flann"}, "'exact'.*index='flann'"),
        ({"index": None}, "'exact'.*index=None"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SAMCell(UNITS, **arguments)


@pytest.mark.parametrize("slots", [1, 2**24])
def test_the_least_and_the_most_slots(slots):
    cell = SAMCell(UNITS, memory_slots=slots, reads_per_head=1)
    assert cell.state_shapes["memory"] == (slots, 32)


@pytest.mark.parametrize(
    "shape", [(5,), (13, WORDS), (2, WORDS + 1), (BATCH + 1, 2, WORDS), (BATCH, 13, 4)]
)
def test_memory_of_a_wrong_shape(shape):
    cell = SAMCell(UNITS, word_size=WORDS, **DEFAULTS)
    with pytest.raises(
        ValueError, match=r"rows at most 12.*batch=3.*shape=\("
    ) as error:
        cell.get_initial_state(BATCH, memory=np.zeros(shape))
    assert str(shape) in str(error.value)
