"""Every private part of Keras and TensorFlow that the package uses, with its reason.

Whoever moves the package to another version of either reads this page.
"""

import contextlib
import functools

import keras
import tensorflow as tf
from keras.src import backend
from keras.src.backend.common import global_state
from keras.src.backend.common.variables import AutocastScope
from keras.src.layers.layer import CallContext

# The RNN layers of Keras ask cells of this class for new dropout masks.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell
from keras.src.models.functional import Functional

# `_create_state_variables` of keras.layers.RNN is decorated with it.
from keras.src.utils.tracking import no_automatic_dependency_tracking
from tensorflow.python.eager import record
from tensorflow.python.framework import ops as tf_ops
from tensorflow.python.ops import control_flow_util

__all__ = [
    "DropoutRNNCell",
    "call_context",
    "custom_gradient",
    "in_xla",
    "is_recorded",
    "no_automatic_dependency_tracking",
    "without_values",
]


def in_xla():
    """Whether the graph that is being built is for XLA."""
    # TensorFlow has no public question for it.
    graph = tf_ops.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def is_recorded(tensors):
    """Whether a `tf.GradientTape` watches any of the tensors."""
    # A tape can be asked what it watches only by who holds it.
    return record.should_record_backprop(tf.nest.flatten(tensors))


def custom_gradient(forward, gradient, arguments):
    """The results of `forward`, with a gradient of their own.

    `tf.custom_gradient` puts each gradient that is made in a graph into a registry, for
    the life of the process: the graph, and the layers that it mentions, are never
    freed. Here the gradient belongs to the operation in the graph.

    Args:
        forward: Function from the arguments to a list of tensors.
        gradient: Function from the gradients of the results to a list of those of the
            arguments.
        arguments: List of tensors.

    Returns:
        List of tensors.
    """
    arguments = [tf.convert_to_tensor(argument) for argument in arguments]
    with record.stop_recording():
        results = forward(*arguments)
        if tf.executing_eagerly():
            sources, backward = arguments, gradient
            outputs = [tf.identity(result) for result in results]
        else:
            sources = [*results, *arguments]

            def backward(*upstream):
                of_arguments = gradient(*upstream[: len(results)])
                return [*[None] * len(results), *of_arguments]

            graph = tf_ops.get_default_graph()
            with graph._override_gradient_function(
                {"IdentityN": lambda operation, *upstream: backward(*upstream)}
            ):
                outputs = tf.identity_n(sources)
    record.record_operation("keras_sam", outputs, sources, backward)
    return outputs[: len(results)]


def set_gradient(operation, gradient):
    """Gives an operation of a graph a gradient of its own, instead of its kind's.

    Args:
        operation: A `tf.Operation`.
        gradient: Function from the operation and the gradients of its outputs to a list
            of those of its inputs.
    """
    # As `_override_gradient_function` does for all operations of a kind.
    operation._gradient_function = gradient


@contextlib.contextmanager
def call_context(layer, training):
    """Layers called within it are called by `layer`, with this `training`."""
    # A layer hands `training` down in this way when it is called itself; a pass that
    # is traced later, such as a gradient, has nobody who does.
    state, name = global_state, "current_call_ctx"
    before = state.get_global_attribute(name)
    context = CallContext(layer)
    context.set_value("training", training)
    state.set_global_attribute(name, context)
    try:
        yield
    finally:
        state.set_global_attribute(name, before)


@contextlib.contextmanager
def without_values():
    """Keras variables made within it never get a value."""
    # A stateless scope puts off their values; Keras would make them up for later.
    state, name = global_state, "uninitialized_variables"
    before = list(state.get_global_attribute(name, []))
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        state.set_global_attribute(name, before)


def run_functional(model, inputs, call):
    """The outputs of a functional or sequential model, its layers called by `call`.

    Args:
        model: A `keras.Model` that `is_functional`.
        inputs: List of tensors.
        call: Function of a layer and of the arguments that it is called with.
    """
    # A model runs its layers by itself, in the graph that it keeps of them.
    # keras.models.clone_model would call them again, and leave its nodes with them.
    functional = getattr(model, "_functional", None) or model
    inputs = functional._standardize_inputs(inputs)
    return functional._run_through_graph(
        inputs, operation_fn=lambda layer: functools.partial(call, layer)
    )


def is_functional(layer):
    """Whether a layer is a model that does no more than run its layers in order."""
    plain = (keras.Sequential.call, Functional.call)
    has_graph = getattr(layer, "_functional", layer)
    return (
        isinstance(layer, keras.Model)
        and type(layer).call in plain
        and isinstance(has_graph, Functional)
    )


def sublayers(layer):
    """All layers within a layer."""
    return layer._flatten_layers(include_self=False)


def keras_mask(tensor):
    """The mask that Keras sends along with a tensor, or None."""
    return getattr(tensor, "_keras_mask", None)


def set_keras_mask(tensor, mask):
    """Sends a mask along with a tensor, as `Layer.__call__` does."""
    backend.set_keras_mask(tensor, mask)


def autocast(layer):
    """Within it the variables of a layer have its compute dtype."""
    return AutocastScope(layer.compute_dtype)


def map_losses(model, function):
    """Replaces each `keras.losses.Loss` of a compiled model by `function` of it."""
    # `model.loss` has what was given to `compile`: names and functions, too. The object
    # that holds the losses makes them of it when it is built.
    compiled = model._compile_loss
    if compiled is not None:
        compiled._flat_losses[:] = [
            entry._replace(loss=function(entry.loss)) for entry in compiled._flat_losses
        ]


def sum_before_clipping(optimizer, sum_gradients):
    """Lets an optimizer sum gradients over the replicas before it clips them.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, changed in place.
        sum_gradients: Function from a list of gradients to a list of their sums.
    """
    # Keras clips and then sums. No public method lies between the two.
    if "_clip_gradients" in vars(optimizer):
        return
    clip = optimizer._clip_gradients
    optimizer._clip_gradients = lambda gradients: clip(sum_gradients(gradients))
    optimizer._all_reduce_sum_gradients = list
