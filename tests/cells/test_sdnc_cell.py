"""The SDNC cell, in `keras.layers.RNN`, against its NumPy twin and by itself.

What it shares with SAM is tested in test_sam_cell.py.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import sdnc
from twins import (
    BATCH,
    FEATURES,
    GIVEN,
    MASK,
    STEPS,
    TOLERANCES,
    UNITS,
    WORDS,
    Pair,
    assert_near,
    assert_slope,
    assert_state,
    slope,
    unit_direction,
)

from keras_sam import SAMCell, SDNCCell

OPTIONS = {
    "key_masks": True,
    "mask_min": 0.2,
    "link_sharpening": True,
    "normalize_interface": True,
}
CASES = {
    "one write head": {"given": GIVEN},
    "write heads": {"given": GIVEN, "write_heads": 2},
    "one link": {"given": GIVEN, "links_per_slot": 1},
    "every option": {"given": GIVEN, "write_heads": 2, **OPTIONS},
    "gated erase": {"given": GIVEN, "write_heads": 2, "gated_erase": True},
    "all slots and links": {
        "given": GIVEN[:, :4],
        "memory_slots": 6,
        "reads_per_head": 6,
        "links_per_slot": 6,
        "usage_threshold": 0.4,
    },
    "all slots and links, every option": {
        "given": GIVEN[:, :4],
        "memory_slots": 6,
        "reads_per_head": 6,
        "links_per_slot": 6,
        "write_heads": 2,
        "usage_threshold": 0.3,
        "mask": MASK,
        **OPTIONS,
    },
}


class SDNCPair(Pair):
    """A layer with random weights and what its twin does on random inputs."""

    cell_class = SDNCCell
    run_twin = staticmethod(sdnc.run)

    def __init__(self, options, *args, **kwargs):
        super().__init__({"links_per_slot": 3, **options}, *args, **kwargs)

    def adjust(self, weights):
        """Strong links, that heads follow: those of random gates hardly matter."""
        columns = self.cell.interface_columns
        bias, modes = weights["interface_bias"], columns["read_modes"]
        bias[columns["write_gates"]] += 2.0
        bias[columns["interpolation_gates"]] -= 3.0
        weights["interface_kernel"][:, modes] *= 4.0

    def run(self):
        """Runs it traced, because a step has some hundred operations."""
        return tf.function(super().run)()

    @property
    def is_dense(self):
        slots = self.options["memory_slots"]
        return self.options["reads_per_head"] == slots == self.options["links_per_slot"]


def dense_links(cell, state):
    return tf.sparse.to_dense(cell.link_matrix(state)).numpy()


def dense_precedence(state, slots):
    named, weights = tf.unstack(state.precedence, axis=1)
    places = tf.one_hot(tf.cast(named, tf.int32), slots, dtype=weights.dtype)
    return tf.linalg.matvec(places, weights, transpose_a=True)


# Values.


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "float64") for name in CASES if name != "write heads"]
    + [("every option", "float32")],
)
def test_a_sequence_is_that_of_the_twin(name, dtype):
    pair, tolerance = SDNCPair(CASES[name], dtype), TOLERANCES[dtype]
    outputs, *states = pair.run()
    assert outputs.dtype == dtype
    state = pair.cell.unpack_state(states)
    twins = [pair.expected]
    if pair.is_dense:
        # With room for everything the links are those of matrices of the same rule.
        twins.append(pair.twin(sdnc.run_dense))
        assert np.sum(twins[1]["links"][:, -1] > 0) > 15 * BATCH
    for expected in twins:
        assert_near(outputs, expected["outputs"], tolerance, "outputs")
        assert_state(pair, state, -1, tolerance, expected)
        links = dense_links(pair.cell, state)
        assert_near(links, expected["links"][:, -1], tolerance, "links")
        precedence = dense_precedence(state, pair.cell.memory_slots)
        assert_near(precedence, expected["precedence"][:, -1], tolerance, "p")


def test_every_step_is_that_of_the_twin():
    pair = SDNCPair(CASES["write heads"])
    cell, expected = pair.cell, pair.expected
    state = cell.unpack_state(pair.initial_state())
    take_step = tf.function(cell.step)
    for step in range(STEPS):
        output, state, trace = take_step(tf.constant(pair.inputs[:, step]), state)
        assert_near(output, expected["outputs"][:, step], 1e-9, "outputs")
        assert_state(pair, state, step, 1e-9, expected)
        links = dense_links(cell, state)
        assert_near(links, expected["links"][:, step], 1e-9, "links")
        assert_near(trace["read_modes"], expected["read_modes"][:, step], 1e-9, "modes")
    slots, _ = tf.unstack(state.precedence, axis=1)
    assert all(len(set(row)) == len(row) for row in slots.numpy().tolist())


def test_the_cases_reach_the_corners():
    """Else the agreement above would say little."""
    pair = SDNCPair(CASES["one write head"])
    links = pair.expected["links"]
    assert np.sum(links > 0, axis=-1).max() == np.sum(links > 0, axis=-2).max() == 3
    unlimited = pair.twin(links_per_slot=12)["links"]
    assert np.sum(unlimited > 0, axis=-1).max() > 6
    # Words are read that content alone would not find.
    alone = pair.twin(frozen_links=np.zeros_like(links))["read_slots"]
    other = [
        set(a) != set(b)
        for a, b in zip(
            *map(rows_of, (alone, pair.expected["read_slots"])), strict=True
        )
    ]
    assert np.mean(other) > 0.2


def rows_of(array):
    return array.reshape(-1, array.shape[-1]).tolist()


# Order.


def program(cell, **parts):
    """Has the cell do the same at each step: an interface of biases alone."""
    kernel, bias = (np.zeros(w.shape) for w in cell.interface.get_weights())
    for name, value in parts.items():
        columns = bias[cell.interface_columns[name]]
        columns[:] = np.resize(value, columns.shape)
    cell.interface.set_weights([kernel, bias])


BACKWARD, CONTENT, FORWARD = 50.0 * np.eye(3)
OPEN, SHUT = 50.0, -50.0
WRITE = {"write_gates": OPEN, "interpolation_gates": SHUT, "read_modes": CONTENT}


def order_cell(**options):
    cell = SDNCCell(
        UNITS,
        clip_value=None,
        word_size=WORDS,
        **{"read_heads": 1, "reads_per_head": 1, "links_per_slot": 3, **options},
    )
    cell.build((1, FEATURES))
    return cell


def run_steps(cell, state, steps):
    if not hasattr(cell, "traced_step"):
        cell.traced_step = tf.function(cell.step)
    for _ in range(steps):
        _, state, _ = cell.traced_step(tf.ones((1, FEATURES)), state)
        yield state


def test_a_planted_order_is_recovered_and_walked_both_ways():
    """Slots are written 0, 1, 2, ..., and from a slot in their midst read so."""
    cell = order_cell(memory_slots=16)
    program(cell, vectors=np.arange(1.0, 1.0 + WORDS), **WRITE)
    *_, state = run_steps(cell, cell.unpack_state(cell.get_initial_state(1)), 12)
    expected = np.diag(np.ones(15), -1)
    expected[12:] = 0.0
    np.testing.assert_allclose(dense_links(cell, state)[0], expected, atol=1e-6)

    start = state._replace(
        read_slots=tf.constant([[[5.0]]]), read_weights=tf.constant([[[1.0]]])
    )
    for mode, walk in ((FORWARD, range(6, 12)), (BACKWARD, range(4, -1, -1))):
        program(cell, **{**WRITE, "write_gates": SHUT, "read_modes": mode})
        for state, slot in zip(run_steps(cell, start, len(walk)), walk, strict=True):
            assert state.read_slots[0, 0, 0] == slot
            np.testing.assert_allclose(state.read_weights, 1.0, atol=1e-5)
            word = state.memory[0, slot]
            np.testing.assert_allclose(state.read_vectors[0, 0], word, rtol=1e-5)
    # From the ends no link leads on.
    *_, state = run_steps(cell, state, 1)
    np.testing.assert_allclose(state.read_weights, 0.0, atol=1e-5)


def test_write_heads_that_write_at_once_keep_the_weight_of_a_walk():
    cell = order_cell(memory_slots=32, read_heads=3, write_heads=3, links_per_slot=4)
    program(cell, vectors=1.0, **WRITE)
    *_, state = run_steps(cell, cell.unpack_state(cell.get_initial_state(1)), 6)
    links = dense_links(cell, state)[0]
    np.testing.assert_allclose(links[3:18].sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(links[:, :15].sum(axis=0), 1.0, atol=1e-5)
    program(cell, **{**WRITE, "write_gates": SHUT, "read_modes": FORWARD})
    state = state._replace(
        read_slots=tf.zeros((1, 3, 1)), read_weights=tf.ones((1, 3, 1))
    )
    (state,) = run_steps(cell, state, 1)
    # One of the three slots written after slot 0, with a third.
    assert np.all(np.isin(state.read_slots, [3, 4, 5]))
    np.testing.assert_allclose(state.read_weights, 1 / 3, atol=1e-5)


def test_without_links_it_is_a_sam():
    """Modes that say content alone: the same weights, the same numbers."""
    pair = SDNCPair(CASES["write heads"])
    sam_cell = SAMCell(
        UNITS,
        word_size=WORDS,
        output_size=pair.cell.output_size,
        dtype="float64",
        **{k: v for k, v in pair.options.items() if k != "links_per_slot"},
    )
    sam_layer = keras.layers.RNN(sam_cell, return_sequences=True, dtype="float64")
    sam_layer.build(pair.inputs.shape)
    modes = pair.cell.interface_columns["read_modes"]
    kernel, bias = pair.cell.interface.get_weights()
    kernel[:, modes], bias[modes] = 0.0, np.tile([-900.0, 900.0, -900.0], 2)
    pair.cell.clip_value = sam_cell.clip_value = None
    pair.cell.interface.set_weights([kernel, bias])
    weights = pair.cell.get_weights()
    for place, weight in enumerate(pair.cell.weights):
        if weight is pair.cell.interface.kernel:
            weights[place] = kernel[:, : modes.start]
        if weight is pair.cell.interface.bias:
            weights[place] = bias[: modes.start]
    sam_cell.set_weights(weights)
    state = sam_cell.get_initial_state(BATCH, memory=pair.given)
    expected = sam_layer(pair.inputs, initial_state=state)
    assert_near(pair.run()[0], expected, 1e-9, "outputs")


# Options.


def test_key_masks_compare_what_they_let_through():
    """Of the words found, those alike where it counts are read."""
    cell = order_cell(memory_slots=4, reads_per_head=4, key_masks=True)
    memory = [[1, 0, 9, 0], [1, 0, 0, 9], [0, 1, 9, 0], [0, 1, 0, 9]]
    state = cell.unpack_state(cell.get_initial_state(1, memory=np.array(memory)))
    parts = {**WRITE, "write_gates": SHUT, "interpolation_gates": OPEN, "strengths": 9}
    # The least recently accessed slot, 0, is erased.
    program(cell, **parts, queries=[1.0, 0, 9, 0], read_masks=[OPEN, OPEN, SHUT, SHUT])
    (masked,) = run_steps(cell, state, 1)
    assert masked.read_slots[0, 0, 0] == 1 and masked.read_weights[0, 0, 0] > 0.99
    program(cell, **parts, queries=[1.0, 0, 9, 0], read_masks=OPEN)
    (whole,) = run_steps(cell, state, 1)
    assert whole.read_slots[0, 0, 0] == 2


def test_sharpened_links_follow_the_strongest_and_lead_nowhere_without_links():
    cell = order_cell(memory_slots=16, link_sharpening=True)
    program(cell, **{**WRITE, "write_gates": 1.0})
    *_, state = run_steps(cell, cell.unpack_state(cell.get_initial_state(1)), 8)
    links = dense_links(cell, state)[0]
    after = np.sort(links[:, 3])[::-1]
    assert 0.0 < after[1] < after[0] < 0.9
    start = state._replace(
        read_slots=tf.constant([[[3.0]]]), read_weights=tf.constant([[[1.0]]])
    )
    walk = {**WRITE, "write_gates": SHUT, "read_modes": FORWARD}
    for sharpness, share in ((SHUT, after[0] / after.sum()), (OPEN, 1.0)):
        program(cell, **walk, sharpness=sharpness)
        (state,) = run_steps(cell, start, 1)
        assert state.read_slots[0, 0, 0] == 4
        np.testing.assert_allclose(state.read_weights[0, 0, 0], share, rtol=1e-3)
    fresh = cell.unpack_state(cell.get_initial_state(1))
    (state,) = run_steps(cell, fresh._replace(read_weights=start.read_weights), 1)
    np.testing.assert_allclose(state.read_weights, 0.0, atol=1e-5)


def test_bypass_dropout_drops_only_what_goes_past_the_memory():
    cell = order_cell(memory_slots=16, bypass_dropout=0.5, seed=3)
    states = cell.get_initial_state(1)
    inputs = tf.ones((1, FEATURES))
    output, after = cell(inputs, states)
    dropped, after_dropping = cell(inputs, states, training=True)
    assert np.max(np.abs(dropped - output)) > 1e-3
    for one, other in zip(after, after_dropping, strict=True):
        np.testing.assert_array_equal(one, other)


def test_normalize_interface_makes_the_scale_of_the_interface_irrelevant():
    cell = order_cell(memory_slots=16, normalize_interface=True)
    states, inputs = cell.get_initial_state(1), tf.ones((1, FEATURES))
    kernel, bias = cell.interface.get_weights()
    outputs = []
    for scale in (100.0, 900.0):
        cell.interface.set_weights([scale * kernel, scale * bias])
        outputs.append(cell(inputs, states)[0])
    np.testing.assert_allclose(*outputs, atol=1e-4)


# Gradients.

GRADIENT_CASES = {
    "one write head": {"given": GIVEN[:2, :5], "memory_slots": 8},
    "write heads, every option": {
        "given": GIVEN[:2, :6],
        "memory_slots": 6,
        "write_heads": 2,
        **OPTIONS,
    },
}


@pytest.mark.parametrize("name", GRADIENT_CASES)
def test_gradients_are_finite_differences_of_the_twin_on_given_links(name):
    options = {"initial_read_vectors": "learned", **GRADIENT_CASES[name]}
    pair = SDNCPair(options, batch=2, steps=5, nudge=1e-4)
    share = np.random.default_rng(100).normal(size=pair.expected["outputs"].shape)
    inputs, memory = tf.constant(pair.inputs), tf.constant(pair.given)
    with tf.GradientTape() as tape:
        tape.watch([inputs, memory])
        state = pair.cell.get_initial_state(2, memory=memory)
        outputs, *_ = tf.function(pair.layer)(inputs, initial_state=state)
        loss = tf.reduce_sum(share * outputs)
    sources = {name: variable.value for name, variable in pair.variables.items()}
    sources |= {"inputs": inputs, "given": memory}
    gradients = tape.gradient(loss, sources)

    def twin_loss(moved, links):
        moved = dict(moved)
        arguments = {name: moved.pop(name) for name in ("inputs", "given")}
        trace = pair.twin(weights=moved, frozen_links=links, **arguments)
        return np.sum(share * trace["outputs"])

    here = {**pair.weights, "inputs": pair.inputs, "given": pair.given}
    links = pair.expected["links"]
    np.testing.assert_allclose(loss, twin_loss(here, links), rtol=1e-9)
    rng = np.random.default_rng(101)
    for source, value in here.items():
        direction = unit_direction(rng, value.shape)

        def moved(t):
            return {**here, source: value + t * direction}  # noqa: B023

        numeric = slope(lambda t: twin_loss(moved(t), links))  # noqa: B023
        assert_slope(gradients[source].numpy(), direction, numeric, source)
        if source == "interface_kernel":
            # Else it would not matter whether the links count as given.
            with_links = slope(lambda t: twin_loss(moved(t), None))  # noqa: B023
            assert abs(with_links / numeric - 1.0) > 1e-3


def test_no_gradient_for_the_links_of_the_state_it_starts_from():
    pair = SDNCPair(CASES["one write head"], batch=BATCH)
    layer = tf.function(pair.layer)
    _, *flat = layer(pair.inputs[:, :4], initial_state=pair.initial_state())
    with tf.GradientTape() as tape:
        tape.watch(flat)
        outputs, *_ = layer(pair.inputs[:, 4:8], initial_state=flat)
        loss = tf.reduce_sum(outputs**2)
    names = [*pair.cell.state_shapes, "h", "c"]
    gradients = dict(zip(names, tape.gradient(loss, flat), strict=True))
    for name in ("link_ends", "precedence", "last_access", "index", "read_slots"):
        assert gradients[name] is None or not np.any(gradients[name]), name
    for name in ("memory", "read_weights", "read_vectors", "h", "c"):
        assert np.any(gradients[name]), name
