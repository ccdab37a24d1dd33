"""Twin of the Sparse Differentiable Neural Computer (Rae et al. 2016, appendix D).

Plain NumPy, float64; what it shares with SAM's twin comes from there. `run` keeps the
links as a dictionary, `run_dense` is the same model for matrices and weightings over
all N slots (K = N, K_L = N). Numbers in brackets are the paper's equations.
"""

import numpy as np

from . import common, sam

SHARPEN_EPSILON = 1e-6
BACKWARD, CONTENT, FORWARD = range(3)


def run(weights, inputs, **options):
    """Run SDNC over inputs [B, T, F].

    Takes the options of `sam.run` and links_per_slot, key_masks, mask_min,
    link_sharpening and normalize_interface. `frozen_links` [B, T, N, N] has the links
    after each step's write taken from there instead.

    Returns what `sam.run` returns, `links` [B, T, N, N] (row i: what was written before
    slot i), `precedence` [B, T, N] and `read_modes` [B, T, R, 3]. `read_slots` and
    `read_weights` come with the largest weight first.
    """
    return _run(SparseLinks, weights, inputs, options)


def run_dense(weights, inputs, **options):
    """`run` with K = N and K_L = N, on matrices."""
    slots = options["memory_slots"]
    options = {**options, "reads_per_head": slots, "links_per_slot": slots}
    return _run(DenseLinks, weights, inputs, options)


def _run(links_class, weights, inputs, options):
    options = dict(options)
    own = {
        name: options.pop(name, default)
        for name, default in (
            ("links_per_slot", 8),
            ("key_masks", False),
            ("mask_min", 0.0),
            ("link_sharpening", False),
            ("normalize_interface", False),
        )
    }
    frozen = options.pop("frozen_links", None)
    # Example after example, in their order.
    frozen = iter([None] * len(inputs) if frozen is None else frozen)

    def run_example(*arguments):
        return _run_example(*arguments, links_class, next(frozen), **own)

    defaults = {
        "write_heads": 1,
        "reads_per_head": 4,
        "usage_threshold": 0.005,
        "clip_value": 20.0,
        "controller": "lstm",
        "given_memory": None,
        "mask": None,
        "gated_erase": False,
    }
    options = {**defaults, **options}
    names = ("memory_slots", "word_size", "read_heads", *defaults)
    return sam._run_batch(
        run_example, weights, inputs, *(options.pop(name) for name in names)
    )


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
    links_class,
    frozen,
    *,
    links_per_slot,
    key_masks,
    mask_min,
    link_sharpening,
    normalize_interface,
):
    slots, word_size = memory.shape
    state = common.initial_controller_state(controller, weights)
    read_vectors = common.initial_read_vectors(weights, read_heads, word_size)
    reads = [[(slot, 0.0) for slot in range(reads_per_head)] for _ in range(read_heads)]
    links = links_class(slots, links_per_slot)
    modes = np.zeros((read_heads, 3))
    output = np.zeros(len(weights["output_bias"]))
    time = sam.FIRST_TIME

    steps = []
    for t, (x, real) in enumerate(zip(inputs, mask, strict=True)):
        writes = [{} for _ in range(write_heads)]
        lra_slots = [sam.NO_SLOT] * write_heads
        if real:
            chi = np.concatenate([x, read_vectors.reshape(-1)])
            h, state = common.controller_step(controller, weights, chi, state)
            interface = h @ weights["interface_kernel"] + weights["interface_bias"]
            if normalize_interface:
                interface = common.layer_norm(
                    interface,
                    weights["interface_norm/gamma"],
                    weights["interface_norm/beta"],
                )
            p = _split_interface(
                common.clip(interface, clip_value),
                word_size,
                read_heads,
                write_heads,
                key_masks,
                mask_min,
                link_sharpening,
            )
            modes = p["read_modes"]

            # Write as SAM, and remember when.
            lra_slots = sam._least_recently_accessed(last_access, write_heads)
            writes = sam._write_weights(
                reads, p["write_gates"], p["interpolation_gates"], lra_slots
            )
            erased = sam._erased(p, gated_erase)
            memory = sam._write(memory, writes, lra_slots, erased, p["write_vectors"])
            links.record(writes, [] if gated_erase else lra_slots)
            linked = links.dense() if frozen is None else frozen[t]

            # Read: pi_1 b + pi_2 c + pi_3 f, the K largest.
            reads = [
                _read_weights(memory, linked, reads[head], head, p, reads_per_head)
                for head in range(read_heads)
            ]
            read_vectors = np.zeros((read_heads, word_size))
            for head in range(read_heads):
                for slot, weight in reads[head]:
                    read_vectors[head] += weight * memory[slot]

            last_access = list(last_access)
            for slot in sam._accessed(reads, writes, usage_threshold):
                last_access[slot] = time
            time += 1
            output = common.output_step(weights, h, read_vectors, clip_value)

        steps.append(
            {
                "outputs": output,
                "memory": memory,
                "read_slots": [[slot for slot, _ in head] for head in reads],
                "read_weights": [[weight for _, weight in head] for head in reads],
                "dense_read_weights": [sam._dense(head, slots) for head in reads],
                "dense_write_weights": [sam._dense(w.items(), slots) for w in writes],
                "lra_slots": lra_slots,
                "read_vectors": read_vectors,
                "last_access": last_access,
                "links": links.dense(),
                "precedence": links.dense_precedence(),
                "read_modes": modes,
            }
        )
    return steps, state


def _split_interface(
    interface, word_size, read_heads, write_heads, key_masks, mask_min, link_sharpening
):
    split = common.Splitter(interface)
    p = {
        "queries": split.take(read_heads, word_size),
        "strengths": common.oneplus(split.take(read_heads)),
        "write_vectors": split.take(write_heads, word_size),
        "write_gates": common.sigmoid(split.take(write_heads)),
        "interpolation_gates": common.sigmoid(split.take(write_heads)),
        "read_modes": common.softmax(split.take(read_heads, 3)),
        "masks": np.ones((read_heads, word_size)),
        "sharpness": None,
    }
    if key_masks:
        masks = common.sigmoid(split.take(read_heads, word_size))
        p["masks"] = mask_min + (1.0 - mask_min) * masks
    if link_sharpening:
        p["sharpness"] = common.oneplus(split.take(2, read_heads))
    split.finish()
    return p


def _read_weights(memory, links, previous, head, p, count):
    """The `count` slots of the largest weights, as (slot, weight) pairs."""
    slots = len(memory)
    mask, strength = p["masks"][head], p["strengths"][head]
    query = mask * p["queries"][head]
    # Found by the masked query in whole words, compared with masked words.
    scores = [common.cosine(row, query) for row in memory]
    found = sorted(range(slots), key=lambda slot: (-scores[slot], slot))[:count]
    content = np.zeros(slots)
    content[found] = common.softmax(
        strength * np.array([common.cosine(mask * memory[s], query) for s in found])
    )
    # (21), (22).
    previous = sam._dense(previous, slots)
    forward, backward = links @ previous, links.T @ previous
    if p["sharpness"] is not None:
        forward = _sharpen(forward, p["sharpness"][0, head])
        backward = _sharpen(backward, p["sharpness"][1, head])
    modes = p["read_modes"][head]
    weights = modes[BACKWARD] * backward + modes[CONTENT] * content
    weights += modes[FORWARD] * forward
    best = sorted(range(slots), key=lambda slot: (-weights[slot], slot))[:count]
    return [(slot, weights[slot]) for slot in best]


def _sharpen(d, s):
    """Csordas & Schmidhuber: d_i^s / sum_j d_j^s, over what any link leads to."""
    powers = np.where(d > 0, ((d + SHARPEN_EPSILON) / (d.max() + SHARPEN_EPSILON)), 0)
    powers = powers**s
    return powers / max(np.sum(powers), 1.0)


class SparseLinks:
    """At most K_L links from and to each slot, {(i, j): weight}, i written after j."""

    def __init__(self, slots, links_per_slot):
        """No links."""
        self.slots, self.count = slots, links_per_slot
        self.links, self.precedence = {}, {}

    def record(self, writes, erased):
        """Fade what is rewritten, link what is written to what was written last."""
        weights = {}
        for write in writes:
            for slot, weight in write.items():
                weights[slot] = weights.get(slot, 0.0) + weight
        weights = {slot: min(1.0, weight) for slot, weight in weights.items()}

        def kept(slot):
            return 0.0 if slot in erased else 1.0 - weights.get(slot, 0.0)

        self.links = {
            (i, j): kept(i) * kept(j) * link for (i, j), link in self.links.items()
        }
        last = {j: kept(j) * weight for j, weight in self.precedence.items()}
        total = sum(weights.values())
        at_once = max(1.0, total, sum(last.values()))
        for i, weight in weights.items():
            for j, before in last.items():
                if i != j:
                    gained = weight * before / at_once
                    self.links[i, j] = self.links.get((i, j), 0.0) + gained
        for axis in (0, 1):
            for slot in range(self.slots):
                self._truncate(axis, slot)
        last = {j: max(0.0, 1.0 - total) * weight for j, weight in last.items()}
        for i, weight in weights.items():
            last[i] = last.get(i, 0.0) + weight
        best = sorted(last, key=lambda slot: -last[slot])[: self.count]
        self.precedence = {slot: last[slot] for slot in best}

    def _truncate(self, axis, slot):
        links = [key for key in self.links if key[axis] == slot]
        links.sort(key=lambda key: -self.links[key])
        for key in links[self.count :]:
            del self.links[key]

    def dense(self):
        """L [N, N]."""
        matrix = np.zeros((self.slots, self.slots))
        for key, link in self.links.items():
            matrix[key] = link
        return matrix

    def dense_precedence(self):
        """p [N]."""
        return sam._dense(self.precedence.items(), self.slots)


class DenseLinks:
    """The same without a limit, as matrices."""

    def __init__(self, slots, links_per_slot):
        """No links."""
        self.links, self.precedence = np.zeros((slots, slots)), np.zeros(slots)

    def record(self, writes, erased):
        """As `SparseLinks.record`."""
        slots = len(self.precedence)
        weights = sum(sam._dense(write.items(), slots) for write in writes)
        weights = np.minimum(weights, 1.0)
        kept = 1.0 - weights
        kept[np.array(erased, dtype=int)] = 0.0
        precedence = kept * self.precedence
        total = np.sum(weights)
        at_once = max(1.0, total, np.sum(precedence))
        self.links = self.links * np.outer(kept, kept)
        self.links = self.links + np.outer(weights, precedence) / at_once
        np.fill_diagonal(self.links, 0.0)
        self.precedence = max(0.0, 1.0 - total) * precedence + weights

    def dense(self):
        """L [N, N]."""
        return self.links

    def dense_precedence(self):
        """p [N]."""
        return self.precedence
