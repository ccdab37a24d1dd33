"""What the memory cells do when told exactly what to do.

Programs written by hand: interface vectors, or whole sets of weights, under which an
NTM and a DNC copy, look up, walk along what they wrote and use their slots again, and
under which DAM and SAM do the same things, and then not. Then the states that sequences
start from.
"""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sam
from keras_sam import DAM, DNC, NTM, SAM, DAMCell, DNCCell, NTMCell, SAMCell
from keras_sam.cells.usage import least_used_slots

# Saturates sigmoids, softmaxes and the like; what the clipping lets through.
ON, OFF = 20.0, -20.0


def one_hot(index, size):
    return np.eye(size)[index]


def access(cell, state, interface):
    """The state after one step of the memory, of a single sequence."""
    interface = tf.constant([interface], "float32")
    with mock.patch.object(cell, "interface_vector", lambda hidden: interface):
        _, new, _ = cell.step(tf.zeros((1, 1)), state)
    return new._replace(controller=state.controller)


def start(cell, memory=None):
    return cell.unpack_state(cell.get_initial_state(1, memory=memory))


def position(weights):
    """The one slot that a weighting lies on."""
    weights = np.squeeze(weights)
    np.testing.assert_allclose(
        weights, one_hot(weights.argmax(), len(weights)), atol=1e-3
    )
    return int(weights.argmax())


def is_close(got, expected, atol=1e-3):
    np.testing.assert_allclose(np.squeeze(got), np.squeeze(expected), rtol=0, atol=atol)


# The Neural Turing Machine.


def ntm_interface(cell, **parts):
    """An interface vector; by default heads stay where they are and write nothing.

    Head by head, read heads first: `moves` (slots), `keys`, `gates` (ON looks up the
    key, OFF goes on from the last position). Write head by write head: `erase`, `add`.
    """
    heads, words = cell.read_heads + cell.write_heads, cell.word_size
    moves = parts.pop("moves", [0] * heads)
    shifts = OFF + (ON - OFF) * np.eye(2 * cell.shift_range + 1)
    layout = {
        "keys": np.zeros((heads, words)),
        "strengths": np.full(heads, ON),
        "gates": np.full(heads, OFF),
        "shifts": shifts[np.array(moves) + cell.shift_range],
        "sharpening": np.full(heads, ON),
        "erase": np.full((cell.write_heads, words), OFF),
        "add": np.zeros((cell.write_heads, words)),
    }
    assert set(parts) <= set(layout)
    return np.concatenate(
        [
            np.broadcast_to(np.array(parts.get(name, default)), default.shape).ravel()
            for name, default in layout.items()
        ]
    )


def ntm_cell(**options):
    options = {
        "memory_slots": 6,
        "word_size": 4,
        "initial_addressing": "first_slot",
    } | options
    return NTMCell(3, **options)


WORDS = 2.0 * np.array([[1, 1, -1, 1], [-1, 1, 1, 1], [1, -1, 1, 1], [1, 1, 1, -1]])
STORED = np.tanh(WORDS)  # what an add vector of WORDS puts into the memory


def ntm_with_words(cell):
    """A state whose first slots hold STORED, written one by one from slot 0 on."""
    state = start(cell)
    for k, word in enumerate(WORDS):
        moves = [0] * cell.read_heads + [min(k, 1)]
        interface = ntm_interface(cell, moves=moves, erase=ON, add=word)
        state = access(cell, state, interface)
        assert position(state.write_weights) == k
    return state


def test_ntm_writes_to_successive_slots_and_reads_them_back():
    cell = ntm_cell()
    state = ntm_with_words(cell)
    is_close(state.memory[0, :4], STORED)
    is_close(state.memory[0, 4:], 1e-6, atol=1e-6)
    # The read head has stayed on slot 0: it goes to the end, and back again.
    for slot, move in ((0, 0), (1, 1), (2, 1), (3, 1), (2, -1), (1, -1), (0, -1)):
        state = access(cell, state, ntm_interface(cell, moves=[move, 0]))
        assert position(state.read_weights) == slot
        is_close(state.read_vectors, STORED[slot])
    # On beyond slot 0 comes the last slot, and beyond the last comes slot 0.
    state = access(cell, state, ntm_interface(cell, moves=[-1, 0]))
    assert position(state.read_weights) == 5
    state = access(cell, state, ntm_interface(cell, moves=[1, 0]))
    is_close(state.read_vectors, STORED[0])


def test_ntm_finds_a_word_by_a_noisy_copy_of_it():
    cell = ntm_cell()
    state = ntm_with_words(cell)
    for slot in (2, 0, 3, 1):
        key = WORDS[slot] + [0.3, -0.2, 0.2, 0.1]
        interface = ntm_interface(cell, keys=key, gates=[ON, OFF])
        state = access(cell, state, interface)
        is_close(state.read_vectors, STORED[slot])


def test_ntm_finds_what_follows_a_word():
    # Content first, then the shift, in one step: associative recall.
    cell = ntm_cell()
    state = ntm_with_words(cell)
    for slot in (2, 0, 1):
        interface = ntm_interface(cell, keys=WORDS[slot], gates=[ON, OFF], moves=[1, 0])
        is_close(access(cell, state, interface).read_vectors, STORED[slot + 1])


def test_ntm_strength_zero_looks_everywhere_and_gamma_picks_the_best():
    cell = ntm_cell()
    state = ntm_with_words(cell)
    interface = ntm_interface(cell, keys=WORDS[1], gates=[ON, OFF], strengths=-100.0)
    is_close(access(cell, state, interface).read_weights, 1 / 6, atol=1e-6)
    # A faint preference, sharpened.
    key = {"keys": WORDS[1], "gates": [ON, OFF], "strengths": 1.0}
    blurred = access(cell, state, ntm_interface(cell, sharpening=-100.0, **key))
    assert 0.25 < np.max(blurred.read_weights) < 0.6
    sharp = access(cell, state, ntm_interface(cell, sharpening=ON, **key))
    assert position(sharp.read_weights) == 1


def test_ntm_reads_and_finds_what_it_writes_at_the_same_step():
    cell = ntm_cell()
    interface = ntm_interface(cell, erase=ON, add=WORDS[0])
    is_close(access(cell, start(cell), interface).read_vectors, STORED[0])
    interface = ntm_interface(
        cell, erase=ON, add=WORDS[0], keys=WORDS[0], gates=[ON, OFF], moves=[0, -1]
    )
    state = access(cell, start(cell), interface)
    assert position(state.write_weights) == position(state.read_weights) == 5


def test_ntm_erases_only_the_elements_it_is_told_to():
    cell = ntm_cell()
    state = ntm_with_words(cell)  # the write head is on slot 3
    state = access(cell, state, ntm_interface(cell, erase=[[ON, OFF, 0.0, OFF]]))
    is_close(state.memory[0, 3], STORED[3] * [0, 1, 0.5, 1])
    is_close(state.memory[0, :3], STORED[:3])


@pytest.mark.parametrize("shift_range", [0, 2, 3])
def test_ntm_heads_move_up_to_shift_range_slots_at_once(shift_range):
    cell = ntm_cell(memory_slots=7, shift_range=shift_range)
    for move in range(-shift_range, shift_range + 1):
        interface = ntm_interface(cell, moves=[move, -move])
        state = access(cell, start(cell), interface)
        assert position(state.read_weights) == move % 7
        assert position(state.write_weights) == -move % 7


def test_ntm_heads_each_follow_their_own_instructions():
    cell = ntm_cell(read_heads=2, write_heads=2)
    state = start(cell)
    interface = ntm_interface(
        cell, moves=[0, 0, 1, -1], erase=ON, add=[WORDS[0], WORDS[1]]
    )
    state = access(cell, state, interface)
    is_close(state.memory.numpy()[0, [1, 5]], STORED[:2])
    is_close(state.memory.numpy()[0, [0, 2, 3, 4]], 0.0)
    state = access(cell, state, ntm_interface(cell, moves=[1, -1, 0, 0]))
    is_close(state.read_vectors, STORED[:2])
    # Only the second looks up; both write heads add to the slot they share.
    interface = ntm_interface(
        cell,
        keys=[WORDS[3], WORDS[0], WORDS[3], WORDS[3]],
        gates=[OFF, ON, OFF, OFF],
        moves=[0, 0, 1, -3 + 2],
        add=[0.3 * WORDS[2], 0.3 * WORDS[3]],
    )
    state = access(cell, state, interface)
    is_close(state.read_vectors, [STORED[0], STORED[0]])
    is_close(state.memory[0, 2], np.tanh(0.3 * WORDS[2]))
    is_close(state.memory[0, 4], np.tanh(0.3 * WORDS[3]))


def test_ntm_with_hand_set_weights_copies_sequences_of_any_length():
    """The algorithm that the NTM paper says its network learned, set by hand.

    Inputs: a word of +-1 and a flag, 1 during recall. Hidden: the word, and the flag
    as -1 or 1. While words come the write head moves on and writes; during recall
    the read head does the same.
    """
    words, slots = 4, 12
    layer = NTM(
        words + 1,
        memory_slots=slots,
        word_size=words,
        controller="dense",
        output_size=words,
        return_sequences=True,
    )
    layer.build((None, None, words + 1))
    cell = layer.cell
    recall = one_hot(words, words + 1)  # the hidden flag
    hidden_words = np.eye(words + 1, words)

    kernel = np.zeros((words + 1 + words, words + 1))
    kernel[: words + 1] = ON * np.eye(words + 1)
    kernel[words, words] = 2 * ON
    cell.controller.dense.kernel.assign(kernel)
    cell.controller.dense.bias.assign(-ON * recall)

    def linear(writing, recalling):
        """The interface's kernel and bias, from its values in the two phases."""
        writing, recalling = (
            ntm_interface(cell, **writing),
            ntm_interface(cell, **recalling),
        )
        slope = np.outer(recall, (recalling - writing) / 2)
        slope[:, -words:] += ON * hidden_words  # the add vector
        return slope, (recalling + writing) / 2

    kernel, bias = linear({"moves": [0, 1], "erase": ON}, {"moves": [1, 0]})
    cell.interface.kernel.assign(kernel)
    cell.interface.bias.assign(bias)
    cell.output_projection.kernel.assign(
        np.concatenate([np.zeros((words + 1, words)), np.eye(words)])
    )
    # Both heads stand before the first slot.
    before = ON * one_hot([slots - 1], slots)
    cell.initial_read_logits.assign(before)
    cell.initial_write_logits.assign(before)

    rng = np.random.default_rng(0)
    for length in (1, 5, slots):
        items = rng.choice([-1.0, 1.0], size=(2, length, words))
        inputs = np.zeros((2, 2 * length, words + 1), "float32")
        inputs[:, :length, :words] = items
        inputs[:, length:, words] = 1.0
        is_close(layer(inputs)[:, length:], items)
        trace = layer.trace(inputs)
        for example in range(2):
            for step in range(length):
                assert position(trace["write_weights"][example, step]) == step
                read = trace["read_weights"][example, length + step]
                assert position(read) == step


# The Differentiable Neural Computer.


READ_MODES = ("backward", "content", "forward")


def dnc_layout(cell):
    """The parts of the interface vector, in the paper's order, as they are by default.

    Nothing is written, nothing is freed and the read heads look up a key of zeros.
    """
    heads, words = cell.read_heads, cell.word_size
    layout = {
        "read_keys": np.zeros((heads, words)),
        "read_strengths": np.full(heads, ON),
        "write_key": np.zeros(words),
        "write_strength": np.full(1, ON),
        "erase": np.full(words, ON),
        "write_vector": np.zeros(words),
        "free_gates": np.full(heads, OFF),
        "allocation_gate": np.full(1, ON),
        "write_gate": np.full(1, OFF),
        "read_modes": ON * one_hot([READ_MODES.index("content")] * heads, 3),
    }
    if cell.key_masks:
        layout["read_masks"] = np.full((heads, words), ON)
        layout["write_mask"] = np.full(words, ON)
    if cell.link_sharpening:
        layout["forward_sharpness"] = np.full(heads, OFF)
        layout["backward_sharpness"] = np.full(heads, OFF)
    return layout


def dnc_interface(cell, modes=None, **parts):
    """An interface vector: the default layout but for the parts given.

    `modes` names the read modes, one for all heads or one for each.
    """
    if modes is not None:
        modes = [modes] * cell.read_heads if isinstance(modes, str) else modes
        parts["read_modes"] = ON * one_hot([READ_MODES.index(m) for m in modes], 3)
    layout = dnc_layout(cell)
    assert set(parts) <= set(layout)
    return np.concatenate(
        [
            np.broadcast_to(np.array(parts.get(name, default)), default.shape).ravel()
            for name, default in layout.items()
        ]
    )


def dnc_cell(**options):
    return DNCCell(3, **{"memory_slots": 6, "word_size": 5, "read_heads": 1} | options)


ITEMS = 3.0 * np.eye(5)  # no item is like another


def write(cell, state, item, **parts):
    interface = dnc_interface(cell, write_gate=ON, write_vector=item, **parts)
    return access(cell, state, interface)


def dnc_with_items(cell, count=4):
    state = start(cell)
    for item in ITEMS[:count]:
        state = write(cell, state, item)
    return state


def look_up(cell, state, item, **parts):
    return access(cell, state, dnc_interface(cell, read_keys=item, **parts))


def walk(cell, state, modes):
    return access(cell, state, dnc_interface(cell, modes=modes))


def test_dnc_writes_with_the_allocation_gate_open_go_to_different_slots():
    cell = dnc_cell()
    state = start(cell)
    for k, item in enumerate(ITEMS):
        # The usage counts a write from the step after on.
        is_close(state.usage, np.arange(6) < k - 1)
        state = write(cell, state, item)
        assert position(state.write_weights) == k
        assert position(state.precedence) == k
        is_close(state.memory[0, : k + 1], ITEMS[: k + 1])
    is_close(state.memory[0, 5], 1e-6, atol=1e-4)


def test_dnc_with_the_write_gate_shut_changes_nothing_but_the_usage():
    cell = dnc_cell()
    state = dnc_with_items(cell)
    after = access(cell, state, dnc_interface(cell, write_vector=ITEMS[4]))
    for name in ("memory", "link", "precedence"):
        np.testing.assert_allclose(
            getattr(after, name), getattr(state, name), atol=1e-5, err_msg=name
        )
    is_close(after.write_weights, 0.0, atol=1e-6)
    is_close(after.usage, [1, 1, 1, 1, 0, 0])


def test_dnc_finds_what_it_writes_at_the_same_step():
    cell = dnc_cell()
    state = write(cell, dnc_with_items(cell, 2), ITEMS[3], read_keys=ITEMS[3])
    assert position(state.read_weights) == 2
    is_close(state.read_vectors, ITEMS[3])


def test_dnc_forward_walks_the_order_of_writing_and_backward_the_reverse():
    cell = dnc_cell()
    state = look_up(cell, dnc_with_items(cell), ITEMS[0])
    is_close(state.read_vectors, ITEMS[0])
    for mode, path in (("forward", [1, 2, 3]), ("backward", [2, 1, 0])):
        for slot in path:
            state = walk(cell, state, mode)
            assert position(state.read_weights) == slot
            is_close(state.read_vectors, ITEMS[slot], atol=0.01)
    # There is nothing before the first.
    is_close(walk(cell, state, "backward").read_weights, 0.0)


def test_dnc_walks_the_order_of_time_not_of_the_slots():
    # Items are written over others, found by content: 0 1 2 3, then 1, then 0.
    cell = dnc_cell()
    state = dnc_with_items(cell)
    for k in (1, 0):
        state = write(
            cell, state, 2 * ITEMS[k], write_key=ITEMS[k], allocation_gate=OFF
        )
        assert position(state.write_weights) == k
        is_close(state.memory[0, k], 2 * ITEMS[k])
    state = look_up(cell, state, ITEMS[2])
    for slot in (3, 1, 0):
        state = walk(cell, state, "forward")
        assert position(state.read_weights) == slot
    for slot in (1, 3, 2):
        state = walk(cell, state, "backward")
        assert position(state.read_weights) == slot


def test_dnc_heads_walk_their_own_ways():
    cell = dnc_cell(read_heads=3)
    state = look_up(cell, dnc_with_items(cell), [ITEMS[1], ITEMS[2], ITEMS[1]])
    is_close(state.read_vectors, ITEMS[[1, 2, 1]])
    interface = dnc_interface(
        cell, modes=["backward", "content", "forward"], read_keys=ITEMS[3]
    )
    state = access(cell, state, interface)
    is_close(state.read_vectors, ITEMS[[0, 3, 2]], atol=0.01)


def test_dnc_free_gate_releases_a_slot_that_is_used_again():
    cell = dnc_cell()
    state = look_up(cell, dnc_with_items(cell), ITEMS[1])
    kept = write(cell, state, ITEMS[4])
    assert position(kept.write_weights) == 4
    freed = write(cell, state, ITEMS[4], free_gates=ON)
    is_close(freed.usage, [1, 0, 1, 1, 0, 0])
    assert position(freed.write_weights) == 1
    is_close(freed.memory[0, :4], ITEMS[[0, 4, 2, 3]])
    # Half free: half a slot.
    half = access(cell, state, dnc_interface(cell, free_gates=0.0))
    is_close(half.usage, [1, 0.5, 1, 1, 0, 0])


def test_dnc_with_a_full_memory_finds_no_room_until_it_frees_some():
    cell = dnc_cell(memory_slots=4)
    state = dnc_with_items(cell)
    after = write(cell, state, ITEMS[4])
    is_close(after.write_weights, 0.0)
    is_close(after.memory[0], ITEMS[:4], atol=0.01)
    state = look_up(cell, after, ITEMS[2])
    state = write(cell, state, ITEMS[4], free_gates=ON)
    is_close(state.memory[0], ITEMS[[0, 1, 4, 3]], atol=0.01)


def test_dnc_one_head_frees_and_the_other_keeps():
    cell = dnc_cell(read_heads=2)
    state = look_up(cell, dnc_with_items(cell), [ITEMS[0], ITEMS[2]])
    after = access(cell, state, dnc_interface(cell, free_gates=[OFF, ON]))
    is_close(after.usage, [1, 1, 0, 1, 0, 0])


@pytest.mark.parametrize("deallocate", [False, True])
def test_dnc_deallocation_removes_what_a_freed_slot_held(deallocate):
    cell = dnc_cell(deallocate=deallocate)
    state = look_up(cell, dnc_with_items(cell), ITEMS[1])
    state = access(cell, state, dnc_interface(cell, free_gates=ON))
    is_close(state.memory[0, 1], 0.0 * ITEMS[1] if deallocate else ITEMS[1])
    is_close(state.memory.numpy()[0, [0, 2, 3]], ITEMS[[0, 2, 3]])


def test_dnc_key_masks_look_up_by_a_part_of_the_word():
    cell = dnc_cell(key_masks=True)
    state = start(cell)
    facts = np.array([[1, 0, 2, 0, 0], [0, 1, 0, 2, 0], [-1, 1, 0, 0, 2]])
    for fact in facts:
        state = write(cell, state, fact)
    question = np.array([0.0, 1.0, 2.0, 0.0, 0.0])
    by_start = look_up(cell, state, question, read_masks=[ON, ON, OFF, OFF, OFF])
    is_close(by_start.read_vectors, facts[1], atol=0.02)
    by_end = look_up(cell, state, question, read_masks=[OFF, OFF, ON, ON, ON])
    is_close(by_end.read_vectors, facts[0])
    # A floor under the masks: nothing is ignored altogether.
    floored = dnc_cell(key_masks=True, mask_min=0.9)
    whole = look_up(floored, state, question, read_masks=OFF)
    plain = look_up(dnc_cell(), state, question)
    is_close(whole.read_weights, np.squeeze(plain.read_weights), atol=1e-4)


def test_dnc_key_masks_hold_for_the_write_key_as_well():
    cell = dnc_cell(key_masks=True)
    state = dnc_with_items(cell, 2)
    key = {"write_key": ITEMS[0] + 3 * ITEMS[1], "allocation_gate": OFF}
    plain = write(cell, state, ITEMS[4], **key)
    assert position(plain.write_weights) == 1
    masked = write(cell, state, ITEMS[4], **key, write_mask=[ON, OFF, ON, ON, ON])
    assert position(masked.write_weights) == 0


def test_dnc_sharp_links_make_up_for_blurred_ones():
    cell = dnc_cell(link_sharpening=True)
    state = start(cell)
    # Every write lies two thirds on a new slot and one third elsewhere.
    for item in ITEMS[:3]:
        state = write(cell, state, item, allocation_gate=0.7)
    state = look_up(cell, state, ITEMS[0])
    blurred = walk(cell, state, "forward").read_weights.numpy().squeeze()
    sharp = (
        access(cell, state, dnc_interface(cell, modes="forward", forward_sharpness=ON))
        .read_weights.numpy()
        .squeeze()
    )
    np.testing.assert_allclose([blurred.sum(), sharp.sum()], 1.0, rtol=1e-4)
    assert blurred.argmax() == sharp.argmax() == 1
    assert blurred.max() < 0.9 < sharp.max()
    # The sharpness of the other direction is not its own.
    other = dnc_interface(cell, modes="forward", backward_sharpness=ON)
    is_close(access(cell, state, other).read_weights, blurred, atol=1e-5)


def test_dnc_with_hand_set_weights_copies_again_and_again():
    """A whole layer that copies along its links, set by hand.

    Inputs: an item of +-1 and four flags: write, mark the beginning (and write), go
    to the beginning, go on. What was read is freed, so that the slots of one copy
    serve the next: many more items than slots in one sequence.
    """
    width, slots = 4, 8
    layer = DNC(
        width + 4,
        memory_slots=slots,
        word_size=width + 1,  # the last element marks the beginning
        read_heads=1,
        controller="dense",
        deallocate=True,
        output_size=width,
        return_sequences=True,
    )
    layer.build((None, None, width + 4))
    cell = layer.cell
    writes, marks, begins, goes_on = range(width, width + 4)
    layout = dnc_layout(cell)

    def at(part, element=0):
        parts_before = list(layout)[: list(layout).index(part)]
        return sum(layout[name].size for name in parts_before) + element

    cell.controller.dense.kernel.assign(
        ON * np.eye(width + 4 + width + 1, width + 4)  # nothing from the reads
    )
    kernel = np.zeros((width + 4, cell.interface_size))
    for element in range(width):
        kernel[element, at("write_vector", element)] = 1.0
    kernel[marks, at("write_vector", width)] = 1.0
    kernel[begins, at("read_keys", width)] = 1.0
    kernel[writes, at("write_gate")] = ON - OFF
    kernel[[goes_on, marks], at("free_gates")] = ON - OFF
    kernel[begins, at("read_modes", 1)] = ON
    kernel[goes_on, at("read_modes", 2)] = ON
    bias = dnc_interface(cell)
    bias[at("read_modes") : at("read_modes") + 3] = 0.0
    cell.interface.kernel.assign(kernel)
    cell.interface.bias.assign(bias)
    cell.output_projection.kernel.assign(
        np.concatenate([np.zeros((width + 4, width)), np.eye(width + 1, width)])
    )

    rng = np.random.default_rng(0)
    inputs, expected, recalls = [], [], []
    for length in (3, 6, 1, 7, 5, 7):
        items = rng.choice([-1.0, 1.0], size=(2, length, width))
        expected.append(items)
        phase = np.zeros((2, 2 * length + 2, width + 4), "float32")
        phase[:, 0, [writes, marks]] = 1.0
        phase[:, 1 : length + 1, :width] = items
        phase[:, 1 : length + 1, writes] = 1.0
        phase[:, length + 1, begins] = 1.0
        phase[:, length + 2 :, goes_on] = 1.0
        inputs.append(phase)
        recalls.append(phase[0, :, goes_on] == 1.0)
    outputs = layer(np.concatenate(inputs, 1)).numpy()
    is_close(
        outputs[:, np.concatenate(recalls)], np.concatenate(expected, 1), atol=0.05
    )


# Dense and Sparse Access Memory. SAM reads all words here, like DAM.


def access_interface(cell, **parts):
    """An interface vector; by default write gates are shut and a key of zeros is read.

    `interpolation_gates` at OFF write to the slot that was erased, at ON to those
    read before.
    """
    layout = {
        "queries": np.zeros((cell.read_heads, cell.word_size)),
        "strengths": np.full(cell.read_heads, ON),
        "vectors": np.zeros((cell.write_heads, cell.word_size)),
        "write_gates": np.full(cell.write_heads, OFF),
        "interpolation_gates": np.full(cell.write_heads, OFF),
    }
    assert set(parts) <= set(layout)
    return np.concatenate(
        [
            np.broadcast_to(np.array(parts.get(name, default)), default.shape).ravel()
            for name, default in layout.items()
        ]
    )


def access_cell(kind, **options):
    options = {"memory_slots": 4, "word_size": 5, "read_heads": 1} | options
    if kind == "sam":
        return SAMCell(3, reads_per_head=options["memory_slots"], **options)
    return DAMCell(3, **options)


def do(cell, state, **parts):
    return access(cell, state, access_interface(cell, **parts))


def store(cell, state, item):
    """Write an item and read it at the same step."""
    return do(cell, state, vectors=item, write_gates=ON, queries=item)


def store_all(cell, count):
    state = start(cell)
    for item in ITEMS[:count]:
        state = store(cell, state, item)
    return state


each_access_cell = pytest.mark.parametrize("kind", ["dam", "sam"])


@each_access_cell
def test_access_fills_the_memory_from_the_first_slot_and_wraps_around(kind):
    cell = access_cell(kind)
    state = store_all(cell, 4)
    is_close(state.memory, ITEMS[:4])
    for slot, item in ((0, ITEMS[4]), (1, ITEMS[0]), (2, ITEMS[1])):
        state = store(cell, state, item)
        is_close(state.memory[0, slot], item)
        is_close(state.read_vectors, item)
    is_close(state.memory, ITEMS[[4, 0, 1, 3]])


@each_access_cell
def test_access_keeps_what_was_read(kind):
    cell = access_cell(kind, memory_slots=3)
    # Without a read of the first word that word would be the next to go.
    state = do(cell, store_all(cell, 2), queries=ITEMS[0])
    state = store(cell, store(cell, state, ITEMS[2]), ITEMS[3])
    is_close(state.memory, ITEMS[[0, 3, 2]])


@each_access_cell
def test_access_erases_whatever_the_gates_say_and_adds_what_they_let_through(kind):
    cell = access_cell(kind)
    state = start(cell, memory=ITEMS[:4])
    for gates, added in (
        ({"write_gates": OFF}, 0.0),
        ({"write_gates": 0.0}, 0.5 * ITEMS[4]),
        # Read was the very slot erased: a quarter as the oldest, a quarter as read.
        ({"write_gates": 0.0, "interpolation_gates": 0.0}, 0.5 * 0.5 * ITEMS[4]),
    ):
        after = do(cell, state, vectors=ITEMS[4], queries=ITEMS[1], **gates)
        is_close(after.memory, [added + np.zeros(5), *ITEMS[1:4]])


@each_access_cell
def test_access_with_a_gated_erase_erases_no_more_than_it_writes(kind):
    cell = access_cell(kind, gated_erase=True)
    state = start(cell, memory=ITEMS[:4])
    for gates, kept, added in (
        ({"write_gates": OFF}, 1.0, 0.0),
        ({"write_gates": 0.0}, 0.5, 0.5),
        ({"write_gates": 0.0, "interpolation_gates": 0.0}, 0.75, 0.25),
        ({"write_gates": ON}, 0.0, 1.0),
        ({"write_gates": ON, "interpolation_gates": ON}, 1.0, 0.0),
    ):
        after = do(cell, state, vectors=ITEMS[4], queries=ITEMS[1], **gates)
        # Nothing has been read before, so that all of it goes to the oldest slot.
        oldest = kept * ITEMS[0] + added * ITEMS[4]
        is_close(after.memory, [oldest, *ITEMS[1:4]])


def test_a_gated_erase_keeps_all_words_while_nothing_is_written():
    few = {"vectors": ITEMS[4], "write_gates": -3.0, "queries": ITEMS[1]}
    lost = {}
    for gated, threshold in ((True, 0.1), (True, 0.005), (False, 0.005)):
        cell = access_cell("sam", gated_erase=gated, usage_threshold=threshold)
        state = start(cell, memory=ITEMS[:4])
        for _ in range(3):
            state = do(cell, state, **few)
        change = np.abs(state.memory[0] - ITEMS[:4]).max(axis=-1)
        lost[gated, threshold] = [np.sum(change > small) for small in (1e-3, 0.5)]
    # A gate that is nearly shut changes a little of a single word, the same at each
    # step; below the threshold it counts as no access. Else of another word each time.
    assert lost == {(True, 0.1): [1, 0], (True, 0.005): [3, 0], (False, 0.005): [3, 3]}


@each_access_cell
def test_access_writes_where_it_has_read(kind):
    cell = access_cell(kind, read_heads=2)
    state = do(cell, start(cell, memory=ITEMS[:3]), queries=ITEMS[:2])
    follow = {"write_gates": ON, "interpolation_gates": ON}
    # One write head follows both, half and half. What is erased is slot 3 each time.
    after = do(cell, state, vectors=ITEMS[4], **follow)
    is_close(after.memory[0, :3], ITEMS[:3] + np.outer([0.5, 0.5, 0], ITEMS[4]))

    cell = access_cell(kind, read_heads=2, write_heads=2, memory_slots=5)
    state = do(cell, start(cell, memory=ITEMS[:3]), queries=ITEMS[:2])
    after = do(cell, state, vectors=ITEMS[3:], **follow)
    is_close(after.memory[0, :3], ITEMS[:3] + [ITEMS[3], ITEMS[4], np.zeros(5)])
    # Or each to an erased slot of its own.
    after = do(cell, state, vectors=ITEMS[3:], write_gates=ON)
    is_close(after.memory, ITEMS)


@each_access_cell
def test_access_writes_over_given_rows_last(kind):
    cell = access_cell(kind, memory_slots=5)
    state = start(cell, memory=ITEMS[:2])
    for k in (2, 3, 4):
        state = store(cell, state, ITEMS[k])
    is_close(state.memory, ITEMS)
    is_close(store(cell, state, ITEMS[4]).memory[0, 0], ITEMS[4])


def test_dam_keeps_what_is_used_often_and_sam_what_was_used_lately():
    for kind, options, slot in (
        ("dam", {"discount": 1.0}, 1),
        ("dam", {"discount": 0.2}, 0),
        ("sam", {}, 0),
    ):
        cell = access_cell(kind, memory_slots=2, **options)
        state = store_all(cell, 1)
        for _ in range(3):
            state = do(cell, state, queries=ITEMS[0])
        state = store(cell, store(cell, state, ITEMS[1]), ITEMS[2])
        is_close(state.memory[0, slot], ITEMS[2])
        is_close(state.memory[0, 1 - slot], ITEMS[1 - slot])


@pytest.mark.parametrize("compiled", [False, True])
def test_dam_fills_its_memory_in_order_though_rounding_tells_slots_apart(compiled):
    # All words are the same: slots without a write have been used alike, but for the
    # rounding of products and exponentials of 33 numbers, four or eight at a time.
    cell = access_cell("dam", memory_slots=33, read_heads=3, write_heads=3)
    step = tf.function(cell.access, jit_compile=True) if compiled else cell.access
    rng, batch = np.random.default_rng(0), 20
    words = np.tile(rng.normal(size=(batch, 1, 5)), (1, 33, 1))
    state = cell.unpack_state(cell.get_initial_state(batch, memory=words))
    state, erased = state._replace(usage=tf.zeros((batch, 33))), []
    for _ in range(11):
        interface = [
            access_interface(
                cell, write_gates=ON, queries=rng.normal(size=(3, 5)), strengths=0.0
            )
            for _ in range(batch)
        ]
        fields, trace = step(tf.constant(interface, "float32"), state)
        state = state._replace(**fields)
        erased.append(trace["least_used_slots"])
    expected = np.tile(np.arange(33), (batch, 1))
    np.testing.assert_array_equal(np.concatenate(erased, axis=1), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_least_used_slots(dtype):
    def least(*usage, count=1):
        slots = least_used_slots(tf.constant([usage], dtype), count)
        assert slots.shape == (1, count) and slots.dtype == "int32"
        return slots.numpy()[0].tolist()

    assert least(2.0, 0.5, 1.0, 0.25, 1.5, count=3) == [3, 1, 2]
    assert least(0.0, 0.0, 0.0, count=3) == [0, 1, 2]
    assert least(1.0, 0.0, 1.0, 0.0, count=4) == [1, 3, 0, 2]
    for usage in (0.0, 0.3, 1.0, 700.0):
        tiny = np.finfo(dtype).eps * (1.0 + usage)
        # What rounding may explain makes no difference, what it may not does.
        assert least(usage + 20 * tiny, usage, usage + tiny, count=3) == [0, 1, 2]
        assert least(usage + 500 * tiny, usage, count=2) == [1, 0]


# The state before the first step.

CELLS = {
    "ntm": (NTMCell, {"read_heads": 2, "write_heads": 3}),
    "dnc": (DNCCell, {"read_heads": 2}),
    "dam": (DAMCell, {"read_heads": 2, "write_heads": 2}),
    "sam": (SAMCell, {"read_heads": 2, "write_heads": 2}),
}
each_cell = pytest.mark.parametrize("kind", CELLS)
each_dense_cell = pytest.mark.parametrize("kind", ["ntm", "dnc", "dam"])


def small_cell(kind, **options):
    cell_class, defaults = CELLS[kind]
    return cell_class(5, memory_slots=6, word_size=4, **defaults | options)


@each_cell
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_untouched_memory_holds_a_small_constant(kind, dtype):
    state = start(small_cell(kind, dtype=dtype))
    assert state.memory.dtype == dtype
    np.testing.assert_array_equal(state.memory, np.full((1, 6, 4), 1e-6, dtype))


@each_dense_cell
@pytest.mark.parametrize("initial_memory", ["random", "learned"])
def test_a_memory_can_start_from_numbers_of_its_own(kind, initial_memory):
    cell = small_cell(kind, initial_memory=initial_memory, seed=1)
    state = cell.unpack_state(cell.get_initial_state(3))
    weight = cell.initial_memory_variable
    assert weight.trainable == (initial_memory == "learned")
    assert np.unique(weight).size == 24
    assert 0.25 < np.std(weight) < 0.75
    for example in range(3):
        np.testing.assert_array_equal(state.memory[example], weight)
    # Once drawn, always the same.
    np.testing.assert_array_equal(start(cell).memory[0], weight)


def test_ntm_heads_start_on_the_first_slot():
    first = one_hot(0, 6)
    for initial_addressing, tolerance in (("first_slot", 0.0), ("learned", 1e-3)):
        state = start(small_cell("ntm", initial_addressing=initial_addressing))
        assert state.read_weights.shape == (1, 2, 6)
        assert state.write_weights.shape == (1, 3, 6)
        for weights in (state.read_weights, state.write_weights):
            np.testing.assert_allclose(weights.numpy().sum(-1), 1.0, rtol=1e-6)
            for head in weights[0]:
                np.testing.assert_allclose(head, first, rtol=0, atol=tolerance)


def test_ntm_learned_start_is_the_softmax_of_its_weights():
    cell = small_cell("ntm")
    cell.build((None, 3))
    rng = np.random.default_rng(0)
    for name, heads in (("read", 2), ("write", 3)):
        variable = getattr(cell, f"initial_{name}_logits")
        assert variable.trainable
        logits = rng.normal(size=(heads, 6)).astype("float32")
        variable.assign(logits)
        got = getattr(cell.unpack_state(cell.get_initial_state(2)), f"{name}_weights")
        expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(got, np.stack([expected] * 2), rtol=1e-5)


@each_cell
def test_the_first_read_vectors_are_zeros_or_learned(kind):
    learned = small_cell(kind, initial_read_vectors="learned")
    zeros = small_cell(kind, initial_read_vectors="zeros")
    for cell in (learned, zeros):
        np.testing.assert_array_equal(start(cell).read_vectors, np.zeros((1, 2, 4)))
    assert not hasattr(zeros, "initial_read_vectors_variable")
    values = np.arange(8.0).reshape(2, 4)
    learned.initial_read_vectors_variable.assign(values)
    assert learned.initial_read_vectors_variable.trainable
    state = learned.unpack_state(learned.get_initial_state(3))
    np.testing.assert_array_equal(state.read_vectors, np.stack([values] * 3))


def test_ntm_learns_its_first_reads_and_the_others_do_not_by_default():
    for kind in CELLS:
        expected = "learned" if kind == "ntm" else "zeros"
        assert small_cell(kind).initial_read_vectors == expected


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("dnc", ("usage", "link", "precedence", "write_weights", "read_weights")),
        ("dam", ("usage", "read_weights")),
        ("sam", ("read_weights",)),
    ],
)
def test_the_start_has_nothing_used_linked_or_read(kind, names):
    state = start(small_cell(kind))
    for name in names:
        assert not np.any(getattr(state, name)), name


@each_cell
def test_a_state_can_be_given_rows_of_memory_to_start_from(kind):
    cell = small_cell(kind)
    rows = np.arange(12.0).reshape(3, 4)
    for memory in (rows, rows.astype(int), np.stack([rows, -rows]), np.zeros((6, 4))):
        state = cell.unpack_state(cell.get_initial_state(2, memory=memory))
        given = memory.shape[-2]
        np.testing.assert_array_equal(
            state.memory[:, :given], np.broadcast_to(memory, (2, given, 4))
        )
        np.testing.assert_allclose(state.memory[:, given:], 1e-6)
        others = cell.unpack_state(cell.get_initial_state(2))._asdict()
        depend = {"memory", "usage", "last_access", "index", "controller"}
        for name in set(others) - depend:
            np.testing.assert_array_equal(getattr(state, name), others[name])


@each_cell
@pytest.mark.parametrize(
    "shape", [(7, 4), (3, 5), (4,), (3, 3, 4), (1, 2, 3, 4)], ids=str
)
def test_given_memory_of_another_shape_is_refused(kind, shape):
    with pytest.raises(ValueError, match="word_size=4, rows at most 6 and batch=2"):
        small_cell(kind).get_initial_state(2, memory=np.zeros(shape))


@pytest.mark.parametrize("batched", [False, True])
def test_dnc_does_not_write_over_given_rows(batched):
    cell = dnc_cell()
    rows = ITEMS[:2]
    state = start(cell, memory=rows[np.newaxis] if batched else rows)
    np.testing.assert_array_equal(state.usage, [[1, 1, 0, 0, 0, 0]])
    for k, item in enumerate(ITEMS[2:4]):
        state = write(cell, state, item)
        assert position(state.write_weights) == 2 + k
    is_close(state.memory[0, :4], ITEMS[:4])
    # They are read by content, and freed, like any others.
    state = look_up(cell, state, ITEMS[0])
    is_close(state.read_vectors, ITEMS[0])
    state = write(cell, state, ITEMS[4], free_gates=ON)
    assert position(state.write_weights) == 0


@pytest.mark.parametrize("layer_class", [NTM, DNC, DAM, SAM])
def test_a_layer_reads_the_memory_it_is_given(layer_class):
    layer = layer_class(3, memory_slots=6, word_size=4, read_heads=1)
    inputs = np.ones((2, 4, 3), "float32")
    empty = layer(inputs)
    memory = np.random.default_rng(0).normal(size=(2, 5, 4))
    given = layer(inputs, initial_state=layer.get_initial_state(2, memory=memory))
    assert np.all(np.max(np.abs(given - empty), -1) > 1e-3)
    assert np.max(np.abs(given[0] - given[1])) > 1e-3
    np.testing.assert_array_equal(
        layer(inputs, initial_state=layer.get_initial_state(2)), empty
    )


# States as Keras passes them on.

CONTROLLERS = {
    "lstm": lambda: "lstm",
    "dense": lambda: "dense",
    "gru": lambda: keras.layers.GRUCell(5),
    "stacked": lambda: keras.layers.StackedRNNCells(
        [keras.layers.LSTMCell(5), keras.layers.LSTMCell(3)]
    ),
    "skip": lambda: keras_sam.SkipCell(keras.layers.LSTMCell(5)),
}


@each_cell
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_states_are_packed_and_unpacked_without_loss(kind, controller):
    cell = small_cell(kind, controller=CONTROLLERS[controller]())
    states = cell.get_initial_state(batch_size=2)
    rng = np.random.default_rng(0)
    for _ in range(2):
        assert [tuple(state.shape) for state in states] == [
            (2, size) for size in cell.state_size
        ]
        named = cell.unpack_state(states)
        for name, shape in cell.state_shapes.items():
            assert getattr(named, name).shape == (2, *shape), name
        packed = cell.pack_state(named)
        assert len(packed) == len(states)
        for mine, theirs in zip(packed, states, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        # Once more with the states of a step.
        output, states = cell(rng.normal(size=(2, 3)).astype("float32"), states)
        assert output.shape == (2, cell.output_size)


@each_cell
def test_states_are_told_apart_when_they_are_unpacked(kind):
    cell = small_cell(kind)
    flat = [
        np.arange(2.0 * size).reshape(2, size) + 1000 * k
        for k, size in enumerate(cell.state_size)
    ]
    state = cell.unpack_state(flat)
    for k, name in enumerate(cell.state_shapes):
        np.testing.assert_array_equal(
            np.reshape(getattr(state, name), (2, -1)), flat[k]
        )
    h, c = state.controller
    np.testing.assert_array_equal(h, flat[-2])
    np.testing.assert_array_equal(c, flat[-1])


@each_cell
def test_states_that_are_not_the_cells_are_refused(kind):
    cell = small_cell(kind)
    states = cell.get_initial_state(batch_size=2)
    for bad in (states[:-1], [*states, states[0]], states[::-1]):
        with pytest.raises(ValueError, match="The state must be a list of tensors"):
            cell.unpack_state(bad)


# Sizes.


def test_the_copy_task_ntm_has_62536_parameters():
    units, slots, words, inputs, outputs = 100, 128, 20, 9, 8
    cell = NTMCell(units, memory_slots=slots, word_size=words, output_size=outputs)
    cell.build((None, inputs))

    # Four gates, each from the input, the read vector, the last output and a bias.
    lstm = 4 * units * (inputs + words + units + 1)
    # A head: key, strength, interpolation gate, shifts by -1, 0, 1, and gamma.
    head = words + 1 + 1 + 3 + 1
    read_and_write_head = 2 * head + words + words  # and erase and add to write
    interface = (units + 1) * read_and_write_head
    output = (units + words + 1) * outputs
    first_read_vector = words
    first_weightings = 2 * slots

    assert cell.controller.count_params() == lstm == 52_000
    assert cell.interface.count_params() == interface == 9_292
    assert cell.output_projection.count_params() == output == 968
    in_all = lstm + interface + output + first_read_vector + first_weightings
    assert cell.count_params() == in_all == 62_536
    assert sum(np.size(weight) for weight in cell.trainable_weights) == in_all


def test_the_interface_of_a_dnc_is_as_wide_as_the_paper_says():
    for words, heads in ((4, 1), (20, 4)):
        options = {"word_size": words, "read_heads": heads, "memory_slots": 7}
        plain = words * heads + 3 * words + 5 * heads + 3
        assert DNCCell(3, **options).interface_size == plain
        masked = DNCCell(3, key_masks=True, **options)
        assert masked.interface_size == plain + (heads + 1) * words
        sharp = DNCCell(3, link_sharpening=True, **options)
        assert sharp.interface_size == plain + 2 * heads
        assert DNCCell(3, deallocate=True, **options).interface_size == plain


@each_access_cell
def test_the_interface_of_an_access_cell_has_its_five_parts(kind):
    for heads, write_heads in ((1, 1), (4, 1), (4, 4)):
        cell = access_cell(kind, read_heads=heads, write_heads=write_heads)
        # Query and strength; vector, write gate and interpolation gate.
        assert cell.interface_size == heads * (5 + 1) + write_heads * (5 + 2)


@pytest.mark.parametrize("cell_class", [NTMCell, DNCCell, DAMCell, SAMCell])
def test_a_fixed_start_leaves_no_parameter_that_depends_on_the_memorys_size(cell_class):
    fixed = {"initial_read_vectors": "zeros"}
    if cell_class is NTMCell:
        fixed["initial_addressing"] = "first_slot"
    counts = set()
    for slots in (4, 40):
        cell = cell_class(5, memory_slots=slots, word_size=4, **fixed)
        cell.build((None, 3))
        counts.add(cell.count_params())
    assert len(counts) == 1
