"""Checks of arguments that say what was expected and what was received."""

import math
import numbers
import os
from pathlib import Path

import keras
import numpy as np


def check_positive_integer(name, value, minimum=1):
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Integral)
        or value < minimum
    ):
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}. "
            f"Received: {name}={value!r}"
        )
    return int(value)


def check_option(name, value, options):
    if isinstance(value, np.generic):
        value = value.item()
    # By type too: 0 is not False.
    if not any(type(value) is type(o) and value == o for o in options):
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, options))}. "
            f"Received: {name}={value!r}"
        )
    return value


def check_boolean(name, value):
    return check_option(name, value, (True, False))


def check_path(name, value):
    if not isinstance(value, str | os.PathLike):
        raise ValueError(
            f"`{name}` must be a string or a path. Received: {name}={value!r}"
        )
    return value


def check_folder(name, value):
    """A path that is a folder, or can become one: no part of it is a file."""
    path = Path(check_path(name, value))
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            raise ValueError(
                f"`{name}` must be a folder, or nothing yet. "
                f"Received: {name}={str(value)!r}, where {str(part)!r} is a file"
            )
    return value


def is_number(value):
    """Whether it is a finite real number that is no boolean."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def check_rate(name, value):
    if not is_number(value) or not 0.0 <= value < 1.0:
        raise ValueError(
            f"`{name}` must be a fraction in [0, 1). Received: {name}={value!r}"
        )
    return float(value)


def full_precision_policy(dtype):
    """The policy a memory computes in: a mixed policy's variables, never half.

    Weightings and usages are products of many small numbers, and sparse cells
    carry slot numbers in their float states; half precision loses both.
    """
    policy = (
        keras.config.dtype_policy()
        if dtype is None
        else keras.dtype_policies.get(dtype)
    )
    if policy.variable_dtype not in ("float32", "float64"):
        raise ValueError(
            "A memory cell computes in float32 or float64 (under a mixed policy, in "
            'the dtype of its variables). Pass dtype="float32" or use '
            f'"mixed_{policy.variable_dtype}". Received: dtype={policy.name!r}'
        )
    return keras.DTypePolicy(policy.variable_dtype)
