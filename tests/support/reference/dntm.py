"""Twin of the D-NTM of Gulcehre et al. 2016, as `keras_sam.DNTMCell` says it.

NumPy, float64. A word is [address; content].
"""

import numpy as np

from . import common


def run(
    weights,
    inputs,
    *,
    memory_slots,
    word_size,
    address_size,
    read_heads=1,
    write_heads=1,
    reads_per_step=1,
    addressing="soft",
    clip_value=20.0,
    controller="lstm",
):
    """Run a D-NTM over inputs [B, T, F].

    Returns, each as it stands at the end of its step, `outputs` [B, T, O], `memory`
    [B, T, N, W], `recent` [B, T, R + H, N], `read_weights` [B, T, R, N],
    `write_weights` [B, T, H, N], `read_vectors` [B, T, R, W] and `controller_state`.
    """
    weights = common.as_float64(weights)
    heads = read_heads + write_heads
    contents = word_size - address_size
    traces, final_states = [], []
    for example in np.array(inputs, dtype=np.float64):
        state = common.initial_controller_state(controller, weights)
        memory = np.zeros((memory_slots, word_size))
        memory[:, :address_size] = weights["addresses"]
        recent = np.zeros((heads, memory_slots))
        reads = common.initial_read_vectors(weights, read_heads, word_size)

        def address(head, interface, memory, recent):
            likeness = interface["beta"][head] * np.array(
                [common.cosine(word, interface["keys"][head]) for word in memory]
            )
            w = common.softmax(likeness - interface["gamma"][head] * recent[head])
            recent[head] = 0.1 * recent[head] + 0.9 * likeness
            if addressing == "discrete":
                w = np.eye(memory_slots)[np.argmax(w)]
            return w

        steps = []
        for x in example:
            recent = recent.copy()
            for _ in range(reads_per_step):
                chi = np.concatenate([x, reads.reshape(-1)])
                h, state = common.controller_step(controller, weights, chi, state)
                split = common.Splitter(
                    common.clip(
                        h @ weights["interface_kernel"] + weights["interface_bias"],
                        clip_value,
                    )
                )
                interface = {
                    "keys": split.take(heads, word_size),
                    "beta": common.oneplus(split.take(heads)),
                    "gamma": common.sigmoid(split.take(heads)),
                    "erase": common.sigmoid(split.take(write_heads, contents)),
                    "add": np.maximum(split.take(write_heads, contents), 0.0),
                }
                split.finish()
                read_weights = np.array(
                    [address(j, interface, memory, recent) for j in range(read_heads)]
                )
                reads = read_weights @ memory
            write_weights = np.array(
                [
                    address(read_heads + j, interface, memory, recent)
                    for j in range(write_heads)
                ]
            )
            memory = memory.copy()
            for w, erase in zip(write_weights, interface["erase"], strict=True):
                memory[:, address_size:] *= 1.0 - np.outer(w, erase)
            for w, add in zip(write_weights, interface["add"], strict=True):
                memory[:, address_size:] += np.outer(w, add)
            steps.append(
                {
                    "outputs": common.output_step(weights, h, reads, clip_value),
                    "memory": memory,
                    "recent": recent,
                    "read_weights": read_weights,
                    "write_weights": write_weights,
                    "read_vectors": reads,
                }
            )
        traces.append(steps)
        final_states.append(state)
    return common.stack_traces(traces, final_states)
