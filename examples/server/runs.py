"""A sequence of a task: what a trained memory does with it, step by step."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from keras_sam import tasks, visualize

from .captions import copy_captions, recall_captions, traversal_captions
from .errors import RequestError
from .looking import Looking, as_json, compile_step, rounded

# Seeds of sequences.
MOST_SEED = 999
# Slots that a picture has room for.
MOST_SLOTS = 64
# A link below it leaves no trace on the eye.
LEAST_LINK = 0.02


class Task(NamedTuple):
    """A task that the page shows."""

    sequences: Callable  # of a seed and a list of sizes
    size: str  # what a size counts
    least: int
    most: int
    start: int  # what the page begins with
    captions: Callable


def traversals(seed, lessons):
    chosen = [tasks.TRAVERSAL_LESSONS[number - 1] for number in lessons]
    return tasks.traversal_sequences(seed, chosen)


TASKS = {
    "copy": Task(tasks.copy_sequences, "vectors", 1, 30, 10, copy_captions),
    "associative_recall": Task(
        tasks.associative_recall_sequences, "items", 2, 12, 5, recall_captions
    ),
    "traversal": Task(traversals, "lesson", 1, 7, 2, traversal_captions),
}


class Runs(Looking):
    """Trained models of the tasks above; see `Looking`."""

    def takes(self, path, results):
        is_one = results.get("recipe", {}).get("task") in TASKS
        return is_one and (path / "model.keras").is_file()

    def load(self, path, results):
        model = keras.models.load_model(path / "model.keras", compile=False)
        compile_step(model.get_layer("memory"))
        return model

    def task(self, name):
        return self.known[name][1]["recipe"]["task"]

    def models(self):
        """What can be asked for."""
        return [
            {
                "name": name,
                "layer": self.layer_name(name),
                "task": self.task(name).replace("_", " "),
                **TASKS[self.task(name)]._replace(sequences=0, captions=0)._asdict(),
                "most_seed": MOST_SEED,
            }
            for name in sorted(self.known, key=lambda n: [*TASKS].index(self.task(n)))
        ]

    def read(self, body):
        """A request, checked: the model's name, the size and the seed."""
        name = self.name_in(body)
        task = TASKS[self.task(name)]
        limits = {"size": (task.least, task.most), "seed": (0, MOST_SEED)}
        for key, (least, most) in limits.items():
            value = body.get(key)
            if type(value) is not int or not least <= value <= most:
                raise RequestError(
                    400,
                    f"'{key}' must be an integer from {least} to {most}. "
                    f"Received: {str(value)[:20]}",
                )
        return name, body["size"], body["seed"]

    def look(self, asked):
        """Reads, writes, usage and links over time, and what the model says."""
        name, size, seed = asked
        task = TASKS[self.task(name)]
        inputs, targets, weights = (each[0] for each in task.sequences(seed, [size]))
        steps = 1 + np.flatnonzero(weights)[-1]  # the rest is padding
        inputs, targets, asked = inputs[:steps], targets[:steps], weights[:steps] > 0
        model = self.loaded(name)
        layer = model.get_layer("memory")
        place = model.layers.index(layer)
        features = through(model.layers[:place], inputs)
        recording = visualize.record(layer, features, max_slots=MOST_SLOTS)
        outputs = through(model.layers[place + 1 :], recording.outputs)
        links = links_over_time(layer, features, recording.slots)
        if targets.ndim == 2:  # bits
            right = (outputs.round() == targets).all(-1)
        else:  # digits, one-hot
            right = (outputs.argmax(-1) == targets.argmax(-1)).all(-1)
        return as_json(
            {
                "captions": task.captions(inputs, outputs, asked),
                "right": np.where(asked, right, None).tolist(),
                "panels": [
                    *panels_of_answers(inputs, targets, outputs, asked),
                    *panels_of_memory(recording),
                ],
                "slots": recording.slots.tolist(),
                "memory_slots": recording.memory_slots,
                "links": links,
            }
        )


def through(layers, sequence):
    """What layers make of one sequence `[time, ...]`."""
    batch = np.asarray(sequence)[np.newaxis]
    for layer in layers:
        batch = layer(batch)
    return np.asarray(batch)[0]


def links_over_time(layer, features, slots):
    """For each step (from, to, weight) of links; indices of `slots`. None if none."""
    if not hasattr(layer.cell, "links_among"):
        return None
    keep = {"links": lambda state: layer.cell.links_among(state, slots)}
    links = np.asarray(layer.trace(features[np.newaxis], keep=keep)["links"])[0]
    # They are from the column's slot to the row's.
    return [
        [[int(a), int(b), round(float(of[b, a]), 3)] for b, a in places]
        for of, places in ((of, np.argwhere(of > LEAST_LINK)) for of in links)
    ]


def panel(name, values, rows, kind, dark=1.0, light=0.0):
    """A picture over time: values `[time, rows]`, and what is drawn dark and light."""
    content = {"name": name, "values": rounded(values), "rows": list(rows)}
    return {**content, "kind": kind, "dark": dark, "light": light}


def panels_of_answers(inputs, targets, outputs, asked):
    pictures = {"inputs": inputs, "targets": targets, "outputs": outputs}
    shown = []
    for name, values in pictures.items():
        values = values.reshape(len(values), -1)
        if name != "inputs":
            values = np.where(asked[:, np.newaxis], values, np.nan)
        rows = [f"{name[:-1]} {n}" for n in range(values.shape[1])]
        shown.append(panel(name, values, rows, name))
    return shown


def of_heads(name, weights):
    heads = weights.shape[1]
    return name if heads == 1 else f"{name}, the most of {heads} heads"


def panels_of_memory(recording):
    slots = [f"slot {slot}" for slot in recording.slots]
    panels = [
        panel(of_heads(kind, weights), weights.max(axis=1), slots, kind)
        for kind, weights in (
            ("writes", recording.write_weights),
            ("reads", recording.read_weights),
        )
    ]
    if recording.usage is not None:
        name, ends = recording.usage_name, (1.0, 0.0)
        if name != "usage":  # steps since: few are dark
            ends = (0.0, float(len(recording.usage)))
        panels.append(panel(name, recording.usage, slots, "usage", *ends))
    if recording.read_modes is not None:
        modes = recording.read_modes.transpose(0, 2, 1)
        heads = range(1, 1 + modes.shape[2])
        kinds = ("backward", "by content", "forward")
        rows = [f"{kind}, head {head}" for kind in kinds for head in heads]
        panels.append(panel("read modes", modes.reshape(len(modes), -1), rows, "gates"))
    if recording.gates:
        rows = [
            f"{name.replace('_', ' ')} {number + 1}"
            for name, gates in recording.gates.items()
            for number in range(gates.shape[1])
        ]
        values = np.concatenate([*recording.gates.values()], axis=1)
        panels.append(panel("gates", values, rows, "gates"))
    return panels
