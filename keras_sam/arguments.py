"""Checks of arguments that say what was expected and what was received."""

import inspect
import math
import numbers
import os
import warnings
from pathlib import Path

import keras
import numpy as np

# The names that arguments had before 0.1.0, and those that they have now. For one
# release configurations load with the old ones.
RENAMED = {
    "initial_weights": "initial_addressing",
    "sharpen_links": "link_sharpening",
    "wipe_freed": "deallocate",
}


def renamed_arguments(cls, names):
    """Those of the names that arguments of a class had, and the names they have now."""

    def takes(name):
        return any(
            name in inspect.signature(base.__init__).parameters for base in cls.__mro__
        )

    # A class of somebody else's may have an argument of the old name.
    return {
        name: RENAMED[name]
        for name in names
        if name in RENAMED and takes(RENAMED[name]) and not takes(name)
    }


def refuse_old_names(cls, arguments):
    """Raises if one of the arguments has another name now."""
    for old, new in renamed_arguments(cls, arguments).items():
        raise ValueError(
            f"Unrecognized keyword arguments passed to {cls.__name__}: `{old}` is "
            f"called `{new}` now. Received: {old}={arguments[old]!r}"
        )


def current_config(cls, config):
    """A configuration of a class with the names that its arguments have now."""
    renamed = renamed_arguments(cls, config)
    for old, new in renamed.items():
        warnings.warn(
            f"The configuration of {config.get('name', cls.__name__)!r} has the key "
            f"`{old}`, which is called `{new}` now. Save the model again: the next "
            "release will not read the old key.",
            DeprecationWarning,
            stacklevel=3,
        )
    return {renamed.get(name, name): value for name, value in config.items()}


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
