"""Uses an installed keras_sam from an empty folder; see scripts/check_wheel.sh.

python scripts/check_wheel.py CHECKOUT
"""

import importlib.metadata
import sys
from pathlib import Path

import numpy as np

import keras_sam

checkout = Path(sys.argv[1]).resolve()
home = Path(keras_sam.__file__).resolve()
if home.is_relative_to(checkout):
    sys.exit(f"keras_sam comes from the checkout: {home}")
installed = importlib.metadata.version("keras_sam")
if installed != keras_sam.__version__:
    sys.exit(f"The metadata say {installed}, the package {keras_sam.__version__}")

# The files that are not Python.
names = keras_sam.models.list()
if not names or not len(keras_sam.tasks.underground()):
    sys.exit("Data files are missing")
if not home.with_name("tasks").joinpath("underground.LICENSE").is_file():
    sys.exit("underground.LICENSE is missing")

layer = keras_sam.SAM(4, memory_slots=16, word_size=4, jit_compile=False)
if layer(np.ones((1, 2, 3), "float32")).shape != (1, 4):
    sys.exit("A SAM gives another shape")

try:
    keras_sam.models.load(names[0])
except FileNotFoundError as error:
    if "KERAS_SAM_MODELS" not in str(error):
        raise
else:
    sys.exit("A model was found, though no place of models was given")
keras_sam.models.load(names[0], checkout / "saved_models")
print(f"keras_sam {installed}: the wheel works outside the checkout")
