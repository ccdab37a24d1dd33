"""Hooks of MkDocs: the site gets a copy of each file that a page links to.

A page links to a picture or a script outside of docs/ by its relative path, such as
`../../benchmarks/results/figure1.png`. The link works where the repository is browsed.
In the site the file is `repository/benchmarks/results/figure1.png`.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\()([^)#\s]+)(\))")


def outside(target, page):
    """The path, in the repository, of what a page links to outside of docs/."""
    if re.match(r"[a-z]+:", target):
        return None
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return None if path.startswith("docs/") else path


def on_files(files, config):
    for page in list(files.documentation_pages()):
        text = Path(page.abs_src_path).read_text(encoding="utf-8")
        for _, target, _ in LINK.findall(text):
            path = outside(target, page.src_uri)
            if path is None:
                continue
            if path.endswith(".md") or not (ROOT / path).is_file():
                raise PluginError(f"{page.src_uri} links to {path}, not a file to copy")
            uri = f"repository/{path}"
            if files.get_file_from_path(uri) is None:
                copy = File.generated(config, uri, abs_src_path=str(ROOT / path))
                files.append(copy)
    return files


def on_page_markdown(markdown, page, config, files):
    def moved(match):
        start, target, end = match.groups()
        path = outside(target, page.file.src_uri)
        if path is None:
            return match.group()
        folder = posixpath.dirname(page.file.src_uri) or "."
        return start + posixpath.relpath(f"repository/{path}", folder) + end

    return LINK.sub(moved, markdown)
