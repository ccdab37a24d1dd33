"""What stands around a memory that reads sentences: embedding, positions, thought."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sam

WORDS = np.array([[[1, 2, 0], [3, 2, 8], [4, 0, 0]], [[1, 2, 7], [8, 1, 0], [0, 0, 0]]])


@pytest.fixture
def story_model():
    """Embedding, positions and thought around a memory, and logits."""
    words = keras.Input((None, 3), dtype="int32")
    counts = keras.ops.where(keras.ops.any(keras.ops.equal(words, 8), axis=-1), 2, 1)
    features = keras_sam.SentenceEmbedding(9, 4, name="embedding")(words)
    features = keras_sam.SinePositions(2)(features)
    memory = keras_sam.NTM(5, memory_slots=6, return_sequences=True)
    outputs = keras_sam.ThinkSteps(memory, max_steps=2, name="think")(features, counts)
    return keras.Model(words, keras.layers.Dense(3)(outputs))


@pytest.mark.parametrize("position", ["mask", "table", "encoding", None])
def test_embedding_is_the_sum_over_words(position):
    layer = keras_sam.SentenceEmbedding(9, 4, position)
    outputs = layer(WORDS)
    for weight in layer.weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    outputs = layer(WORDS).numpy()
    vectors = layer.embeddings.numpy().reshape(-1, 9, 4)
    expected = np.zeros((2, 3, 4))
    for story, step, p in np.argwhere(WORDS):
        vector = vectors[p if position == "table" else 0, WORDS[story, step, p]]
        factor = layer.factors.numpy()[p] if position == "mask" else 1.0
        if position == "encoding":
            count, k = np.count_nonzero(WORDS[story, step]), np.arange(1, 5)
            j = (p + 1) / count
            factor = (1 - j) - (k / 4) * (1 - 2 * j)
        expected[story, step] += factor * vector
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    assert not outputs[1, 2].any()  # padding


def test_embedding_begins_as_a_bag_of_words():
    layer = keras_sam.SentenceEmbedding(9, 4)
    np.testing.assert_allclose(layer(WORDS), layer(WORDS[..., ::-1]), rtol=1e-6)


@pytest.mark.parametrize("inner", ["lstm", "ntm", "sam"])
@pytest.mark.parametrize("inputs", ["repeat", "blank", "halves"])
def test_thought_is_further_steps_of_the_layer_within(inner, inputs):
    memory = {
        "lstm": lambda: keras.layers.LSTM(4, return_sequences=True),
        "ntm": lambda: keras_sam.NTM(4, memory_slots=6, return_sequences=True),
        "sam": lambda: keras_sam.SAM(
            4, memory_slots=9, return_sequences=True, jit_compile=False
        ),
    }[inner]()
    features = 6 if inputs == "halves" else 3
    x = np.random.default_rng(0).normal(size=(2, 4, features)).astype("float32")
    counts = [[0, 2, 0, 1], [1, 0, 9, 2]]  # 9 counts as 2; the last step is masked
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], bool)
    layer = keras_sam.ThinkSteps(memory, max_steps=2, inputs=inputs)
    outputs = layer(x, counts=np.array(counts), sequences_mask=mask).numpy()
    vectors = layer.thoughts.numpy()
    assert vectors.shape == (2, 3)
    first = x[..., :3]
    again = {"repeat": first, "blank": 0.0 * first, "halves": x[..., -3:]}[inputs]
    for sequence, steps in enumerate([4, 3]):
        rows, last = [], []
        for t in range(steps):
            thoughts = again[sequence, t] + vectors[: min(counts[sequence][t], 2)]
            rows += [first[sequence, t], *thoughts]
            last.append(len(rows) - 1)
        expected = memory(np.stack(rows)[np.newaxis]).numpy()[0, last]
        np.testing.assert_allclose(outputs[sequence, :steps], expected, atol=1e-6)


def test_padding_changes_nothing(story_model):
    outputs = story_model(WORDS)
    np.testing.assert_allclose(
        outputs[1:, :2], story_model(WORDS[1:, :2]), rtol=1e-5, atol=1e-6
    )
    # The mask that the embedding makes goes all the way.
    x = story_model.get_layer("embedding")(WORDS)
    mask = [[True, True, True], [True, True, False]]
    assert x._keras_mask.numpy().tolist() == mask
    think = story_model.get_layer("think")
    features = keras_sam.SinePositions(2)(x)
    assert think(features, np.zeros((2, 3)))._keras_mask.numpy().tolist() == mask


def test_a_story_is_trained_in_one_pass_and_saved(story_model, tmp_path):
    answers = np.array([[0, 1, 0], [0, 2, 0]])
    weights = np.array([[0, 1, 0], [0, 1, 0]], "float32")
    story_model.compile(
        keras.optimizers.Adam(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
    )
    before = [weight.numpy() for weight in story_model.trainable_weights]
    history = story_model.fit(
        WORDS, answers, sample_weight=weights, epochs=40, verbose=0
    )
    assert history.history["loss"][-1] < 0.1
    for old, new in zip(before, story_model.trainable_weights, strict=True):
        assert (old != new.numpy()).any(), new.path
    expected = story_model(WORDS).numpy()
    story_model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(WORDS), expected)
    story_model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(
        served.serve(WORDS.astype("int32")), expected, rtol=1e-5, atol=1e-6
    )


def test_positions_count_from_the_last_flag():
    layer = keras_sam.RandomPositions(planes=3)
    inputs = np.random.default_rng(0).normal(size=(2, 9, 4)).astype("float32")
    inputs[..., -1] = 0
    inputs[0, [2, 6], -1] = 1
    counts = np.array([[1, 2, 0, 1, 2, 3, 0, 1, 2], range(1, 10)])

    def angles(outputs):
        np.testing.assert_array_equal(outputs[..., :4], inputs)
        cosines, sines = np.split(np.asarray(outputs[..., 4:], "float64"), 2, axis=-1)
        return np.exp(1j * np.arctan2(sines, cosines))

    # From step to step a turn of its own for each plane, as often as the count says.
    found = angles(layer(inputs))
    turns = found[1, 1] / found[1, 0]
    assert (np.abs(turns[:, np.newaxis] - turns) > 0.01)[~np.eye(3, dtype=bool)].all()
    expected = found[0, 2] * turns ** counts[..., np.newaxis]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # In training the same from random angles, others for each sequence and call.
    starts = [angles(layer(inputs, training=True)) / found for _ in range(2)]
    for start in starts:
        np.testing.assert_allclose(start, start[:, :1] + 0 * start, atol=1e-4)
    starts = np.concatenate(starts)[:, 0]
    distances = np.abs(starts[:, np.newaxis] - starts).max(axis=-1)
    assert (distances > 0.1)[~np.eye(4, dtype=bool)].all()


def test_think_steps_compile_as_a_part_of_a_model(story_model):
    compiled = tf.function(story_model, jit_compile=False)
    np.testing.assert_allclose(compiled(WORDS), story_model(WORDS), atol=1e-6)


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda: keras_sam.SentenceEmbedding(0, 4), "`vocabulary_size` must be"),
        (lambda: keras_sam.SentenceEmbedding(9, 4, "sum"), "`position` must be one"),
        (lambda: keras_sam.SentenceEmbedding(9, 4).build((2, None)), "positions must"),
        (lambda: keras_sam.SinePositions(0), "`waves` must be"),
        (lambda: keras_sam.RandomPositions(0), "`planes` must be"),
        (lambda: keras_sam.ThinkSteps(keras.layers.Dense(3)), "must be a recurrent"),
        (lambda: keras_sam.ThinkSteps(keras_sam.NTM(3)), "return_sequences=True"),
        (
            lambda: keras_sam.ThinkSteps(
                keras_sam.NTM(3, return_sequences=True, stateful=True)
            ),
            "with stateful=True",
        ),
        (
            lambda: keras_sam.ThinkSteps(
                keras_sam.NTM(3, return_sequences=True), max_steps=0
            ),
            "`max_steps` must be",
        ),
        (
            lambda: keras_sam.ThinkSteps(keras_sam.NTM(3, return_sequences=True))(
                np.ones((2, 4, 3)), counts=np.ones((2, 3))
            ),
            "must have an entry for each step",
        ),
        (
            lambda: keras_sam.ThinkSteps(
                keras_sam.NTM(3, return_sequences=True), inputs="halves"
            )(np.ones((2, 4, 3)), counts=np.ones((2, 4))),
            "number of features must be even",
        ),
    ],
)
def test_wrong_arguments(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()
