"""Usage of the slots and allocation of free ones, as in the DNC."""

import tensorflow as tf

# Usage is lifted this far from zero before products of usages are taken: their
# gradient stays finite in a memory that nothing was ever written to.
USAGE_EPSILON = 1e-6

# Usages in the same one of so many steps between 0 and 1 rank by slot number.
# Untouched slots differ by rounding alone, which differs between machines and
# between eager, graph and XLA execution: it must not decide who comes first.
USAGE_RANKS = 2.0**16


def usage_after_write(usage: tf.Tensor, write_weights: tf.Tensor) -> tf.Tensor:
    """Usage once the slots written to count as used.

    `u + w - u w` of [Graves et al., 2016](https://doi.org/10.1038/nature20101),
    Methods, "Dynamic memory allocation".

    Args:
        usage: Tensor `[batch, N]` in `[0, 1]`.
        write_weights: Tensor `[batch, N]`, of the step before.

    Returns:
        Tensor `[batch, N]`.

    Example:

    >>> keras_sam.ops.usage_after_write(
    ...     tf.constant([[0.5, 0.0]]), tf.constant([[0.5, 1.0]])
    ... ).numpy()
    array([[0.75, 1.  ]], dtype=float32)
    """
    return usage + write_weights - usage * write_weights


def retention(free_gates: tf.Tensor, read_weights: tf.Tensor) -> tf.Tensor:
    """How much of each slot is kept: 0 where a free gate lets go of a read slot.

    `psi[i] = prod_r (1 - f_r w_r[i])` of [Graves et al., 2016](
    https://doi.org/10.1038/nature20101).

    Args:
        free_gates: Tensor `[batch, heads]` in `[0, 1]`.
        read_weights: Tensor `[batch, heads, N]`, of the step before.

    Returns:
        Tensor `[batch, N]`.

    Example:

    >>> read_weights = tf.constant([[[1.0, 0.0]]])
    >>> keras_sam.ops.retention(tf.constant([[0.75]]), read_weights).numpy()
    array([[0.25, 1.  ]], dtype=float32)
    """
    kept = 1.0 - free_gates[..., tf.newaxis] * read_weights
    # Not tf.reduce_prod: its gradient divides by the factors, which may be 0.
    product = kept[:, 0]
    for head in range(1, read_weights.shape[1]):
        product = product * kept[:, head]
    return product


def allocation_weights(usage: tf.Tensor) -> tf.Tensor:
    """A weighting that points to the least used slots.

    With the slots in ascending order of usage, `phi`,
    `a[phi_j] = (1 - u[phi_j]) prod_{i<j} u[phi_i]`: equation 1 of [Graves et
    al., 2016](https://doi.org/10.1038/nature20101). No gradient flows through
    the order. Slots whose usages are alike to 2^-16 come in the order of their
    numbers: a fresh memory is filled from its first slot on. A usage of 0 counts
    as 1e-6.

    Args:
        usage: Tensor `[batch, N]` in `[0, 1]`.

    Returns:
        Tensor `[batch, N]`; it sums to 1 while any slot is free, to 0 when all
        are used.

    Example:

    >>> usage = tf.constant([[1.0, 0.5, 0.25]])
    >>> keras_sam.ops.allocation_weights(usage).numpy().round(3)
    array([[0.   , 0.125, 0.75 ]], dtype=float32)
    """
    usage = USAGE_EPSILON + (1.0 - USAGE_EPSILON) * usage
    order = tf.argsort(tf.round(usage * USAGE_RANKS), axis=-1, stable=True)
    sorted_usage = tf.gather(usage, order, batch_dims=1)
    used_before = tf.exp(tf.cumsum(tf.math.log(sorted_usage), axis=-1, exclusive=True))
    # Back to slot order by a scatter, which is cheaper than sorting a second time.
    sequence = tf.broadcast_to(
        tf.range(tf.shape(order)[0])[:, tf.newaxis], tf.shape(order)
    )
    return tf.scatter_nd(
        tf.stack([sequence, order], axis=-1),
        (1.0 - sorted_usage) * used_before,
        tf.shape(usage),
    )
