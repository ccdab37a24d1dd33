"""Twin of Dense Access Memory (Rae et al. 2016), SAM's dense model. NumPy, float64.

Numbers in brackets are the paper's equations.
"""

import numpy as np

from . import common

GIVEN_USAGE = 1.0
NO_SLOT = -1


def run(
    weights,
    inputs,
    *,
    memory_slots,
    word_size,
    read_heads,
    write_heads=1,
    discount=0.99,
    clip_value=20.0,
    controller="lstm",
    given_memory=None,
    mask=None,
    gated_erase=False,
):
    """Run DAM over inputs [B, T, F].

    write_heads is 1, or read_heads for one write head beside every read head.
    given_memory [rows, W] or [B, rows, W] fills the first rows of the memory. A step
    whose mask [B, T] is False changes nothing.

    Returns, each as it stands at the end of its step, `outputs` [B, T, O], `memory`
    [B, T, N, W], `read_weights` [B, T, R, N], `write_weights` [B, T, H, N],
    `least_used_slots` [B, T, H] (by the usage before the step; they were erased),
    `read_vectors` [B, T, R, W], `usage` [B, T, N] and `controller_state`, a tuple of
    [B, U] arrays after the last step. A masked step repeats the values of the step
    before it, but has no `least_used_slots` (-1) and writes nothing (zeros).
    """
    if write_heads not in (1, read_heads):
        raise ValueError(f"write_heads is 1 or {read_heads}, not {write_heads}")
    if write_heads > memory_slots:
        raise ValueError(f"{write_heads} write heads need as many slots")
    weights = common.as_float64(weights)
    inputs = np.array(inputs, dtype=np.float64)
    if mask is None:
        mask = np.ones(inputs.shape[:2], dtype=bool)
    traces, final_states = [], []
    for b in range(len(inputs)):
        memory = np.full((memory_slots, word_size), common.MEMORY_CONSTANT)
        usage = np.zeros(memory_slots)
        if given_memory is not None:
            given = np.array(given_memory, dtype=np.float64)
            rows = given[b] if given.ndim == 3 else given
            if rows.shape != (len(rows), word_size) or len(rows) > memory_slots:
                raise ValueError(f"no room for a given memory of shape {rows.shape}")
            for slot in range(len(rows)):
                memory[slot] = rows[slot]
                usage[slot] = GIVEN_USAGE
        steps, final_state = _run_example(
            weights,
            inputs[b],
            [bool(real) for real in mask[b]],
            memory,
            usage,
            read_heads,
            write_heads,
            discount,
            clip_value,
            controller,
            gated_erase,
        )
        traces.append(steps)
        final_states.append(final_state)
    return common.stack_traces(traces, final_states)


def _run_example(
    weights,
    inputs,
    mask,
    memory,
    usage,
    read_heads,
    write_heads,
    discount,
    clip_value,
    controller,
    gated_erase,
):
    slots, word_size = memory.shape
    state = common.initial_controller_state(controller, weights)
    read_vectors = common.initial_read_vectors(weights, read_heads, word_size)
    read_weights = np.zeros((read_heads, slots))
    output = np.zeros(len(weights["output_bias"]))

    steps = []
    for x, real in zip(inputs, mask, strict=True):
        write_weights = np.zeros((write_heads, slots))
        least_used = [NO_SLOT] * write_heads
        if real:
            # Controller, on the input and the previous step's read vectors.
            chi = np.concatenate([x, read_vectors.reshape(-1)])
            h, state = common.controller_step(controller, weights, chi, state)
            interface = h @ weights["interface_kernel"] + weights["interface_bias"]
            p = _split_interface(
                common.clip(interface, clip_value), word_size, read_heads, write_heads
            )

            # Write, from w^R_{t-1} and U_{t-1}.
            least_used = _least_used(usage, write_heads)
            for head in range(write_heads):
                write_weights[head] = _write_weights(
                    # One write head follows the mean of the read heads.
                    sum(read_weights) / read_heads
                    if write_heads == 1
                    else read_weights[head],
                    p["write_gates"][head],
                    p["interpolation_gates"][head],
                    least_used[head],
                )
            erased = np.ones(write_heads)
            if gated_erase:
                erased = p["write_gates"] * (1.0 - p["interpolation_gates"])
            memory = _write(
                memory, write_weights, least_used, erased, p["write_vectors"]
            )

            # Read from M_t. (1): r = sum_i w(i) M_t(i).
            read_weights = np.array(
                [
                    common.content_weights(
                        memory, p["queries"][head], p["strengths"][head]
                    )
                    for head in range(read_heads)
                ]
            )
            read_vectors = np.zeros((read_heads, word_size))
            for head in range(read_heads):
                for i in range(slots):
                    read_vectors[head] += read_weights[head, i] * memory[i]

            # U1: U_t(i) = lambda U_{t-1}(i) + w^W_t(i) + w^R_t(i), summed over heads.
            usage = discount * usage
            for head in range(write_heads):
                usage = usage + write_weights[head]
            for head in range(read_heads):
                usage = usage + read_weights[head]
            output = common.output_step(weights, h, read_vectors, clip_value)

        steps.append(
            {
                "outputs": output,
                "memory": memory,
                "read_weights": read_weights,
                "write_weights": write_weights,
                "least_used_slots": least_used,
                "read_vectors": read_vectors,
                "usage": usage,
            }
        )
    return steps, state


def _split_interface(interface, word_size, read_heads, write_heads):
    """p_t = (q_t, its strength, a_t, alpha_t, gamma_t), head by head in each block."""
    split = common.Splitter(interface)
    p = {
        "queries": split.take(read_heads, word_size),  # q
        "strengths": common.oneplus(split.take(read_heads)),
        "write_vectors": split.take(write_heads, word_size),  # a
        "write_gates": common.sigmoid(split.take(write_heads)),  # alpha
        "interpolation_gates": common.sigmoid(split.take(write_heads)),  # gamma
    }
    split.finish()
    return p


def _least_used(usage, count):
    """Return the `count` least used slots, least used first; ties by slot number."""
    return sorted(range(len(usage)), key=lambda slot: (usage[slot], slot))[:count]


def _write_weights(previous, write_gate, interpolation_gate, least_used):
    """(5): w^W_t(i) = alpha (gamma w^R_{t-1}(i) + (1 - gamma) I^U(i))."""
    weights = np.zeros(len(previous))
    for i in range(len(previous)):
        indicator = 1.0 if i == least_used else 0.0  # (6)
        weights[i] = write_gate * (
            interpolation_gate * previous[i] + (1.0 - interpolation_gate) * indicator
        )
    return weights


def _write(memory, write_weights, least_used, erased, write_vectors):
    """(3): erase every least used row, then add by all heads."""
    memory = memory.copy()
    for slot, part in zip(least_used, erased, strict=True):
        memory[slot] *= 1.0 - part
    for head in range(len(write_weights)):
        for i in range(len(memory)):
            memory[i] += write_weights[head, i] * write_vectors[head]
    return memory
