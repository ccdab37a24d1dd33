"""Look drawings up in a frozen memory of 31,801 embeddings of Omniglot's drawings.

    python examples/embeddings.py --data FOLDER     # with the archives of Omniglot
    python examples/serve.py runs/embeddings/recognizer
    curl -d @runs/embeddings/question.json \\
        http://127.0.0.1:8501/v1/models/recognizer:predict

An encoder learns to tell the 964 background characters apart. Each drawing then is a
word of a SAM's memory: its embedding, and a code of its label. The memory has all
drawings of the background and a few, the shots, of each of the 659 characters that the
encoder has never seen. Queries are the other drawings of these; all 1,623 labels are
possible answers.

Nothing of the SAM is trained: its query is the embedding, its write gate is shut, and
its output scores the codes in the words that it reads (labelled_memory.py).

What the script prints: how often the label is right and the right words are found, with
exact search, LSH and ScaNN; what two models make of one memory that they share. What it
leaves in the folder of the output: the encoder, the SavedModel `recognizer`, which
takes drawings, with a question to it, and a picture of queries and what was read.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from image_encoder import PART, train_encoder
from labelled_memory import READS, label_codes, labelled_words, make_memory

import keras_sam
import keras_sam.datasets

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

SIZE, FEATURES = 28, 64
QUERIES = 2000  # at most, that a memory is asked
TOGETHER = 3  # drawings whose mean the second model asks for
INDEXES = ("exact", "lsh", "scann")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder of the archives; default: downloaded")
    add("--encoder", type=Path, help="a .keras file, in the place of a training")
    add("--epochs", type=int, default=20, help="of the encoder's training")
    add("--shots", type=numbers, default="1,5,19", help="of each unseen character")
    add("--index", default="exact", choices=INDEXES, help="of the recognizer")
    add("--output", type=Path, default=Path("runs/embeddings"))
    add("--seed", type=int, default=0)
    return parser.parse_args()


def numbers(text):
    return [int(number) for number in text.split(",")]


def load_images(data):
    """The drawings of the background characters, and of the unseen ones."""
    try:
        return [
            keras_sam.datasets.omniglot_images(split, data, SIZE)
            for split in ("train", "test")
        ]
    except FileNotFoundError as error:
        raise SystemExit(f"error: {error} Then pass its folder as --data.") from None


def embeddings(encoder, images):
    """Unit vectors `[..., features]` of drawings `[..., size, size]`."""
    flat = images.reshape(-1, *images.shape[-2:])
    parts = np.array_split(flat, -(-len(flat) // PART))
    features = np.concatenate([encoder(part) for part in parts])
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    return features.reshape(*images.shape[:-2], -1)


class EachStep(keras.layers.Wrapper):
    """Applies a layer to each step of sequences of any length.

    Where a graph does not know the length, `keras.layers.TimeDistributed` of Keras 3.15
    takes the batch size for it.
    """

    def call(self, sequences):
        batch, steps, *shape = keras.ops.shape(sequences)
        outputs = self.layer(keras.ops.reshape(sequences, (-1, *shape)))
        return keras.ops.reshape(outputs, (batch, steps, *outputs.shape[1:]))

    def compute_output_shape(self, input_shape):
        shape = self.layer.compute_output_shape((None, *input_shape[2:]))
        return (*input_shape[:2], *shape[1:])


# The memory.


def split(seen, unseen, shots):
    """What the memory has, and what it is asked.

    Args:
        seen: Array `[characters, drawings, ...]`, of the background.
        unseen: The same of other characters, whose labels come next.
        shots: Integer, how many drawings of each unseen character the memory has.

    Returns:
        Two pairs: drawings `[count, ...]` and labels `[count]`.
    """

    def flat(drawings, first):
        labels = first + np.repeat(np.arange(len(drawings)), drawings.shape[1])
        return drawings.reshape(-1, *drawings.shape[2:]), labels

    parts = flat(seen, 0), flat(unseen[:, :shots], len(seen))
    memory = tuple(map(np.concatenate, zip(*parts, strict=True)))
    return memory, flat(unseen[:, shots:], len(seen))


class Lookup:
    """The memory of some shots, to be frozen, and queries to it.

    Args:
        seen: Unit vectors `[characters, drawings, features]`, of the background.
        unseen: The same of other characters.
        shots: Integer.
        seed: Integer, of the labels' codes and the order of the queries.

    Attributes:
        shots: Integer.
        words: Array `[slots, W]`: embedding and code of the label.
        labels: Integer array `[slots]`.
        queries: Embeddings `[count, features]`.
        answers: Integer array `[count]`: their labels.
        order: Integer array `[count]`: which of all possible queries they are.
    """

    def __init__(self, seen, unseen, shots, seed):
        (keys, self.labels), (queries, answers) = split(seen, unseen, shots)
        codes = label_codes(len(seen) + len(unseen), seed)
        self.words = labelled_words(keys, codes[self.labels])
        self.shots = shots
        self.order = np.random.default_rng(seed).permutation(len(queries))[:QUERIES]
        self.queries, self.answers = queries[self.order], answers[self.order]
        self._memory = make_memory(len(self.words), FEATURES, codes)
        start = self._memory.get_initial_state(1, memory=self.words)
        self._frozen = {"memory": start}

    def export(self, path, index, encoder=None):
        """A SavedModel from embeddings, or with an encoder from drawings, to labels."""
        if encoder is None:
            inputs = features = keras.Input((None, FEATURES))
        else:
            inputs = keras.Input((None, SIZE, SIZE))
            features = EachStep(encoder)(inputs)
        labels = keras.ops.argmax(self._memory(features), axis=-1)
        return keras_sam.export_saved_model(
            keras.Model(inputs, labels), path, memory=self._frozen, index=index
        )


# What is asked of SavedModels.


def look_up(signatures, queries):
    """The labels `[count]` of embeddings; slots and weights `[count, READS]` read."""
    answers = []
    for part in np.array_split(queries, -(-len(queries) // PART)):
        states = signatures["initial_state"](batch_size=tf.constant(len(part)))
        # The state after a step says what the step has read.
        last = signatures["step"](inputs=tf.constant(part[:, np.newaxis]), **states)
        names = ("outputs", "memory_read_slots", "memory_read_weights")
        answers.append([last[name].numpy().reshape(len(part), -1) for name in names])
    labels, slots, weights = map(np.concatenate, zip(*answers, strict=True))
    return labels[:, 0], slots.astype(int), weights


def recall(slots, queries, words):
    """The share of the words most alike to the queries that were read."""
    parts = np.array_split(queries, -(-len(queries) // PART))
    scores = (part @ words[:, :FEATURES].T for part in parts)
    nearest = np.concatenate(
        [np.argpartition(-each, READS - 1)[:, :READS] for each in scores]
    )
    return np.mean(np.any(slots[:, np.newaxis] == nearest[..., np.newaxis], axis=-1))


def milliseconds(signatures, queries, repeats=20):
    """The median time of a call with all these queries."""
    inputs, times = tf.constant(queries[:, np.newaxis]), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        signatures["serving_default"](inputs=inputs)
        times.append(time.perf_counter() - start)
    return 1e3 * np.median(times[1:])


def two_models(path, encoder):
    """Models of one drawing, and of several of a character, over one memory."""
    memory = keras.layers.TFSMLayer(path, call_endpoint="serving_default")
    one = [keras.Input((SIZE, SIZE)), encoder]
    several = [
        keras.Input((None, SIZE, SIZE)),
        EachStep(encoder),
        keras.layers.GlobalAveragePooling1D(),
    ]
    sequence = keras.layers.Reshape((1, FEATURES))
    return [keras.Sequential([*each, sequence, memory]) for each in (one, several)]


def right_of_two_models(path, encoder, unseen, first_label, shots):
    """How often each of them is right, of the same characters."""
    drawings = unseen[:, shots : shots + TOGETHER]
    labels = first_label + np.arange(len(unseen))
    one, several = two_models(path, encoder)
    return [
        float(np.mean(model.predict(shown, verbose=0)["outputs"][:, 0] == labels))
        for model, shown in ((one, drawings[:, 0]), (several, drawings))
    ]


def draw(path, lookup, images, slots, weights, rows=8):
    """A picture: a query a row, then what was read for it, the most alike first.

    Args:
        path: Of the picture.
        lookup: `Lookup`.
        images: Two arrays of drawings: the background, and the unseen characters.
        slots: Integer array `[queries, READS]`: what was read.
        weights: Array, the same shape: the read weights.
        rows: Integer.
    """
    (drawings, _), (queries, _) = split(*images, lookup.shots)
    same = lookup.labels[slots] == lookup.answers[:, np.newaxis]
    figure, axes = plt.subplots(
        *(rows, READS + 1), figsize=(7, 1.3 * rows), layout="constrained"
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for row, (query, *cells) in enumerate(axes):
        query.imshow(queries[lookup.order[row]], cmap="gray_r")
        query.set_title("query", fontsize=9)
        for number, cell in enumerate(cells):
            cell.imshow(drawings[slots[row, number]], cmap="gray_r")
            color = "tab:green" if same[row, number] else "tab:red"
            cell.set_title(f"{weights[row, number]:.2f}", color=color, fontsize=9)
    figure.suptitle(
        "Drawings of unseen characters, and the words that were read for them.\n"
        "Read weights are green where the character is the same.",
        fontsize=9,
    )
    figure.savefig(path, dpi=80)
    plt.close(figure)


def check_shots(shots, drawings):
    if not all(0 < each < drawings for each in shots):
        raise SystemExit(
            f"error: --shots must be numbers from 1 to {drawings - 1}, since a drawing "
            f"is left to ask for. Received: {shots}"
        )


def compare(lookup, images, encoder):
    """Prints rows of the table; returns slots and weights that the last index read."""
    seen, unseen = images
    for index in INDEXES:
        with tempfile.TemporaryDirectory() as folder:
            path = lookup.export(folder, index)
            loaded = tf.saved_model.load(path)
            labels, slots, weights = look_up(loaded.signatures, lookup.queries)
            print(
                f"{lookup.shots:5} {len(lookup.words):6,} {index:>7}"
                f" {np.mean(labels == lookup.answers):6.3f}"
                f" {recall(slots, lookup.queries, lookup.words):9.4f}"
                f" {milliseconds(loaded.signatures, lookup.queries[:1]):12.2f}"
                f" {milliseconds(loaded.signatures, lookup.queries[:64]):15.2f}",
                flush=True,
            )
            if index == "exact" and lookup.shots + TOGETHER <= unseen.shape[1]:
                one, several = right_of_two_models(
                    path, encoder, unseen, len(seen), lookup.shots
                )
                print(f"      two models of this memory: {one:.3f} of one drawing,")
                print(f"      {several:.3f} of the mean of {TOGETHER}", flush=True)
    return slots, weights


def export_recognizer(lookup, images, encoder, index, output):
    """A SavedModel that takes drawings, and the body of a request to it."""
    path = lookup.export(output / "recognizer", index, encoder)
    queries = split(*images, lookup.shots)[1][0]
    question = queries[lookup.order[:1], np.newaxis].astype(float).round(2)
    body = json.dumps({"instances": question.tolist()})
    (output / "question.json").write_text(body)
    loaded = tf.saved_model.load(path)
    inputs = tf.constant(question, tf.float32)
    label = loaded.signatures["serving_default"](inputs=inputs)["outputs"]
    print(
        f"{path} names the drawing in {output / 'question.json'}"
        f" {label.numpy().item()}."
    )
    print(f"Its label is {lookup.answers[0]}.")


def main():
    arguments = parse_arguments()
    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(arguments.seed)
    seen, unseen = images = load_images(arguments.data)
    check_shots(arguments.shots, unseen.shape[1])
    if arguments.encoder:
        encoder = keras.models.load_model(arguments.encoder)
    else:
        settings = {"features": FEATURES, "learning_rate": 2e-3}
        settings["epochs"] = arguments.epochs
        encoder = train_encoder(seen, settings, arguments.seed, output)
    encoder.save(output / "encoder.keras")
    keys = embeddings(encoder, seen), embeddings(encoder, unseen)

    print(f"shots  words   index  right  recall@{READS}  ms, 1 query  ms, 64 queries")
    for shots in arguments.shots:
        lookup = Lookup(*keys, shots, arguments.seed)
        read = compare(lookup, images, encoder)
    # Of the last memory.
    draw(output / "retrieved.png", lookup, images, *read)
    export_recognizer(lookup, images, encoder, arguments.index, output)


if __name__ == "__main__":
    main()
