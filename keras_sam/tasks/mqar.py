"""Multi-query associative recall (MQAR): pairs of tokens, then the keys once more.

With two pairs and eight steps (fillers are dots) one sequence looks like this:

```
step           0    1    2    3    4    5    6    7
tokens        17 5002  311 7754  311    .   17    .    pairs, then their keys
targets        0    0    0    0 7754    0 5002    0    the value of the key
sample_weight  0    0    0    0    1    0    1    0
```

Reference: Arora et al. 2023, "Zoology" (https://arxiv.org/abs/2312.04927). The sizes
are those of Arora et al. 2024, "Based" (https://arxiv.org/abs/2402.18668), figure 2.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from keras_sam.arguments import (
    check_boolean,
    check_positive_integer,
    is_number,
)
from keras_sam.options import Rng, Sequences
from keras_sam.tasks.stream import endless

# From (time steps, pairs) to the number of sequences.
MQAR_TRAINING = {
    (64, 4): 100_000,
    (128, 8): 20_000,
    (256, 16): 20_000,
    (256, 32): 20_000,
    (256, 64): 20_000,
}
MQAR_TEST = {
    (64, 4): 1_000,
    (64, 8): 1_000,
    (64, 16): 1_000,
    (128, 32): 1_000,
    (256, 64): 1_000,
    (512, 128): 1_000,
    (1024, 256): 1_000,
}


def mqar_sequences(
    rng: Rng,
    batch_size: int,
    time_steps: int = 64,
    pairs: int = 4,
    vocabulary: int = 8192,
    power: float = 0.01,
    random_fillers: bool = True,
) -> Sequences:
    """Makes sequences of so many pairs of a key and a value, and a query of each.

    With P pairs the first 2 P tokens are k[1], v[1], ..., k[P], v[P]. After them each
    key comes once more, at an even distance: 2 g steps after the pairs, with different
    g that are drawn with the probabilities

        p(g) ~ (g + 1)^(power - 1),  g = 0, 1, ..., (time_steps - 2 P) / 2 - 1

    so that most queries come soon. All other steps are fillers. The target at a query
    is the value of the key. Keys are tokens from 1 on, values those from
    `vocabulary / 2` on. In a sequence no key and no value comes twice among the pairs.
    A random filler may be any token, a key as well.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed.
        batch_size: Integer, how many sequences.
        time_steps: Integer, even, at least `4 * pairs`. Defaults to `64`.
        pairs: Integer P. Defaults to `4`.
        vocabulary: Integer, even, how many tokens there are, at least `2 * pairs + 2`.
            Defaults to `8192`.
        power: Positive number; the less, the sooner come the queries. Defaults to
            `0.01`.
        random_fillers: Boolean, whether fillers are random tokens, or token 0.
            Defaults to `True`.

    Returns:
        A tuple `(tokens, targets, sample_weight)` of arrays `[batch, time_steps]`:
        int32 tokens; int32 targets, 0 where there is no query; float32, 1 at the
        queries.

    Raises:
        ValueError: If a size is not a positive integer, `time_steps` or `vocabulary` is
            odd, there is no room for the queries or for different keys, or `power` is
            not a positive number.

    Reference: Arora et al. 2023, appendix (https://arxiv.org/abs/2312.04927).

    Example:

    >>> tokens, targets, weights = keras_sam.tasks.mqar_sequences(0, 2, 16, pairs=3)
    >>> tokens.shape
    (2, 16)
    >>> weights.sum(axis=1)  # a query for each pair
    array([3., 3.], dtype=float32)
    """
    rng = np.random.default_rng(rng)
    batch_size = check_positive_integer("batch_size", batch_size)
    _check_sizes(time_steps, pairs, vocabulary)
    check_boolean("random_fillers", random_fillers)
    if not is_number(power) or not power > 0.0:
        raise ValueError(f"`power` must be a positive number. Received: power={power}")

    rows = np.arange(batch_size)[:, np.newaxis]
    half, shown = vocabulary // 2, 2 * pairs
    keys = 1 + _different(rng, batch_size, pairs, np.ones(half - 1))
    values = half + _different(rng, batch_size, pairs, np.ones(vocabulary - half))
    places = np.arange(1, (time_steps - shown) // 2 + 1) ** (power - 1.0)
    queries = shown + 2 * _different(rng, batch_size, pairs, places)

    shape = (batch_size, time_steps)
    tokens = np.zeros(shape, np.int32)
    if random_fillers:
        tokens = rng.integers(vocabulary, size=shape, dtype=np.int32)
    tokens[:, 0:shown:2], tokens[:, 1:shown:2] = keys, values
    tokens[rows, queries] = keys
    targets, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    targets[rows, queries], weights[rows, queries] = values, 1.0
    return tokens, targets, weights


def mqar_task(
    batch_size: int,
    sizes: Mapping[tuple[int, int], float] = MQAR_TRAINING,
    vocabulary: int = 8192,
    power: float = 0.01,
    random_fillers: bool = True,
    seed: int | None = None,
) -> tf.data.Dataset:
    """An endless stream of MQAR batches, ready for `model.fit`.

    Each batch has sequences of one size. The sizes are drawn in proportion to the
    numbers of their sequences.

    Args:
        batch_size: Integer, sequences in each batch.
        sizes: Dictionary from (time steps, pairs) to a number of sequences. Defaults
            to `keras_sam.tasks.MQAR_TRAINING`, the mixture of the benchmark;
            `MQAR_TEST` has the sizes of its test.
        vocabulary: Integer, how many tokens there are. Defaults to `8192`.
        power: Positive number, see `keras_sam.tasks.mqar_sequences`. Defaults to
            `0.01`.
        random_fillers: Boolean, whether fillers are random tokens, or token 0.
            Defaults to `True`.
        seed: Non-negative integer; the same seed gives the same stream. Defaults to
            `None`: a new stream at each iteration.

    Returns:
        An infinite `tf.data.Dataset` of `(tokens, targets, sample_weight)`, see
        `keras_sam.tasks.mqar_sequences`. Its time axis is fixed if all sizes have the
        same.

    Raises:
        ValueError: As `keras_sam.tasks.mqar_sequences`; if `seed` is negative or not an
            integer, or `sizes` is empty or has a number that is not positive.

    Reference: Arora et al. 2024 (https://arxiv.org/abs/2402.18668), figure 2.

    Example:

    >>> data = keras_sam.tasks.mqar_task(batch_size=2, sizes={(64, 4): 1}, seed=0)
    >>> [tuple(spec.shape) for spec in data.element_spec]
    [(2, 64), (2, 64), (2, 64)]
    """
    if seed is not None:
        seed = check_positive_integer("seed", seed, minimum=0)
    counts = list(sizes.values())
    if not counts or not all(is_number(count) and count > 0 for count in counts):
        raise ValueError(
            "`sizes` must be a non-empty dictionary from (time_steps, pairs) to a "
            f"positive number of sequences. Received: sizes={sizes}"
        )
    for time_steps, pairs in sizes:
        _check_sizes(time_steps, pairs, vocabulary)
    names, shares = list(sizes), np.array(counts) / np.sum(counts)

    def batch(rng, size):
        steps, pairs = size
        return mqar_sequences(
            rng, batch_size, steps, pairs, vocabulary, power, random_fillers
        )

    def batches():
        rng = np.random.default_rng(seed)
        while True:
            yield batch(rng, names[rng.choice(len(names), p=shares)])

    fixed = len({time_steps for time_steps, _ in names}) == 1
    return endless(batches, batch(0, names[0]), time_axis_is_fixed=fixed)


def _check_sizes(time_steps, pairs, vocabulary):
    pairs = check_positive_integer("pairs", pairs)
    for name, size, least in (
        ("time_steps", time_steps, 4 * pairs),
        ("vocabulary", vocabulary, 2 * pairs + 2),
    ):
        check_positive_integer(name, size)
        if size % 2 or size < least:
            raise ValueError(
                f"`{name}` must be even and at least {least} for {pairs} pairs. "
                f"Received: {name}={size}"
            )


def _different(rng, batch_size, count, weights):
    """So many different numbers `[batch, count]`, drawn one by one by their weights."""
    # The order of exponential variables of these rates is that of such draws.
    times = rng.exponential(size=(batch_size, len(weights))) / weights
    first = np.argpartition(times, count - 1, axis=1)[:, :count]
    order = np.argsort(np.take_along_axis(times, first, axis=1), axis=1)
    return np.take_along_axis(first, order, axis=1)
