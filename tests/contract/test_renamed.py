"""Configurations with the names that arguments had load, with a warning."""

import json
import zipfile

import keras
import numpy as np
import pytest

import keras_sam
from keras_sam.arguments import RENAMED

SIZES = {"units": 4, "memory_slots": 6, "word_size": 3, "read_heads": 1}
# Values that are not the defaults.
CASES = [
    ("NTM", "initial_weights", "initial_addressing", "first_slot"),
    ("DNC", "wipe_freed", "deallocate", True),
    ("DNC", "sharpen_links", "link_sharpening", True),
    ("SDNC", "sharpen_links", "link_sharpening", True),
]
each_case = pytest.mark.parametrize(("name", "old", "new", "value"), CASES)


def make(cls, **arguments):
    sizes = {**SIZES, "links_per_slot": 2} if cls.startswith("SDNC") else SIZES
    return getattr(keras_sam, cls)(**sizes, **arguments)


def with_old_names(config, old, new):
    """The same configuration, however deep, as it was saved before the renaming."""
    if isinstance(config, list):
        return [with_old_names(item, old, new) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        old if key == new else key: with_old_names(value, old, new)
        for key, value in config.items()
    }


def test_all_renamed_arguments_have_a_case():
    assert {(old, new) for _, old, new, _ in CASES} == set(RENAMED.items())


@each_case
@pytest.mark.parametrize("part", ["layer", "cell", "cell in RNN", "model"])
def test_a_configuration_with_the_old_name(part, name, old, new, value):
    memory = make(name, **{new: value})
    made = {
        "layer": memory,
        "cell": memory.cell,
        "cell in RNN": keras.layers.RNN(memory.cell),
        "model": keras.Sequential([keras.Input((None, 2)), memory]),
    }[part]
    config = made.get_config()
    saved = with_old_names(config, old, new)
    assert saved != config
    with pytest.warns(DeprecationWarning, match=f"`{old}`.*`{new}`"):
        again = type(made).from_config(saved)
    assert again.get_config() == config


@each_case
def test_a_file_with_the_old_name(tmp_path, name, old, new, value):
    model = keras.Sequential(
        [keras.Input((None, 2)), make(name, **{new: value}, name="memory")]
    )
    model.save(tmp_path / "model.keras")
    with (
        zipfile.ZipFile(tmp_path / "model.keras") as file,
        zipfile.ZipFile(tmp_path / "old.keras", "w") as written,
    ):
        for member in file.namelist():
            data = file.read(member)
            if member == "config.json":
                config = with_old_names(json.loads(data), old, new)
                data = json.dumps(config).encode()
            written.writestr(member, data)
    with pytest.warns(DeprecationWarning, match=f"'memory' has the key `{old}`"):
        again = keras.models.load_model(tmp_path / "old.keras")
    for before, after in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert again.layers[-1].get_config() == model.layers[-1].get_config()


@each_case
def test_constructors_name_the_new_argument(name, old, new, value):
    cell = f"{name}Cell"
    for cls in (name, cell):
        with pytest.raises(ValueError) as info:
            make(cls, **{old: value})
        message = str(info.value)
        assert f"passed to {cell}: `{old}` is called `{new}` now" in message
        assert f"Received: {old}={value!r}" in message


def test_an_argument_of_another_cell_has_no_new_name():
    for old in RENAMED:
        with pytest.raises(ValueError, match=f"passed to SAMCell: .*{old}"):
            keras_sam.SAM(**SIZES, **{old: True})


def test_somebody_elses_argument_keeps_its_name():
    class Cell(keras_sam.DNCCell):
        def __init__(self, *args, wipe_freed="mine", **kwargs):
            super().__init__(*args, **kwargs)
            self.wipe_freed = wipe_freed

        def get_config(self):
            return {**super().get_config(), "wipe_freed": self.wipe_freed}

    cell = Cell(**SIZES, wipe_freed="other", deallocate=True)
    again = Cell.from_config(cell.get_config())
    assert (again.wipe_freed, again.deallocate) == ("other", True)
