"""The NTM, DNC, DAM and MANN cells against the NumPy twins, in value and in gradient.

Weights are random and large enough for gates to open and close and weightings to
be sharp and blurred. Some such networks are chaotic, and some bring the usage of two
slots so close that rounding decides which is written first: weights are drawn until
rounding decides nothing.
"""

import numpy as np
import pytest
import tensorflow as tf
from reference import dam, dnc, mann, ntm
from twins import (
    assert_near,
    assert_slope,
    draw,
    slope,
    twin_names,
    unit_direction,
)

from keras_sam import DAM, DNC, MANN, NTM
from keras_sam import ops as cell_ops

BATCH, STEPS, FEATURES, UNITS, OUTPUTS = 3, 20, 5, 7, 4
SLOTS, WORDS = 7, 4
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
# Slots whose usages differ by less rank by number, or by rounding.
CLOSE_USAGES = 3e-5

TWINS = {"ntm": ntm, "dnc": dnc, "dam": dam, "mann": mann}
LAYERS = {"ntm": NTM, "dnc": DNC, "dam": DAM, "mann": MANN}
NTM_FIELDS = ("memory", "read_weights", "write_weights", "read_vectors")
FIELDS = {
    "ntm": NTM_FIELDS,
    "dnc": (*NTM_FIELDS, "usage", "link", "precedence"),
    "dam": ("memory", "read_weights", "read_vectors", "usage"),
    "mann": ("memory", "read_weights", "read_vectors", "usage"),
}

NTM_CASES = {
    "lstm": {},
    "dense": {"controller": "dense"},
    "heads 3 2, shift 2, dense": {
        "controller": "dense",
        "read_heads": 3,
        "write_heads": 2,
        "shift_range": 2,
    },
    "heads 2 3, shift 0": {"read_heads": 2, "write_heads": 3, "shift_range": 0},
    "heads 2 1, shift 3": {"read_heads": 2, "shift_range": 3},
    "clip": {"read_heads": 2, "write_heads": 2, "clip_value": 0.8},
    "no clip, dense": {"controller": "dense", "clip_value": None},
    "learned memory": {"read_heads": 2, "initial_memory": "learned"},
    "fixed start": {
        "initial_memory": "random",
        "initial_addressing": "first_slot",
        "initial_read_vectors": "zeros",
        "write_heads": 2,
    },
}

EVERY_DNC_OPTION = {
    "key_masks": True,
    "mask_min": 0.2,
    "deallocate": True,
    "link_sharpening": True,
    "normalize_interface": True,
}
DNC_CASES = {
    "lstm": {},
    "dense": {"controller": "dense", "read_heads": 3},
    "one head": {"read_heads": 1},
    "key masks": {"key_masks": True},
    "key masks with a floor": {"key_masks": True, "mask_min": 0.2},
    "deallocate": {"deallocate": True},
    "link sharpening": {"link_sharpening": True},
    "normalize interface": {"normalize_interface": True},
    "every option": EVERY_DNC_OPTION,
    "every option, dense": {
        **EVERY_DNC_OPTION,
        "controller": "dense",
        "read_heads": 3,
        "clip_value": None,
    },
    "clip": {"clip_value": 0.8},
    "clip, normalize interface": {"clip_value": 0.8, "normalize_interface": True},
    "no clip": {"clip_value": None},
    "learned start": {
        "initial_memory": "learned",
        "initial_read_vectors": "learned",
    },
    "no link gradients": {"link_gradients": False},
}
GIVEN = np.random.default_rng(10).normal(size=(BATCH, SLOTS, WORDS)).astype("float32")
MASK = np.random.default_rng(11).random((BATCH, STEPS)) < 0.7
MASK[0, :2], MASK[1, -2:] = False, False
# Not for the layer, but for the initial state and for the call.
DAM_CALL_OPTIONS = ("given_memory", "mask")
DAM_CASES = {
    "lstm": {"given_memory": GIVEN},
    "write heads": {"given_memory": GIVEN, "write_heads": 2},
    "dense, 3 heads": {
        "given_memory": GIVEN,
        "controller": "dense",
        "read_heads": 3,
        "write_heads": 3,
    },
    "dense, 3 and 1": {
        "given_memory": GIVEN[:, :5],
        "controller": "dense",
        "read_heads": 3,
    },
    "one head": {"given_memory": GIVEN[0, :4], "read_heads": 1, "discount": 0.8},
    "as many heads as slots": {
        "given_memory": GIVEN,
        "read_heads": SLOTS,
        "write_heads": SLOTS,
    },
    "no discount": {"given_memory": GIVEN, "discount": 1.0, "write_heads": 2},
    "usage of the last step": {"given_memory": GIVEN, "discount": 0.0},
    "gated erase": {"given_memory": GIVEN, "write_heads": 2, "gated_erase": True},
    "fresh": {},
    "fresh, write heads": {"write_heads": 2, "discount": 0.9},
    "clip": {"given_memory": GIVEN, "clip_value": 0.8},
    "no clip": {"given_memory": GIVEN, "clip_value": None, "write_heads": 2},
    "learned reads": {"given_memory": GIVEN, "initial_read_vectors": "learned"},
    "learned memory": {"initial_memory": "learned", "write_heads": 2},
}
MANN_CASES = {
    "lstm": {"given_memory": GIVEN},
    "dense, 3 heads": {
        "given_memory": GIVEN[:, :5],
        "controller": "dense",
        "read_heads": 3,
    },
    "one head": {"given_memory": GIVEN[0, :4], "read_heads": 1, "usage_decay": 0.8},
    "fresh": {},
    "clip": {"given_memory": GIVEN, "clip_value": 0.8},
    "learned reads": {"given_memory": GIVEN, "initial_read_vectors": "learned"},
    "learned memory": {"initial_memory": "learned"},
}
CASES = [("ntm", name) for name in NTM_CASES]
CASES += [("dnc", name) for name in DNC_CASES]
CASES += [("dam", name) for name in DAM_CASES]
CASES += [("mann", name) for name in MANN_CASES]


def options_of(kind, name):
    if kind == "ntm":
        return NTM_CASES[name]
    if kind in ("dam", "mann"):
        cases = DAM_CASES if kind == "dam" else MANN_CASES
        return {"read_heads": 2, **cases[name]}
    # The constant memory of an untouched DNC leaves the order of its slots to
    # rounding: no twin could follow.
    return {"read_heads": 2, "initial_memory": "random", **DNC_CASES[name]}


# A layer, its twin, and the same numbers in both.


def run_twin(kind, options, weights, inputs):
    """What the twin does; `options` are those of the layer."""
    options = {
        name: value
        for name, value in options.items()
        if not name.startswith("initial_") and name != "link_gradients"
    }
    own_memory = kind in ("dam", "mann") and "initial_memory" in weights
    if own_memory:  # These twins know given rows alone.
        options["given_memory"] = weights["initial_memory"]
    trace = TWINS[kind].run(
        weights, inputs, memory_slots=SLOTS, word_size=WORDS, **options
    )
    if own_memory:  # All of them start with a usage of 1, the cell's own with 0.
        discount = options.get("discount", options.get("usage_decay", 0.99))
        kept = discount ** np.arange(1, inputs.shape[1] + 1)
        trace["usage"] -= kept[:, np.newaxis]
    return trace


def usages_are_close(kind, options, trace):
    """Whether the usages of two slots are so close that it matters."""
    if kind == "ntm":
        return False
    # The first step's are all alike in the DNC.
    usage = np.sort(trace["usage"][:, 1 if kind == "dnc" else 0 :], axis=-1)
    gaps = np.diff(usage, axis=-1)
    if kind == "dnc":
        return np.min(gaps) < CLOSE_USAGES
    # Only the least used slots count; equal ones are so for the cell as well.
    writes = options.get("write_heads", 1)
    if kind == "mann":
        writes = options["read_heads"]
    counting = np.arange(SLOTS - 1) < writes
    return np.any(
        counting & (gaps > 0.0) & (gaps < CLOSE_USAGES * (1.0 + usage[..., 1:]))
    )


def difference(trace, other):
    return max(
        np.max(np.abs(trace[name] - other[name]))
        for name in set(trace) - {"controller_state"}
    )


def rounding_matters(kind, options, weights, inputs, trace):
    """Whether rounding decides an order or grows much over the steps."""
    if usages_are_close(kind, options, trace):
        return True
    rng = np.random.default_rng(700)
    nudged = {
        name: value * (1 + 1e-6 * rng.normal(size=value.shape))
        for name, value in weights.items()
    }
    return difference(trace, run_twin(kind, options, nudged, inputs)) > 5e-5


def layer_and_twin(kind, options, dtype, batch=BATCH, steps=STEPS):
    """A layer with random weights, inputs, those weights, and the twin's trace."""
    layer_options = {k: v for k, v in options.items() if k not in DAM_CALL_OPTIONS}
    layer = LAYERS[kind](
        UNITS,
        SLOTS,
        WORDS,
        output_size=OUTPUTS,
        return_sequences=True,
        return_state=True,
        dtype=dtype,
        **layer_options,
    )
    layer.build((batch, None, FEATURES))
    variables = twin_names(layer.cell)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        weights = {
            name: draw(
                rng, name, variable.shape, options.get("controller", "lstm")
            ).astype(dtype)
            for name, variable in variables.items()
        }
        inputs = rng.normal(size=(batch, steps, FEATURES)).astype(dtype)
        trace = run_twin(kind, options, weights, inputs)
        if not rounding_matters(kind, options, weights, inputs, trace):
            break
    else:
        raise AssertionError("rounding decides in each of 50 draws")
    for name, variable in variables.items():
        variable.assign(weights[name])
    return layer, inputs, weights, trace


def start(layer, options, batch=BATCH):
    return layer.get_initial_state(batch, memory=options.get("given_memory"))


def run_steps(cell, inputs, states):
    """The cell's outputs and named states, step by step, as `keras.layers.RNN` would.

    Returns a list of outputs and a list of states.
    """
    outputs, named = [], []
    for step_inputs in tf.unstack(inputs, axis=1):
        output, states = cell(step_inputs, states)
        outputs.append(output)
        named.append(cell.unpack_state(states))
    return outputs, named


# Values.


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("kind, name", CASES)
def test_every_step_is_that_of_the_twin(kind, name, dtype):
    options = options_of(kind, name)
    layer, inputs, weights, expected = layer_and_twin(kind, options, dtype)
    outputs, states = run_steps(layer.cell, inputs, start(layer, options))

    assert outputs[0].dtype == dtype
    assert_near(np.stack(outputs, 1), expected["outputs"], TOLERANCES[dtype], "outputs")
    for field in FIELDS[kind]:
        got = np.stack([getattr(state, field) for state in states], 1)
        assert_near(got, expected[field], TOLERANCES[dtype], field)
    got = states[-1].controller
    assert len(got) == len(expected["controller_state"])
    for mine, theirs in zip(got, expected["controller_state"], strict=True):
        assert_near(mine, theirs, TOLERANCES[dtype], "controller")

    if name.startswith("clip"):
        # It bites: outputs stand at the edge, and without it all would differ.
        assert np.max(np.abs(expected["outputs"])) == options["clip_value"]
        free = run_twin(kind, {**options, "clip_value": None}, weights, inputs)
        for field in ("outputs", "memory", "read_weights", "write_weights"):
            assert np.max(np.abs(free[field] - expected[field])) > 0.05, field


@pytest.mark.parametrize(
    "kind, name",
    [("ntm", "lstm"), ("dnc", "every option")]
    + [("dam", name) for name in ("lstm", "dense, 3 heads", "one head", "fresh")]
    + [("mann", name) for name in ("lstm", "one head")],
)
def test_the_layer_and_its_trace_are_the_twin_too(kind, name):
    options = options_of(kind, name)
    layer, inputs, _, expected = layer_and_twin(kind, options, "float32")
    initial_state = start(layer, options)

    trace = layer.trace(inputs, initial_state)
    fields = set(FIELDS[kind]) - {"memory", "link"}
    if kind in ("dam", "mann"):
        fields |= {"write_weights", "least_used_slots"}
    assert fields < set(trace)
    for field in ("outputs", *fields):
        assert_near(trace[field], expected[field], 1e-5, field)

    for call in (layer, tf.function(lambda *arguments: layer(*arguments))):
        outputs, *states = call(inputs, initial_state)
        assert_near(outputs, expected["outputs"], 1e-5, "outputs")
        state = layer.cell.unpack_state(states)
        for field in FIELDS[kind]:
            assert_near(getattr(state, field), expected[field][:, -1], 1e-5, field)


@pytest.mark.parametrize("name", ["write heads", "fresh"])
def test_a_masked_dam_is_the_masked_twin(name):
    options = {**options_of("dam", name), "mask": MASK}
    layer, inputs, _, expected = layer_and_twin("dam", options, "float64")
    outputs, *states = layer(inputs, start(layer, options), mask=MASK)
    assert_near(outputs, expected["outputs"], 1e-12, "outputs")
    state = layer.cell.unpack_state(states)
    for field in FIELDS["dam"]:
        assert_near(getattr(state, field), expected[field][:, -1], 1e-12, field)


@pytest.mark.parametrize("layer_class", LAYERS.values())
def test_tf_function_takes_a_layer(layer_class):
    layer = layer_class(UNITS, SLOTS, WORDS)
    assert tf.function(layer)(tf.ones((2, 3, FEATURES))).shape == (2, UNITS)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_sequence_in_two_halves_is_the_sequence(kind):
    options = options_of(kind, "lstm")
    layer, inputs, _, expected = layer_and_twin(kind, options, "float64")
    first, *states = layer(inputs[:, :7], start(layer, options))
    second, *_ = layer(inputs[:, 7:], initial_state=states)
    assert_near(
        np.concatenate([first, second], 1), expected["outputs"], 1e-9, "outputs"
    )


def test_the_random_weights_open_and_close_the_gates():
    # Else the agreement above would say little.
    layer, inputs, *_ = layer_and_twin("ntm", options_of("ntm", "lstm"), "float32")
    trace = {name: value.numpy() for name, value in layer.trace(inputs).items()}
    for gate in ("gates", "erase"):
        assert trace[gate].min() < 0.2 and trace[gate].max() > 0.8, gate
    heads = (layer.cell.read_heads, layer.cell.write_heads)
    strengths = [trace[f"{kind}_strengths"] for kind in ("read", "write")]
    assert tuple(values.shape[2] for values in strengths) == heads
    assert max(values.max() for values in strengths) > 2.0
    assert trace["shifts"].max() > 0.9
    assert trace["sharpening"].min() < 1.2 and trace["sharpening"].max() > 4.0
    largest = trace["write_weights"].max(-1)
    assert largest.min() < 0.7 and largest.max() > 0.95

    layer, inputs, *_ = layer_and_twin("dnc", options_of("dnc", "lstm"), "float32")
    trace = {name: value.numpy() for name, value in layer.trace(inputs).items()}
    for gate in ("free_gates", "allocation_gate", "write_gate", "erase"):
        assert trace[gate].min() < 0.25 and trace[gate].max() > 0.85, gate
    assert trace["usage"].max() > 0.5
    assert np.all(trace["read_modes"].max((0, 1, 2)) > 0.8)
    assert trace["read_strengths"].max() > 3.0

    options = options_of("dam", "dense, 3 heads")
    layer, inputs, *_ = layer_and_twin("dam", options, "float32")
    trace = layer.trace(inputs, start(layer, options))
    trace = {name: value.numpy() for name, value in trace.items()}
    for gate in ("write_gates", "interpolation_gates"):
        assert trace[gate].min() < 0.1 and trace[gate].max() > 0.9, gate
    assert trace["read_strengths"].max() > 3.0
    largest = trace["read_weights"].max(-1)
    assert largest.min() < 0.5 and largest.max() > 0.9


def test_the_dam_cases_reach_the_corners():
    """Else the agreement above would say little."""
    reached = set()
    for name in DAM_CASES:
        options = options_of("dam", name)
        *_, trace = layer_and_twin("dam", options, "float64")
        for b, step in np.ndindex(BATCH, STEPS - 1):
            usage = np.sort(trace["usage"][b, step])
            slots = trace["least_used_slots"][b, step + 1]
            read = trace["read_weights"][b, step][:, slots] > 0.05
            if usage[0] == usage[1]:
                reached.add("equally used slots")
            if len(slots) == 1 and read.any():
                reached.add("the least used slot was just read")
            if len(slots) > 1 and np.diag(read).any():
                reached.add("a head's least used slot was just read by it")
            if len(slots) > 1 and (read & ~np.eye(*read.shape, dtype=bool)).any():
                reached.add("a head's least used slot was just read by another")
            if np.isin(slots, trace["least_used_slots"][b, : step + 1]).any():
                reached.add("a word is erased to make room")
            # Of the step alone, without what is left from the steps before.
            latest = sum(
                trace[f"{kind}_weights"][b, step].sum(0) for kind in ("read", "write")
            )
            if latest.argmin() != slots[0]:
                reached.add("usage of earlier steps decides")
    assert len(reached) == 6, sorted(reached)


# Gradients.

GRADIENT_STEPS = 5
GRADIENT_CASES = [
    ("ntm", {"initial_memory": "learned"}),
    (
        "ntm",
        {
            "controller": "dense",
            "read_heads": 2,
            "write_heads": 2,
            "shift_range": 2,
            "clip_value": 1.5,
        },
    ),
    ("ntm", {"write_heads": 3, "shift_range": 0, "initial_memory": "learned"}),
    ("dnc", {}),
    ("dnc", {"controller": "dense", "read_heads": 1, "clip_value": 1.5}),
    ("dnc", {"key_masks": True, "mask_min": 0.2}),
    ("dnc", {"deallocate": True}),
    ("dnc", {"link_sharpening": True}),
    ("dnc", {"normalize_interface": True}),
    ("dnc", {**EVERY_DNC_OPTION, "initial_read_vectors": "learned"}),
    ("dnc", {**EVERY_DNC_OPTION, "controller": "dense", "clip_value": 1.5}),
    ("dam", {}),
    ("dam", {"write_heads": 2, "initial_read_vectors": "learned"}),
    ("dam", {"controller": "dense", "read_heads": 3, "clip_value": 1.5}),
    ("dam", {"given_memory": None, "initial_memory": "learned"}),
]


def gradient_options(kind, options):
    if kind == "dnc":
        return {"read_heads": 2, "initial_memory": "learned", **options}
    if kind == "dam":
        return {"read_heads": 2, "given_memory": GIVEN[0], **options}
    return options


@pytest.mark.parametrize("kind, options", GRADIENT_CASES, ids=str)
def test_gradients_are_finite_differences_of_the_twin(kind, options):
    options = gradient_options(kind, options)
    layer, inputs, weights, expected = layer_and_twin(
        kind, options, "float64", batch=2, steps=GRADIENT_STEPS
    )
    variables = twin_names(layer.cell)
    assert len(layer.trainable_variables) == len(variables)
    rng = np.random.default_rng(100)
    share = rng.normal(size=expected["outputs"].shape)

    with tf.GradientTape() as tape:
        sequence = tf.constant(inputs)
        tape.watch(sequence)
        outputs, _ = run_steps(layer.cell, sequence, start(layer, options, 2))
        loss = tf.reduce_sum(share * tf.stack(outputs, 1))
    sources = {**{name: v.value for name, v in variables.items()}, "inputs": sequence}
    gradients = tape.gradient(loss, sources)

    def twin_loss(numbers):
        numbers = dict(numbers)
        trace = run_twin(kind, options, numbers, numbers.pop("inputs"))
        return np.sum(share * trace["outputs"])

    here = {**weights, "inputs": inputs}
    np.testing.assert_allclose(loss, twin_loss(here), rtol=1e-9)
    for name, value in here.items():
        direction = unit_direction(rng, value.shape)
        numeric = slope(lambda t: twin_loss({**here, name: value + t * direction}))  # noqa: B023
        assert_slope(gradients[name].numpy(), direction, numeric, name)


def moving_on(kind, options, before=4, after=3):
    """A cell amid a sequence: its state, a function of the state to differentiate.

    That state, unlike the initial one, holds no zeros and no ties.
    """
    options = gradient_options(kind, options)
    layer, inputs, _, expected = layer_and_twin(
        kind, options, "float64", batch=2, steps=before + after
    )
    cell = layer.cell
    _, states = run_steps(cell, inputs[:, :before], start(layer, options, 2))
    share = np.random.default_rng(200).normal(size=(2, after, OUTPUTS))

    def loss(state):
        outputs, _ = run_steps(cell, inputs[:, before:], cell.pack_state(state))
        return tf.reduce_sum(share * tf.stack(outputs, 1))

    # The values are the twin's, so its derivatives are the ones to find.
    np.testing.assert_allclose(
        loss(states[-1]), np.sum(share * expected["outputs"][:, before:]), rtol=1e-9
    )
    return cell, states[-1], loss


@pytest.mark.parametrize(
    "kind, options",
    [
        ("ntm", {"read_heads": 2, "write_heads": 2}),
        ("dnc", {}),
        ("dnc", EVERY_DNC_OPTION),
        ("dam", {}),
        ("dam", {"write_heads": 2}),
    ],
    ids=str,
)
def test_gradients_for_every_part_of_the_state_it_starts_from(kind, options):
    cell, state, loss = moving_on(kind, options)
    rng = np.random.default_rng(300)
    flat = cell.pack_state(state)
    names = [*cell.state_shapes, "h", "c"]
    assert len(flat) == len(names)
    with tf.GradientTape() as tape:
        tape.watch(flat)
        value = loss(cell.unpack_state(flat))
    gradients = tape.gradient(value, flat)
    for k, (name, gradient) in enumerate(zip(names, gradients, strict=True)):
        if (kind, name) == ("dam", "usage"):
            assert gradient is None  # It chooses slots and does nothing else.
            continue
        direction = unit_direction(rng, flat[k].shape)

        def moved_loss(t):
            moved = [f + t * direction if i == k else f for i, f in enumerate(flat)]  # noqa: B023
            return loss(cell.unpack_state(moved)).numpy()

        assert_slope(gradient.numpy(), direction, slope(moved_loss), name)


def dnc_interface_parts():
    """Where each part of a plain DNC's interface vector lies, from the paper."""
    sizes = {
        "read_keys": 2 * WORDS,
        "read_strengths": 2,
        "write_key": WORDS,
        "write_strength": 1,
        "erase": WORDS,
        "write_vector": WORDS,
        "free_gates": 2,
        "allocation_gate": 1,
        "write_gate": 1,
        "read_modes": 6,
    }
    ends = np.cumsum(list(sizes.values()))
    return {
        name: slice(end - size, end)
        for (name, size), end in zip(sizes.items(), ends, strict=True)
    }


def test_gradients_reach_every_part_of_the_interface():
    cell, state, _ = moving_on("dnc", {})
    rng = np.random.default_rng(400)
    parts = dnc_interface_parts()
    interface = rng.normal(size=(2, cell.interface_size))
    assert parts["read_modes"].stop == cell.interface_size
    following = tf.constant(rng.normal(size=(2, cell.interface_size)))
    share = rng.normal(size=(2, 2, WORDS))

    def loss(interface):
        fields, _ = cell.access(interface, state)
        fields, _ = cell.access(following, state._replace(**fields))
        return tf.reduce_sum(share * fields["read_vectors"])

    with tf.GradientTape() as tape:
        variable = tf.constant(interface)
        tape.watch(variable)
        value = loss(variable)
    gradient = tape.gradient(value, variable).numpy()
    for name, part in parts.items():
        assert np.all(np.abs(gradient[:, part]) > 1e-8), name
        direction = np.zeros_like(interface)
        direction[:, part] = unit_direction(rng, direction[:, part].shape)
        numeric = slope(lambda t: loss(interface + t * direction).numpy())  # noqa: B023
        assert_slope(gradient * (direction != 0.0), direction, numeric, name)


def test_the_usage_path_carries_a_gradient_of_its_own():
    """From free gates, last reads, last writes and usage to where it writes next."""
    cell, state, _ = moving_on("dnc", {})
    parts = dnc_interface_parts()
    interface = np.zeros((2, cell.interface_size))
    # Writes by allocation alone and reads by content alone: what remains of the
    # gradients below has come through the allocation.
    interface[:, parts["allocation_gate"]] = 100.0
    interface[:, parts["read_modes"]] = [0.0, 100.0, 0.0] * 2
    with tf.GradientTape() as tape:
        variable = tf.constant(interface)
        sources = [variable, state.usage, state.write_weights, state.read_weights]
        tape.watch(sources)
        fields, _ = cell.access(variable, state)
        share = np.random.default_rng(600).normal(size=(2, SLOTS))
        target = tf.reduce_sum(share * fields["write_weights"])
    for_interface, *for_state = (g.numpy() for g in tape.gradient(target, sources))
    assert np.all(np.abs(for_interface[:, parts["free_gates"]]) > 1e-5)
    np.testing.assert_array_equal(for_interface[:, parts["write_key"]], 0.0)
    for gradient in for_state:
        assert np.max(np.abs(gradient)) > 1e-3


# Links without gradients.


def gradients_of(layer, inputs, share):
    variables = twin_names(layer.cell)
    with tf.GradientTape() as tape:
        outputs, _ = run_steps(layer.cell, inputs, layer.get_initial_state(2))
        loss = tf.reduce_sum(share * tf.stack(outputs, 1))
    sources = {name: variable.value for name, variable in variables.items()}
    return {
        name: gradient.numpy()
        for name, gradient in tape.gradient(loss, sources).items()
    }


@pytest.mark.parametrize("options", [{}, EVERY_DNC_OPTION], ids=["plain", "every"])
def test_link_gradients_false_treats_the_links_as_given_numbers(options, monkeypatch):
    options = gradient_options("dnc", options)
    shape = {"batch": 2, "steps": GRADIENT_STEPS}
    layer, inputs, weights, _ = layer_and_twin("dnc", options, "float64", **shape)
    cut, *_ = layer_and_twin(
        "dnc", {**options, "link_gradients": False}, "float64", **shape
    )
    share = np.random.default_rng(500).normal(size=(2, GRADIENT_STEPS, OUTPUTS))
    np.testing.assert_array_equal(cut(inputs)[0], layer(inputs)[0])
    full, without = gradients_of(layer, inputs, share), gradients_of(cut, inputs, share)

    # The links of this sequence, recorded and then played back as constants.
    _, states = run_steps(layer.cell, inputs, layer.get_initial_state(2))
    recorded = [tf.constant(state.link.numpy()) for state in states]
    variables = twin_names(layer.cell)
    rng = np.random.default_rng(501)

    def frozen_loss(name, value):
        links = iter(recorded)
        monkeypatch.setattr(cell_ops, "update_link", lambda *args: next(links))
        variables[name].assign(value)
        outputs, _ = run_steps(layer.cell, inputs, layer.get_initial_state(2))
        variables[name].assign(weights[name])
        monkeypatch.undo()
        return np.sum(share * np.stack(outputs, 1))

    for name, value in weights.items():
        direction = unit_direction(rng, value.shape)
        numeric = slope(lambda t: frozen_loss(name, value + t * direction))  # noqa: B023
        assert_slope(without[name], direction, numeric, name)
        if not name.startswith("output_"):
            through_links = np.linalg.norm(full[name] - without[name])
            assert through_links > 1e-3 * np.linalg.norm(full[name]), name


def test_link_gradients_false_cuts_the_links_and_nothing_else():
    by_option = {}
    for link_gradients in (True, False):
        cell, state, loss = moving_on("dnc", {"link_gradients": link_gradients})
        flat = cell.pack_state(state)
        with tf.GradientTape() as tape:
            tape.watch(flat)
            value = loss(cell.unpack_state(flat))
        by_option[link_gradients] = dict(
            zip([*cell.state_shapes, "h", "c"], tape.gradient(value, flat), strict=True)
        )
    assert all(gradient is not None for gradient in by_option[True].values())
    # The precedence is for the links alone.
    cut = {name for name, gradient in by_option[False].items() if gradient is None}
    assert cut == {"link", "precedence"}
