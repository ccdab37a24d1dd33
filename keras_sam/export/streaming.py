"""The recurrent layers of a model, run from given states to their last ones.

What a model computes of a sequence is a function of the sequence alone. To go on with
a sequence later, or from somewhere else than the start, the states of all its
recurrent layers have to go in and come out as well, wherever in the model they are.
"""

import keras
import tensorflow as tf

from keras_sam import _compat
from keras_sam.index.frozen import Resources


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
        self.resources = Resources(start=self._start)

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

    def run(self, sequences, states, mask, steps=None):
        """The layer's outputs, and a dictionary like `states` of the last ones.

        Args:
            sequences: Tensor `[batch, time, features]`.
            states: Dictionary of tensors, see `initial_state`.
            mask: Optional boolean tensor `[batch, time]`.
            steps: Optional scalar integer tensor: the steps after these are padding,
                and may be left out.
        """
        layer, flat = self.layer, list(states.values())
        structure = layer.state_size
        if keras.tree.is_nested(structure):
            flat = keras.tree.pack_sequence_as(structure, flat)
        with _compat.call_context(layer, training=False), _compat.autocast(layer):
            last_output, outputs, last = layer.inner_loop(
                tf.cast(sequences, layer.compute_dtype), list(flat), mask
            )
        outputs = outputs if layer.return_sequences else last_output
        return outputs, dict(zip(states, keras.tree.flatten(last), strict=True))


def recurrent_layers(model):
    """The recurrent layers of a Keras model, nested ones too, by their names.

    Raises:
        ValueError: If two have the same name.
    """
    layers = {}
    for layer in _compat.sublayers(model):
        if isinstance(layer, keras.layers.RNN):
            if layer.name in layers:
                raise ValueError(
                    "Each recurrent layer of a model needs a name of its own here, by "
                    f"which its states are called. Received twice: {layer.name!r}"
                )
            layers[layer.name] = layer
    return layers


def run_model(model, inputs, streams, states, steps=None):
    """Runs a model whose recurrent layers go on from given states.

    The layers are left as they are. Layers that are not among the streams, or are
    given their state by the model, are called as always.

    Args:
        model: A functional or sequential `keras.Model`.
        inputs: What the model takes.
        streams: Dictionary of `Stream` by name.
        states: Dictionary of their states by name.
        steps: Optional scalar integer tensor, see `Stream.run`.

    Returns:
        The model's outputs; a dictionary of the last states, by name.

    Raises:
        ValueError: If a layer of `streams` is called twice, is given its state by the
            model, or is where the model's graph does not show it.
    """
    last = {}

    def call(layer, *args, **kwargs):
        if _compat.is_functional(layer):
            return _compat.run_functional(layer, args[0], call)
        if getattr(layer, "name", None) not in streams or not isinstance(
            layer, keras.layers.RNN
        ):
            return layer(*args, **kwargs)
        return call_stream(layer.name, *args, **kwargs)

    def call_stream(name, sequences, initial_state=None, mask=None, **_):
        if initial_state is not None or name in last:
            raise ValueError(
                "Only a recurrent layer that the model calls once, without an "
                f"`initial_state`, can go on from another state. Received: {name!r}"
            )
        stream = streams[name]
        mask = _compat.keras_mask(sequences) if mask is None else mask
        outputs, last[name] = stream.run(sequences, states[name], mask, steps)
        if mask is not None and stream.layer.return_sequences:
            _compat.set_keras_mask(outputs, mask)
        if stream.layer.return_state:
            return outputs, *last[name].values()
        return outputs

    if streams and _compat.is_functional(model):
        outputs = call(model, inputs)
    else:
        outputs = model(inputs, training=False)
    hidden = sorted(streams.keys() - last.keys())
    if hidden:
        raise ValueError(
            "A recurrent layer goes on from another state only where the graph of a "
            "functional or sequential model shows it: not inside of a layer such as "
            "keras.layers.Bidirectional, nor of a model or layer with a `call` of its "
            f"own. Received: the layers {hidden}"
        )
    return outputs, last
