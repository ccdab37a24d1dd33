"""A sparse cell written outside the package: a SAM that forgets no more than it writes.

All that a sparse cell is made of comes with `keras_sam.SAMCell`; one equation of its
step is another one here. contract/test_own_cell.py holds it to what the package's own
cells are held to, and so does a row of support/conformance_cases.py.
"""

import keras
import tensorflow as tf

import keras_sam


@keras.saving.register_keras_serializable(package="gated_sam")
class GatedSAMCell(keras_sam.SAMCell):
    """RNN cell of a SAM whose erase follows the write gate.

    A SAM erases the least recently accessed word whatever its write gate says: a step
    that writes nothing loses a word all the same. Here

        w_w = alpha (gamma w_r + (1 - gamma) I_lra)      write weights, as in a SAM
        M   = (1 - |w_w| I_lra 1^T) M + w_w a^T          erase and write

    with the sum of a head's write weights |w_w|. As read weights sum to 1 this is the
    write gate alpha: the old word is kept to 1 - alpha. (At the first step nothing has
    been read; then it is alpha (1 - gamma), all that is written.)

    Args:
        *args: As for `keras_sam.SAMCell`.
        **kwargs: As for `keras_sam.SAMCell`.
    """

    def written_rows(self, old_rows, slots, weights, vectors):
        shape = (-1, self.write_heads, self.writes_per_head)
        by_head = tf.reshape(weights, shape)
        added = by_head[..., tf.newaxis] * vectors[:, :, tf.newaxis]
        # Of a head's slots the last one is the least recently accessed.
        is_oldest = tf.one_hot(shape[-1] - 1, shape[-1], dtype=weights.dtype)
        erased = tf.reduce_sum(by_head, axis=-1, keepdims=True) * is_oldest
        # A slot may be named more than once: what happens to it happens to each entry.
        same = tf.cast(slots[:, :, tf.newaxis] == slots[:, tf.newaxis], weights.dtype)
        erased = tf.linalg.matvec(same, tf.reshape(erased, tf.shape(weights)))
        added = tf.matmul(same, tf.reshape(added, tf.shape(old_rows)))
        return (1.0 - erased)[..., tf.newaxis] * old_rows + added


@keras.saving.register_keras_serializable(package="gated_sam")
class GatedSAM(keras_sam.SAM):
    """Layer of a `GatedSAMCell`, with the arguments of `keras_sam.SAM`."""

    cell_class = GatedSAMCell
