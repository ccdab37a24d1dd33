"""The repeat copy task: write a sequence of bit vectors out a given number of times.

With two-bit vectors (`bits=2`), a length of 2 and 2 repeats one sequence looks like
this:

```
step            0  1  2  3  4  5  6  7
inputs[..., 0]  1  0  .  .  .  .  .  .    random bits
inputs[..., 1]  1  1  .  .  .  .  .  .
inputs[..., 2]  .  .  1  .  .  .  .  .    delimiter: "now write"
inputs[..., 3]  .  .  c  .  .  .  .  .    how often: (repeats - mean) / deviation
targets[..., 0] .  .  .  1  0  1  0  .    the same bits, twice
targets[..., 1] .  .  .  1  1  1  1  .
targets[..., 2] .  .  .  .  .  .  .  1    end marker: "that was the last one"
sample_weight   0  0  0  1  1  1  1  1
```

Reference: Graves et al. 2014, "Neural Turing Machines", section 4.2
(https://arxiv.org/abs/1410.5401).
"""

from functools import partial

import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_positive_integer
from keras_sam.options import Integers, Rng, Sequences, Size
from keras_sam.tasks.stream import check_sizes, check_time_steps, size_stream, zeros

# Of the numbers of repeats of the paper's training task, uniform in 1 .. 10.
REPEATS_MEAN = np.mean(np.arange(1, 11))
REPEATS_DEVIATION = np.std(np.arange(1, 11))


def repeat_copy_sequences(
    rng: Rng,
    lengths: Integers,
    repeats: Integers,
    bits: int = 8,
    time_steps: int | None = None,
) -> Sequences:
    """Makes one repeat-copy sequence for each given length and number of repeats.

    A sequence of length L and R repeats shows its L random bit vectors at steps
    0 .. L-1 and R alone at step L. The target is the L vectors R times at steps
    L+1 .. L+R*L, and the end marker alone at the step after them. All later steps
    are zero padding.

    R is shown as `(R - 5.5) / 2.872`, which has mean 0 and variance 1 for the paper's
    training task (R uniform in 1 .. 10). The scale stays the same whatever R is: more
    repeats than in training are larger numbers than in training.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed.
        lengths: Integers of shape `[batch]`, each at least 1: how many vectors
            each sequence has.
        repeats: Integers of shape `[batch]`, each at least 1: how often each
            sequence has to be written.
        bits: Integer, the width of the vectors. Defaults to `8`.
        time_steps: Integer, the number of steps of the returned arrays, at least
            `max(lengths * (repeats + 1)) + 2`, which is the default.

    Returns:
        A tuple `(inputs, targets, sample_weight)` of float32 arrays of shapes
        `[batch, time_steps, bits + 2]` (the last two channels are the delimiter
        and the number of repeats), `[batch, time_steps, bits + 1]` (the last
        channel is the end marker) and `[batch, time_steps]` (1 where the target
        counts).

    Raises:
        ValueError: If `lengths` or `repeats` is not a non-empty list of positive
            integers, they differ in number, `bits` is not a positive integer, or
            `time_steps` is too small.

    Reference: Graves et al. 2014, section 4.2 (https://arxiv.org/abs/1410.5401).

    Example:

    >>> x, y, w = keras_sam.tasks.repeat_copy_sequences(
    ...     0, lengths=[2], repeats=[3], bits=2
    ... )
    >>> x.shape, y.shape
    ((1, 10, 4), (1, 10, 3))
    >>> w.astype(int)
    array([[0, 0, 0, 1, 1, 1, 1, 1, 1, 1]])
    >>> bool((y[0, 3:9, :2] == np.tile(x[0, :2, :2], (3, 1))).all())
    True
    """
    rng = np.random.default_rng(rng)
    lengths = check_sizes("lengths", lengths)
    repeats = check_sizes("repeats", repeats)
    if len(lengths) != len(repeats):
        raise ValueError(
            "`lengths` and `repeats` must have one number for each sequence. "
            f"Received: {len(lengths)} lengths and {len(repeats)} repeats"
        )
    bits = check_positive_integer("bits", bits)
    ends = lengths * (repeats + 1) + 1
    time_steps = check_time_steps(
        time_steps, ends.max() + 1, "max(lengths * (repeats + 1)) + 2"
    )

    inputs, targets, sample_weight = zeros(len(lengths), time_steps, bits + 2, bits + 1)
    for i, (length, count, end) in enumerate(zip(lengths, repeats, ends, strict=True)):
        vectors = rng.integers(0, 2, (length, bits), dtype=np.uint8)
        inputs[i, :length, :bits] = vectors
        inputs[i, length, bits] = 1
        inputs[i, length, bits + 1] = (count - REPEATS_MEAN) / REPEATS_DEVIATION
        targets[i, length + 1 : end, :bits] = np.tile(vectors, (count, 1))
        targets[i, end, bits] = 1
        sample_weight[i, length + 1 : end + 1] = 1
    return inputs, targets, sample_weight


def repeat_copy_task(
    batch_size: int,
    min_length: int = 1,
    max_length: Size = 10,
    min_repeats: int = 1,
    max_repeats: Size = 10,
    bits: int = 8,
    seed: int | None = None,
) -> tf.data.Dataset:
    """An endless stream of repeat-copy batches, ready for `model.fit`.

    Lengths and repeats are independent and uniform. The defaults are the paper's
    training task; it tests with longer sequences and with more repeats.

    Args:
        batch_size: Integer, sequences in each batch.
        min_length: Integer, the fewest vectors in a sequence. Defaults to `1`.
        max_length: Integer, the most vectors in a sequence, or a function that
            returns it (see `keras_sam.tasks.copy_task`). Defaults to `10`.
        min_repeats: Integer, the fewest repeats. Defaults to `1`.
        max_repeats: Integer, the most repeats, or a function that returns it.
            Defaults to `10`.
        bits: Integer, the width of the vectors. Defaults to `8`.
        seed: Non-negative integer; the same seed gives the same stream.
            Defaults to `None`: a new stream at each iteration.

    Returns:
        An infinite `tf.data.Dataset` of `(inputs, targets, sample_weight)`, see
        `keras_sam.tasks.repeat_copy_sequences`, padded to
        `time_steps = max_length * (max_repeats + 1) + 2`.

    Raises:
        ValueError: If `seed` is negative or not an integer, another argument
            is not a positive integer, or a minimum exceeds its maximum.

    Reference: Graves et al. 2014, section 4.2 (https://arxiv.org/abs/1410.5401).

    Example:

    >>> data = keras_sam.tasks.repeat_copy_task(batch_size=4, seed=0)
    >>> [tuple(spec.shape) for spec in data.element_spec]
    [(4, 112, 10), (4, 112, 9), (4, 112)]
    """
    return size_stream(
        partial(repeat_copy_sequences, bits=bits),
        batch_size,
        {"length": (min_length, max_length), "repeats": (min_repeats, max_repeats)},
        seed,
    )
