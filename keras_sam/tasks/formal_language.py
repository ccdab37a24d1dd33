"""Formal languages: predict the next symbol of strings that can only be counted.

A string of the language a^n b^n with n = 3, and what is predicted from each symbol:

```
step           0  1  2  3  4  5
symbols        a  a  a  b  b  b
next symbol    a  a  b  b  b  a    the a is where the next string begins
sample_weight  0  0  0  1  1  1    from the first b on the rest is known
```

Nobody can know how many a there will be. From the first b on all is certain: the
number of b, and that an a follows. A string is right if all of that is.

Reference: Joulin & Mikolov 2015 (https://arxiv.org/abs/1503.01007), section 5.1.
"""

from functools import partial

import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_boolean, check_option
from keras_sam.options import Integers, Rng, Sequences, Size
from keras_sam.tasks.stream import check_sizes, check_time_steps, size_stream, zeros

# From the name of a language to how often each symbol comes, as multiples of n, and for
# `a^n b^m c^(n+m)`, whose length is n + m, None: n of them is drawn.
FORMAL_LANGUAGES = {
    "a^n b^n": (1, 1),
    "a^n b^n c^n": (1, 1, 1),
    "a^n b^n c^n d^n": (1, 1, 1, 1),
    "a^n b^2n": (1, 2),
    "a^n b^m c^(n+m)": None,
}


def formal_language_sequences(
    rng: Rng,
    lengths: Integers,
    language: str = "a^n b^n",
    predictable_only: bool = True,
    time_steps: int | None = None,
) -> Sequences:
    """Makes a string of a formal language for each given length.

    Inputs are the string's symbols, targets the symbol after each. After the last
    one comes an a, the first symbol of any string. Steps after the string are 0.

    Args:
        rng: A `np.random.Generator`, which advances, or an integer seed. Only
            `a^n b^m c^(n+m)` draws: n, of 1 to `length - 1` alike.
        lengths: Integers of shape `[batch]`: the n of each string, at least 1, or the
            n + m of `a^n b^m c^(n+m)`, at least 2.
        language: String, one of `keras_sam.tasks.FORMAL_LANGUAGES`: `"a^n b^n"`,
            `"a^n b^n c^n"`, `"a^n b^n c^n d^n"`, `"a^n b^2n"` or `"a^n b^m c^(n+m)"`.
            Defaults to `"a^n b^n"`.
        predictable_only: Boolean, whether only those targets count that follow from
            the string so far: from the first b on, or the first c of
            `a^n b^m c^(n+m)`. Else all count, as the paper trains. Defaults to `True`.
        time_steps: Integer, the number of steps of the returned arrays, at least the
            longest string's, which is the default.

    Returns:
        A tuple `(inputs, targets, sample_weight)` of float32 arrays that hold only 0
        and 1, of shapes `[batch, time_steps, symbols]` (one-hot), the same, and
        `[batch, time_steps]` (1 where the target counts).

    Raises:
        ValueError: If `lengths` is not a list of such integers, `language` is unknown,
            `predictable_only` no boolean, or `time_steps` is too small.

    Reference: Joulin & Mikolov 2015, section 5.1 (https://arxiv.org/abs/1503.01007).

    Example:

    >>> x, y, w = keras_sam.tasks.formal_language_sequences(0, [3], "a^n b^2n")
    >>> "".join("ab"[symbol] for symbol in x[0].argmax(-1))
    'aaabbbbbb'
    >>> "".join("ab"[symbol] for symbol in y[0].argmax(-1))
    'aabbbbbba'
    >>> w[0].astype(int)
    array([0, 0, 0, 1, 1, 1, 1, 1, 1])
    """
    rng = np.random.default_rng(rng)
    check_option("language", language, tuple(FORMAL_LANGUAGES))
    check_boolean("predictable_only", predictable_only)
    repeats = FORMAL_LANGUAGES[language]
    lengths = check_sizes("lengths", lengths, minimum=2 if repeats is None else 1)
    if repeats is None:
        first = rng.integers(1, lengths)
        counts = np.stack([first, lengths - first, lengths], axis=1)
        known = lengths  # the step of the first c
    else:
        counts = lengths[:, np.newaxis] * repeats
        known = lengths
    sizes = counts.sum(axis=1)
    time_steps = check_time_steps(time_steps, sizes.max(), "the longest string")

    symbols = counts.shape[1]
    inputs, targets, sample_weight = zeros(len(lengths), time_steps, symbols, symbols)
    for i, (count, size) in enumerate(zip(counts, sizes, strict=True)):
        string = np.repeat(np.arange(symbols), count)
        inputs[i, :size] = np.eye(symbols)[string]
        targets[i, :size] = np.roll(inputs[i, :size], -1, axis=0)
        sample_weight[i, known[i] if predictable_only else 0 : size] = 1
    return inputs, targets, sample_weight


def formal_language_task(
    batch_size: int,
    language: str = "a^n b^n",
    min_length: int = 2,
    max_length: Size = 19,
    predictable_only: bool = True,
    seed: int | None = None,
) -> tf.data.Dataset:
    """An endless stream of strings of a formal language, ready for `model.fit`.

    The default lengths are those of the paper's training, n < 20; it tests n up to 60.
    `keras_sam.metrics.SequenceAccuracy` is the part of the strings that are right.

    Args:
        batch_size: Integer, strings in each batch.
        language: String, see `keras_sam.tasks.formal_language_sequences`. Defaults to
            `"a^n b^n"`.
        min_length: Integer, the least n, or n + m. Defaults to `2`.
        max_length: Integer, the greatest, or a function that returns it (see
            `keras_sam.tasks.copy_task`). Defaults to `19`.
        predictable_only: Boolean, whether only predictable targets count. The paper
            trains on all and tests on those. Defaults to `True`.
        seed: Non-negative integer; the same seed gives the same stream. Defaults to
            `None`: a new stream at each iteration.

    Returns:
        An infinite `tf.data.Dataset` of `(inputs, targets, sample_weight)`, see
        `keras_sam.tasks.formal_language_sequences`, padded to the longest string.

    Raises:
        ValueError: As `keras_sam.tasks.formal_language_sequences`; if `seed` is
            negative or not an integer, or `min_length` exceeds `max_length`.

    Reference: Joulin & Mikolov 2015, section 5.1 (https://arxiv.org/abs/1503.01007).

    Example:

    >>> data = keras_sam.tasks.formal_language_task(4, "a^n b^n c^n", seed=0)
    >>> [tuple(spec.shape) for spec in data.element_spec]
    [(4, 57, 3), (4, 57, 3), (4, 57)]
    """
    return size_stream(
        partial(
            formal_language_sequences,
            language=language,
            predictable_only=predictable_only,
        ),
        batch_size,
        {"length": (min_length, max_length)},
        seed,
    )
