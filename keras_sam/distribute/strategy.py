"""TensorFlow's strategy for several workers, so that Keras 3 trains with it."""

import io
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_sam.distribute.global_batch import use_global_batch


class MultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """Trains one Keras model on several workers, as one process would train it.

    A worker is a process, on a machine of its own or not. All run the same program.
    Each takes its part of every batch, the gradients are summed over the workers, and
    all have the same weights. TensorFlow's `MultiWorkerMirroredStrategy` fails in
    `fit` of Keras 3 (https://github.com/keras-team/keras/issues/20585). This one runs
    `fit`, `evaluate` and `predict`, and gives what one process gives with the whole
    batch, where Keras would give the mean of the workers' means:

    - The loss is that of the global batch, whatever the parts' sizes, masks and
      sample weights. A worker may have no sequence of the last batch.
    - Gradients are clipped after they are summed, not before.

    It is so for the losses and the optimizer that `model.compile` was given. A
    `train_step` or `compute_loss` of your own, and `add_loss`, are left alone: the mean
    over the workers is taken there.

    Each worker has to draw the same batches, so give streams and `shuffle` the same
    seed everywhere. A `tf.data.Dataset` is then divided by `fit`: its batches are
    global ones. A stream that asks for its level before each batch is divided too, and
    no batch of it is made ahead of time.

    If one worker is lost, the others end with an error. Start all again: they go on
    from a `keras_sam.callbacks.RunBackup` in `strategy.folder(...)`.

    Args:
        cluster_resolver: A `tf.distribute.cluster_resolver.ClusterResolver`, such as
            `SlurmClusterResolver`. Defaults to `None`: the environment variable
            `TF_CONFIG` describes the cluster, as Kubeflow sets it. Without it this
            process is the only worker.
        communication_options: `tf.distribute.experimental.CommunicationOptions`.
            Defaults to `None`: TensorFlow's.

    Attributes:
        is_chief: Boolean, whether this worker is the one whose files are kept.

    Raises:
        ValueError: If the cluster has tasks other than chief and workers, or this
            process is none of them; in `fit`, if the model is compiled with
            `jit_compile=True`, `steps_per_execution`, a `LossScaleOptimizer`, gradients
            accumulated over steps, or a loss without reduction or with one value for
            the whole batch; or if a `BatchNormalization` is not `synchronized`.
        RuntimeError: If TensorFlow has run something before.

    Example:

    >>> # Needs TF_CONFIG, or is the only worker.
    >>> strategy = keras_sam.distribute.MultiWorkerStrategy()
    >>> with strategy.scope():
    ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    >>> data = tf.data.Dataset.from_tensor_slices((np.ones((8, 3)), np.ones((8, 1))))
    >>> backup = keras_sam.callbacks.RunBackup(strategy.folder("backup"))
    >>> history = model.fit(
    ...     data.batch(4),
    ...     initial_epoch=backup.restore(model),
    ...     epochs=2,
    ...     callbacks=[backup],
    ...     verbose=0,
    ... )
    >>> history.epoch
    [0, 1]
    """

    def __init__(
        self,
        cluster_resolver: Any = None,
        communication_options: Any = None,
    ) -> None:
        if cluster_resolver is None:
            cluster_resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        self._workers, self._index = _place(cluster_resolver)
        # It waits for the other workers.
        super().__init__(cluster_resolver, communication_options)
        self._folders = []

    @property
    def is_chief(self) -> bool:
        """Whether this worker is the one whose files are kept."""
        return self._index == 0

    def folder(self, path: str | os.PathLike[str]) -> Path:
        """The folder in which this worker writes what all workers write.

        It is `path` on the chief. On every other worker it is a temporary folder with
        a copy of what the chief has in `path`, so that all restore the same state; it
        is deleted when the process ends. The machines need no disk in common.

        All workers must call it, in the same order. The files are sent through memory:
        give it the folder of a backup, not one of data.

        Args:
            path: String or path, a folder. It is made if it is not there.
        """
        path = Path(path)
        if self.is_chief:
            path.mkdir(parents=True, exist_ok=True)
        content = self._from_chief(_pack(path) if self.is_chief else b"")
        if self.is_chief:
            return path
        copy = tempfile.TemporaryDirectory(prefix="keras_sam_worker_")
        self._folders.append(copy)
        _unpack(content, copy.name)
        return Path(copy.name)

    def run(
        self,
        fn: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        options: Any = None,
    ) -> Any:
        """Runs a function on each replica; a step of a model uses the global batch."""
        model = getattr(fn, "__self__", None)
        if isinstance(model, keras.Model) and model.compiled:
            use_global_batch(model)
        return super().run(fn, args, kwargs, options)

    def reduce(self, reduce_op: Any, value: Any, axis: int | None) -> Any:
        """Reduces a value over the replicas, as Keras asks for it.

        Of nested values Keras needs shapes alone, to build a model: it gets what this
        worker has. Keras asks for axis 0 of scalars, which have none.
        """
        if tf.nest.is_nested(value):
            return tf.nest.map_structure(self._local, value)
        if axis == 0 and self._local(value).shape.rank == 0:
            axis = None
        return super().reduce(reduce_op, value, axis=axis)

    def experimental_distribute_dataset(self, dataset: Any, options: Any = None) -> Any:
        """Divides the batches of a `tf.data.Dataset` among the workers.

        One with the option `inject_prefetch=False` depends on what happened up to the
        step before, such as the level of a curriculum. TensorFlow's iterator would
        take its batches ahead of time, so each worker reads its part by itself.
        """
        is_live = (
            isinstance(dataset, tf.data.Dataset)
            and dataset.options().experimental_optimization.inject_prefetch is False
        )
        # Several devices of a worker need that iterator.
        if is_live and self._workers == self.num_replicas_in_sync > 1:
            part = _part_size(dataset, self._workers)
            return dataset.rebatch(part).shard(self._workers, self._index)
        return super().experimental_distribute_dataset(dataset, options)

    def _local(self, value):
        return self.experimental_local_results(value)[0]

    def _from_chief(self, content):
        """The bytes that the chief passes."""
        (size,) = self._sum(np.array([len(content)], np.int64))
        padded = np.zeros(-(-size // 8), np.int64)
        padded.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
        return self._sum(padded).tobytes()[:size]

    def _sum(self, array):
        """The sum over all workers of what one replica of each has."""

        def value(context):
            replicas = self.num_replicas_in_sync // self._workers
            is_first = context.replica_id_in_sync_group % replicas == 0
            return tf.constant(array if is_first else np.zeros_like(array))

        values = self.experimental_distribute_values_from_function(value)
        return self.reduce("SUM", values, axis=None).numpy()


def _place(resolver):
    """How many workers there are, and the place of this one, the chief's first."""
    tasks = resolver.cluster_spec().as_dict()
    if not tasks:
        return 1, 0
    kind = resolver.task_type
    if not set(tasks) <= {"chief", "worker"} or kind not in tasks:
        raise ValueError(
            "The cluster must have tasks of the types `worker` and `chief` alone, and "
            "this process must be one of them: the strategy has no place for an "
            f"evaluator or a parameter server. Received: cluster={tasks}, type={kind!r}"
        )
    chiefs = len(tasks.get("chief", ()))
    index = resolver.task_id + (chiefs if kind == "worker" else 0)
    return chiefs + len(tasks.get("worker", ())), index


def _part_size(dataset, workers):
    """The sequences of a batch that each worker takes."""
    size = tf.nest.flatten(dataset.element_spec)[0].shape[0]
    if size is None or size % workers:
        raise ValueError(
            "A stream whose batches are made one by one (inject_prefetch=False) must "
            f"have a fixed batch size that {workers} workers share evenly. Received: a "
            f"batch size of {size}"
        )
    return size // workers


def _pack(folder):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(folder, arcname=".")
    return content.getvalue()


def _unpack(content, folder):
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="data")
