"""The variables of a cell as tensors that go into a pass and come out of it."""

import contextlib
import itertools
import threading

import keras
import tensorflow as tf

from keras_sam import _compat


class CellVariables:
    """Has a cell use tensors in place of its variables.

    The weights of a cell do not change while it runs. The states of its random number
    generators do: a pass takes them in and gives them out.

    Args:
        cell: A built `keras_sam.MemoryCell`.
    """

    def __init__(self, cell):
        self._cell = cell
        self._weights = cell.weights
        self._drawn = {}
        self._lock = threading.RLock()

    def of(self, cell, training, batch_size):
        """A like cell's weights, and the generators that it draws from.

        Args:
            cell: The cell.
            training: Boolean.
            batch_size: Integer, or None where it is not known.
        """
        generators = _generators(cell)
        drawn = self._drawn_from(training, batch_size or 1)
        return cell.weights, [generators[i] for i in drawn]

    @contextlib.contextmanager
    def tracing(self, weights, seeds, training):
        """While a pass is traced with given tensors, the cell's `CellTensors`.

        Args:
            weights: List of tensors, one for each of the cell's weights.
            seeds: List of tensors, one for each generator that `of` returns.
            training: Boolean.
        """
        generators = _generators(self._cell)
        generators = [generators[i] for i in self._drawn_from(training)]
        # The cell keeps dropout masks for a while: one pass at a time.
        with self._lock, _compat.call_context(self._cell, training):
            try:
                yield CellTensors(self._cell, generators, weights, seeds)
            finally:
                self._cell.reset_dropout_mask()

    def _drawn_from(self, training, batch_size=1):
        if training not in self._drawn:
            self._drawn[training] = self._watch_a_step(training, batch_size)
        return self._drawn[training]

    def _watch_a_step(self, training, batch_size):
        """Which of the generators a step draws from, as positions."""
        cell, generators = self._cell, _generators(self._cell)
        variables = [*self._weights, *generators]
        changed = []

        @tf.function(autograph=False)
        def step():
            before = [tf.zeros(v.shape, v.dtype) for v in variables]
            scope = keras.StatelessScope(
                zip(variables, before, strict=True), initialize_variables=False
            )
            features = cell.input_spec.axes[-1]
            states = [
                tf.zeros((batch_size, size), cell.compute_dtype)
                for size in cell.state_size
            ]
            with scope, _compat.call_context(cell, training):
                inputs = tf.zeros((batch_size, features), cell.compute_dtype)
                cell.call(inputs, states)
            cell.reset_dropout_mask()
            changed.extend(
                scope.get_current_value(variable) is not value
                for variable, value in zip(variables, before, strict=True)
            )

        graph = step.get_concrete_function().graph
        count = len(self._weights)
        _refuse_assigned(cell, itertools.compress(self._weights, changed[:count]))
        _refuse_unknown(cell, graph.variables)
        return [i for i, drawn in enumerate(changed[count:]) if drawn]


class CellTensors:
    """The tensors that a cell uses in place of its variables, during one pass.

    Attributes:
        weights: List of tensors.
        seeds: List of tensors, the states of the generators: what the pass leaves them
            at is put here.
    """

    def __init__(self, cell, generators, weights, seeds):
        self._cell, self._generators = cell, generators
        self.weights, self.seeds = weights, seeds

    @contextlib.contextmanager
    def used(self, seeds, weights=None):
        """Within it the cell uses the tensors.

        Args:
            seeds: List of tensors.
            weights: List of tensors. Defaults to `self.weights`.

        Yields:
            A list; after the block it holds the new seeds.
        """
        variables = [*self._cell.weights, *self._generators]
        values = [*(self.weights if weights is None else weights), *seeds]
        scope = keras.StatelessScope(
            zip(variables, values, strict=True), initialize_variables=False
        )
        after = []
        with scope:
            yield after
        after += [scope.get_current_value(each) for each in self._generators]

    def make_dropout_masks(self, inputs, states):
        """Has the cell make the dropout masks that it keeps for a whole sequence.

        Args:
            inputs: Tensor `[batch, features]`.
            states: List of tensors `[batch, size]`.
        """
        state = self._cell.unpack_state(states)
        with self.used(self.seeds) as seeds:
            self._cell.run_controller(inputs, state.read_vectors, state.controller)
        self.seeds = seeds


def _generators(cell):
    """The variables of a cell that are no weights: its generators' states."""
    weights = {id(weight) for weight in cell.weights}
    return [v for v in cell.variables if id(v) not in weights]


def _refuse_assigned(cell, variables):
    paths = [variable.path for variable in variables]
    if paths:
        raise ValueError(
            "A layer of keras_sam that runs its own sequence cannot have a cell that "
            "assigns its weights while it runs, as keras.layers.BatchNormalization "
            "does. Use the cell in keras.layers.RNN, or another controller, such as "
            "one with keras.layers.LayerNormalization. Received: "
            f"cell {cell.name!r} assigns {paths}"
        )


def _refuse_unknown(cell, variables):
    if variables:
        raise ValueError(
            "All variables of a cell must be known to Keras: make them with "
            "`self.add_weight`, or as an attribute of a layer that is an attribute of "
            f"the cell. Received: cell {cell.name!r} uses "
            f"{[variable.name for variable in variables]}"
        )
