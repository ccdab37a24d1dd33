"""A layer and its NumPy twin: the same numbers in both, and what holds them equal."""

import keras
import numpy as np
from reference import sam

from keras_sam import SAMCell

# Of every cell.


def twin_names(cell):
    """The cell's variables by the names that the twins know them by."""
    variables = {
        "interface_kernel": cell.interface.kernel,
        "interface_bias": cell.interface.bias,
        "output_kernel": cell.output_projection.kernel,
        "output_bias": cell.output_projection.bias,
    }
    if hasattr(cell.controller, "dense"):
        variables["controller/kernel"] = cell.controller.dense.kernel
        variables["controller/bias"] = cell.controller.dense.bias
    else:
        for part in ("kernel", "recurrent_kernel", "bias"):
            variables[f"controller/{part}"] = getattr(cell.controller, part)
    if hasattr(cell, "interface_norm"):
        variables["interface_norm/gamma"] = cell.interface_norm.gamma
        variables["interface_norm/beta"] = cell.interface_norm.beta
    if hasattr(cell, "addresses"):
        variables["addresses"] = cell.addresses
    named = {variable.name: variable for variable in cell.weights}
    for part in ("memory", "read_vectors", "read_weights", "write_weights"):
        if f"initial_{part}" in named:
            variables[f"initial_{part}"] = named[f"initial_{part}"]
    assert {id(v) for v in variables.values()} == {id(v) for v in cell.weights}
    return variables


def draw(rng, name, shape, controller):
    values = rng.normal(size=shape)
    if name == "interface_norm/gamma":
        return 1.2 + 0.3 * values
    # The hidden numbers of an LSTM are smaller than those of a tanh layer, and the
    # loop through the reads of a tanh layer is easily chaotic.
    scale = {"output_kernel": 0.7, "interface_bias": 1.5, "interface_kernel": 1.5}
    if controller == "dense":
        scale |= {"controller/kernel": 0.3, "interface_kernel": 1.0}
    return scale.get(name, 0.8) * values


def assert_near(got, expected, tolerance, name):
    """That numbers differ by at most `tolerance` of the largest, or of 1."""
    scale = max(1.0, np.max(np.abs(expected)))
    np.testing.assert_allclose(
        got, expected, rtol=0, atol=tolerance * scale, err_msg=name
    )


def slope(function, step=1e-5):
    """The derivative at 0 of a function of one number."""
    return (function(step) - function(-step)) / (2 * step)


def unit_direction(rng, shape):
    direction = rng.normal(size=shape)
    return direction / np.linalg.norm(direction)


def assert_slope(gradient, direction, numeric, name, tolerance=1e-6):
    """That a gradient says what a finite difference along a direction says."""
    got = np.sum(gradient * direction)
    # Relative to the whole gradient: a direction may be nearly level by chance.
    scale = max(abs(numeric), 0.1 * np.linalg.norm(gradient))
    assert scale > 1e-6, f"no gradient at all for {name}"
    assert abs(got - numeric) <= tolerance * scale, (
        f"{name}: gradient {got:.12g}, finite differences {numeric:.12g}"
    )


# Of SAM and SDNC.

BATCH, STEPS, FEATURES, UNITS, OUTPUTS, WORDS = 3, 20, 5, 7, 4, 4
TOLERANCES = {"float32": 1e-5, "float64": 1e-9}
DEFAULTS = {"memory_slots": 12, "read_heads": 2, "reads_per_head": 3}

GIVEN = np.random.default_rng(10).normal(size=(BATCH, 12, WORDS)).astype("float32")
MASK = np.random.default_rng(11).random((BATCH, STEPS)) < 0.7
MASK[0, :2], MASK[1, -2:] = False, False


class Pair:
    """A layer with random weights and what its twin does on random inputs."""

    cell_class = SAMCell
    run_twin = staticmethod(sam.run)

    def __init__(self, options, dtype="float64", batch=BATCH, steps=STEPS, nudge=1e-6):
        self.options = {**DEFAULTS, **options}
        self.given = self.options.pop("given", None)
        self.mask = self.options.pop("mask", None)
        steps = self.options.pop("steps", steps)
        self.cell = self.cell_class(
            UNITS, word_size=WORDS, output_size=OUTPUTS, dtype=dtype, **self.options
        )
        self.layer = keras.layers.RNN(
            self.cell, return_sequences=True, return_state=True, dtype=dtype
        )
        self.layer.build((batch, None, FEATURES))
        self.variables = twin_names(self.cell)
        controller = self.options.get("controller", "lstm")
        for seed in range(50):
            rng = np.random.default_rng(seed)
            self.weights = {
                name: draw(rng, name, variable.shape, controller).astype(dtype)
                for name, variable in self.variables.items()
            }
            self.adjust(self.weights)
            self.inputs = rng.normal(size=(batch, steps, FEATURES)).astype(dtype)
            self.expected = self.twin()
            if not (self.equal_words_matter() or self.rounding_matters(nudge)):
                break
        else:
            raise AssertionError("rounding decides in each of 50 draws")
        for name, variable in self.variables.items():
            variable.assign(self.weights[name])

    def adjust(self, weights):
        """For a subclass that wants other weights than random ones."""

    def twin(self, run=None, weights=None, inputs=None, given=None, **more):
        options = {**self.options, **more}
        options.pop("initial_read_vectors", None)
        return (run or self.run_twin)(
            self.weights if weights is None else weights,
            self.inputs if inputs is None else inputs,
            word_size=WORDS,
            given_memory=self.given if given is None else given,
            mask=self.mask,
            **options,
        )

    def rounding_matters(self, nudge):
        """Whether slightly different weights choose other slots, or differ much."""
        rng = np.random.default_rng(700)
        nudged = {
            name: value * (1 + nudge * rng.normal(size=value.shape))
            for name, value in self.weights.items()
        }
        other = self.twin(weights=nudged)
        chosen = ("read_slots", "lra_slots", "last_access")
        return any(
            np.any(self.expected[name] != other[name]) for name in chosen
        ) or any(
            np.max(np.abs(self.expected[name] - other[name])) > 50 * nudge
            for name in ("outputs", "memory", "read_weights")
        )

    def equal_words_matter(self):
        """Whether a head reads one of two words that were written to alike."""
        trace = self.expected
        was_written = np.any(trace["dense_write_weights"] > 0.0, axis=2)
        was_written = np.logical_or.accumulate(was_written, axis=1)
        for b, step in np.ndindex(was_written.shape[:2]):
            slots = np.flatnonzero(was_written[b, step])
            words = trace["memory"][b, step, slots]
            equal = np.all(words[:, np.newaxis] == words, axis=-1)
            for read in trace["read_slots"][b, step]:
                is_read = np.isin(slots, read)
                if np.any(equal[is_read][:, ~is_read]):
                    return True
        return False

    def initial_state(self):
        return self.cell.get_initial_state(len(self.inputs), memory=self.given)

    def run(self):
        return self.layer(
            self.inputs, initial_state=self.initial_state(), mask=self.mask
        )

    def times(self):
        """Of the next step, after each step."""
        if self.mask is None:
            return np.tile(np.arange(self.inputs.shape[1]) + 3, (len(self.inputs), 1))
        return 2 + np.cumsum(self.mask, axis=1)


def dense(slots, weights, memory_slots):
    """Weightings over all slots from `[batch, heads, writes]`."""
    result = np.zeros((*slots.shape[:2], memory_slots))
    batch, head, _ = np.indices(slots.shape)
    np.add.at(result, (batch, head, slots), weights)
    return result


def assert_state(pair, state, step, tolerance, expected):
    for field in ("memory", "read_vectors"):
        assert_near(getattr(state, field), expected[field][:, step], tolerance, field)
    slots, weights = state.read_slots.numpy().astype(int), state.read_weights.numpy()
    # The most similar one first; equal words may stand in either order.
    assert np.all(np.diff(weights, axis=-1) <= tolerance)
    theirs = expected["read_slots"][:, step]
    np.testing.assert_array_equal(np.sort(slots, -1), np.sort(theirs, -1))
    count = pair.options["memory_slots"]
    theirs = expected["dense_read_weights"][:, step]
    assert_near(dense(slots, weights, count), theirs, tolerance, "read weights")
    np.testing.assert_array_equal(
        state.last_access[:, :count], expected["last_access"][:, step]
    )
    np.testing.assert_array_equal(state.time[:, 0], pair.times()[:, step])
