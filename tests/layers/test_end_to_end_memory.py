"""The end-to-end memory network against its twin, and in Keras models."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import end_to_end_memory as twin

import keras_sam

VOCABULARY, UNITS = 9, 4
FACTS = np.array(
    [
        [[1, 2, 0], [3, 2, 8], [4, 5, 6], [0, 0, 0]],
        [[7, 0, 0], [0, 0, 0], [2, 6, 1], [5, 5, 8]],
    ]
)
QUESTION = np.array([[1, 2, 3], [6, 0, 0]])


def random_weights(layer):
    """The layer with large random weights: of small ones all attention is even."""
    rng = np.random.default_rng(0)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


@pytest.mark.parametrize(
    ("tying", "position", "max_facts", "linear"),
    [
        ("adjacent", "encoding", 5, False),
        ("adjacent", None, 2, True),
        ("layer_wise", "encoding", 2, False),
        ("layer_wise", None, None, False),
    ],
)
def test_layer_computes_the_paper_s_equations(tying, position, max_facts, linear):
    layer = keras_sam.EndToEndMemory(
        VOCABULARY,
        UNITS,
        hops=3,
        tying=tying,
        position=position,
        max_facts=max_facts,
        linear_start=linear,
        dtype="float64",
    )
    layer(FACTS, QUESTION)
    random_weights(layer)
    outputs, attention = layer(FACTS, QUESTION), layer.attention(FACTS, QUESTION)
    for row in range(2):
        expected, reads = twin.run(
            [table.embeddings.numpy() for table in layer.tables],
            None if max_facts is None else [a.numpy() for a in layer.ages],
            layer.between_hops.numpy() if tying == "layer_wise" else None,
            FACTS[row],
            QUESTION[row],
            hops=3,
            encode=position is not None,
            linear=linear,
        )
        np.testing.assert_allclose(outputs[row], expected, rtol=1e-9)
        np.testing.assert_allclose(attention[row], reads, rtol=1e-9, atol=1e-12)


def test_weights_are_tied_as_the_paper_has_them():
    layers = {
        tying: keras_sam.EndToEndMemory(
            VOCABULARY, UNITS, tying=tying, max_facts=7, position="encoding"
        )
        for tying in ("adjacent", "layer_wise")
    }
    for layer in layers.values():
        layer(FACTS, QUESTION)
    words, ages = VOCABULARY * UNITS, 7 * UNITS
    assert layers["adjacent"].count_params() == 4 * (words + ages)
    layer_wise = 3 * words + 2 * ages + UNITS * UNITS
    assert layers["layer_wise"].count_params() == layer_wise


def test_padding_changes_nothing():
    layer = keras_sam.EndToEndMemory(VOCABULARY, UNITS)
    expected = layer(FACTS[:1, :3], QUESTION[:1])
    np.testing.assert_allclose(layer(FACTS[:1], QUESTION[:1]), expected, rtol=1e-5)
    # Without any fact the question stands alone.
    alone = layer(np.zeros_like(FACTS), QUESTION)
    np.testing.assert_allclose(alone, layer.tables[0](QUESTION), rtol=1e-5)


def test_linear_start_ends_without_another_compilation():
    layer = keras_sam.EndToEndMemory(VOCABULARY, UNITS, linear_start=True)
    call = tf.function(layer)
    call(FACTS, QUESTION)
    random_weights(layer)
    linear = call(FACTS, QUESTION).numpy()
    layer.end_linear_start()
    assert not np.allclose(call(FACTS, QUESTION), linear)
    sums = layer.attention(FACTS, QUESTION).numpy().sum(axis=-1)
    np.testing.assert_allclose(sums, 1.0, rtol=1e-5)


def test_time_noise_makes_facts_older_in_training_alone():
    layer = keras_sam.EndToEndMemory(VOCABULARY, UNITS, time_noise=0.5, seed=1)
    layer(FACTS, QUESTION)
    random_weights(layer)
    quiet = layer(FACTS, QUESTION).numpy()
    np.testing.assert_array_equal(layer(FACTS, QUESTION), quiet)
    noisy = [layer(FACTS, QUESTION, training=True).numpy() for _ in range(5)]
    assert any(not np.allclose(each, quiet) for each in noisy)
    is_fact = np.array([[True, True, False, True]])
    ages = [layer._age(is_fact, training=True).numpy()[0] for _ in range(20)]
    for age in ages:
        # The last fact stays the last; the others keep their order.
        assert age[3] == 0 and 1 <= age[1] <= 2 and age[1] < age[0] <= 4
    assert len({tuple(age) for age in ages}) > 1


def test_a_model_learns_what_takes_two_hops_and_is_saved(tmp_path):
    # Fact [a, b] after fact [b, c]: which c does a lead to?
    a, b, c = map(
        np.array, zip(*itertools.product([1, 2], [3, 4], [5, 6]), strict=True)
    )
    other_b, other_c = 7 - b, 11 - c
    facts = np.stack([[other_b, b, a], [other_c, c, b]], axis=-1).transpose(1, 0, 2)
    question = np.stack([a, 0 * a], axis=-1)
    inputs = {
        "facts": keras.Input((None, 2), dtype="int32", name="facts"),
        "question": keras.Input((2,), dtype="int32", name="question"),
    }
    memory = keras_sam.EndToEndMemory(7, 8, hops=2, position="encoding", max_facts=None)
    outputs = keras.layers.Dense(7, use_bias=False)(memory(*inputs.values()))
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    data = {"facts": facts, "question": question}
    model.fit(data, c, epochs=150, verbose=0)
    assert model.evaluate(data, c, verbose=0)[1] == 1.0
    expected = model.predict(data, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(data, verbose=0), expected)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    data = {name: tf.constant(value, tf.int32) for name, value in data.items()}
    np.testing.assert_allclose(served.serve(data), expected, rtol=1e-5, atol=1e-6)


def test_logits_are_products_with_the_last_table():
    layer = keras_sam.EndToEndMemory(VOCABULARY, UNITS, return_logits=True, seed=0)
    logits = layer(FACTS, QUESTION)
    assert logits.shape == layer.compute_output_shape(FACTS.shape, QUESTION.shape)
    plain = keras_sam.EndToEndMemory(VOCABULARY, UNITS)
    plain(FACTS, QUESTION)
    plain.set_weights(layer.get_weights())
    table = layer.tables[-1].embeddings.numpy()
    np.testing.assert_allclose(logits, plain(FACTS, QUESTION) @ table.T, rtol=1e-5)


@pytest.mark.parametrize("return_logits", [False, True])
def test_a_story_without_facts_is_finite_in_half_precision(return_logits):
    layer = keras_sam.EndToEndMemory(
        VOCABULARY, UNITS, return_logits=return_logits, dtype="mixed_float16"
    )
    outputs = layer(np.zeros_like(FACTS), QUESTION)
    assert np.isfinite(outputs.numpy()).all()


def test_bad_arguments_are_refused():
    make = keras_sam.EndToEndMemory
    with pytest.raises(ValueError, match="`tying` must be"):
        make(VOCABULARY, UNITS, tying="none")
    with pytest.raises(ValueError, match="`time_noise`"):
        make(VOCABULARY, UNITS, time_noise=1.0)
    with pytest.raises(ValueError, match="weights of its own"):
        make(VOCABULARY, UNITS, tying="layer_wise", return_logits=True)
    with pytest.raises(ValueError, match="no logit"):
        make(VOCABULARY, UNITS, position="table", return_logits=True)
    with pytest.raises(ValueError, match="one number of words"):
        make(VOCABULARY, UNITS)(FACTS, QUESTION[:, :2])
    with pytest.raises(ValueError, match="must be \\[batch, facts, words\\]"):
        make(VOCABULARY, UNITS)(FACTS[0], QUESTION)
    with pytest.raises(ValueError, match="linear start ends"):
        make(VOCABULARY, UNITS).end_linear_start()
