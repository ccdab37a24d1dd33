"""Trained models by name: the package's list, the archives, the cards."""

import functools
import importlib
import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from running import ROOT

import keras_sam

MODELS = ROOT / "saved_models"
# Those that compile soon; the second needs a layer of keras_sam around the memory.
QUICK = ("copy_ntm_dense", "copy_sam_dense_positions")
EXPORTED = [name for name in keras_sam.models.list() if (MODELS / name / "1").exists()]


@pytest.fixture
def pack_models(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("pack_models")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """Keras keeps what it fetches in this folder."""
    folder = tmp_path / "cache"
    fetch = functools.partial(keras.utils.get_file, cache_dir=folder)
    folder.mkdir()
    monkeypatch.setattr(keras.utils, "get_file", fetch)
    return folder


def bits(model, steps=6):
    shape = (2, steps, model.input_shape[-1])
    return np.random.default_rng(0).integers(0, 2, shape).astype("float32")


def test_the_list_is_of_the_packed_folders(pack_models):
    # `python scripts/pack_models.py` writes the file again.
    assert pack_models.INDEX.read_text() == pack_models.index()
    assert keras_sam.models.list() == tuple(pack_models.names())
    folders = {path.parent.name for path in MODELS.glob("*/results.json")}
    assert folders - set(keras_sam.models.list()) == pack_models.LEFT_OUT


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in EXPORTED
    ],
)
def test_models_answer_as_their_saved_models(name):
    model = keras_sam.models.load(name)
    assert not model.compiled
    inputs = bits(model)
    served = tf.saved_model.load(MODELS / name / "1")
    np.testing.assert_allclose(
        model.predict(inputs, verbose=0), served.serve(inputs), atol=1e-4
    )


@pytest.mark.slow
def test_long_recall_recalls():
    # It has no SavedModel. 16 pairs; half of the bits are wrong when one guesses.
    model = keras_sam.resize_memory(keras_sam.models.load("long_recall"), 64)
    rng = np.random.default_rng(0)
    keys, values = (2.0 * rng.integers(0, 2, (1, 16, n)) - 1.0 for n in (16, 8))
    inputs = np.zeros((1, 32, 25), "float32")
    inputs[:, :16, 1:] = np.concatenate([keys, values], axis=-1)
    inputs[:, 16:, 0] = 1.0
    inputs[:, 16:, 1:17] = keys[:, ::-1]
    outputs = model.predict(inputs, verbose=0)[:, 16:]
    assert np.mean((outputs > 0.5) != (values[:, ::-1] > 0)) < 0.05


def test_a_model_is_looked_into_trained_and_exported(tmp_path):
    model = keras_sam.models.load("copy_ntm_dense")
    inputs = bits(model)
    assert model.get_layer("memory").trace(inputs)["read_weights"].shape[:2] == (2, 6)
    model.compile("adam", "binary_crossentropy")
    before = model.predict(inputs, verbose=0)
    model.train_on_batch(inputs, np.zeros_like(before))
    after = model.predict(inputs, verbose=0)
    assert np.abs(after - before).max() > 1e-5
    folder = keras_sam.export_saved_model(model, tmp_path / "served")
    served = tf.saved_model.load(folder)
    serve = served.signatures["serving_default"]
    outputs = serve(inputs=tf.constant(inputs))["outputs"]
    np.testing.assert_allclose(outputs, after, atol=1e-5)


@pytest.mark.parametrize("place", ["url", "folder", "variable"])
def test_archives_are_fetched_once(place, pack_models, cache, tmp_path, monkeypatch):
    name = "copy_ntm_dense"
    source = tmp_path / "release"
    source.mkdir()
    (source / f"{name}.zip").write_bytes(pack_models.archive(name))
    given = {
        "url": {"source": source.as_uri() + "/"},
        "folder": {"source": source},
        "variable": {},
    }[place]
    if place == "variable":
        monkeypatch.setenv("KERAS_SAM_MODELS", source.as_uri())
    model = keras_sam.models.load(name, **given)
    expected = keras_sam.models.load(name, MODELS).get_weights()
    for ours, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (kept,) = (cache / "keras_sam").iterdir()
    with zipfile.ZipFile(kept) as archive:
        files = ["LICENSE", "README.md", "model.keras", "results.json"]
        assert archive.namelist() == files
    if place == "url":
        (source / f"{name}.zip").unlink()
        keras_sam.models.load(name, **given)


def test_an_archive_with_another_checksum_is_refused(pack_models, cache, tmp_path):
    content = bytearray(pack_models.archive("copy_ntm_dense"))
    content[len(content) // 2] ^= 1
    (tmp_path / "copy_ntm_dense.zip").write_bytes(content)
    for source in (tmp_path, tmp_path.as_uri()):
        with pytest.raises(ValueError, match="sha256 file hash does not match"):
            keras_sam.models.load("copy_ntm_dense", source)


def test_archives_depend_on_the_contents_alone(pack_models):
    contents = {"b": b"2" * 100, "a": b"1"}
    packed = pack_models.packed(contents)
    assert packed == pack_models.packed(dict(sorted(contents.items())))
    assert packed != pack_models.packed(contents | {"a": b"0"})
    # These bytes on every machine: no time, no compression.
    assert len(packed) == 101 + 2 * (30 + 1) + 2 * (46 + 1) + 22


def test_unknown_names_are_told_the_known_ones():
    with pytest.raises(ValueError, match="copy_ntm, .*'copy_nmt'"):
        keras_sam.models.load("copy_nmt")


def test_who_gives_no_place_is_told_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_SAM_MODELS", raising=False)
    monkeypatch.setattr(keras_sam.models, "_CHECKOUT", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="variable KERAS_SAM_MODELS.*`source`"):
        keras_sam.models.load("copy_ntm")
    with pytest.raises(FileNotFoundError, match="neither copy_ntm/model.keras nor"):
        keras_sam.models.load("copy_ntm", tmp_path)
    with pytest.raises(ValueError, match="`source` must be a string or a path"):
        keras_sam.models.load("copy_ntm", 3)


def test_cards_are_what_their_script_writes(import_example):
    cards = import_example("cards")
    for path in sorted(MODELS.glob("*/results.json")):
        folder = path.parent
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert text == cards.card(folder, cards.usage_of(folder)), folder.name
        results = json.loads(path.read_text())
        assert results["command"] in text and results["commit"] in text


def test_files_from_before_have_another_name_of_the_positions():
    layer = keras_sam.RandomPositions(planes=3, name="positions")
    config = keras.saving.serialize_keras_object(layer)
    assert config["registered_name"] == "keras_sam>RandomPositions"
    old = config | {
        "module": "positions",
        "class_name": "Positions",
        "registered_name": "keras_sam_examples>Positions",
    }
    again = keras.saving.deserialize_keras_object(old)
    assert type(again) is keras_sam.RandomPositions and again.planes == 3
