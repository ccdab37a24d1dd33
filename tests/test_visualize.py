"""Recordings hold what the cells did, of the slots touched; pictures are drawn."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_sam
from keras_sam import visualize

SIZES = {"units": 6, "word_size": 4, "output_size": 3}
LAYERS = {
    "ntm": lambda: keras_sam.NTM(**SIZES, memory_slots=9, write_heads=2),
    "dnc": lambda: keras_sam.DNC(**SIZES, memory_slots=9, read_heads=2),
    "dam": lambda: keras_sam.DAM(**SIZES, memory_slots=9, read_heads=2),
    "sam": lambda: keras_sam.SAM(**SIZES, memory_slots=9, read_heads=2, write_heads=2),
    "sdnc": lambda: keras_sam.SDNC(**SIZES, memory_slots=9, links_per_slot=3),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def sequence(steps=6):
    return np.random.default_rng(0).normal(size=(steps, 5)).astype("float32")


def dense(weights):
    if isinstance(weights, tf.SparseTensor):
        weights = tf.sparse.to_dense(weights)
    weights = np.asarray(weights)[0]
    return weights.reshape(len(weights), -1, weights.shape[-1])


@each_layer
def test_recording_is_the_trace_of_the_slots_touched(name):
    layer = LAYERS[name]()
    trace = layer.trace(sequence()[np.newaxis])
    recording = visualize.record(layer, sequence(), max_slots=5)
    weights = [dense(trace[kind]) for kind in ("write_weights", "read_weights")]
    total = sum(np.where(w > 0.05, w, 0.0).sum(axis=(0, 1)) for w in weights)
    assert recording.slots.tolist() == sorted(np.argsort(-total, kind="stable")[:5])
    for got, expected in zip(recording[1:3], weights, strict=True):
        np.testing.assert_array_equal(got, expected[..., recording.slots])
    np.testing.assert_array_equal(recording.outputs, trace["outputs"][0])
    # The contents after each step: those after the first steps, of a shorter run.
    again = keras.layers.RNN(layer.cell, return_state=True)
    for steps in (1, 4, 6):
        _, *states = again(sequence(6)[np.newaxis, :steps])
        state = layer.cell.unpack_state(states)
        memory = np.asarray(state.memory)[0, recording.slots]
        np.testing.assert_allclose(recording.memory[steps - 1], memory, atol=1e-6)
    if name in ("dnc", "sdnc"):
        link = state.link if name == "dnc" else layer.cell.link_matrix(state)
        link = dense(link)[:, 0][np.ix_(recording.slots, recording.slots)]
        assert link.any()
        np.testing.assert_allclose(recording.links, link.T, atol=1e-6)
    assert (recording.usage is None) == (name == "ntm")
    if name in ("dnc", "sdnc"):
        np.testing.assert_array_equal(recording.read_modes, trace["read_modes"][0])
    else:
        assert recording.read_modes is None


def test_read_modes_in_the_picture():
    layer = LAYERS["dnc"]()
    recording = visualize.record(layer, sequence())
    names = ["backward", "content", "forward"]
    (axis,) = (
        axis
        for axis in visualize.plot(recording).axes
        if [label.get_text() for label in axis.get_yticklabels()] == names
    )
    (image,) = axis.images
    # A row for each head of a mode, a column for each step; ticks between the heads.
    shown = image.get_array().reshape(3, 2, -1)
    np.testing.assert_array_equal(shown, recording.read_modes.transpose(2, 1, 0))
    assert axis.get_yticks().tolist() == [0.5, 2.5, 4.5]


def test_steps_since_access():
    layer = LAYERS["sam"]()
    recording = visualize.record(layer, sequence())
    weights = recording.write_weights.sum(axis=1) + recording.read_weights.sum(axis=1)
    for slot, since in zip(weights.T > 0.005, recording.usage.T, strict=True):
        for step, steps in enumerate(since):
            before = np.flatnonzero(slot[: step + 1])
            expected = step - before[-1] if len(before) else np.nan
            np.testing.assert_equal(steps, expected)


def test_only_touched_slots_of_a_large_memory():
    layer = keras_sam.SAM(**SIZES, memory_slots=2**16, read_heads=2)
    # Words that were given lie anywhere.
    memory = np.random.default_rng(1).normal(size=(2**16, 4))
    state = layer.get_initial_state(1, memory=memory)
    recording = visualize.record(layer, sequence(3), initial_state=state, max_slots=20)
    assert len(recording.slots) <= 20 and recording.slots[-1] > 1000
    assert recording.memory.shape == (3, len(recording.slots), 4)
    assert sum(values.nbytes for values in recording if hasattr(values, "nbytes")) < 1e5


@each_layer
def test_pictures_name_their_axes(name, tmp_path):
    recording = visualize.record(LAYERS[name](), sequence())
    figure = visualize.plot(recording)
    labels = [axis.get_ylabel() for axis in figure.axes]
    kinds = ["write weights", "read weights", "gate"]
    kinds += [] if name == "ntm" else [recording.usage_name]
    for kind in kinds:
        assert any(label.startswith(kind) for label in labels), kind
    assert any(axis.get_xlabel() == "time step" for axis in figure.axes)
    contents = visualize.plot_memory(recording)
    assert contents.axes[0].get_ylabel() == "slot"
    assert len(contents.axes) == (4 if "dnc" in name else 2)  # with colour bars
    visualize.animate(recording, tmp_path / "run.gif")
    with Image.open(tmp_path / "run.gif") as movie:
        assert movie.n_frames == 6
    pixels = visualize.pixels(figure)
    assert pixels.dtype == np.uint8 and pixels.std() > 10


def test_attention_is_drawn_beside_its_sentences():
    attention = np.array([[0.75, 0.25, 0.0], [0.0, 1.0, 0.0]])  # the last is padding
    figure = visualize.plot_attention(attention, ["a b", "c d"], "e?")
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a b", "c d"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["hop 1", "hop 2"]
    np.testing.assert_array_equal(axis.images[0].get_array(), attention[:, :2].T)
    assert axis.get_title() == "e?"
    with pytest.raises(ValueError, match=r"\(2, 3\), 4 sentences"):
        visualize.plot_attention(attention, ["a"] * 4)


def test_wrong_arguments():
    layer = LAYERS["ntm"]()
    with pytest.raises(ValueError, match=r"one sequence.*\(1, 6, 5\)"):
        visualize.record(layer, sequence()[np.newaxis])
    with pytest.raises(ValueError, match="`max_slots` must be an integer"):
        visualize.record(layer, sequence(), max_slots=0)


@pytest.mark.parametrize("stacks", [1, 3])
def test_stacks_over_time(stacks):
    layer = keras_sam.StackRNN(6, memory_slots=9, stacks=stacks, no_op=stacks > 1)
    labels = list("abcdef")
    figure = visualize.plot_stacks(layer, sequence(), labels=labels)
    trace = layer.trace(
        sequence()[np.newaxis], keep={"memory": lambda state: state.memory}
    )
    shown = {axis.get_ylabel(): axis for axis in figure.axes if axis.images}
    names = ["push", "pop", "no-op"] if stacks > 1 else ["push", "pop"]
    for stack in range(stacks):
        contents = shown[f"stack {stack}"].images[0].get_array()
        expected = trace["memory"][0, :, :, stack].numpy().T
        np.testing.assert_array_equal(contents, expected[: len(contents)])
        assert np.all(expected[len(contents) :] < -0.95)  # left out: as good as empty
    strips = [
        axis
        for axis in figure.axes
        if [label.get_text() for label in axis.get_yticklabels()] == names
    ]
    assert len(strips) == stacks
    for stack, axis in enumerate(strips):
        actions = trace["actions"][0, :, stack].numpy()
        np.testing.assert_array_equal(axis.images[0].get_array(), actions.T)
    axis = shown[f"stack {stacks - 1}"]
    assert [label.get_text() for label in axis.get_xticklabels()] == labels


def test_stacks_of_wrong_arguments():
    layer = keras_sam.StackRNN(6, memory_slots=9)
    with pytest.raises(ValueError, match="`layer` must be a keras_sam.StackRNN"):
        visualize.plot_stacks(LAYERS["ntm"](), sequence())
    with pytest.raises(ValueError, match="an entry for each of 6 steps.*2 labels"):
        visualize.plot_stacks(layer, sequence(), labels="ab")
    with pytest.raises(ValueError, match="`keras_sam.visualize.plot_stacks`"):
        visualize.record(layer, sequence())


def test_tensorboard_gets_stacks(tmp_path):
    memory = keras_sam.StackRNN(3, memory_slots=6, stacks=2, name="stack")
    model = keras.Sequential([keras.Input((None, 5)), memory])
    model.compile("sgd", "mse")
    look = keras_sam.callbacks.MemoryTensorBoard(tmp_path, sequence())
    model.fit(np.zeros((2, 6, 5)), np.zeros((2, 3)), callbacks=[look], verbose=0)
    (path,) = tmp_path.iterdir()
    records = tf.data.TFRecordDataset(str(path))
    events = map(tf.compat.v1.Event.FromString, records.as_numpy_iterator())
    assert "stack/stacks" in {v.tag for event in events for v in event.summary.value}


def test_tensorboard_gets_pictures(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, 5)),
            keras.layers.Dense(4),
            keras_sam.NTM(**SIZES, memory_slots=6, name="ntm"),
        ]
    )
    model.compile("sgd", "mse")
    look = keras_sam.callbacks.MemoryTensorBoard(tmp_path, sequence(), update_freq=2)
    batch = np.zeros((2, 6, 5)), np.zeros((2, 3))
    model.fit(*batch, epochs=4, verbose=0, callbacks=[look])
    logged = {}
    for file in tmp_path.iterdir():
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                logged.setdefault(value.tag, []).append((event.step, value.tensor))
    assert set(logged) == {
        *("ntm/run", "ntm/memory"),
        *("ntm/gates", "ntm/slots_touched"),
    }
    assert [step for step, _ in logged["ntm/run"]] == [1, 3]
    png = tf.make_ndarray(logged["ntm/run"][0][1])[2]
    assert tf.io.decode_png(png).shape[-1] == 3
    wrong = keras.Sequential([keras.Input((None, 5)), keras.layers.LSTM(3)])
    wrong.compile("sgd", "mse")
    with pytest.raises(ValueError, match="looks at layers of keras_sam"):
        wrong.fit(*batch, verbose=0, callbacks=[look])
