"""Layers made of operations that LiteRT, the runtime on phones, and ONNX have."""

import contextlib
import contextvars
from collections.abc import Iterator

_has_builtin_ops = contextvars.ContextVar("has_builtin_ops", default=False)


@contextlib.contextmanager
def builtin_ops() -> Iterator[None]:
    """A model that is converted within it is made of builtin operations of LiteRT.

    Elsewhere `keras_sam.SAM` and `keras_sam.SDNC` change their memory by operations of
    TensorFlow that neither LiteRT nor ONNX has. Within it each step copies the memory
    and compares all its words. The other layers convert within and without.

    For LiteRT give `keras.Input` the batch size and the length. Give the layer
    `index="exact"` if it has more than 65,536 words: the weights fit any index.

    Yields:
        Nothing.

    Raises:
        ValueError: If a layer that is called within it has an index that is not exact.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((5, 3), batch_size=1), keras_sam.SAM(4, 16, read_heads=1)]
    ... )
    >>> converter = tf.lite.TFLiteConverter.from_keras_model(model)
    >>> with keras_sam.builtin_ops():
    ...     content = converter.convert()
    Saved artifact at ...
    >>> phone = tf.lite.Interpreter(model_content=content)
    >>> phone.allocate_tensors()
    >>> (place,), (result,) = phone.get_input_details(), phone.get_output_details()
    >>> phone.set_tensor(place["index"], np.ones((1, 5, 3), "float32"))
    >>> phone.invoke()
    >>> expected = model(np.ones((1, 5, 3)))
    >>> np.allclose(phone.get_tensor(result["index"]), expected, atol=1e-6)
    True
    """
    token = _has_builtin_ops.set(True)
    try:
        yield
    finally:
        _has_builtin_ops.reset(token)


def has_builtin_ops() -> bool:
    """Whether the caller is within `builtin_ops`."""
    return _has_builtin_ops.get()
