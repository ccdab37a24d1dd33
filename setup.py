"""Packaging of keras_sam."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version():
    """Read `__version__` without importing the package (and TensorFlow with it)."""
    text = (ROOT / "keras_sam" / "_version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError("keras_sam/_version.py has no line `__version__ = ...`.")
    return match.group(1)


def read_long_description():
    """Return README.md, or nothing where there is none yet."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


SERVE = ["fastapi", "uvicorn"]
# pytest-xdist: tests on both cores; 3.8, the newest, cannot keep the tests of a group
# together under pytest 9.2. tfds.testing imports dill without asking for it.
# httpx: for FastAPI's test client. nbclient and ipykernel: for the notebook.
TEST = [
    *("pytest>=8,<9.2", "pytest-xdist", "hypothesis>=6.100", "dill"),
    *(*SERVE, "httpx", "nbclient", "ipykernel"),
]
# The formatter's style may change between minor versions of ruff. locust: for
# benchmarks/serving.py.
DEV = [*TEST, "ruff~=0.17.6", "basedpyright~=1.40.2", "locust"]
# The site: `mkdocs serve`.
DOCS = ["mkdocs~=1.6", "mkdocs-material~=9.7", "mkdocstrings[python]~=1.0"]

setup(
    name="keras_sam",
    version=read_version(),
    description="Memory-augmented recurrent layers (NTM, DNC, DAM, SAM, SDNC) for "
    "Keras 3 on TensorFlow",
    long_description=read_long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["keras_sam", "keras_sam.*"]),
    package_data={
        "keras_sam": ["py.typed"],
        "keras_sam.tasks": ["underground.csv", "underground.LICENSE"],
    },
    python_requires=">=3.11",
    install_requires=[
        "tensorflow~=2.20.0",
        "keras>=3.12",
        "numpy>=2",
        'scann~=1.4.2 ; sys_platform == "linux"',
        "tensorflow-datasets",
        # tensorflow-datasets 4.9.10 imports it without asking for it
        # (https://github.com/tensorflow/datasets/issues/11212).
        "importlib_resources",
        "matplotlib",
    ],
    extras_require={"test": TEST, "serve": SERVE, "dev": DEV, "docs": DOCS},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    keywords="keras tensorflow memory-augmented recurrent ntm dnc dam sam sdnc",
)
