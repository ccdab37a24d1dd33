"""A backup of a whole run, so that an interrupted one goes on as the same run."""

import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np


class RunBackup(keras.callbacks.Callback):
    """Saves the whole state of a run after each epoch, and restores it.

    `keras.callbacks.BackupAndRestore` writes weights and epoch into two files and knows
    nothing of a curriculum or of dropout's seeds. A `kill -9` between or inside these
    writes loses the run or leaves parts of different epochs. This callback writes one
    file for each epoch, `epoch_N.npz`, with

    - `model.variables`: the weights and the seeds of dropout;
    - `model.optimizer.variables`: its moments and its iterations, on which a schedule
      of the learning rate depends;
    - the state of each of `callbacks`, such as the level of a curriculum;
    - `settings`, and whether a callback stopped the training.

    The file is written aside and then renamed. The two newest files are kept. If the
    newest is damaged, the run goes on from the one before.

    A resumed run equals the run without the interruption if the data of an epoch
    depend on the number of the epoch and these states alone: start the stream of the
    data at `epoch`. Keras keeps the states of stateful layers outside of
    `model.variables`, so they are not saved.

    Args:
        folder: String or path, the folder of the files. It belongs to this run alone;
            delete it to begin again.
        callbacks: Callbacks of the same `fit` whose state belongs to the run. Each has
            `get_state()`, which returns what JSON can hold, and `set_state(state)`, as
            the curricula of `keras_sam.callbacks` have. In `fit` they come before
            this callback. Defaults to `()`.
        settings: Dictionary of what makes the run what it is, such as its seed and
            its sizes, of values that JSON can hold. `restore` refuses to go on with
            other settings. Defaults to `None`: none.

    Attributes:
        epoch: Integer, how many epochs are done, once `restore` was called.
        stopped: Boolean, whether a callback stopped the training after these epochs.
            Do not train further if so.

    Raises:
        TypeError: If one of `callbacks` has no `get_state` and `set_state`, or JSON
            cannot hold `settings`.
        ValueError: In `fit`, if `restore` was not called or `initial_epoch` is another
            than `epoch`.

    Example:

    >>> def train(epochs):
    ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    ...     model.compile("sgd", "mse")
    ...     backup = keras_sam.callbacks.RunBackup("backup", settings={"seed": 0})
    ...     history = model.fit(
    ...         np.ones((2, 3)),
    ...         np.ones((2, 1)),
    ...         initial_epoch=backup.restore(model),
    ...         epochs=epochs,
    ...         callbacks=[backup],
    ...         verbose=0,
    ...     )
    ...     return history.epoch
    >>> train(epochs=2)
    [0, 1]
    >>> train(epochs=5)  # perhaps in a new process
    [2, 3, 4]
    """

    model: keras.Model  # Keras sets it before the training.

    def __init__(
        self,
        folder: str | os.PathLike[str],
        callbacks: Sequence[Any] = (),
        settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if not (hasattr(callback, "get_state") and hasattr(callback, "set_state")):
                raise TypeError(
                    "Each of `callbacks` must have the methods get_state() and "
                    f"set_state(state). Received: {callback!r}"
                )
        try:
            # As they will be read: a tuple is a list then.
            self.settings = json.loads(json.dumps(settings or {}))
        except (TypeError, ValueError) as error:
            raise TypeError(
                "`settings` must be a dictionary of values that JSON can hold "
                f"({error}). Received: settings={settings!r}"
            ) from None
        self.epoch = None
        self.stopped = False

    def restore(self, model: keras.Model) -> int:
        """Gives the model and the callbacks the newest state that is in the folder.

        Args:
            model: The model that is to be trained, built and compiled.

        Returns:
            How many epochs are done, 0 if the folder has no state: the `initial_epoch`
            of `fit`.

        Raises:
            ValueError: If the model is not built and compiled; if the state is of a
                run with other settings, callbacks or variables; or if no file of the
                folder can be read.
        """
        if not model.built or getattr(model, "optimizer", None) is None:
            raise ValueError(
                "`model` must be built and compiled before its state is restored: "
                "begin it with keras.Input or call it once. Received: model.built="
                f"{model.built}, model.optimizer={getattr(model, 'optimizer', None)}"
            )
        if not model.optimizer.built:
            # With several replicas each has a copy of the variables.
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)
        self.epoch, self.stopped = 0, False
        paths = self._paths()
        for path in reversed(paths):
            values = _read(path)
            if values is not None:
                break
            warnings.warn(
                f"{path} is damaged and is left out: the run goes on from the state "
                "before it.",
                stacklevel=2,
            )
        else:
            if paths:
                raise ValueError(
                    f"No state in {self.folder} can be read. Delete the folder to "
                    "begin again."
                )
            return 0
        state = json.loads(str(values["state"]))
        self._check_same(state["run"], self._run(model))
        for i, variable in enumerate(_variables(model)):
            # NumPy reads bfloat16 as bytes without a type.
            kind = np.asarray(keras.ops.convert_to_numpy(variable)).dtype
            variable.assign(values[str(i)].view(kind))
        for callback, saved in zip(self.callbacks, state["callbacks"], strict=True):
            callback.set_state(saved)
        self.epoch, self.stopped = state["epoch"], state["stopped"]
        return self.epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch != self.epoch:
            raise ValueError(
                "`fit` must go on where the backup is: call `backup.restore(model)` "
                "and pass what it returns as `initial_epoch`. Received: an epoch "
                f"{epoch}, where {self.epoch} is next"
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch, self.stopped = epoch + 1, bool(self.model.stop_training)
        state = {
            "epoch": self.epoch,
            "stopped": self.stopped,
            "callbacks": [callback.get_state() for callback in self.callbacks],
            "run": self._run(self.model),
        }
        values = {
            str(i): keras.ops.convert_to_numpy(variable)
            for i, variable in enumerate(_variables(self.model))
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(
            self.folder / f"epoch_{self.epoch}.npz",
            {**values, "state": np.array(json.dumps(state))},
        )
        for path in self._paths()[:-2]:
            path.unlink()

    def _paths(self):
        """The files of the folder, the newest last."""
        paths = {
            int(match[1]): path
            for path in self.folder.glob("epoch_*.npz")
            if (match := re.fullmatch(r"epoch_(\d+)\.npz", path.name))
        }
        return [paths[epoch] for epoch in sorted(paths)]

    def _run(self, model):
        """What has to be the same before and after an interruption.

        Variables are known by their shapes: Keras numbers their names again for each
        model.
        """
        return {
            "settings": self.settings,
            "callbacks": [type(callback).__name__ for callback in self.callbacks],
            "variables": [
                f"{variable.dtype} {list(variable.shape)}"
                for variable in _variables(model)
            ],
        }

    def _check_same(self, before, now):
        different = list(_differences(before, now))
        if different:
            rest = [f"and {len(different) - 9} more"] if len(different) > 9 else []
            raise ValueError(
                f"{self.folder} has the state of another run:\n  "
                + "\n  ".join(different[:9] + rest)
                + "\nGo on with the settings of that run, or choose another folder, or "
                "delete this one to begin again."
            )


def _variables(model):
    return [*model.variables, *model.optimizer.variables]


def _differences(before, now, name=""):
    """Yields a line for each entry of nested dictionaries and lists that differs."""
    if isinstance(before, list) and isinstance(now, list):
        before, now = dict(enumerate(before)), dict(enumerate(now))
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(before.get(key), now.get(key), inner)
    elif before != now:
        yield f"{name}: {json.dumps(before)} there, {json.dumps(now)} now"


def _write(path, arrays):
    """Writes arrays so that an interruption leaves the old file or the new one."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    content = content.getvalue()
    aside = path.with_name("unfinished")
    with open(aside, "wb") as file:
        file.write(content)
        # What follows the archive does not keep `np.load` from reading it.
        file.write(hashlib.sha256(content).digest())
        file.flush()
        # Else the name can reach the disk before the content, and the power fails.
        os.fsync(file.fileno())
    os.replace(aside, path)


def _read(path):
    """The arrays of a file by name, or None if it is not what `_write` wrote."""
    content = path.read_bytes()
    size = len(content) - hashlib.sha256().digest_size
    if size < 0 or hashlib.sha256(content[:size]).digest() != content[size:]:
        return None
    with np.load(io.BytesIO(content[:size])) as archive:
        return dict(archive)
