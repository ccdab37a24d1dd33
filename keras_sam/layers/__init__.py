"""Keras layers with an external memory, and what stands around them."""

from keras_sam.layers.base import MemoryRNN
from keras_sam.layers.dam import DAM
from keras_sam.layers.dnc import DNC
from keras_sam.layers.dntm import DNTM
from keras_sam.layers.dynamic_memory import DynamicMemory
from keras_sam.layers.end_to_end_memory import EndToEndMemory
from keras_sam.layers.mann import MANN
from keras_sam.layers.ntm import NTM
from keras_sam.layers.random_positions import RandomPositions
from keras_sam.layers.sam import SAM
from keras_sam.layers.sdnc import SDNC
from keras_sam.layers.sentence_embedding import SentenceEmbedding
from keras_sam.layers.sine_positions import SinePositions
from keras_sam.layers.stack_rnn import StackRNN
from keras_sam.layers.think_steps import ThinkSteps

__all__ = [
    "DAM",
    "DNC",
    "DNTM",
    "MANN",
    "NTM",
    "SAM",
    "SDNC",
    "DynamicMemory",
    "EndToEndMemory",
    "MemoryRNN",
    "RandomPositions",
    "SentenceEmbedding",
    "SinePositions",
    "StackRNN",
    "ThinkSteps",
]
