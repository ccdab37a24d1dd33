"""A bAbI story: the answer to a question, and which sentences the question reads."""

import babi_reads
import keras
import numpy as np
from babi import BabiProblem, Vocabulary, is_by_words
from babi_questions import QuestionsProblem
from training import current_recipe, load_variables

from keras_sam.datasets import babi_files

from .errors import RequestError
from .looking import Looking, as_json, compile_step, rounded

MOST_SENTENCES = 50
# Of a text that an error repeats.
MOST_CHARACTERS = 100


class Stories(Looking):
    """Trained models that answer questions about stories; see `Looking`."""

    def takes(self, path, results):
        has_words = (path / "words.json").is_file()
        # The page tells sentences, not words one by one.
        return has_words and not is_by_words(results["recipe"])

    def load(self, path, results):
        vocabulary = Vocabulary.load(path / "words.json")
        recipe = current_recipe(results["recipe"])
        kind = QuestionsProblem if recipe.get("questions") else BabiProblem
        problem = kind.without_stories(recipe, results["seed"], vocabulary)
        model = problem.make_model(results["cell"], recipe["layer"])
        load_variables(model, path)
        if kind is BabiProblem:
            compile_step(model.get_layer("think_steps").layer)
        return model, vocabulary

    def models(self):
        """What can be asked for."""
        return [{"name": n, "layer": self.layer_name(n)} for n in self.known]

    def read(self, body):
        """A request, checked: the model's name and sentences, the question last."""
        name = self.name_in(body)
        story, question = body.get("story"), body.get("question")
        if not isinstance(story, str) or not isinstance(question, str):
            raise RequestError(400, "'story' and 'question' must be strings")
        facts = [line.strip() for line in story.splitlines() if line.strip()]
        if not 1 <= len(facts) <= MOST_SENTENCES:
            raise RequestError(
                400,
                f"A story has 1 to {MOST_SENTENCES} sentences, each on a line of its "
                f"own. Received: {len(facts)}",
            )
        question = question.strip()
        if not question.endswith("?") or any("?" in fact for fact in facts):
            raise RequestError(
                400,
                "The question must end with '?', and no sentence of the story may have "
                f"one. Received the question: {question[:MOST_CHARACTERS]!r}",
            )
        return name, [*facts, question]

    def look(self, asked):
        """The answer, and how much each step of the model reads of each sentence."""
        name, sentences = asked
        model, vocabulary = self.loaded(name)
        told = [babi_files.words(text) for text in sentences]
        longest = max(told, key=len)
        if len(longest) > vocabulary.positions:
            raise RequestError(
                400,
                f"{name} reads sentences of at most {vocabulary.positions} words. "
                f"Received: {' '.join(longest)[:MOST_CHARACTERS]!r}",
            )
        words = np.stack([vocabulary.sentence(text) for text in sentences])
        if isinstance(model.input, dict):
            logits, read = hops_of(model, words)
            steps = [f"hop {number + 1}" for number in range(len(read))]
        else:
            logits, read = babi_reads.look(model, words)
            read = read.max(axis=1)  # of the head that reads a sentence most
            steps = [f"thought {number}" for number in range(len(read))]
            steps[0] = "question"
        best = int(np.argmax(logits))
        unknown = {word for text in told for word in text} - set(vocabulary.words)
        return as_json(
            {
                "answer": vocabulary.answers[best],
                "probability": float(keras.ops.softmax(logits)[best]),
                "sentences": sentences[: read.shape[1]],
                "steps": steps,
                "read": rounded(read),
                "unknown": sorted(unknown),
            }
        )


def hops_of(model, words):
    """Logits, and what each hop reads of each sentence but the question."""
    inputs = {"facts": words[np.newaxis, :-1], "question": words[-1:]}
    memory = model.get_layer("memory")
    read = memory.attention(*keras.Model(model.input, memory.input)(inputs))
    return np.asarray(model(inputs))[0], np.asarray(read)[0]
