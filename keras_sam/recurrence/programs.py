"""One operation for all layers of equal configuration.

TensorFlow never frees a program that XLA has compiled. Layers that are alike share
their programs: the second one compiles nothing.
"""

import contextlib
import contextvars
import json
import weakref

import keras

from keras_sam._compat import without_values
from keras_sam.litert import has_builtin_ops
from keras_sam.recurrence.dense import DenseRecurrence
from keras_sam.recurrence.operation import Operation
from keras_sam.recurrence.sparse import SparseRecurrence

# Operations that live as long as a layer that uses them.
_shared = weakref.WeakValueDictionary()

# Those that XLA compiles: what they cost is never given back, so they stay of use.
_compiled = {}

# What a layer is called, and how its weights come about, does not matter.
_IRRELEVANT = {"name": "cell", "seed": 0, "trainable": True}
_IRRELEVANT_ENDINGS = {
    "_initializer": "zeros",
    "_regularizer": None,
    "_constraint": None,
}


_xla_is_off = contextvars.ContextVar("xla_is_off", default=False)


@contextlib.contextmanager
def xla_off():
    """Layers called within it do not compile themselves.

    For SavedModels, which are to run where there is no XLA.
    """
    token = _xla_is_off.set(True)
    try:
        yield
    finally:
        _xla_is_off.reset(token)


def is_xla_off():
    """Whether the caller is within `xla_off` or `keras_sam.builtin_ops`."""
    return _xla_is_off.get() or has_builtin_ops()


def operation_for(layer, jit_compile):
    """The operation that runs the sequences of a layer.

    Args:
        layer: A built `keras_sam.MemoryRNN`.
        jit_compile: Boolean, whether XLA compiles it.

    Returns:
        An `Operation`; the same for all layers that differ in nothing but weights.
    """
    cell, zero_output_for_mask = layer.cell, layer.zero_output_for_mask
    kind = (jit_compile, has_builtin_ops())

    def make(cell):
        if hasattr(cell, "sparse_step"):
            passes = SparseRecurrence(cell, zero_output_for_mask, *kind)
        else:
            passes = DenseRecurrence(cell, zero_output_for_mask)
        return Operation(passes, jit_compile)

    config = _shareable_config(cell)
    if config is None:
        return make(cell)
    features = cell.input_spec.axes[-1]
    key = json.dumps(
        [type(cell).__name__, features, zero_output_for_mask, kind, config],
        sort_keys=True,
    )
    operation = _shared.get(key)
    if operation is None:
        double = _double(cell, config, features)
        if double is None:
            return make(cell)
        operation = _shared[key] = make(double)
        if jit_compile:
            _compiled[key] = operation
    return operation


def _shareable_config(cell):
    """A cell's configuration without what does not matter; None if not all is known.

    The configuration of somebody else's class may leave out what the class computes.
    """
    config = keras.saving.serialize_keras_object(cell)
    if isinstance(config, dict) and _is_ours(config):
        return _bare(config["config"])
    return None


def _is_ours(config):
    if isinstance(config, dict):
        module = config.get("module", "keras") or ""
        if config.get("class_name") and not (
            module.split(".")[0] in ("keras", "builtins")
            or (config.get("registered_name") or "").startswith("keras_sam>")
        ):
            return False
        return all(map(_is_ours, config.values()))
    if isinstance(config, list | tuple):
        return all(map(_is_ours, config))
    return True


def _bare(config):
    if isinstance(config, list | tuple):
        return [_bare(value) for value in config]
    if not isinstance(config, dict):
        return config
    is_layer = "trainable" in config
    bare = {}
    for name, value in config.items():
        ending = f"_{name.rpartition('_')[2]}"
        if is_layer and name in _IRRELEVANT:
            value = _IRRELEVANT[name]
        elif ending in _IRRELEVANT_ENDINGS:
            value = _IRRELEVANT_ENDINGS[ending]
        elif name != "build_config":
            value = _bare(value)
        else:
            continue
        bare[name] = value
    return bare


def _double(cell, config, features):
    """A cell like another one, without values; None if it cannot be made.

    A trace refers to it in place of the cell, whose layer can so be freed.
    """
    with without_values():
        double = type(cell).from_config(config)
        double.build((None, features))
    alike = [
        [(variable.name, tuple(variable.shape), variable.dtype) for variable in each]
        for each in (cell.variables, double.variables)
    ]
    return double if alike[0] == alike[1] else None
