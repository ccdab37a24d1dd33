"""The metrics against counts in plain Python."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sam.metrics import BitErrors, SequenceAccuracy


def count(y_true, y_pred, sample_weight=None, threshold=0.5):
    """Returns the wrong bits of a batch [B, T, bits], one number per sequence."""
    per_sequence = []
    for i, sequence in enumerate(y_true):
        wrong = 0
        for t, step in enumerate(sequence):
            weight = 1 if sample_weight is None else sample_weight[i][t]
            for k, bit in enumerate(step):
                wrong += weight * ((y_pred[i][t][k] > threshold) != (bit == 1))
        per_sequence.append(wrong)
    return per_sequence


def random_batch(rng, batch=5, steps=7, bits=3):
    y_true = rng.integers(0, 2, (batch, steps, bits)).astype("float32")
    y_pred = rng.random((batch, steps, bits)).astype("float32")
    sample_weight = rng.integers(0, 3, (batch, steps)).astype("float32")
    return y_true, y_pred, sample_weight


@pytest.mark.parametrize("threshold", [0.5, 0, 0.9])
@pytest.mark.parametrize("weighted", [True, False])
def test_mean_over_batches_of_different_size(threshold, weighted):
    rng = np.random.default_rng(0)
    metric = BitErrors(threshold=threshold)
    expected = []
    for batch in (5, 2):
        y_true, y_pred, sample_weight = random_batch(rng, batch)
        y_pred -= 0.5 * (threshold == 0)  # Logits of either sign.
        sample_weight = sample_weight if weighted else None
        metric.update_state(y_true, y_pred, sample_weight)
        expected += count(y_true, y_pred, sample_weight, threshold)
    assert min(expected) > 0
    np.testing.assert_allclose(metric.result(), np.mean(expected), rtol=1e-6)
    metric.reset_state()
    assert metric.result() == 0


def test_exact_values():
    y_true = [[[1, 0], [1, 1]], [[0, 0], [0, 1]]]
    assert BitErrors()(y_true, np.array(y_true, "float32")) == 0
    assert BitErrors()(y_true, 1 - np.array(y_true, "float32")) == 4
    # A prediction on the threshold is a 0.
    assert BitErrors()(y_true, np.full((2, 2, 2), 0.5)) == 2
    assert BitErrors()(y_true, np.full((2, 2, 2), 0.5), [[1, 0], [0, 0]]) == 0.5
    # One weight for each sequence, then one for each bit.
    assert BitErrors()(y_true, np.zeros((2, 2, 2)), [1, 3]) == 3
    assert BitErrors()(y_true, np.zeros((2, 2, 2)), np.array(y_true) * 2.0) == 4


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float16", "float64"])
def test_any_dtype_of_truth_and_weight(dtype):
    y_true, y_pred, sample_weight = random_batch(np.random.default_rng(1))
    sample_weight = np.minimum(sample_weight, 1)
    expected = np.mean(count(y_true, y_pred, sample_weight))
    result = BitErrors()(y_true.astype(dtype), y_pred, sample_weight.astype(dtype))
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_half_precision_predictions_are_counted_in_float32():
    y_true, y_pred, _ = random_batch(np.random.default_rng(1), steps=3000)
    y_pred = y_pred.astype("float16")
    expected = np.mean(count(y_true, y_pred))
    assert expected > 2048  # From here on float16 skips integers.
    np.testing.assert_allclose(BitErrors()(y_true, y_pred), expected, rtol=1e-6)


@pytest.mark.parametrize("bit", [0, 1])
def test_nan_is_wrong_whatever_the_truth(bit):
    assert BitErrors()(np.full((1, 2, 3), bit), np.full((1, 2, 3), np.nan)) == 6


def test_masked_steps_do_not_count():
    y_pred = tf.ones((1, 3, 2))
    y_pred._keras_mask = tf.constant([[True, False, True]])
    assert BitErrors()(np.zeros((1, 3, 2)), y_pred) == 4
    assert BitErrors()(np.zeros((1, 3, 2)), y_pred, [[1, 1, 0]]) == 2


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_in_evaluate(how):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(10, 6, 4)).astype("float32")
    y = rng.integers(0, 2, (10, 6, 3)).astype("float32")
    sample_weight = rng.integers(0, 2, (10, 6)).astype("float32")
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.Dense(3)])
    model.compile(
        "sgd",
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[BitErrors(threshold=0, name="all_steps")],
        weighted_metrics=[BitErrors(threshold=0)],
        run_eagerly=how == "eager",
        jit_compile=how == "xla",
    )
    # The last batch has 2 sequences only.
    logs = model.evaluate(
        x, y, sample_weight=sample_weight, batch_size=4, verbose=0, return_dict=True
    )
    logits = model.predict(x, verbose=0)
    weighted = np.mean(count(y, logits, sample_weight, threshold=0))
    np.testing.assert_allclose(logs["bit_errors"], weighted, rtol=1e-6)
    unweighted = np.mean(count(y, logits, threshold=0))
    np.testing.assert_allclose(logs["all_steps"], unweighted, rtol=1e-6)


def test_early_stopping_knows_that_less_is_better():
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.Dense(2)])
    model.compile("sgd", "mse", weighted_metrics=[BitErrors()])
    x = np.ones((2, 3, 2))
    stop = keras.callbacks.EarlyStopping(monitor="val_bit_errors")
    model.fit(x, x, validation_data=(x, x), callbacks=[stop], verbose=0)
    assert stop.monitor_op is keras.ops.less


def test_config_round_trip():
    metric = BitErrors(threshold=0, name="errors", dtype="float64")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(again) is BitErrors
    assert (again.threshold, again.name, again.dtype) == (0, "errors", "float64")


def test_saved_with_a_compiled_model(tmp_path):
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.Dense(2)])
    model.compile("sgd", "mse", weighted_metrics=[BitErrors(threshold=0.25)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).random((4, 3, 2))
    y = (x > 0.5).astype("float32")
    expected = np.mean(count(y, model.predict(x, verbose=0), threshold=0.25))
    logs = loaded.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["bit_errors"], expected, rtol=1e-6)


@pytest.mark.parametrize("threshold", [None, "0.5", True])
def test_refuses_a_threshold_that_is_no_number(threshold):
    with pytest.raises(ValueError, match="`threshold` must be a number"):
        BitErrors(threshold=threshold)


@pytest.mark.parametrize(
    ("true", "pred", "weight", "expected"),
    [
        ((2, 3), (2, 3, 1), None, "must have the same shape"),
        ((2, 3, 4), (2, 1, 4), None, "must have the same shape"),
        ((2,), (2,), None, r"shape \[batch, time, bits\]"),
        ((2, 3, 4), (2, 3, 4), (3,), "must have the leading axes"),
        ((2, 3, 4), (2, 3, 4), (2, 4), "must have the leading axes"),
        ((2, 3, 4), (2, 3, 4), (2, 3, 4, 1), "must have the leading axes"),
    ],
)
def test_refuses_shapes(true, pred, weight, expected):
    weight = None if weight is None else np.ones(weight)
    with pytest.raises(ValueError, match=expected):
        BitErrors().update_state(np.ones(true), np.ones(pred), weight)


@pytest.mark.parametrize("how", ["eager", "xla"])
def test_sequence_accuracy(how):
    rng = np.random.default_rng(0)
    # Often right, so that some sequences are right as a whole.
    true = rng.integers(0, 3, (50, 4, 2))
    pred = np.where(rng.random(true.shape) < 0.9, true, rng.integers(0, 3, true.shape))
    y_true, y_pred = np.eye(3)[true], np.eye(3, dtype="float32")[pred] * 0.4 + 0.1
    y_pred[7, 1, 1, 2] = np.nan
    true[7, 1, 1] = pred[7, 1, 1] = 0
    sample_weight = rng.integers(0, 2, (50, 4))
    sample_weight[7, 1] = 1
    expected = []
    for i in range(50):
        steps = [t for t in range(4) if sample_weight[i, t]]
        expected.append(i != 7 and all((true[i, t] == pred[i, t]).all() for t in steps))
    assert 10 < sum(expected) < 45
    metric = SequenceAccuracy()
    update = metric.update_state
    if how == "xla":
        update = tf.function(update, jit_compile=True)
    for part in (slice(0, 20), slice(20, 50)):
        update(
            tf.constant(y_true[part]),
            tf.constant(y_pred[part]),
            tf.constant(sample_weight[part]),
        )
    np.testing.assert_allclose(metric.result(), np.mean(expected), rtol=1e-6)
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(again) is SequenceAccuracy
    with pytest.raises(ValueError, match="same shape"):
        metric.update_state(y_true, y_pred[:, :, :1])
    with pytest.raises(ValueError, match="leading axes"):
        metric.update_state(y_true, y_pred, sample_weight[:, :3])
