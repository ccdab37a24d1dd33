"""The bAbI tasks: stories, questions and answers."""

import dataclasses
import re

import numpy as np
import tensorflow_datasets as tfds

from keras_sam.arguments import check_option
from keras_sam.datasets import babi_files, babi_task_3

_URL = "http://www.thespermwhale.com/jaseweston/babi/tasks_1-20_v1-2.tar.gz"
_FOLDERS = {"10k": "en-valid-10k", "1k": "en-valid"}
# As many as there are official ones, of five questions each.
_GENERATED_STORIES = {"10k": 1800, "1k": 180}
# What asks a network that reads words for a word of the answer (Graves et al. 2016).
ANSWER_STEP = "-"

_DESCRIPTION = """
The (20) QA bAbI tasks, version 1.2, in English: short stories of sentences and
questions about them, each of which has one answer. The splits are the official ones
with validation: of the 10,000 (or 1,000) training questions of a task 1,000 (or 100)
are `validation`. `test` has 1,000 questions of each task.

Of task 4, 691 different stories of `test`, 741 of its 1,000, are in `train` or
`validation` as well.
"""

_CITATION = """
@article{weston2015towards,
  title={Towards {AI}-Complete Question Answering: A Set of Prerequisite Toy Tasks},
  author={Weston, Jason and Bordes, Antoine and Chopra, Sumit and Rush, Alexander M.
    and van Merri{\\"e}nboer, Bart and Joulin, Armand and Mikolov, Tomas},
  journal={arXiv preprint arXiv:1502.05698},
  year={2015}
}
"""


@dataclasses.dataclass(eq=False)
class BabiConfig(tfds.core.BuilderConfig):
    """Form and size of a `Babi`.

    Attributes:
        name: String, the name of the configuration; part of the data's path.
        form: `"sentences"` or `"words"`, what a step is. Defaults to `"sentences"`.
        size: `"10k"` or `"1k"`, the training questions of a task, those of
            `validation` among them. Defaults to `"10k"`.
        task_3: `"official"`, or `"generated"`: the training stories of task 3 are made
            by `keras_sam.datasets.babi_task_3` and not read. Defaults to `"official"`.

    Raises:
        ValueError: If an attribute is none of these.

    Example:

    >>> import keras_sam.datasets
    >>> keras_sam.datasets.BabiConfig(name="small", form="words", size="1k").task_3
    'official'
    """

    form: str = "sentences"
    size: str = "10k"
    task_3: str = "official"

    def __post_init__(self):
        check_option("form", self.form, ("sentences", "words"))
        check_option("size", self.size, tuple(_FOLDERS))
        check_option("task_3", self.task_3, ("official", "generated"))


def _configurations():
    for form in ("sentences", "words"):
        for size in _FOLDERS:
            for task_3, ending in (("official", ""), ("generated", "_generated_3")):
                yield BabiConfig(
                    name=f"{form}_{size}{ending}",
                    description=f"A step is one of the {form}; {size} questions a task"
                    + (
                        ", the training stories of task 3 generated." if ending else "."
                    ),
                    form=form,
                    size=size,
                    task_3=task_3,
                )


class Babi(tfds.core.GeneratorBasedBuilder):
    """The 20 bAbI tasks as a `tensorflow_datasets` builder named `babi`.

    Configurations: `"sentences_10k"` (the default), `"words_10k"`, `"sentences_1k"`,
    `"words_1k"`, and each of them with `_generated_3` at its end, of which the training
    stories of task 3 are not the official ones but made by
    `keras_sam.datasets.babi_task_3`. None of them is an official one of `validation` or
    `test`, and the simulator has to give all answers of these. Splits: `train`,
    `validation` and `test`, the official ones.

    An example is a whole story, with all its questions:

    - `task`: int32, 1 to 20.
    - `inputs`: strings `[time]`, what is read at each step. With sentences, each as
      it is in the file: `"Where is Mary?"`. With words, lower-case words, `.` and `?`,
      and after a question `-` for each word of its answer.
    - `answers`: strings `[time]`, what is to be answered at each step, empty where
      nothing is. With sentences the answer stands at the question, and a list is
      joined by commas (`"milk,football"`); with words, one word at each `-`.

    The files are looked for in `manual_dir`, anywhere in it, in folders as they are
    named officially (`en-valid-10k/qa1_train.txt`, ...) or in `.tar.gz` archives of
    these. Where it has none of them, the official archive is downloaded.

    ```python
    import keras_sam.datasets
    import tensorflow_datasets as tfds

    train, test = tfds.load(
        "babi/sentences_10k",
        split=["train", "test"],
        download_and_prepare_kwargs={
            "download_config": tfds.download.DownloadConfig(manual_dir="tasks_1-20")
        },
    )
    ```

    Raises:
        FileNotFoundError: When the data is prepared, if `manual_dir` has some of the
            files but not all, or has none and the download fails.
        ValueError: When the data is prepared, if a file is none of bAbI.

    Reference: Weston et al. 2015 (https://arxiv.org/abs/1502.05698). The data is under
    CC BY 3.0.

    Example:

    >>> import keras_sam.datasets
    >>> builder = keras_sam.datasets.Babi()
    >>> builder.builder_config.name
    'sentences_10k'
    >>> builder.info.features["inputs"].shape
    (None,)
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {
        "2.0.0": "The generated stories of task 3 ask as the official ones do.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS = list(_configurations())
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download {_URL} into `manual_dir`; it need not be unpacked."
    )

    builder_config: BabiConfig

    def _info(self):
        steps = tfds.features.Sequence(tfds.features.Text())
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {"task": np.int32, "inputs": steps, "answers": steps}
            ),
            supervised_keys=("inputs", "answers"),
            homepage="https://research.facebook.com/downloads/babi/",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager):
        texts = self._texts(dl_manager)
        return {
            split: self._generate_examples(texts, split) for split in babi_files.SPLITS
        }

    def _names(self):
        """The names of the files that are needed."""
        folder = _FOLDERS[self.builder_config.size]
        generated = self.builder_config.task_3 == "generated"
        return [
            babi_files.file_name(folder, task, split)
            for task in babi_files.TASKS
            for split in babi_files.SPLITS
            if not (generated and (task, split) == (3, "train"))
        ]

    def _texts(self, dl_manager):
        names = self._names()
        try:
            folder = dl_manager.manual_dir
        except AssertionError:  # tfds says so that there is no such folder
            folder, texts = None, {}
        else:
            texts = babi_files.find_texts(folder, names)
        if not texts:
            folder = self._downloaded(dl_manager)
            texts = babi_files.find_texts(folder, names)
        missing = [name for name in names if name not in texts]
        if missing:
            raise FileNotFoundError(
                f"{folder} has not all files of the bAbI tasks. "
                f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS} Where only "
                "task 3's training file is missing, the configurations named "
                f"*_generated_3 do without. Missing: {', '.join(missing)}"
            )
        return texts

    def _downloaded(self, dl_manager):
        try:
            return dl_manager.download_and_extract(_URL)
        except Exception as error:  # whatever a network can do
            raise FileNotFoundError(
                "The bAbI tasks are not in `manual_dir` and could not be downloaded "
                f"({type(error).__name__}). {self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            ) from error

    def _generate_examples(self, texts, split):
        folder = _FOLDERS[self.builder_config.size]
        for task in babi_files.TASKS:
            text = texts.get(babi_files.file_name(folder, task, split))
            if text is None:
                stories = self._stories_of_task_3(texts)
            else:
                stories = babi_files.parse(text)
            for number, story in enumerate(stories):
                steps = (
                    story if self.builder_config.form == "sentences" else spell(story)
                )
                inputs, answers = zip(*steps, strict=True)
                yield (
                    f"{task:02}_{number:05}",
                    {"task": task, "inputs": inputs, "answers": answers},
                )

    def _stories_of_task_3(self, texts):
        """Generated training stories, none of which is a held-out one."""
        folder = _FOLDERS[self.builder_config.size]
        held_out = [
            story
            for split in ("validation", "test")
            for story in babi_files.parse(texts[babi_files.file_name(folder, 3, split)])
        ]
        babi_task_3.check_answers(held_out)
        return babi_task_3.training_stories(
            _GENERATED_STORIES[self.builder_config.size], held_out
        )


def spell(story: list[babi_files.Line]) -> list[tuple[str, str]]:
    """A story, word by word.

    Args:
        story: List of `keras_sam.datasets.babi_files.Line`.

    Returns:
        List of pairs: a word, full stop, question mark or `-`, and the word of an
        answer that is due there, or `""`.

    Example:

    >>> from keras_sam.datasets.babi import spell
    >>> from keras_sam.datasets.babi_files import Line
    >>> spell([Line("Mary left.", ""), Line("Who left?", "Mary")])
    [('mary', ''), ('left', ''), ('.', ''), ('who', ''), ('left', ''), ('?', ''),
    ('-', 'mary')]
    """
    steps = []
    for text, answer in story:
        steps += [(word, "") for word in re.findall(r"\w+|[.?]", text.lower())]
        steps += [(ANSWER_STEP, word) for word in answer.lower().split(",") if word]
    return steps
