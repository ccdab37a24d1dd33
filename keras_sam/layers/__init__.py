"""Keras layers with an external memory: subclasses of `keras.layers.RNN`."""

from keras_sam.layers.base import MemoryRNN
from keras_sam.layers.dam import DAM
from keras_sam.layers.dnc import DNC
from keras_sam.layers.ntm import NTM
from keras_sam.layers.sam import SAM
from keras_sam.layers.sdnc import SDNC

__all__ = ["DAM", "DNC", "NTM", "SAM", "SDNC", "MemoryRNN"]
