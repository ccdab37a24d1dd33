"""Features that say how far a sequence has come, for cells that find words by content.

A SAM can only look for a word by what is in it. If each step comes with the code of
its position, the SAM can write that into the word and ask for it later. The code must
not be one that is known from training alone: longer sequences have positions that the
network has never seen. So each training sequence counts from random angles of its own
(after the random positions of Ruoss et al., 2023, https://arxiv.org/abs/2305.16843),
and what is learned is to find the same position, wherever it is.
"""

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_sam_examples")
class Positions(keras.layers.Layer):
    """Appends cosines and sines of the steps since the start or since the last flag.

    With p steps since then there are cos(a_k p + b_k) and sin(a_k p + b_k) with fixed
    speeds a_k. In training the angles b_k are random, others for each sequence; else
    they are fixed as well, and not all the same, which training hardly ever sees.

    Args:
        planes: Integer, how many k there are.

    Call arguments:
        inputs: Tensor `[batch, time, features]`; the last feature is the flag, 0 or 1.
        training: Boolean, whether the angles b_k are random.

    Returns:
        Tensor `[batch, time, features + 2 planes]`.
    """

    def __init__(self, planes=16, **kwargs):
        super().__init__(**kwargs)
        self.planes = planes
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs, training=False):
        flags = inputs[..., -1]
        time = tf.cumsum(tf.ones_like(flags), axis=1)  # 1, 2, ...
        marks = tf.where(flags > 0, time, 0.0)[:, tf.newaxis]
        # At each step those up to it; the latest is the largest.
        marks = tf.tile(marks, (1, tf.shape(time)[1], 1))
        last = tf.reduce_max(tf.linalg.band_part(marks, -1, 0), axis=-1)
        speeds, starts = np.random.RandomState(0).uniform(
            [[0.1], [0.0]], [[3.0], [2 * np.pi]], (2, self.planes)
        )
        angles = (time - last)[..., tf.newaxis] * tf.cast(speeds, inputs.dtype)
        if training:
            shape = (tf.shape(inputs)[0], 1, self.planes)
            starts = keras.random.uniform(
                shape, 0.0, 2 * np.pi, inputs.dtype, self.seed_generator
            )
        angles += tf.cast(starts, inputs.dtype)
        return tf.concat([inputs, tf.cos(angles), tf.sin(angles)], axis=-1)

    def get_config(self):
        return {**super().get_config(), "planes": self.planes}
