"""Which slot was least recently accessed, at a cost that grows with log N.

The time of each slot's last access stands in the leaves of a tree whose inner nodes
hold the least time of their 32 children. Finding the oldest slots goes down from the
root, marking accesses goes up from the leaves: one small gather, or gather and
scatter, a level (four levels for 2^20 slots). Among equally old slots the lowest
number comes first, so that a fresh memory is filled from its first slot on.

A tree is a list of tensors, the leaves first, of shapes `[batch, size]` with the
sizes that `level_sizes` gives.
"""

import tensorflow as tf

from keras_sam.ops.selection import top_k
from keras_sam.ops.sparse import batch_indices

BRANCHING = 32

# Times are kept in floats, which count exactly up to here.
LATEST_TIME = 2**24

# Beyond every time: leaves that only fill up the last group of 32.
_NEVER = 2.0**30


def level_sizes(slots):
    """Numbers of nodes on each level, the leaves' first.

    Args:
        slots: Integer N.

    Returns:
        List of integers; all but the last are multiples of 32.
    """
    sizes = [slots]
    while sizes[-1] > BRANCHING:
        groups = -(-sizes[-1] // BRANCHING)
        sizes[-1] = groups * BRANCHING
        sizes.append(groups)
    return sizes


def build_tree(times):
    """The tree over given times.

    Args:
        times: Tensor `[batch, N]`, the time of each slot's last access.

    Returns:
        List of tensors, see the module.
    """
    sizes = level_sizes(times.shape[-1])
    levels = []
    for size in sizes:
        padding = size - times.shape[-1]
        levels.append(
            tf.pad(times, [[0, 0], [0, padding]], constant_values=_NEVER)
            if padding
            else times
        )
        if size != sizes[-1]:
            times = tf.reduce_min(
                tf.reshape(levels[-1], (-1, size // BRANCHING, BRANCHING)), axis=-1
            )
    return levels


def least_recently_accessed(levels, count=1):
    """The slots whose last access is the longest ago, all different.

    `argmax_i U(i)` with `U(i) = T - max{t: w_t(i) > delta}`, the time since the last
    access, of [Rae et al., 2016](https://arxiv.org/abs/1610.09027), section 3.2.

    Args:
        levels: A tree.
        count: Integer, how many, at most N.

    Returns:
        Integer tensor `[batch, count]`, the oldest slot first.
    """
    batch = tf.shape(levels[0])[0]
    nodes = tf.broadcast_to(
        tf.range(levels[-1].shape[-1])[tf.newaxis], (batch, levels[-1].shape[-1])
    )
    for depth in reversed(range(len(levels))):
        level = levels[depth]
        if depth < len(levels) - 1:
            # The order is ascending: a tie among cousins goes to the lowest number.
            nodes = tf.sort(nodes, axis=-1)[..., tf.newaxis] * BRANCHING
            nodes = nodes + tf.range(BRANCHING)
            nodes = tf.reshape(nodes, (-1, nodes.shape[1] * BRANCHING))
        times = tf.gather(level, nodes, batch_dims=1)
        # Nodes that only fill up a level have no children to go down to.
        real = levels[depth - 1].shape[-1] // BRANCHING if depth else nodes.shape[-1]
        _, oldest = top_k(-times, min(count, real))
        nodes = tf.gather(nodes, oldest, batch_dims=1)
    return nodes


def mark_accessed(levels, slots, accessed, time, update=tf.tensor_scatter_nd_update):
    """The tree once some slots have been accessed.

    Args:
        levels: A tree.
        slots: Integer tensor `[batch, accesses]`, duplicates allowed.
        accessed: Boolean tensor `[batch, accesses]`: whether the access counts; the
            same for duplicates.
        time: Tensor `[batch]`, the time of the access.
        update: Function to set values with, see `keras_sam.recurrence.buffers`.

    Returns:
        The new tree.
    """
    times = tf.where(
        accessed, time[:, tf.newaxis], tf.gather(levels[0], slots, batch_dims=1)
    )
    marked = [update(levels[0], batch_indices(slots), times)]
    for level in levels[1:]:
        slots = slots // BRANCHING
        below = marked[-1]
        children = tf.reshape(below, (-1, below.shape[1] // BRANCHING, BRANCHING))
        times = tf.reduce_min(tf.gather(children, slots, batch_dims=1), axis=-1)
        marked.append(update(level, batch_indices(slots), times))
    return marked


def rebase(time, levels, steps=1):
    """Moves the times back before floats no longer count them exactly.

    Times at least 2^23 steps old become equally old; slots never accessed stay older.

    Args:
        time: Tensor `[batch, 1]`, of the next access.
        levels: A tree.
        steps: Integer or scalar integer tensor, how many accesses are to come.

    Returns:
        The new time and tree.
    """
    shift = LATEST_TIME // 2

    def earlier(times):
        moved = tf.where(times > 0.0, tf.maximum(times - shift, 1.0), times)
        return tf.where(times < _NEVER, moved, times)

    late = time + tf.cast(steps, time.dtype) >= LATEST_TIME
    return tf.cond(
        tf.reduce_any(late),
        lambda: (
            tf.where(late, earlier(time), time),
            [tf.where(late, earlier(level), level) for level in levels],
        ),
        lambda: (time, list(levels)),
    )
