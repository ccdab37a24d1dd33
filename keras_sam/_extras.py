"""Packages that an extra of keras_sam installs, imported where they are needed."""

import importlib


def import_matplotlib(module="matplotlib"):
    """Imports matplotlib or a module of it.

    Args:
        module: String, the full name of the module.

    Returns:
        The module.

    Raises:
        ImportError: If matplotlib is missing. The message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            "keras_sam draws pictures with matplotlib, which could not be imported. "
            'Install it with `pip install "keras_sam[viz]"`.'
        ) from error
