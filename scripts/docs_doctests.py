"""An extension of Griffe: what its Google style does not know of our docstrings.

`>>>` examples become blocks of code, and "Call arguments:" a list.
"""

import re

import griffe

CALL_ARGUMENTS = "Call arguments:"
# An argument, or several, in a section of a docstring.
ARGUMENT = re.compile(r"    ([a-z_]+(?:, [a-z_]+)*): ")


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


def listed(text):
    """The text with a list in the place of the section "Call arguments:"."""
    lines, inside = [], False
    for line in text.splitlines():
        if line == CALL_ARGUMENTS:
            inside = True
            lines += [f"**{CALL_ARGUMENTS}**", ""]
            continue
        inside = inside and (not line or line.startswith("    "))
        if inside:
            line = ARGUMENT.sub(r"- `\1`: ", line) if ARGUMENT.match(line) else line[4:]
        lines.append(line)
    return "\n".join(lines)


class Doctests(griffe.Extension):
    """Rewrites all docstrings."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = fenced(listed(obj.docstring.value))
