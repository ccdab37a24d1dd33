"""Formal languages, by regular expressions that count, and by who predicts them."""

import re

import numpy as np
import pytest

from keras_sam import metrics, tasks

LETTERS = np.array(list("abcd"))
# From what was read: what must come next, or None where nobody can know.
FORMS = {
    "a^n b^n": r"(a+)(b+)",
    "a^n b^n c^n": r"(a+)(b+)(c+)",
    "a^n b^n c^n d^n": r"(a+)(b+)(c+)(d+)",
    "a^n b^2n": r"(a+)(b+)",
    "a^n b^m c^(n+m)": r"(a+)(b+)(c+)",
}


def is_word(language, text):
    """Whether a text is of the language, by its definition."""
    match = re.fullmatch(FORMS[language], text)
    if match is None:
        return False
    n, *others = map(len, match.groups())
    if language == "a^n b^2n":
        return others == [2 * n]
    if language == "a^n b^m c^(n+m)":
        return others[1] == n + others[0]
    return set(others) == {n}


def predict(language, read):
    """The symbol after a beginning of a word, where only one can come, else None."""
    counts = [read.count(letter) for letter in "abcd"]
    if language == "a^n b^m c^(n+m)":
        if not counts[2]:
            return None
        return "c" if counts[2] < counts[0] + counts[1] else "a"
    if not counts[1]:
        return None
    wanted = [counts[0]] * (len(set("abcd") & set(language)))
    if language == "a^n b^2n":
        wanted[1] *= 2
    for letter, count, needed in zip("abcd", counts, wanted, strict=False):
        if count < needed:
            return letter
    return "a"


def words_of(inputs):
    """The strings that one-hot inputs spell, without their padding."""
    return [
        "".join(LETTERS[row[row.sum(axis=-1) == 1].argmax(axis=-1)]) for row in inputs
    ]


@pytest.mark.parametrize("language", FORMS)
def test_targets_follow_from_the_symbols(language):
    assert set(FORMS) == set(tasks.FORMAL_LANGUAGES)
    lengths = [2, 3, 5, 8, 13, 13, 13, 13]
    made = tasks.formal_language_sequences(0, lengths, language, time_steps=60)
    inputs, targets, weights = made
    assert inputs.shape == targets.shape and weights.shape == inputs.shape[:2]
    assert all(array.dtype == np.float32 for array in made)
    words = words_of(inputs)
    for length, word, truth, counts in zip(
        lengths, words, targets, weights, strict=True
    ):
        assert is_word(language, word)
        n = len(re.match("a*b*" if "m" in language else "a*", word)[0])
        assert n == length
        for step in range(60):
            expected = predict(language, word[: step + 1])
            if step >= len(word):
                assert not truth[step].any() and counts[step] == 0
                continue
            symbol = LETTERS[truth[step].argmax()]
            assert truth[step].sum() == 1
            assert symbol == (word + "a")[step + 1]
            assert counts[step] == (expected is not None)
            assert expected in (None, symbol)

    *same, every = tasks.formal_language_sequences(
        0, lengths, language, predictable_only=False, time_steps=60
    )
    np.testing.assert_array_equal(same, made[:2])
    assert every.sum(axis=1).tolist() == [len(word) for word in words]


def test_all_splits_of_a_length_are_drawn_alike():
    inputs, *_ = tasks.formal_language_sequences(0, [4] * 3000, "a^n b^m c^(n+m)")
    found, counts = np.unique(words_of(inputs), return_counts=True)
    assert found.tolist() == ["aaabcccc", "aabbcccc", "abbbcccc"]
    assert np.all(np.abs(counts - 1000) < 120)


def test_a_stream_has_all_lengths_and_the_metric_counts_words():
    data = tasks.formal_language_task(64, "a^n b^2n", 2, 5, seed=3)
    again = tasks.formal_language_task(64, "a^n b^2n", 2, 5, seed=3)
    inputs, targets, weights = next(data.as_numpy_iterator())
    np.testing.assert_array_equal(inputs, next(again.as_numpy_iterator())[0])
    words = words_of(inputs)
    assert set(map(len, words)) == {6, 9, 12, 15}

    # Where it cannot know it says b; of the words of length 9 it gets the end wrong.
    guesses = np.zeros_like(targets)
    for row, word in enumerate(words):
        for step in range(len(word)):
            symbol = predict("a^n b^2n", word[: step + 1]) or "b"
            guesses[row, step] = np.eye(2)["ab".index(symbol)]
        if len(word) == 9:
            guesses[row, 8] = [0, 1]
    metric = metrics.SequenceAccuracy()
    metric.update_state(targets, guesses, weights)
    wrong = sum(len(word) == 9 for word in words)
    assert 0 < wrong < 64
    assert float(metric.result()) == pytest.approx(1 - wrong / 64)


def test_what_is_refused():
    make = tasks.formal_language_sequences
    with pytest.raises(ValueError, match="`language` must be one of 'a\\^n b\\^n'"):
        make(0, [3], "anbn")
    with pytest.raises(ValueError, match="integers >= 2"):
        make(0, [1], "a^n b^m c^(n+m)")
    with pytest.raises(ValueError, match="`predictable_only` must be one of True"):
        make(0, [3], predictable_only=1)
    with pytest.raises(ValueError, match="the longest string = 9"):
        make(0, [3], "a^n b^2n", time_steps=8)
    with pytest.raises(ValueError, match="`min_length` must not exceed"):
        tasks.formal_language_task(2, min_length=5, max_length=4)
