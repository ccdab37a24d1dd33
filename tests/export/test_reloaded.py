"""The gradient of a model that was exported and loaded again: right, or refused."""

import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from placements import FEATURES, LAYERS, Module, assign, data, numbers, spread_weights
from reloaded import gradients, reloaded_gradients
from running import SUPPORT

import keras_sam

# What TensorFlow and this package raise for what has no gradient; "out of scope" is
# what TensorFlow says where the gradient would need the graph that was saved.
REFUSALS = (
    "LookupError",
    "NotImplementedError",
    "UnimplementedError",
    "ValueError",
)


@functools.cache
def made(name, wrapping):
    """A model of one layer with well-spread weights, its outputs and gradients."""
    memory = getattr(LAYERS[name], wrapping)()
    model = keras.Sequential([keras.Input((None, FEATURES)), memory])
    assign(model.weights, spread_weights(model.weights, seed=1))
    inputs = data()[0]
    weights = [weight.value for weight in model.weights]
    outputs, take = gradients(model, tf.constant(inputs), weights)
    return model, inputs, outputs, take()


def by_model_export(model, folder):
    model.export(folder, verbose=False)
    return folder


def by_export_saved_model(model, folder):
    return keras_sam.export_saved_model(model, folder, streaming=False)


def by_module(model, folder):
    module = Module(model.layers[0])
    module.run(tf.constant(data()[0]))
    tf.saved_model.save(module, folder)
    return folder


def in_another_process(way, folder, inputs, values, scratch):
    """The same as `reloaded_gradients`, without keras_sam."""
    values = {f"weight_{k}": value for k, value in enumerate(values)}
    np.savez(scratch / "given.npz", inputs=inputs, **values)
    files = [str(scratch / name) for name in ("given.npz", "results.npz")]
    run = subprocess.run(
        [sys.executable, SUPPORT / "reloaded.py", way, folder, *files],
        capture_output=True,
        text=True,
        check=False,
        cwd=scratch,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    with np.load(files[1]) as results:
        results = dict(results)
    got = {
        int(name.removeprefix("gradient_")): value
        for name, value in results.items()
        if name.startswith("gradient_")
    }
    return results["outputs"], got, str(results["error"]) or None


WAYS = {
    way.__name__: way for way in (by_model_export, by_export_saved_model, by_module)
}
SUBJECTS = {
    "sam": ("sam", "layer"),
    "sam_cell": ("sam", "plain"),
    "sam_compiled": ("sam_compiled", "layer"),
    "ntm": ("ntm", "layer"),
    "ntm_compiled": ("ntm_compiled", "layer"),
    "sdnc": ("sdnc", "layer"),
    "dnc": ("dnc", "layer"),
}
QUICK = {
    ("sam", "by_model_export", "here"),
    ("sam", "by_export_saved_model", "elsewhere"),
    ("sam_cell", "by_module", "here"),
    ("sam_compiled", "by_model_export", "here"),
    ("ntm", "by_export_saved_model", "here"),
}
ALL = [
    pytest.param(*row, marks=[pytest.mark.slow] * (row not in QUICK), id="-".join(row))
    for row in [
        (subject, way, where)
        for subject in SUBJECTS
        for way in WAYS
        for where in ("here", "elsewhere")
    ]
]


@pytest.mark.parametrize(("subject", "way", "where"), ALL)
def test_gradient_of_a_reloaded_model_is_right_or_refused(
    subject, way, where, tmp_path
):
    model, inputs, expected_outputs, expected = made(*SUBJECTS[subject])
    folder = WAYS[way](model, str(tmp_path / "model"))
    values = numbers(model.weights)
    if where == "here":
        outputs, got, error = reloaded_gradients(way, folder, inputs, values)
    else:
        outputs, got, error = in_another_process(way, folder, inputs, values, tmp_path)
    np.testing.assert_allclose(outputs, expected_outputs, atol=1e-5)
    if error is not None:
        kind, why = error.split(": ", 1)
        assert kind in REFUSALS or "out of scope" in why, error
        return
    names = ["the inputs", *[weight.path for weight in model.weights]]
    for k, (name, reference) in enumerate(zip(names, expected, strict=True)):
        assert k in got, f"No gradient for {name}, and no error."
        np.testing.assert_allclose(
            got[k], reference, rtol=1e-4, atol=1e-5, err_msg=f"For {name}."
        )
