"""However a sparse cell is run, it computes the same, for random configurations."""

import gated_sam
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import keras_sam
from keras_sam.export.frozen import FrozenStream

FEATURES, BATCH, STEPS = 3, 2, 6
NO_SHRINKING = (Phase.explicit, Phase.generate)


@st.composite
def configurations(draw, layer_classes):
    layer_class = draw(st.sampled_from(layer_classes))
    slots, heads = draw(st.integers(2, 9)), draw(st.integers(1, 2))
    arguments = {
        "units": 4,
        "memory_slots": slots,
        "word_size": draw(st.integers(1, 4)),
        "read_heads": heads,
        "write_heads": draw(st.sampled_from([1, heads])),
        "reads_per_head": draw(st.integers(1, min(slots, 3))),
        "usage_threshold": draw(st.sampled_from([0.005, 0.2])),
        "gated_erase": draw(st.booleans()),
        "controller": draw(st.sampled_from(["lstm", "dense"])),
        "zero_output_for_mask": draw(st.booleans()),
    }
    if layer_class is keras_sam.SDNC:
        arguments |= {
            "links_per_slot": draw(st.integers(1, min(slots, 3))),
            "key_masks": draw(st.booleans()),
            "link_sharpening": draw(st.booleans()),
        }
    steps = st.lists(st.booleans(), min_size=STEPS, max_size=STEPS)
    mask = draw(st.none() | st.lists(steps, min_size=BATCH, max_size=BATCH))
    return layer_class, arguments, mask, draw(st.integers(0, 2**16))


def outputs_of_all(layer_class, arguments, mask, seed, jit_compile):
    """The outputs of a cell after a context, by what runs it; and final memories."""
    rng = np.random.default_rng(seed)
    layer = layer_class(
        **arguments,
        dtype="float64",
        return_sequences=True,
        return_state=True,
        jit_compile=jit_compile,
    )
    layer.build((None, None, FEATURES))
    layer.set_weights([0.7 * rng.normal(size=w.shape) for w in layer.get_weights()])
    words = rng.normal(size=(arguments["memory_slots"], arguments["word_size"]))
    plain = keras.layers.RNN(
        layer.cell,
        return_sequences=True,
        return_state=True,
        zero_output_for_mask=arguments["zero_output_for_mask"],
        dtype="float64",
    )
    context, inputs = (
        tf.constant(rng.normal(size=(batch, STEPS, FEATURES))) for batch in (1, BATCH)
    )
    _, *start = plain(context, initial_state=layer.get_initial_state(1, memory=words))
    mask = None if mask is None else tf.constant(mask)
    state = [tf.repeat(value, BATCH, axis=0) for value in start]
    (outputs, *final), (own, *own_final) = (
        each(inputs, initial_state=state, mask=mask) for each in (plain, layer)
    )
    stream = FrozenStream(layer, start)

    @tf.function(autograph=False)
    def run_frozen(inputs):
        return stream.run(inputs, stream.initial_state(BATCH), mask)[0]

    results = {"cell": outputs, "layer": own, "frozen": run_frozen(inputs)}
    return results, (final, own_final)


def check(layer_class, arguments, mask, seed, jit_compile):
    results, (final, own_final) = outputs_of_all(
        layer_class, arguments, mask, seed, jit_compile
    )
    for name in ("layer", "frozen"):
        np.testing.assert_allclose(
            results[name], results["cell"], rtol=1e-9, atol=1e-9, err_msg=name
        )
    for got, expected in zip(own_final, final, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=3, phases=NO_SHRINKING)
@given(configurations([keras_sam.SAM, gated_sam.GatedSAM]))
def test_a_sam_is_the_same_as_a_cell_in_place_and_frozen(configuration):
    check(*configuration, jit_compile=False)


@pytest.mark.slow
@settings(max_examples=3, phases=NO_SHRINKING)
@given(configurations([keras_sam.SDNC]))
def test_an_sdnc_is_the_same_as_a_cell_in_place_and_frozen(configuration):
    check(*configuration, jit_compile=False)


@pytest.mark.slow
@settings(max_examples=20, phases=NO_SHRINKING)
@given(configurations([keras_sam.SAM, gated_sam.GatedSAM, keras_sam.SDNC]))
def test_many_are_the_same_as_a_cell_in_place_and_frozen(configuration):
    check(*configuration, jit_compile=False)


@pytest.mark.slow
@settings(max_examples=5, phases=NO_SHRINKING)
@given(configurations([keras_sam.SAM, gated_sam.GatedSAM, keras_sam.SDNC]))
def test_a_few_are_the_same_compiled(configuration):
    check(*configuration, jit_compile=True)
