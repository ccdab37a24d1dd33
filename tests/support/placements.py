"""Where Keras and TensorFlow can put a layer, and what is done with it there.

A new placement is a row of PLACEMENTS, a new layer a row of LAYERS.
"""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

import keras_sam

BATCH, OUTER, STEPS, FEATURES, OUTPUTS = 3, 2, 4, 3, 2
UPDATES = 3
LEARNING_RATE = 0.5


# Layers.


@dataclasses.dataclass(frozen=True)
class Subject:
    """A memory layer, and its cell in Keras's own loop."""

    layer_class: type
    jit_compile: object
    sparse: bool = False
    arguments: tuple = ()
    # Whether the layer runs its sequence as an operation with its own gradient.
    own_sequence: bool = True

    def _sizes(self):
        sizes = {"units": 5, "memory_slots": 8, "word_size": 3, "read_heads": 2}
        sizes |= {"output_size": OUTPUTS}
        if self.sparse:
            sizes |= {"reads_per_head": 2, "index": "exact"}
        return sizes | dict(self.arguments)

    def layer(self, return_sequences=True, **more):
        return self.layer_class(
            **{**self._sizes(), **more},
            jit_compile=self.jit_compile,
            return_sequences=return_sequences,
        )

    def plain(self, return_sequences=True, **more):
        cell = self.layer_class.cell_class(**{**self._sizes(), **more})
        return keras.layers.RNN(cell, return_sequences=return_sequences)

    @property
    def kind(self):
        return self.layer_class.__name__


SDNC_LINKS = (("links_per_slot", 2),)
LAYERS = {
    "ntm": Subject(keras_sam.NTM, "auto", own_sequence=False),
    "ntm_compiled": Subject(keras_sam.NTM, True),
    "dnc": Subject(keras_sam.DNC, "auto", own_sequence=False),
    "dam": Subject(keras_sam.DAM, "auto", own_sequence=False),
    "sam": Subject(keras_sam.SAM, False, sparse=True),
    "sam_compiled": Subject(keras_sam.SAM, "auto", sparse=True),
    "sdnc": Subject(keras_sam.SDNC, False, sparse=True, arguments=SDNC_LINKS),
    "sdnc_compiled": Subject(keras_sam.SDNC, "auto", sparse=True, arguments=SDNC_LINKS),
}


# Models.


def sequential_with_input(make):
    return keras.Sequential([keras.Input((None, FEATURES)), make()])


def sequential_without_input(make):
    return keras.Sequential([make()])


def functional(make):
    inputs = keras.Input((STEPS, FEATURES))
    return keras.Model(inputs, keras.layers.Activation("tanh")(make()(inputs)))


def functional_of_any_length(make):
    inputs = keras.Input((None, FEATURES))
    return keras.Model(inputs, make()(inputs))


class Subclassed(keras.Model):
    """A model whose layers Keras builds by calling it with symbols."""

    def __init__(self, make):
        super().__init__()
        self.memory = make()
        self.readout = keras.layers.Dense(OUTPUTS)

    def call(self, inputs):
        return self.readout(self.memory(inputs))


class OwnTrainStep(Subclassed):
    """A model that takes its gradients itself."""

    def train_step(self, data):
        inputs, targets = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(inputs, training=True) - targets) ** 2)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, variables), variables, strict=True)
        )
        return {"loss": loss}


class WithoutBuild(keras.layers.Layer):
    """A user's layer, which leaves its building to Keras."""

    def __init__(self, make):
        super().__init__()
        self.memory = make()
        self.readout = keras.layers.Dense(OUTPUTS)

    def call(self, inputs):
        return self.readout(self.memory(inputs))


def custom_layer_without_build(make):
    inputs = keras.Input((STEPS, FEATURES))
    return keras.Model(inputs, WithoutBuild(make)(inputs))


def custom_layer_in_a_sequential(make):
    return keras.Sequential([WithoutBuild(make)])


def nested_model(make):
    inputs = keras.Input((None, FEATURES))
    inner = sequential_with_input(make)
    return keras.Model(inputs, keras.layers.Activation("tanh")(inner(inputs)))


def nested_subclassed_model(make):
    inputs = keras.Input((None, FEATURES))
    return keras.Model(inputs, Subclassed(make)(inputs))


def clone(make):
    original = sequential_with_input(make)
    original(np.zeros((BATCH, STEPS, FEATURES), "float32"))
    return keras.models.clone_model(original)


def time_distributed(make):
    inputs = keras.Input((OUTER, None, FEATURES))
    return keras.Model(inputs, keras.layers.TimeDistributed(make())(inputs))


def bidirectional(make):
    inputs = keras.Input((None, FEATURES))
    both = keras.layers.Bidirectional(make(), merge_mode="sum")
    return keras.Model(inputs, both(inputs))


# What is done with them.


class Fitted:
    """A Keras model: compile, fit, predict."""

    def __init__(self, make_model, make, eagerly, built_by="call", jit_compile=False):
        self._model = make_model(make)
        self._model.compile(
            keras.optimizers.SGD(LEARNING_RATE),
            "mse",
            run_eagerly=eagerly,
            jit_compile=jit_compile and not eagerly,
        )
        self._built_by = built_by

    def build(self, inputs, targets):
        if self._built_by == "call":
            self._model(inputs)
        else:
            self._model.optimizer.learning_rate = 0.0
            self.train(inputs, targets)
            self._model.optimizer.learning_rate = LEARNING_RATE
        return self._model.weights

    def train(self, inputs, targets):
        self._model.fit(
            inputs, targets, len(inputs), epochs=UPDATES, shuffle=False, verbose=0
        )

    def answer(self, inputs):
        return self._model.predict(inputs, verbose=0)


class Taped(tf.Module):
    """A layer without a model, under a tape."""

    def __init__(self, make, eagerly, in_function=False):
        super().__init__()
        self.layer = make()
        if in_function and not eagerly:
            self.update = tf.function(self.update)
            self.run = tf.function(self.run)

    def run(self, inputs, training=False):
        return self.layer(inputs, training=training)

    def update(self, inputs, targets):
        with tf.GradientTape() as tape:
            outputs = self.layer(inputs, training=True)
            loss = tf.reduce_mean((outputs - targets) ** 2)
        weights = self.layer.trainable_variables
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.assign_sub(LEARNING_RATE * gradient)

    def build(self, inputs, targets):
        self.run(tf.constant(inputs))
        return self.layer.weights

    def train(self, inputs, targets):
        for _ in range(UPDATES):
            self.update(tf.constant(inputs), tf.constant(targets))

    def answer(self, inputs):
        return self.run(tf.constant(inputs)).numpy()


class Module(tf.Module):
    """A module with a function of its own, as one to be saved."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    @tf.function(input_signature=[tf.TensorSpec([None, None, FEATURES])])
    def run(self, inputs):
        return self.layer(inputs)


class InModule(Taped):
    """A layer trained by one function, and asked by that of a module."""

    def __init__(self, make, eagerly):
        super().__init__(make, eagerly, in_function=True)
        if not eagerly:
            self.module = Module(self.layer)
            self.run = self.module.run


@dataclasses.dataclass(frozen=True)
class Placement:
    """One of them."""

    name: str
    # From a function that makes the layer, and `eagerly`, to a Fitted or Taped.
    place: Callable
    outer: bool = False
    # So like another one that it is left to `python -m pytest -m slow`.
    variant: bool = False


def fitted(make_model, **kwargs):
    return functools.partial(Fitted, make_model, **kwargs)


PLACEMENTS = [
    Placement("sequential_with_input", fitted(sequential_with_input)),
    Placement("sequential_without_input", fitted(sequential_without_input)),
    Placement("functional", fitted(functional)),
    Placement(
        "functional_of_any_length", fitted(functional_of_any_length), variant=True
    ),
    Placement("subclassed_model", fitted(Subclassed)),
    Placement("subclassed_model_built_by_fit", fitted(Subclassed, built_by="fit")),
    Placement("custom_layer_without_build", fitted(custom_layer_without_build)),
    Placement(
        "custom_layer_in_a_sequential",
        fitted(custom_layer_in_a_sequential),
        variant=True,
    ),
    Placement("nested_model", fitted(nested_model), variant=True),
    Placement("nested_subclassed_model", fitted(nested_subclassed_model)),
    Placement("own_train_step", fitted(OwnTrainStep)),
    Placement("clone_model", fitted(clone)),
    Placement("time_distributed", fitted(time_distributed), outer=True),
    Placement("bidirectional", fitted(bidirectional)),
    Placement("tf_module", InModule),
    Placement("tape_eager", Taped),
    Placement("tape_in_function", functools.partial(Taped, in_function=True)),
    Placement(
        "compiled_model", fitted(sequential_with_input, jit_compile=True), variant=True
    ),
    Placement(
        "compiled_subclassed_model", fitted(Subclassed, jit_compile=True), variant=True
    ),
]
PLACEMENTS = {placement.name: placement for placement in PLACEMENTS}


# The same course of events for everything.


def data(outer=False):
    """Inputs and targets; every number is another one, so that nothing is tied."""
    rng = np.random.default_rng(5)
    shape = (BATCH, OUTER, STEPS) if outer else (BATCH, STEPS)
    return (
        rng.normal(size=(*shape, FEATURES)).astype("float32"),
        rng.normal(size=(*shape, OUTPUTS)).astype("float32"),
    )


def spread_weights(weights, seed, scale=0.6):
    """Well-spread values for weights of these shapes, the same for the same seed."""
    rng = np.random.default_rng(seed)
    return [scale * rng.normal(size=weight.shape) for weight in weights]


def assign(weights, values):
    for weight, value in zip(weights, values, strict=True):
        weight.assign(value)


def numbers(weights):
    return [weight.numpy() for weight in weights]


@dataclasses.dataclass(frozen=True)
class Course:
    """What a placed layer had and answered, in the order of events."""

    start: list
    answers: dict  # by the weights that it had: start, trained, others, zeros
    trained: list


def run_course(placement, make, eagerly=False):
    """Builds, trains with SGD, and asks between changes of all weights."""
    keras.utils.set_random_seed(0)
    inputs, targets = data(placement.outer)
    placed = placement.place(make, eagerly=eagerly)
    weights = placed.build(inputs, targets)
    assign(weights, spread_weights(weights, seed=1))
    start = numbers(weights)
    answers = {"start": placed.answer(inputs)}
    placed.train(inputs, targets)
    trained = numbers(weights)
    answers["trained"] = placed.answer(inputs)
    assign(weights, spread_weights(weights, seed=2))
    answers["others"] = placed.answer(inputs)
    assign(weights, [np.zeros(weight.shape) for weight in weights])
    answers["zeros"] = placed.answer(inputs)
    return Course(start, answers, trained)


@functools.cache
def plain_course(placement, kind, arguments=()):
    """The course of keras.layers.RNN(cell) in the same place.

    It runs eagerly: Keras's own loop is the same in a graph, which takes longer.
    """
    subject = next(
        each
        for each in LAYERS.values()
        if each.kind == kind and each.arguments == arguments
    )
    return run_course(placement, subject.plain, eagerly=True)
