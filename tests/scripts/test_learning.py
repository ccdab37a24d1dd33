"""benchmarks/learning.py at a tiny size, and when something counts as learned."""

import json

import learning
import pytest
from running import run_script


def run_learning(*arguments):
    sizes = ("--size", "smoke", "--sequences", "64", "--every", "32")
    return run_script("benchmarks/learning.py", *sizes, *arguments)


@pytest.mark.slow
def test_learning_smoke(tmp_path):
    path = tmp_path / "learning.json"
    options = ("--tasks", "copy", "--seeds", "3", "--output", path)
    output = run_learning(*options, "--models", "lstm,dam", "--jobs", "2")
    assert "copy smoke dam 3: learned after None" in output
    results = json.loads(path.read_text())
    assert [result["model"] for result in results] == ["dam", "lstm"]
    for result in results:
        assert result["seed"] == 3 and result["learned_after"] is None
        assert "--models lstm,dam" in result["command"]
        curve = result["curve"]
        assert curve["sequences"] == [32, 64]
        # A bit for each of the 12 that a sequence has on average; half of them wrong.
        assert curve["cost_bits"][-1] == pytest.approx(12, abs=1.5)
        assert curve["bit_errors"][-1] == pytest.approx(6, abs=1.0)

    # A second time there is only the rest to do.
    output = run_learning(
        *options, "--models", "lstm", "--picture", "--table", "--stop-below", "0.01"
    )
    assert "stored" not in output and "lstm 3: learned after None" in output
    output = run_learning(*options, "--models", "dam", "--picture", "--table")
    assert "copy smoke dam 3: stored" in output
    assert "| copy | dam | 1 | never |  | 0 | 12" in output
    assert (tmp_path / "learning_smoke.png").stat().st_size > 10_000


def test_learned_after():
    def curve(*errors):
        sequences = [10 * (i + 1) for i in range(len(errors))]
        return {"sequences": sequences, "bit_errors": errors}

    assert learning.learned_after(curve(5.0, 0.05, 0.2, 0.09, 0.0)) == 40
    assert learning.learned_after(curve(5.0, 0.05, 0.1)) is None
    assert learning.learned_after(curve(0.0)) == 10
