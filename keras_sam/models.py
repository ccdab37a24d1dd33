"""Trained models by name.

`load` returns one of the models that `list` names, ready for `predict`, for
`model.get_layer("memory").trace`, for further training and for
`keras_sam.export_saved_model`. A model's card, README.md in its archive or folder, says
what the model was trained on and what it cannot do.
"""

import json
import os
import tempfile
import zipfile
from pathlib import Path

import keras

from keras_sam.arguments import check_path

__all__ = ["list", "load"]

# Names and SHA-256 checksums of the archives: scripts/pack_models.py writes the file.
_INDEX = Path(__file__).with_name("models.json")
_CHECKOUT = Path(__file__).resolve().parents[1] / "saved_models"
_VARIABLE = "KERAS_SAM_MODELS"


def list():
    """The names of the trained models.

    Returns:
        Tuple of strings, sorted.

    Example:

    >>> "copy_ntm" in keras_sam.models.list()
    True
    """
    return tuple(_checksums())


def load(name, source=None):
    """Loads a trained model.

    The model comes from the first of these places that is given or found:

    1. `source`;
    2. the environment variable `KERAS_SAM_MODELS`, which means the same;
    3. the folder `saved_models` beside the package, in a checkout of the repository.

    An archive is fetched once, into Keras's cache (`~/.keras/keras_sam`), and must have
    the checksum that this version of keras_sam knows.

    Args:
        name: String, one of `keras_sam.models.list()`.
        source: Optional string or path: a folder that holds `NAME/model.keras`, as
            `saved_models` does, or a folder or URL with the archives `NAME.zip` of
            `scripts/pack_models.py`. The files of a folder without archives are not
            checked: they are the caller's own.

    Returns:
        A Keras model without optimizer and loss; `model.compile` gives it both. Its
        memory is the layer `"memory"`.

    Raises:
        ValueError: If there is no such model, or the archive has another checksum.
        FileNotFoundError: If no place is given and there is no checkout, or the model
            is not in the place.

    Example:

    >>> model = keras_sam.models.load("copy_ntm")
    >>> inputs, targets, _ = keras_sam.tasks.copy_sequences(0, lengths=[5])
    >>> outputs = model.predict(inputs, verbose=0)
    >>> bool((outputs[0, 6:].round() == targets[0, 6:]).all())  # after the delimiter
    True
    """
    checksums = _checksums()
    if name not in checksums:
        raise ValueError(
            f"`name` must be one of {', '.join(checksums)}. Received: name={name!r}"
        )
    if source is not None:
        source = os.fspath(check_path("source", source))
    source = source or os.environ.get(_VARIABLE)
    if not source and not _CHECKOUT.is_dir():
        raise FileNotFoundError(
            f"keras_sam.models.load({name!r}) does not know where the models are. Set "
            f"the environment variable {_VARIABLE}, or the argument `source`, to a "
            "folder or URL with the archives of the release, or to the folder "
            "saved_models of a checkout of keras_sam's repository."
        )
    source = source or os.fspath(_CHECKOUT)
    if "://" in source:
        return _load_archive(name, f"{source.rstrip('/')}/{name}.zip", checksums[name])
    folder = Path(source).expanduser().resolve()
    for path in (folder / name / "model.keras", folder / f"{name}.zip"):
        if path.is_file():
            if path.suffix == ".zip":
                return _load_archive(name, path.as_uri(), checksums[name])
            return keras.models.load_model(path, compile=False)
    raise FileNotFoundError(
        f"The folder {folder} has neither {name}/model.keras nor {name}.zip. Received: "
        f"source={source!r}"
    )


def _checksums():
    return json.loads(_INDEX.read_text(encoding="utf-8"))


def _load_archive(name, origin, checksum):
    archive = keras.utils.get_file(
        # Each release's archive has a name of its own in the cache.
        f"{name}-{checksum[:12]}.zip",
        origin,
        file_hash=checksum,
        hash_algorithm="sha256",
        cache_subdir="keras_sam",
    )
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as files:
        path = files.extract("model.keras", folder)
        return keras.models.load_model(path, compile=False)
