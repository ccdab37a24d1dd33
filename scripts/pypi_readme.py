"""Makes README.md's links absolute, for pages that are not in the repository.

    python scripts/pypi_readme.py https://HOST/OWNER/REPOSITORY --ref v0.1.0

PyPI shows README.md without the files beside it. .github/workflows/release.yml runs
this script before `python -m build`. The changed README.md is not committed.
"""

import argparse
import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
FENCE = re.compile(r"(^[ \t]*```.*?^[ \t]*```[ \t]*$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)(\[[^\]]*\]\()([^)\s]+)(\))")
KINDS = {"!": "raw", "": "blob"}


def absolute(text, address, ref):
    """The text with absolute links: to pages of files, and to files of pictures.

    Args:
        text: String, Markdown.
        address: String, of the repository.
        ref: String, branch, tag or commit.
    """

    def moved(match):
        picture, start, target, end = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match.group()
        kind = KINDS[picture]
        return f"{picture}{start}{address.rstrip('/')}/{kind}/{ref}/{target}{end}"

    parts = FENCE.split(text)
    # Every second part is a block of code.
    parts[::2] = [LINK.sub(moved, part) for part in parts[::2]]
    return "".join(parts)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", help="of the repository, https://...")
    parser.add_argument("--ref", default="main", help="branch, tag or commit")
    options = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    README.write_text(absolute(text, options.address, options.ref), encoding="utf-8")


if __name__ == "__main__":
    main()
