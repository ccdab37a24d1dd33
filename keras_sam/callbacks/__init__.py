"""Callbacks for `model.fit`."""

from keras_sam.callbacks.curriculum import (
    Curriculum,
    ExponentialCurriculum,
    LessonCurriculum,
)

__all__ = ["Curriculum", "ExponentialCurriculum", "LessonCurriculum"]
