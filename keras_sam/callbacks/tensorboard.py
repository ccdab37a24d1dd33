"""What a memory does, in TensorBoard, while the model is trained."""

import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_sam import visualize
from keras_sam._extras import import_matplotlib
from keras_sam.arguments import check_path, check_positive_integer
from keras_sam.layers import MemoryRNN, StackRNN
from keras_sam.options import TensorLike


class MemoryTensorBoard(keras.callbacks.Callback):
    """Logs pictures of a memory's run on a sample sequence, after some epochs.

    For each memory layer: the picture of `keras_sam.visualize.plot`, that of
    `plot_memory`, the mean of each gate, and how many slots were touched. Of a
    `StackRNN` the picture of `plot_stacks` alone. Layers further inside than the
    model's own are left out.

    Args:
        log_dir: String or path, where TensorBoard looks.
        inputs: Array `[time, features]`, the sample: one sequence of the model's.
        update_freq: Integer, after every so many epochs. Defaults to `1`.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If `log_dir` is not a path, `inputs` is not an array of at least
            one step, or `update_freq` is not a positive integer; when training starts,
            if the model has no memory layer.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((None, 9)), keras_sam.NTM(8, memory_slots=16, output_size=8)]
    ... )
    >>> model.compile("adam", "mse")
    >>> sample = np.ones((6, 9), "float32")
    >>> look = keras_sam.callbacks.MemoryTensorBoard("logs", sample)
    >>> history = model.fit(
    ...     np.ones((2, 6, 9)), np.ones((2, 8)), callbacks=[look], verbose=0
    ... )
    """

    model: keras.Model  # Keras sets it before the training.

    def __init__(
        self, log_dir: str | os.PathLike[str], inputs: TensorLike, update_freq: int = 1
    ) -> None:
        super().__init__()
        import_matplotlib()
        self.log_dir = os.fspath(check_path("log_dir", log_dir))
        self.inputs = np.asarray(inputs)
        if not (self.inputs.ndim and self.inputs.size) or self.inputs.dtype == object:
            raise ValueError(
                "`inputs` must be an array [time, features] with at least one step. "
                f"Received: inputs={inputs!r}"
            )
        self.update_freq = check_positive_integer("update_freq", update_freq)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self._layers():
            raise ValueError(
                "MemoryTensorBoard looks at layers of keras_sam. Received: a model "
                f"with the layers {[layer.name for layer in self.model.layers]}"
            )
        self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self.update_freq:
            return
        with self._writer.as_default(step=epoch):
            for layer in self._layers():
                self._log(layer)
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._writer.close()

    def _layers(self):
        return [layer for layer in self.model.layers if isinstance(layer, MemoryRNN)]

    def _log(self, layer):
        before = keras.Model(self.model.inputs, layer.input)
        sample = before([self.inputs[np.newaxis]], training=False)[0]
        if isinstance(layer, StackRNN):
            pixels = visualize.pixels(visualize.plot_stacks(layer, sample))
            tf.summary.image(f"{layer.name}/stacks", pixels[np.newaxis])
            return
        recording = visualize.record(layer, sample)
        for name, draw in (
            ("run", visualize.plot),
            ("memory", visualize.plot_memory),
        ):
            pixels = visualize.pixels(draw(recording))
            tf.summary.image(f"{layer.name}/{name}", pixels[np.newaxis])
        for name, values in recording.gates.items():
            tf.summary.scalar(f"{layer.name}/{name}", np.mean(values))
        tf.summary.scalar(f"{layer.name}/slots_touched", len(recording.slots))
