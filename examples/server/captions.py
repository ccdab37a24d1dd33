"""What happens at each step of a sequence of a task, in words.

Each function takes inputs `[time, channels]`, outputs and what counts as an answer,
`[time]`, and returns a list of strings, one for each step.
"""

import numpy as np


def copy_captions(inputs, outputs, asked):
    shown = len(inputs) - asked.sum() - 1
    return [
        *(f"sees vector {n} of {shown}" for n in range(1, 1 + shown)),
        "sees the delimiter: now repeat",
        *(f"says vector {n} of {shown}" for n in range(1, 1 + asked.sum())),
    ]


def recall_captions(inputs, outputs, asked):
    captions, items, queries, vector = [], 0, 0, 0
    for (item_begins, query_ends), is_answer in zip(
        inputs[:, -2:] > 0, asked, strict=True
    ):
        items, queries = items + item_begins, queries + query_ends
        vector = 0 if item_begins or query_ends else vector + 1
        if is_answer:
            captions.append(f"says vector {vector} of the item that came after it")
        elif vector:
            what = "the item asked for" if queries else f"item {items}"
            captions.append(f"sees vector {vector} of {what}")
        elif queries:
            captions.append(f"sees that the query {('begins', 'ends')[queries - 1]}")
        else:
            captions.append(f"sees that item {items} begins")
    return captions


def traversal_captions(inputs, outputs, asked):
    shown = inputs[:, :90].reshape(-1, 3, 3, 10)
    said = outputs.reshape(-1, 3, 3, 10)
    captions, is_query = [], False
    for step, is_answer in enumerate(asked):
        is_query |= inputs[step, 90] > 0
        if is_answer:
            triple = edge(said[step])
            captions.append("says the end" if triple == END else f"says {triple}")
        else:
            what = "is asked for" if is_query else "sees the edge"
            captions.append(f"{what} {edge(shown[step])}")
    return captions


def edge(digits):
    """A triple of labels of three one-hot digits each; `...` stands for an open one."""
    names = [
        "".join(map(str, np.argmax(label, -1))) if np.any(label) else "..."
        for label in digits
    ]
    return "{} –{}→ {}".format(*names)


END = edge(np.eye(10)[np.zeros((3, 3), int)])
