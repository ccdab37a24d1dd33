"""Pieces that the NTM and DNC twins share: plain NumPy, float64, one example at a time.

Vectors have no batch axis here. A twin runs each example of the batch on its own and
`stack_traces` puts the batch axis back at the end.
"""

import numpy as np

MEMORY_CONSTANT = 1e-6
COSINE_EPSILON = 1e-6
LAYER_NORM_EPSILON = 1e-3


def as_float64(weights):
    """Copy a dict of arrays to float64."""
    return {name: np.array(value, dtype=np.float64) for name, value in weights.items()}


def sigmoid(x):
    """1 / (1 + exp(-x)), accurate in both tails."""
    return np.exp(-np.logaddexp(0.0, -x))


def softplus(x):
    """log(1 + exp(x))."""
    return np.logaddexp(0.0, x)


def oneplus(x):
    """1 + log(1 + exp(x)), in [1, inf)."""
    return 1.0 + softplus(x)


def softmax(x):
    """Softmax over the last axis."""
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def clip(x, clip_value):
    """Clip to +-clip_value; None leaves x alone."""
    if clip_value is None:
        return x
    return np.minimum(np.maximum(x, -clip_value), clip_value)


def layer_norm(x, gamma, beta):
    """Normalise one vector to mean 0, variance 1, then scale and shift."""
    mean = np.sum(x) / len(x)
    variance = np.sum((x - mean) ** 2) / len(x)
    return gamma * (x - mean) / np.sqrt(variance + LAYER_NORM_EPSILON) + beta


def cosine(m, k):
    """m.k / (|m| |k|), each norm smoothed so that a zero vector gives 0, not NaN."""
    norm_m = np.sqrt(np.dot(m, m) + COSINE_EPSILON)
    norm_k = np.sqrt(np.dot(k, k) + COSINE_EPSILON)
    return np.dot(m, k) / (norm_m * norm_k)


def content_weights(memory, key, strength, mask=None):
    """Content addressing C(M, k, beta) over the N rows of memory [N, W].

    NTM (5), (6); DNC C(M,k,b)[i] = softmax_i(b cos(k, M[i])). With a mask m [W],
    Csordas & Schmidhuber: softmax_i(b D(k o m, M[i] o m)).
    """
    if mask is None:
        mask = np.ones_like(key)
    scores = np.array([cosine(row * mask, key * mask) for row in memory])
    return softmax(strength * scores)


def lstm_step(x, h, c, kernel, recurrent_kernel, bias):
    """One LSTM step in the Keras convention: gate blocks i, f, c, o, each U wide."""
    units = len(h)
    z = x @ kernel + h @ recurrent_kernel + bias
    i = sigmoid(z[0 * units : 1 * units])
    f = sigmoid(z[1 * units : 2 * units])
    candidate = np.tanh(z[2 * units : 3 * units])
    o = sigmoid(z[3 * units : 4 * units])
    c = f * c + i * candidate
    h = o * np.tanh(c)
    return h, c


def initial_controller_state(controller, weights):
    """Zeros (h, c) for "lstm", no state for "dense"."""
    if controller == "lstm":
        units = len(weights["controller/recurrent_kernel"])
        return np.zeros(units), np.zeros(units)
    if controller == "dense":
        return ()
    raise ValueError(f"unknown controller {controller!r}")


def controller_step(controller, weights, x, state):
    """Return the controller output h [U] and its next state."""
    if controller == "lstm":
        h, c = lstm_step(
            x,
            state[0],
            state[1],
            weights["controller/kernel"],
            weights["controller/recurrent_kernel"],
            weights["controller/bias"],
        )
        return h, (h, c)
    h = np.tanh(x @ weights["controller/kernel"] + weights["controller/bias"])
    return h, ()


def initial_memory(weights, memory_slots, word_size):
    """The weight `initial_memory` [N, W] if there is one, else a small constant."""
    if "initial_memory" in weights:
        return weights["initial_memory"].copy()
    return np.full((memory_slots, word_size), MEMORY_CONSTANT)


def initial_read_vectors(weights, read_heads, word_size):
    """The weight `initial_read_vectors` [R, W] if there is one, else zeros."""
    if "initial_read_vectors" in weights:
        return weights["initial_read_vectors"].copy()
    return np.zeros((read_heads, word_size))


def output_step(weights, h, read_vectors, clip_value):
    """y_t from the controller output and the read vectors of the same step."""
    x = np.concatenate([h, read_vectors.reshape(-1)])
    return clip(x @ weights["output_kernel"] + weights["output_bias"], clip_value)


class Splitter:
    """Takes an interface vector apart, block after block."""

    def __init__(self, vector):
        """Start at the first number of `vector`."""
        self.vector = vector
        self.position = 0

    def take(self, *shape):
        """Return the next block; the first axis of `shape` varies slowest."""
        size = int(np.prod(shape))
        block = self.vector[self.position : self.position + size]
        if len(block) != size:
            raise ValueError(f"the interface has only {len(self.vector)} numbers")
        self.position += size
        return block.reshape(shape)

    def finish(self):
        """Complain if a part of the interface was never read."""
        if self.position != len(self.vector):
            raise ValueError(
                f"the interface has {len(self.vector)} numbers, "
                f"but its layout uses {self.position}"
            )


def stack_traces(traces, final_states):
    """Join per-example results.

    traces: for each example, for each step, a dict of arrays. final_states: for each
    example, the tuple of controller state vectors. Returns name -> [B, T, ...] and
    `controller_state`, a tuple of [B, U] arrays: (h, c) for an LSTM, () for dense.
    """
    result = {}
    for name in traces[0][0]:
        result[name] = np.array([[step[name] for step in steps] for steps in traces])
    result["controller_state"] = tuple(
        np.array(part) for part in zip(*final_states, strict=True)
    )
    return result
