"""What Keras takes of each worker's part of a batch, taken of the whole batch.

Keras gives each worker the mean over its own part, and trains on the mean of these
means. Where the parts count differently (a last batch that does not come out even,
masks, sums of sample weights) that is another number. Keras also clips each worker's
gradients before it sums them. Neither is training on the global batch.
"""

import keras
import tensorflow as tf
from keras import ops

from keras_sam import _compat

MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight")


def use_global_batch(model):
    """Gives a compiled model the loss and the gradients of the global batch.

    Nothing of it is saved with the model: in one process Keras does the same by itself.
    It may be called again, since a model may be compiled again.

    Args:
        model: A `keras.Model` that is compiled and built.

    Raises:
        ValueError: If the model is compiled to something that is not what one process
            computes.
    """
    _check_compiled(model)
    _compat.map_losses(model, _global_loss)
    if model.optimizer is not None:
        _compat.sum_before_clipping(model.optimizer, _sum_over_workers)


def _check_compiled(model):
    if model.jit_compile:
        raise ValueError(
            "XLA cannot compile a step that several workers share. Call "
            "`model.compile` with `jit_compile=False`; the layers of keras_sam compile "
            f"themselves. Received: jit_compile={model.jit_compile}"
        )
    if model.steps_per_execution != 1:
        raise ValueError(
            "Several workers take one step at a time: TensorFlow cannot loop over "
            "steps that they share. Call `model.compile` with `steps_per_execution=1`. "
            f"Received: steps_per_execution={model.steps_per_execution}"
        )
    for layer in _compat.sublayers(model):
        is_normalization = isinstance(layer, keras.layers.BatchNormalization)
        if is_normalization and layer.trainable and not layer.synchronized:
            raise ValueError(
                "BatchNormalization would take the mean of each worker's part of a "
                "batch, which may be empty. Make the layer with `synchronized=True`. "
                f"Received: the layer {layer.name!r}"
            )
    optimizer = model.optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "A LossScaleOptimizer would skip steps on one worker and not on another. "
            "Call `model.compile` with `auto_scale_loss=False`, or train in float32. "
            f"Received: optimizer={optimizer!r}"
        )
    accumulated = getattr(optimizer, "gradient_accumulation_steps", None)
    if accumulated is not None:
        raise ValueError(
            "Several workers sum their gradients in each step and do not accumulate "
            "them over steps. Use more workers, or smaller batches. "
            f"Received: gradient_accumulation_steps={accumulated}"
        )


def _sum_over_workers(gradients):
    return tf.distribute.get_replica_context().all_reduce("SUM", gradients)


def _global_loss(loss):
    return loss if isinstance(loss, GlobalLoss) else GlobalLoss(loss)


class GlobalLoss(keras.losses.Loss):
    """A loss of the global batch, from each worker's part of it.

    With the sum S_w of the weighted losses of worker w, and D_w, by which the loss
    divides there, each of n workers gets

        sum_w S_w / sum_w D_w / n,

    since Keras multiplies by n where it reports a loss. Its gradient on worker w is
    that of S_w / sum_w D_w, since Keras sums gradients over the workers.

    Args:
        loss: A `keras.losses.Loss`.

    Raises:
        ValueError: If the loss has its own `__call__` or no reduction, or, in a call,
            has one value for the whole batch.
    """

    def __init__(self, loss):
        super().__init__(loss.name, reduction=None, dtype=loss.dtype)
        if type(loss).__call__ is not keras.losses.Loss.__call__:
            raise ValueError(
                "A loss for several workers must define `call(y_true, y_pred)` and "
                f"leave `__call__` to keras.losses.Loss. Received: loss={loss!r}"
            )
        if loss.reduction not in (*MEANS, "sum"):
            raise ValueError(
                f"A loss for several workers must have a reduction: {MEANS} or 'sum'. "
                f"Received: loss={loss!r} with reduction={loss.reduction!r}"
            )
        self.loss = loss

    def call(self, y_true, y_pred):
        values = self.loss.call(y_true, y_pred)
        if len(values.shape) == 0:
            raise ValueError(
                "A loss for several workers must have a value for each sequence or "
                "step, not one for the whole batch (some have an argument `axis`). "
                f"Received: {self.loss!r}, whose `call` returns a scalar"
            )
        return values

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Each value times its weight, 0 where the mask is False.
        total = ops.sum(super().__call__(y_true, y_pred, sample_weight))
        divisor = self._divisor(y_true, y_pred, sample_weight)
        context = tf.distribute.get_replica_context()
        if context is None:  # Keras asks for shapes alone.
            return ops.divide_no_nan(total, divisor)
        sums = context.all_reduce("SUM", [tf.stop_gradient(total), divisor])
        divisor = sums[1] if self.loss.reduction in MEANS else ops.ones_like(total)
        local = ops.divide_no_nan(total, divisor)
        value = ops.divide_no_nan(sums[0], divisor) / context.num_replicas_in_sync
        return local + tf.stop_gradient(value - local)

    def _divisor(self, y_true, y_pred, sample_weight):
        """By what the loss divides the sum: found from values that are all 1."""
        if self.loss.reduction != "mean_with_sample_weight":
            sample_weight = None
        total, mean = (
            ops.sum(_Ones(self.loss, reduction)(y_true, y_pred, sample_weight))
            for reduction in (None, self.loss.reduction)
        )
        if self.loss.reduction in MEANS:
            # Keras has divided by it as well.
            mean *= tf.distribute.get_strategy().num_replicas_in_sync
        return ops.divide_no_nan(total, mean)


class _Ones(keras.losses.Loss):
    """1 in the place of each value of a loss, with the same mask."""

    def __init__(self, loss, reduction):
        super().__init__(loss.name, reduction=reduction, dtype=loss.dtype)
        self.loss = loss

    def call(self, y_true, y_pred):
        values = self.loss.call(y_true, y_pred)
        ones = ops.ones_like(values)
        mask = _compat.keras_mask(values)
        if mask is not None:
            _compat.set_keras_mask(ones, mask)
        return ones
