"""The characters of Omniglot as one array."""

import os
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_sam.arguments import check_option, check_positive_integer

_ZIPS = {"train": "images_background.zip", "test": "images_evaluation.zip"}
_SOURCE = "https://github.com/brendenlake/omniglot/tree/master/python"


def omniglot_images(
    split: Literal["train", "test"],
    data: str | os.PathLike[str] | None = None,
    size: int = 20,
) -> np.ndarray:
    """The drawings of a split of Omniglot, ink 1 on paper 0.

    Args:
        split: `"train"`, the 964 characters of the background alphabets, or `"test"`,
            the 659 of the evaluation alphabets.
        data: String or path, a folder with the official `images_background.zip` or
            `images_evaluation.zip` anywhere in it. Defaults to `None`: the images come
            from the tfds builder `omniglot`, which downloads them.
        size: Integer of at most 105, the height and width in pixels. The drawings have
            105; a smaller image has the mean ink of each area. Defaults to `20`.

    Returns:
        float32 array `[characters, drawings, size, size]`, characters by the names of
        alphabet and character, drawings by drawer.

    Raises:
        ValueError: If `split` is none of these, or `size` not an integer from 1 to 105.
        FileNotFoundError: If the folder does not have the archive, or there is no
            folder and the download fails.

    Reference: Lake et al. 2015 (https://doi.org/10.1126/science.aab3050). The data is
    under the MIT licence.

    Example:

    >>> import keras_sam.datasets
    >>> keras_sam.datasets.omniglot_images("train", data="nowhere")
    Traceback (most recent call last):
    ...
    FileNotFoundError: 'nowhere' has no images_background.zip. Download it from ...
    """
    check_option("split", split, tuple(_ZIPS))
    if check_positive_integer("size", size) > 105:
        raise ValueError(f"`size` must be at most 105. Received: size={size}")
    named = _downloaded(split) if data is None else _unzipped(split, Path(data))
    characters = {}
    for character, drawer, image in named:
        characters.setdefault(character, {})[drawer] = _shrunk(image, size)
    return np.stack(
        [
            np.stack([drawings[drawer] for drawer in sorted(drawings)])
            for _, drawings in sorted(characters.items())
        ]
    )


def _unzipped(split, folder):
    """Yields (character, drawer, ink) of the pictures in an archive."""
    name = _ZIPS[split]
    path = next(iter(sorted(folder.rglob(name))), None)
    if path is None:
        raise FileNotFoundError(
            f"{str(folder)!r} has no {name}. Download it from {_SOURCE}."
        )
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(".png"):
                *_, alphabet, character, file = member.split("/")
                picture = tf.io.decode_png(archive.read(member), channels=1)
                drawer = file.removesuffix(".png").split("_")[-1]
                yield (alphabet, character), drawer, picture.numpy()[..., 0] < 128


def _downloaded(split):
    """The same from the builder of tfds, which does not tell who has drawn."""
    try:
        examples = tfds.load("omniglot", split=split)
    except Exception as error:  # whatever a network can do
        raise FileNotFoundError(
            f"Omniglot could not be downloaded ({type(error).__name__}). Download "
            f"{_ZIPS[split]} from {_SOURCE} and pass its folder as `data`."
        ) from error
    for number, example in enumerate(tfds.as_numpy(examples)):
        character = (int(example["alphabet"]), int(example["alphabet_char_id"]))
        yield character, number, example["image"][..., 0] < 128


def _shrunk(ink, size):
    image = ink.astype("float32")[..., np.newaxis]
    return tf.image.resize(image, (size, size), method="area").numpy()[..., 0]
