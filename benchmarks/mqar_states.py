"""Draws how much of MQAR is answered against the size of a model's state.

    python benchmarks/mqar_states.py

A star is a model of ours, of saved_models/mqar_* or results/mqar_peer_*.json, by the
mean of its accuracies at the seven sizes of the test. A hollow point was published: it
was read off the plot of https://github.com/HazyResearch/zoology
(experiments/arxiv24_based_figure2).

Writes benchmarks/results/mqar_states.png.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "benchmarks" / "results" / "mqar_states.png"
# From a model to (numbers of state, accuracy).
PUBLISHED = {
    "DeltaNet": [(9e3, 0.79), (34e3, 0.96), (133e3, 0.995)],
    "Gated DeltaNet": [(17e3, 0.89), (67e3, 0.99), (265e3, 0.995)],
    "RWKV-7": [(17e3, 0.82), (132e3, 0.91), (1.05e6, 0.98)],
    "GLA": [(4.8e3, 0.53), (18e3, 0.77), (68e3, 0.95)],
    "Based": [(9e3, 0.67), (25e3, 0.84), (40e3, 0.91), (80e3, 0.985)],
    "Mamba-2": [(8e3, 0.52), (16e3, 0.69), (33e3, 0.78), (98e3, 0.845)],
    "sliding window": [(10e3, 0.08), (34e3, 0.31), (132e3, 0.65)],
    "attention": [(0.75e6, 1.0)],
}


def ours():
    """From the name of a model to its results, the first of several seeds."""
    paths = sorted((ROOT / "saved_models").glob("mqar_*/results.json"))
    paths += sorted(PICTURE.parent.glob("mqar_peer_*.json"))
    runs = [json.loads(path.read_text()) for path in paths]
    return {f"{run['cell']} (ours)": run for run in reversed(runs)}


def main():
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    for (name, points), marker in zip(PUBLISHED.items(), "os^vD<>p", strict=True):
        axis.semilogx(
            *zip(*points, strict=True),
            marker=marker,
            markerfacecolor="none",
            linewidth=0.8,
            label=f"{name} (published)",
        )
    for name, results in ours().items():
        point = results["state_size"], results["test"]["accuracy"]
        axis.semilogx(*point, "*", markersize=14, label=name)
    axis.set_xlabel("numbers of state for a sequence")
    axis.set_ylabel("accuracy at the queries, mean of seven sizes")
    axis.set_ylim(0, 1.03)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center right")
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
