"""How many stories a second do SAM, SDNC and an LSTM learn from?

    python benchmarks/throughput.py
    python benchmarks/throughput.py --kinds sam,lstm --rounds 20

Batches of 32 stories of bAbI's form, a word a step: 128 units, 4 read heads, K = 4, a
memory of 256 words of 32 numbers, searched exactly. The words are random, of a
vocabulary of 180; a story has 88 of them (in bAbI's 20 tasks the mean is 78 in training
and 91 in the test). A step embeds each word in 64 numbers, and predicts one of all
words at each; Adam, gradients clipped. Plain `train_on_batch`, as on a CPU `fit` does.

The models take turns in one process, round after round. A row has the stories for each
second that the processors work, which hardly depends on what else a machine does, and
those for each second on the clock. Ratios are taken within a round.

Expected: an LSTM, which Keras runs in TensorFlow's graph, learns from some times as
many stories as SAM, and SAM from about twice as many as SDNC.

Writes benchmarks/results/throughput.json.
"""

import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from measuring import Options, digits, report, store_part, summary

import keras_sam

RESULTS = Path(__file__).parent / "results" / "throughput.json"
UNITS, VOCABULARY, EMBEDDING, BATCH, LENGTH = 128, 180, 64, 32, 88
MEMORY = {"memory_slots": 256, "word_size": 32, "read_heads": 4, "reads_per_head": 4}
KINDS = {
    "sam": lambda **options: keras_sam.SAM(**options, **MEMORY),
    "sdnc": lambda **options: keras_sam.SDNC(**options, **MEMORY),
    "lstm": keras.layers.LSTM,
}


def options():
    parser = Options(__doc__, RESULTS)
    parser.add("--kinds", "sam,sdnc,lstm", "the models")
    parser.add("--rounds", 10, "in which each model takes some steps", int)
    parser.add("--steps", 4, "of a model in a round", int)
    chosen = parser.parse()
    if chosen.smoke:
        chosen.kinds, chosen.rounds, chosen.steps = ["sam", "lstm"], 1, 1
    return chosen


def make_model(kind):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((None,), dtype="int32"),
        keras.layers.Embedding(VOCABULARY, EMBEDDING),
        KINDS[kind](units=UNITS, return_sequences=True),
        keras.layers.Dense(VOCABULARY),
    ]
    model = keras.Sequential(layers)
    model.compile(
        keras.optimizers.Adam(1e-3, global_clipnorm=10.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return model


class Timed:
    """A model, and the stories of a second in each round."""

    def __init__(self, kind, length):
        self.kind, self.model = kind, make_model(kind)
        rng = np.random.default_rng(0)
        words = rng.integers(0, VOCABULARY, (BATCH, length + 1), "int32")
        self._batch = words[:, :-1], words[:, 1:]
        self.rounds = []
        self._learn(1)  # compiles
        report(f"{kind} is compiled")

    def take_round(self, steps):
        before = time.process_time(), time.perf_counter()
        self.loss = self._learn(steps)
        worked, elapsed = time.process_time() - before[0], time.perf_counter()
        stories = BATCH * steps
        self.rounds.append((stories / worked, stories / (elapsed - before[1])))

    def _learn(self, steps):
        losses = [self.model.train_on_batch(*self._batch) for _ in range(steps)]
        return float(losses[-1])


def main():
    chosen = options()
    timed = [Timed(kind, 8 if chosen.smoke else LENGTH) for kind in chosen.kinds]
    for _ in range(chosen.rounds):
        for each in timed:
            each.take_round(chosen.steps)
    rows = []
    for each in timed:
        of_processor, of_clock = np.transpose(each.rounds)
        compared = np.divide(timed[-1].rounds, each.rounds)[:, 0]
        rows.append(
            {
                "kind": each.kind,
                "stories_a_processor_second": summary(of_processor),
                "stories_a_second": summary(of_clock),
                f"{timed[-1].kind}_over_it": summary(compared),
                "last_loss": digits(each.loss),
            }
        )
        report(rows[-1])
    store_part(chosen.output, "throughput", {"rows": rows})


if __name__ == "__main__":
    main()
