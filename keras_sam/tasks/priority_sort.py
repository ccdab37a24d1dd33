"""The priority sort task: write the vectors of highest priority, highest first.

With two-bit vectors (`bits=2`) and 4 keys, the 4 of highest priority of which (four
fifths, rounded up) are asked for, one sequence looks like this:

```
step             0   1   2   3   4   5   6   7   8
inputs[..., 0]   1   0   1   0   .   .   .   .   .    random bits
inputs[..., 1]   0   0   1   1   .   .   .   .   .
inputs[..., 2] -.3  .8  .1 -.7   .   .   .   .   .    their priorities
inputs[..., 3]   .   .   .   .   1   .   .   .   .    delimiter: "now write"
targets[..., 0]  .   .   .   .   .   0   1   1   0
targets[..., 1]  .   .   .   .   .   0   1   0   1
sample_weight    0   0   0   0   0   1   1   1   1
```

Reference: Graves et al. 2014, "Neural Turing Machines", section 4.5
(https://arxiv.org/abs/1410.5401).
"""

from functools import partial

import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_positive_integer
from keras_sam.options import Integers, Rng, Sequences, Size
from keras_sam.tasks.stream import check_sizes, check_time_steps, size_stream, zeros


def priority_sort_sequences(
    rng: Rng, keys: Integers, bits: int = 8, time_steps: int | None = None
) -> Sequences:
    """Makes one priority-sort sequence for each given number of keys.

    A sequence of n keys shows its n random bit vectors, each with a priority uniform in
    [-1, 1), at steps 0 .. n-1 and the delimiter alone at step n. The target at the
    following steps, without input, is the ceil(4 n / 5) vectors of highest priority,
    highest first; of equal priorities, the first one shown is first. With 20 keys that
    is the paper's task: the 16 highest. All later steps are zero padding.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed.
        keys: Integers of shape `[batch]`, each at least 1: how many vectors each
            sequence has.
        bits: Integer, the width of the vectors. The paper does not say; defaults to
            `8`.
        time_steps: Integer, the number of steps of the returned arrays, at least
            `max(keys) + 1 + ceil(4 / 5 * max(keys))`, which is the default.

    Returns:
        A tuple `(inputs, targets, sample_weight)` of float32 arrays of shapes
        `[batch, time_steps, bits + 2]` (the last two channels are the priority and
        the delimiter), `[batch, time_steps, bits]` and `[batch, time_steps]` (1 where
        the target counts).

    Raises:
        ValueError: If `keys` is not a non-empty list of positive integers, `bits` is
            not a positive integer, or `time_steps` is too small.

    Reference: Graves et al. 2014, section 4.5 (https://arxiv.org/abs/1410.5401).

    Example:

    >>> x, y, w = keras_sam.tasks.priority_sort_sequences(0, keys=[5], bits=3)
    >>> x[0, :5, 3].round(2)  # the priorities: the fourth is the highest
    array([-0.92, -0.97,  0.63,  0.83,  0.21], dtype=float32)
    >>> w.astype(int)
    array([[0, 0, 0, 0, 0, 0, 1, 1, 1, 1]])
    >>> bool((y[0, 6:] == x[0, [3, 2, 4, 0], :3]).all())
    True
    """
    rng = np.random.default_rng(rng)
    keys = check_sizes("keys", keys)
    bits = check_positive_integer("bits", bits)
    highest = (4 * keys + 4) // 5
    time_steps = check_time_steps(
        time_steps,
        (keys + 1 + highest).max(),
        "max(keys) + 1 + ceil(4 / 5 * max(keys))",
    )

    inputs, targets, sample_weight = zeros(len(keys), time_steps, bits + 2, bits)
    for i, (count, wanted) in enumerate(zip(keys, highest, strict=True)):
        vectors = rng.integers(0, 2, (count, bits), dtype=np.uint8)
        # Sorted as the network sees them, in float32.
        priorities = (2 * rng.random(count) - 1).astype(np.float32)
        order = np.argsort(-priorities, kind="stable")[:wanted]
        inputs[i, :count, :bits] = vectors
        inputs[i, :count, bits] = priorities
        inputs[i, count, bits + 1] = 1
        answer = slice(count + 1, count + 1 + wanted)
        targets[i, answer] = vectors[order]
        sample_weight[i, answer] = 1
    return inputs, targets, sample_weight


def priority_sort_task(
    batch_size: int,
    min_keys: int = 20,
    max_keys: Size = 20,
    bits: int = 8,
    seed: int | None = None,
) -> tf.data.Dataset:
    """An endless stream of priority-sort batches, ready for `model.fit`.

    The defaults are the paper's training task, 20 keys of which the 16 highest are
    asked for.

    Args:
        batch_size: Integer, sequences in each batch.
        min_keys: Integer, the fewest keys in a sequence. Defaults to `20`.
        max_keys: Integer, the most keys, or a function that returns it (see
            `keras_sam.tasks.copy_task`). Defaults to `20`.
        bits: Integer, the width of the vectors. Defaults to `8`.
        seed: Non-negative integer; the same seed gives the same stream.
            Defaults to `None`: a new stream at each iteration.

    Returns:
        An infinite `tf.data.Dataset` of `(inputs, targets, sample_weight)`, see
        `keras_sam.tasks.priority_sort_sequences`, padded to
        `time_steps = max_keys + 1 + ceil(4 / 5 * max_keys)`.

    Raises:
        ValueError: If `seed` is negative or not an integer, another argument
            is not a positive integer, or `min_keys` exceeds `max_keys`.

    Reference: Graves et al. 2014, section 4.5 (https://arxiv.org/abs/1410.5401).

    Example:

    >>> data = keras_sam.tasks.priority_sort_task(batch_size=4, seed=0)
    >>> [tuple(spec.shape) for spec in data.element_spec]
    [(4, 37, 10), (4, 37, 8), (4, 37)]
    """
    return size_stream(
        partial(priority_sort_sequences, bits=bits),
        batch_size,
        {"keys": (min_keys, max_keys)},
        seed,
    )
