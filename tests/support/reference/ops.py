"""Plain-loop twins of the addressing functions. NumPy, float64, batched shapes.

B examples, N slots, W numbers a word, H heads of any kind, R read heads. Written
number by number, apart from the code in ntm.py and dnc.py, so that the two can be
held against each other.
"""

import math

import numpy as np

COSINE_EPSILON = 1e-6
USAGE_EPSILON = 1e-6


def _float64(*arrays):
    return tuple(np.array(a, dtype=np.float64) for a in arrays)


def cosine_similarity(memory, keys):
    """Memory [B, N, W], keys [B, H, W] -> [B, H, N]; NTM (6), norms smoothed."""
    memory, keys = _float64(memory, keys)
    batch, slots, words = memory.shape
    heads = keys.shape[1]
    result = np.zeros((batch, heads, slots))
    for b in range(batch):
        for h in range(heads):
            for n in range(slots):
                dot = sum(memory[b, n, w] * keys[b, h, w] for w in range(words))
                mm = sum(memory[b, n, w] ** 2 for w in range(words))
                kk = sum(keys[b, h, w] ** 2 for w in range(words))
                norms = math.sqrt(mm + COSINE_EPSILON) * math.sqrt(kk + COSINE_EPSILON)
                result[b, h, n] = dot / norms
    return result


def content_weights(memory, keys, strengths):
    """softmax_n(strength * cosine); strengths [B, H] -> [B, H, N]; NTM (5)."""
    scores = cosine_similarity(memory, keys)
    (strengths,) = _float64(strengths)
    batch, heads, slots = scores.shape
    result = np.zeros((batch, heads, slots))
    for b in range(batch):
        for h in range(heads):
            scaled = [strengths[b, h] * scores[b, h, n] for n in range(slots)]
            top = max(scaled)
            exps = [math.exp(s - top) for s in scaled]
            for n in range(slots):
                result[b, h, n] = exps[n] / sum(exps)
    return result


def interpolate(content_weights, previous_weights, gates):
    """Return g w^c + (1-g) w_{t-1}; weightings [B, H, N], gates [B, H]; NTM (7)."""
    content, previous, gates = _float64(content_weights, previous_weights, gates)
    batch, heads, slots = content.shape
    result = np.zeros((batch, heads, slots))
    for b in range(batch):
        for h in range(heads):
            g = gates[b, h]
            for n in range(slots):
                result[b, h, n] = g * content[b, h, n] + (1 - g) * previous[b, h, n]
    return result


def circular_shift(weights, shift):
    """w~(i) = sum_j w(j) s(i - j), circular; shift [B, H, 2S+1]; NTM (8).

    shift[..., d + S] is the share that moves from slot i to slot i + d.
    """
    weights, shift = _float64(weights, shift)
    batch, heads, slots = weights.shape
    reach = (shift.shape[-1] - 1) // 2
    result = np.zeros((batch, heads, slots))
    for b in range(batch):
        for h in range(heads):
            for i in range(slots):
                for d in range(-reach, reach + 1):
                    source = (i - d) % slots
                    result[b, h, i] += weights[b, h, source] * shift[b, h, d + reach]
    return result


def sharpen(weights, gamma):
    """w(i)^gamma / sum_j w(j)^gamma; gamma [B, H]; NTM (9)."""
    weights, gamma = _float64(weights, gamma)
    batch, heads, slots = weights.shape
    result = np.zeros((batch, heads, slots))
    for b in range(batch):
        for h in range(heads):
            powers = [weights[b, h, n] ** gamma[b, h] for n in range(slots)]
            for n in range(slots):
                result[b, h, n] = powers[n] / sum(powers)
    return result


def usage_after_write(usage, write_weights):
    """Return u + w - u w, the write half of the usage update; both [B, N]; DNC."""
    usage, write_weights = _float64(usage, write_weights)
    batch, slots = usage.shape
    result = np.zeros((batch, slots))
    for b in range(batch):
        for n in range(slots):
            u, w = usage[b, n], write_weights[b, n]
            result[b, n] = u + w - u * w
    return result


def usage_after_read(usage, free_gates, read_weights):
    """Return u psi, psi = prod_r (1 - f^r w^r); [B, N], [B, R], [B, R, N]; DNC."""
    usage, free_gates, read_weights = _float64(usage, free_gates, read_weights)
    batch, slots = usage.shape
    heads = free_gates.shape[1]
    result = np.zeros((batch, slots))
    for b in range(batch):
        for n in range(slots):
            psi = 1.0
            for r in range(heads):
                psi *= 1.0 - free_gates[b, r] * read_weights[b, r, n]
            result[b, n] = usage[b, n] * psi
    return result


def allocation_weights(usage):
    """a[phi[j]] = (1 - u'[phi[j]]) prod_{i<j} u'[phi[i]]; usage [B, N]; DNC.

    u' = eps + (1 - eps) u. For a slot, "i before it in phi" is written out here: a
    smaller u', or an equal one at a lower index. No sort is needed.
    """
    (usage,) = _float64(usage)
    batch, slots = usage.shape
    result = np.zeros((batch, slots))
    for b in range(batch):
        u = [USAGE_EPSILON + (1 - USAGE_EPSILON) * usage[b, n] for n in range(slots)]
        for n in range(slots):
            product = 1.0
            for i in range(slots):
                if u[i] < u[n] or (u[i] == u[n] and i < n):
                    product *= u[i]
            result[b, n] = (1.0 - u[n]) * product
    return result


def update_link(link, precedence, write_weights):
    """L_t[i,j] = (1 - w[i] - w[j]) L_{t-1}[i,j] + w[i] p_{t-1}[j], diag 0; DNC.

    link [B, N, N]; precedence is p_{t-1}, before this step's write [B, N].
    """
    link, precedence, write_weights = _float64(link, precedence, write_weights)
    batch, slots = precedence.shape
    result = np.zeros((batch, slots, slots))
    for b in range(batch):
        w, p = write_weights[b], precedence[b]
        for i in range(slots):
            for j in range(slots):
                if i != j:
                    result[b, i, j] = (1 - w[i] - w[j]) * link[b, i, j] + w[i] * p[j]
    return result


def update_precedence(precedence, write_weights):
    """p_t = (1 - sum_i w[i]) p_{t-1} + w; both [B, N]; DNC."""
    precedence, write_weights = _float64(precedence, write_weights)
    batch, slots = precedence.shape
    result = np.zeros((batch, slots))
    for b in range(batch):
        total = sum(write_weights[b, n] for n in range(slots))
        for n in range(slots):
            result[b, n] = (1.0 - total) * precedence[b, n] + write_weights[b, n]
    return result


def directional_weights(link, read_weights, forward):
    """Return f = L w^r or b = L^T w^r; [B, N, N], [B, R, N] -> [B, R, N]; DNC."""
    link, read_weights = _float64(link, read_weights)
    batch, heads, slots = read_weights.shape
    result = np.zeros((batch, heads, slots))
    for b in range(batch):
        for r in range(heads):
            for i in range(slots):
                for j in range(slots):
                    entry = link[b, i, j] if forward else link[b, j, i]
                    result[b, r, i] += entry * read_weights[b, r, j]
    return result
