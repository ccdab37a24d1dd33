"""What is left of a layer that was used and deleted: nothing.

support/leaks.py says what is made, what is done with it, and how memory is measured.
"""

import functools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from leaks import COUNTED, DONE, MADE, WARM_UP, alive, used_and_dropped
from placements import LAYERS
from running import SUPPORT

import keras_sam

QUICK_ALIVE = {
    "ntm": ["export"],
    "sam": ["call_under_a_tape", "fit", "export_saved_model"],
    "sam_cell": ["call_under_a_tape"],
    "sdnc": ["call"],
}
# Each is a process that makes some ten layers.
QUICK_GROWTH = {"sam": ["call_under_a_tape"]}
QUICK_XLA = {"sam_compiled": ["call_under_a_tape"]}
XLA = [name for name in LAYERS if name.endswith("_compiled")]


def pairs(names, quick, uses=DONE):
    return pytest.mark.parametrize(
        ("made", "done"),
        [
            pytest.param(
                made,
                done,
                marks=[pytest.mark.slow] * (done not in quick.get(made, [])),
                id=f"{made}-{done}",
            )
            for made in names
            for done in uses
        ],
    )


@pairs(MADE, QUICK_ALIVE)
def test_nobody_holds_a_layer_that_was_used_and_deleted(made, done):
    weak = used_and_dropped(MADE[made], DONE[done])
    assert alive(weak) == []


@pytest.mark.parametrize("wrapping", ["layer", "plain"])
def test_nobody_holds_the_index_and_the_controller_of_a_deleted_layer(wrapping):
    def make():
        return getattr(LAYERS["sam"], wrapping)(
            index=keras_sam.index.LSH(), controller=keras.layers.GRUCell(4)
        )

    weak = used_and_dropped(make, DONE["call_under_a_tape"])
    assert {"layer", "cell", "controller", "index"} == weak.keys()
    assert alive(weak) == []


# Memory, programs and messages, in a process of their own.


@functools.cache
def measured(made, done):
    """What support/leaks.py reports of what was made, and of an LSTM."""
    run = subprocess.run(
        [sys.executable, SUPPORT / "leaks.py", done, "lstm", made],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    report = json.loads(run.stdout.splitlines()[-1])
    return report[made] | {"lstm": report["lstm"]["mib_each"]}


# Keras keeps the graphs of a model's `fit` and `predict`, whatever the layer: 4 MiB for
# an LSTM, more for a layer of more operations, `keras.layers.RNN` around a plain cell
# too (`python tests/support/leaks.py fit lstm ntm`). What `fit` leaves says nothing of
# our layers.
GROWING = [done for done in DONE if done != "fit"]

# TensorFlow keeps the graph of a function that XLA compiles, its loops too, once more
# for each function that calls it, also when both are deleted: 4 MiB for 1,000
# multiplications without keras_sam, 12 for an NTM (`python tests/support/leaks.py
# call_in_a_function lstm compiled_function ntm_compiled`). The XLA kernel of the caller
# looks the graph up (`GetBodyAndConstantsAndResources`) and never gives it back.
GROWING_COMPILED = [done for done in GROWING if done != "call_in_a_function"]


def mib_each(report):
    assert report["lstm"] < 0.5, "The method is not as exact as it must be."
    return report["mib_each"]


@pairs([name for name in MADE if name not in [*XLA, "lstm"]], QUICK_GROWTH, GROWING)
def test_layer_without_xla_leaves_less_than_a_mebibyte(made, done):
    report = measured(made, done)
    assert report["programs"][-1] == 0, "XLA has compiled something."
    assert mib_each(report) < 1.0, report["mib"]


@pairs(XLA, QUICK_XLA, GROWING_COMPILED)
def test_second_compiled_layer_of_the_same_shapes_leaves_less_than_a_mebibyte(
    made, done
):
    report = measured(made, done)
    assert mib_each(report) < 1.0, report["mib"]


COMPILING = ["call_under_a_tape", "call_in_a_function", "fit"]


@pairs(XLA, QUICK_XLA, COMPILING)
def test_second_compiled_layer_of_the_same_shapes_compiles_nothing(made, done):
    report = measured(made, done)
    first, *others = report["programs"]
    assert first >= 2, "Forward and backward are to be compiled."
    assert others == [first] * (WARM_UP + COUNTED - 1)


@pairs(XLA, QUICK_XLA, COMPILING)
def test_compilation_is_announced_once_for_all_layers_of_the_same_shapes(made, done):
    report = measured(made, done)
    first, *others = report["logged"]
    assert first >= 1
    assert others == [first] * (WARM_UP + COUNTED - 1), report["messages"]
    assert len(set(report["messages"])) == len(report["messages"])


@pytest.mark.slow
def test_tensorflow_keeps_what_is_compiled_for_each_function_that_calls_it():
    report = measured("compiled_function", "call_in_a_function")
    assert set(report["programs"]) == {1}
    assert mib_each(report) > 2.0, "Hold the layers to a mebibyte again."


@pytest.mark.slow
def test_memory_and_programs_that_are_kept_are_seen():
    report = measured("ntm", "keep")
    assert np.all(np.diff(report["programs"]) >= 1)
    assert report["mib_each"] > 2.0
