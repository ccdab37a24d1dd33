"""The shape of the code: how deep calls go, how large pieces are, what knows what."""

import ast
import io
import itertools
import tokenize
import traceback
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import keras_sam
from keras_sam.recurrence import buffers

PACKAGE = Path(keras_sam.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES_OF_A_FUNCTION, MOST_LINES_OF_A_MODULE = 60, 400
# Whoever stands further down imports from further up alone.
ORDER = [
    *("_version", "_compat", "_extras", "options", "arguments", "checks", "litert"),
    *("ops", "index", "cells", "recurrence", "layers", "export"),
    *("resize", "metrics", "visualize", "tasks", "datasets", "callbacks"),
    *("distribute", "models"),
    "__init__",
]


def name_of(path):
    return str(path.relative_to(PACKAGE))


each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


# The way of a sequence to the memory.


def frames_of_the_package():
    """Files and functions of the package that the call went through."""
    for frame in traceback.extract_stack():
        file = Path(frame.filename)
        if file.is_relative_to(PACKAGE):
            yield name_of(file), frame.name


@pytest.fixture
def ways(monkeypatch):
    """The files on the ways forward to a scatter into the words of a memory.

    Each run of frames of a file is there once.
    """
    found = []

    def recorded(update):
        def record(*arguments):
            # The only tensor of so many rows: what the layers below have as words.
            if arguments[-3].shape[0] == 2 * 37:
                files, functions = zip(*frames_of_the_package(), strict=True)
                # TensorFlow asks for the backward pass while it calls the forward one.
                if "_backward" not in functions:
                    found.append([file for file, _ in itertools.groupby(files)])
            return update(*arguments)

        return record

    monkeypatch.setattr(buffers, "_in_place", recorded(buffers._in_place))
    monkeypatch.setattr(
        buffers.Values, "update", staticmethod(recorded(buffers.Values.update))
    )
    return found


@pytest.mark.slow_rows("SAM-False", "SDNC-False")
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("layer_class", [keras_sam.SAM, keras_sam.SDNC])
def test_a_sequence_reaches_its_memory_through_at_most_six_files(
    layer_class, jit_compile, ways
):
    # Of a width that no other test has: nothing has been traced before.
    layer = layer_class(3, 37, 5, 1, jit_compile=jit_compile)
    inputs = tf.constant(np.ones((2, 4, 7), "float32"))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        layer(inputs)
    assert ways
    for way in ways:
        assert way[0] == "layers/base.py" and way[-1] == "recurrence/buffers.py", way
        assert len(way) <= 6, way
        assert len(set(way)) == len(way), way


# Sizes.


def lines_of_code(path):
    """The numbers of a module's lines that hold code, and its functions.

    Without docstrings, comments, blank lines and signatures.
    """
    source = path.read_text()
    layout = (
        *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
        *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
    )
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in layout:
            lines.update(range(token.start[0], token.end[0] + 1))
    functions = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append(node)
            # What a return annotation or a default spans belongs to it.
            lines.difference_update(range(node.lineno, node.body[0].lineno))
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            first = node.body[0]
            lines.difference_update(range(first.lineno, first.end_lineno + 1))
    return lines, functions


@each_module
def test_no_function_and_no_module_is_long(path):
    lines, functions = lines_of_code(path)
    assert len(lines) <= MOST_LINES_OF_A_MODULE
    for function in functions:
        own = lines.intersection(range(function.lineno, function.end_lineno + 1))
        assert len(own) <= MOST_LINES_OF_A_FUNCTION, function.name


def test_lines_of_code_are_counted_as_said(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""A docstring\n\nof three lines."""\n'
        "# A comment.\n"
        "import os\n\n\n"
        "@decorated\n"
        "def function(\n    first,\n    second=2,\n):\n"
        '    """Another."""\n'
        "    # A comment.\n"
        "    return (\n        first\n    )\n"
    )
    lines, (function,) = lines_of_code(path)
    assert lines == {5, 8, 15, 16, 17}
    assert function.name == "function"


# Who knows whom.


def imported(path):
    """The dotted names that a module imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "Imports in the package are absolute."
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def used(path):
    """What a module imports and every dotted name that stands in its code."""
    yield from imported(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def part_of(path):
    """The module or folder at the top of the package, as in ORDER."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@each_module
def test_imports_point_downwards(path):
    part = part_of(path)
    for name in imported(path):
        package, _, rest = name.partition(".")
        if package == "keras_sam":
            other = rest.split(".")[0]
            # A name from the package itself comes from its top.
            other = other if other in ORDER else "__init__"
            assert other == part or ORDER.index(other) < ORDER.index(part), name


def test_every_part_of_the_package_has_its_place():
    assert {part_of(path) for path in MODULES} == set(ORDER)


PRIVATE = ("keras.src", "tensorflow.python", "tf.python")


@each_module
def test_private_parts_of_keras_and_tensorflow_stay_in_one_module(path):
    found = [name for name in used(path) if f"{name}.".startswith(PRIVATE)]
    assert bool(found) == (name_of(path) == "_compat.py"), found


@each_module
def test_no_gradient_is_registered_for_the_life_of_the_process(path):
    names = ("tf.custom_gradient", "tensorflow.custom_gradient")
    assert not [name for name in used(path) if name in names]


def test_fast_tests_are_named_by_what_is_there(request):
    """The plugin of tests/conftest.py marks them; a name of nothing marks nothing."""
    (plugin,) = (p for p in request.config.pluginmanager.get_plugins() if _is_ours(p))
    tests = Path(plugin.__file__).parent
    for entry in plugin.FAST:
        pattern, _, name = entry.partition("::")
        files = [path for path in tests.glob(pattern) if path.suffix == ".py"]
        assert files, entry
        assert f"def {name.partition('[')[0]}" in files[0].read_text(), entry


def _is_ours(plugin):
    return hasattr(plugin, "FAST") and hasattr(plugin, "pytest_collection_modifyitems")
