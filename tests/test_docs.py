"""Executes the examples of README.md and of the docstrings."""

import doctest
import importlib
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sam
import keras_sam.ops

README = Path(__file__).resolve().parents[1] / "README.md"
FENCE = re.compile(
    r"^[ \t]*```[ \t]*py(?:thon)?\b[^\n]*\n(.*?)^[ \t]*```[ \t]*$",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NAMESPACE = {"keras": keras, "np": np, "tf": tf, "keras_sam": keras_sam}


def python_blocks(text):
    """Return (number of lines above it, code) of every ```python block of `text`."""
    return [
        (text.count("\n", 0, match.start(1)), textwrap.dedent(match.group(1)))
        for match in FENCE.finditer(text)
    ]


def public_modules():
    """Yield keras_sam and every module below it without a leading underscore."""
    yield keras_sam
    for info in pkgutil.walk_packages(keras_sam.__path__, "keras_sam."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            yield importlib.import_module(info.name)


def public_names(module):
    """Return the names that `module` offers: `__all__`, or those without underscore."""
    names = [name for name in vars(module) if not name.startswith("_")]
    return getattr(module, "__all__", names)


def is_ours(value):
    """Is `value` a class or function of keras_sam (no module, constant, import)?"""
    home = getattr(value, "__module__", None) or ""
    return callable(value) and home.split(".")[0] == "keras_sam"


def docstring_examples():
    """Return one `doctest.DocTest` per docstring that has examples."""
    finder = doctest.DocTestFinder(recurse=True)
    module_finder = doctest.DocTestFinder(recurse=False)
    found, seen = [], set()
    for module in public_modules():
        found += module_finder.find(module, module.__name__, globs=NAMESPACE)
        for name in public_names(module):
            value = getattr(module, name)
            if is_ours(value) and id(value) not in seen:
                seen.add(id(value))
                full_name = f"{module.__name__}.{name}"
                found += finder.find(value, full_name, globs=NAMESPACE)
    return [test for test in found if test.examples]


def test_readme_blocks_run(tmp_path, monkeypatch):
    blocks = python_blocks(README.read_text(encoding="utf-8"))
    assert blocks, "README.md has no ```python block."
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for lines_above, code in blocks:
        # The empty lines make a traceback point at the line of README.md.
        exec(compile("\n" * lines_above + code, str(README), "exec"), namespace)


@pytest.mark.parametrize("example", docstring_examples(), ids=lambda test: test.name)
def test_docstring_examples_run(example, tmp_path, monkeypatch):
    assert not any(doctest.SKIP in part.options for part in example.examples)
    if example.name.endswith("ScaNN"):
        pytest.importorskip("scann")
    monkeypatch.chdir(tmp_path)
    report = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=report.append)
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize("module", [keras_sam, keras_sam.ops], ids=lambda m: m.__name__)
def test_public_names_have_an_example(module):
    without = []
    for name in module.__all__:
        value = getattr(module, name)
        doc = value.__doc__ or ""  # inspect.getdoc() would return that of a base.
        if callable(value) and ">>> " not in doc:
            without.append(name)
        if inspect.ismodule(value) and not doc:
            without.append(name)
    assert not without, f"No docstring with a `>>>` example: {without}"
