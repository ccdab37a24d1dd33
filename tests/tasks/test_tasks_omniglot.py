"""One-shot episodes, on characters that tell who they are."""

import zipfile

import numpy as np
import pytest
import tensorflow as tf

import keras_sam
import keras_sam.datasets
from keras_sam.tasks.omniglot import omniglot_sequences, omniglot_task, warped

CHARACTERS, DRAWINGS, SIZE = 6, 4, 5


def numbered_images():
    """Images whose upper left pixels are the character and the drawing, from 1."""
    images = np.zeros((CHARACTERS, DRAWINGS, SIZE, SIZE))
    images[..., 0, 0] = np.arange(1, CHARACTERS + 1)[:, np.newaxis]
    images[..., 0, 1] = np.arange(1, DRAWINGS + 1)
    return images


REST = {"quarter_turns": False, "warp": 0.0}
PLAIN = {"images": numbered_images(), **REST}


def test_an_episode_names_each_character_by_one_label():
    x, y, w = omniglot_sequences(0, [3, 2], instances=4, label_classes=5, **PLAIN)
    assert (x.shape, y.shape) == ((2, 12, SIZE**2 + 5), (2, 12, 1, 5))
    assert w.sum(axis=1).tolist() == [12, 8]
    for episode, classes, steps in ((0, 3, 12), (1, 2, 8)):
        characters, drawings = x[episode, :steps, :2].T
        labels = y[episode, :steps, 0].argmax(-1)
        pairs = set(zip(characters, labels, strict=True))
        assert len(pairs) == len(set(characters)) == len(set(labels)) == classes
        for character in set(characters):
            shown = drawings[characters == character]
            assert sorted(shown) == [1, 2, 3, 4]  # each drawing once
        before = x[episode, :steps, SIZE**2 :]
        assert not before[0].any()
        np.testing.assert_array_equal(before[1:], y[episode, : steps - 1, 0])
    assert not x[1, 8:].any() and not y[1, 8:].any()  # padding


def test_labels_and_order_are_new_in_each_episode():
    x, y, _ = omniglot_sequences(0, [2] * 20, label_classes=9, **PLAIN)
    assert len({episode[:, :, :].tobytes() for episode in y}) == 20
    assert len(np.unique(x[:, 0, 0])) > 3


def test_letters():
    _, y, _ = omniglot_sequences(0, [6], labels="letters", **PLAIN)
    assert y.shape == (1, 60, 5, 5)
    np.testing.assert_array_equal(y.sum(axis=-1), 1)
    words = {"".join("abcde"[i] for i in step) for step in y[0].argmax(-1)}
    assert len(words) == 6


def test_quarter_turns_are_classes():
    sizes = {**PLAIN, "quarter_turns": True}
    x, _, _ = omniglot_sequences(0, [4 * CHARACTERS], instances=1, **sizes)
    images = x[0, :, : SIZE**2].reshape(-1, SIZE, SIZE)
    corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    # Each character in each of its positions: once in each corner.
    assert sorted(corners.max(axis=1)) == sorted(4 * [*range(1, CHARACTERS + 1)])
    assert len({tuple(row) for row in corners}) == 4 * CHARACTERS
    with pytest.raises(ValueError, match="can have 6 classes: 6 characters in 1"):
        omniglot_sequences(0, [7], **PLAIN)


def test_warping_moves_ink_a_little():
    rng = np.random.default_rng(0)
    images = np.zeros((50, 21, 21), "float32")
    images[:, 8:13, 8:13] = 1.0
    np.testing.assert_array_equal(warped(rng, images, 0.0), images)
    moved = warped(rng, images, 1.0)
    assert moved.min() >= 0.0 and moved.max() <= 1.0
    # Stretched by a tenth each way at most, and all of it still there.
    ink = moved.sum(axis=(1, 2))
    assert 25 * 0.75 < ink.min() < 24 and 26 < ink.max() < 25 * 1.3
    places = np.arange(21.0)
    rows = (moved.sum(axis=2) @ places) / ink
    assert 1.0 < np.abs(rows - 10).max() < 2.6
    assert not warped(rng, np.ones((1, 9, 9)), 40.0).all()  # outside is paper


def test_stream_with_a_curriculum():
    level = 2
    data = omniglot_task(
        *(3, PLAIN["images"], 2, lambda: level), label_classes=6, seed=4, **REST
    )
    batches = data.as_numpy_iterator()
    assert next(batches)[1].shape == (3, 20, 1, 6)
    level = 4
    assert next(batches)[0].shape[1] in (20, 30, 40)
    first, again = (
        next(omniglot_task(2, PLAIN["images"], seed=4).as_numpy_iterator())[0]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    with pytest.raises(ValueError, match="pass `label_classes`"):
        omniglot_task(3, PLAIN["images"], 2, lambda: level)


@pytest.mark.parametrize(
    "wrong, expected",
    [
        ({"images": np.zeros((3, 4, 5, 6))}, r"\[characters, drawings, size, size\]"),
        ({"instances": 0}, "`instances` must be"),
        ({"labels": "words"}, "`labels` must be one of"),
        ({"label_classes": 2}, "There are 2 labels"),
        ({"warp": -1.0}, "`warp` must be"),
        ({"time_steps": 29}, "instances \\* max\\(classes\\) = 30"),
    ],
)
def test_wrong_arguments(wrong, expected):
    with pytest.raises(ValueError, match=expected):
        omniglot_sequences(0, [3], **{**PLAIN, **wrong})


def test_images_of_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "images_evaluation.zip", "w") as archive:
        for character in (2, 1):
            for drawer in (1, 2, 3):
                ink = np.zeros((105, 105, 1), bool)
                ink[: 35 * drawer, : 35 * character] = True
                picture = tf.io.encode_png(np.where(ink, 0, 255).astype("uint8"))
                name = f"Futurama/character{character:02}/0001_{drawer:02}.png"
                archive.writestr(f"images_evaluation/{name}", picture.numpy())
    images = keras_sam.datasets.omniglot_images("test", tmp_path, size=3)
    assert images.shape == (2, 3, 3, 3)
    expected = np.zeros((2, 3, 3, 3))
    for character, drawer in np.ndindex(2, 3):
        expected[character, drawer, : drawer + 1, : character + 1] = 1.0
    np.testing.assert_allclose(images, expected, atol=1e-6)
    for wrong, message in (("valid", "`split` must be"), ("train", "has no images_b")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            keras_sam.datasets.omniglot_images(wrong, tmp_path)
    with pytest.raises(ValueError, match="`size` must be at most 105"):
        keras_sam.datasets.omniglot_images("test", tmp_path, size=106)
