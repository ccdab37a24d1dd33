"""Trained models that the page of the server looks inside."""

import functools
import json

import numpy as np
import tensorflow as tf
from training import layer_class

from .errors import RequestError


class Looking:
    """Models of a folder, each loaded when it is asked for the first time.

    Args:
        folder: Path, such as saved_models.
    """

    def __init__(self, folder):
        results = {
            path.parent: json.loads(path.read_text())
            for path in sorted(folder.glob("*/results.json"))
        }
        self.known = {
            path.name: (path, each)
            for path, each in results.items()
            if each.get("cell", "lstm") != "lstm" and self.takes(path, each)
        }
        self.loaded = functools.cache(lambda name: self.load(*self.known[name]))

    def takes(self, path, results):
        """Whether a model is one of these."""
        raise NotImplementedError

    def load(self, path, results):
        """A model, and what is needed with it."""
        raise NotImplementedError

    def name_in(self, body):
        """The model that a request names."""
        name = body.get("model")
        if not isinstance(name, str) or name not in self.known:
            raise RequestError(400, f"'model' must be one of {', '.join(self.known)}")
        return name

    def layer_name(self, name):
        return layer_class(self.known[name][1]["cell"]).__name__


def compile_step(layer):
    """Makes a graph of a layer's step, so that all traces but the first are fast."""
    layer.cell.step = tf.function(layer.cell.step)


def as_json(content):
    """JSON of a look. Numbers that are not finite are refused."""
    try:
        return json.dumps(content, allow_nan=False)
    except ValueError:
        raise RequestError(
            500, "The model's answer has numbers that are not finite"
        ) from None


def rounded(values):
    """Nested lists that are short as JSON; None for what is not a number."""
    values = np.round(np.asarray(values, "float64"), 3)
    return np.where(np.isnan(values), None, values).tolist()
