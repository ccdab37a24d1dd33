"""Packs the trained models for `keras_sam.models` and writes their checksums.

    python scripts/pack_models.py                    # the checksums in the package
    python scripts/pack_models.py --output dist      # and the archives NAME.zip
    python scripts/pack_models.py --keras            # first writes missing model.keras

A model that has a `model.keras` is packed, with its card and its results. The archives
depend on the files' contents alone. Run the script after each change of these files. A
release offers the archives under one address, which `KERAS_SAM_MODELS` names.

`--keras` rebuilds models of examples/train.py from results.json and the variables of
the SavedModel. It also drops the optimizer of a `model.keras` that has one. The
models of LEFT_OUT get none.
"""

import argparse
import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "saved_models"
INDEX = ROOT / "keras_sam" / "models.json"
FILES = ("README.md", "model.keras", "results.json")
LEFT_OUT = {
    # Its SavedModel shrinks drawings and encodes them. The encoder's layers are in
    # examples/, and the memory's model alone takes features that nobody has.
    "omniglot_sam",
    # Their SavedModels hold the words and the answers, and take text.
    "babi_end_to_end",
    "babi_sam",
    "babi_sdnc",
    "babi_words_sdnc",
    # Some layers before its memory are in examples/.
    "mqar_sam",
    "recall_curriculum_sam",
    "recall_curriculum_sdnc",
    # The baseline has no memory, and its weights would double the size of the others.
    "copy_lstm",
}


def names():
    """The models that have a `model.keras`, sorted."""
    return sorted(path.parent.name for path in MODELS.glob("*/model.keras"))


def archive(name):
    """The bytes of a model's archive."""
    contents = {file: (MODELS / name / file).read_bytes() for file in FILES}
    contents["LICENSE"] = (ROOT / "LICENSE").read_bytes()
    return packed(contents)


def packed(contents, compression=zipfile.ZIP_STORED):
    """A zip file of bytes by their names, always the same for the same contents.

    Args:
        contents: Dictionary from names to bytes.
        compression: As of `zipfile.ZipInfo`. Without, the bytes do not depend on zlib.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = compression
            entry.create_system = 3  # Unix, on every machine.
            entry.external_attr = 0o644 << 16
            file.writestr(entry, contents[name])
    return buffer.getvalue()


def index():
    """The text of the package's file of names and checksums."""
    sums = {name: hashlib.sha256(archive(name)).hexdigest() for name in names()}
    return json.dumps(sums, indent=1) + "\n"


def write_keras_files():
    """Writes `model.keras` of each SavedModel that has none; drops optimizers."""
    sys.path.insert(0, str(ROOT / "examples"))
    import keras
    from train import trained_model

    for folder in sorted(path.parent for path in MODELS.glob("*/results.json")):
        path = folder / "model.keras"
        if folder.name in LEFT_OUT:
            continue
        if not path.exists():
            trained_model(folder).save(path)
        elif json.loads(files_of(path)["config.json"]).get("compile_config"):
            keras.models.load_model(path, compile=False).save(path)
        else:
            continue
        # Keras names the day, and stores without compression.
        contents = files_of(path)
        metadata = json.loads(contents["metadata.json"])
        metadata.pop("date_saved", None)
        contents["metadata.json"] = json.dumps(metadata).encode()
        path.write_bytes(packed(contents, zipfile.ZIP_DEFLATED))
        print(path)


def files_of(path):
    """The contents of a zip file, by their names."""
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keras", action="store_true", help="write missing files")
    parser.add_argument("--output", type=Path, help="folder that gets the archives")
    options = parser.parse_args()
    if options.keras:
        write_keras_files()
    INDEX.write_text(index(), encoding="utf-8")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        for name in names():
            path = options.output / f"{name}.zip"
            path.write_bytes(archive(name))
            print(path)


if __name__ == "__main__":
    main()
