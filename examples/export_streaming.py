"""Give trained models a version that streams and needs no XLA.

Takes models that examples/train.py left, rebuilds them from their recipe and weights,
and writes what keras_sam.export_saved_model makes of them as the version after.
Version 2 of these two was written so:

    python examples/export_streaming.py --jit-compile saved_models/copy_ntm
    python examples/export_streaming.py saved_models/copy_sam
"""

import argparse
from pathlib import Path

from train import trained_model

import keras_sam


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="of the models")
    parser.add_argument("--version", type=int, help="default: the one after the last")
    parser.add_argument("--jit-compile", action="store_true", help="`compiled` as well")
    parser.add_argument("--output", type=Path, help="default: the models' own folders")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        output = arguments.output / folder.name if arguments.output else folder
        model = trained_model(folder)
        folder = keras_sam.export_saved_model(
            model, output, arguments.version, jit_compile=arguments.jit_compile
        )
        print(folder)


if __name__ == "__main__":
    main()
