"""What the tasks share: checks of sizes, and endless, seeded streams of batches."""

import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_positive_integer


def check_sizes(name, sizes, minimum=1):
    """Returns `sizes` as an array `[batch]` of integers of at least `minimum`."""
    sizes = np.asarray(sizes)
    if (
        sizes.ndim != 1
        or sizes.size == 0
        or not np.issubdtype(sizes.dtype, np.integer)
        or sizes.min() < minimum
    ):
        raise ValueError(
            f"`{name}` must be a non-empty one-dimensional list or array of "
            f"integers >= {minimum}, one for each sequence. For a single sequence "
            f"of {name} 5 pass `[5]`. Received: {name}={sizes!r}"
        )
    return sizes


def check_time_steps(time_steps, needed_steps, formula):
    """Returns `time_steps`, or `needed_steps`, which `formula` writes out."""
    if time_steps is None:
        return int(needed_steps)
    time_steps = check_positive_integer("time_steps", time_steps)
    if time_steps < needed_steps:
        raise ValueError(
            f"`time_steps` must be at least {formula} = {needed_steps} to hold the "
            "longest sequence. Pass more time_steps or shorter sequences. Received: "
            f"time_steps={time_steps}"
        )
    return time_steps


def zeros(batch, time_steps, inputs, targets):
    """Zeros for the inputs and targets, of so many channels, and sample weights."""
    return (
        np.zeros((batch, time_steps, inputs), np.float32),
        np.zeros((batch, time_steps, targets), np.float32),
        np.zeros((batch, time_steps), np.float32),
    )


def distinct_vectors(rng, count, bits):
    """Random bit vectors `[count, bits]`, uint8, of which no two are equal."""
    if bits < 63 and count > 2**bits:
        raise ValueError(
            f"There are only 2^{bits} = {2**bits} different items of {bits} bits. Ask "
            f"for fewer items or for wider ones. Received: {count} items"
        )
    vectors = rng.integers(0, 2, (count, bits), dtype=np.uint8)
    while True:
        _, first = np.unique(np.packbits(vectors, axis=1), axis=0, return_index=True)
        again = np.ones(count, bool)
        again[first] = False
        if not again.any():
            return vectors
        # Only repetitions are drawn again: no value is preferred to another.
        vectors[again] = rng.integers(0, 2, (again.sum(), bits), dtype=np.uint8)


def endless(batches, examples, time_axis_is_fixed=True):
    """A `tf.data.Dataset` of what the generator function `batches` yields.

    `examples` are arrays of the shapes of one batch. Unless the time axis, the
    second one, `time_axis_is_fixed`, batches may differ in it.
    """

    def spec(array):
        shape = list(array.shape)
        if not time_axis_is_fixed:
            shape[1] = None
        return tf.TensorSpec(shape, array.dtype)

    dataset = tf.data.Dataset.from_generator(
        batches, output_signature=tuple(spec(array) for array in examples)
    )
    dataset = dataset.apply(
        tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    )
    if time_axis_is_fixed:
        return dataset.prefetch(tf.data.AUTOTUNE)
    # Batches made ahead of time would be of the size of some steps ago.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)


def size_stream(sequences, batch_size, ranges, seed):
    """An endless stream of batches whose sequences have random sizes.

    Args:
        sequences: Function of a `np.random.Generator`, an array `[batch]` for each
            of `ranges` and optionally `time_steps`, which returns a batch.
        batch_size: Integer, sequences in each batch.
        ranges: Dictionary from the name of a size, such as `"length"`, to its
            least and greatest value. The greatest may be a function without
            arguments: then it is asked before each batch, and all sequences of
            a batch have the same size, so that a batch has no padding.
        seed: Non-negative integer or `None`.

    Returns:
        An infinite `tf.data.Dataset`. Its time axis is fixed if all `ranges` are.
    """
    batch_size = check_positive_integer("batch_size", batch_size)
    if seed is not None:
        seed = check_positive_integer("seed", seed, minimum=0)
    greatest = [_check_range(name, *limits)[1] for name, limits in ranges.items()]
    live = any(callable(maximum) for _, maximum in ranges.values())
    # A batch of the longest sequences, to learn the shapes (and to hear of wrong
    # arguments here and now).
    examples = sequences(
        np.random.default_rng(0), *([size] * batch_size for size in greatest)
    )
    padding = {} if live else {"time_steps": examples[0].shape[1]}

    def batches():
        rng = np.random.default_rng(seed)
        while True:
            sizes = []
            for name, limits in ranges.items():
                least, greatest = _check_range(name, *limits)
                drawn = rng.integers(
                    least, greatest + 1, size=1 if live else batch_size
                )
                sizes.append(np.broadcast_to(drawn, batch_size))
            yield sequences(rng, *sizes, **padding)

    return endless(batches, examples, time_axis_is_fixed=not live)


def _check_range(name, least, greatest):
    if callable(greatest):
        greatest = greatest()
    least = check_positive_integer(f"min_{name}", least)
    greatest = check_positive_integer(f"max_{name}", greatest)
    if least > greatest:
        raise ValueError(
            f"`min_{name}` must not exceed `max_{name}`. Raise max_{name} or lower "
            f"min_{name}. Received: min_{name}={least}, max_{name}={greatest}"
        )
    return least, greatest
