"""Twin of the Differentiable Neural Computer (Graves et al. 2016). NumPy, float64.

Also the changes of Csordas & Schmidhuber 2019 (`key_masks`, `deallocate`,
`link_sharpening`) and the normalised interface of Franke et al. 2018
(`normalize_interface`).
"""

import numpy as np

from . import common

USAGE_EPSILON = 1e-6
SHARPNESS_EPSILON = 1e-6


def run(
    weights,
    inputs,
    *,
    memory_slots,
    word_size,
    read_heads=1,
    clip_value=20.0,
    controller="lstm",
    key_masks=False,
    mask_min=0.0,
    deallocate=False,
    link_sharpening=False,
    normalize_interface=False,
):
    """Run the DNC over inputs [B, T, F].

    Returns `outputs` [B, T, O], `memory` [B, T, N, W], `read_weights` [B, T, R, N],
    `write_weights` [B, T, N], `read_vectors` [B, T, R, W], `usage` [B, T, N], `link`
    [B, T, N, N], `precedence` [B, T, N] (each as it stands at the end of its step) and
    `controller_state`, a tuple of [B, U] arrays after the last step.
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
            clip_value,
            controller,
            key_masks,
            mask_min,
            deallocate,
            link_sharpening,
            normalize_interface,
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
    clip_value,
    controller,
    key_masks,
    mask_min,
    deallocate,
    link_sharpening,
    normalize_interface,
):
    state = common.initial_controller_state(controller, weights)
    memory = common.initial_memory(weights, memory_slots, word_size)
    read_vectors = common.initial_read_vectors(weights, read_heads, word_size)
    read_weights = np.zeros((read_heads, memory_slots))
    write_weights = np.zeros(memory_slots)
    usage = np.zeros(memory_slots)
    link = np.zeros((memory_slots, memory_slots))
    precedence = np.zeros(memory_slots)

    steps = []
    for x in inputs:
        # chi_t = [x_t; r^1_{t-1}; ...; r^R_{t-1}].
        chi = np.concatenate([x, read_vectors.reshape(-1)])
        h, state = common.controller_step(controller, weights, chi, state)
        interface = h @ weights["interface_kernel"] + weights["interface_bias"]
        if normalize_interface:
            interface = common.layer_norm(
                interface,
                weights["interface_norm/gamma"],
                weights["interface_norm/beta"],
            )
        interface = common.clip(interface, clip_value)
        xi = _split_interface(
            interface, word_size, read_heads, key_masks, mask_min, link_sharpening
        )

        # psi_t = prod_i (1 - f^i_t w^{r,i}_{t-1}).
        retention = np.ones(memory_slots)
        for head in range(read_heads):
            retention *= 1.0 - xi["free_gates"][head] * read_weights[head]
        # u_t = (u_{t-1} + w^w_{t-1} - u_{t-1} o w^w_{t-1}) o psi_t.
        usage = (usage + write_weights - usage * write_weights) * retention
        allocation = _allocation(usage)

        # c^w_t = C(M_{t-1}, k^w, b^w); w^w_t = g^w [g^a a_t + (1 - g^a) c^w_t].
        write_content = common.content_weights(
            memory, xi["write_key"], xi["write_strength"], xi["write_mask"]
        )
        write_weights = xi["write_gate"] * (
            xi["allocation_gate"] * allocation
            + (1.0 - xi["allocation_gate"]) * write_content
        )

        # M_t = M_{t-1} o (E - w^w e^T) + w^w v^T; de-allocation puts a factor
        # psi_t 1^T beside M_{t-1}.
        kept = memory
        if deallocate:
            kept = memory * retention[:, np.newaxis]
        memory = np.zeros((memory_slots, word_size))
        for i in range(memory_slots):
            memory[i] = (
                kept[i] * (1.0 - write_weights[i] * xi["erase"])
                + write_weights[i] * xi["write_vector"]
            )

        # L_t[i,j] = (1 - w^w[i] - w^w[j]) L_{t-1}[i,j] + w^w[i] p_{t-1}[j], diag 0:
        # L[i,j] is large when slot i was written right after slot j.
        link = (
            1.0 - write_weights[:, np.newaxis] - write_weights[np.newaxis, :]
        ) * link + write_weights[:, np.newaxis] * precedence[np.newaxis, :]
        np.fill_diagonal(link, 0.0)
        # p_t = (1 - sum w^w) p_{t-1} + w^w.
        precedence = (1.0 - np.sum(write_weights)) * precedence + write_weights

        # f = L w^r_{t-1}; b = L^T w^r_{t-1};
        # w^r_t = pi[1] b + pi[2] C(M_t, k^r, b^r) + pi[3] f.
        previous_read_weights = read_weights
        read_weights = np.zeros((read_heads, memory_slots))
        for head in range(read_heads):
            forward = link @ previous_read_weights[head]
            backward = link.T @ previous_read_weights[head]
            if link_sharpening:
                forward = _sharpen(forward, xi["forward_sharpness"][head])
                backward = _sharpen(backward, xi["backward_sharpness"][head])
            content = common.content_weights(
                memory,
                xi["read_keys"][head],
                xi["read_strengths"][head],
                xi["read_masks"][head],
            )
            mode = xi["read_modes"][head]
            read_weights[head] = mode[0] * backward + mode[1] * content
            read_weights[head] += mode[2] * forward

        # r^i = M_t^T w^{r,i}.
        read_vectors = np.array(
            [memory.T @ read_weights[head] for head in range(read_heads)]
        )

        steps.append(
            {
                "outputs": common.output_step(weights, h, read_vectors, clip_value),
                "memory": memory,
                "read_weights": read_weights,
                "write_weights": write_weights,
                "read_vectors": read_vectors,
                "usage": usage,
                "link": link,
                "precedence": precedence,
            }
        )
    return steps, state


def _split_interface(
    interface, word_size, read_heads, key_masks, mask_min, link_sharpening
):
    split = common.Splitter(interface)
    xi = {
        "read_keys": split.take(read_heads, word_size),
        "read_strengths": common.oneplus(split.take(read_heads)),
        "write_key": split.take(word_size),
        "write_strength": common.oneplus(split.take(1)[0]),
        "erase": common.sigmoid(split.take(word_size)),
        "write_vector": split.take(word_size),
        "free_gates": common.sigmoid(split.take(read_heads)),
        "allocation_gate": common.sigmoid(split.take(1)[0]),
        "write_gate": common.sigmoid(split.take(1)[0]),
        # Each head: backward, content, forward.
        "read_modes": common.softmax(split.take(read_heads, 3)),
        "read_masks": [None] * read_heads,
        "write_mask": None,
    }
    if key_masks:
        # m in [mask_min, 1]^W.
        read_masks = common.sigmoid(split.take(read_heads, word_size))
        write_mask = common.sigmoid(split.take(word_size))
        xi["read_masks"] = mask_min + (1.0 - mask_min) * read_masks
        xi["write_mask"] = mask_min + (1.0 - mask_min) * write_mask
    if link_sharpening:
        xi["forward_sharpness"] = common.oneplus(split.take(read_heads))
        xi["backward_sharpness"] = common.oneplus(split.take(read_heads))
    split.finish()
    return xi


def _allocation(usage):
    """a_t[phi[j]] = (1 - u[phi[j]]) prod_{i<j} u[phi[i]], phi = argsort ascending.

    On u' = eps + (1 - eps) u in place of u; ties go to the lowest index.
    """
    u = USAGE_EPSILON + (1.0 - USAGE_EPSILON) * usage
    allocation = np.zeros(len(u))
    product = 1.0
    for slot in np.argsort(u, kind="stable"):
        allocation[slot] = (1.0 - u[slot]) * product
        product *= u[slot]
    return allocation


def _sharpen(d, s):
    """S(d, s)_i = d_i^s / sum_j d_j^s, on (d + eps) / max(d + eps) in place of d."""
    d = d + SHARPNESS_EPSILON
    powered = (d / np.max(d)) ** s
    return powered / np.sum(powered)
