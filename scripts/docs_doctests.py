"""An extension of Griffe: `>>>` examples of docstrings become blocks of code."""

import griffe


def fenced(text):
    """The text with a fence around each example, which ends at an empty line."""
    lines, open_at = [], None
    for line in [*text.splitlines(), ""]:
        indent = line[: len(line) - len(line.lstrip())]
        if open_at is None and line.lstrip().startswith(">>>"):
            open_at = indent
            lines.append(f"{indent}```pycon")
        elif open_at is not None and not line.strip():
            lines.append(f"{open_at}```")
            open_at = None
        lines.append(line)
    return "\n".join(lines[:-1])


class Doctests(griffe.Extension):
    """Fences the examples of all docstrings."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring and ">>>" in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)
