"""The copy task: read a sequence of random bit vectors, then write it out again.

With two-bit vectors (`bits=2`) and a length of 3 one sequence looks like this:

```
step            0  1  2  3  4  5  6
inputs[..., 0]  1  0  1  .  .  .  .    random bits
inputs[..., 1]  0  0  1  .  .  .  .
inputs[..., 2]  .  .  .  1  .  .  .    delimiter: "now write"
targets[..., 0] .  .  .  .  1  0  1    the same bits
targets[..., 1] .  .  .  .  0  0  1
sample_weight   0  0  0  0  1  1  1    only the recall is scored
```

Reference: Graves et al. 2014, "Neural Turing Machines", section 4.1
(https://arxiv.org/abs/1410.5401).
"""

from functools import partial

import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_positive_integer
from keras_sam.options import Integers, Rng, Sequences, Size
from keras_sam.tasks.stream import check_sizes, check_time_steps, size_stream


def copy_sequences(
    rng: Rng, lengths: Integers, bits: int = 8, time_steps: int | None = None
) -> Sequences:
    """Makes one copy-task sequence for each given length.

    A sequence of length L shows its L random bit vectors at steps 0 .. L-1,
    the delimiter alone at step L, and nothing at steps L+1 .. 2L, where the
    target is the L vectors again. All later steps are zero padding.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed.
        lengths: Integers of shape `[batch]`, each at least 1: how many vectors
            each sequence has.
        bits: Integer, the width of the vectors. Defaults to `8`, as in the
            paper.
        time_steps: Integer, the number of steps of the returned arrays, at
            least `2 * max(lengths) + 1`, which is the default. It changes the
            padding only, never the bits.

    Returns:
        A tuple `(inputs, targets, sample_weight)` of float32 arrays that hold
        only 0 and 1, of shapes `[batch, time_steps, bits + 1]` (the last
        channel is the delimiter), `[batch, time_steps, bits]` and
        `[batch, time_steps]` (1 where the target counts).

    Raises:
        ValueError: If `lengths` is not a non-empty list of positive integers,
            `bits` is not a positive integer, or `time_steps` is too small.

    Reference: Graves et al. 2014, section 4.1 (https://arxiv.org/abs/1410.5401).

    Example:

    >>> rng = np.random.default_rng(0)
    >>> x, y, w = keras_sam.tasks.copy_sequences(rng, lengths=[3, 1], bits=2)
    >>> x.shape, y.shape, w.shape
    ((2, 7, 3), (2, 7, 2), (2, 7))
    >>> w.astype(int)
    array([[0, 0, 0, 0, 1, 1, 1],
           [0, 0, 1, 0, 0, 0, 0]])
    >>> bool((x[0, :3, :2] == y[0, 4:]).all())
    True
    """
    rng = np.random.default_rng(rng)
    lengths = check_sizes("lengths", lengths)
    bits = check_positive_integer("bits", bits)
    needed_steps = 2 * lengths.max() + 1
    time_steps = check_time_steps(time_steps, needed_steps, "2 * max(lengths) + 1")

    batch = len(lengths)
    step = np.arange(time_steps)
    end = lengths[:, None]
    presented = step < end
    recalled = (step > end) & (step <= 2 * end)
    inputs = np.zeros((batch, time_steps, bits + 1), np.float32)
    targets = np.zeros((batch, time_steps, bits), np.float32)

    # Both masks list their steps sequence by sequence and in order of time, so
    # the k-th presented step and the k-th recalled step belong together.
    vectors = rng.integers(0, 2, size=(int(lengths.sum()), bits), dtype=np.uint8)
    inputs[presented, :bits] = vectors
    inputs[np.arange(batch), lengths, bits] = 1
    targets[recalled] = vectors
    return inputs, targets, recalled.astype(np.float32)


def copy_task(
    batch_size: int,
    min_length: int = 1,
    max_length: Size = 20,
    bits: int = 8,
    seed: int | None = None,
) -> tf.data.Dataset:
    """An endless stream of copy-task batches, ready for `model.fit`.

    Each sequence has its own length, uniform in [min_length, max_length]. All
    batches have the same static shape, so a compiled model compiles once.
    Iterating again starts the same stream again. The defaults are the paper's
    training task; it tests with lengths (`min_length=L, max_length=L`) of 10, 20, 30,
    50 and 120.

    The stream never ends: `model.fit` needs `steps_per_epoch`, `model.evaluate`
    needs `steps`. Give training and evaluation different seeds.

    Args:
        batch_size: Integer, sequences in each batch.
        min_length: Integer, the fewest vectors in a sequence. Defaults to `1`.
        max_length: Integer, the most vectors in a sequence. Defaults to `20`. Or a
            function without arguments that returns it, for a curriculum: it is
            asked before each batch, all sequences of a batch have one length,
            and `time_steps` differs from batch to batch.
        bits: Integer, the width of the vectors. Defaults to `8`.
        seed: Non-negative integer; the same seed gives the same stream.
            Defaults to `None`: a new stream at each iteration.

    Returns:
        An infinite `tf.data.Dataset` of `(inputs, targets, sample_weight)`,
        float32 and of shapes `[batch_size, time_steps, bits + 1]`,
        `[batch_size, time_steps, bits]` and `[batch_size, time_steps]`, where
        `time_steps = 2 * max_length + 1`. See `keras_sam.tasks.copy_sequences`
        for their meaning.

    Raises:
        ValueError: If `seed` is negative or not an integer, another argument
            is not a positive integer, or `min_length` exceeds `max_length`.

    Reference: Graves et al. 2014, section 4.1 (https://arxiv.org/abs/1410.5401).

    Example:

    >>> data = keras_sam.tasks.copy_task(batch_size=4, max_length=3, seed=0)
    >>> model = keras.Sequential(
    ...     [
    ...         keras.layers.LSTM(16, return_sequences=True),
    ...         keras.layers.Dense(8, activation="sigmoid"),
    ...     ]
    ... )
    >>> model.compile(
    ...     "rmsprop",
    ...     "binary_crossentropy",
    ...     weighted_metrics=[keras_sam.metrics.BitErrors()],
    ... )
    >>> history = model.fit(data, steps_per_epoch=2, epochs=1, verbose=0)
    >>> sorted(history.history)
    ['bit_errors', 'loss']
    """
    return size_stream(
        partial(copy_sequences, bits=bits),
        batch_size,
        {"length": (min_length, max_length)},
        seed,
    )
