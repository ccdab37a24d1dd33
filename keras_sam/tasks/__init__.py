"""The papers' tasks as endless, seeded `tf.data` streams, and their baseline."""

from keras_sam.tasks.baseline import lstm_baseline
from keras_sam.tasks.copy import copy_sequences, copy_task

__all__ = ["copy_sequences", "copy_task", "lstm_baseline"]
