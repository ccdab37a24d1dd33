"""Executes the examples of README.md, docs/ and docstrings; checks limits and links."""

import doctest
import importlib
import inspect
import pkgutil
import re
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from running import ROOT

import keras_sam
import keras_sam.ops

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = [*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md"))]
# The front page stays short: lines, words, characters in a line.
README_LIMITS = (200, 1_500, 120)
FENCE = re.compile(
    r"^[ \t]*```[ \t]*py(?:thon)?\b[^\n]*\n(.*?)^[ \t]*```[ \t]*$",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
ANY_FENCE = re.compile(r"^[ \t]*```.*?^[ \t]*```[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*([^)\s]+)[^)]*\)")
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


def name_of(page):
    return str(page.relative_to(ROOT))


def anchors(text):
    """The names of the headings of a page, and of what the API reference describes."""
    headings = re.findall(r"^#+ +(.*)$", ANY_FENCE.sub("", text), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    names = {re.sub(r"\s+", "-", heading.strip()) for heading in plain}
    return names | set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))


def links(text):
    """What a Markdown page links to, pictures included."""
    return LINK.findall(ANY_FENCE.sub("", text))


PAGES_WITH_CODE = [page for page in PAGES if python_blocks(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=name_of)
@pytest.mark.slow_rows("docs/guides/see-inside.md", "docs/guides/text.md")
def test_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for lines_above, code in python_blocks(page.read_text(encoding="utf-8")):
        # The empty lines make a traceback point at the line of the page.
        exec(compile("\n" * lines_above + code, str(page), "exec"), namespace)


def test_readme_and_guides_have_code():
    guides = (ROOT / "docs" / "guides").glob("*.md")
    assert {README, *guides} <= set(PAGES_WITH_CODE)


def test_readme_is_short():
    text = README.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = (len(lines), len(text.split()), max(map(len, lines)))
    assert all(map(int.__le__, found, README_LIMITS)), found


def test_readme_begins_with_the_two_commands():
    blocks = re.findall(r"^```bash\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)
    assert blocks[:2] == [
        'pip install -e ".[viz]" && python examples/quickstart.py\n',
        'pip install -e ".[dev]" && python -m pytest\n',
    ]


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_relative_links_lead_somewhere(page):
    broken = []
    for link in links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (
            anchor and anchor not in anchors(target.read_text(encoding="utf-8"))
        ):
            broken.append(link)
    assert not broken


def test_a_broken_link_is_seen():
    text = "[a](b.md#c) ![d](e.png)\n```\n[f](g)\n```\n## Two, words\n::: a.b\n"
    assert links(text) == ["b.md#c", "e.png"]
    assert anchors(text) == {"two-words", "a.b"}


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
