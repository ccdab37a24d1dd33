"""Features of the position that longer sequences than those of training have, too."""

import math

import keras
import numpy as np
import tensorflow as tf

from keras_sam.arguments import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_sam")
class RandomPositions(keras.layers.Layer):
    """Appends cosines and sines of the steps since the start or since the last flag.

    A SAM finds a word by the word's contents alone. If each step comes with the code
    of its position, the SAM can write this code into the word and ask for it later.
    `keras_sam.SinePositions` has the same code for a position in all sequences, so
    that a longer sequence has codes that training never showed. Here each training
    sequence counts from random angles of its own. The network learns to find the same
    position, wherever the count has begun.

    With p steps since the start or the last flag, and k = 0, ..., `planes - 1`, the
    features are

        cos(a_k p + b_k),  sin(a_k p + b_k)

    with fixed speeds a_k. In training the angles b_k are random, others for each
    sequence and call. Else they are fixed, and no two of them are the same.

    Args:
        planes: Integer, how many k there are. Defaults to `16`.
        **kwargs: As of `keras.layers.Layer`.

    Call arguments:
        sequences: Tensor `[batch, time, features]`; the last feature is the flag, 0 or
            1. A mask of the tensor passes unchanged.
        training: Boolean, whether the angles b_k are random.

    Returns:
        Tensor `[batch, time, features + 2 planes]`.

    Raises:
        ValueError: If `planes` is not a positive integer.

    Reference: after the random positions of Ruoss et al. 2023
    (https://arxiv.org/abs/2305.16843).

    Example:

    >>> sequences = np.zeros((1, 5, 2), "float32")
    >>> sequences[0, 2, -1] = 1.0  # the flag: counting begins again
    >>> outputs = keras_sam.RandomPositions(planes=3)(sequences)
    >>> outputs.shape
    TensorShape([1, 5, 8])
    >>> np.allclose(outputs[0, 3, 2:], outputs[0, 0, 2:])  # one step after each
    True
    """

    def __init__(self, planes=16, **kwargs):
        super().__init__(**kwargs)
        self.planes = check_positive_integer("planes", planes)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, sequences, training=False):
        flags = sequences[..., -1]
        time = tf.cumsum(tf.ones_like(flags), axis=1)  # 1, 2, ...
        marks = tf.where(flags > 0, time, 0.0)[:, tf.newaxis]
        # At each step those up to it; the latest is the largest.
        marks = tf.tile(marks, (1, tf.shape(time)[1], 1))
        last = tf.reduce_max(tf.linalg.band_part(marks, -1, 0), axis=-1)
        # Trained models depend on these numbers.
        speeds, starts = np.random.RandomState(0).uniform(
            [[0.1], [0.0]], [[3.0], [2 * math.pi]], (2, self.planes)
        )
        angles = (time - last)[..., tf.newaxis] * tf.cast(speeds, sequences.dtype)
        starts = tf.cast(starts, sequences.dtype)
        if training:
            shape = (tf.shape(sequences)[0], 1, self.planes)
            starts = keras.random.uniform(
                shape, 0.0, 2 * math.pi, sequences.dtype, self.seed_generator
            )
        angles += starts
        return tf.concat([sequences, tf.cos(angles), tf.sin(angles)], axis=-1)

    def compute_output_shape(self, sequences_shape):
        *leading, features = sequences_shape
        return (*leading, features + 2 * self.planes)

    def get_config(self):
        return {**super().get_config(), "planes": self.planes}


# The name under which files from before 0.1.0 have the layer, which was in examples/.
keras.saving.get_custom_objects()["keras_sam_examples>Positions"] = RandomPositions
