"""A SAM that looks labels up by embeddings, with nothing to train.

A word is an embedding of length one, its key, and a code of a label, its value. The
query is the embedding that comes in; nothing is written; the output scores the labels
by the values read.
"""

import keras
import numpy as np

import keras_sam

CODE = 64  # numbers of a label's code
READS = 4  # words of a query
# Beside an embedding of length one: words are found by these, hardly by their codes.
CODE_LENGTH = 0.25
# Of two words the one that is more alike by 0.05 counts e^2 times as much.
STRENGTH = 40.0


def make_memory(slots, features, codes):
    """A layer from embeddings `[batch, time, features]` to scores of labels.

    Args:
        slots: Integer, how many words there will be.
        features: Integer.
        codes: Array `[labels, CODE]`, of length one.
    """
    layer = keras_sam.SAM(
        len(codes),
        memory_slots=slots,
        word_size=features + CODE,
        read_heads=1,
        reads_per_head=READS,
        index="exact",
        # The controller's output is the input: the embedding.
        controller=keras.layers.SimpleRNNCell(
            features,
            activation="linear",
            use_bias=False,
            kernel_initializer="identity",
            recurrent_initializer="zeros",
        ),
        gated_erase=True,
        clip_value=None,
        return_sequences=True,
        name="memory",
    )
    layer.build((None, None, features))
    set_by_hand(layer.cell, codes)
    return layer


def set_by_hand(cell, codes):
    """Has a cell ask for its input, write nothing and score the codes that it reads."""
    kernel, bias = (np.zeros_like(each) for each in cell.interface.get_weights())
    columns = cell.interface_columns
    kernel[:, columns["queries"]] = np.eye(len(kernel), cell.word_size)
    bias[columns["strengths"]] = STRENGTH
    bias[columns["write_gates"]] = -80.0
    cell.interface.set_weights([kernel, bias])
    kernel, bias = map(np.zeros_like, cell.output_projection.get_weights())
    kernel[-CODE:] = codes.T / CODE_LENGTH
    cell.output_projection.set_weights([kernel, bias])


def label_codes(count, seed):
    """A direction for each label, `[count, CODE]`, of length one."""
    bits = np.random.default_rng(seed).integers(2, size=(count, CODE))
    return ((2.0 * bits - 1.0) / np.sqrt(CODE)).astype("float32")


def labelled_words(keys, codes):
    """Words `[count, features + CODE]` of embeddings and of the codes of their labels.

    All codes have one length: the word most like a query is that of the key most like
    it.
    """
    return np.concatenate([keys, CODE_LENGTH * codes], axis=-1)
