"""Sequences of memory cells as single operations, shared by layers that are alike."""

from keras_sam.recurrence.operation import Operation
from keras_sam.recurrence.programs import is_xla_off, operation_for, xla_off

__all__ = ["Operation", "is_xla_off", "operation_for", "xla_off"]
