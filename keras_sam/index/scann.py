"""Approximate search by the ScaNN library."""

import math
import secrets
import threading
import weakref
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_sam._compat import in_xla
from keras_sam.arguments import check_positive_integer
from keras_sam.index.base import OVERFETCH, Index
from keras_sam.ops.content import NORM_EPSILON
from keras_sam.ops.selection import distinct_top_k
from keras_sam.ops.similarity import similarity
from keras_sam.options import Update

# What the searchers that wait for their states may take together.
CACHE_BYTES = 2**31

# States that a searcher can go back to.
VERSIONS = 1024

# Asymmetric hashing cannot be trained on less.
SMALLEST_TREE = 16

# ScaNN computes in single precision and breaks ties as it likes: what it finds beyond
# K is compared again.
SCANN_OVERFETCH = 8

# In the place of a slot: none found; sequence not answered yet.
NONE, OPEN = -1, -2


@keras.saving.register_keras_serializable(package="keras_sam")
class ScaNN(Index):
    """Searches with ScaNN, the library.

    [ScaNN](https://github.com/google-research/google-research/tree/master/scann)
    ([Guo et al., 2020](https://arxiv.org/abs/1908.10396)) compares a query with all
    words of a small memory. Those of a larger one are leaves of a tree: a query looks
    into the leaves nearest to it, compares itself with compressed words there, and
    then with the most promising words themselves. A tree of as many leaves as the
    square root of the number of words is made once there are enough words and made
    again after as many insertions as there were words, as [Rae et al., 2016](
    https://arxiv.org/abs/1610.09027) do with their index. Slots not written to so far
    are alike, so that K of them are enough, as for `keras_sam.index.Exact`. Whatever
    is found is compared with the query once more, as it stands in the memory.

    Every sequence has a searcher of its own, which lives outside of TensorFlow, in
    this process. The state of the index, four numbers, names a searcher and the moment
    in its life to which the state belongs. A searcher that has moved on since (the
    same state was continued twice) goes back by up to 1,024 insertions; one that is
    not there (the state comes from another process, or the searchers took more than
    `keras_sam.index.scann.CACHE_BYTES` together, 2 GiB, and it was the one used
    longest ago) is built again from the memory, which for a million words takes
    seconds, as does each making of a tree. All searchers of a batch should fit: one
    takes some 6 W bytes for each word. A state belongs to its memory: rows changed by
    other means than `insert` are compared as they are, but found by what they were.

    XLA cannot compile it, and an exported model does not contain it. ScaNN trains its
    trees on random samples: two runs may differ in what they find in them.

    Args:
        brute_force_up_to: Integer, the number of words, at least 16, up to which all
            are compared. Defaults to `4096`.
        leaves_to_search: Integer, the leaves that a query looks into. Defaults to
            `128`.
        reordering: Integer, the words in those leaves that it is compared with in
            full. Defaults to `256`.
        retrain_every: Integer, the number of insertions after which a tree is made
            again, or `None` for as many as it had words. Defaults to `None`.

    Raises:
        ValueError: If an argument is not an integer of the size above; when used, if
            XLA is to compile it.
        ImportError: If ScaNN cannot be imported.

    Example:

    >>> index = keras_sam.index.ScaNN()
    >>> memory = tf.constant([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
    >>> state = index.reset(memory, given_rows=3)
    >>> index.search(state, memory, tf.constant([[[0.0, 1.0]]]), count=2).numpy()
    array([[[1, 2]]], dtype=int32)
    """

    supports_export = False

    def __init__(
        self,
        brute_force_up_to: int = 4096,
        leaves_to_search: int = 128,
        reordering: int = 256,
        retrain_every: int | None = None,
    ) -> None:
        self.brute_force_up_to = check_positive_integer(
            "brute_force_up_to", brute_force_up_to, minimum=SMALLEST_TREE
        )
        self.leaves_to_search = check_positive_integer(
            "leaves_to_search", leaves_to_search
        )
        self.reordering = check_positive_integer("reordering", reordering)
        if retrain_every is not None:
            check_positive_integer("retrain_every", retrain_every)
        self.retrain_every = retrain_every
        _import_scann()

    def get_config(self) -> dict[str, Any]:
        return {
            "brute_force_up_to": self.brute_force_up_to,
            "leaves_to_search": self.leaves_to_search,
            "reordering": self.reordering,
            "retrain_every": self.retrain_every,
        }

    def state_size(self, memory_slots: int, word_size: int) -> int:
        return 4

    def reset(self, memory: tf.Tensor, given_rows: int) -> tf.Tensor:
        _refuse_xla()
        batch = tf.shape(memory)[0]
        state = tf.numpy_function(_new_states, (batch, given_rows), tf.int32)
        return tf.cast(tf.ensure_shape(state, (memory.shape[0], 4)), memory.dtype)

    def insert(
        self,
        state: tf.Tensor,
        slots: tf.Tensor,
        rows: tf.Tensor,
        active: tf.Tensor | None = None,
        update: Update = tf.tensor_scatter_nd_update,
    ) -> tf.Tensor:
        _refuse_xla()
        if active is None:
            active = tf.fill((tf.shape(slots)[0],), True)
        # Integers have no gradient to look for.
        new = tf.numpy_function(self._insert, (state, slots, rows, active), tf.int32)
        return tf.cast(tf.ensure_shape(new, state.shape), state.dtype)

    def search(
        self, state: tf.Tensor, memory: tf.Tensor, queries: tf.Tensor, count: int
    ) -> tf.Tensor:
        _refuse_xla()
        memory, queries = tf.stop_gradient(memory), tf.stop_gradient(queries)
        batch, heads = tf.shape(queries)[0], queries.shape[1]
        fetched = count + SCANN_OVERFETCH
        shape = (queries.shape[0], heads, fetched)

        def answer(found, asked):
            # A searcher sees the rows that it asks for, never the whole memory.
            words = tf.gather_nd(memory, asked)
            found, asked = tf.numpy_function(
                self._answer, (state, queries, found, asked, words), (tf.int32,) * 2
            )
            return tf.ensure_shape(found, shape), tf.ensure_shape(asked, (None, 2))

        found, _ = tf.while_loop(
            lambda found, _: tf.reduce_any(found == OPEN),
            answer,
            (tf.fill((batch, heads, fetched), OPEN), tf.zeros((0, 2), tf.int32)),
            shape_invariants=(tf.TensorShape(shape), tf.TensorShape((None, 2))),
        )
        # The K slots after those written to, or the last K: always K different ones.
        used = tf.cast(state[:, 3:], tf.int32)
        spare = tf.minimum(used, memory.shape[1] - count) + tf.range(count)
        spare = tf.tile(spare[:, tf.newaxis], (1, heads, 1))
        found = tf.where(found < 0, spare[..., :1], found)
        candidates = tf.concat([found, spare], axis=-1)
        rows = tf.gather(memory, candidates, batch_dims=1)
        return distinct_top_k(similarity(queries, rows), candidates, count)

    def freeze(
        self, memory: tf.Variable, count: int, state: tf.Tensor | None = None
    ) -> Any:
        # ScaNN's operations for TensorFlow are needed here alone.
        from keras_sam.index.frozen_scann import FrozenScaNN

        words = tf.convert_to_tensor(memory)
        count = min(count + OVERFETCH, memory.shape[0])
        return FrozenScaNN(self, words, count)

    # Outside of TensorFlow, in NumPy.

    def _insert(self, states, slots, rows, active):
        new_states = states.astype("int32")
        for sequence in np.flatnonzero(active):
            token, used = _read_state(states[sequence])
            searcher = self._take_searcher(token, used, rows.shape[-1])
            written, entries = np.unique(slots[sequence], return_index=True)
            searcher.write(written, rows[sequence, entries])
            used = max(used, written[-1] + 1)
            new_states[sequence], token = _new_state(used)
            searcher.writes[token] = written
            _cache.put(searcher)
        return new_states

    def _answer(self, states, queries, found, asked, words):
        """What the searchers find for those queries that have no answer yet.

        Args:
            states: Array `[batch, 4]`.
            queries: Array `[batch, heads, W]`.
            found: Integer array `[batch, heads, candidates]`.
            asked: Integer array `[rows, 2]`, the sequence and slot of each of
            words: Array `[rows, W]`.

        Returns:
            `found`; and `asked` for words that more sequences need for an answer.
        """
        found, asked_next = found.copy(), [np.zeros((0, 2), "int32")]
        for sequence in np.flatnonzero(found[:, 0, 0] == OPEN):
            token, used = _read_state(states[sequence])
            searcher = self._take_searcher(token, used, queries.shape[-1])
            own = asked[:, 0] == sequence
            searcher.write(asked[own, 1], words[own])
            missing = searcher.missing(used)
            if len(missing):
                asked_next.append(np.insert(missing[:, np.newaxis], 0, sequence, 1))
            else:
                searcher.train_if_due()
                found[sequence] = searcher.search(queries[sequence], found.shape[2])
            _cache.put(searcher)
        return found, np.concatenate(asked_next).astype("int32")

    def _take_searcher(self, token, used, word_size):
        searcher = _cache.take(token)
        if searcher is None:
            searcher = _cache.add(_Searcher(self, word_size, token))
        searcher.cut(used)
        return searcher


class _Searcher:
    """ScaNN's index of one sequence's words; its row i is the word of slot i.

    Args:
        settings: A `ScaNN`.
        word_size: Integer.
        token: Integer that names the version of the sequence that it starts with.
    """

    def __init__(self, settings, word_size, token):
        self._settings = settings
        self._word_size = word_size
        self._scann = _builder(word_size).score_brute_force().build().searcher
        # No threads of its own: there may be thousands of searchers.
        self._scann.set_num_threads(0)
        self._size = 0
        self._stale = set()  # slots whose words have changed, to what is not known
        self._leaves = 0
        self._insertions = 0  # since there are so many leaves
        self.writes = {token: ()}  # the slots that each version wrote, oldest first

    @property
    def version(self):
        """The token of the version that it stands at."""
        return next(reversed(self.writes))

    @property
    def bytes(self):
        return 2**14 + 512 * len(self.writes) + 6 * self._word_size * self._size

    def go_back(self, token):
        """Back to an earlier version.

        Returns:
            List of the tokens of the versions that are given up.
        """
        given_up = []
        while self.version != token:
            version, slots = self.writes.popitem()
            self._stale.update(slots)
            given_up.append(version)
        return given_up

    def cut(self, size):
        """Without the slots from `size` on."""
        if self._size > size:
            self._scann.delete(list(range(self._size - 1, size - 1, -1)))
            self._size = size
        self._stale = {slot for slot in self._stale if slot < self._size}

    def write(self, slots, words):
        """New words, as far as no row is left out.

        Args:
            slots: Integer array `[n]`, ascending.
            words: Array `[n, W]`.
        """
        rank = np.cumsum(slots >= self._size) - 1
        fits = (slots < self._size) | (slots == self._size + rank)
        slots = slots[fits].tolist()
        if slots:
            rows = [slot if slot < self._size else None for slot in slots]
            self._scann.upsert(rows, _normalised(words[fits]), len(rows))
            self._stale.difference_update(slots)
            self._size = max(self._size, slots[-1] + 1)
            self._insertions += len(slots)

    def missing(self, used):
        """The slots, ascending, whose words it has to be told before it can search."""
        new = np.arange(self._size, used)
        return np.concatenate([sorted(self._stale), new]).astype("int32")

    def train_if_due(self):
        settings = self._settings
        # As many insertions as words: leaves are the square root of those.
        due = not self._leaves or self._insertions >= (
            settings.retrain_every or self._leaves**2
        )
        if due and self._size > settings.brute_force_up_to:
            self._leaves = round(math.sqrt(self._size))
            self._scann.rebalance(
                _builder(self._word_size)
                .tree(
                    self._leaves,
                    min(settings.leaves_to_search, self._leaves),
                    training_sample_size=32 * self._leaves,
                    training_iterations=6,
                )
                .score_ah(
                    min(2, self._word_size),
                    training_sample_size=8192,
                    training_iterations=5,
                )
                .reorder(settings.reordering)
                .create_config()
            )
            self._insertions = 0

    def search(self, queries, count):
        """Slots `[heads, count]` or `NONE`, for queries `[heads, W]`."""
        reordering = max(self._settings.reordering, count) if self._leaves else -1
        # ScaNN finds slot 0, at no distance, where there are no more.
        slots, scores = self._scann.search_batched(
            _normalised(queries), count, reordering, -1, False, 0
        )
        return np.where(np.isnan(scores), NONE, slots.astype("int32"))


class _Cache:
    """The searchers, by the versions of the sequences that they can go back to.

    One that is in use is nobody else's: whoever wants it meanwhile has to build
    another. Those not in use are bounded by `CACHE_BYTES`.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._by_token = weakref.WeakValueDictionary()
        self._waiting = {}  # searchers and their bytes, the one used longest ago first
        self._bytes = 0

    def take(self, token):
        """The searcher at the version `token`, or None."""
        with self._lock:
            searcher = self._by_token.get(token)
            if searcher is None or searcher not in self._waiting:
                return None
            self._bytes -= self._waiting.pop(searcher)
            for given_up in searcher.go_back(token):
                self._by_token.pop(given_up, None)
            return searcher

    def add(self, searcher):
        """A new searcher, in use."""
        with self._lock:
            self._by_token[searcher.version] = searcher
            return searcher

    def put(self, searcher):
        """A searcher no longer in use."""
        with self._lock:
            self._by_token[searcher.version] = searcher
            while len(searcher.writes) > VERSIONS:
                oldest = next(iter(searcher.writes))
                del searcher.writes[oldest]
                self._by_token.pop(oldest, None)
            self._waiting[searcher] = searcher.bytes
            self._bytes += searcher.bytes
            while self._bytes > CACHE_BYTES and len(self._waiting) > 1:
                self._bytes -= self._waiting.pop(next(iter(self._waiting)))


_cache = _Cache()


def _import_scann() -> Any:
    try:
        from scann.scann_ops.py import scann_ops_pybind
    except (ImportError, tf.errors.NotFoundError) as error:
        raise ImportError(
            "keras_sam.index.ScaNN needs the package scann, for Linux, in the version "
            'that belongs to this TensorFlow: pip install "scann~=1.4.2" '
            '"tensorflow~=2.20.0". Other indexes need nothing but TensorFlow. '
            f"Received: tensorflow {tf.__version__}; {error}"
        ) from error
    return scann_ops_pybind


def _builder(word_size) -> Any:
    none = np.zeros((0, word_size), "float32")
    return _import_scann().builder(none, 1, "dot_product")


def _refuse_xla():
    if in_xla():
        raise ValueError(
            "XLA cannot compile keras_sam.index.ScaNN. Compile the model with "
            'jit_compile=False, or use another index. Received: index="scann" in a '
            "function that XLA is to compile"
        )


def _new_state(used):
    """A state that no other is equal to, in any process; and its token."""
    # Floats hold 24 bits. Chance, not a counter: a state may be kept on disk.
    parts = [secrets.randbits(24) for _ in range(3)]
    state = [*parts, used]
    return state, _read_state(state)[0]


def _new_states(batch, used):
    states = [_new_state(used)[0] for _ in range(batch)]
    return np.reshape(states, (batch, 4)).astype("int32")


def _read_state(state):
    """The token and the number of slots used."""
    *parts, used = (int(number) for number in state)
    return parts[0] << 48 | parts[1] << 24 | parts[2], used


def _normalised(words):
    """Words whose products are their cosines; anything not finite as zeros."""
    with np.errstate(all="ignore"):
        squares = np.sum(np.square(words), axis=-1, keepdims=True)
        words = words / np.sqrt(squares + NORM_EPSILON)
    return np.nan_to_num(words, posinf=0.0, neginf=0.0).astype("float32")
