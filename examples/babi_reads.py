"""Which sentences of a story does a question read?

    python examples/babi_reads.py --data FOLDER
    python examples/babi_reads.py --data FOLDER --model babi_sam

For a test story of each of some bAbI tasks, the sentences that the slots hold which a
trained model of saved_models reads: each head at the question, and at each step of
thought after it. A slot holds what was written to it, each time with a weight w, over
the part 1 - w of what it held before. Darker is more of the read weight.

Writes reads.png beside the model. `--data` as of examples/train.py.
"""

import argparse
from pathlib import Path

import keras
import matplotlib
import numpy as np
from train import trained
from training import MODELS

from keras_sam import visualize

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def sentences_read(recording, source):
    """How much each head reads of each sentence: `[steps, heads, sentences]`.

    Args:
        recording: Of `keras_sam.visualize.record`.
        source: Integer array `[steps]`, the sentence of each step.
    """
    slots = len(recording.slots)
    held = np.zeros((slots, 1 + source.max()))  # the part of each sentence in each slot
    read = []
    for step, sentence in enumerate(source):
        # A step writes before it reads.
        for weights in recording.write_weights[step]:
            weights = np.clip(weights, 0.0, 1.0)[:, np.newaxis]
            held *= 1.0 - weights
            held[:, sentence] += weights[:, 0]
        read.append(recording.read_weights[step] @ held)
    return np.array(read)


def story_of(stories, task, most):
    """The first short story of a task, up to its first question, and the answer."""
    for number, sentences, answers in stories:
        asked = [t for t, answer in enumerate(answers) if answer]
        if number == task and asked and asked[0] < most:
            return sentences[: asked[0] + 1], answers[asked[0]]
    raise SystemExit(f"error: task {task} has no story of at most {most} sentences")


def look(model, words):
    """Logits of the answer, and what the question's steps read of each sentence.

    Args:
        model: Of `babi.make_model`.
        words: Integer array `[sentences, positions]`, the question last.

    Returns:
        Arrays `[answers]` and `[steps, heads, sentences]`.
    """
    think = model.get_layer("think_steps")
    inputs = keras.Model(model.input, list(think.input))(words[np.newaxis])
    inputs, _, source, last = think.expand(*inputs)
    source = source.numpy()[0]
    recording = visualize.record(think.layer, inputs[0], max_slots=len(source) + 64)
    read = sentences_read(recording, source)[source == len(words) - 1]
    output = recording.outputs[np.newaxis, last.numpy()[0, -1:]]
    return np.asarray(model.get_layer("answer")(output))[0, 0], read


def reads_of(model, problem, sentences):
    """What the question's steps read of each sentence, and the model's answer."""
    vocabulary = problem.vocabulary
    words = np.stack([vocabulary.sentence(text) for text in sentences])
    logits, read = look(model, words)
    return read, vocabulary.answers[int(np.argmax(logits))]


def draw(stories, path):
    figure, panels = plt.subplots(
        len(stories), figsize=(10, 2.4 * len(stories)), layout="constrained"
    )
    for axis, (task, sentences, expected, answer, read) in zip(
        np.atleast_1d(panels), stories, strict=True
    ):
        steps, heads, _ = read.shape
        read = read.reshape(steps * heads, -1)
        image = axis.imshow(read.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_yticks(range(len(sentences)), sentences)
        names = ["question", *(f"thought {n}" for n in range(1, steps))]
        axis.set_xticks((np.arange(steps) + 0.5) * heads - 0.5, names)
        for step in range(1, steps):
            axis.axvline(step * heads - 0.5, color="gray", linewidth=0.8)
        axis.set_title(f"Task {task}: answers {answer}; right is {expected}")
    figure.colorbar(image, ax=panels, label="read weight of each head")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the files of bAbI")
    parser.add_argument("--model", default="babi_sdnc", help="one of saved_models")
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2, 15, 16])
    parser.add_argument("--most", type=int, default=10, help="sentences of a story")
    parser.add_argument("--output", type=Path, help="defaults to the model's reads.png")
    options = parser.parse_args()
    folder = MODELS / options.model
    problem, model = trained(folder, options.data)
    (test,) = problem.read("test")
    stories = []
    for task in options.tasks:
        sentences, expected = story_of(test, task, options.most)
        read, answer = reads_of(model, problem, sentences)
        stories.append((task, sentences, expected, answer, read))
        print(f"task {task}: {answer} ({expected})")
    output = options.output or folder / "reads.png"
    draw(stories, output)
    print(f"The picture is {output}")


if __name__ == "__main__":
    main()
