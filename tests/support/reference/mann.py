"""Twin of the MANN of Santoro et al. 2016, with least recently used access.

NumPy, float64. Numbers in brackets are the paper's equations. Each head has one of the
least used slots, see `keras_sam.MANNCell`.
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
    usage_decay=0.99,
    clip_value=20.0,
    controller="lstm",
    given_memory=None,
    mask=None,
):
    """Run a MANN over inputs [B, T, F].

    given_memory [rows, W] or [B, rows, W] fills the first rows of the memory. A step
    whose mask [B, T] is False changes nothing.

    Returns, each as it stands at the end of its step, `outputs` [B, T, O], `memory`
    [B, T, N, W], `read_weights` and `write_weights` [B, T, R, N], `least_used_slots`
    [B, T, R] (by the usage before the step; they were erased), `read_vectors`
    [B, T, R, W], `usage` [B, T, N] and `controller_state`, a tuple of [B, U] arrays
    after the last step. A masked step repeats the values of the step before it, but has
    no `least_used_slots` (-1) and writes nothing (zeros).
    """
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
            memory[: len(rows)], usage[: len(rows)] = rows, GIVEN_USAGE
        steps, final_state = [], common.initial_controller_state(controller, weights)
        step = {
            "outputs": np.zeros(len(weights["output_bias"])),
            "memory": memory,
            "read_weights": np.zeros((read_heads, memory_slots)),
            "read_vectors": common.initial_read_vectors(weights, read_heads, word_size),
            "usage": usage,
        }
        for x, real in zip(inputs[b], mask[b], strict=True):
            step |= {
                "write_weights": np.zeros((read_heads, memory_slots)),
                "least_used_slots": [NO_SLOT] * read_heads,
            }
            if real:
                step, final_state = _step(
                    weights, x, step, final_state, controller, clip_value, usage_decay
                )
            steps.append(dict(step))
        traces.append(steps)
        final_states.append(final_state)
    return common.stack_traces(traces, final_states)


def _step(weights, x, last, state, controller, clip_value, usage_decay):
    """What a step leaves, from what the last one did."""
    heads, word_size = last["read_vectors"].shape
    chi = np.concatenate([x, last["read_vectors"].reshape(-1)])
    h, state = common.controller_step(controller, weights, chi, state)
    interface = h @ weights["interface_kernel"] + weights["interface_bias"]
    split = common.Splitter(common.clip(interface, clip_value))
    keys = split.take(heads, word_size)  # k
    gates = common.sigmoid(split.take(heads))  # sigma(alpha)
    split.finish()

    # (6): the n-th least used slots of u_{t-1}, n the number of heads; ties by number.
    usage = last["usage"]
    order = sorted(range(len(usage)), key=lambda slot: (usage[slot], slot))[:heads]
    memory = last["memory"].copy()
    for slot in order:
        memory[slot] = 0.0
    write_weights = np.zeros((heads, len(memory)))
    for head in range(heads):
        for i in range(len(memory)):
            # (7): w^w_t = sigma(alpha) w^r_{t-1} + (1 - sigma(alpha)) w^lu_{t-1}.
            least_used = 1.0 if i == order[head] else 0.0
            write_weights[head, i] = (
                gates[head] * last["read_weights"][head, i]
                + (1.0 - gates[head]) * least_used
            )
            # (8): M_t(i) = M_{t-1}(i) + w^w_t(i) k_t.
            memory[i] += write_weights[head, i] * keys[head]

    # (2), (3): w^r_t = softmax(K(k_t, M_t)); (4): r_t = sum_i w^r_t(i) M_t(i).
    read_weights = np.array([common.content_weights(memory, key, 1.0) for key in keys])
    read_vectors = np.array([weights_of @ memory for weights_of in read_weights])
    # (5): w^u_t = gamma w^u_{t-1} + w^r_t + w^w_t, summed over heads.
    usage = usage_decay * usage + sum(read_weights) + sum(write_weights)
    step = {
        "outputs": common.output_step(weights, h, read_vectors, clip_value),
        "memory": memory,
        "read_weights": read_weights,
        "write_weights": write_weights,
        "least_used_slots": order,
        "read_vectors": read_vectors,
        "usage": usage,
    }
    return step, state
