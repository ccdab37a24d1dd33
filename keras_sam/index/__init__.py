"""Lookups of the words most like a query, interchangeable."""

from typing import Any, Literal

import keras

from keras_sam.index.base import Index
from keras_sam.index.exact import Exact
from keras_sam.index.lsh import LSH
from keras_sam.index.scann import ScaNN

IndexLike = Literal["auto", "exact", "lsh", "scann"] | dict[str, Any] | Index

_BY_NAME = {"exact": Exact, "lsh": LSH, "scann": ScaNN}


# `"auto"` is exact search up to here. It costs little as long as few words have been
# written, and the best words of a model in training are not much better than the next.
EXACT_UP_TO = 2**16


def get(identifier: IndexLike, memory_slots: int | None = None) -> Index:
    """An index by its name, from its configuration, or as it is.

    Args:
        identifier: `"exact"`, `"lsh"`, `"scann"`, `"auto"` (exact up to 65,536 slots,
            else LSH), a dictionary as `keras.saving.serialize_keras_object` makes of
            an index, or an `Index`.
        memory_slots: Integer N, which decides on `"auto"`.

    Returns:
        An `Index`.

    Raises:
        ValueError: If the name is unknown, or `"auto"` is asked for without
            `memory_slots`.

    Example:

    >>> keras_sam.index.get("auto", memory_slots=128).is_exact
    True
    """
    if isinstance(identifier, str) and identifier == "auto":
        if memory_slots is None:
            raise ValueError('index="auto" needs `memory_slots`. Received: None')
        return Exact() if memory_slots <= EXACT_UP_TO else LSH()
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, Index):
        return identifier
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    raise ValueError(
        f"`index` must be 'auto', one of {', '.join(map(repr, _BY_NAME))} or an Index. "
        f"Received: index={identifier!r}"
    )


__all__ = ["LSH", "Exact", "Index", "ScaNN", "get"]
