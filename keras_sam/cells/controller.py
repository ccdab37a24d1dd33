"""The small network that drives a memory: an LSTM, a dense layer, any cell."""

import copy

import keras
import tensorflow as tf

from keras_sam._compat import DropoutRNNCell


class FeedForwardCell(keras.layers.Layer, DropoutRNNCell):
    """A dense layer that passes for an RNN cell: it has no state.

    The feed-forward controller of [Graves et al., 2014](
    https://arxiv.org/abs/1410.5401): what such a network knows of the past, it
    knows from its memory.
    """

    def __init__(self, units, activation, dropout=0.0, seed=None, **kwargs):
        dense_arguments = {
            name: kwargs.pop(name)
            for name in list(kwargs)
            if name.startswith(("kernel_", "bias_"))
        }
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(
            units, activation, dtype=self.dtype_policy, name="dense", **dense_arguments
        )
        # As in an LSTM cell: one dropout mask for all the steps of a sequence.
        self.dropout = dropout
        self.recurrent_dropout = 0.0
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.state_size = []
        self.output_size = units

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs, states, training=False):
        if training and self.dropout:
            inputs = inputs * self.get_dropout_mask(inputs)
        return self.dense(inputs), []

    def get_initial_state(self, batch_size=None):
        return []


def make_controller(
    controller, units, dtype, activation, lstm_only_arguments, **shared_arguments
):
    """The RNN cell that the `controller` argument of a memory cell names.

    A dense one has the `activation`.
    """
    if controller == "lstm":
        return keras.layers.LSTMCell(
            units,
            dtype=dtype,
            name="controller",
            **shared_arguments,
            **lstm_only_arguments,
        )
    if controller == "dense":
        return FeedForwardCell(
            units, activation, dtype=dtype, name="controller", **shared_arguments
        )
    if isinstance(controller, dict):
        # A copy: StackedRNNCells takes its cells out of the dictionary it gets.
        controller = keras.saving.deserialize_keras_object(copy.deepcopy(controller))
    return check_cell("controller", controller, '"lstm", "dense" or ')


def check_cell(name, cell, or_else=""):
    """Returns a Keras RNN cell, or says what else the argument may be."""
    is_cell = all(hasattr(cell, attribute) for attribute in ("call", "state_size"))
    # A layer takes a whole sequence, not one step.
    if is_cell and not isinstance(cell, keras.layers.RNN):
        return cell
    raise ValueError(
        f"`{name}` must be {or_else}a Keras RNN cell (an object with "
        "`call` and `state_size`, such as keras.layers.GRUCell(100)). "
        f"Received: {name}={cell!r}"
    )


def serialize(controller):
    """A controller's configuration, as if it had not been built.

    The memory cell builds it, before or after it is saved.
    """

    def without_build(config):
        if isinstance(config, dict):
            return {
                name: without_build(value)
                for name, value in config.items()
                if name != "build_config"
            }
        if isinstance(config, list | tuple):
            return [without_build(value) for value in config]
        return config

    return without_build(keras.saving.serialize_keras_object(controller))


def mask_makers(controller):
    """Of a controller and the cells in it those that keep dropout masks."""
    inner = getattr(controller, "cells", [])
    makers = [each for cell in inner for each in mask_makers(cell)]
    return [controller, *makers] if isinstance(controller, DropoutRNNCell) else makers


def output_size(controller):
    """The width of a controller's output."""
    size = getattr(controller, "output_size", None)
    return size if size is not None else keras.tree.flatten(controller.state_size)[0]


def initial_state(controller, batch_size, dtype):
    """A controller's state before the first step: a list of tensors."""
    if hasattr(controller, "get_initial_state"):
        return controller.get_initial_state(batch_size=batch_size)
    return keras.tree.map_structure(
        lambda size: tf.zeros((batch_size, size), dtype), controller.state_size
    )
