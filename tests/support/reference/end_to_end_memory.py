"""Twin of the end-to-end memory network of Sukhbaatar et al. 2015.

NumPy, float64, a question at a time. Numbers in brackets are the paper's equations.
"""

import numpy as np


def embed(words, table, encode):
    """A sentence as a vector: section 4.1 with the position encoding, else a bag."""
    words = [word for word in words if word]
    units = table.shape[1]
    total = np.zeros(units)
    for j, word in enumerate(words, start=1):
        k = np.arange(1, units + 1)
        factor = (1 - j / len(words)) - (k / units) * (1 - 2 * j / len(words))
        total += (factor if encode else 1.0) * table[word]
    return total


def run(tables, ages, between_hops, facts, question, hops, encode=True, linear=False):
    """The last u of one question, and the attention of each hop.

    Args:
        tables: Adjacent tying: hops + 1 arrays [V, d]. Layer-wise: A, C and B.
        ages: As many arrays [max_facts, d] (layer-wise: of A and C), or None.
        between_hops: H [d, d] of layer-wise tying, else None.
        facts: Lists of words from the oldest to the last, 0 for padding.
        question: List of words.
        hops: Integer.
        encode: Whether words count by their position.
        linear: Whether there is no softmax in the hops.

    Returns:
        u [d], and attention [hops, facts].
    """
    adjacent = between_hops is None
    u = embed(question, tables[0 if adjacent else 2], encode)
    real = [i for i, fact in enumerate(facts) if any(fact)]
    age = {i: len(real) - 1 - rank for rank, i in enumerate(real)}
    if ages is not None:
        real = [i for i in real if age[i] < len(ages[0])]
    attention = np.zeros((hops, len(facts)))
    for hop in range(hops):
        inward, outward = (hop, hop + 1) if adjacent else (0, 1)

        def stored(which):
            return [
                embed(facts[i], tables[which], encode)
                + (0 if ages is None else ages[which][age[i]])
                for i in real
            ]

        m, c = stored(inward), stored(outward)
        p = np.array([u @ each for each in m])
        if not linear:
            p = np.exp(p) / np.exp(p).sum()  # (1)
        o = sum((p_i * c_i for p_i, c_i in zip(p, c, strict=True)), np.zeros(len(u)))
        u = (u if adjacent else u @ between_hops) + o  # (2), (4), (7)
        attention[hop, real] = p
    return u, attention
