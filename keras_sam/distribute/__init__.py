"""Training on several machines, or in several processes of one."""

from keras_sam.distribute.local import run_local_workers
from keras_sam.distribute.strategy import MultiWorkerStrategy

__all__ = ["MultiWorkerStrategy", "run_local_workers"]
