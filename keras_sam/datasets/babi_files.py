"""The files of the bAbI tasks: where they lie, and the stories in them."""

import os
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

TASKS = range(1, 21)
SPLITS = {"train": "train", "validation": "valid", "test": "test"}


class Line(NamedTuple):
    """A sentence of a story."""

    text: str  # as it is in the file, without its number
    answer: str = ""  # of a question; a list is joined by commas


def file_name(folder: str, task: int, split: str) -> str:
    """The name of a file: `"en-valid-10k/qa1_train.txt"`.

    Args:
        folder: String, the official folder.
        task: Integer of 1 to 20.
        split: String, a key of `SPLITS`.
    """
    return f"{folder}/qa{task}_{SPLITS[split]}.txt"


def find_texts(folder: str | os.PathLike[str], names: Iterable[str]) -> dict[str, str]:
    """The texts of files that lie anywhere in a folder, or in its archives.

    Args:
        folder: Path. Its files, those of its subfolders and those in `.tar.gz` and
            `.tgz` archives are looked through.
        names: Names of files as `file_name` makes them.

    Returns:
        Dictionary from each name that was found to the text.
    """
    names, found = set(names), {}
    for path in sorted(Path(folder).rglob("*")):
        if path.name.endswith((".tar.gz", ".tgz")):
            with tarfile.open(path) as archive:
                for member in archive.getmembers():
                    name = _last_two(member.name)
                    if name in names and member.isfile():
                        # None is for what is no file.
                        file = archive.extractfile(member)
                        content = file.read()  # pyright: ignore[reportOptionalMemberAccess]
                        found.setdefault(name, content.decode())
        elif _last_two(path.as_posix()) in names:
            found.setdefault(_last_two(path.as_posix()), path.read_text("utf-8"))
    return found


def _last_two(path):
    return "/".join(path.split("/")[-2:])


def parse(text: str) -> list[list[Line]]:
    r"""The stories of a file.

    Args:
        text: String of lines such as `1 Mary moved to the bathroom.` and
            `2 Where is Mary? <tab>bathroom<tab>1`. A story begins at number 1.

    Returns:
        List of stories, each a list of `Line`.

    Raises:
        ValueError: If a line is no such line.

    Example:

    >>> from keras_sam.datasets.babi_files import parse
    >>> parse("1 Mary went to the park.\n2 Where is Mary? \tpark\t1\n")
    [[Line(text='Mary went to the park.', answer=''),
    Line(text='Where is Mary?', answer='park')]]
    """
    stories = []
    for row in text.splitlines():
        number, _, rest = row.strip().partition(" ")
        if not number.isdecimal() or not (stories or number == "1"):
            raise ValueError(
                "A line of a bAbI file is a number and a sentence, and the first of a "
                f"story has the number 1. Received: {row!r}"
            )
        if number == "1":
            stories.append([])
        sentence, *answer = rest.split("\t")
        stories[-1].append(Line(sentence.strip(), *(a.strip() for a in answer[:1])))
    return stories


def words(text: str) -> list[str]:
    """The words of a sentence in lower case, with `?` as a word and no full stop.

    Example:

    >>> from keras_sam.datasets.babi_files import words
    >>> words("Where is Mary?")
    ['where', 'is', 'mary', '?']
    """
    return re.findall(r"\w+|\?", text.lower())
