"""What `import keras_sam` leaves alone, and what a missing extra is told."""

import subprocess
import sys

# Two processes, because Keras itself imports matplotlib where matplotlib is installed.
IMPORTED = """
import sys
import {package}

print(*sorted(sys.modules))
"""
HEAVY = ("matplotlib", "tensorflow_datasets", "scann")

WITHOUT_MATPLOTLIB = """
import sys

sys.modules["matplotlib"] = None
import numpy as np
import keras_sam
from keras_sam import visualize

layer = keras_sam.NTM(4, memory_slots=4, word_size=4)
recording = visualize.record(layer, np.ones((2, 3), "float32"))
for draw in (
    lambda: visualize.plot(recording),
    lambda: visualize.plot_memory(recording),
    lambda: visualize.animate(recording, "run.gif"),
    lambda: keras_sam.callbacks.MemoryTensorBoard("logs", np.ones((2, 3))),
):
    try:
        draw()
    except ImportError as error:
        print(error)
"""


def output(code):
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


def test_the_package_imports_no_heavy_module():
    before, after = (
        set(output(IMPORTED.format(package=package)).split())
        for package in ("keras", "keras_sam")
    )
    added = {module.split(".")[0] for module in after - before}
    assert "keras_sam" in added
    assert not added.intersection(HEAVY)


def test_who_draws_without_matplotlib_is_told_the_extra(tmp_path):
    messages = output(WITHOUT_MATPLOTLIB).splitlines()
    assert len(messages) == 4
    assert all('pip install "keras_sam[viz]"' in message for message in messages)
