"""A few stories in the form of bAbI's files, for all 20 tasks."""

from keras_sam.datasets import babi_task_3

PEOPLE = ("Mary", "John", "Sandra")
PLACES = ("park", "office", "hallway", "cinema")


def write_babi(folder, sizes=("en-valid-10k",), stories=6, but=()):
    """Writes files of all tasks and splits; every split has other stories.

    Args:
        folder: Path.
        sizes: The official folders to write.
        stories: Integer, of each file.
        but: Names of files that are left out.
    """
    for size in sizes:
        (folder / size).mkdir(parents=True)
        for task in range(1, 21):
            for shift, split in enumerate(("train", "valid", "test")):
                if f"qa{task}_{split}.txt" not in but:
                    path = folder / size / f"qa{task}_{split}.txt"
                    if task == 3:
                        text = task_3_text(stories, seed=shift)
                    else:
                        text = babi_text(stories, task + shift)
                    path.write_text(text)


def babi_text(stories, shift=0):
    lines = []
    for i in range(stories):
        person = PEOPLE[i % 3]
        places = [PLACES[(i + shift + step) % 4] for step in range(2)]
        lines += [
            f"1 {person} went to the {places[0]}.",
            f"2 {person} moved to the {places[1]}.",
            f"3 Where is {person}? \t{places[1]}\t2",
            f"4 {PEOPLE[(i + 1) % 3]} got the milk.",
            f"5 What is {PEOPLE[(i + 1) % 3]} carrying?\tmilk,apple\t4",
        ]
    return "\n".join(lines) + "\n"


def task_3_text(stories, seed):
    """Stories that the simulator of task 3 understands."""
    lines = []
    for story in babi_task_3.training_stories(stories, [], seed=seed):
        for number, (sentence, answer) in enumerate(story, 1):
            ending = f"\t{answer}\t1" if answer else ""
            lines.append(f"{number} {sentence}{ending}")
    return "\n".join(lines) + "\n"
