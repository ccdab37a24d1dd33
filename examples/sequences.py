"""The tasks of keras_sam.tasks for examples/train.py: streams, model, tests."""

import inspect
import itertools

import keras
import numpy as np
import tensorflow as tf
from key_values import key_value_start
from training import (
    export,
    layer_class,
    memory_adam,
    set_interface_bias,
    with_memory_slots,
    writing_shut,
)
from triples import triple_start
from walks import walks

import keras_sam

USAGE = """```python
import numpy as np
import tensorflow as tf

model = tf.saved_model.load("{folder}/1")
inputs = np.zeros((1, 10, {channels}), "float32")  # batch, time, channels
outputs = model.serve(inputs)
```

The docstring of `keras_sam.tasks.{task}_task` says what the channels mean.
"""

# The cells whose memories may start with words of a key and a value, or of triples.
STARTED = ("sam", "sdnc")


def digits_cross_entropy(y_true, y_pred):
    """The cost of a step, `[batch, time]`: the sum over its digits, as in the paper.

    A step may also be one digit or symbol, `[batch, time, classes]`.
    """
    costs = keras.losses.categorical_crossentropy(y_true, y_pred)
    return keras.ops.sum(costs, axis=tuple(range(2, len(costs.shape))))


class SequenceProblem:
    """A task, its streams and its curriculum, if the recipe has one."""

    # What of the memory's inputs names the edges of a path, as of `triple_start`.
    path_edges = None

    def __init__(self, recipe, seed):
        self.task = recipe["task"]
        self.make = getattr(keras_sam.tasks, f"{recipe['task']}_task")
        self.settings = recipe.get("stream", {})
        # What of them is different for sequences that are not trained on.
        self.evaluation = recipe.get("evaluation", {})
        self.batch_size = recipe["training"]["batch_size"]
        self.seed = seed
        self.positions = recipe.get("positions", False)
        self.interface_bias = recipe.get("interface_bias", {})
        self.key_value_start = recipe.get("key_value_start", False)
        self.value_gates = recipe.get("value_gates", 0.0)
        self.triple_start = recipe.get("triple_start", False)
        self.sizes = {}
        self.curriculum = None
        if "curriculum" in recipe:
            settings = dict(recipe["curriculum"])
            kind = getattr(keras_sam.callbacks, settings.pop("class"))
            # The argument of the stream that the level is.
            self.sizes = {settings.pop("argument"): lambda: self.curriculum.level}
            self.curriculum = kind(**settings)
        _, targets, _ = self.stream(0).element_spec
        self.channels = self.stream(0).element_spec[0].shape[-1]
        self.target_shape = tuple(targets.shape[2:])
        # Digits in one-hot form, or one symbol.
        self.is_classes = len(self.target_shape) > 1 or self.task == "formal_language"

    def stream(self, number, batch_size=None, **settings):
        """Stream `number` of this seed: all are different."""
        seed = np.random.SeedSequence([self.seed, number]).generate_state(1)[0]
        sizes = {**self.settings, **self.sizes, **settings}
        return self.make(batch_size or self.batch_size, seed=int(seed), **sizes)

    def training_data(self, steps, epoch=0):
        """All batches from an epoch on, `steps` for each epoch.

        Each epoch has a stream of its own: a run that goes on sees the sequences that
        it would have seen without the interruption.
        """

        def batches():
            for number in itertools.count(2 + epoch):
                yield from self.stream(number).take(steps).as_numpy_iterator()

        data = tf.data.Dataset.from_generator(
            batches, output_signature=self.stream(0).element_spec
        )
        if self.curriculum is None:
            return data.prefetch(tf.data.AUTOTUNE)
        # Batches made ahead of time would be of the level of some steps ago.
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return data.with_options(options)

    @property
    def skips(self):
        """Whether a memory sees inputs and reads beside what its controller says."""
        return self.triple_start

    @property
    def metric(self):
        return "sequence_accuracy" if self.is_classes else "bit_errors"

    @property
    def callbacks(self):
        """What has to be among the callbacks of `fit`, in this order."""
        return [self.curriculum] if self.curriculum else []

    def validation(self, steps):
        """The arguments of `fit` for its validation."""
        return {
            "validation_data": self.stream(0, **self.evaluation),
            "validation_steps": steps,
        }

    def compile(self, model, training, steps):
        schedule = keras.optimizers.schedules.CosineDecay(
            training["learning_rate"], steps, alpha=training.get("final_rate", 0.0)
        )
        if self.is_classes:
            loss, metric = digits_cross_entropy, "SequenceAccuracy"
        else:
            loss, metric = "binary_crossentropy", "BitErrors"
        model.compile(
            memory_adam(schedule, training),
            loss=loss,
            weighted_metrics=[getattr(keras_sam.metrics, metric)()],
            # A curriculum has many lengths, and XLA compiles for each of them; a sparse
            # layer compiles itself for few. XLA cannot compile a ScaNN index, nor a
            # step that several workers share.
            jit_compile=self.curriculum is None
            and not tf.distribute.has_strategy()
            and model.get_layer("memory").cell.supports_jit,
        )

    def input_layers(self):
        """What stands before a cell's layer."""
        if not self.positions:
            return []
        return [keras_sam.RandomPositions(name="positions")]

    def make_model(self, cell, layer):
        """A cell's layer with the settings `layer`, started as the recipe says.

        An LSTM takes the units alone.
        """
        width = int(np.prod(self.target_shape))
        if cell == "lstm":
            layers = [
                keras.layers.LSTM(layer["units"], return_sequences=True, name="memory"),
                keras.layers.Dense(width),
            ]
        else:
            if self.skips and cell in STARTED:
                lstm = keras.layers.LSTMCell(layer["units"])
                layer = {"controller": keras_sam.SkipCell(lstm), **layer}
            layers = [
                layer_class(cell)(
                    **layer, output_size=width, return_sequences=True, name="memory"
                )
            ]
        layers = [*self.input_layers(), *layers]
        if self.is_classes:
            layers.append(keras.layers.Reshape((-1, *self.target_shape)))
        activation = "softmax" if self.is_classes else "sigmoid"
        layers.append(keras.layers.Activation(activation, name="outputs"))
        model = keras.Sequential([keras.Input((None, self.channels)), *layers])
        memory = model.get_layer("memory")
        if isinstance(memory, keras_sam.MemoryRNN):
            set_interface_bias(memory.cell, self.interface_bias)
            if cell in STARTED:
                self.start(memory.cell)
        return model

    def start(self, cell):
        """Sets the weights of a SAM or SDNC, if the recipe asks for a start."""
        if self.triple_start:
            triple_start(cell, self.path_edges)
        if self.key_value_start:
            key_value_start(cell, *self.asked_key_value(), self.seed, self.value_gates)

    def asked_key_value(self):
        """Slices of the memory's inputs, as `key_value_start` takes them."""
        raise NotImplementedError(f"{self.task} has no words of a key and a value.")

    def results(self, model, recipe, smoke=False):
        """What the recipe asks to be tested, for results.json."""
        steps = 2 if smoke else -(-500 // self.batch_size)
        results = {
            "test": evaluate(model, self, steps),
            "test_of_size": evaluate_sizes(model, self, recipe, steps, smoke),
        }
        if "underground" in recipe:
            results["underground"] = evaluate_underground(
                model, self, recipe, steps, smoke
            )
        if recipe["task"] == "dynamic_ngrams":
            n = self.settings.get("n", 6)
            results["test"] |= optimal_cost(model, self.stream(1), steps, n)
        if isinstance(model.get_layer("memory"), keras_sam.MemoryRNN):
            with writing_shut(model):
                results["write_gate_shut"] = evaluate(model, self, steps)
        return results

    def export(self, model, output):
        """A checked SavedModel in `output/1`, and how to use it."""
        examples = next(self.stream(1).as_numpy_iterator())[0]
        export(model, examples, output)
        return self.usage(output)

    def usage(self, output):
        """How the SavedModel is called, as Markdown."""
        return USAGE.format(folder=output.name, channels=self.channels, task=self.task)


def evaluate(model, problem, steps, **sizes):
    """Loss and metric on so many batches of unseen sequences, of given sizes."""
    data = problem.stream(1, **problem.evaluation | sizes)
    return model.evaluate(data, steps=steps, return_dict=True, verbose=0)


def evaluate_sizes(model, problem, recipe, steps, smoke=False):
    """The same for each size that the recipe's table `test` names.

    With `sequences` there, on about so many; with `memory_slots`, with so large a
    memory. A list is of sizes, see `exactly`; all else are settings of the stream.
    """
    settings, results = dict(recipe.get("test", {})), {}
    if "sequences" in settings:
        sequences = settings.pop("sequences")
        settings["batch_size"] = min(sequences, problem.batch_size)
        steps = -(-sequences // problem.batch_size)
    model = enlarged(model, problem, recipe, settings.pop("memory_slots", None))
    sizes = {name: settings.pop(name) for name in tested_sizes(recipe)}
    for name, values in sizes.items():
        for size in values[:1] if smoke else values:
            limits = exactly(problem.make, name, size)
            results[f"{name} {size}"] = evaluate(
                model, problem, steps, **settings, **limits
            )
    return results


def exactly(make, name, size):
    """What asks a stream for one size: its argument `lesson`, or `min_` and `max_`."""
    if name in inspect.signature(make).parameters:
        return {name: size}
    return {f"min_{name}": size, f"max_{name}": size}


def tested_sizes(recipe):
    """The sizes that the recipe's table `test` names lists of."""
    table = recipe.get("test", {})
    return [name for name, value in table.items() if isinstance(value, list)]


def enlarged(model, problem, recipe, memory_slots):
    """The same model with so large a memory, if it has one, ready for tests."""
    cell = model.get_layer("memory").cell
    larger = with_memory_slots(model, cell, memory_slots)
    if larger is not model:
        problem.compile(larger, recipe["training"], steps=1)
    return larger


def evaluate_underground(model, problem, recipe, steps, smoke=False):
    """The same on London's Underground, with other labels for each sequence.

    The recipe's table `underground` names the lengths of the paths, and perhaps
    `memory_slots`. Of shortest paths also `walks`, the share of right `walks` between
    any two stations at the distance.
    """
    make = getattr(keras_sam.tasks, f"{recipe['task']}_sequences")
    settings, sequences = recipe["underground"], steps * problem.batch_size
    model = enlarged(model, problem, recipe, settings.get("memory_slots"))
    results = {}
    for length in settings["length"][: 1 if smoke else None]:
        # Of a given graph, the lesson's lengths alone matter.
        lesson = keras_sam.tasks.Lesson((43, 43), (1, 10), (length, length))
        asked = problem.seed, [lesson] * sequences, keras_sam.tasks.underground()
        *data, weights = make(*asked)
        results[f"length {length}"] = model.evaluate(
            *data,
            sample_weight=weights,
            batch_size=problem.batch_size,
            return_dict=True,
            verbose=0,
        )
        if recipe["task"] == "shortest_path":
            inputs = make(*asked, unique=False)[0]
            share = walks(model, inputs, length, problem.batch_size)
            results[f"length {length}"]["walks"] = share
    return results


def optimal_cost(model, data, steps, n=6):
    """Bits per sequence that dynamic n-grams cost the model, and the least possible."""
    cost, optimal, sequences = 0.0, 0.0, 0
    for inputs, targets, weights in data.take(steps).as_numpy_iterator():
        outputs = np.clip(model.predict_on_batch(inputs), 1e-7, 1 - 1e-7)
        of_truth = np.where(targets > 0.5, outputs, 1 - outputs)[..., 0]
        cost += float((-np.log2(of_truth) * weights).sum())
        optimal += float(
            (keras_sam.tasks.optimal_ngrams(targets, n)[1] * weights).sum()
        )
        sequences += len(inputs)
    return {"cost_bits": cost / sequences, "optimal_cost_bits": optimal / sequences}
