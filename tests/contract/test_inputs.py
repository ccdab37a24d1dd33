"""What enters a layer or a cell when it is called: cast, or refused with a reason.

`keras.layers.LSTM` is the reference: what it takes is taken here, with the answer that
it gives for the same numbers.
"""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sam

SIZES = {"units": 5, "memory_slots": 7, "word_size": 3, "read_heads": 2}
pytestmark = pytest.mark.slow_rows("*sdnc*")

BATCH, STEPS, FEATURES = 2, 5, 3


def lstm(**kwargs):
    return keras.layers.LSTM(5, **kwargs)


def ntm(**kwargs):
    return keras_sam.NTM(**SIZES, **kwargs)


def dnc(**kwargs):
    return keras_sam.DNC(**SIZES, **kwargs)


def dam(**kwargs):
    return keras_sam.DAM(**SIZES, **kwargs)


def sam(**kwargs):
    return keras_sam.SAM(**SIZES, **{"jit_compile": False, **kwargs})


def sdnc(**kwargs):
    return keras_sam.SDNC(**SIZES, links_per_slot=2, **{"jit_compile": False, **kwargs})


def compiled_ntm(**kwargs):
    return ntm(jit_compile=True, **kwargs)


def compiled_sam(**kwargs):
    return sam(jit_compile=True, **kwargs)


def lstm_cell(dtype=None):
    return keras.layers.RNN(keras.layers.LSTMCell(5, dtype=dtype), dtype=dtype)


def ntm_cell(dtype=None):
    return keras.layers.RNN(keras_sam.NTMCell(**SIZES, dtype=dtype), dtype=dtype)


def sdnc_cell(dtype=None):
    cell = keras_sam.SDNCCell(**SIZES, links_per_slot=2, dtype=dtype)
    return keras.layers.RNN(cell, dtype=dtype)


OURS = [ntm, dnc, dam, sam, sdnc]
each_of_ours = pytest.mark.parametrize("make", OURS)
each_layer = pytest.mark.parametrize("make", [lstm, *OURS])
# Those that differ in how a sequence reaches the cell.
each_kind = pytest.mark.parametrize("make", [lstm, ntm, sam])
each_kind_of_ours = pytest.mark.parametrize("make", [ntm, sam])


def bits(dtype):
    drawn = np.random.default_rng(0).integers(0, 2, (BATCH, STEPS, FEATURES))
    return drawn.astype(dtype)


@contextlib.contextmanager
def refused(*parts):
    """A `ValueError` with all these parts in its message."""
    with pytest.raises(ValueError) as info:
        yield
    message = " ".join(str(info.value).split())
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"


def assert_equal(actual, expected):
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


# What is cast.


@pytest.mark.parametrize(
    "make", [lstm, lstm_cell, *OURS, ntm_cell, sdnc_cell, compiled_sam]
)
def test_numbers_of_any_kind_are_cast(make):
    layer = make()
    expected = layer(bits("float32"))
    assert expected.dtype == "float32"
    for dtype in ("int32", "int64", "uint8", "bool", "float64", "float16"):
        assert_equal(layer(bits(dtype)), expected)
        assert_equal(layer(tf.constant(bits(dtype))), expected)


@pytest.mark.parametrize("make", [lstm, lstm_cell, ntm, sam, sdnc, ntm_cell, sdnc_cell])
def test_numbers_of_any_kind_are_cast_to_double_precision(make):
    layer = make(dtype="float64")
    expected = layer(bits("float64"))
    assert expected.dtype == "float64"
    for dtype in ("int32", "bool", "float32"):
        assert_equal(layer(bits(dtype)), expected)


@pytest.mark.parametrize("make", [lstm, ntm, dnc, dam, sam, sdnc])
def test_a_cell_casts_its_inputs(make):
    cell = make().cell
    states = cell.get_initial_state(BATCH)
    expected = cell(bits("float32")[:, 0], states)[0]
    for dtype in ("int32", "bool", "float64"):
        assert_equal(cell(bits(dtype)[:, 0], states)[0], expected)


@each_kind
@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_models_take_numbers_of_any_kind(make, dtype):
    layer = make()
    model = keras.Sequential([keras.Input((None, FEATURES), dtype=dtype), layer])
    expected = np.asarray(layer(bits("float32")))
    np.testing.assert_allclose(
        model.predict(bits(dtype), verbose=0), expected, atol=1e-6
    )
    if dtype == "int32":
        model.compile("sgd", "mse")
        model.fit(bits(dtype), np.zeros((BATCH, 5)), verbose=0)


@each_of_ours
def test_traces_cast_their_inputs(make):
    layer = make()
    expected = layer.trace(bits("float32"))["outputs"]
    for inputs in (
        bits("int64"),
        bits("bool"),
        bits("float64"),
        bits("int64").tolist(),
    ):
        assert_equal(layer.trace(inputs)["outputs"], expected)


@each_kind
def test_gradients_reach_inputs_that_were_cast(make):
    layer = make()
    inputs = tf.constant(bits("float64"))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(layer(inputs))
    gradient = tape.gradient(loss, inputs)
    assert gradient.dtype == "float64" and np.any(gradient)


# What is refused.

KINDS = {
    "string": bits("float32").astype(str),
    "complex64": bits("complex64"),
}


@pytest.mark.parametrize("make", [*OURS, ntm_cell, sdnc_cell])
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_are_no_real_numbers(make, kind):
    with refused("must hold real numbers or booleans", f"dtype='{kind}'"):
        make()(tf.constant(KINDS[kind]))


@each_of_ours
def test_symbolic_inputs_that_are_no_real_numbers(make):
    with refused("must hold real numbers or booleans", "dtype='string'"):
        make()(keras.Input((None, FEATURES), dtype="string"))


@each_of_ours
def test_sparse_inputs(make):
    for inputs in (
        tf.sparse.from_dense(bits("float32")),
        keras.Input((STEPS, FEATURES), sparse=True),
    ):
        with refused("`sequences` must be a dense tensor", "tf.sparse.to_dense"):
            make()(inputs)
    with refused("`inputs` must be a dense tensor", "tf.sparse.to_dense"):
        make().trace(tf.sparse.from_dense(bits("float32")))
    cell = make().cell
    with refused("`inputs` must be a dense tensor", "tf.sparse.to_dense"):
        cell(tf.sparse.from_dense(bits("float32")[:, 0]), cell.get_initial_state(BATCH))


@each_of_ours
def test_ragged_inputs(make):
    ragged = tf.RaggedTensor.from_tensor(bits("float32"), ragged_rank=1)
    for inputs in (ragged, keras.Input((STEPS, FEATURES), ragged=True)):
        with refused("`sequences` must be a dense", "to_tensor()", "row_lengths()"):
            make()(inputs)
    with refused("`inputs` must be a dense tensor", "row_lengths()"):
        make().trace(ragged)


def test_what_the_message_for_ragged_inputs_says_works():
    rows = [np.ones((length, FEATURES), "float32") for length in (2, 4)]
    ragged = tf.ragged.stack(rows)
    layer = sam()
    outputs = layer(ragged.to_tensor(), mask=tf.sequence_mask(ragged.row_lengths()))
    for output, row in zip(outputs, rows, strict=True):
        np.testing.assert_allclose(output, layer(row[np.newaxis])[0], atol=1e-6)


NO_STEPS = "must have at least one time step", "leave empty sequences out"


@each_of_ours
def test_no_steps(make):
    for inputs in (np.zeros((BATCH, 0, FEATURES)), keras.Input((0, FEATURES))):
        with refused("`sequences`", *NO_STEPS, "0, 3)"):
            make()(inputs)
    with refused("`inputs`", *NO_STEPS, "inputs.shape=(2, 0, 3)"):
        make().trace(np.zeros((BATCH, 0, FEATURES)))


ANY = tf.TensorSpec((None, None, FEATURES))
ANY_MASK = tf.TensorSpec((None, None), tf.bool)


@pytest.mark.parametrize("make", [*OURS, compiled_ntm, compiled_sam])
def test_no_steps_that_a_graph_alone_knows(make):
    layer = make()
    call = tf.function(lambda inputs: layer(inputs), input_signature=[ANY])
    with pytest.raises(tf.errors.InvalidArgumentError, match=NO_STEPS[0]):
        call(np.zeros((BATCH, 0, FEATURES), "float32"))
    assert call(bits("float32")).shape == (BATCH, 5)


def test_no_steps_in_predict():
    model = keras.Sequential([keras.Input((None, FEATURES)), ntm()])
    with refused("`sequences`", NO_STEPS[0]):
        model.predict(np.zeros((BATCH, 0, FEATURES)), verbose=0)


@each_of_ours
def test_traces_of_other_features_than_built_for(make):
    layer = make()
    layer.build((BATCH, None, FEATURES))
    with refused("`inputs` must have 3 features", "inputs.shape=(2, 5, 4)"):
        layer.trace(np.zeros((BATCH, STEPS, FEATURES + 1)))


@each_kind_of_ours
def test_what_a_trace_is_to_keep(make):
    with refused("`keep` must be a dictionary", "keep=['memory']"):
        make().trace(bits("float32"), keep=["memory"])


# Masks.


def a_mask():
    return np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], bool)


@each_layer
def test_masks_that_are_taken(make):
    layer = make(return_sequences=True)
    inputs = bits("float32")
    expected = layer(inputs, mask=a_mask())
    assert np.any(expected != layer(inputs))
    for mask in (
        tf.constant(a_mask()),
        a_mask().astype("int32"),
        2.0 * a_mask(),
        a_mask()[..., np.newaxis],
        [tf.constant(a_mask())],
    ):
        assert_equal(layer(inputs, mask=mask), expected)


@each_kind_of_ours
def test_masks_that_are_lists(make):
    # An LSTM takes the first row of such a list for the mask.
    layer = make()
    expected = layer(bits("float32"), mask=a_mask())
    assert_equal(layer(bits("float32"), mask=a_mask().tolist()), expected)


@each_of_ours
@pytest.mark.parametrize(
    "shape",
    [
        (BATCH, STEPS - 1),
        (BATCH, STEPS + 1),
        (STEPS, BATCH),
        (1, STEPS),
        (BATCH + 1, STEPS),
        (BATCH,),
        (STEPS,),
        (),
        (BATCH, STEPS, FEATURES),
        (1, BATCH, STEPS),
        (BATCH, STEPS, 1, 1),
    ],
)
def test_masks_of_other_shapes(make, shape):
    with refused(
        "`mask` must have an entry for each step of each sequence",
        f"shape (batch, time), here ({BATCH}, {STEPS})",
        f"mask.shape={shape}",
    ):
        make()(bits("float32"), mask=np.ones(shape, bool))


@each_of_ours
@pytest.mark.parametrize("mask", ["yes", True, object(), [[True], [True, False]]])
def test_masks_that_are_no_tensors(make, mask):
    with refused("`mask` must"):
        make()(bits("float32"), mask=mask)


@each_of_ours
@pytest.mark.parametrize("kind", ["string", "complex64"])
def test_masks_that_are_no_numbers(make, kind):
    with refused("`mask` must hold real numbers or booleans", f"dtype='{kind}'"):
        make()(bits("float32"), mask=KINDS[kind][..., 0])


@each_of_ours
def test_sparse_and_ragged_masks(make):
    mask = a_mask().astype("float32")
    for other in (tf.sparse.from_dense(mask), tf.RaggedTensor.from_tensor(mask)):
        with refused("`mask` must be a dense tensor"):
            make()(bits("float32"), mask=other)


@each_of_ours
def test_symbolic_masks(make):
    inputs = keras.Input((STEPS, FEATURES))
    for shape in ((STEPS - 1,), (STEPS, FEATURES), ()):
        with refused("`mask` must have an entry", f"mask.shape={(None, *shape)}"):
            make()(inputs, mask=keras.Input(shape, dtype="bool"))
    mask = keras.Input((STEPS,), dtype="bool")
    layer = make()
    model = keras.Model([inputs, mask], layer(inputs, mask=mask))
    np.testing.assert_allclose(
        model([bits("float32"), a_mask()]), layer(bits("float32"), mask=a_mask())
    )


@pytest.mark.parametrize("make", [*OURS, compiled_ntm, compiled_sam])
def test_masks_whose_shape_a_graph_alone_knows(make):
    layer = make()

    @tf.function(input_signature=[ANY, ANY_MASK])
    def call(inputs, mask):
        return layer(inputs, mask=mask)

    for shape in ((BATCH, STEPS - 1), (1, STEPS), (STEPS, BATCH)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="`mask` must be of"):
            call(bits("float32"), np.ones(shape, bool))
    np.testing.assert_allclose(
        call(bits("float32"), a_mask()),
        layer(bits("float32"), mask=a_mask()),
        atol=1e-6,
    )


@each_kind_of_ours
def test_masks_of_another_shape_within_xla(make):
    layer = make()

    @tf.function(input_signature=[ANY, ANY_MASK], jit_compile=True)
    def call(inputs, mask):
        return layer(inputs, mask=mask)

    for shape in ((BATCH, STEPS - 1), (1, STEPS)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="must match"):
            call(bits("float32"), np.ones(shape, bool))


@each_kind
def test_masks_that_keras_hands_down(make):
    inputs = bits("float32") * a_mask()[..., np.newaxis]
    layer = make()
    model = keras.Sequential(
        [keras.Input((None, FEATURES)), keras.layers.Masking(), layer]
    )
    expected = layer(inputs, mask=np.any(inputs, axis=-1))
    np.testing.assert_allclose(
        model.predict(inputs, verbose=0), expected, rtol=1e-5, atol=1e-6
    )


# States.


STATE = "The state must be a list of tensors as `get_initial_state` returns it"


@each_of_ours
def test_initial_states_without_tensors(make):
    layer = make()
    state = layer.get_initial_state(BATCH)
    for bad, received in (
        ([None] * len(state), "Received shapes: [None, None"),
        ([None, *state[1:]], f"Received shapes: [None, {tuple(state[1].shape)}"),
        ([*state[:-1], None], "None] for a batch of 2"),
        ("zeros", "Received shapes: ['zeros']"),
        (0, "Received shapes: [0]"),
        ([], "Received shapes: []"),
        ([1.0] * len(state), "Received shapes: [1.0, 1.0"),
        (dict(enumerate(state)), "Received: a dictionary with the keys [0, 1"),
        (layer.cell.unpack_state(state), "Received shapes: [(2, 7, 3)"),
    ):
        with refused(STATE, received):
            layer(bits("float32"), initial_state=bad)
        with refused(STATE):
            layer.trace(bits("float32"), initial_state=bad)
        with refused(STATE):
            layer.cell.unpack_state(bad)


@each_of_ours
@pytest.mark.parametrize("kind", ["string", "complex64"])
def test_initial_states_that_are_no_real_numbers(make, kind):
    layer = make()
    state = layer.get_initial_state(BATCH)
    odd = tf.strings.as_string if kind == "string" else lambda s: tf.cast(s, kind)
    with refused("must hold real numbers or booleans", f"dtype='{kind}'"):
        layer(bits("float32"), initial_state=[odd(state[0]), *state[1:]])


@each_layer
def test_initial_states_of_other_kinds_are_cast(make):
    layer = make()
    first, *rest = layer.get_initial_state(BATCH)
    first = tf.ones_like(first)
    expected = layer(bits("float32"), initial_state=[first, *rest])
    for state in (
        [tf.cast(first, "int32"), *rest],
        [tf.cast(first, "bool"), *rest],
        [tf.cast(value, "float64") for value in (first, *rest)],
        tuple(value.numpy() for value in (first, *rest)),
    ):
        assert_equal(layer(bits("float32"), initial_state=state), expected)


@each_of_ours
@pytest.mark.parametrize(
    "batch_size",
    [None, -1, 1.5, "2", True, [2], np.float32(2), np.array([2, 3]), keras.Input(())],
    ids=str,
)
def test_batch_sizes(make, batch_size):
    for made in (make(), make().cell):
        with refused(
            "`batch_size` must be an integer of at least 0 or a scalar integer tensor",
            "tf.shape(x)[0]",
            "Received: batch_size=",
        ):
            made.get_initial_state(batch_size)


@each_of_ours
def test_batch_sizes_that_are_tensors(make):
    for bad in (-1, 2.0, [2]):
        with refused("`batch_size` must be"):
            make().get_initial_state(tf.constant(bad))


@each_layer
def test_batch_sizes_that_are_taken(make):
    layer = make()
    for size in (2, np.int64(2), tf.constant(2), tf.constant(2, tf.int64), np.array(2)):
        shapes = [tuple(value.shape) for value in layer.get_initial_state(size)]
        assert {shape[0] for shape in shapes} == {2}

    @tf.function(input_signature=[ANY])
    def sizes(inputs):
        return [tf.shape(s)[0] for s in layer.get_initial_state(tf.shape(inputs)[0])]

    assert {int(size) for size in sizes(bits("float32"))} == {BATCH}


# The memory to start from.


@each_of_ours
def test_memories_that_are_no_numbers(make):
    for memory, dtype in (
        (np.full((2, 3), "a"), "str"),
        ([["a", "b", "c"]], "string"),
        (np.ones((2, 3), complex), "complex128"),
    ):
        for made in (make(), make().cell):
            with refused("`memory` must hold real numbers or booleans", dtype):
                made.get_initial_state(BATCH, memory=memory)


@each_of_ours
@pytest.mark.parametrize(
    "memory",
    [object(), [[1, 2, 3], [1]], [None]],
    ids=["object", "ragged", "none"],
)
def test_memories_that_are_no_tensors(make, memory):
    with refused("`memory` must be a tensor, an array or nested lists of numbers"):
        make().get_initial_state(BATCH, memory=memory)


@each_of_ours
def test_sparse_memories(make):
    memory = tf.sparse.from_dense(np.ones((2, 3), "float32"))
    with refused("`memory` must be a dense tensor"):
        make().get_initial_state(BATCH, memory=memory)


@each_of_ours
def test_batches_of_memories_are_as_many_as_the_batch(make):
    # Of a batch size that NumPy or a tensor gives, too.
    for batch_size in (np.int64(3), tf.constant(3)):
        with refused("`memory` must be of shape", "memory.shape=(2, 4, 3)"):
            make().get_initial_state(batch_size, memory=np.ones((2, 4, 3)))


@each_of_ours
def test_memories_that_are_taken(make):
    words = np.arange(6).reshape(2, 3) % 2
    layer = make(dtype="float64")
    expected = layer.get_initial_state(BATCH, memory=words.astype("float64"))
    for memory in (words, words.astype(bool), words.astype("float32"), words.tolist()):
        for got, value in zip(
            layer.get_initial_state(BATCH, memory=memory), expected, strict=True
        ):
            assert_equal(got, value)
    third = [[1 / 3] * 3]
    state = layer.cell.unpack_state(layer.get_initial_state(1, memory=third))
    assert state.memory[0, 0, 0] == 1 / 3  # not rounded to single precision
