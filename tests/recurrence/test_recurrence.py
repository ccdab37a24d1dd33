"""The compiled sequence of a sparse layer against its cell in Keras's own loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    PATHS,
    compiled_programs,
    copies_in_loops,
    make_layers,
    results_and_gradients,
)

import keras_sam
from keras_sam.recurrence.operation import padded_length


@pytest.mark.parametrize("path", PATHS)
# Small memories, so that slots are reused and heads read and write the same ones.
@pytest.mark.parametrize(
    ("kwargs", "given_rows", "masked"),
    [
        ({"memory_slots": 9, "reads_per_head": 2}, 0, False),
        ({"memory_slots": 40, "reads_per_head": 2, "write_heads": 2}, 5, True),
        (
            {
                "memory_slots": 5,
                "reads_per_head": 5,
                "write_heads": 2,
                "zero_output_for_mask": True,
                "controller": "dense",
            },
            5,
            True,
        ),
        (
            {
                "layer_class": keras_sam.SDNC,
                "memory_slots": 9,
                "reads_per_head": 2,
                "links_per_slot": 3,
            },
            5,
            False,
        ),
        (
            {
                "layer_class": keras_sam.SDNC,
                "memory_slots": 40,
                "reads_per_head": 2,
                "write_heads": 2,
                "links_per_slot": 3,
                "key_masks": True,
                "link_sharpening": True,
                "normalize_interface": True,
            },
            5,
            True,
        ),
    ],
    ids=["reused", "given_masked", "all_read_masked", "sdnc", "sdnc_options_masked"],
)
@pytest.mark.slow_rows(
    "reused-compiled",
    "given_masked-in_place",
    "all_read_masked-compiled",
    "sdnc-in_place",
    "sdnc_options_masked-compiled",
)
def test_sequence_equals_the_cell(path, kwargs, given_rows, masked):
    layer, plain = make_layers(path, **kwargs)
    rng = np.random.default_rng(1)
    inputs = tf.constant(rng.normal(size=(3, 17, 5)))
    mask = tf.constant(rng.random((3, 17)) > 0.3) if masked else None
    memory = rng.normal(size=(given_rows, 4)) if given_rows else None
    state = layer.get_initial_state(3, memory=memory)
    before = [value.numpy().copy() for value in state]
    got = results_and_gradients(layer, inputs, state, mask)
    # What belongs to the caller is not what was changed in place.
    for value, copy in zip(state, before, strict=True):
        np.testing.assert_array_equal(value, copy)
    expected = results_and_gradients(plain, inputs, state, mask)
    names = layer.cell.unpack_state(expected[0][1:])
    assert np.unique(names.read_slots).size > 2, "The case reads too few slots."
    # Loss = sum of sines: the bookkeeping states (times, slots) carry no gradient.
    for values, references in zip(got, expected, strict=True):
        for value, reference in zip(values, references, strict=True):
            np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_rounding_of_the_sequence_is_that_of_the_cell():
    """In float32, against the cell in float64: at most twice the plain path's error.

    In the median of some draws: in a single one either path may be the luckier.
    """
    kwargs = {"memory_slots": 40, "reads_per_head": 2, "write_heads": 2}
    _, reference = make_layers(**kwargs)
    layers = make_layers(**kwargs, dtype="float32")

    def flat(layer, seed):
        rng = np.random.default_rng(seed)
        inputs = tf.constant(rng.normal(size=(3, 17, 5)), layer.compute_dtype)
        state = layer.cell.get_initial_state(3, memory=rng.normal(size=(5, 4)))
        mask = tf.constant(rng.random((3, 17)) > 0.3)
        results = results_and_gradients(layer, inputs, state, mask)
        return [
            np.concatenate([np.ravel(value) for value in values]) for values in results
        ]

    ratios = []
    for seed in range(5):
        exact = flat(reference, seed)
        errors, plain_errors = (
            [
                np.linalg.norm(got - values) / np.linalg.norm(values)
                for got, values in zip(flat(layer, seed), exact, strict=True)
            ]
            for layer in layers
        )
        assert min(plain_errors) > 0 and max(plain_errors) < 1e-4
        ratios.append(np.divide(errors, plain_errors))
    assert np.all(np.median(ratios, axis=0) <= 2)


@keras.saving.register_keras_serializable()
class NoisyCell(keras.layers.GRUCell):
    """A user's cell, which draws random numbers at each step."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.noise = keras.layers.Dropout(0.5, seed=1, dtype=self.dtype_policy)

    def call(self, inputs, states, training=False):
        output, states = super().call(inputs, states, training=training)
        return self.noise(output, training=training), states


CONTROLLERS = {
    "lstm": lambda: {"dropout": 0.4, "recurrent_dropout": 0.3},
    "stacked": lambda: {
        "controller": keras.layers.StackedRNNCells(
            [
                keras.layers.GRUCell(5, dropout=0.4, dtype="float64"),
                keras.layers.LSTMCell(4, recurrent_dropout=0.3, dtype="float64"),
            ],
            dtype="float64",
        )
    },
    "skip": lambda: {
        "controller": keras_sam.SkipCell(
            keras.layers.LSTMCell(5, dropout=0.4, dtype="float64"), dtype="float64"
        )
    },
    "noise_at_each_step": lambda: {"controller": NoisyCell(5, dtype="float64")},
}


@pytest.mark.parametrize(
    ("path", "controller"),
    [
        ("compiled", "lstm"),
        ("in_place", "lstm"),
        ("in_place", "stacked"),
        ("in_place", "skip"),
        ("compiled", "noise_at_each_step"),
    ],
)
@pytest.mark.slow_rows("compiled-lstm", "in_place-stacked")
def test_dropout_is_the_same_in_both_passes(path, controller):
    layer = keras_sam.SAM(
        8,
        16,
        4,
        2,
        dtype="float64",
        jit_compile=PATHS[path],
        **CONTROLLERS[controller](),
    )
    inputs = tf.constant(np.random.default_rng(0).normal(size=(2, 7, 3)))
    layer.build(inputs.shape)
    weights = {id(weight) for weight in layer.weights}
    generators = [v for v in layer.variables if id(v) not in weights]
    starts = [generator.numpy() for generator in generators]
    kernel = layer.trainable_variables[0]

    def loss():
        for generator, first in zip(generators, starts, strict=True):
            generator.assign(first)
        return tf.reduce_sum(tf.sin(layer(inputs, training=True)))

    with tf.GradientTape() as tape:
        value = loss()
    after = [generator.numpy() for generator in generators]
    gradient = tape.gradient(value, kernel.value).numpy()
    assert (np.array(after) != starts).any()
    np.testing.assert_array_equal([g.numpy() for g in generators], after)
    direction = np.random.default_rng(1).normal(size=kernel.shape)
    original, step = kernel.numpy(), 1e-6
    kernel.assign(original + step * direction)
    above = float(loss())
    kernel.assign(original - step * direction)
    below = float(loss())
    np.testing.assert_allclose(
        np.sum(gradient * direction), (above - below) / (2 * step), rtol=1e-5
    )


@pytest.mark.parametrize("path", PATHS)
def test_halves_with_the_state_passed_on_equal_the_whole(path):
    layer, _ = make_layers(path, memory_slots=9, reads_per_head=2)
    inputs = tf.constant(np.random.default_rng(2).normal(size=(3, 12, 5)))
    whole, *state = layer(inputs)
    first, *half = layer(inputs[:, :6])
    second, *final = layer(inputs[:, 6:], initial_state=half)
    np.testing.assert_allclose(tf.concat([first, second], 1), whole, atol=1e-12)
    for got, expected in zip(final, state, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_trains_in_fit_and_answers_after_reload(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, 9)),
            keras_sam.SAM(
                16, 64, 8, read_heads=1, output_size=8, return_sequences=True
            ),
            keras.layers.Activation("sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    data = keras_sam.tasks.copy_task(8, max_length=2, seed=0)
    # Of a generator Keras knows neither the batch's size nor the length.
    data = (batch for batch in data.as_numpy_iterator())
    losses = model.fit(data, steps_per_epoch=30, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    inputs = np.random.default_rng(0).normal(size=(8, 5, 9)).astype("float32")
    expected = model.predict(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(reloaded.predict(inputs, verbose=0), expected, atol=1e-6)


def test_padded_length_wastes_at_most_an_eighth_with_few_lengths():
    for length in [*range(1, 300), 1000, 4097, 100_001]:
        bucket = padded_length(length)
        assert length <= bucket <= length * 9 / 8
        assert int(padded_length(tf.constant(length))) == bucket
    assert len({padded_length(length) for length in range(64, 129)}) <= 9


def test_jit_compile_refuses_what_cannot_be_compiled():
    with pytest.raises(ValueError, match="needs unroll=False.*Received: unroll=True"):
        keras_sam.SAM(4, 8, 3, unroll=True, jit_compile=True)


# Nothing else has as many entries. Of an SDNC the candidates to be read, compared with
# one another, are 18,496 numbers.
@pytest.mark.parametrize(
    ("layer_class", "slots"), [(keras_sam.SAM, 4099), (keras_sam.SDNC, 8209)]
)
def test_compiled_loops_copy_no_memory(layer_class, slots):
    words = 6
    layer = layer_class(5, slots, words, index="exact", return_sequences=True)
    inputs = tf.zeros((1, 16, 3))
    layer.build(inputs.shape)
    for program in compiled_programs(layer, inputs, layer.get_initial_state(1)):
        # The exact index compares 1,024 words of 6 numbers at a time: not as many
        # numbers as half of the memory has, which a shuffled copy would have.
        assert not copies_in_loops(program, slots * words // 2)


def test_copies_in_loops_are_seen():
    """A loop that writes and then adds to everything does copy."""

    @tf.function(jit_compile=True)
    def copies(memory):
        def step(i, memory):
            memory = tf.tensor_scatter_nd_update(memory, [[i]], [[1.0] * 6])
            return i + 1, memory * 2.0

        return tf.while_loop(lambda i, _: i < 5, step, (0, memory))[1]

    program = copies.experimental_get_compiler_ir(tf.ones((4099, 6)))
    assert copies_in_loops(program(stage="optimized_hlo"), 4099 * 3)
