"""README.md with links for pages outside of the repository."""

import importlib
import re

import pytest
from running import ROOT


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("pypi_readme")


def test_links_and_pictures_become_absolute(script):
    text = (
        "[a](b.md#c) ![d](e/f.png)\n[g](https://h.org/i) [j](#k)\n"
        "```\n[l](m)\n```\n[n](o)\n"
    )
    assert script.absolute(text, "https://host/us/it/", "v1") == (
        "[a](https://host/us/it/blob/v1/b.md#c) ![d](https://host/us/it/raw/v1/e/f.png)"
        "\n[g](https://h.org/i) [j](#k)\n"
        "```\n[l](m)\n```\n[n](https://host/us/it/blob/v1/o)\n"
    )


def test_readme_keeps_no_relative_link(script):
    text = (ROOT / "README.md").read_text("utf-8")
    text = script.FENCE.sub("", script.absolute(text, "https://host/a", "main"))
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(found) > 20
    assert not [link for link in found if not link.startswith("https://")]
