"""What type checkers and editors are told about the constructors is what they take."""

import ast
import inspect
import textwrap
import tomllib
import typing

import keras
import pytest
from running import ROOT

import keras_sam
from keras_sam import options

LAYERS = [
    *(keras_sam.NTM, keras_sam.DNC, keras_sam.DAM),
    *(keras_sam.MANN, keras_sam.DNTM, keras_sam.SAM, keras_sam.SDNC),
    keras_sam.StackRNN,
]
CELLS = [layer.cell_class for layer in LAYERS]
# Keras hands it to the cell alone, so it is not offered.
NOT_OFFERED = {"autocast"}


def written_out(cls):
    """The arguments that a class's own `__init__` names, and its TypedDict.

    A layer's `__init__` stands under `if TYPE_CHECKING`.
    """
    (init,) = (
        node
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls))))
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    unpacked, init.args.kwarg = init.args.kwarg.annotation.slice.id, None
    return init.args, getattr(options, unpacked)


def taken_by_name(cls):
    """From the name of each argument that a class might take to its default."""
    ways = [(cls, keras.layers.Layer)]
    if issubclass(cls, keras.layers.RNN):
        ways = [(cls, keras_sam.MemoryRNN), (cls.cell_class, keras.layers.Layer)]
    parameters = {}
    for first, last in ways:
        for base in first.__mro__[: first.__mro__.index(last) + 1]:
            parameters = {**inspect.signature(base.__init__).parameters, **parameters}
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.kind not in variadic and name != "self"
    }


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_writes_out_the_arguments_of_its_cell(layer):
    of_layer, of_cell = (
        ast.unparse(written_out(cls)[0]) for cls in (layer, layer.cell_class)
    )
    assert of_layer == of_cell


@pytest.mark.parametrize("cls", [*LAYERS, *CELLS])
def test_the_other_arguments_are_the_keys_of_a_typed_dict(cls):
    arguments, typed_dict = written_out(cls)
    own = {each.arg for each in (*arguments.args, *arguments.kwonlyargs)}
    shared, taken = set(typing.get_type_hints(typed_dict)), taken_by_name(cls)
    assert not own & shared
    assert shared <= set(taken)
    cls(4, **{name: taken[name] for name in shared})
    for name in set(taken) - own - shared - NOT_OFFERED:
        with pytest.raises(ValueError):
            cls(4, **{name: taken[name]})


@pytest.mark.parametrize("layer", LAYERS)
def test_help_lists_no_argument_that_the_layer_refuses(layer):
    parameters = dict(inspect.signature(layer).parameters)
    del parameters["units"]
    layer(4, **{name: each.default for name, each in parameters.items()})


def test_the_package_says_that_it_has_types():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    data = project["tool"]["setuptools"]["package-data"]["keras_sam"]
    for name in data:
        assert (ROOT / "keras_sam" / name).is_file()
    assert "py.typed" in data
