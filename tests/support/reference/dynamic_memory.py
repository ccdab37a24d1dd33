"""Twin of the episodic memory of Kumar et al. 2016 and of Xiong et al. 2016 (DMN+).

NumPy, float64, a question at a time. Numbers in brackets are equations of Xiong et al.
"""

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def gru_parts(x, h, kernel, recurrent, bias):
    """Update gate and candidate of Keras's GRU, whose reset follows the product."""
    x_z, x_r, x_h = np.split(x @ kernel + bias[0], 3)
    h_z, h_r, h_h = np.split(h @ recurrent + bias[1], 3)
    return sigmoid(x_z + h_z), np.tanh(x_h + sigmoid(x_r + h_r) * h_h)


def gru(x, h, *weights):
    update, candidate = gru_parts(x, h, *weights)
    return update * h + (1.0 - update) * candidate


def run(weights, facts, question, passes, attention_gru):
    """The memory of one question after the last pass, and the gates of each.

    Args:
        weights: Dictionary: `episode` (kernel, recurrent kernel, bias), `gate_hidden`
            and `gate` (kernel, bias), and `likeness` (kernel) and `update` (as
            `episode`), or with `attention_gru` a list `updates` of (kernel, bias).
        facts: Array [facts, units], without padding.
        question: Array [units].
        passes: Integer.
        attention_gru: Boolean.

    Returns:
        Memory [units] and gates [passes, facts].
    """
    q = m = question
    all_gates = []
    for i in range(passes):
        logits = []
        for c in facts:
            z = [c * q, c * m, abs(c - q), abs(c - m)]  # (8)
            if not attention_gru:
                (likeness,) = weights["likeness"]
                z = [c, m, q, *z, [c @ (q @ likeness)], [c @ (m @ likeness)]]
            (w_1, b_1), (w_2, b_2) = weights["gate_hidden"], weights["gate"]
            logits.append((np.tanh(np.concatenate(z) @ w_1 + b_1) @ w_2 + b_2)[0])
        if attention_gru:
            gates = np.exp(logits) / np.exp(logits).sum()  # (10)
        else:
            gates = sigmoid(np.array(logits))
        h = np.zeros_like(q)
        for c, g in zip(facts, gates, strict=True):
            if attention_gru:
                _, new = gru_parts(c, h, *weights["episode"])
            else:
                new = gru(c, h, *weights["episode"])
            h = g * new + (1.0 - g) * h  # (12)
        if attention_gru:
            kernel, bias = weights["updates"][i]
            m = np.maximum(np.concatenate([m, h, q]) @ kernel + bias, 0.0)  # (13)
        else:
            m = gru(h, m, *weights["update"])
        all_gates.append(gates)
    return m, np.array(all_gates)
