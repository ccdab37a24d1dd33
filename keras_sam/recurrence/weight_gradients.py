"""Gradients of weights, summed over the steps of a loop.

To add a weight's gradient at every step touches the whole weight at every step. For
`out = left @ W` the gradient of a step is a product of two thin matrices,
`left^T d_out`. These are kept for a chunk of steps and multiplied once:
`dW = sum_t left_t^T d(left_t W)`. All other uses of a weight are summed step by step.

The gradient of `left` is `d_out W^T`. On a CPU XLA is several times slower with a
matrix turned within the product. So these weights are turned once, before the loop.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_sam._compat import set_gradient

# Steps whose products are summed up at once.
STEPS_PER_PRODUCT = 16

# A batch size that no other axis of a step has, where none is known.
_SOME_BATCH = 7919


class Product(NamedTuple):
    """A matrix product with a weight in the graph that is being built."""

    position: int  # of the weight among the weights
    operation: Any

    @property
    def left(self):  # [batch, inputs]
        return self.operation.inputs[0]

    @property
    def output(self):  # [batch, outputs]
        return self.operation.outputs[0]


class WeightGradients:
    """Sums the gradients of weights that a step of a loop uses.

    Args:
        weights: List of tensors.
        step: Function of a list of tensors, to be used for the weights, and a batch
            size, that computes a step like those of the loop. Its graph alone matters.
        batch_size: Integer, or None where it is not known.
    """

    # What `look` finds.
    _multiplied: Any
    _positions: list[int]
    _widths: list[list[int]]

    def __init__(self, weights, step, batch_size=None):
        batch_size = batch_size or _SOME_BATCH
        self._weights, self._turned = weights, {}

        @tf.function(autograph=False)
        def look():
            self._multiplied = range(len(weights))
            watched = self.watch()
            step(watched.weights, batch_size)
            self._multiplied = watched.multiplied_alone(batch_size)
            products = watched.products
            self._positions = [product.position for product in products]
            self._widths = [
                [product.left.shape[-1] for product in products],
                [product.output.shape[-1] for product in products],
            ]

        look.get_concrete_function()
        self._turned = {
            position: tf.transpose(weights[position])
            for position in set(self._positions)
        }

    def watch(self):
        """Tensors for the weights whose uses in this graph can be seen: a `Watched`."""
        return Watched(self._weights, self._multiplied, self._turned)

    def zeros(self):
        """The sums before the first step."""
        return [tf.zeros_like(weight) for weight in self._weights]

    def empty_factors(self, steps, batch_size):
        """Room for the factors of so many steps: all left ones, and all right ones."""
        if not self._positions:
            return []
        dtype = self._weights[self._positions[0]].dtype
        rows = tf.maximum(batch_size, 1)  # See `_at_least_one`.
        return [tf.zeros((steps, rows, sum(widths)), dtype) for widths in self._widths]

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
    """How a step uses the weights.

    Args:
        weights: List of tensors.
        multiplied: Positions of those whose uses are all products of the left factor
            `[batch, inputs]` with the weight.
        turned: Dictionary of the transposes of these, by position.

    Attributes:
        weights: List of tensors, for the step to use.
    """

    def __init__(self, weights, multiplied, turned):
        self.weights = [tf.identity(weight) for weight in weights]
        self._multiplied, self._turned = multiplied, turned

    def multiplied_alone(self, batch_size):
        """The positions of the weights that are used in no other way.

        A layer that is applied to several rows of each sequence multiplies more rows
        than the batch has.
        """
        self._multiplied = [
            position
            for position, weight in enumerate(self.weights)
            if weight.consumers()
            and all(_is_product(use, weight, batch_size) for use in weight.consumers())
        ]
        return self._multiplied

    @property
    def products(self):
        return [
            Product(position, use)
            for position in self._multiplied
            for use in self.weights[position].consumers()
            if use.type == "MatMul"
        ]

    def analyze(self):
        """Notes the uses so far, before gradients add others.

        Returns:
            List of tensors whose gradients `add` needs.
        """
        self._products = self.products
        for product in self._products:
            turned = self._turned[product.position]
            set_gradient(
                product.operation,
                # None for the weight, whose gradient `multiply` adds up.
                lambda _, upstream, turned=turned: [tf.matmul(upstream, turned), None],
            )
        self._others = sorted(set(range(len(self.weights))) - set(self._multiplied))
        outputs = [product.output for product in self._products]
        return [self.weights[position] for position in self._others] + outputs

    def add(self, sums, factors, step, gradients, update=tf.tensor_scatter_nd_update):
        """Takes in the gradients of a step.

        Args:
            sums: List of tensors, one for each weight.
            factors: List of two tensors `[steps, batch, width]`.
            step: Integer tensor; the factors of a step are kept at its remainder.
            gradients: List of tensors, for what `analyze` returned.
            update: Function to set values with, see `keras_sam.recurrence.buffers`.

        Returns:
            The new sums and factors.
        """
        sums = list(sums)
        for position, gradient in zip(self._others, gradients, strict=False):
            sums[position] += gradient
        if not self._products:
            return sums, factors
        lefts = [product.left for product in self._products]
        new = [
            tf.concat(each, axis=-1) for each in (lefts, gradients[len(self._others) :])
        ]
        at = tf.reshape(step % tf.shape(factors[0])[0], (1, 1))
        return sums, [
            update(factor, at, _at_least_one(each)[tf.newaxis])
            for factor, each in zip(factors, new, strict=True)
        ]


def _at_least_one(rows):
    """The rows, or a row of zeros: nothing can be set in a tensor without elements."""
    if rows.shape[0]:
        return rows
    missing = tf.maximum(1 - tf.shape(rows)[0], 0)
    return tf.pad(rows, [[0, missing], [0, 0]])


def _is_product(operation, weight, batch_size):
    return (
        operation.type == "MatMul"
        and operation.inputs[1] is weight
        and operation.inputs[0].shape[0] == batch_size
        and not operation.get_attr("transpose_a")
        and not operation.get_attr("transpose_b")
    )
