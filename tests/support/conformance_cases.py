"""The cells and layers that contract/test_conformance.py holds to the Keras contract.

A new cell gets every test of that file by one row here.
"""

import dataclasses
from collections.abc import Callable

import keras
from gated_sam import GatedSAM, GatedSAMCell

import keras_sam

FEATURES = 3
SIZES = {"units": 6, "memory_slots": 7, "word_size": 3, "read_heads": 2}
STACK_SIZES = {"units": 6, "memory_slots": 7, "stacks": 3, "read_depth": 2}


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to make a cell, and a layer of the same cell."""

    name: str
    cell_class: type
    layer_class: type
    # From a dropout rate to the arguments beyond SIZES, with a new controller.
    arguments: Callable[[float], dict]
    sizes: dict = dataclasses.field(default_factory=lambda: SIZES, hash=False)
    # For the layer alone.
    layer_arguments: dict = dataclasses.field(default_factory=dict, hash=False)
    # Arguments of the base class that the cell refuses.
    refused: tuple = ()
    # False where the cell leaves out a part of its gradients on purpose.
    exact_gradients: bool = True
    # States that carry no gradient: counts, times, numbers of slots.
    counters: tuple = ()
    # True for a row so like another one that the tests which take longest are left
    # to `python -m pytest -m slow`.
    variant: bool = False
    # True for a row of which all tests are left to it.
    slow: bool = False

    def cell(self, dropout=0.0, **more):
        return self.cell_class(**{**self.sizes, **self.arguments(dropout), **more})

    def layer(self, dropout=0.0, **more):
        arguments = {**self.arguments(dropout), **self.layer_arguments}
        return self.layer_class(**{**self.sizes, **arguments, **more})


def gru(units, rate):
    return keras.layers.GRUCell(units, dropout=rate, recurrent_dropout=rate)


def stacked_cells(rate):
    lstm = keras.layers.LSTMCell(6, dropout=rate, recurrent_dropout=rate)
    return keras.layers.StackedRNNCells([lstm, gru(5, rate)])


SAM = {
    "refused": ("initial_memory",),
    "counters": ("last_access", "time", "index", "read_slots"),
}
# Rounded actions, which have no gradient and are not those of the training, have tests
# of their own.
STACK_RNN = {
    "sizes": STACK_SIZES,
    "refused": keras_sam.StackRNNCell.refused_arguments,
}
# XLA takes seconds for each program of a SAM, and nearly every test makes new ones.
PLAIN_SAM = {**SAM, "layer_arguments": {"jit_compile": False}}
# Of links only slots and weights, which no gradient flows through.
LINKS = {
    "counters": (*SAM["counters"], "link_ends", "precedence"),
    "exact_gradients": False,
}

CASES = [
    Case(
        "ntm_lstm",
        keras_sam.NTMCell,
        keras_sam.NTM,
        lambda rate: {"dropout": rate, "recurrent_dropout": rate},
    ),
    Case(
        "ntm_dense_two_write_heads",
        keras_sam.NTMCell,
        keras_sam.NTM,
        lambda rate: {
            "controller": "dense",
            "dropout": rate,
            "write_heads": 2,
            "shift_range": 2,
            "initial_addressing": "first_slot",
            "initial_memory": "learned",
            "output_size": 4,
        },
        variant=True,
    ),
    Case(
        "ntm_gru_instance",
        keras_sam.NTMCell,
        keras_sam.NTM,
        lambda rate: {
            "controller": gru(5, rate),
            "initial_memory": "random",
            "initial_read_vectors": "zeros",
            "clip_value": None,
        },
        slow=True,
    ),
    Case(
        "dnc_lstm",
        keras_sam.DNCCell,
        keras_sam.DNC,
        lambda rate: {"dropout": rate, "recurrent_dropout": rate},
    ),
    Case(
        "dnc_all_options",
        keras_sam.DNCCell,
        keras_sam.DNC,
        lambda rate: {
            "dropout": rate,
            "recurrent_dropout": rate,
            "bypass_dropout": rate,
            "key_masks": True,
            "mask_min": 0.1,
            "deallocate": True,
            "link_sharpening": True,
            "link_gradients": False,
            "normalize_interface": True,
            "initial_memory": "learned",
            "initial_read_vectors": "learned",
            "clip_value": 5.0,
        },
        exact_gradients=False,
        variant=True,
    ),
    Case(
        "dnc_stacked_cells",
        keras_sam.DNCCell,
        keras_sam.DNC,
        lambda rate: {"controller": stacked_cells(rate), "output_size": 4},
        slow=True,
    ),
    Case(
        "dam_lstm",
        keras_sam.DAMCell,
        keras_sam.DAM,
        lambda rate: {"dropout": rate, "recurrent_dropout": rate},
        counters=("usage",),
        variant=True,
    ),
    Case(
        "dam_dense_two_write_heads",
        keras_sam.DAMCell,
        keras_sam.DAM,
        lambda rate: {
            "controller": "dense",
            "dropout": rate,
            "write_heads": 2,
            "discount": 0.9,
            "gated_erase": True,
            "initial_memory": "learned",
            "initial_read_vectors": "learned",
            "output_size": 4,
        },
        counters=("usage",),
        slow=True,
    ),
    Case(
        "mann_lstm",
        keras_sam.MANNCell,
        keras_sam.MANN,
        lambda rate: {"dropout": rate, "recurrent_dropout": rate},
        counters=("usage",),
        variant=True,
    ),
    Case(
        "mann_all_options",
        keras_sam.MANNCell,
        keras_sam.MANN,
        lambda rate: {
            "controller": "dense",
            "dropout": rate,
            "usage_decay": 0.9,
            "initial_memory": "learned",
            "initial_read_vectors": "learned",
            "output_size": 4,
        },
        counters=("usage",),
        slow=True,
    ),
    Case(
        "dntm_two_reads",
        keras_sam.DNTMCell,
        keras_sam.DNTM,
        lambda rate: {
            "dropout": rate,
            "recurrent_dropout": rate,
            "address_size": 1,
            "reads_per_step": 2,
        },
        refused=("initial_memory",),
        variant=True,
    ),
    Case(
        "dntm_all_options",
        keras_sam.DNTMCell,
        keras_sam.DNTM,
        lambda rate: {
            "controller": gru(5, rate),
            "address_size": 2,
            "write_heads": 2,
            "addressing": "discrete",
            "initial_read_vectors": "learned",
            "output_size": 4,
        },
        refused=("initial_memory",),
        exact_gradients=False,
        slow=True,
    ),
    Case(
        "sam_lstm",
        keras_sam.SAMCell,
        keras_sam.SAM,
        lambda rate: {"dropout": rate, "recurrent_dropout": rate},
        **PLAIN_SAM,
    ),
    Case(
        "sam_all_options",
        keras_sam.SAMCell,
        keras_sam.SAM,
        lambda rate: {
            "controller": "dense",
            "dropout": rate,
            "write_heads": 2,
            "reads_per_head": 2,
            "index": keras_sam.index.Exact(),
            "usage_threshold": 0.1,
            "gated_erase": True,
            "initial_read_vectors": "learned",
            "clip_value": 5.0,
            "output_size": 4,
        },
        variant=True,
        **PLAIN_SAM,
    ),
    Case(
        "sam_skip_stacked_cells",
        keras_sam.SAMCell,
        keras_sam.SAM,
        lambda rate: {
            "controller": keras_sam.SkipCell(stacked_cells(rate)),
            "reads_per_head": 3,
        },
        slow=True,
        **PLAIN_SAM,
    ),
    Case(
        "sam_compiled",
        keras_sam.SAMCell,
        keras_sam.SAM,
        lambda rate: {"dropout": rate, "recurrent_dropout": rate, "write_heads": 2},
        slow=True,
        **SAM,
    ),
    Case(
        "stack_rnn_dense",
        keras_sam.StackRNNCell,
        keras_sam.StackRNN,
        lambda rate: {"dropout": rate},
        **STACK_RNN,
        variant=True,
    ),
    Case(
        "stack_rnn_gru",
        keras_sam.StackRNNCell,
        keras_sam.StackRNN,
        lambda rate: {
            "controller": gru(5, rate),
            "no_op": False,
            "clip_value": None,
            "output_size": 4,
        },
        **STACK_RNN,
        slow=True,
    ),
    # A cell that is not the package's own.
    Case(
        "gated_sam",
        GatedSAMCell,
        GatedSAM,
        lambda rate: {
            "dropout": rate,
            "recurrent_dropout": rate,
            "write_heads": 2,
            "reads_per_head": 2,
        },
        # contract/test_own_cell.py has what matters most of it.
        slow=True,
        **PLAIN_SAM,
    ),
    Case(
        "sdnc_lstm",
        keras_sam.SDNCCell,
        keras_sam.SDNC,
        lambda rate: {
            "dropout": rate,
            "recurrent_dropout": rate,
            "reads_per_head": 2,
            "links_per_slot": 2,
        },
        # Its graph has three times the operations of a SAM's, to be traced again.
        variant=True,
        **{**PLAIN_SAM, **LINKS},
    ),
    Case(
        "sdnc_all_options",
        keras_sam.SDNCCell,
        keras_sam.SDNC,
        lambda rate: {
            "controller": "dense",
            "dropout": rate,
            "bypass_dropout": rate,
            "write_heads": 2,
            "reads_per_head": 2,
            "links_per_slot": 3,
            "gated_erase": True,
            "key_masks": True,
            "mask_min": 0.1,
            "link_sharpening": True,
            "normalize_interface": True,
            "initial_read_vectors": "learned",
            "clip_value": 5.0,
        },
        slow=True,
        **{**PLAIN_SAM, **LINKS},
    ),
    Case(
        "sdnc_compiled",
        keras_sam.SDNCCell,
        keras_sam.SDNC,
        lambda rate: {"dropout": rate, "write_heads": 2, "links_per_slot": 3},
        slow=True,
        **{**SAM, **LINKS},
    ),
]
