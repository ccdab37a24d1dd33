"""Pictures of what a memory does: where it writes and reads, its usage and contents.

A memory of a million words has no room in a picture, nor has it to be there: a
sequence touches few of them. `record` runs a layer on one sequence and keeps what
happened to the slots that it touched, for dense and sparse cells alike; everything
else here draws a recording, with matplotlib: `pip install "keras_sam[viz]"`.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from keras_sam._extras import import_matplotlib
from keras_sam.arguments import check_positive_integer
from keras_sam.cells.stack_rnn import EMPTY
from keras_sam.layers import MemoryRNN, StackRNN
from keras_sam.options import TensorLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A weight below this one leaves no trace on the eye.
_TOUCH = 0.05

# How each kind of picture is coloured, from nothing to much.
_WEIGHTS = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0}
_STACKS = {"cmap": "Blues", "vmin": EMPTY, "vmax": 1.0}


class Recording(NamedTuple):
    """What a memory did with one sequence; T steps, S slots that were touched.

    Attributes:
        slots: Array `[S]`, their numbers, ascending.
        write_weights: Array `[T, H, S]`.
        read_weights: Array `[T, R, S]`.
        memory: Array `[T, S, W]`, the contents after each step.
        usage: Array `[T, S]`, in what the cell counts it in; or None.
        usage_name: String, what that is.
        links: Array `[S, S]`, from the row's slot to the column's; or None.
        gates: Dictionary from a gate's name to an array `[T, n]`.
        read_modes: Array `[T, R, 3]`: backward, content, forward; or None.
        inputs: Array `[T, features]`.
        outputs: Array `[T, output_size]`.
        memory_slots: Integer N.
    """

    slots: np.ndarray
    write_weights: np.ndarray
    read_weights: np.ndarray
    memory: np.ndarray
    usage: np.ndarray | None
    usage_name: str
    links: np.ndarray | None
    gates: dict[str, np.ndarray]
    read_modes: np.ndarray | None
    inputs: np.ndarray
    outputs: np.ndarray
    memory_slots: int


def record(
    layer: MemoryRNN,
    inputs: TensorLike,
    initial_state: Sequence[TensorLike] | None = None,
    max_slots: int = 64,
) -> Recording:
    """Runs a layer on one sequence and keeps what its memory did.

    It runs step by step, twice (`layer.trace`): for looking, not for speed.

    Args:
        layer: A `keras_sam` layer, dense or sparse.
        inputs: Tensor `[time, features]`, one sequence.
        initial_state: Optional list of tensors, as `get_initial_state(1)` gives.
        max_slots: Integer, the number of slots to keep: those with the most weight,
            written or read, among all that ever had more than 0.05. Defaults to `64`.

    Returns:
        A `Recording`, of NumPy arrays.

    Raises:
        ValueError: If `inputs` is not one sequence, `max_slots` not a positive integer,
            or `layer` has stacks instead of slots.

    Example:

    >>> layer = keras_sam.SAM(16, memory_slots=2**16, word_size=8, output_size=3)
    >>> recording = keras_sam.visualize.record(layer, np.ones((5, 4), "float32"))
    >>> recording.write_weights.shape[:2]  # 5 steps, one write head
    (5, 1)
    """
    check_positive_integer("max_slots", max_slots)
    batch = _one_sequence(inputs)
    trace = layer.trace(batch, initial_state=initial_state)
    if "write_weights" not in trace:
        raise ValueError(
            "`layer` must write to slots by weights. Draw the stacks of a StackRNN "
            f"with `keras_sam.visualize.plot_stacks`. Received: layer={layer}"
        )
    kinds = [trace[name] for name in ("write_weights", "read_weights")]
    slots = _touched(kinds, max_slots)
    written, read = (_weights_of(weights, slots) for weights in kinds)

    # A second time, now that it is known whose contents are of interest.
    keep = {"memory": lambda state: tf.gather(state.memory, slots, axis=1)}
    if hasattr(layer.cell, "links_among"):
        keep["links"] = lambda state: layer.cell.links_among(state, slots)
    kept = layer.trace(batch, initial_state=initial_state, keep=keep)
    if "usage" in trace:
        usage, usage_name = np.asarray(trace["usage"])[0][:, slots], "usage"
    elif hasattr(layer.cell, "usage_threshold"):
        weights = written.sum(axis=1) + read.sum(axis=1)
        usage = _steps_since(weights > layer.cell.usage_threshold)
        usage_name = "steps since access"
    else:
        usage, usage_name = None, ""
    return Recording(
        slots=slots,
        write_weights=written,
        read_weights=read,
        memory=np.asarray(kept["memory"])[0],
        usage=usage,
        usage_name=usage_name,
        # They are from the column's slot to the row's.
        links=np.asarray(kept["links"])[0, -1].T if "links" in kept else None,
        gates={
            name: np.asarray(values)[0]
            for name, values in trace.items()
            if name.endswith(("gate", "gates"))
        },
        read_modes=np.asarray(trace["read_modes"])[0]
        if "read_modes" in trace
        else None,
        inputs=batch[0].numpy(),
        outputs=np.asarray(trace["outputs"])[0],
        memory_slots=layer.cell.memory_slots,
    )


def plot(recording: Recording, title: str | None = None) -> "Figure":
    """Everything that a recording has, over time, one picture below the other.

    Inputs and outputs, write and read weights of the slots touched (of several heads
    the one that has most), their usage, the read modes (of each head a row: how much it
    reads against the order of writing, by content and along the order) and the gates.

    Args:
        recording: A `Recording`.
        title: Optional string.

    Returns:
        A `matplotlib.figure.Figure`; `figure.savefig(path)` writes it.

    Raises:
        ImportError: If matplotlib is missing.

    Example:

    >>> layer = keras_sam.NTM(16, memory_slots=8, word_size=4, output_size=3)
    >>> recording = keras_sam.visualize.record(layer, np.ones((5, 4), "float32"))
    >>> keras_sam.visualize.plot(recording).savefig("memory.png")
    """
    pictures = {
        "inputs": recording.inputs,
        "outputs": recording.outputs,
        _of_heads("write weights", recording.write_weights): np.max(
            recording.write_weights, axis=1
        ),
        _of_heads("read weights", recording.read_weights): np.max(
            recording.read_weights, axis=1
        ),
    }
    if recording.usage is not None:
        pictures[recording.usage_name] = recording.usage
    modes = recording.read_modes
    if modes is not None:
        modes_name = _of_heads("read modes", modes)
        # The heads of a mode side by side.
        pictures[modes_name] = np.swapaxes(modes, 1, 2).reshape(len(modes), -1)
    heights = [min(max(values.shape[1], 12), 24) for values in pictures.values()]
    heights += [14] * bool(recording.gates)
    figure = _figure(6, sum(heights) / 11 + 1.2)
    axes = figure.subplots(
        len(heights), sharex=True, squeeze=False, height_ratios=heights
    )[:, 0]
    for axis, (name, values) in zip(axes, pictures.items(), strict=False):
        if modes is not None and name == modes_name:
            _picture(figure, axis, values.T, **_WEIGHTS)
            axis.set_ylabel(name)
            _name_modes(axis, modes.shape[1])
            continue
        of_slots = name not in ("inputs", "outputs")
        options = _WEIGHTS if "weights" in name else {"cmap": "viridis"}
        _picture(figure, axis, values.T, **options)
        axis.set_ylabel(f"{name}\nslot" if of_slots else f"{name}\nelement")
        if of_slots:
            _name_slots(axis.yaxis, recording.slots)
    if recording.gates:
        _draw_gates(axes[-1], recording.gates)
    axes[-1].set_xlabel("time step")
    figure.suptitle(title or _headline(recording))
    return figure


def plot_memory(
    recording: Recording, step: int = -1, title: str | None = None
) -> "Figure":
    """The contents of the touched slots after a step, and the links between them.

    Args:
        recording: A `Recording`.
        step: Integer, which step. Defaults to the last one, the only one for which
            there are links.
        title: Optional string.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is missing.

    Example:

    >>> layer = keras_sam.DNC(16, memory_slots=8, word_size=4, output_size=3)
    >>> recording = keras_sam.visualize.record(layer, np.ones((5, 4), "float32"))
    >>> keras_sam.visualize.plot_memory(recording).savefig("contents.png")
    """
    last = step in (-1, len(recording.memory) - 1)
    with_links = recording.links is not None and last
    figure = _figure(7 if with_links else 4, 4)
    axes = figure.subplots(1, 1 + with_links, squeeze=False)[0]
    words = recording.memory[step]
    _picture(figure, axes[0], words, "value", **_symmetric(recording.memory))
    axes[0].set_xlabel("element of the word")
    axes[0].set_ylabel("slot")
    _name_slots(axes[0].yaxis, recording.slots)
    if with_links:
        _picture(figure, axes[1], recording.links, "link", **_WEIGHTS)
        axes[1].set_xlabel("slot written right after it")
        axes[1].set_ylabel("slot")
        for axis in (axes[1].xaxis, axes[1].yaxis):
            _name_slots(axis, recording.slots)
    number = range(len(recording.memory))[step]
    figure.suptitle(title or f"Memory after time step {number}")
    return figure


def plot_stacks(
    layer: StackRNN,
    inputs: TensorLike,
    initial_state: Sequence[TensorLike] | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> "Figure":
    """The stacks of a Stack RNN over time: what is done to them, and what they hold.

    Of each stack a strip has the probabilities of its actions, and below it stands what
    the stack holds after each step, its top above. White is empty (-1). Places that
    stay empty are left out.

    Args:
        layer: A `keras_sam.StackRNN`.
        inputs: Tensor `[time, features]`, one sequence.
        initial_state: Optional list of tensors, as `get_initial_state(1)` gives.
        labels: Optional list of strings, what to call each step.
        title: Optional string.

    Returns:
        A `matplotlib.figure.Figure`; `figure.savefig(path)` writes it.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If `layer` is no Stack RNN, `inputs` is not one sequence, or
            `labels` has not a label for each step.

    Example:

    >>> layer = keras_sam.StackRNN(8, memory_slots=6, stacks=2)
    >>> figure = keras_sam.visualize.plot_stacks(layer, np.eye(3)[[0, 1, 1, 2]])
    >>> figure.savefig("stacks.png")
    """
    if not isinstance(layer, StackRNN):
        raise ValueError(
            "`layer` must be a keras_sam.StackRNN; for other layers there are `record` "
            f"and `plot`. Received: layer={layer}"
        )
    batch = _one_sequence(inputs)
    steps = batch.shape[1]
    if labels is not None and len(labels) != steps:
        raise ValueError(
            f"`labels` must have an entry for each of {steps} steps. "
            f"Received: {len(labels)} labels"
        )
    trace = layer.trace(batch, initial_state, keep={"memory": lambda s: s.memory})
    actions, contents = np.asarray(trace["actions"])[0], np.asarray(trace["memory"])[0]
    used = np.flatnonzero(np.any(contents > EMPTY + _TOUCH, axis=(0, 2)))
    depth = used[-1] + 1 if used.size else 1
    names = ["push", "pop", "no-op"][: actions.shape[-1]]

    # Stacks in columns, so that a picture of ten is not higher than a page.
    columns = 2 if layer.cell.stacks > 1 else 1
    rows = -(-layer.cell.stacks // columns)
    heights = [len(names), min(max(depth, 6), 16)]
    figure = _figure(5 * columns + 1, rows * (sum(heights) / 9 + 0.4) + 0.8)
    axes = figure.subplots(
        2 * rows, columns, sharex=True, squeeze=False, height_ratios=heights * rows
    )
    for stack in range(rows * columns):
        row, column = divmod(stack, columns)
        pair = axes[2 * row : 2 * row + 2, column]
        if stack == layer.cell.stacks:  # an odd number of them
            for axis in pair:
                axis.remove()
            continue
        _picture(figure, pair[0], actions[:, stack].T, **_WEIGHTS)
        pair[0].set_yticks(range(len(names)), names, fontsize=7)
        _picture(figure, pair[1], contents[:, :depth, stack].T, **_STACKS)
        pair[1].set_ylabel(f"stack {stack}")
    if labels is not None:  # of all stacks, which share the axis
        axes[-1, 0].set_xticks(range(steps), labels)
        for axis in axes[-1]:
            axis.tick_params(axis="x", labelsize=6)
    figure.supxlabel("time step" if labels is None else "symbol that is read")
    figure.suptitle(title or f"{layer.cell.stacks} stacks")
    return figure


def plot_attention(
    attention: TensorLike, sentences: Sequence[str], title: str | None = None
) -> "Figure":
    """How much each hop of a question reads of each sentence.

    Args:
        attention: Array `[hops, facts]`, such as a row of
            `keras_sam.EndToEndMemory.attention`. Facts after the sentences, which are
            padding, are left out.
        sentences: Strings, of the facts from the first on.
        title: Optional string.

    Returns:
        A `matplotlib.figure.Figure`; `figure.savefig(path)` writes it.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If `attention` is not of shape `[hops, facts]`, or there are more
            sentences than facts.

    Example:

    >>> attention = [[0.9, 0.1], [0.2, 0.8]]  # two hops
    >>> sentences = ["Mary got the milk.", "Mary went home."]
    >>> figure = keras_sam.visualize.plot_attention(attention, sentences)
    >>> figure.savefig("hops.png")
    """
    attention = np.asarray(attention)
    if attention.ndim != 2 or attention.shape[1] < len(sentences):
        raise ValueError(
            "`attention` must be an array [hops, facts] with a fact for each sentence. "
            f"Received: an array of shape {attention.shape}, {len(sentences)} sentences"
        )
    shown = attention[:, : len(sentences)]
    figure = _figure(7, 1.2 + 0.25 * len(sentences))
    axis = figure.subplots()
    _picture(figure, axis, shown.T, label="attention", cmap="Blues", vmin=0, vmax=1)
    axis.set_yticks(range(len(sentences)), sentences)
    axis.set_xticks(
        range(len(shown)), [f"hop {hop}" for hop in range(1, 1 + len(shown))]
    )
    if title is not None:
        axis.set_title(title)
    return figure


def animate(
    recording: Recording,
    path: str | os.PathLike[str],
    frames_per_second: float = 4,
    title: str | None = None,
) -> None:
    """Writes a run as a moving picture (GIF): contents, and where the heads are.

    Args:
        recording: A `Recording`.
        path: String or path of the file, `.gif`.
        frames_per_second: Number, of time steps. Defaults to `4`.
        title: Optional string.

    Raises:
        ImportError: If matplotlib is missing.

    Example:

    >>> layer = keras_sam.NTM(16, memory_slots=8, word_size=4, output_size=3)
    >>> recording = keras_sam.visualize.record(layer, np.ones((5, 4), "float32"))
    >>> keras_sam.visualize.animate(recording, "run.gif")
    """
    figure = _figure(6, 4)
    memory, heads = figure.subplots(1, 2, width_ratios=(3, 2), sharey=True)
    contents = _picture(
        figure, memory, recording.memory[0], "value", **_symmetric(recording.memory)
    )
    memory.set_xlabel("element of the word")
    memory.set_ylabel("slot")
    _name_slots(memory.yaxis, recording.slots)
    slots = np.arange(len(recording.slots))
    bars = {
        "written": heads.barh(slots - 0.2, 0 * slots, 0.4, color="tab:orange"),
        "read": heads.barh(slots + 0.2, 0 * slots, 0.4, color="tab:blue"),
    }
    heads.set_xlim(0, 1)
    heads.set_xlabel("largest weight of any head")
    heads.legend(list(bars.values()), list(bars), loc="lower right")
    headline = title or _headline(recording)

    def draw(step):
        contents.set_data(recording.memory[step])
        for kind, weights in (
            ("written", recording.write_weights),
            ("read", recording.read_weights),
        ):
            for bar, width in zip(bars[kind], weights[step].max(axis=0), strict=True):
                bar.set_width(width)
        figure.suptitle(f"{headline}: time step {step}")

    steps = len(recording.memory)
    animation = import_matplotlib("matplotlib.animation")
    movie = animation.FuncAnimation(figure, draw, frames=steps, init_func=lambda: None)
    movie.save(path, animation.PillowWriter(fps=frames_per_second), dpi=100)


def pixels(figure: "Figure") -> np.ndarray:
    """A figure as an array of bytes `[height, width, 3]`."""
    figure.canvas.draw()
    # `_figure` gives it a FigureCanvasAgg.
    pixels = figure.canvas.buffer_rgba()  # pyright: ignore[reportAttributeAccessIssue]
    return np.asarray(pixels)[..., :3].copy()


def _one_sequence(inputs):
    """A batch of it."""
    inputs = tf.convert_to_tensor(inputs)
    if inputs.shape.rank != 2:
        raise ValueError(
            "`inputs` must be one sequence, of shape (time, features). "
            f"Received: inputs.shape={tuple(inputs.shape)}"
        )
    return inputs[tf.newaxis]


def _touched(kinds, max_slots):
    """The slots of most weight, ascending."""
    totals = {}
    for weights in kinds:
        if isinstance(weights, tf.SparseTensor):
            slots, values = weights.indices[:, -1].numpy(), weights.values.numpy()
        else:
            values = np.reshape(weights, (-1, weights.shape[-1]))
            slots = np.broadcast_to(np.arange(values.shape[-1]), values.shape)
        enough = values > _TOUCH
        for slot, value in zip(slots[enough], values[enough], strict=True):
            totals[int(slot)] = totals.get(int(slot), 0.0) + value
    # Where nothing has much weight: the first slot, for there to be a picture.
    most = sorted(totals, key=lambda slot: totals[slot], reverse=True)[:max_slots] or [
        0
    ]
    return np.sort(np.array(most))


def _weights_of(weights, slots):
    """The weights of some slots in the first sequence, `[time, heads, slots]`."""
    if isinstance(weights, tf.SparseTensor):
        sizes = weights.dense_shape.numpy()[1:3]
        chosen = np.zeros((*sizes, len(slots)), "float32")
        indices, values = weights.indices.numpy(), weights.values.numpy()
        kept = np.isin(indices[:, -1], slots)
        _, steps, heads, numbers = indices[kept].T
        chosen[steps, heads, np.searchsorted(slots, numbers)] = values[kept]
        return chosen
    weights = np.asarray(weights)[0]
    return weights.reshape(len(weights), -1, weights.shape[-1])[..., slots]


def _steps_since(accessed):
    """Steps since the last access, `[time, slots]`; NaN before the first."""
    steps = np.arange(len(accessed), dtype="float32")[:, np.newaxis]
    last = np.maximum.accumulate(np.where(accessed, steps, -1.0), axis=0)
    return np.where(last < 0, np.nan, steps - last)


def _headline(recording):
    return f"{len(recording.slots)} of {recording.memory_slots:,} slots"


def _of_heads(name, weights):
    heads = weights.shape[1]
    return name if heads == 1 else f"{name}\nof {heads} heads"


def _figure(width, height):
    figure = import_matplotlib("matplotlib.figure").Figure(
        figsize=(width, height), dpi=100, layout="constrained"
    )
    # Room at the right for what colour bars are labelled with.
    figure.get_layout_engine().set(rect=(0.0, 0.0, 0.98, 1.0))
    import_matplotlib("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def _symmetric(values):
    largest = max(float(np.max(np.abs(values))), 1e-6)
    return {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}


def _picture(figure, axis, values, label=None, **options):
    for places in (axis.xaxis, axis.yaxis):
        places.get_major_locator().set_params(integer=True)
    picture = axis.imshow(values, aspect="auto", interpolation="none", **options)
    figure.colorbar(picture, ax=axis, label=label, pad=0.01, fraction=0.05)
    return picture


def _name_slots(axis, slots):
    """Slot numbers at some of the places, however far apart the slots are."""
    places = np.arange(0, len(slots), max(1, -(-len(slots) // 8)))
    axis.set_ticks(places, [f"{slot}" for slot in slots[places]])


def _name_modes(axis, heads):
    """Names of the modes at the middle of their heads' rows, lines between them."""
    middles = heads * np.arange(3) + (heads - 1) / 2
    axis.set_yticks(middles, ["backward", "content", "forward"])
    for border in (heads - 0.5, 2 * heads - 0.5):
        axis.axhline(border, color="tab:orange", linewidth=0.8)


def _draw_gates(axis, gates):
    styles = ("-", "--", ":", "-.")
    for number, (name, values) in enumerate(gates.items()):
        for head, line in enumerate(values.T):
            axis.plot(
                line,
                styles[head % len(styles)],
                color=f"C{number}",
                linewidth=1.2,
                label=name.replace("_", " ") if head == 0 else None,
            )
    axis.set_ylim(-0.05, 1.05)
    axis.set_ylabel("gate")
    # Above the lines: they may be anywhere between 0 and 1.
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 0.97), ncols=4, frameon=False)
