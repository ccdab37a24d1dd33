"""Twin of the Neural Turing Machine (Graves et al. 2014). Plain NumPy, float64."""

import numpy as np

from . import common


def run(
    weights,
    inputs,
    *,
    memory_slots,
    word_size,
    read_heads=1,
    write_heads=1,
    shift_range=1,
    clip_value=20.0,
    controller="lstm",
):
    """Run the NTM over inputs [B, T, F].

    Returns `outputs` [B, T, O], `memory` [B, T, N, W], `read_weights` [B, T, R, N],
    `write_weights` [B, T, Wh, N], `read_vectors` [B, T, R, W] (each as it stands at
    the end of its step) and `controller_state`, a tuple of [B, U] arrays after the
    last step.
    """
    weights = common.as_float64(weights)
    inputs = np.array(inputs, dtype=np.float64)
    traces, final_states = [], []
    for example in inputs:
        steps, final_state = _run_example(
            weights,
            example,
            memory_slots,
            word_size,
            read_heads,
            write_heads,
            shift_range,
            clip_value,
            controller,
        )
        traces.append(steps)
        final_states.append(final_state)
    return common.stack_traces(traces, final_states)


def _run_example(
    weights,
    inputs,
    memory_slots,
    word_size,
    read_heads,
    write_heads,
    shift_range,
    clip_value,
    controller,
):
    state = common.initial_controller_state(controller, weights)
    memory = common.initial_memory(weights, memory_slots, word_size)
    read_vectors = common.initial_read_vectors(weights, read_heads, word_size)
    read_weights = _initial_weighting(
        weights, "initial_read_weights", read_heads, memory_slots
    )
    write_weights = _initial_weighting(
        weights, "initial_write_weights", write_heads, memory_slots
    )

    steps = []
    for x in inputs:
        # Controller, on the input and the previous step's read vectors.
        chi = np.concatenate([x, read_vectors.reshape(-1)])
        h, state = common.controller_step(controller, weights, chi, state)
        interface = common.clip(
            h @ weights["interface_kernel"] + weights["interface_bias"], clip_value
        )
        heads, erase, add = _split_interface(
            interface, word_size, read_heads, write_heads, shift_range
        )

        # Write: every write head addresses M_{t-1}.
        write_weights = np.array(
            [
                _address(memory, write_weights[j], heads[read_heads + j], shift_range)
                for j in range(write_heads)
            ]
        )
        memory = _write(memory, write_weights, erase, add)

        # Read: every read head addresses M_t, and r_t = sum_i w_t(i) M_t(i).
        read_weights = np.array(
            [
                _address(memory, read_weights[j], heads[j], shift_range)
                for j in range(read_heads)
            ]
        )
        read_vectors = np.zeros((read_heads, word_size))
        for j in range(read_heads):
            for i in range(memory_slots):
                read_vectors[j] += read_weights[j, i] * memory[i]

        steps.append(
            {
                "outputs": common.output_step(weights, h, read_vectors, clip_value),
                "memory": memory,
                "read_weights": read_weights,
                "write_weights": write_weights,
                "read_vectors": read_vectors,
            }
        )
    return steps, state


def _initial_weighting(weights, name, heads, memory_slots):
    if name in weights:
        return common.softmax(weights[name])
    one_hot = np.zeros((heads, memory_slots))
    one_hot[:, 0] = 1.0
    return one_hot


def _split_interface(interface, word_size, read_heads, write_heads, shift_range):
    """Return one dict per head (read heads first), and erase and add [Wh, W]."""
    heads = read_heads + write_heads
    split = common.Splitter(interface)
    keys = np.tanh(split.take(heads, word_size))  # k
    strengths = common.softplus(split.take(heads))  # beta >= 0
    gates = common.sigmoid(split.take(heads))  # g in [0, 1]
    shifts = common.softmax(split.take(heads, 2 * shift_range + 1))  # s
    gammas = 1.0 + common.softplus(split.take(heads))  # gamma >= 1
    erase = common.sigmoid(split.take(write_heads, word_size))  # e
    add = np.tanh(split.take(write_heads, word_size))  # a
    split.finish()
    per_head = [
        {
            "key": keys[j],
            "strength": strengths[j],
            "gate": gates[j],
            "shift": shifts[j],
            "gamma": gammas[j],
        }
        for j in range(heads)
    ]
    return per_head, erase, add


def _address(memory, previous, head, shift_range):
    """The weighting of one head: content, interpolation, shift, sharpening."""
    slots = len(memory)
    # (5), (6): w^c(i) = softmax_i(beta K[k, M(i)]), K the cosine.
    content = common.content_weights(memory, head["key"], head["strength"])
    # (7): w^g = g w^c + (1 - g) w_{t-1}.
    gated = head["gate"] * content + (1.0 - head["gate"]) * previous
    # (8): w~(i) = sum_j w^g(j) s(i - j), i - j modulo N and within -S..S.
    shifted = np.zeros(slots)
    for j in range(slots):
        for offset in range(-shift_range, shift_range + 1):
            i = (j + offset) % slots
            shifted[i] += gated[j] * head["shift"][offset + shift_range]
    # (9): w(i) = w~(i)^gamma / sum_j w~(j)^gamma.
    powered = shifted ** head["gamma"]
    return powered / np.sum(powered)


def _write(memory, write_weights, erase, add):
    """Erase by all heads, then add by all heads."""
    memory = memory.copy()
    # M~_t(i) = M_{t-1}(i) [1 - w_t(i) e_t], a product over the heads.
    for j in range(len(write_weights)):
        for i in range(len(memory)):
            memory[i] = memory[i] * (1.0 - write_weights[j, i] * erase[j])
    # M_t(i) = M~_t(i) + w_t(i) a_t, a sum over the heads.
    for j in range(len(write_weights)):
        for i in range(len(memory)):
            memory[i] = memory[i] + write_weights[j, i] * add[j]
    return memory
