"""An encoder of drawings, trained to tell the background characters apart.

Four convolutions turn an image into 64 features, which a memory can compare: two
drawings of a character are alike. The characters of the test are none of those that the
encoder has seen.
"""

import itertools

import keras
import numpy as np
from training import held_rate

import keras_sam
from keras_sam.tasks.omniglot import turned, warped

BATCH = 64
PART = 512  # images that are encoded together


def make_encoder(size, features):
    """A model from images `[batch, size, size]`, ink 1, to `[batch, features]`."""
    layers = []
    for _ in range(4):
        layers += [
            keras.layers.Conv2D(features, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(2, padding="same"),
        ]
    return keras.Sequential(
        [
            keras.Input((size, size)),
            keras.layers.Reshape((size, size, 1)),
            *layers,
            keras.layers.GlobalAveragePooling2D(),
            # So that the similarity of features is that of their directions.
            keras.layers.LayerNormalization(center=False, scale=False),
        ],
        name="encoder",
    )


def train_encoder(images, settings, seed, folder):
    """An encoder of images; an interrupted training goes on.

    Args:
        images: Array `[characters, drawings, size, size]`.
        settings: Dictionary: `features`, `epochs`, `learning_rate`.
        seed: Integer.
        folder: Path of the folder of the run, which gets the backup.
    """
    encoder = make_encoder(images.shape[-1], settings["features"])
    classifier = keras.Sequential([encoder, keras.layers.Dense(4 * len(images))])
    steps = images.shape[0] * images.shape[1] // BATCH
    classifier.compile(
        keras.optimizers.Adam(held_rate(settings, settings["epochs"] * steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    run = keras_sam.callbacks.RunBackup(
        folder / "backup" / "encoder", settings={"seed": seed, **settings}
    )
    try:
        done = run.restore(classifier)
    except ValueError as error:  # The backup is of another run.
        raise SystemExit(f"error: {error}") from None
    classifier.fit(
        labelled_images(images, seed, done, steps),
        steps_per_epoch=steps,
        initial_epoch=done,
        epochs=settings["epochs"],
        callbacks=[run],
        verbose=2,
    )
    return encoder


def labelled_images(images, seed, epoch, steps):
    """Batches of warped drawings, and the numbers of their characters.

    A character that is turned by a quarter is another one.
    """
    count, drawings = images.shape[:2]
    for number in itertools.count(epoch):
        rng = np.random.default_rng([seed, number])
        for _ in range(steps):
            characters = rng.integers(count, size=BATCH)
            quarters = rng.integers(4, size=BATCH)
            shown = images[characters, rng.integers(drawings, size=BATCH)]
            yield warped(rng, turned(shown, quarters), 1.0), 4 * characters + quarters


def features_of(encoder, images, quarter_turns, warps, rng):
    """What an encoder makes of drawings, in the shape of images.

    Args:
        encoder: The model.
        images: Array `[characters, drawings, size, size]`.
        quarter_turns: Boolean, whether turned characters are characters as well.
        warps: Integer: how often each drawing is there once more, warped.
        rng: A `np.random.Generator`.

    Returns:
        Array `[characters, drawings, sqrt(features), sqrt(features)]`.
    """
    turns = [np.rot90(images, q, axes=(2, 3)) for q in range(4 if quarter_turns else 1)]
    characters = np.concatenate(turns)
    flat = characters.reshape(-1, *images.shape[2:])
    parts = np.array_split(flat, -(-len(flat) // PART))
    copies = [np.concatenate([encoder(part) for part in parts])]
    for _ in range(warps):
        warped_parts = (warped(rng, part, 1.0) for part in parts)
        copies.append(np.concatenate([encoder(part) for part in warped_parts]))
    side = int(copies[0].shape[-1] ** 0.5)
    shape = (*characters.shape[:2], side, side)
    return np.concatenate([copy.reshape(shape) for copy in copies], axis=1)
