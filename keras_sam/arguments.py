"""Checks of arguments that say what was expected and what was received."""

import numbers

import keras


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
    # By type too: 0 is not False.
    if not any(type(value) is type(o) and value == o for o in options):
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, options))}. "
            f"Received: {name}={value!r}"
        )
    return value


def is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


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
