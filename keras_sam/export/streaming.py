"""The recurrent layers of a model, run from given states to their last ones.

What a model computes of a sequence is a function of the sequence alone. To go on with
a sequence later, or from somewhere else than the start, the states of all its
recurrent layers have to go in and come out as well, wherever in the model they are.
"""

import contextlib

import keras
import tensorflow as tf


class Stream:
    """How a recurrent layer goes on from given states.

    Args:
        layer: A `keras.layers.RNN`.
        start: Optional list of tensors `[1, size]`, as the layer's
            `get_initial_state` gives: what every sequence begins with. Defaults to the
            layer's own initial state.
    """

    def __init__(self, layer, start=None):
        self.layer = layer
        self._start = start and [tf.Variable(s, trainable=False) for s in start]
        # What a SavedModel has to hold besides the layer's weights.
        self.resources = tf.Module()
        self.resources.start = self._start

    def initial_state(self, batch_size):
        """The states before the first step: a dictionary of tensors."""
        if self._start is None:
            states = self.layer.get_initial_state(batch_size)
            states = keras.tree.flatten(states)
        else:
            states = [tf.repeat(state, batch_size, axis=0) for state in self._start]
        return dict(zip(self.fields, states, strict=True))

    @property
    def fields(self):
        """The names of the states."""
        count = len(keras.tree.flatten(self.layer.state_size))
        named = list(getattr(self.layer.cell, "state_shapes", {}))
        rest = "controller" if named else "state"
        return named + [f"{rest}_{i}" for i in range(count - len(named))]

    def run(self, sequences, states, mask):
        """The layer's outputs, and a dictionary like `states` of the last ones.

        Args:
            sequences: Tensor `[batch, time, features]`.
            states: Dictionary of tensors, see `initial_state`.
            mask: Optional boolean tensor `[batch, time]`.
        """
        flat = list(states.values())
        structure = self.layer.state_size
        nested = keras.tree.is_nested(structure)
        with _set(self.layer, return_state=True):
            outputs, *last = type(self.layer).call(
                self.layer,
                sequences,
                initial_state=(
                    keras.tree.pack_sequence_as(structure, flat) if nested else flat
                ),
                mask=mask,
            )
        last = keras.tree.flatten(last)
        return outputs, dict(zip(states, last, strict=True))


def recurrent_layers(model):
    """The recurrent layers of a Keras model, nested ones too, by their names.

    Raises:
        ValueError: If two have the same name.
    """
    layers = {}
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.RNN):
            if layer.name in layers:
                raise ValueError(
                    "Each recurrent layer of a model needs a name of its own here, by "
                    f"which its states are called. Received twice: {layer.name!r}"
                )
            layers[layer.name] = layer
    return layers


@contextlib.contextmanager
def flowing(streams, states):
    """While the model is called, its recurrent layers go on from given states.

    Args:
        streams: Dictionary of `Stream` by name.
        states: Dictionary of their states by name.

    Yields:
        A dictionary that the last states are put into, by name.

    Raises:
        ValueError: If a layer is called twice, or given states by the model itself.
    """
    last = {}

    def call_of(name, stream):
        def call(sequences, initial_state=None, mask=None, training=False):
            if initial_state is not None or name in last:
                raise ValueError(
                    "Only a recurrent layer that the model calls once, without an "
                    f"`initial_state`, can go on from another state. Received: {name!r}"
                )
            outputs, last[name] = stream.run(sequences, states[name], mask)
            if stream.layer.return_state:
                return outputs, *last[name].values()
            return outputs

        return call

    with contextlib.ExitStack() as stack:
        for name, stream in streams.items():
            stack.enter_context(_set(stream.layer, call=call_of(name, stream)))
        yield last


@contextlib.contextmanager
def plain(layers, xla=False):
    """While the model is called, its recurrent layers keep no states, nor use XLA.

    Args:
        layers: Iterable of recurrent layers.
        xla: Boolean, whether they may use XLA as they are set to.
    """
    with contextlib.ExitStack() as stack:
        for layer in layers:
            for name in ["stateful"] + ["jit_compile", "_jit_compile"] * (not xla):
                if hasattr(layer, name):
                    stack.enter_context(_set(layer, **{name: False}))
        yield


@contextlib.contextmanager
def _set(layer, **attributes):
    """Other attributes of one object, for a while."""
    own = {name: vars(layer)[name] for name in attributes if name in vars(layer)}
    try:
        for name, value in attributes.items():
            setattr(layer, name, value)
        yield
    finally:
        for name in attributes:
            if name in own:
                setattr(layer, name, own[name])
            else:
                delattr(layer, name)
