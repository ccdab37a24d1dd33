"""What layers leave behind in a process of their own; prints JSON.

Usage: python tests/support/leaks.py DONE MADE ...

It makes a layer, uses it and deletes it, again and again, and reports the memory that
each one left in the process, the programs that XLA compiled and what was logged; then
does the same with the next one named.
"""

import ctypes
import gc
import json
import logging
import os
import pathlib
import sys
import tempfile
import weakref

WARM_UP, COUNTED = 3, 4
BATCH, STEPS, FEATURES = 2, 4, 3

if __name__ == "__main__":
    # Before TensorFlow is imported: XLA writes down each program that it compiles.
    _DUMPS = tempfile.TemporaryDirectory(prefix="keras_sam_programs_")
    os.environ["XLA_FLAGS"] = (
        f"--xla_dump_to={_DUMPS.name} --xla_dump_hlo_as_text "
        "--xla_dump_hlo_pass_re=^$ --xla_cpu_parallel_codegen_split_count=1"
    )

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from placements import LAYERS  # noqa: E402

import keras_sam  # noqa: E402

INPUTS = np.random.default_rng(0).normal(size=(BATCH, STEPS, FEATURES))
INPUTS = INPUTS.astype("float32")


# What is made: functions that return a layer.


def lstm():
    return keras.layers.LSTM(5, return_sequences=True)


MADE = {"lstm": lstm}
for _name, _subject in LAYERS.items():
    MADE[_name] = _subject.layer
    MADE[f"{_name}_cell"] = _subject.plain


# What is done with it.


def call(layer):
    layer(INPUTS)


def call_under_a_tape(layer):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(INPUTS, training=True))
    tape.gradient(loss, [weight.value for weight in layer.trainable_variables])


def call_in_a_function(layer):
    @tf.function
    def update(inputs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(inputs, training=True))
        # TensorFlow leaves out of a function what nobody asks for: the forward pass of
        # a cell whose backward pass runs it again.
        return loss, tape.gradient(loss, [w.value for w in layer.trainable_variables])

    update(tf.constant(INPUTS))


def _model(layer):
    return keras.Sequential([keras.Input((None, FEATURES)), layer])


def fit(layer):
    model = _model(layer)
    model.compile("sgd", "mse", jit_compile=False)
    targets = np.zeros((BATCH, STEPS, model.output_shape[-1]), "float32")
    model.fit(INPUTS, targets, verbose=0)
    model.predict(INPUTS, verbose=0)


def export(layer):
    model = _model(layer)
    with tempfile.TemporaryDirectory() as folder:
        model.export(f"{folder}/model", verbose=False)


def export_saved_model(layer):
    model = _model(layer)
    with tempfile.TemporaryDirectory() as folder:
        keras_sam.export_saved_model(model, folder, streaming=False)


DONE = {
    function.__name__: function
    for function in (
        call,
        call_under_a_tape,
        call_in_a_function,
        fit,
        export,
        export_saved_model,
    )
}


# What does leave something behind, to see that it is seen.


@tf.function(jit_compile=True, autograph=False)
def _thousand_operations(inputs):
    for _ in range(1000):
        inputs = inputs * 0.5
    return inputs


class CompiledFunction(keras.layers.Layer):
    """TensorFlow alone: all layers share one function, which XLA compiles."""

    def call(self, inputs):
        return _thousand_operations(inputs)


_KEPT = []


def keep(layer):
    _KEPT.append(np.ones(2**18))  # 2 MiB
    tf.function(lambda inputs: layer(inputs), jit_compile=True)(tf.constant(INPUTS))


# What is left.


def references(layer):
    """Weak references by name: to the layer, its cell, its index."""
    parts = {"layer": layer}
    if hasattr(layer, "cell"):
        parts |= {"cell": layer.cell}
        parts |= {"controller": getattr(layer.cell, "controller", layer.cell)}
    if hasattr(getattr(layer, "cell", None), "index"):
        parts |= {"index": layer.cell.index}
    return {name: weakref.ref(part) for name, part in parts.items()}


def alive(weak):
    """The names of those that the garbage collector leaves."""
    for _ in range(3):
        gc.collect()
    return [name for name, reference in weak.items() if reference() is not None]


def used_and_dropped(make, use):
    """Weak references to a layer that was used, and to which nobody else has one."""
    layer = make()
    use(layer)
    return references(layer)


def resident_mib():
    """The memory of this process once all that is free went back to the system."""
    for _ in range(3):
        gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Messages(logging.Handler):
    """What the package has logged."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def compiled():
    """The number of programs that XLA has compiled in this process."""
    dumps = pathlib.Path(_DUMPS.name).glob("module_*.before_optimizations.txt")
    return len({path.name.split(".")[0] for path in dumps})


def measure(make, use):
    """Memory, programs and messages after each of many layers."""
    messages, before = Messages(), compiled()
    logging.getLogger("keras_sam").addHandler(messages)
    mib, programs, logged, weak = [], [], [], {}
    for number in range(WARM_UP + COUNTED):
        for name, reference in used_and_dropped(make, use).items():
            weak[f"{name} {number}"] = reference
        mib.append(resident_mib())
        programs.append(compiled() - before)
        logged.append(len(messages.texts))
    counted = mib[WARM_UP - 1 :]
    return {
        # A straight line through all of them: one that is off weighs little.
        "mib_each": np.polyfit(np.arange(len(counted)), counted, 1)[0],
        "mib": mib,
        "alive": alive(weak),
        "programs": programs,
        "logged": logged,
        "messages": messages.texts,
    }


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    _use = {**DONE, "keep": keep}[sys.argv[1]]
    _made = {**MADE, "compiled_function": CompiledFunction}
    print(json.dumps({made: measure(_made[made], _use) for made in sys.argv[2:]}))
