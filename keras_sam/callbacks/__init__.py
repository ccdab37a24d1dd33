"""Callbacks for `model.fit`."""

from keras_sam.callbacks.curriculum import (
    Curriculum,
    ExponentialCurriculum,
    LessonCurriculum,
)
from keras_sam.callbacks.run_backup import RunBackup
from keras_sam.callbacks.tensorboard import MemoryTensorBoard

__all__ = [
    "Curriculum",
    "ExponentialCurriculum",
    "LessonCurriculum",
    "MemoryTensorBoard",
    "RunBackup",
]
