"""Keras RNN cells with an external memory, one a file, and a controller."""

from keras_sam.cells.base import MemoryCell
from keras_sam.cells.dam import DAMCell
from keras_sam.cells.dnc import DNCCell
from keras_sam.cells.dntm import DNTMCell
from keras_sam.cells.mann import MANNCell
from keras_sam.cells.ntm import NTMCell
from keras_sam.cells.sam import SAMCell
from keras_sam.cells.sdnc import SDNCCell
from keras_sam.cells.skip import SkipCell
from keras_sam.cells.stack_rnn import StackRNNCell

__all__ = [
    "DAMCell",
    "DNCCell",
    "DNTMCell",
    "MANNCell",
    "MemoryCell",
    "NTMCell",
    "SAMCell",
    "SDNCCell",
    "SkipCell",
    "StackRNNCell",
]
