"""The dynamic memory network's episodes against their twin, and in Keras models."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import dynamic_memory as twin

import keras_sam

UNITS, FACTS = 4, 5
COUNTS = np.array([5, 3])  # facts that are not padding


@pytest.fixture
def story():
    """Facts `[2, 5, 4]`, questions `[2, 4]` and the facts' mask."""
    rng = np.random.default_rng(0)
    facts, questions = rng.normal(size=(2, FACTS, UNITS)), rng.normal(size=(2, UNITS))
    return facts, questions, np.arange(FACTS) < COUNTS[:, np.newaxis]


def with_random_weights(layer):
    rng = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


@pytest.mark.parametrize("attention_gru", [False, True])
def test_layer_computes_the_papers_equations(attention_gru, story):
    facts, questions, mask = story
    layer = keras_sam.DynamicMemory(
        UNITS, passes=2, attention_gru=attention_gru, dtype="float64"
    )
    layer(facts, questions, facts_mask=mask)
    with_random_weights(layer)
    outputs = layer(facts, questions, facts_mask=mask)
    gates = layer.attention(facts, questions, facts_mask=mask).numpy()
    weights = {
        "episode": layer.episode.cell.gru.get_weights(),
        "gate_hidden": layer.gate_hidden.get_weights(),
        "gate": layer.gate.get_weights(),
    }
    if attention_gru:
        weights["updates"] = [update.get_weights() for update in layer.updates]
    else:
        weights |= {
            name: getattr(layer, name).get_weights() for name in ("likeness", "update")
        }
    for row, count in enumerate(COUNTS):
        expected, expected_gates = twin.run(
            weights, facts[row, :count], questions[row], 2, attention_gru
        )
        np.testing.assert_allclose(outputs[row], expected, rtol=1e-9)
        np.testing.assert_allclose(gates[row, :, :count], expected_gates, rtol=1e-9)
        assert not gates[row, :, count:].any()


@pytest.mark.parametrize("attention_gru", [False, True])
def test_a_model_passes_masks_learns_and_is_saved(attention_gru, tmp_path):
    # Which word stands in the fact that begins as the question does?
    rng = np.random.default_rng(0)
    keys = np.array([rng.permutation([1, 2, 3]) for _ in range(32)])
    values = rng.integers(4, 7, size=keys.shape)
    words = np.stack([keys, values], axis=-1)
    words = np.concatenate([words, np.zeros((32, 2, 2), int)], axis=1)  # padding
    question, answer = np.stack([keys[:, 1], 0 * keys[:, 1]], axis=-1), values[:, 1]
    facts_in = keras.Input((None, 2), dtype="int32")
    question_in = keras.Input((2,), dtype="int32")
    embed = keras_sam.SentenceEmbedding(7, 8, position="table")
    memory = keras_sam.DynamicMemory(8, passes=1, attention_gru=attention_gru)
    outputs = keras.layers.Dense(7)(memory(embed(facts_in), embed(question_in)))
    model = keras.Model([facts_in, question_in], outputs)
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit([words, question], answer, epochs=150, verbose=0)
    assert model.evaluate([words, question], answer, verbose=0)[1] > 0.95
    expected = model.predict([words, question], verbose=0)
    without_padding = model.predict([words[:, :3], question], verbose=0)
    np.testing.assert_allclose(without_padding, expected, rtol=1e-4, atol=1e-5)
    gates = memory.attention(embed(words), embed(question)).numpy()
    assert gates.shape == (32, 1, 5) and not gates[..., 3:].any()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict([words, question], verbose=0), expected
    )
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    inputs = [tf.constant(each, tf.int32) for each in (words, question)]
    np.testing.assert_allclose(served.serve(inputs), expected, rtol=1e-4, atol=1e-5)


def test_each_weight_gets_a_gradient(story):
    facts, questions, mask = story
    for attention_gru in (False, True):
        layer = keras_sam.DynamicMemory(UNITS, attention_gru=attention_gru)
        layer(facts, questions, facts_mask=mask)
        if attention_gru:
            for update in layer.updates:  # no ReLU that is shut
                update.bias.assign(np.full(UNITS, 5.0))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(facts, questions, facts_mask=mask) ** 2)
        gradients = dict(
            zip(
                [weight.path for weight in layer.trainable_weights],
                tape.gradient(loss, [w.value for w in layer.trainable_weights]),
                strict=True,
            )
        )
        assert not [path for path, gradient in gradients.items() if gradient is None]


def test_bad_arguments_are_refused(story):
    facts, questions, _ = story
    with pytest.raises(ValueError, match="`passes` must be"):
        keras_sam.DynamicMemory(UNITS, passes=0)
    with pytest.raises(ValueError, match=r"must be \[batch, facts, 7\]"):
        keras_sam.DynamicMemory(7)(facts, questions)
