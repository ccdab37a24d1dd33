"""The order recall task: see items, then one of them again; name all that came after.

With three-bit items (`bits=3`), 4 of them and a query for the second one sequence looks
like this:

```
step            0  1  2  3  4  5  6
inputs[..., 0]  1  0  1  0  0  .  .    items, then one of them
inputs[..., 1]  1  0  0  1  0  .  .
inputs[..., 2]  0  1  0  0  1  .  .
inputs[..., 3]  .  .  .  .  1  .  .    the query: "go on from here"
targets[..., 0] .  .  .  .  .  1  0    the third and the fourth item
targets[..., 1] .  .  .  .  .  0  1
targets[..., 2] .  .  .  .  .  0  0
sample_weight   0  0  0  0  0  1  1
```

It asks for the order of writing from any point on, which temporal links hold and
content does not. (The copy task always begins with the first item.)
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


def order_recall_sequences(
    rng: Rng, items: Integers, bits: int = 8, time_steps: int | None = None
) -> Sequences:
    """Makes one order-recall sequence for each given number of items.

    A sequence of n items shows them at steps 0 .. n-1 and at step n item k again, with
    the query flag; k is uniform among the first n-1. The target at the n-1-k steps
    after it, without input, is items k+1 .. n-1 in order. (Item k itself is not asked
    for: to give the query back needs no memory.) All later steps are zero padding. The
    items of a sequence are random bit vectors, and no two are equal.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed.
        items: Integers of shape `[batch]`, each at least 2: how many items each
            sequence has.
        bits: Integer, the width of an item. Defaults to `8`.
        time_steps: Integer, the number of steps of the returned arrays, at least
            `2 * max(items)`, which is the default.

    Returns:
        A tuple `(inputs, targets, sample_weight)` of float32 arrays that hold only 0
        and 1, of shapes `[batch, time_steps, bits + 1]` (the last channel is the
        query flag), `[batch, time_steps, bits]` and `[batch, time_steps]` (1 where the
        target counts).

    Raises:
        ValueError: If `items` is not a non-empty list of integers of at least 2, or
            asks for more items than can differ, `bits` is not a positive integer, or
            `time_steps` is too small.

    Example:

    >>> x, y, w = keras_sam.tasks.order_recall_sequences(0, items=[5], bits=4)
    >>> bool((x[0, 5, :4] == x[0, 0, :4]).all())  # asked: what came after the first?
    True
    >>> bool((y[0, 6:] == x[0, 1:5, :4]).all())  # the four others, in order
    True
    >>> w.astype(int)
    array([[0, 0, 0, 0, 0, 0, 1, 1, 1, 1]])
    """
    rng = np.random.default_rng(rng)
    items = check_sizes("items", items, minimum=2)
    bits = check_positive_integer("bits", bits)
    time_steps = check_time_steps(time_steps, 2 * items.max(), "2 * max(items)")

    inputs, targets, sample_weight = zeros(len(items), time_steps, bits + 1, bits)
    for i, count in enumerate(items):
        vectors = distinct_vectors(rng, count, bits)
        asked = rng.integers(count - 1)
        inputs[i, :count, :bits] = vectors
        inputs[i, count, :bits] = vectors[asked]
        inputs[i, count, bits] = 1
        end = 2 * count - asked
        targets[i, count + 1 : end] = vectors[asked + 1 :]
        sample_weight[i, count + 1 : end] = 1
    return inputs, targets, sample_weight


def order_recall_task(
    batch_size: int,
    min_items: int = 2,
    max_items: Size = 20,
    bits: int = 8,
    seed: int | None = None,
) -> tf.data.Dataset:
    """An endless stream of order-recall batches, ready for `model.fit`.

    Each sequence has its own number of items, uniform in [min_items, max_items].

    Args:
        batch_size: Integer, sequences in each batch.
        min_items: Integer of at least 2, the fewest items. Defaults to `2`.
        max_items: Integer, the most items, or a function that returns it (see
            `keras_sam.tasks.copy_task`). Defaults to `20`.
        bits: Integer, the width of an item. Defaults to `8`.
        seed: Non-negative integer; the same seed gives the same stream.
            Defaults to `None`: a new stream at each iteration.

    Returns:
        An infinite `tf.data.Dataset` of `(inputs, targets, sample_weight)`, see
        `keras_sam.tasks.order_recall_sequences`, padded to
        `time_steps = 2 * max_items`.

    Raises:
        ValueError: If `seed` is negative or not an integer, another argument
            is not a positive integer, `min_items` is less than 2 or exceeds
            `max_items`, or so many items cannot all differ.

    Example:

    >>> data = keras_sam.tasks.order_recall_task(batch_size=4, seed=0)
    >>> [tuple(spec.shape) for spec in data.element_spec]
    [(4, 40, 9), (4, 40, 8), (4, 40)]
    """
    return size_stream(
        partial(order_recall_sequences, bits=bits),
        batch_size,
        {"items": (check_positive_integer("min_items", min_items, 2), max_items)},
        seed,
    )
