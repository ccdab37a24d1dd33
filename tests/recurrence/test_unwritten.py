"""What a loop allocates is written before it is read."""

import types
import weakref

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_layers, results_and_gradients

import keras_sam
from keras_sam.recurrence import buffers, programs, sparse

# Of no memory here, nor so large that a row's number overflows.
NO_SLOT = 10**9


def filled(shape, dtype):
    """A tensor of what no result may depend on."""
    dtype = tf.as_dtype(dtype)
    nothing = float("nan") if dtype.is_floating else NO_SLOT
    return tf.fill(shape, tf.cast(nothing, dtype))


def filled_buffer(shape, dtype):
    buffer = tf.raw_ops.Empty(shape=shape, dtype=dtype)
    rows = tf.range(shape[0])
    return tf.raw_ops.InplaceUpdate(x=buffer, i=rows, v=filled(shape, dtype))


def filled_array(dtype, size, element_shape):
    array = tf.TensorArray(dtype, size=size, element_shape=element_shape)
    return array.unstack(filled([size, *element_shape], dtype))


class Instead(types.SimpleNamespace):
    """TensorFlow with other functions of some names."""

    def __getattr__(self, name):
        return getattr(tf, name)


@pytest.fixture
def nothing_is_zero(monkeypatch):
    """Fills what the loops allocate; gives the names of what was allocated."""
    found = set()

    def noted(name, function):
        def allocate(*args, **kwargs):
            found.add(name)
            return function(*args, **kwargs)

        return allocate

    raw_ops = types.SimpleNamespace(
        Empty=noted("buffer", filled_buffer),
        InplaceUpdate=tf.raw_ops.InplaceUpdate,
        InplaceAdd=tf.raw_ops.InplaceAdd,
    )
    monkeypatch.setattr(buffers, "tf", Instead(raw_ops=raw_ops))
    array = noted("array", filled_array)
    monkeypatch.setattr(sparse, "tf", Instead(TensorArray=array))
    # Programs of other tests are not used here, nor those of this test elsewhere.
    monkeypatch.setattr(programs, "_shared", weakref.WeakValueDictionary())
    monkeypatch.setattr(programs, "_compiled", {})
    return found


@pytest.mark.parametrize(
    ("path", "options", "allocated"),
    [
        ("in_place", {}, {"array", "buffer"}),
        (
            "in_place",
            {"layer_class": keras_sam.SDNC, "links_per_slot": 3},
            {"array", "buffer"},
        ),
        (
            "compiled",
            {"index": keras_sam.index.LSH(2, bucket_size=4)},
            {"array"},
        ),
    ],
    ids=["sam-in_place", "sdnc-in_place", "sam_lsh-compiled"],
)
def test_nothing_is_read_before_it_is_written(
    path, options, allocated, nothing_is_zero
):
    """NaN, or a slot that is none, in what a sequence allocates changes no result.

    17 steps are padded to 18, so that each array has an entry that no step writes.

    Zeros by design are left alone. `WeightGradients.empty_factors` multiplies its rows
    all at once, and a row of no step has to add nothing. `Gradients` and `Carry` start
    from zeros: no gradient comes from after the last step, and a masked first step
    repeats an output of zeros.
    """
    layer, plain = make_layers(path, memory_slots=40, reads_per_head=2, **options)
    rng = np.random.default_rng(1)
    inputs = tf.constant(rng.normal(size=(3, 17, 5)))
    mask = tf.constant(rng.random((3, 17)) > 0.3)
    state = layer.get_initial_state(3, memory=rng.normal(size=(30, 4)))
    got = results_and_gradients(layer, inputs, state, mask)
    assert nothing_is_zero == allocated
    expected = results_and_gradients(plain, inputs, state, mask)
    for values, references in zip(got, expected, strict=True):
        for value, reference in zip(values, references, strict=True):
            assert np.all(np.isfinite(value))
            np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-9)
