"""Memory words that start as a key and a value, for the examples that recall values.

A step shows a value and the key that belongs to it, or shows them one after the other.
A network with random weights rarely finds out by itself that both belong in one word,
and that it has to ask for the key as it has written it.
"""

import keras
import numpy as np

# What is left of the random weights.
REST = 0.03
# What the units see of a key. There their tanh is nearly linear: all keys of a length
# have codes of a length, and the word most like a query is that of the nearest key.
SMALL = 0.2


@keras.saving.register_keras_serializable(package="examples")
class StepBefore(keras.layers.Layer):
    """Appends to the features of each step some of an earlier step, 0 at the first.

    Args:
        features: Integer, how many of them, from the first on. Defaults to all.
        steps: Integer, how many steps earlier. Defaults to `1`.
    """

    def __init__(self, features=None, steps=1, **kwargs):
        super().__init__(**kwargs)
        self.features, self.steps = features, steps

    def call(self, sequences):
        before = sequences[:, : -self.steps, : self.features]
        before = keras.ops.pad(before, ((0, 0), (self.steps, 0), (0, 0)))
        return keras.ops.concatenate([sequences, before], axis=-1)

    def get_config(self):
        config = {"features": self.features, "steps": self.steps}
        return {**super().get_config(), **config}


def key_value_start(cell, asked, key, value, seed, value_gates=0.0):
    """Has a cell start with words of a key and a value, by its weights.

    f(key) + g(value) is written at each step and f(asked) is asked for, with random f
    and g. If the parts fit into the units and these into a word, f keeps angles and
    what g adds stands apart. The network has to learn when to write, and what to say of
    what it reads.

    Args:
        cell: A built cell with a dense controller. The units are shared out among the
            parts of the input.
        asked: Slice of the inputs, of as many features as the key.
        key: Slice of the inputs.
        value: Slice of the inputs, perhaps that of `asked`.
        seed: Integer.
        value_gates: Number, what each part of a value of its own adds to the write
            gates. Of values of 1 and -1 it shuts them where there is none, all -1.
            There a step would leave the word that is most like what it asks for.
    """
    kernel, *bias = cell.controller.dense.get_weights()
    width, value_width = asked.stop - asked.start, value.stop - value.start
    # What else the controller sees, such as what was read, differs between the step
    # that writes a key and the step that asks for it.
    kernel *= REST
    # A part of the units for each part of the input.
    own = 0 if value == asked else value_width
    half = (kernel.shape[1] - own) // 2
    of_asked, of_key = slice(0, half), slice(half, 2 * half)
    of_value = slice(2 * half, 2 * half + own) if own else of_asked
    hidden = random_directions((width, half), seed, gain=SMALL)
    kernel[asked, of_asked] += hidden
    kernel[key, of_key] += hidden
    if own:
        kernel[value, of_value] += np.eye(own)
    cell.controller.dense.set_weights([kernel, *bias])

    kernel, *bias = cell.interface.get_weights()
    f, g = np.split(
        random_directions((half + (own or half), cell.word_size), seed + 1), [half]
    )
    f /= 2 * SMALL
    if not own:
        g /= 2 * SMALL
    columns = cell.interface_columns
    kernel[:, columns["queries"]] *= REST
    kernel[:, columns["vectors"]] *= REST
    kernel[of_asked, columns["queries"]] += np.tile(f, cell.read_heads)
    kernel[of_key, columns["vectors"]] += np.tile(f, cell.write_heads)
    kernel[of_value, columns["vectors"]] += np.tile(g, cell.write_heads)
    if own:
        kernel[of_value, columns["write_gates"]] += value_gates
    cell.interface.set_weights([kernel, *bias])


def random_directions(shape, seed, gain=1.0):
    """A random matrix whose rows, or columns if they are fewer, are orthonormal."""
    initializer = keras.initializers.Orthogonal(gain, seed=seed)
    return keras.ops.convert_to_numpy(initializer(shape))
