"""The bAbI builder, on stories of this package's own making."""

import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from babi_stories import babi_text, write_babi

from keras_sam.datasets import Babi, BabiConfig, babi_files, babi_task_3


def prepared(configuration, manual_dir, data_dir):
    builder = Babi(config=configuration, data_dir=data_dir)
    download = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=download)
    return builder


def examples(builder, split):
    return {
        (int(example["task"]), *example["inputs"], *example["answers"])
        for example in tfds.as_numpy(builder.as_dataset(split=split))
    }


def test_stories_a_sentence_or_a_word_a_step(tmp_path):
    write_babi(tmp_path / "files")
    builder = prepared("sentences_10k", tmp_path / "files", tmp_path / "data")
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {"train": 120, "validation": 120, "test": 120}
    sentences = (
        *(b"Mary went to the office.", b"Mary moved to the hallway."),
        *(b"Where is Mary?", b"John got the milk.", b"What is John carrying?"),
    )
    # The first story of task 1's training file.
    expected = (1, *sentences, b"", b"", b"hallway", b"", b"milk,apple")
    assert expected in examples(builder, "train")
    assert not examples(builder, "train") & examples(builder, "test")

    builder = prepared("words_10k", tmp_path / "files", tmp_path / "data")
    (first, *_) = sorted(e for e in examples(builder, "train") if e[0] == 1)
    words, answers = np.split(np.array(first[1:]), 2)
    story = " ".join(word.decode() for word in words)
    assert story.startswith("john went to the hallway . john moved to the cinema .")
    assert story.endswith("what is sandra carrying ? - -")
    # A word of the answer at each step that asks for one, and nowhere else.
    assert (answers != b"").tolist() == (words == b"-").tolist()
    assert answers[answers != b""].tolist() == [b"cinema", b"milk", b"apple"]


def test_archives_are_read_and_what_is_missing_is_named(tmp_path):
    write_babi(tmp_path / "files", but=["qa3_train.txt"])
    manual_dir = tmp_path / "archives"
    manual_dir.mkdir()
    with tarfile.open(manual_dir / "tasks.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "files", "tasks_1-20_v1-2")
    with pytest.raises(FileNotFoundError, match="Missing: en-valid-10k/qa3_train.txt"):
        prepared("sentences_10k", manual_dir, tmp_path / "data")


def test_without_files_the_error_says_what_to_download(tmp_path, monkeypatch):
    def no_network(*arguments):
        raise OSError("no route to host")

    monkeypatch.setattr(
        tfds.download.DownloadManager, "download_and_extract", no_network
    )
    with pytest.raises(FileNotFoundError, match="Download http.*tar.gz into `manual"):
        prepared("sentences_1k", tmp_path / "nothing", tmp_path / "data")


def test_training_stories_of_task_3_are_generated(tmp_path):
    write_babi(tmp_path / "files", ["en-valid"], but=["qa3_train.txt"])
    builder = prepared("sentences_1k_generated_3", tmp_path / "files", tmp_path)
    made = [e for e in examples(builder, "train") if e[0] == 3]
    assert len(made) == 180
    for _, *steps in made:
        texts, answers = steps[: len(steps) // 2], steps[len(steps) // 2 :]
        assert texts[-1].startswith(b"Where was the ") and answers[-1]


def test_generated_stories_have_the_answers_of_the_simulator():
    stories = babi_task_3.training_stories(30, held_out=[])
    kinds = set()
    for story in stories:
        asked = [line.answer for line in story if line.answer]
        assert len(asked) == babi_task_3.QUESTIONS
        assert babi_task_3.answers(line.text for line in story) == asked
        kinds |= {line.text.split()[1] for line in story if not line.answer}
    babi_task_3.check_answers(stories)
    with pytest.raises(ValueError, match="but the story has .*attic"):
        told = [line._replace(answer="attic" if line.answer else "") for line in story]
        babi_task_3.check_answers([told])
    verbs = (*babi_task_3.MOVES, *babi_task_3.GETS, *babi_task_3.DROPS)
    assert kinds == {verb.split()[0] for verb in verbs}


def brought_lately(events):
    """From an object got or dropped in the last five events to where it was brought."""
    found = {}
    for thing in babi_task_3.OBJECTS:
        touched = [i for i, (_, verb, noun) in enumerate(events) if noun == thing]
        if not touched or len(events) - touched[-1] > 5:
            continue
        last = touched[-1]
        person, verb, _ = events[last]
        dropped = verb in ("dropped", "discarded", "left", "put")
        first = touched[-2] if dropped else last
        moves = events[first : last if dropped else None]
        places = [n for who, _, n in moves if who == person and n in babi_task_3.PLACES]
        if len(places) > 1:
            found[thing] = places
    return found


def test_generated_questions_follow_the_rule_of_the_official_ones():
    asked = 0
    for story in babi_task_3.training_stories(40, held_out=[]):
        events, due = [], False
        for line in story:
            words = line.text.rstrip(".?").removesuffix(" there").split()
            if line.answer:
                thing, place = words[3], words[-1]
                places = brought_lately(events)[thing]
                last = len(places) - 1 - places[::-1].index(place)
                assert last > 0 and line.answer == places[last - 1]
                assert len(events) % 2 == 0
                due, asked = False, asked + 1
            else:
                assert not due
                events.append((words[0], words[1], words[-1]))
                due = len(events) % 2 == 0 and bool(brought_lately(events))
    assert asked == 200


def test_the_simulator_follows_what_is_carried():
    story = [
        "John took the milk.",  # nobody knows where
        "John went to the office.",
        "John went back to the garden.",
        "John put down the milk there.",
        "John journeyed to the kitchen.",
        "Where was the milk before the garden?",
        "Where was the milk before the kitchen?",
        "Where was the milk before the office?",
    ]
    assert babi_task_3.answers(story) == ["office", None, None]
    with pytest.raises(ValueError, match="no such sentence.*John sang"):
        babi_task_3.answers(["John sang."])


def test_no_generated_story_is_a_held_out_one():
    first, second = babi_task_3.training_stories(2, held_out=[])
    again = babi_task_3.training_stories(2, held_out=[first])
    assert again[0] == second and first not in again


def test_files_that_are_none():
    assert len(babi_files.parse(babi_text(3))) == 3
    for text in ("2 Mary left.\n", "Mary left.\n"):
        with pytest.raises(ValueError, match="number and a sentence"):
            babi_files.parse(text)


@pytest.mark.parametrize("wrong", [{"form": "letters"}, {"size": 10}, {"task_3": ""}])
def test_configurations_refuse(wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be one of"):
        BabiConfig(name="wrong", **wrong)
