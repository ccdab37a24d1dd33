"""The latest version of a SavedModel: JSON in, JSON out."""

import contextlib
import functools
import json
import math
import time
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from .errors import RequestError
from .workers import Group

# ScaNN's operations, where there are such, for models that look words up with it.
with contextlib.suppress(ImportError, tf.errors.NotFoundError):
    import scann  # noqa: F401

STATUS_OF = {
    tf.errors.InvalidArgumentError: 400,
    tf.errors.ResourceExhaustedError: 429,
}
# So many sequences of different requests are answered by one call at most.
MOST_TOGETHER = 32
# So many sequences take about as long as one.
AT_ONCE = 8
# What a batch is filled up to for a program that XLA compiles. Larger ones take as long
# as several of these.
COMPILED_BATCHES = (1, 2, 4, 8)
# How fast the measured time of a step follows the last calls.
NEWEST = 0.2


class Question(NamedTuple):
    """A call of a signature, checked."""

    signature: str
    values: dict[str, np.ndarray | tf.Tensor]  # tensors are states
    sequences: int
    steps: int  # of each sequence
    rows: int | None = None  # as many as were asked for in the row format


class Servable:
    """The latest version of a model, called by name.

    Args:
        folder: Path with a folder for each version.
        max_batch: Integer, the sequences of a request.
        max_work: Integer, the steps of all sequences of a request.
        max_bytes: Integer, what the states of a request may take.
        compiled_steps: Integer, the longest sequences that XLA's programs are made for,
            if the model has the signature `compiled`; 0 for none.

    Attributes:
        version: Integer.
        bytes_per_sequence: Integer, what the states of a sequence take, 0 where the
            SavedModel does not say.
    """

    def __init__(
        self, folder, max_batch=256, max_work=4096, max_bytes=2**29, compiled_steps=0
    ):
        self.version = latest_version(folder)
        self._max_batch, self._max_work = max_batch, max_work
        self._max_bytes = max_bytes
        # Kept: signatures do not keep what they need.
        self._loaded = tf.saved_model.load(folder / str(self.version))
        self._signatures = self._loaded.signatures
        self._seconds = {}  # of a step, by signature
        self.bytes_per_sequence = 0
        if "initial_state" in self._signatures:
            states = self._signatures["initial_state"].structured_outputs.values()
            self.bytes_per_sequence = sum(map(bytes_of_a_row, states))
        self._compiled_steps = 0
        for name in self._signatures.keys() - {"compiled"}:
            self._warm_up(name)
        if "compiled" in self._signatures and self._pads_in_time("compiled"):
            self._compile(compiled_steps)

    def _warm_up(self, name):
        """TensorFlow prepares a function at its first call, for seconds."""
        if name == "initial_state":
            question = Question(name, {"batch_size": np.int32(1)}, 1, 1)
        else:
            question = Question(name, self._zeros(name, 1, 1), 1, 1)
        # Of the second call it is known how long a step takes.
        with contextlib.suppress(RequestError):
            self.call(question)
            del self._seconds[name]
            self.call(question)

    def _compile(self, longest):
        """XLA makes a program for each size at its first call, for seconds."""
        steps = 4
        while steps <= longest:
            for sequences in COMPILED_BATCHES:
                zeros = self._zeros("compiled", sequences, steps)
                self.call(Question("compiled", zeros, sequences, steps))
            self._compiled_steps, steps = steps, 2 * steps

    def _zeros(self, name, sequences, steps):
        return {
            key: np.zeros(
                [size or n for size, n in zip_longest(spec.shape, (sequences, steps))],
                spec.dtype.as_numpy_dtype,
            )
            for key, spec in self.inputs_of(name).items()
        }

    def _pads_in_time(self, name):
        """Whether steps at the end change nothing of those before."""
        specs = [*self.inputs_of(name).values()]
        specs += self.signature(name).structured_outputs.values()
        in_time = all(spec.shape[:2] == [None, None] for spec in specs)
        return "step" in self._signatures and in_time

    def signature(self, name):
        if name not in self._signatures:
            raise RequestError(
                400, f"Serving signature name: {name!r} not found in signature def"
            )
        return self._signatures[name]

    def inputs_of(self, name):
        """The signature's inputs: `tf.TensorSpec` by name."""
        return self.signature(name).structured_input_signature[1]

    def metadata(self):
        def describe(specs):
            return {
                key: {
                    "dtype": f"DT_{spec.dtype.name.upper()}",
                    "tensor_shape": [-1 if n is None else n for n in spec.shape],
                }
                for key, spec in specs.items()
            }

        return {
            name: {
                "inputs": describe(self.inputs_of(name)),
                "outputs": describe(signature.structured_outputs),
            }
            for name, signature in self._signatures.items()
        }

    def question(self, name, values):
        """Checks a call of a signature.

        Args:
            name: String, of the signature.
            values: Dictionary of nested lists, or of tensors that are known to fit.

        Returns:
            A `Question`.
        """
        specs = self.inputs_of(name)
        if values.keys() != specs.keys():
            raise RequestError(
                400, f"Expected the inputs {sorted(specs)}. Received: {sorted(values)}"
            )
        checked, sizes = {}, [(1, 1)]
        for key, spec in specs.items():
            value = values[key]
            if isinstance(value, tf.Tensor):  # a state, from here
                checked[key] = value
                continue
            array = checked[key] = self._array(key, spec, value)
            if not array.ndim:  # `batch_size`
                sizes.append((int(array), 1))
            elif spec.shape[1:2] == [None]:
                sizes.append(array.shape[:2])
            else:
                sizes.append((len(array), 1))
        sequences, steps = map(max, zip(*sizes, strict=True))
        if sequences * steps > self._max_work:
            raise RequestError(
                400,
                f"A request has at most {self._max_work} steps, of all sequences "
                f"together. Received: {sequences} of {steps} steps",
            )
        question = Question(name, checked, sequences, steps)
        if self.bytes(question) > self._max_bytes:
            raise RequestError(
                400,
                f"The states of a request have at most {self._max_bytes} bytes. "
                f"Those of {sequences} sequences take {self.bytes(question)}",
            )
        return question

    def seconds(self, question):
        """What the answer will take, from what the last ones took; else infinity."""
        size = self._compiled_size(question)
        name = "compiled" if size else question.signature
        sequences, steps = size or (question.sequences, question.steps)
        return self._seconds.get(name, math.inf) * steps_in_turn(sequences, steps)

    def bytes(self, question):
        """What the states take while the answer is made."""
        return self.bytes_per_sequence * question.sequences

    def call(self, question):
        """Tensors by name."""
        tensors = {key: tf.constant(each) for key, each in question.values.items()}
        start = time.perf_counter()
        try:
            outputs = self.signature(question.signature)(**tensors)
        except tf.errors.OpError as error:
            raise RequestError(
                STATUS_OF.get(type(error), 500), error.message
            ) from error
        spent = time.perf_counter() - start
        of_a_step = spent / steps_in_turn(question.sequences, question.steps)
        before = self._seconds.get(question.signature, of_a_step)
        self._seconds[question.signature] = before + NEWEST * (of_a_step - before)
        return outputs

    def _array(self, name, spec, value):
        dtype = spec.dtype.as_numpy_dtype
        try:
            array = np.asarray(value)
        except ValueError:  # lists of different lengths
            array = np.asarray(None)
        kinds = "iuf" if spec.dtype.is_floating else "iu"
        # An empty list has no numbers to judge.
        if array.dtype.kind not in kinds and array.size:
            raise RequestError(
                400,
                f"{name!r} must be a tensor of {spec.dtype.name}, nested lists of "
                "equal lengths",
            )
        with np.errstate(over="ignore", invalid="ignore"):
            converted = array.astype(dtype)
        if not spec.dtype.is_floating and not np.array_equal(converted, array):
            raise RequestError(400, f"{name!r} has numbers beyond {spec.dtype.name}")
        if spec.shape.rank and 0 in array.shape[:2]:
            raise RequestError(
                400,
                f"{name!r} must have a sequence, of a step, at least. Received: shape "
                f"{list(array.shape)}",
            )
        if not spec.shape.is_compatible_with(array.shape):
            expected = [-1 if n is None else n for n in spec.shape]
            raise RequestError(
                400,
                f"{name!r} must be of shape {expected}. Received: {list(array.shape)}",
            )
        batch = array.shape[0] if array.ndim else int(array)
        if batch > self._max_batch:
            raise RequestError(
                400, f"{name!r}: at most {self._max_batch} sequences. Received: {batch}"
            )
        if not np.all(np.isfinite(converted)):
            raise RequestError(
                400, f"{name!r} must be finite numbers, of {spec.dtype.name}"
            )
        return converted

    def read(self, body):
        """The `Question` of a request in TensorFlow Serving's row or column format."""
        name = body.get("signature_name", "serving_default")
        if not isinstance(name, str):
            raise RequestError(400, "'signature_name' must be a string")
        keys = list(self.inputs_of(name))
        if ("instances" in body) == ("inputs" in body):
            raise RequestError(
                400, "Request must have either 'instances' (row) or 'inputs' (columnar)"
            )
        if "inputs" in body:
            values = body["inputs"]
            if not isinstance(values, dict):
                values = {keys[0]: values} if len(keys) == 1 else {}
            return self.question(name, values)
        rows = body["instances"]
        if not isinstance(rows, list):
            raise RequestError(400, "'instances' must be a list")
        if rows and isinstance(rows[0], dict):
            if not all(
                isinstance(r, dict) and r.keys() == rows[0].keys() for r in rows
            ):
                raise RequestError(400, "All instances must have the same inputs")
            values = {key: [row[key] for row in rows] for key in rows[0]}
        else:
            values = {keys[0]: rows} if len(keys) == 1 else {}
        return self.question(name, values)._replace(rows=len(rows))

    def group(self, question):
        """What questions must share to be answered by one call; None for none.

        A sequence is padded at its end for those of about the same length, if the model
        goes through sequences chunk by chunk: it then does not look ahead.
        """
        signature = self.signature(question.signature)
        specs = [*self.inputs_of(question.signature).values()]
        outputs = signature.structured_outputs.values()
        if question.signature != "serving_default" or any(
            spec.shape[:1] != [None] for spec in (*specs, *outputs)
        ):
            return None
        shapes = tuple(value.shape[1:] for value in question.values.values())
        steps = question.steps
        if self._pads_in_time(question.signature):
            shapes = tuple(shape[1:] for shape in shapes)
            steps = at_least(steps, 4)
        most = min(MOST_TOGETHER, self._max_work // question.steps)
        if at_least(question.steps, 2) <= self._compiled_steps:
            most, steps = COMPILED_BATCHES[-1], at_least(question.steps, 2)
        if self.bytes_per_sequence:
            most = min(most, self._max_bytes // self.bytes_per_sequence)
        return Group((question.signature, steps, shapes), question.sequences, most)

    def answers(self, questions):
        """The bodies of the answers to questions of a group, or the errors."""
        if len(questions) > 1:
            with contextlib.suppress(RequestError):
                return self._answers_of_one_call(questions)
        return [_or_error(self.answer, question) for question in questions]

    def _answers_of_one_call(self, questions):
        steps = max(question.steps for question in questions)
        padded = [
            _padded(question, question.sequences, steps) for question in questions
        ]
        values = {
            key: np.concatenate([each.values[key] for each in padded])
            for key in questions[0].values
        }
        sequences = [question.sequences for question in questions]
        together = Question(questions[0].signature, values, sum(sequences), steps)
        outputs = self._outputs(together)
        answers = []
        for question, end in zip(questions, np.cumsum(sequences), strict=True):
            start = end - question.sequences
            own = {name: each[start:end] for name, each in outputs.items()}
            if question.steps < steps:
                own = {name: each[:, : question.steps] for name, each in own.items()}
            answers.append(_or_error(self._body, question, own))
        return answers

    def _compiled_size(self, question):
        """Sequences and steps of the program of XLA that has room, or None."""
        steps = at_least(question.steps, 2)
        batches = [n for n in COMPILED_BATCHES if n >= question.sequences]
        compiled = question.signature == "serving_default" and batches
        if not compiled or steps > self._compiled_steps:
            return None
        return batches[0], steps

    def _outputs(self, question):
        """Arrays by name, of a program that is compiled if there is one."""
        size = self._compiled_size(question)
        if size is None:
            return {name: each.numpy() for name, each in self.call(question).items()}
        program = _padded(question, *size)._replace(signature="compiled")
        return {
            name: each.numpy()[: question.sequences, : question.steps]
            for name, each in self.call(program).items()
        }

    def answer(self, question):
        """The body of the answer, as JSON."""
        return self._body(question, self._outputs(question))

    def _body(self, question, outputs):
        if question.rows is None:
            return f'{{"outputs": {outputs_as_json(outputs)}}}'
        if any(np.shape(each)[:1] != (question.rows,) for each in outputs.values()):
            raise RequestError(
                400, "Outputs have no row for each instance; use 'inputs'"
            )
        rows = outputs_as_json(outputs)
        if len(outputs) > 1:
            rows = [
                outputs_as_json(dict(zip(outputs, row, strict=True)))
                for row in zip(*outputs.values(), strict=True)
            ]
            rows = f"[{', '.join(rows)}]"
        return f'{{"predictions": {rows}}}'


def latest_version(folder):
    """The greatest version that is there as a whole."""
    versions = [
        int(path.parent.name)
        for path in folder.glob("*/saved_model.pb")
        if path.parent.name.isdecimal()
    ]
    if not versions:
        raise SystemExit(f"No version of a model, such as {folder}/1.")
    return max(versions)


def steps_in_turn(sequences, steps):
    """A step of some sequences takes as long as that of one."""
    return steps * math.ceil(sequences / AT_ONCE)


def at_least(steps, base):
    """The least power of 2 or 4, from 4 on, that is no smaller than `steps`."""
    return max(4, base ** math.ceil(math.log(steps, base) - 1e-9))


def _padded(question, sequences, steps):
    """The question with zeros at the end of values `[batch, time, ...]`."""
    more = (sequences - question.sequences, steps - question.steps)
    if not any(more):
        return question
    values = {
        key: np.pad(value, [(0, n) for n in more] + [(0, 0)] * (value.ndim - 2))
        for key, value in question.values.items()
    }
    return question._replace(values=values, sequences=sequences, steps=steps)


def _or_error(function, *arguments):
    try:
        return function(*arguments)
    except RequestError as error:
        return error


def bytes_of_a_row(spec):
    return spec.dtype.size * math.prod(size or 1 for size in spec.shape[1:])


def outputs_as_json(outputs):
    """The JSON of an array, or of arrays by name where there are several."""
    if len(outputs) == 1:
        return array_as_json(first(outputs))
    parts = [f"{json.dumps(k)}: {array_as_json(v)}" for k, v in outputs.items()]
    return f"{{{', '.join(parts)}}}"


def array_as_json(array):
    """Nested lists of numbers, with the digits that tell floats of a kind apart."""
    array = np.asarray(array)
    if array.dtype.kind != "f":
        return json.dumps(array.tolist())
    if not np.all(np.isfinite(array)):  # which JSON has no word for
        raise RequestError(500, "The model's answer has numbers that are not finite")
    digits = 17 if array.dtype.itemsize > 4 else 9
    return pattern(array.shape, digits) % tuple(array.ravel().tolist())


@functools.lru_cache(maxsize=256)
def pattern(shape, digits):
    """Nested lists of a shape, with a place for each number."""
    return json.dumps(np.zeros(shape, int).tolist()).replace("0", f"%.{digits}g")


def first(outputs):
    return next(iter(outputs.values()))
