"""The associative recall task: see items, then one of them again; name the next.

An item is a short sequence of bit vectors. With two-bit vectors (`bits=2`), items of
2 vectors (`item_length=2`) and 2 items one sequence looks like this:

```
step            0  1  2  3  4  5  6  7  8  9 10 11
inputs[..., 0]  .  1  0  .  1  1  .  1  0  .  .  .    items, then one of them
inputs[..., 1]  .  0  0  .  1  0  .  0  0  .  .  .
inputs[..., 2]  1  .  .  1  .  .  .  .  .  .  .  .    an item begins
inputs[..., 3]  .  .  .  .  .  .  1  .  .  1  .  .    the query begins and ends
targets[..., 0] .  .  .  .  .  .  .  .  .  .  1  1    the item that came after it
targets[..., 1] .  .  .  .  .  .  .  .  .  .  1  0
sample_weight   0  0  0  0  0  0  0  0  0  0  1  1
```

Reference: Graves et al. 2014, "Neural Turing Machines", section 4.3
(https://arxiv.org/abs/1410.5401).
"""

from functools import partial

import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_positive_integer
from keras_sam.options import Integers, Rng, Sequences, Size
from keras_sam.tasks.stream import (
    check_sizes,
    check_time_steps,
    distinct_vectors,
    size_stream,
    zeros,
)


def associative_recall_sequences(
    rng: Rng,
    items: Integers,
    bits: int = 6,
    item_length: int = 3,
    queries: int = 1,
    time_steps: int | None = None,
) -> Sequences:
    """Makes one associative-recall sequence for each given number of items.

    A sequence of n items of I vectors shows, for each item, the item delimiter alone
    and then its I vectors, one at each step; then the query delimiter, the I vectors of
    one of the first n-1 items, and the query delimiter again. The target at the I steps
    after it, without input, is the item that followed the queried one. With several
    queries the next one begins then, of any item again. All later steps are zero
    padding. The items of a sequence are random, and no two are equal.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed.
        items: Integers of shape `[batch]`, each at least 2: how many items each
            sequence has.
        bits: Integer, the width of the vectors. Defaults to `6`.
        item_length: Integer, how many vectors an item has. Defaults to `3`.
        queries: Integer, how many items are asked for, one after the other. Defaults to
            `1`, as in the paper; a network learns from fewer sequences with more.
        time_steps: Integer, the number of steps of the returned arrays, at least
            `(max(items) + 2 * queries) * (item_length + 1)`, which is the default.

    Returns:
        A tuple `(inputs, targets, sample_weight)` of float32 arrays that hold only 0
        and 1, of shapes `[batch, time_steps, bits + 2]` (the last two channels are the
        delimiters of items and of the query), `[batch, time_steps, bits]` and
        `[batch, time_steps]` (1 where the target counts).

    Raises:
        ValueError: If `items` is not a non-empty list of integers of at least 2, or
            asks for more items than can differ, `bits`, `item_length` or `queries` is
            not a positive integer, or `time_steps` is too small.

    Reference: Graves et al. 2014, section 4.3 (https://arxiv.org/abs/1410.5401).

    Example:

    >>> x, y, w = keras_sam.tasks.associative_recall_sequences(0, items=[2])
    >>> x.shape, y.shape, w.shape
    ((1, 16, 8), (1, 16, 6), (1, 16))
    >>> x[0, :, 6:].T.astype(int)  # items begin, the query begins and ends
    array([[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
           [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]])
    >>> bool((y[0, 13:] == x[0, 5:8, :6]).all())  # the second follows the first
    True
    """
    rng = np.random.default_rng(rng)
    items = check_sizes("items", items, minimum=2)
    bits = check_positive_integer("bits", bits)
    item_length = check_positive_integer("item_length", item_length)
    queries = check_positive_integer("queries", queries)
    block = item_length + 1
    time_steps = check_time_steps(
        time_steps,
        (items.max() + 2 * queries) * block,
        "(max(items) + 2 * queries) * (item_length + 1)",
    )

    inputs, targets, sample_weight = zeros(len(items), time_steps, bits + 2, bits)
    for i, count in enumerate(items):
        vectors = distinct_vectors(rng, count, item_length * bits)
        vectors = vectors.reshape(count, item_length, bits)
        blocks = inputs[i, : count * block].reshape(count, block, bits + 2)
        blocks[:, 0, bits] = 1
        blocks[:, 1:, :bits] = vectors
        for query in (count + 2 * np.arange(queries)) * block:
            asked = rng.integers(count - 1)
            answer = query + block + 1
            inputs[i, [query, answer - 1], bits + 1] = 1
            inputs[i, query + 1 : answer - 1, :bits] = vectors[asked]
            targets[i, answer : answer + item_length] = vectors[asked + 1]
            sample_weight[i, answer : answer + item_length] = 1
    return inputs, targets, sample_weight


def associative_recall_task(
    batch_size: int,
    min_items: int = 2,
    max_items: Size = 6,
    bits: int = 6,
    item_length: int = 3,
    queries: int = 1,
    seed: int | None = None,
) -> tf.data.Dataset:
    """An endless stream of associative-recall batches, ready for `model.fit`.

    Each sequence has its own number of items, uniform in [min_items, max_items]. The
    defaults are the Neural Turing Machine paper's training task; it tests with 6 to 20
    items. Rae et al. train with 3 to 6.

    Args:
        batch_size: Integer, sequences in each batch.
        min_items: Integer of at least 2, the fewest items. Defaults to `2`.
        max_items: Integer, the most items, or a function that returns it (see
            `keras_sam.tasks.copy_task`). Defaults to `6`.
        bits: Integer, the width of the vectors. Defaults to `6`.
        item_length: Integer, how many vectors an item has. Defaults to `3`.
        queries: Integer, how many items are asked for; see
            `keras_sam.tasks.associative_recall_sequences`. Defaults to `1`.
        seed: Non-negative integer; the same seed gives the same stream.
            Defaults to `None`: a new stream at each iteration.

    Returns:
        An infinite `tf.data.Dataset` of `(inputs, targets, sample_weight)`, see
        `keras_sam.tasks.associative_recall_sequences`, padded to
        `time_steps = (max_items + 2 * queries) * (item_length + 1)`.

    Raises:
        ValueError: If `seed` is negative or not an integer, another argument
            is not a positive integer, `min_items` is less than 2 or exceeds
            `max_items`, or so many items cannot all differ.

    Reference: Graves et al. 2014, section 4.3 (https://arxiv.org/abs/1410.5401); Rae et
    al. 2016, section 4.2 (https://arxiv.org/abs/1610.09027).

    Example:

    >>> data = keras_sam.tasks.associative_recall_task(batch_size=4, seed=0)
    >>> [tuple(spec.shape) for spec in data.element_spec]
    [(4, 32, 8), (4, 32, 6), (4, 32)]
    """
    return size_stream(
        partial(
            associative_recall_sequences,
            bits=bits,
            item_length=item_length,
            queries=queries,
        ),
        batch_size,
        {"items": (check_positive_integer("min_items", min_items, 2), max_items)},
        seed,
    )
