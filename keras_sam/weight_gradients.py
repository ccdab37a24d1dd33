"""Gradients of weights, summed over the steps of a loop.

To add the gradient of each weight at each step takes as many additions as there are
weights, although the gradient of a product `left W` with a few rows `left` is a product
of two small matrices. These are kept instead, and those of many steps multiplied at
once: `dW = sum_t left_t^T d(left_t W)`.
"""

import contextlib
from typing import Any, NamedTuple

import tensorflow as tf


class Product(NamedTuple):
    """A matrix product with a weight in the graph that is being built."""

    position: int  # of the weight among the variables
    left: Any  # [batch, inputs]
    output: Any  # [batch, outputs]


class WeightGradients:
    """Sums the gradients of variables that a step of a loop uses.

    Args:
        variables: List of Keras variables.
        step: Function without arguments that computes a step like those of the loop.
            Only its graph is looked at.
    """

    def __init__(self, variables, step):
        self._variables = variables

        @tf.function(autograph=False)
        def look():
            with self.watch() as watched:
                step()
            self._positions = [product.position for product in watched.products]
            self._widths = [
                [product.left.shape[-1] for product in watched.products],
                [product.output.shape[-1] for product in watched.products],
            ]

        look.get_concrete_function()

    @contextlib.contextmanager
    def watch(self):
        """Sees how the operations within it use the variables; gives a `Watched`."""
        graph = tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
        watched = Watched(self._variables)
        yield watched
        watched.look_at(graph.get_operations()[before:])

    def zeros(self):
        """The sums before the first step."""
        return [tf.zeros_like(variable.value) for variable in self._variables]

    def no_factors(self, steps, batch_size):
        """Room for the factors of so many steps: all left ones, and all right ones."""
        if not self._positions:
            return []
        dtype = self._variables[self._positions[0]].value.dtype
        return [
            tf.zeros((steps, batch_size, sum(widths)), dtype) for widths in self._widths
        ]

    def multiply(self, sums, factors):
        """The sums with the products of the factors added."""
        if not self._positions:
            return sums
        sums = list(sums)
        lefts, rights = (
            tf.split(tf.reshape(factor, (-1, sum(widths))), widths, axis=-1)
            for factor, widths in zip(factors, self._widths, strict=True)
        )
        for position, left, right in zip(self._positions, lefts, rights, strict=True):
            sums[position] += tf.matmul(left, right, transpose_a=True)
        return sums


class Watched:
    """How a step uses the variables."""

    def __init__(self, variables):
        self._variables = variables

    def look_at(self, operations):
        self.products = _products_with(self._variables, operations)
        multiplied = {product.position for product in self.products}
        self._others = [
            position
            for position in range(len(self._variables))
            if position not in multiplied
        ]

    @property
    def tensors(self):
        """What `add` needs the gradients of."""
        others = [self._variables[position].value for position in self._others]
        return [*others, *[product.output for product in self.products]]

    def add(self, sums, factors, step, gradients, update=tf.tensor_scatter_nd_update):
        """Takes in the gradients of `tensors` at a step.

        Args:
            sums: List of tensors, one for each variable.
            factors: List of two tensors `[steps, batch, width]`.
            step: Integer tensor; the factors of a step are kept at its remainder.
            gradients: List of tensors.
            update: Function to set values with, see `keras_sam.buffers`.

        Returns:
            The new sums and factors.
        """
        sums = list(sums)
        for position, gradient in zip(self._others, gradients, strict=False):
            sums[position] += gradient
        if not self.products:
            return sums, factors
        lefts = [product.left for product in self.products]
        new = [
            tf.concat(each, axis=-1) for each in (lefts, gradients[len(self._others) :])
        ]
        at = tf.reshape(step % tf.shape(factors[0])[0], (1, 1))
        return sums, [
            update(factor, at, each[tf.newaxis])
            for factor, each in zip(factors, new, strict=True)
        ]


def _products_with(variables, operations):
    """Where variables are the right factor of a matrix product, and nothing else.

    Args:
        variables: List of Keras variables.
        operations: List of operations of the graph that is being built.

    Returns:
        List of `Product`, for the variables that the operations use in no other way.
    """
    graph = tf.compat.v1.get_default_graph()
    positions = {
        id(graph.capture(variable.value.handle)): position
        for position, variable in enumerate(variables)
    }
    products, others = [], set()
    for operation in operations:
        if operation.type != "ReadVariableOp":
            continue
        position = positions.get(id(operation.inputs[0]))
        if position is None:
            continue
        for use in operation.outputs[0].consumers():
            if _is_plain_product(use) and use.inputs[1] is operation.outputs[0]:
                products.append(Product(position, use.inputs[0], use.outputs[0]))
            else:
                others.add(position)
    return [product for product in products if product.position not in others]


def _is_plain_product(operation):
    return operation.type == "MatMul" and not (
        operation.get_attr("transpose_a") or operation.get_attr("transpose_b")
    )
