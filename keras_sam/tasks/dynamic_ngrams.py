"""The dynamic n-grams task: predict the bits of a random n-gram source.

For each sequence a new table is drawn: for each of the 2^(n-1) contexts of n-1 bits,
the probability that the next bit is 1. The network has to count, in its memory, what
has followed each context so far. The best that any predictor can do is known:
`optimal_ngrams`. Over 200 bits of a 6-gram source it costs 133.1 bits on average.

```
step            0  1  2  3  4  ...
inputs[..., 0]  .  1  0  0  1          the bit before, nothing at first
targets[..., 0] 1  0  0  1  1          this bit
sample_weight   1  1  1  1  1
```

Reference: Graves et al. 2014, "Neural Turing Machines", section 4.4
(https://arxiv.org/abs/1410.5401).
"""

from functools import partial

import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_positive_integer
from keras_sam.options import Integers, Rng, Sequences, Size, TensorLike
from keras_sam.tasks.stream import check_sizes, check_time_steps, size_stream, zeros


def dynamic_ngrams_sequences(
    rng: Rng, lengths: Integers, n: int = 6, time_steps: int | None = None
) -> Sequences:
    """Makes one n-gram sequence for each given length.

    For each sequence, 2^(n-1) probabilities are drawn from Beta(1/2, 1/2). The first
    n-1 bits are fair coins; each later bit is 1 with the probability that belongs to
    the n-1 bits before it. The input is the bit before, the target is the bit; the
    first input and all steps from `length` on are 0.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed.
        lengths: Integers of shape `[batch]`, each at least 1: how many bits each
            sequence has.
        n: Integer, the order of the source: n-1 bits are the context of the next.
            Defaults to `6`.
        time_steps: Integer, the number of steps of the returned arrays, at least
            `max(lengths)`, which is the default.

    Returns:
        A tuple `(inputs, targets, sample_weight)` of float32 arrays that hold only 0
        and 1, of shapes `[batch, time_steps, 1]`, `[batch, time_steps, 1]` and
        `[batch, time_steps]` (1 where the target counts).

    Raises:
        ValueError: If `lengths` is not a non-empty list of positive integers, `n` is
            not a positive integer, or `time_steps` is too small.

    Reference: Graves et al. 2014, section 4.4 (https://arxiv.org/abs/1410.5401).

    Example:

    >>> x, y, w = keras_sam.tasks.dynamic_ngrams_sequences(0, lengths=[200] * 10)
    >>> x.shape, y.shape, w.shape
    ((10, 200, 1), (10, 200, 1), (10, 200))
    >>> bool((x[:, 1:] == y[:, :-1]).all())
    True
    """
    rng = np.random.default_rng(rng)
    lengths = check_sizes("lengths", lengths)
    order = check_positive_integer("n", n) - 1
    time_steps = check_time_steps(time_steps, lengths.max(), "max(lengths)")

    inputs, targets, sample_weight = zeros(len(lengths), time_steps, 1, 1)
    for i, length in enumerate(lengths):
        table = rng.beta(0.5, 0.5, 2**order)
        chances = rng.random(length)
        bits, context = np.zeros(length), 0
        for t, chance in enumerate(chances):
            bits[t] = chance < (0.5 if t < order else table[context])
            context = (2 * context + int(bits[t])) % 2**order
        inputs[i, 1:length, 0] = bits[:-1]
        targets[i, :length, 0] = bits
        sample_weight[i, :length] = 1
    return inputs, targets, sample_weight


def optimal_ngrams(targets: TensorLike, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """The predictions of the optimal estimator for dynamic n-grams.

    After N0 zeros and N1 ones in the context of a bit, the probability that it is 1,
    with the n-gram table integrated out, is `(N1 + 1/2) / (N0 + N1 + 1)`. The first n-1
    bits have probability 1/2.

    Args:
        targets: Bits of shape `[batch, time, 1]`, the targets of
            `dynamic_ngrams_sequences`. A prediction sees the bits before its own alone.
        n: Integer, the order of the source. Defaults to `6`.

    Returns:
        A tuple `(probabilities, cost)` of float32 arrays: of shape `[batch, time, 1]`,
        that each bit is 1; and of shape `[batch, time]`, the bits that it costs to be
        told each target, `-log2` of the probability that the estimator gave it. A
        network's cross-entropy, divided by log 2, compares with the cost.

    Raises:
        ValueError: If `n` is not a positive integer, or `targets` has another shape.

    Reference: Graves et al. 2014, section 4.4 (https://arxiv.org/abs/1410.5401), which
    names Murphy 2012 for it.

    Example:

    >>> targets = [[[0], [1], [1], [1]]]
    >>> probabilities, cost = keras_sam.tasks.optimal_ngrams(targets, n=2)
    >>> probabilities[0, :, 0]  # no context, after 0, after 1, after 1 again
    array([0.5 , 0.5 , 0.5 , 0.75], dtype=float32)
    >>> cost[0].round(3)
    array([1.   , 1.   , 1.   , 0.415], dtype=float32)
    """
    order = check_positive_integer("n", n) - 1
    bits = np.asarray(targets).astype(int)
    if bits.ndim != 3 or bits.shape[2] != 1:
        raise ValueError(
            "`targets` must be bits of shape [batch, time, 1]. Received: "
            f"targets.shape={bits.shape}"
        )
    bits = bits[:, :, 0]
    batch, steps = bits.shape
    rows = np.arange(batch)
    counts = np.full((batch, 2**order, 2), 0.5)
    context = np.zeros(batch, int)
    probabilities = np.full((batch, steps), 0.5)
    for t in range(steps):
        if t >= order:
            seen = counts[rows, context]
            probabilities[:, t] = seen[:, 1] / seen.sum(1)
            counts[rows, context, bits[:, t]] += 1
        context = (2 * context + bits[:, t]) % 2**order
    cost = -np.log2(np.where(bits == 1, probabilities, 1 - probabilities))
    return probabilities[..., np.newaxis].astype("float32"), cost.astype("float32")


def dynamic_ngrams_task(
    batch_size: int,
    min_length: int = 200,
    max_length: Size = 200,
    n: int = 6,
    seed: int | None = None,
) -> tf.data.Dataset:
    """An endless stream of n-gram batches, ready for `model.fit`.

    The defaults are the paper's training task: 200 bits from a 6-gram source.

    Args:
        batch_size: Integer, sequences in each batch.
        min_length: Integer, the fewest bits in a sequence. Defaults to `200`.
        max_length: Integer, the most bits in a sequence, or a function that returns it
            (see `keras_sam.tasks.copy_task`). Defaults to `200`.
        n: Integer, the order of the source. Defaults to `6`.
        seed: Non-negative integer; the same seed gives the same stream.
            Defaults to `None`: a new stream at each iteration.

    Returns:
        An infinite `tf.data.Dataset` of `(inputs, targets, sample_weight)`, see
        `keras_sam.tasks.dynamic_ngrams_sequences`, padded to `max_length` steps.

    Raises:
        ValueError: If `seed` is negative or not an integer, another argument is not a
            positive integer, or `min_length` exceeds `max_length`.

    Reference: Graves et al. 2014, section 4.4 (https://arxiv.org/abs/1410.5401).

    Example:

    >>> data = keras_sam.tasks.dynamic_ngrams_task(batch_size=4, seed=0)
    >>> [tuple(spec.shape) for spec in data.element_spec]
    [(4, 200, 1), (4, 200, 1), (4, 200)]
    """
    return size_stream(
        partial(dynamic_ngrams_sequences, n=n),
        batch_size,
        {"length": (min_length, max_length)},
        seed,
    )
