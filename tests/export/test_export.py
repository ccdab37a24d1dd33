"""SavedModels for serving, in a process that has TensorFlow alone."""

import json
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import conformance_cases
import keras
import numpy as np
import pytest
import tensorflow as tf
from conformance_cases import FEATURES
from helpers import random_inputs

import keras_sam
from keras_sam.export import export_saved_model
from keras_sam.export.compiled import power_of_two

LENGTH, CHUNKS = 7, (2, 1, 4)
SIZES = {"units": 6, "memory_slots": 12, "word_size": 4}


# What else a model may have that carries a state.
OTHERS = {
    "sam_lsh": lambda: keras_sam.SAM(**SIZES, index=lsh(), return_sequences=True),
    "sdnc_lsh": lambda: keras_sam.SDNC(**SIZES, index=lsh(), return_sequences=True),
    "stacked": lambda: keras.layers.RNN(
        [keras.layers.LSTMCell(4), keras_sam.SAMCell(**SIZES)], return_sequences=True
    ),
    "gru": lambda: keras.layers.GRU(5, return_sequences=True),
}


def lsh():
    return keras_sam.index.LSH(bucket_size=4)


CASES = {case.name: case.layer for case in conformance_cases.CASES} | {
    name: lambda make=make, **_: make() for name, make in OTHERS.items()
}
QUICK = ("ntm_lstm", "dnc_lstm", "dam_lstm", "sam_lstm", "sam_lsh", "sdnc_lstm")
QUICK += ("stacked",)
each_case = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in CASES
    ],
)


def make_model(layer, *more):
    model = keras.Sequential([keras.Input((None, FEATURES)), layer, *more])
    rng = np.random.default_rng(0)
    model.set_weights([0.7 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


SERVE = """
import json, sys

sys.modules["keras"] = sys.modules["keras_sam"] = None  # Not to be had here.
import numpy as np, tensorflow as tf

folder, names, chunks = sys.argv[1], *map(json.loads, sys.argv[2:])
inputs = np.load(f"{folder}/inputs.npy")
answers = {}
for name in names:
    loaded = tf.saved_model.load(f"{folder}/{name}/1")
    whole, initial_state, step = (
        loaded.signatures[each] for each in ("serving_default", "initial_state", "step")
    )
    answers[f"{name}-whole"] = whole(inputs=tf.constant(inputs))["outputs"]
    answers[f"{name}-one"] = whole(inputs=tf.constant(inputs[:1, :1]))["outputs"]
    states = initial_state(batch_size=tf.constant(len(inputs)))
    outputs = []
    for chunk in np.split(inputs, np.cumsum(chunks)[:-1], axis=1):
        states = step(inputs=tf.constant(chunk), **states)
        outputs.append(states.pop("outputs"))
    answers[f"{name}-chunks"] = np.concatenate(outputs, axis=1)
assert not [name for name in sys.modules if name.startswith(("keras.", "keras_sam."))]
np.savez(f"{folder}/answers.npz", **answers)
"""


@pytest.fixture(scope="module")
def served(request, tmp_path_factory):
    """The folder of all cases, what Keras gives, and what that other process gave."""
    items = [item for item in request.session.items if item.module is request.module]
    slow = any(item.get_closest_marker("slow") for item in items)
    names = list(CASES if slow else QUICK)
    folder = tmp_path_factory.mktemp("served")
    inputs = random_inputs()
    np.save(folder / "inputs.npy", inputs)
    expected = {}
    for name in names:
        model = make_model(CASES[name](return_sequences=True))
        export_saved_model(model, folder / name)
        expected[name] = np.asarray(model(inputs))
    arguments = [json.dumps(names), json.dumps(CHUNKS)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SERVE), str(folder), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "answers.npz") as answers:
        return folder, expected, dict(answers)


@each_case
def test_equals_keras_in_a_process_with_tensorflow_alone(name, served):
    _, expected, answers = served
    for which, values in (
        ("whole", expected[name]),
        ("one", expected[name][:1, :1]),
        ("chunks", expected[name]),
    ):
        got = answers[f"{name}-{which}"]
        np.testing.assert_allclose(got, values, atol=1e-6, rtol=1e-5)


@each_case
def test_needs_no_xla_and_no_python(name, served):
    saved = (served[0] / name / "1" / "saved_model.pb").read_bytes()
    for needed in (b"_XlaMustCompile", b"PyFunc", b"EagerPyFunc"):
        assert needed not in saved


def signature(served, name="ntm_lstm", which="serving_default"):
    return tf.saved_model.load(served[0] / name / "1").signatures[which]


def test_command_line_tool_shows_and_runs_it(served, tmp_path):
    np.save(tmp_path / "inputs.npy", random_inputs())
    tool = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    which = ["--dir", str(served[0] / "sam_lstm" / "1"), "--tag_set", "serve"]
    which += ["--signature_def", "serving_default"]
    values = ["--inputs", f"inputs={tmp_path}/inputs.npy", "--outdir", str(tmp_path)]
    run = subprocess.Popen([*tool, "run", *which, *values])
    shown = subprocess.run(
        [*tool, "show", *which], capture_output=True, text=True, check=True
    ).stdout
    assert "inputs['inputs']" in shown and "shape: (-1, -1, 3)" in shown
    assert "outputs['outputs']" in shown
    assert run.wait() == 0
    outputs = np.load(tmp_path / "outputs.npy")
    expected = served[1]["sam_lstm"]
    np.testing.assert_allclose(outputs, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["ntm_lstm", "sam_lstm"])
def test_what_cannot_be_answered_is_refused(name, served):
    whole = signature(served, name)
    good = random_inputs()
    before = whole(inputs=tf.constant(good))["outputs"]
    bad = good.copy()
    bad[1, 3, 2] = np.nan
    for inputs, message in (
        (good[:0], "`inputs` must hold at least one sequence: the batch is empty"),
        (good[:, :0], "`inputs` must hold sequences of at least one step"),
        (good[..., :2], r"inputs \[3,7,2\] is not compatible with .*\[\?,\?,3\]"),
        (bad, "`inputs` must be finite numbers : Tensor had NaN"),
        (good * np.inf, "`inputs` must be finite numbers : Tensor had .*Inf"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            whole(inputs=tf.constant(inputs))
    initial_state = signature(served, name, "initial_state")
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be at least 1"):
        initial_state(batch_size=tf.constant(0))
    np.testing.assert_array_equal(whole(inputs=tf.constant(good))["outputs"], before)


@pytest.mark.parametrize("name", ["ntm_lstm", "sam_lsh", "sdnc_lstm", "stacked"])
def test_states_of_other_sequences_and_what_is_no_number_are_refused(name, served):
    initial_state, step = (
        signature(served, name, which) for which in ("initial_state", "step")
    )
    chunk = tf.constant(random_inputs(2))
    good, other = (initial_state(batch_size=tf.constant(size)) for size in (2, 3))
    for field, value in good.items():
        message = f"`{field}` must hold a state for each sequence of the chunk"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            step(inputs=chunk, **(good | {field: other[field]}))
        if not value.dtype.is_floating or not tf.size(value):
            continue
        for number in (np.nan, np.inf):
            bad = tf.concat([value[:1], tf.fill(value[1:].shape, number)], axis=0)
            with pytest.raises(
                tf.errors.InvalidArgumentError, match=f"`{field}` .*fin"
            ):
                step(inputs=chunk, **(good | {field: tf.cast(bad, value.dtype)}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras_sam.NTM(**SIZES, return_sequences=True),
        lambda: keras_sam.SDNC(**SIZES, index=lsh(), return_sequences=True),
        pytest.param(
            lambda: keras_sam.SAM(**SIZES, jit_compile=False), id="last_output"
        ),
    ],
)
def test_programs_of_xla_give_the_same_for_every_size(make, tmp_path):
    folder = export_saved_model(make_model(make()), tmp_path, jit_compile=True)
    assert b"_XlaMustCompile" in (tmp_path / "1" / "saved_model.pb").read_bytes()
    loaded = tf.saved_model.load(folder)
    whole, compiled = (
        loaded.signatures[name] for name in ("serving_default", "compiled")
    )
    for batch, steps in ((1, 1), (1, 3), (2, 4), (3, 5)):
        inputs = tf.constant(random_inputs(batch, steps))
        expected = whole(inputs=inputs)["outputs"]
        got = compiled(inputs=inputs)["outputs"]
        np.testing.assert_allclose(got, expected, atol=1e-6, rtol=1e-5)
    for inputs, message in (
        (random_inputs(2)[:0], "the batch is empty"),
        (random_inputs(2) * np.inf, "must be finite numbers"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            compiled(inputs=tf.constant(inputs))


def test_what_xla_does_not_compile_is_refused(tmp_path):
    class Unknown(keras.layers.Layer):
        def call(self, inputs):
            return tf.py_function(lambda x: x, [inputs], inputs.dtype)

        def compute_output_shape(self, shape):
            return shape

    model = keras.Sequential([keras.Input((None, FEATURES)), Unknown()])
    with pytest.raises(ValueError, match="XLA cannot compile the model. Pass jit_comp"):
        export_saved_model(model, tmp_path, streaming=False, jit_compile=True)
    assert not list(tmp_path.iterdir())


def test_power_of_two():
    numbers = tf.range(1, 2**12 + 1)
    expected = [1 << (n - 1).bit_length() for n in numbers.numpy().tolist()]
    np.testing.assert_array_equal(power_of_two(numbers), expected)


@pytest.mark.parametrize("name", ["ntm_lstm", "sam_lstm", "sam_lsh"])
def test_requests_at_the_same_time_do_not_disturb_each_other(name, served):
    whole = signature(served, name)
    requests = [
        random_inputs(1 + seed % 3, 1 + seed % 9, seed=seed) for seed in range(48)
    ]

    def answer(inputs):
        return whole(inputs=tf.constant(inputs))["outputs"].numpy()

    alone = [answer(inputs) for inputs in requests]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, requests))
    for got, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_stateful_layer_is_served_without_its_state(tmp_path):
    layer = keras_sam.SAM(**SIZES, stateful=True, jit_compile=False)
    cell_call = layer.call
    model = keras.Sequential([keras.Input((None, FEATURES), batch_size=2), layer])
    expected = np.asarray(model(random_inputs(2)))
    # The model is left as it was, its own state included.
    before = [variable.numpy() for variable in layer.states]
    folder = export_saved_model(model, tmp_path)
    assert layer.stateful and layer.call == cell_call and not layer.return_state
    for variable, value in zip(layer.states, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    whole = tf.saved_model.load(folder).signatures["serving_default"]
    for _ in range(2):
        outputs = whole(inputs=tf.constant(random_inputs(2)))["outputs"]
        np.testing.assert_allclose(outputs, expected, atol=1e-6, rtol=1e-5)


def test_several_inputs_and_outputs_have_their_names(tmp_path):
    numbers = keras.Input((None, 2), name="numbers")
    words = keras.Input((None,), dtype="int32", name="words")
    both = keras.layers.Concatenate()([numbers, keras.layers.Embedding(5, 2)(words)])
    memory = keras_sam.NTM(**SIZES, return_sequences=True)(both)
    heads = [keras.layers.Dense(2, name=name)(memory) for name in ("left", "right")]
    model = keras.Model([numbers, words], heads)
    signatures = tf.saved_model.load(export_saved_model(model, tmp_path)).signatures
    values = [random_inputs(2)[..., :2], np.arange(14, dtype="int32").reshape(2, 7) % 5]
    got = signatures["serving_default"](
        numbers=tf.constant(values[0]), words=tf.constant(values[1])
    )
    for name, expected in zip(("left", "right"), model(values), strict=True):
        np.testing.assert_allclose(got[name], expected, atol=1e-6)


def backwards(layer):
    return keras.layers.Bidirectional(layer)


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_model(backwards(keras_sam.NTM(**SIZES, return_sequences=True))),
        lambda: make_model(keras_sam.NTM(**SIZES, go_backwards=True)),
        lambda: make_model(
            keras_sam.NTM(**SIZES, return_sequences=True),
            keras.layers.Conv1D(2, 3, padding="causal"),
        ),
        lambda: make_model(
            keras_sam.NTM(**SIZES, return_sequences=True),
            keras.layers.GlobalMaxPooling1D(),
        ),
    ],
    ids=["bidirectional", "backwards", "convolution", "pooling"],
)
def test_what_cannot_go_chunk_by_chunk_is_served_whole_or_refused(make, tmp_path):
    model = make()
    with pytest.raises(ValueError, match="chunk by chunk. Pass streaming=False"):
        export_saved_model(model, tmp_path)
    assert not list(tmp_path.iterdir())
    folder = export_saved_model(model, tmp_path, streaming=False)
    signatures = tf.saved_model.load(folder).signatures
    assert list(signatures) == ["serving_default"]
    outputs = signatures["serving_default"](inputs=tf.constant(random_inputs()))
    expected = model(random_inputs())
    np.testing.assert_allclose(outputs["outputs"], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("width", [1, 3])
def test_outputs_in_time_without_features_are_streamed(width, tmp_path):
    inputs = keras.Input((None, FEATURES))
    scores = keras.layers.GRU(3, return_sequences=True)(inputs)
    last = keras.layers.GRU(width)(inputs)
    labels = keras.ops.argmax(scores, axis=-1)
    model = keras.Model(inputs, {"labels": labels, "last": last})
    signatures = tf.saved_model.load(export_saved_model(model, tmp_path)).signatures
    whole = signatures["serving_default"](inputs=tf.constant(random_inputs()))
    states = signatures["initial_state"](batch_size=tf.constant(len(random_inputs())))
    labels = []
    for chunk in np.split(random_inputs(), [1, 3], axis=1):
        states = signatures["step"](inputs=tf.constant(chunk), **states)
        labels.append(states.pop("labels"))
        last = states.pop("last")
    np.testing.assert_array_equal(np.concatenate(labels, axis=1), whole["labels"])
    np.testing.assert_allclose(last, whole["last"], atol=1e-6)


def test_layer_that_is_given_its_state_by_the_model(tmp_path):
    inputs = keras.Input((None, FEATURES))
    _, *state = keras_sam.NTM(**SIZES, return_state=True)(inputs)
    outputs = keras_sam.NTM(**SIZES)(inputs, initial_state=state)
    model = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match="without an `initial_state`"):
        export_saved_model(model, tmp_path)
    folder = export_saved_model(model, tmp_path, streaming=False)
    whole = tf.saved_model.load(folder).signatures["serving_default"]
    outputs = whole(inputs=tf.constant(random_inputs()))["outputs"]
    np.testing.assert_allclose(outputs, model(random_inputs()), atol=1e-6)


def test_versions(tmp_path):
    model = make_model(keras.layers.GRU(2))
    folders = [
        export_saved_model(model, tmp_path / "m", version, streaming=False)
        for version in (None, 7, None)
    ]
    assert folders == [str(tmp_path / "m" / number) for number in ("1", "7", "8")]
    assert len(list((tmp_path / "m").iterdir())) == 3  # Nothing else is left there.
    with pytest.raises(ValueError, match="such a version already.*version=7"):
        export_saved_model(model, tmp_path / "m", version=7)
    with pytest.raises(ValueError, match="`version` must be an integer"):
        export_saved_model(model, tmp_path / "m", version=0)


def test_exports_at_the_same_time(tmp_path):
    """Of one model, to one folder, in several threads, the model intact afterwards."""
    model = make_model(keras_sam.NTM(**SIZES, return_sequences=True))
    expected = np.asarray(model(random_inputs()))
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(export_saved_model, model, tmp_path) for _ in range(3)]
    folders = sorted(each.result() for each in waiting)
    assert folders == [str(tmp_path / version) for version in "123"]
    for folder in folders:
        whole = tf.saved_model.load(folder).signatures["serving_default"]
        outputs = whole(inputs=tf.constant(random_inputs()))["outputs"]
        np.testing.assert_allclose(outputs, expected, atol=1e-6, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(model(random_inputs())), expected)


def test_wrong_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must have defined inputs"):
        export_saved_model(keras.Sequential([keras_sam.NTM(**SIZES)]), tmp_path)
    with pytest.raises(ValueError, match="`index` is for finding .* index='scann'"):
        export_saved_model(make_model(keras_sam.SAM(**SIZES)), tmp_path, index="scann")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrap", ["layer", "cell", "stacked"])
def test_search_outside_of_tensorflow_is_refused(wrap, tmp_path):
    cell = keras_sam.SAMCell(**SIZES, index="scann", name="memory")
    layer = {
        "layer": lambda: keras_sam.SAM(**SIZES, index="scann", name="memory"),
        "cell": lambda: keras.layers.RNN(cell, name="memory"),
        "stacked": lambda: keras.layers.RNN([keras.layers.LSTMCell(4), cell]),
    }[wrap]()
    model = make_model(layer)
    for export in (
        lambda folder: export_saved_model(model, folder),
        lambda folder: model.export(folder, verbose=False),
        lambda folder: tf.saved_model.save(model, folder),
    ):
        with pytest.raises(ValueError, match="cannot be part of .* of class ScaNN"):
            export(tmp_path / "model")
    assert not list(tmp_path.iterdir())
    # Keras's own file knows the index by its name.
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    expected, got = (np.asarray(each(random_inputs())) for each in (model, again))
    np.testing.assert_allclose(got, expected, atol=1e-6)
