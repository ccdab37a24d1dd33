"""One-shot classification: characters come with the label of the one before.

An episode has some characters of Omniglot, each several times in new drawings and in
random order, with labels drawn for this episode alone. At each step the network sees a
drawing and the label of the step before, and names the drawing's label: at the first
instance of a character it can only guess, later it can remember.

Reference: Santoro et al. 2016 (https://arxiv.org/abs/1605.06065); Rae et al. 2016
(https://arxiv.org/abs/1610.09027), section 4.5.
"""

from functools import partial
from typing import Literal

import numpy as np
import tensorflow as tf

from keras_sam.arguments import (
    check_boolean,
    check_option,
    check_positive_integer,
    is_number,
)
from keras_sam.options import Integers, Rng, Sequences, Size
from keras_sam.tasks.stream import check_sizes, check_time_steps, size_stream

LETTERS, PLACES = 5, 5


def omniglot_sequences(
    rng: Rng,
    classes: Integers,
    images: np.ndarray,
    instances: int = 10,
    labels: Literal["one_hot", "letters"] = "one_hot",
    label_classes: int | None = None,
    quarter_turns: bool = True,
    warp: float = 1.0,
    time_steps: int | None = None,
) -> Sequences:
    """Makes one episode for each given number of classes.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed.
        classes: Integers of shape `[batch]`, the characters of each episode.
        images: Array `[characters, drawings, size, size]`, ink 1 and paper 0, such as
            `keras_sam.datasets.omniglot_images` loads.
        instances: Integer, how often each character comes, each time in another
            drawing while there are any. Defaults to `10`.
        labels: `"one_hot"`, or `"letters"`: strings of five letters of a to e, each
            letter one-hot, which Santoro et al. take for many classes. Defaults to
            `"one_hot"`.
        label_classes: Integer, the width L of one-hot labels. Defaults to the most
            classes of an episode.
        quarter_turns: Boolean, whether a character that is turned by 90, 180 or 270
            degrees counts as a class of its own: four times as many. Defaults to
            `True`.
        warp: Number, the strength of what is done to each drawing: with 1 it is turned
            by up to 11 degrees (pi / 16), stretched by up to 10 % and shifted by up
            to 10 % of its size. With 0 drawings stay as they are. Defaults to `1.0`.
        time_steps: Integer, the number of steps of the returned arrays, at least
            `instances * max(classes)`, which is the default. The rest is padding.

    Returns:
        A tuple `(inputs, targets, sample_weight)` of float32 arrays:

        - `inputs` `[batch, time_steps, size^2 + L]`: the pixels of a drawing, and the
          label of the step before (0 at the first). With letters L is 25.
        - `targets` `[batch, time_steps, 1, L]`, or `[batch, time_steps, 5, 5]` with
          letters: the label, one-hot.
        - `sample_weight` `[batch, time_steps]`, 1 where there is a drawing.

    Raises:
        ValueError: If `images` is not such an array, `classes` or `instances` are not
            positive integers, there are more classes than characters (with their turns)
            or labels, an option is unknown, `warp` is no number of at least 0, or
            `time_steps` is too small.

    Example:

    >>> images = np.random.default_rng(0).random((7, 20, 8, 8))  # characters, drawings
    >>> x, y, w = keras_sam.tasks.omniglot_sequences(0, classes=[3], images=images)
    >>> x.shape, y.shape
    ((1, 30, 67), (1, 30, 1, 3))
    >>> y[0, :, 0].sum(axis=0)  # each label ten times
    array([10., 10., 10.], dtype=float32)
    """
    rng = np.random.default_rng(rng)
    images = check_images(images)
    classes = check_sizes("classes", classes)
    instances = check_positive_integer("instances", instances)
    if not is_number(warp) or warp < 0:
        raise ValueError(f"`warp` must be a number of at least 0. Received: {warp!r}")
    turns = 4 if check_boolean("quarter_turns", quarter_turns) else 1
    if classes.max() > turns * len(images):
        raise ValueError(
            f"An episode can have {turns * len(images)} classes: {len(images)} "
            f"characters in {turns} positions. Received: classes={classes.tolist()}"
        )
    draw = _label_maker(labels, label_classes, classes.max())
    steps = check_time_steps(
        time_steps, instances * classes.max(), "instances * max(classes)"
    )
    shown = np.zeros((len(classes), steps, *images.shape[2:]), "float32")
    targets = np.zeros((len(classes), steps, *draw(rng, 1).shape[1:]), "float32")
    weights = np.zeros((len(classes), steps), "float32")
    for i, count in enumerate(classes):
        length = count * instances
        chosen = rng.choice(turns * len(images), count, replace=False)
        order = rng.permutation(np.repeat(np.arange(count), instances))
        drawings = np.empty(length, int)
        for one in range(count):
            at = np.flatnonzero(order == one)
            drawings[at] = np.resize(rng.permutation(images.shape[1]), instances)
        characters, quarters = np.divmod(chosen[order], turns)
        shown[i, :length] = turned(images[characters, drawings], quarters)
        targets[i, :length] = draw(rng, count)[order]
        weights[i, :length] = 1.0
    if warp:
        real = weights > 0
        shown[real] = warped(rng, shown[real], warp)
    before = targets.reshape(*weights.shape, -1)
    before = np.concatenate([np.zeros_like(before[:, :1]), before[:, :-1]], axis=1)
    before *= weights[..., np.newaxis]
    pixels = shown.reshape(*weights.shape, -1)
    return np.concatenate([pixels, before], axis=-1), targets, weights


def check_images(images):
    """Returns images as an array `[characters, drawings, size, size]`."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[2] != images.shape[3] or 0 in images.shape:
        raise ValueError(
            "`images` must be an array [characters, drawings, size, size]. "
            f"Received: an array of shape {images.shape}"
        )
    return images


def _label_maker(labels, label_classes, most):
    """A function of a generator and a number, which makes so many different labels."""
    if check_option("labels", labels, ("one_hot", "letters")) == "letters":
        width, available = None, LETTERS**PLACES
    else:
        width = most if label_classes is None else label_classes
        width = available = check_positive_integer("label_classes", width)
    if most > available:
        raise ValueError(
            f"There are {available} labels for the classes of an episode. "
            f"Received: {most} classes, label_classes={label_classes!r}"
        )

    def draw(rng, count):
        numbers = rng.choice(available, count, replace=False)
        if width is not None:
            return np.eye(width, dtype="float32")[numbers][:, np.newaxis]
        digits = numbers[:, np.newaxis] // LETTERS ** np.arange(PLACES) % LETTERS
        return np.eye(LETTERS, dtype="float32")[digits]

    return draw


def turned(images, quarters):
    """Images `[count, size, size]`, each turned by so many quarters."""
    turned = np.empty(images.shape, "float32")
    for quarter in np.unique(quarters):
        at = quarters == quarter
        turned[at] = np.rot90(images[at], quarter, axes=(1, 2))
    return turned


def warped(rng, images, strength):
    """Images, each turned, stretched and shifted a little.

    Args:
        rng: A `np.random.Generator`, which advances.
        images: Array `[count, size, size]`.
        strength: Number, see `omniglot_sequences`.

    Returns:
        Array of the same shape: pixels of the images in bilinear interpolation, 0 where
        there was nothing.
    """
    count, size, _ = images.shape
    angles = rng.uniform(-strength, strength, count) * np.pi / 16
    scales = 1.0 + rng.uniform(-strength, strength, (2, count)) / 10
    shifts = rng.uniform(-strength, strength, (2, count)) * size / 10
    middle = (size - 1) / 2
    y, x = np.meshgrid(*[np.arange(size) - middle] * 2, indexing="ij")
    sine, cosine = (f(angles)[:, None, None] for f in (np.sin, np.cos))
    # Where each pixel comes from.
    rows, columns = (
        scale[:, None, None] * place + shift[:, None, None] + middle
        for scale, place, shift in zip(
            scales, (cosine * y - sine * x, sine * y + cosine * x), shifts, strict=True
        )
    )
    # A margin of paper, which everything outside comes from.
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    rows, columns = (np.clip(each + 1, 0, size + 0.999) for each in (rows, columns))
    top, left = rows.astype(int), columns.astype(int)
    down, right = rows - top, columns - left
    number = np.arange(count)[:, None, None]
    return (
        padded[number, top, left] * (1 - down) * (1 - right)
        + padded[number, top + 1, left] * down * (1 - right)
        + padded[number, top, left + 1] * (1 - down) * right
        + padded[number, top + 1, left + 1] * down * right
    ).astype("float32")


def omniglot_task(
    batch_size: int,
    images: np.ndarray,
    min_classes: int = 5,
    max_classes: Size = 5,
    instances: int = 10,
    labels: Literal["one_hot", "letters"] = "one_hot",
    label_classes: int | None = None,
    quarter_turns: bool = True,
    warp: float = 1.0,
    seed: int | None = None,
) -> tf.data.Dataset:
    """An endless stream of one-shot episodes, ready for `model.fit`.

    With `max_classes=lambda: curriculum.level` and a
    `keras_sam.callbacks.ExponentialCurriculum` the number of classes doubles whenever
    the loss is under a threshold, as in Rae et al.; give one-hot labels a fixed
    `label_classes` then.

    Args:
        batch_size: Integer, episodes in each batch.
        images: Array `[characters, drawings, size, size]`, see
            `keras_sam.tasks.omniglot_sequences`. Keep those of the test apart.
        min_classes: Integer, the fewest characters of an episode. Defaults to `5`.
        max_classes: Integer, the most characters of an episode, or a function that
            returns it (see `keras_sam.tasks.copy_task`). Defaults to `5`.
        instances: Integer, how often each comes. Defaults to `10`.
        labels: `"one_hot"` or `"letters"`. Defaults to `"one_hot"`.
        label_classes: Integer, the width of one-hot labels. Defaults to `max_classes`.
        quarter_turns: Boolean, whether turned characters are classes. Defaults to
            `True`; Santoro et al. test without.
        warp: Number, how much drawings are changed. Defaults to `1.0`.
        seed: Non-negative integer; the same seed gives the same stream.
            Defaults to `None`: a new stream at each iteration.

    Returns:
        An infinite `tf.data.Dataset` of `(inputs, targets, sample_weight)`, see
        `keras_sam.tasks.omniglot_sequences`. Its time axis is fixed unless
        `max_classes` is a function.

    Raises:
        ValueError: As `keras_sam.tasks.omniglot_sequences`; if `seed` is negative or
            not an integer, `min_classes` exceeds `max_classes`, or one-hot labels have
            no `label_classes` though `max_classes` is a function.

    Reference: Santoro et al. 2016 (https://arxiv.org/abs/1605.06065).

    Example:

    >>> images = np.zeros((7, 20, 8, 8))
    >>> data = keras_sam.tasks.omniglot_task(batch_size=2, images=images, seed=0)
    >>> [tuple(spec.shape) for spec in data.element_spec]
    [(2, 50, 69), (2, 50, 1, 5), (2, 50)]
    """
    if label_classes is None and labels == "one_hot":
        if callable(max_classes):
            raise ValueError(
                "With a `max_classes` that changes, one-hot labels need a fixed width: "
                "pass `label_classes`. Received: label_classes=None"
            )
        label_classes = max_classes
    images = check_images(images)

    return size_stream(
        partial(
            omniglot_sequences,
            images=images,
            instances=instances,
            labels=labels,
            label_classes=label_classes,
            quarter_turns=quarter_turns,
            warp=warp,
        ),
        batch_size,
        {"classes": (min_classes, max_classes)},
        seed,
    )
