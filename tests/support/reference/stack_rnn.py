"""Twin of the Stack RNN of Joulin & Mikolov 2015, section 3.2.

NumPy, float64. A stack is a list of numbers, its top first.
"""

import numpy as np

from . import common

EMPTY = -1.0


def run(
    weights,
    inputs,
    *,
    memory_slots,
    stacks,
    read_depth,
    no_op=True,
    round_actions=False,
    clip_value=20.0,
    controller="dense",
    given_memory=None,
    mask=None,
):
    """Run a Stack RNN over inputs [B, T, F], at inference.

    given_memory [rows, S] or [B, rows, S] is what the stacks S hold from their tops on.
    A step whose mask [B, T] is False changes nothing.

    Returns, each as it stands at the end of its step, `outputs` [B, T, O], `memory`
    [B, T, N, S], `read_vectors` [B, T, k, S], `actions` [B, T, S, 2 or 3],
    `pushed_values` [B, T, S] and `controller_state`, a tuple of [B, U] arrays after the
    last step. A masked step repeats the values of the step before it.
    """
    weights = common.as_float64(weights)
    inputs = np.array(inputs, dtype=np.float64)
    if mask is None:
        mask = np.ones(inputs.shape[:2], dtype=bool)
    kinds = 3 if no_op else 2
    traces, final_states = [], []
    for b in range(len(inputs)):
        contents = [[EMPTY] * memory_slots for _ in range(stacks)]
        if given_memory is not None:
            given = np.array(given_memory, dtype=np.float64)
            rows = given[b] if given.ndim == 3 else given
            for stack, column in zip(contents, rows.T, strict=True):
                stack[: len(column)] = column
        state = _initial_state(controller, weights)
        step = {
            "outputs": np.zeros(len(weights["output_bias"])),
            "actions": np.zeros((stacks, kinds)),
            "pushed_values": np.zeros(stacks),
        }
        steps = []
        for x, real in zip(inputs[b], mask[b], strict=True):
            if real:
                seen = np.array([stack[:read_depth] for stack in contents]).T
                h, state = _controller(
                    controller, weights, np.concatenate([x, seen.reshape(-1)]), state
                )
                interface = h @ weights["interface_kernel"] + weights["interface_bias"]
                split = common.Splitter(common.clip(interface, clip_value))
                actions = common.softmax(split.take(stacks, kinds))
                if round_actions:
                    actions = np.eye(kinds)[np.argmax(actions, axis=-1)]
                values = common.sigmoid(split.take(stacks))
                split.finish()
                contents = [
                    _after(*parts)
                    for parts in zip(contents, actions, values, strict=True)
                ]
                outputs = h @ weights["output_kernel"] + weights["output_bias"]
                step = {
                    "outputs": common.clip(outputs, clip_value),
                    "actions": actions,
                    "pushed_values": values,
                }
            memory = np.array(contents).T
            steps.append(
                {**step, "memory": memory, "read_vectors": memory[:read_depth]}
            )
        traces.append(steps)
        final_states.append(state)
    return common.stack_traces(traces, final_states)


def _after(stack, action, value):
    """What an action leaves of a stack: equations 3 and 4, and the no-op."""
    push, pop, *keep = action
    keep = keep[0] if keep else 0.0
    after = []
    for i, number in enumerate(stack):
        above = value if i == 0 else stack[i - 1]
        below = stack[i + 1] if i + 1 < len(stack) else EMPTY
        after.append(push * above + pop * below + keep * number)
    return after


def _initial_state(controller, weights):
    if controller == "rnn":
        return (np.zeros(len(weights["controller/recurrent_kernel"])),)
    return common.initial_controller_state(controller, weights)


def _controller(controller, weights, x, state):
    """h and the next state: sigmoid(U x + R h + P s), R = 0 for "dense", or an LSTM."""
    if controller == "lstm":
        return common.controller_step(controller, weights, x, state)
    z = x @ weights["controller/kernel"] + weights["controller/bias"]
    if controller == "rnn":
        z = z + state[0] @ weights["controller/recurrent_kernel"]
    h = common.sigmoid(z)
    return h, (h,) if controller == "rnn" else ()
