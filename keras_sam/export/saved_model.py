"""SavedModels for serving, of models with memory layers."""

import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_sam._compat import sublayers
from keras_sam.arguments import check_boolean, check_folder, check_positive_integer
from keras_sam.cells.sam import SAMCell
from keras_sam.export.compiled import compiled
from keras_sam.export.frozen import FrozenStream
from keras_sam.export.signatures import (
    TRIAL_STEPS,
    checked,
    checked_state,
    require,
    trace,
    trial_inputs,
)
from keras_sam.export.streaming import Stream, recurrent_layers, run_model
from keras_sam.index import IndexLike
from keras_sam.index.frozen import Resources
from keras_sam.options import TensorLike
from keras_sam.recurrence import xla_off

# Of the sequence that shows whether chunk by chunk gives what the whole gives.
_TRIAL_SPLIT = 1


def prefill(
    model: keras.Model,
    inputs: TensorLike | dict[str, TensorLike],
    states: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Has a model read a long context, for `export_saved_model(memory=)`.

    Args:
        model: A built Keras model whose recurrent layers are called once each.
        inputs: Tensor `[1, time, ...]`, the context; for several inputs, what the
            model takes.
        states: Optional dictionary from the names of recurrent layers to their states
            before: what an earlier call returned, or a layer's
            `get_initial_state(1, memory=)`. Layers not named start as always.

    Returns:
        A dictionary from the names of all recurrent layers to lists of tensors
        `[1, size]`: their states after the last step.

    Raises:
        ValueError: If a recurrent layer is not there, called twice or given its
            state by the model.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((None, 3)), keras_sam.SAM(8, memory_slots=256, name="sam")]
    ... )
    >>> memory = keras_sam.prefill(model, np.ones((1, 20, 3)))
    >>> folder = keras_sam.export_saved_model(model, "served", memory=memory)
    """
    layers = recurrent_layers(model)
    streams = _streams(layers, states, Stream)
    _, last = run_model(model, inputs, streams, _initial_states(streams, 1))
    return {name: list(state.values()) for name, state in last.items()}


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    version: int | None = None,
    streaming: bool = True,
    memory: dict[str, Any] | None = None,
    index: IndexLike | None = None,
    jit_compile: bool = False,
) -> str:
    """Writes a SavedModel for TensorFlow Serving.

    It needs TensorFlow alone where it runs: neither keras_sam nor Keras nor XLA. The
    layers run in TensorFlow's graph there, the memory of a sparse layer in place,
    whatever their `jit_compile` is; none is stateful. A request begins with the
    initial state of all layers, and nothing of it is left when it is answered.
    Several threads may export at the same time, and the model is left as it is.

    Inputs are called `inputs` if there is one, else by their names; outputs likewise
    `outputs`. Batch and length are any where `keras.Input` leaves them open. The
    signatures:

    - `serving_default`: the outputs of whole sequences.
    - `initial_state`: from `batch_size`, an integer, to the states of all recurrent
      layers, as `LAYER_FIELD`, for instance `memory_read_weights`.
    - `step`: a chunk of each sequence together with these states, to its outputs and
      the states after it. Chunk by chunk gives what the whole gives.
    - `compiled`, with `jit_compile=True`: what `serving_default` gives, from programs
      that XLA compiles where the SavedModel runs, some seconds at the first call. There
      is a program for each power of two that a batch is padded to, and for each power
      of two that the sequences are padded to. Sequences are not padded if `streaming`
      is `False`, or if an output has no time axis: then there is one for each length.

    All of them refuse an empty batch, sequences of no steps, and numbers that are not
    finite, with an error of TensorFlow's (`InvalidArgumentError`) that says so.

    Args:
        model: A built Keras model with inputs and outputs (Sequential or functional).
        path: String or path, the folder of the model, in which there will be one for
            each version. It may not be a file.
        version: Integer. Defaults to the one after the highest that is there.
        streaming: Boolean, whether to write `initial_state` and `step`. They need
            a model whose output at a step depends on no later step, which a short
            trial makes sure of, and whose sequences may have any length. Defaults to
            `True`.
        memory: Optional dictionary from the names of recurrent layers to states, as
            `prefill` returns: what every request starts from. The memory of a
            `keras_sam.SAM` is frozen: stored once, shared by all requests, of which
            each has copies of the slots that it touches alone (`keras_sam.frozen`).
        index: How frozen words are found: as for `keras_sam.SAMCell`. With `"scann"`
            the server needs ScaNN's operations: in Python `import scann` before the
            model is loaded. Defaults to the layer's own index.
        jit_compile: Boolean, whether to write `compiled`. TensorFlow Serving runs it if
            started with `--xla_cpu_compilation_enabled`, and TensorFlow in Python as it
            is. A frozen memory that is searched by ScaNN cannot be compiled. Defaults
            to `False`.

    Returns:
        The folder of the version, a string. It appears when it is complete: a server
        that watches `path` may be running.

    Raises:
        ValueError: If the model has no defined inputs, if its index cannot be part of
            a SavedModel, if a memory cannot be frozen, if there is an `index` and no
            memory for it, if there is such a version, if the model cannot be streamed
            and `streaming` is `True`, or if XLA cannot compile the model and
            `jit_compile` is `True`.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((None, 3)), keras_sam.NTM(8, memory_slots=16, name="ntm")]
    ... )
    >>> folder = keras_sam.export_saved_model(model, "served")
    >>> folder
    'served/1'
    >>> loaded = tf.saved_model.load(folder)
    >>> whole, step = (loaded.signatures[name] for name in ("serving_default", "step"))
    >>> sequence = np.ones((2, 5, 3), "float32")
    >>> whole(inputs=tf.constant(sequence))["outputs"].shape
    TensorShape([2, 8])
    >>> states = loaded.signatures["initial_state"](batch_size=tf.constant(2))
    >>> sorted(states)[:3]
    ['ntm_controller_0', 'ntm_controller_1', 'ntm_memory']
    >>> states = step(inputs=tf.constant(sequence[:, :2]), **states)
    >>> outputs = states.pop("outputs")
    """
    _version_folder(path, version)
    check_boolean("jit_compile", jit_compile)
    inputs = _named_inputs(model)
    if check_boolean("streaming", streaming):
        _check_time_is_open(inputs)
    layers = recurrent_layers(model)
    memory = memory or {}

    def frozen(layer, start):
        if isinstance(layer.cell, SAMCell):
            return FrozenStream(layer, start, index)
        return Stream(layer, start)

    streams = _streams(layers, memory, frozen)
    thawed = [s.layer for s in streams.values() if not isinstance(s, FrozenStream)]
    for layer in thawed:
        _check_indexes(layer)
    if index is not None and len(thawed) == len(layers):
        raise ValueError(
            "`index` is for finding the words of a frozen memory: pass a `memory` for "
            "a keras_sam.SAM as well, or choose the index when you make the layer. "
            f"Received: index={index!r}, memory for the layers {sorted(memory)}"
        )
    call = _caller(model, inputs)

    def answer(values, steps=None):
        # All others start as always by themselves.
        starting = {
            name: stream
            for name, stream in streams.items()
            if name in memory or stream.layer.stateful
        }
        batch_size = tf.shape(next(iter(values.values())))[0]
        states = _initial_states(starting, batch_size)
        return call(values, starting, states, steps)[0]

    def serving_default(**values):
        return answer(values)

    with xla_off():
        whole = trace(serving_default, inputs)
        signatures = {"serving_default": whole}
        if streaming:
            signatures |= _streamed(call, inputs, streams, whole)
    if jit_compile:
        signatures["compiled"] = compiled(answer, whole, inputs, streaming)
    module = Resources(
        weights=[variable.value for variable in model.variables],
        starts=[stream.resources for stream in streams.values()],
    )
    return str(_save(module, path, version, signatures))


def _version_folder(path, version):
    path = Path(check_folder("path", path))
    if version is None:
        there = [int(each.name) for each in path.glob("*") if each.name.isdecimal()]
        version = max(there, default=0) + 1
    folder = path / str(check_positive_integer("version", version))
    if folder.exists():
        raise ValueError(
            "There is such a version already; give another one, or none for the next. "
            f"Received: version={version}, path={str(path)!r}"
        )
    return folder


def _named_inputs(model):
    """The signature of a model's inputs: a dictionary of `tf.TensorSpec` by name."""
    if not getattr(model, "inputs", None):
        raise ValueError(
            "The model must have defined inputs: keras.Input((None, features)) as the "
            "first layer of a Sequential model, or a functional model. "
            f"Received: model={model}"
        )
    names = [tensor.name for tensor in model.inputs]
    names = ["inputs"] if len(names) == 1 else names
    return {
        name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name)
        for name, tensor in zip(names, model.inputs, strict=True)
    }


def _check_time_is_open(inputs):
    fixed = {
        name: tuple(spec.shape)
        for name, spec in inputs.items()
        if spec.shape[1:2] != [None]
    }
    if fixed:
        raise _cannot_stream(
            "chunks have other lengths than a whole sequence, and the model's Input "
            "fixes the time axis. Build the model with keras.Input((None, features)) "
            f"and give it the same weights; its inputs have the shapes {fixed}"
        )


def _streams(layers, starts, make):
    """A `Stream` for each layer, by name; those with a start as `make` makes them."""
    starts = starts or {}
    if not starts.keys() <= layers.keys():
        raise ValueError(
            f"States can be given for the recurrent layers, {sorted(layers)}. "
            f"Received: {sorted(starts)}"
        )
    return {
        name: make(layer, starts[name]) if name in starts else Stream(layer)
        for name, layer in layers.items()
    }


def _initial_states(streams, batch_size):
    return {name: stream.initial_state(batch_size) for name, stream in streams.items()}


def _check_indexes(layer):
    for part in sublayers(layer):
        if isinstance(part, SAMCell):
            part.index.check_export(layer.name)


def _caller(model, inputs):
    """The model as a function of named tensors, streams and their states, with checks.

    It returns named tensors, and the last states.
    """

    def call(values, streams, states, steps=None):
        values = [checked(name, spec, values[name]) for name, spec in inputs.items()]
        structure = model.input if len(values) > 1 else model.inputs[0]
        values = keras.tree.pack_sequence_as(structure, values)
        outputs, last = run_model(model, values, streams, states, steps)
        if not isinstance(outputs, dict):
            outputs = keras.tree.flatten(outputs)
            names = ["outputs"] if len(outputs) == 1 else model.output_names
            outputs = dict(zip(names, outputs, strict=True))
        return outputs, last

    return call


def _stepwise(call, inputs, streams):
    """The signatures for chunks of sequences, by name."""
    fields = {
        name: {field: f"{name}_{field}" for field in stream.fields}
        for name, stream in streams.items()
    }

    def flat(states):
        return {
            fields[name][field]: value
            for name, state in states.items()
            for field, value in state.items()
        }

    def initial_state(batch_size):
        check = require(batch_size > 0, "`batch_size` must be at least 1")
        with tf.control_dependencies([check]):
            batch_size = tf.identity(batch_size)
        return flat(_initial_states(streams, batch_size))

    def step(**values):
        sequences = tf.shape(values[next(iter(inputs))])[0]
        states = {
            name: {
                field: checked_state(key, values[key], sequences)
                for field, key in keys.items()
            }
            for name, keys in fields.items()
        }
        outputs, last = call(values, streams, states)
        return outputs | flat(last)

    batch_size = {"batch_size": tf.TensorSpec([], tf.int32, "batch_size")}
    initial_state = trace(initial_state, batch_size)
    states = {
        key: tf.TensorSpec([None, *value.shape[1:]], value.dtype, key)
        for key, value in initial_state.structured_outputs.items()
    }
    return {"initial_state": initial_state, "step": trace(step, inputs | states)}


def _streamed(call, inputs, streams, whole):
    """The signatures for chunks, once they have given what the whole gives."""
    try:
        signatures = _stepwise(call, inputs, streams)
        same = _trial(signatures, inputs, whole)
    except ValueError as error:
        raise _cannot_stream(error) from error
    except tf.errors.InvalidArgumentError as error:
        raise _cannot_stream(f"chunks of a few steps fail: {error.message}") from error
    if not same:
        raise _cannot_stream(
            "chunks of a sequence gave other outputs than the whole: a layer looks "
            "ahead, or at more than the state it was given"
        )
    return signatures


def _cannot_stream(why):
    return ValueError(
        "The model cannot go through sequences chunk by chunk. Pass streaming=False "
        f"for a SavedModel that takes whole sequences alone. Received: {why}"
    )


def _trial(signatures, inputs, whole):
    """Whether two chunks give what the whole gives, for a sequence drawn by chance."""
    values = trial_inputs(inputs)
    state = signatures["initial_state"](batch_size=tf.constant(1))
    chunks = []
    for chunk in (slice(_TRIAL_SPLIT), slice(_TRIAL_SPLIT, None)):
        parts = {name: value[:, chunk] for name, value in values.items()}
        results = signatures["step"](**parts, **state)
        state = {name: results.pop(name) for name in state}
        chunks.append(results)
    for name, expected in whole(**values).items():
        got = [chunk[name] for chunk in chunks]
        sizes = got[0].shape[1:2], expected.shape[1:2]
        in_time = sizes == ([_TRIAL_SPLIT], [TRIAL_STEPS])
        got = tf.concat(got, axis=1) if in_time else got[-1]
        if not np.allclose(got, expected, rtol=1e-4, atol=1e-5):
            return False
    return True


def _save(module, path, version, signatures):
    """Writes beside the folder and renames it: whoever watches sees it complete.

    Returns:
        The folder.
    """
    Path(path).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path, prefix=".") as scratch:
        tf.saved_model.save(module, f"{scratch}/model", signatures)
        while True:
            folder = _version_folder(path, version)
            try:
                os.rename(f"{scratch}/model", folder)
                return folder
            except OSError:
                # Another thread has just taken the next version: this is the one after.
                if version is not None or not folder.exists():
                    raise
