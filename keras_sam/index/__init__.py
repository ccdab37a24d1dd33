"""Lookups of the words most like a query, interchangeable."""

import keras

from keras_sam.index.base import Index
from keras_sam.index.exact import Exact

_BY_NAME = {"exact": Exact}


def get(identifier):
    """An index by its name, from its configuration, or as it is.

    Args:
        identifier: `"exact"`, a dictionary as `keras.saving.serialize_keras_object`
            makes of an index, or an `Index`.

    Returns:
        An `Index`.

    Raises:
        ValueError: If the name is unknown.

    Example:

    >>> keras_sam.index.get("exact").is_exact
    True
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, Index):
        return identifier
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    raise ValueError(
        f"`index` must be one of {', '.join(map(repr, _BY_NAME))} or an Index. "
        f"Received: index={identifier!r}"
    )


__all__ = ["Exact", "Index", "get"]
