"""The archives of Omniglot, with characters drawn by chance."""

import zipfile

import numpy as np
import tensorflow as tf


def write_omniglot(folder, characters=24, drawings=4):
    """The archives of Omniglot, with a few characters of random lines."""
    rng = np.random.default_rng(0)
    for name in ("images_background", "images_evaluation"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for character in range(characters):
                places = rng.integers(20, 80, size=2)
                for drawer in range(1, drawings + 1):
                    paper = np.full((105, 105, 1), 255, "uint8")
                    row, column = places + rng.integers(-3, 4, size=2)
                    paper[row : row + 5, 10:95] = paper[10:95, column : column + 5] = 0
                    file = f"Alphabet/character{character:02}/0001_{drawer:02}.png"
                    archive.writestr(f"{name}/{file}", tf.io.encode_png(paper).numpy())
