"""Twin of Sparse Access Memory (Rae et al. 2016). Plain NumPy, float64.

`run` keeps reads and writes as (slot, weight) pairs; `run_dense` is the same model
written for weightings over all N slots. Numbers in brackets are the paper's equations.
"""

import numpy as np

from . import common

UNTOUCHED_TIME = 0
GIVEN_TIME = 1
FIRST_TIME = 2
NO_SLOT = -1


def run(
    weights,
    inputs,
    *,
    memory_slots,
    word_size,
    read_heads,
    write_heads=1,
    reads_per_head=4,
    usage_threshold=0.005,
    clip_value=20.0,
    controller="lstm",
    given_memory=None,
    mask=None,
    gated_erase=False,
):
    """Run SAM over inputs [B, T, F].

    write_heads is 1, or read_heads for one write head beside every read head.
    given_memory [rows, W] or [B, rows, W] fills the first rows of the memory. A step
    whose mask [B, T] is False changes nothing.

    Returns, each as it stands at the end of its step, `outputs` [B, T, O], `memory`
    [B, T, N, W], `read_slots` and `read_weights` [B, T, R, K] (most similar slot
    first), `dense_read_weights` [B, T, R, N], `dense_write_weights` [B, T, H, N],
    `lra_slots` [B, T, H] (the slots that were the least recently accessed ones before
    the step, and were erased), `read_vectors` [B, T, R, W], `last_access` [B, T, N] and
    `controller_state`, a tuple of [B, U] arrays after the last step. A masked step
    repeats the values of the step before it, but has no `lra_slots` (-1) and writes
    nothing (zeros).
    """
    return _run_batch(
        _run_example,
        weights,
        inputs,
        memory_slots,
        word_size,
        read_heads,
        write_heads,
        reads_per_head,
        usage_threshold,
        clip_value,
        controller,
        given_memory,
        mask,
        gated_erase,
    )


def run_dense(
    weights,
    inputs,
    *,
    memory_slots,
    word_size,
    read_heads,
    write_heads=1,
    reads_per_head=None,
    usage_threshold=0.005,
    clip_value=20.0,
    controller="lstm",
    given_memory=None,
    mask=None,
    gated_erase=False,
):
    """`run` on dense weightings; every head reads all N slots (K = N).

    A smaller reads_per_head masks all but the K most similar slots out of the softmax.
    """
    return _run_batch(
        _run_dense_example,
        weights,
        inputs,
        memory_slots,
        word_size,
        read_heads,
        write_heads,
        memory_slots if reads_per_head is None else reads_per_head,
        usage_threshold,
        clip_value,
        controller,
        given_memory,
        mask,
        gated_erase,
    )


def _run_batch(
    run_example,
    weights,
    inputs,
    memory_slots,
    word_size,
    read_heads,
    write_heads,
    reads_per_head,
    usage_threshold,
    clip_value,
    controller,
    given_memory,
    mask,
    gated_erase,
):
    if write_heads not in (1, read_heads):
        raise ValueError(f"write_heads is 1 or {read_heads}, not {write_heads}")
    if not 1 <= reads_per_head <= memory_slots:
        raise ValueError(f"cannot read {reads_per_head} of {memory_slots} slots")
    if write_heads > memory_slots:
        raise ValueError(f"{write_heads} write heads need as many slots")
    weights = common.as_float64(weights)
    inputs = np.array(inputs, dtype=np.float64)
    if mask is None:
        mask = np.ones(inputs.shape[:2], dtype=bool)
    traces, final_states = [], []
    for b in range(len(inputs)):
        memory = np.full((memory_slots, word_size), common.MEMORY_CONSTANT)
        last_access = [UNTOUCHED_TIME] * memory_slots
        if given_memory is not None:
            given = np.array(given_memory, dtype=np.float64)
            rows = given[b] if given.ndim == 3 else given
            if rows.shape != (len(rows), word_size) or len(rows) > memory_slots:
                raise ValueError(f"no room for a given memory of shape {rows.shape}")
            for slot in range(len(rows)):
                memory[slot] = rows[slot]
                last_access[slot] = GIVEN_TIME
        steps, final_state = run_example(
            weights,
            inputs[b],
            [bool(real) for real in mask[b]],
            memory,
            last_access,
            read_heads,
            write_heads,
            reads_per_head,
            usage_threshold,
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
    last_access,
    read_heads,
    write_heads,
    reads_per_head,
    usage_threshold,
    clip_value,
    controller,
    gated_erase,
):
    slots, word_size = memory.shape
    state = common.initial_controller_state(controller, weights)
    read_vectors = common.initial_read_vectors(weights, read_heads, word_size)
    # Per read head, a list of K pairs (slot, weight).
    reads = [[(slot, 0.0) for slot in range(reads_per_head)] for _ in range(read_heads)]
    output = np.zeros(len(weights["output_bias"]))
    time = FIRST_TIME

    steps = []
    for x, real in zip(inputs, mask, strict=True):
        writes = [{} for _ in range(write_heads)]
        lra_slots = [NO_SLOT] * write_heads
        if real:
            # Controller, on the input and the previous step's read vectors.
            chi = np.concatenate([x, read_vectors.reshape(-1)])
            h, state = common.controller_step(controller, weights, chi, state)
            p = _interface(weights, h, word_size, read_heads, write_heads, clip_value)

            # Write, from w^R_{t-1} and the usage before this step.
            lra_slots = _least_recently_accessed(last_access, write_heads)
            writes = _write_weights(
                reads, p["write_gates"], p["interpolation_gates"], lra_slots
            )
            erased = _erased(p, gated_erase)
            memory = _write(memory, writes, lra_slots, erased, p["write_vectors"])

            # Read from M_t. (4): r = sum_k w(s_k) M_t(s_k).
            reads = [
                _read_weights(memory, query, strength, reads_per_head)
                for query, strength in zip(p["queries"], p["strengths"], strict=True)
            ]
            read_vectors = np.zeros((read_heads, word_size))
            for head in range(read_heads):
                for slot, weight in reads[head]:
                    read_vectors[head] += weight * memory[slot]

            # Usage.
            last_access = list(last_access)
            for slot in _accessed(reads, writes, usage_threshold):
                last_access[slot] = time
            time += 1
            output = common.output_step(weights, h, read_vectors, clip_value)

        steps.append(
            {
                "outputs": output,
                "memory": memory,
                "read_slots": [[slot for slot, _ in head] for head in reads],
                "read_weights": [[weight for _, weight in head] for head in reads],
                "dense_read_weights": [_dense(head, slots) for head in reads],
                "dense_write_weights": [_dense(w.items(), slots) for w in writes],
                "lra_slots": lra_slots,
                "read_vectors": read_vectors,
                "last_access": last_access,
            }
        )
    return steps, state


def _interface(weights, h, word_size, read_heads, write_heads, clip_value):
    interface = h @ weights["interface_kernel"] + weights["interface_bias"]
    return _split_interface(
        common.clip(interface, clip_value), word_size, read_heads, write_heads
    )


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


def _least_recently_accessed(last_access, count):
    """Return the `count` slots of the oldest access, oldest first; ties by number."""
    ranked = sorted((time, slot) for slot, time in enumerate(last_access))
    return [slot for _, slot in ranked[:count]]


def _write_weights(reads, write_gates, interpolation_gates, lra_slots):
    """(5): w^W_t = alpha (gamma w^R_{t-1} + (1 - gamma) I^U), a dict per write head.

    With a single write head, w^R_{t-1} is the mean over the read heads.
    """
    if len(lra_slots) == 1:
        sources = [[(s, w / len(reads)) for head in reads for s, w in head]]
    else:
        sources = reads
    writes = []
    for head in range(len(lra_slots)):
        alpha, gamma = write_gates[head], interpolation_gates[head]
        write = {}
        for slot, weight in sources[head]:
            write[slot] = write.get(slot, 0.0) + alpha * gamma * weight
        lra = lra_slots[head]
        write[lra] = write.get(lra, 0.0) + alpha * (1.0 - gamma)
        writes.append(write)
    return writes


def _erased(p, gated_erase):
    """How much is erased of each head's slot: all of it, or as much as is written."""
    if gated_erase:
        return p["write_gates"] * (1.0 - p["interpolation_gates"])
    return np.ones(len(p["write_gates"]))


def _write(memory, writes, lra_slots, erased, write_vectors):
    """(3): erase every least recently accessed row, then add by all heads."""
    memory = memory.copy()
    for slot, part in zip(lra_slots, erased, strict=True):
        memory[slot] *= 1.0 - part
    for head in range(len(writes)):
        for slot, weight in writes[head].items():
            memory[slot] += weight * write_vectors[head]
    return memory


def _read_weights(memory, query, strength, count):
    """(2): softmax over the `count` most similar slots, as (slot, weight) pairs."""
    scores = [common.cosine(row, query) for row in memory]
    ranked = sorted(range(len(memory)), key=lambda slot: (-scores[slot], slot))
    nearest = ranked[:count]
    weights = common.softmax(strength * np.array([scores[slot] for slot in nearest]))
    return list(zip(nearest, weights, strict=True))


def _accessed(reads, writes, usage_threshold):
    """The slots with sum_h w^W_t(i) + sum_r w^R_t(i) > delta."""
    total = {}
    for write in writes:
        for slot, weight in write.items():
            total[slot] = total.get(slot, 0.0) + weight
    for head in reads:
        for slot, weight in head:
            total[slot] = total.get(slot, 0.0) + weight
    return [slot for slot, weight in total.items() if weight > usage_threshold]


def _dense(pairs, slots):
    dense = np.zeros(slots)
    for slot, weight in pairs:
        dense[slot] += weight
    return dense


def _run_dense_example(
    weights,
    inputs,
    mask,
    memory,
    last_access,
    read_heads,
    write_heads,
    reads_per_head,
    usage_threshold,
    clip_value,
    controller,
    gated_erase,
):
    slots, word_size = memory.shape
    state = common.initial_controller_state(controller, weights)
    read_vectors = common.initial_read_vectors(weights, read_heads, word_size)
    last_access = np.array(last_access)
    read_weights = np.zeros((read_heads, slots))
    order = np.tile(np.arange(slots), (read_heads, 1))
    output = np.zeros(len(weights["output_bias"]))
    time = FIRST_TIME

    steps = []
    for x, real in zip(inputs, mask, strict=True):
        write_weights = np.zeros((write_heads, slots))
        lra_slots = np.full(write_heads, NO_SLOT)
        if real:
            chi = np.concatenate([x, read_vectors.reshape(-1)])
            h, state = common.controller_step(controller, weights, chi, state)
            p = _interface(weights, h, word_size, read_heads, write_heads, clip_value)

            # (6): I^U [H, N], the one-hots of the oldest slots.
            lra_slots = np.argsort(last_access, kind="stable")[:write_heads]
            least_used = np.eye(slots)[lra_slots]
            # (5).
            alpha = p["write_gates"][:, np.newaxis]
            gamma = p["interpolation_gates"][:, np.newaxis]
            previous = read_weights
            if write_heads == 1:
                previous = np.mean(read_weights, axis=0, keepdims=True)
            write_weights = alpha * (gamma * previous + (1.0 - gamma) * least_used)
            # (3), R_t = I^U 1^T. One head follows the other: a matrix product could
            # make equal rows unequal by rounding.
            erased = alpha * (1.0 - gamma) if gated_erase else np.ones_like(alpha)
            memory = memory * (1.0 - np.sum(erased * least_used, axis=0))[:, np.newaxis]
            for head in range(write_heads):
                memory = memory + np.outer(
                    write_weights[head], p["write_vectors"][head]
                )

            # (1), (2): content addressing of M_t.
            norms = np.sqrt(np.sum(memory**2, axis=1) + common.COSINE_EPSILON)
            for head in range(read_heads):
                query = p["queries"][head]
                norm = np.sqrt(np.sum(query**2) + common.COSINE_EPSILON)
                scores = np.sum(memory * query, axis=1) / (norms * norm)
                order[head] = np.argsort(-scores, kind="stable")
                scores[order[head, reads_per_head:]] = -np.inf
                read_weights[head] = common.softmax(p["strengths"][head] * scores)
            read_vectors = read_weights @ memory

            total = np.sum(write_weights, axis=0) + np.sum(read_weights, axis=0)
            last_access = np.where(total > usage_threshold, time, last_access)
            time += 1
            output = common.output_step(weights, h, read_vectors, clip_value)

        read_slots = order[:, :reads_per_head].copy()
        steps.append(
            {
                "outputs": output,
                "memory": memory,
                "read_slots": read_slots,
                "read_weights": np.take_along_axis(read_weights, read_slots, axis=1),
                "dense_read_weights": read_weights.copy(),
                "dense_write_weights": write_weights,
                "lra_slots": lra_slots,
                "read_vectors": read_vectors,
                "last_access": last_access,
            }
        )
    return steps, state
