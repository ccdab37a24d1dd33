"""Bad input: each a `ValueError` that says what was expected and what was received."""

import contextlib
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from running import ROOT

import keras_sam

SIZES = {"units": 6, "memory_slots": 7, "word_size": 3, "read_heads": 2}
FEATURES, BATCH, STEPS = 3, 2, 5

NTM = (keras_sam.NTMCell, keras_sam.NTM)
DNC = (keras_sam.DNCCell, keras_sam.DNC)
DAM = (keras_sam.DAMCell, keras_sam.DAM)
MANN = (keras_sam.MANNCell, keras_sam.MANN)
DNTM = (keras_sam.DNTMCell, keras_sam.DNTM)
SAM = (keras_sam.SAMCell, keras_sam.SAM)
SDNC = (keras_sam.SDNCCell, keras_sam.SDNC)
EVERY_CELL = [NTM[0], DNC[0], DAM[0], MANN[0], SAM[0], SDNC[0]]
EVERY_LAYER = [NTM[1], DNC[1], DAM[1], MANN[1], SAM[1], SDNC[1]]
EVERY_CLASS = [*NTM, *DNC, *DAM, *MANN, *SAM, *SDNC]
SPARSE = [*SAM, *SDNC]
ACCESS = [*DAM, *SPARSE]
# The layers that compile themselves take seconds for it; few links for few slots.
PLAIN = {
    keras_sam.SAM: {"jit_compile": False},
    keras_sam.SDNC: {"jit_compile": False, "links_per_slot": 1},
    keras_sam.SDNCCell: {"links_per_slot": 1},
}

each_layer = pytest.mark.parametrize("cls", EVERY_LAYER)
each_class = pytest.mark.parametrize("cls", EVERY_CLASS)
each_cell = pytest.mark.parametrize("cls", EVERY_CELL)


def make(cls, **arguments):
    return cls(**{**SIZES, **PLAIN.get(cls, {}), **arguments})


@contextlib.contextmanager
def refused(*parts):
    """A `ValueError` with all these parts in its message."""
    with pytest.raises(ValueError) as info:
        yield
    message = " ".join(str(info.value).split())
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"


# Arguments of the constructors.


INTEGERS = ["units", "memory_slots", "word_size", "read_heads", "output_size"]


@each_class
@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize(
    "value", [0, -1, 2.5, True, "three", "3", [3], float("nan"), float("inf")], ids=repr
)
def test_sizes(cls, name, value):
    with refused(f"`{name}` must be an integer of at least 1", f"{name}={value!r}"):
        make(cls, **{name: value})


@each_class
@pytest.mark.parametrize("name", [n for n in INTEGERS if n != "output_size"])
def test_sizes_are_not_none(cls, name):
    with refused(f"`{name}` must be an integer of at least 1", f"{name}=None"):
        make(cls, **{name: None})


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, "write_heads") for cls in (*NTM, *ACCESS)]
    + [(cls, "reads_per_head") for cls in SPARSE]
    + [(cls, "links_per_slot") for cls in SDNC],
)
@pytest.mark.parametrize("value", [0, -2, 1.5, None, "two"], ids=repr)
def test_heads_and_reads(cls, name, value):
    with refused(f"`{name}` must be an integer of at least 1", f"{name}={value!r}"):
        make(cls, **{name: value})


@pytest.mark.parametrize("cls", ACCESS)
@pytest.mark.parametrize(("write_heads", "read_heads"), [(2, 1), (2, 3), (4, 3)])
def test_write_heads_that_follow_no_read_head(cls, write_heads, read_heads):
    with refused(
        "`write_heads` must be 1 or one for each read head",
        f"write_heads={write_heads}, read_heads={read_heads}",
    ):
        make(cls, write_heads=write_heads, read_heads=read_heads)


@pytest.mark.parametrize("cls", ACCESS)
def test_more_write_heads_than_slots(cls):
    heads = {"read_heads": 3, "write_heads": 3}
    heads |= {"reads_per_head": 1} if cls in SPARSE else {}
    with refused("`write_heads` must be at most `memory_slots`", "=3, memory_slots=2"):
        make(cls, memory_slots=2, **heads)
    make(cls, memory_slots=3, **heads)


@pytest.mark.parametrize("cls", SPARSE)
def test_more_reads_than_slots(cls):
    with refused(
        "`reads_per_head` must be at most `memory_slots`",
        "reads_per_head=8, memory_slots=7",
    ):
        make(cls, reads_per_head=8)
    make(cls, reads_per_head=7)


@pytest.mark.parametrize("cls", SDNC)
def test_more_links_than_slots(cls):
    with refused(
        "`links_per_slot` must be at most `memory_slots`",
        "links_per_slot=8, memory_slots=7",
    ):
        make(cls, links_per_slot=8)
    make(cls, links_per_slot=7)


@pytest.mark.parametrize("cls", SPARSE)
def test_more_slots_than_floats_count(cls):
    with refused("must be at most 2**24", f"memory_slots={2**24 + 1}"):
        make(cls, memory_slots=2**24 + 1)
    make(cls, memory_slots=2**24)


@pytest.mark.parametrize("cls", SPARSE)
@pytest.mark.parametrize(
    "value", [0.0, 1.0, -0.1, float("nan"), None, True, "0.5"], ids=repr
)
def test_usage_threshold(cls, value):
    with refused("`usage_threshold` must be between 0 and 1", f"={value!r}"):
        make(cls, usage_threshold=value)


@pytest.mark.parametrize("cls", DAM)
@pytest.mark.parametrize(
    "value", [-0.1, 1.001, float("nan"), None, True, "0.9", [0.9]], ids=repr
)
def test_discount(cls, value):
    with refused("`discount` must be a number in [0, 1]", f"discount={value!r}"):
        make(cls, discount=value)


@pytest.mark.parametrize("cls", DAM)
@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5)], ids=repr)
def test_discounts_that_are_numbers_from_0_to_1(cls, value):
    discount = make(cls, discount=value).get_config()["discount"]
    assert type(discount) is float and discount == value


@pytest.mark.parametrize("cls", MANN)
def test_mann(cls):
    for value in (-0.1, 1.0, None, "0.9"):
        with refused("`usage_decay` must be a fraction in [0, 1)", f"={value!r}"):
            make(cls, usage_decay=value)
    with refused("`read_heads` must be at most `memory_slots`", "read_heads=8"):
        make(cls, read_heads=8)


@pytest.mark.parametrize("cls", DNTM)
def test_dntm(cls):
    with refused("`address_size` must be below `word_size`", "address_size=9"):
        make(cls, address_size=9, word_size=9)
    with refused("`addressing` must be", "'hard'"):
        make(cls, addressing="hard", address_size=1)
    with refused("contents of zeros", "initial_memory='learned'"):
        make(cls, initial_memory="learned", address_size=1)


STACK_RNN = (keras_sam.StackRNNCell, keras_sam.StackRNN)


@pytest.mark.parametrize("cls", STACK_RNN)
def test_stack_rnn(cls):
    for name in ("units", "memory_slots", "stacks", "read_depth", "output_size"):
        for value in (0, 2.5, True, "3"):
            with refused(f"`{name}` must be an integer of at least 1", f"={value!r}"):
                cls(**{"units": 4, name: value})
    for name in ("no_op", "round_actions"):
        with refused(f"`{name}` must be one of True, False", f"{name}=1"):
            cls(4, **{name: 1})
    for name in ("word_size", "read_heads", "initial_memory", "initial_read_vectors"):
        with refused(f"no argument `{name}`", "`stacks` and `read_depth`", f"{name}=2"):
            cls(4, **{name: 2})
    with refused("`read_depth` must be at most `memory_slots`", "read_depth=4"):
        cls(4, memory_slots=3, read_depth=4)
    with refused("`memory` of shape"):
        cls(4, stacks=2**40)


@pytest.mark.parametrize("cls", SPARSE)
@pytest.mark.parametrize("value", ["constant", "learned"])
def test_initial_memory_of_a_sam(cls, value):
    with refused("`get_initial_state(memory=)`", f"initial_memory={value!r}"):
        make(cls, initial_memory=value)


@pytest.mark.parametrize("cls", SPARSE)
@pytest.mark.parametrize("value", ["flann", None, 3, keras_sam.index.Exact], ids=repr)
def test_index(cls, value):
    with refused("'exact'", f"index={value!r}"):
        make(cls, index=value)


class NotForXLA(keras_sam.index.Exact):
    supports_jit = False


def test_an_index_that_xla_cannot_compile():
    index = NotForXLA()
    with refused("an index that XLA can compile", f"index={index}"):
        make(keras_sam.SAM, jit_compile=True, index=index)
    for jit_compile in ("auto", False):
        make(keras_sam.SAM, jit_compile=jit_compile, index=index)


@each_layer
def test_a_loop_that_is_unrolled_and_compiled(cls):
    with refused("`jit_compile=True` needs unroll=False", "unroll=True"):
        make(cls, jit_compile=True, unroll=True)
    for jit_compile in ("auto", False):
        make(cls, jit_compile=jit_compile, unroll=True)


@each_layer
@pytest.mark.parametrize("value", ["yes", None, 2, "True"], ids=repr)
def test_jit_compile(cls, value):
    with refused("`jit_compile` must be one of 'auto', True, False", f"={value!r}"):
        make(cls, jit_compile=value)


@each_class
def test_numpy_integers_are_sizes(cls):
    cell = make(cls, units=np.int64(4), memory_slots=np.int32(9))
    config = cell.get_config()
    assert type(config["units"]) is type(config["memory_slots"]) is int


@pytest.mark.parametrize("cls", NTM)
@pytest.mark.parametrize("value", [-1, 0.5, None, "one"], ids=repr)
def test_shift_range(cls, value):
    with refused("`shift_range` must be an integer of at least 0", f"{value!r}"):
        make(cls, shift_range=value)


@pytest.mark.parametrize("cls", NTM)
@pytest.mark.parametrize(("shift_range", "slots"), [(4, 7), (1, 2), (3, 6)])
def test_shift_range_wider_than_the_memory(cls, shift_range, slots):
    with refused(
        "2 * shift_range + 1 <= memory_slots",
        f"shift_range={shift_range}",
        f"memory_slots={slots}",
    ):
        make(cls, shift_range=shift_range, memory_slots=slots)
    make(cls, shift_range=(slots - 1) // 2, memory_slots=slots)


@each_class
@pytest.mark.parametrize(
    "value", [0, 0.0, -1.0, float("nan"), float("inf"), True, "big"], ids=repr
)
def test_clip_value(cls, value):
    with refused("`clip_value` must be positive and finite", f"clip_value={value!r}"):
        make(cls, clip_value=value)


@each_class
def test_clip_values_that_no_float_holds(cls):
    with refused("`clip_value` must be positive and finite"):
        make(cls, clip_value=10**400)


@each_class
@pytest.mark.parametrize("value", [3, np.float32(3), np.int64(3)], ids=repr)
def test_clip_values_of_any_kind(cls, value):
    clip_value = make(cls, clip_value=value).get_config()["clip_value"]
    assert type(clip_value) is float and clip_value == 3


@pytest.mark.parametrize(
    ("cls", "field", "sizes"),
    [(cls, "memory", {"memory_slots": 2**40}) for cls in (*NTM, *DAM, *MANN)]
    + [(cls, "link", {"memory_slots": 2**20}) for cls in DNC]
    + [(cls, "link", {"memory_slots": 2**40}) for cls in DNC]
    + [(cls, "memory", {"word_size": 2**40}) for cls in EVERY_CLASS]
    + [(cls, "units", {"units": 2**40}) for cls in EVERY_CLASS]
    + [(cls, "read_weights", {"read_heads": 2**40}) for cls in NTM],
)
def test_states_that_no_machine_holds(cls, field, sizes):
    with refused(
        "A sequence's state must fit in memory",
        "may hold 2**34 numbers (64 GiB in float32)",
        f"`{field}` of shape",
    ):
        make(cls, **sizes)


def test_the_largest_states():
    for slots, fits in ((2**34 // 4, True), (2**34 // 4 + 1, False)):
        sizes = {"memory_slots": slots, "word_size": 4, "read_heads": 1}
        with contextlib.nullcontext() if fits else refused("`memory` of shape"):
            make(keras_sam.DAM, **sizes)
    for slots, fits in ((2**17, True), (2**17 + 1, False)):
        with contextlib.nullcontext() if fits else refused("`link` of shape"):
            make(keras_sam.DNC, memory_slots=slots)


BOOLEANS = [
    (cls, name)
    for cls in (*DNC, *SDNC)
    for name in ("key_masks", "link_sharpening", "normalize_interface")
]
BOOLEANS += [(cls, name) for cls in DNC for name in ("deallocate", "link_gradients")]


@pytest.mark.parametrize(("cls", "name"), BOOLEANS)
@pytest.mark.parametrize("value", ["x", "False", "", None, 0, 1, 1.0, [True]], ids=repr)
def test_booleans(cls, name, value):
    with refused(f"`{name}` must be one of True, False", f"{name}={value!r}"):
        make(cls, **{name: value})


@pytest.mark.parametrize(("cls", "name"), BOOLEANS)
@pytest.mark.parametrize("value", [True, False])
def test_booleans_of_numpys(cls, name, value):
    config = make(cls, **{name: np.bool_(value)}).get_config()
    assert config[name] is value


def test_options_of_numpys():
    assert keras_sam.NTM(4, jit_compile=np.bool_(True)).jit_compile is True
    cell = keras_sam.NTMCell(4, initial_memory=np.str_("learned"))
    assert type(cell.get_config()["initial_memory"]) is str


RATES = [
    (cls, name) for cls in EVERY_CLASS for name in ("dropout", "recurrent_dropout")
]
RATES += [
    (cls, name) for cls in (*DNC, *SDNC) for name in ("bypass_dropout", "mask_min")
]


@pytest.mark.parametrize(("cls", "name"), RATES)
@pytest.mark.parametrize("value", [-0.1, 1, 1.5, float("nan"), None, "0.5"], ids=repr)
def test_rates(cls, name, value):
    with refused(f"`{name}` must be a fraction in [0, 1)", f"{name}={value!r}"):
        make(cls, **{name: value})


@each_class
@pytest.mark.parametrize(
    "value", ["gru", None, 3, keras.layers.LSTM, object], ids=["gru", *"0123"]
)
def test_unknown_controller(cls, value):
    with refused(
        '`controller` must be "lstm", "dense" or a Keras RNN cell',
        f"controller={value!r}",
    ):
        make(cls, controller=value)


@each_class
def test_layers_are_no_controllers(cls):
    # A Dense layer has no state; an LSTM layer takes a sequence, not one step.
    for layer in (keras.layers.Dense(4), keras.layers.LSTM(4)):
        with refused('`controller` must be "lstm", "dense" or', f"{layer!r}"):
            make(cls, controller=layer)


@each_class
@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout"])
def test_dropout_with_a_given_controller(cls, name):
    with refused(
        "With a cell as `controller`, give the dropout to that cell",
        "controller=<GRUCell",
        f"{name}=0.5",
    ):
        make(cls, controller=keras.layers.GRUCell(4), **{name: 0.5})


@each_class
def test_recurrent_dropout_with_a_dense_controller(cls):
    with refused("no recurrent connection to drop", "recurrent_dropout=0.5"):
        make(cls, controller="dense", recurrent_dropout=0.5)


OPTIONS = [(cls, "initial_read_vectors", "'zeros', 'learned'") for cls in EVERY_CLASS]
OPTIONS += [
    (cls, "initial_memory", "'constant', 'random', 'learned'")
    for cls in (*NTM, *DNC, *DAM, *MANN)
]
OPTIONS += [(cls, "initial_addressing", "'learned', 'first_slot'") for cls in NTM]


@pytest.mark.parametrize(("cls", "name", "expected"), OPTIONS)
@pytest.mark.parametrize("value", ["ones", "Learned", None, 1, ["learned"]], ids=repr)
def test_unknown_option(cls, name, expected, value):
    with refused(f"`{name}` must be one of {expected}", f"{name}={value!r}"):
        make(cls, **{name: value})


@each_class
def test_unknown_argument(cls):
    with refused("Unrecognized keyword arguments", "number_of_words"):
        make(cls, number_of_words=3)


@pytest.mark.parametrize(
    ("classes", "name"),
    [(DNC, "shift_range"), (DAM, "reads_per_head"), (SAM, "discount")],
)
def test_arguments_of_another_cell(classes, name):
    for cls in classes:
        with refused("Unrecognized keyword arguments", name):
            make(cls, **{name: 1})


@each_class
@pytest.mark.parametrize(
    "name",
    [
        f"{what}_{how}"
        for what in ("kernel", "recurrent", "bias")
        for how in ("initializer", "regularizer", "constraint")
    ],
)
def test_unknown_names_of_keras_objects(cls, name):
    with refused("nothing_like_it"):
        make(cls, **{name: "nothing_like_it"})


@each_class
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(cls, dtype):
    with refused("computes in float32 or float64", f"mixed_{dtype}", f"'{dtype}'"):
        make(cls, dtype=dtype)


@each_class
@pytest.mark.parametrize("dtype", ["int32", "complex64"])
def test_dtypes_that_are_no_real_numbers(cls, dtype):
    with refused("computes in float32 or float64", f"'{dtype}'"):
        make(cls, dtype=dtype)


# Beside the cells.


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"probes": 1025}, "`probes` must be at most 1024. Received: probes=1025"),
        ({"bucket_size": 10**9}, "must be at most 4194304. Received: bucket_size=10"),
        ({"seed": 2**32}, "`seed` must be at most 4294967295. Received: seed=429496"),
    ],
    ids=str,
)
def test_lsh(arguments, expected):
    with refused(expected):
        keras_sam.index.LSH(**arguments)


@pytest.mark.parametrize("cls", SAM)
def test_slots_that_no_lsh_index_counts(cls):
    with refused("fewer than 2**31 numbers in its state", f"N={2**40}"):
        make(cls, memory_slots=2**40)


def test_lsh_of_too_many_tables():
    index = keras_sam.index.LSH(tables=2000)
    with refused("fewer than 2**31 numbers in its state", "tables=2000"):
        keras_sam.SAMCell(4, 2**20, 8, index=index)


NO_NUMBERS = [float("nan"), float("inf"), -float("inf"), None, "0.1", True, [0.1]]


@pytest.mark.parametrize("value", [*NO_NUMBERS, -0.1, 0, 10**400], ids=repr)
def test_threshold_of_an_exponential_curriculum(value):
    with refused("`threshold` must be a number above 0"):
        keras_sam.callbacks.ExponentialCurriculum(value)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_threshold_of_a_lesson_curriculum(value):
    with refused("`threshold` must be a number", f"threshold={value!r}"):
        keras_sam.callbacks.LessonCurriculum(3, threshold=value)
    keras_sam.callbacks.LessonCurriculum(3, threshold=-1.5)  # Of a metric below 0.


@pytest.mark.parametrize("value", ["yes", 1, None], ids=repr)
def test_stop_of_a_curriculum(value):
    for max_level in (None, 4):
        with refused("`stop` must be one of True, False", f"stop={value!r}"):
            keras_sam.callbacks.ExponentialCurriculum(
                0.1, max_level=max_level, stop=value
            )


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_threshold_of_bit_errors(value):
    with refused("`threshold` must be a number", f"threshold={value!r}"):
        keras_sam.metrics.BitErrors(threshold=value)


def test_thresholds_of_numpys():
    metric = keras_sam.metrics.BitErrors(threshold=np.float32(0.25))
    assert type(metric.get_config()["threshold"]) is float
    keras_sam.callbacks.ExponentialCurriculum(np.float32(0.25))


def test_tensorboard():
    sample = np.ones((3, 2))
    for log_dir in (5, None, ["logs"]):
        with refused("`log_dir` must be a string or a path", f"log_dir={log_dir!r}"):
            keras_sam.callbacks.MemoryTensorBoard(log_dir, sample)
    for inputs in (None, 3.0, [], np.ones((0, 2)), object()):
        with refused("`inputs` must be an array [time, features]"):
            keras_sam.callbacks.MemoryTensorBoard("logs", inputs)
    keras_sam.callbacks.MemoryTensorBoard(Path("logs"), sample.tolist())


@pytest.mark.parametrize(
    "model",
    [None, "model", keras_sam.NTM, object()],
    ids=["none", "string", "class", "object"],
)
def test_what_is_resized(model):
    with refused("`model` must be a Keras model", f"model={model!r}"):
        keras_sam.resize_memory(model, 8)


@pytest.mark.parametrize("slots", [None, 0, 2.5, "8", True], ids=repr)
def test_slots_to_resize_to(slots):
    model = keras.Sequential([keras.Input((None, FEATURES)), make(keras_sam.DNC)])
    with refused("`memory_slots` must be an integer of at least 1", f"={slots!r}"):
        keras_sam.resize_memory(model, slots)


def streaming_model(*shape):
    return keras.Sequential([keras.Input(shape), make(keras_sam.DNC)])


def test_export_to_a_file(tmp_path):
    file = tmp_path / "model"
    file.write_text("")
    for path in (file, str(file), file / "within"):
        with refused("`path` must be a folder", f"where '{file}' is a file"):
            keras_sam.export_saved_model(
                streaming_model(None, FEATURES), path, streaming=False
            )
    with refused("`path` must be a string or a path", "path=5"):
        keras_sam.export_saved_model(streaming_model(None, FEATURES), 5)


def test_export_of_a_fixed_length(tmp_path):
    with refused(
        "cannot go through sequences chunk by chunk. Pass streaming=False",
        "keras.Input((None, features))",
        "{'inputs': (None, 5, 3)}",
    ):
        keras_sam.export_saved_model(
            streaming_model(STEPS, FEATURES), tmp_path / "model"
        )
    assert not (tmp_path / "model").exists()
    keras_sam.export_saved_model(
        streaming_model(STEPS, FEATURES), tmp_path / "model", streaming=False
    )


@pytest.mark.parametrize("value", ["no", None, 0], ids=repr)
def test_whether_an_export_streams(value, tmp_path):
    with refused("`streaming` must be one of True, False", f"streaming={value!r}"):
        keras_sam.export_saved_model(
            streaming_model(None, FEATURES), tmp_path, streaming=value
        )


# Inputs; test_inputs.py has their kinds.


@each_layer
@pytest.mark.parametrize("shape", [(BATCH, FEATURES), (BATCH, STEPS, FEATURES, 1)])
@pytest.mark.parametrize("was_built", [False, True])
def test_rank_of_a_layers_inputs(cls, shape, was_built):
    layer = make(cls)
    if was_built:
        layer(np.zeros((BATCH, STEPS, FEATURES)))
    parts = "expected ndim=3", f"found ndim={len(shape)}", str(shape)
    with refused(*parts):
        layer(np.zeros(shape))
    with refused(*parts[:2]):
        layer(keras.Input(shape[1:]))


@each_layer
@pytest.mark.parametrize("shape", [(BATCH, FEATURES), (BATCH, STEPS, FEATURES, 1)])
def test_rank_of_what_is_traced(cls, shape):
    layer = make(cls)
    with refused("(batch, time, features)", f"inputs.shape={shape}"):
        layer.trace(np.zeros(shape))


@each_cell
@pytest.mark.parametrize("shape", [(FEATURES,), (BATCH, STEPS, FEATURES)])
@pytest.mark.parametrize("was_built", [False, True])
def test_rank_of_a_cells_inputs(cls, shape, was_built):
    cell = make(cls)
    state = cell.get_initial_state(BATCH)
    if was_built:
        cell(np.zeros((BATCH, FEATURES)), state)
    with pytest.raises(ValueError) as info:
        cell(np.zeros(shape), state)
    message = str(info.value)
    assert "(batch, features)" in message or "expected ndim=2" in message
    assert str(shape) in message


@each_class
def test_unknown_number_of_features(cls):
    made = make(cls)
    if cls in EVERY_CELL:
        made = keras.layers.RNN(made)
    with refused("number of features must be known", "input_shape=(None, None)"):
        made(keras.Input((STEPS, None)))


@each_class
def test_other_number_of_features_than_built_for(cls):
    made = make(cls)
    if cls in EVERY_CELL:
        inputs, state = np.zeros((BATCH, FEATURES)), made.get_initial_state(BATCH)
        made(inputs, state)
        with refused(f"{FEATURES}", f"{FEATURES + 1}"):
            made(np.zeros((BATCH, FEATURES + 1)), state)
    else:
        made(np.zeros((BATCH, STEPS, FEATURES)))
        with refused(f"{FEATURES}", f"{FEATURES + 1}"):
            made(np.zeros((BATCH, STEPS, FEATURES + 1)))
        with refused(f"{FEATURES}", f"{FEATURES + 1}"):
            made(keras.Input((None, FEATURES + 1)))


# States.


def shapes_of(states):
    return [tuple(state.shape) for state in states]


def bad_states(sizes):
    """Lists of shapes that are no state of a cell, by what is wrong with them."""
    good = [(BATCH, size) for size in sizes]
    return {
        "first missing": good[1:],
        "last missing": good[:-1],
        "one too many": [*good, good[0]],
        "only one": good[:1],
        "first too wide": [(BATCH, sizes[0] + 1), *good[1:]],
        "last too narrow": [*good[:-1], (BATCH, sizes[-1] - 1)],
        "not flat": [(BATCH, SIZES["memory_slots"], SIZES["word_size"]), *good[1:]],
        "no batch": [(sizes[0],), *good[1:]],
    }


WRONG = list(bad_states([1, 1]))
EXPECTED_STATE = "a list of tensors as `get_initial_state` returns it, of shapes"


@each_layer
@pytest.mark.parametrize("wrong", WRONG)
def test_initial_state_of_a_layer(cls, wrong):
    layer = make(cls)
    sizes = layer.cell.state_size
    shapes = bad_states(sizes)[wrong]
    expected = str([("batch", size) for size in sizes])
    with refused(EXPECTED_STATE, expected, f"Received shapes: {shapes}"):
        layer(
            np.zeros((BATCH, STEPS, FEATURES)),
            initial_state=[tf.zeros(shape) for shape in shapes],
        )
    if wrong != "no batch":  # Every symbolic tensor has one.
        symbols = [keras.Input(shape[1:]) for shape in shapes]
        received = [(None, *shape[1:]) for shape in shapes]
        with refused(EXPECTED_STATE, expected, f"Received shapes: {received}"):
            layer(keras.Input((None, FEATURES)), initial_state=symbols)


@each_cell
@pytest.mark.parametrize("wrong", WRONG)
def test_states_of_a_cell(cls, wrong):
    cell = make(cls)
    shapes = bad_states(cell.state_size)[wrong]
    states = [tf.zeros(shape) for shape in shapes]
    expected = str([("batch", size) for size in cell.state_size])
    parts = EXPECTED_STATE, expected, f"Received shapes: {shapes}"
    with refused(*parts):
        cell.unpack_state(states)
    with refused(*parts):
        cell(np.zeros((BATCH, FEATURES)), states)


@each_layer
def test_initial_state_of_another_batch_size(cls):
    layer = make(cls)
    inputs = np.zeros((BATCH, STEPS, FEATURES))
    for batch in (1, BATCH + 1):
        state = layer.get_initial_state(batch)
        with refused(f"({batch}, ", f"{BATCH}"):
            layer(inputs, initial_state=state)


@each_layer
def test_a_single_tensor_is_no_initial_state(cls):
    layer = make(cls)
    with refused(EXPECTED_STATE, f"Received shapes: [({BATCH}, 21)]"):
        layer(np.zeros((BATCH, STEPS, FEATURES)), initial_state=tf.zeros((BATCH, 21)))


@each_class
@pytest.mark.parametrize(
    "shape", [(3,), (2, 4), (8, 3), (BATCH, 8, 3), (BATCH + 1, 2, 3), (BATCH, 1, 2, 3)]
)
def test_memory_to_start_from(cls, shape):
    made = make(cls)
    with refused(
        "`memory` must be of shape (rows, word_size) or (batch, rows, word_size)",
        "word_size=3, rows at most 7",
        f"batch={BATCH}",
        f"Received: memory.shape={shape}",
    ):
        made.get_initial_state(BATCH, memory=np.zeros(shape))


# The backend.


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy", "openvino"])
def test_another_backend(backend):
    # Those that Keras knows are not installed here: a stand-in for Keras says that it
    # runs on one. The answer comes before anything else is imported.
    code = f"""
        import sys, types
        keras = sys.modules["keras"] = types.ModuleType("keras")
        keras.backend = types.SimpleNamespace(backend=lambda: "{backend}")
        try:
            import keras_sam
        except ValueError as error:
            print(error)
        assert "tensorflow" not in sys.modules
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'needs the Keras backend "tensorflow"' in done.stdout
    assert f'Received: keras.backend.backend()="{backend}"' in done.stdout
    assert "KERAS_BACKEND=tensorflow" in done.stdout
