"""The same weights on a memory of another size."""

import keras

from keras_sam.arguments import check_positive_integer


def resize_memory(model: keras.Model, memory_slots: int) -> keras.Model:
    """A copy of a model, with the same weights, whose memories have N slots.

    A model can be trained on a small memory and used with a large one: no weight
    of a cell depends on N, unless its addresses, its initial memory or its initial
    weightings are learned (or its initial memory random).

    Args:
        model: A built Keras model, with memory layers or cells anywhere in it. It
            is left as it is.
        memory_slots: Integer N, the new number of slots, for all of them.

    Returns:
        A new model of the same class, not compiled.

    Raises:
        ValueError: If `model` is no Keras model, has no memory cell, or one whose
            weights are tied to its number of slots; if `memory_slots` is not a positive
            integer.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((None, 9)), keras_sam.DNC(8, memory_slots=16)]
    ... )
    >>> keras_sam.resize_memory(model, 128).layers[0].cell.memory_slots
    128
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a Keras model. Received: model={model!r}")
    memory_slots = check_positive_integer("memory_slots", memory_slots)
    memories = []

    def resize(config):
        if isinstance(config, list | tuple):
            return [resize(item) for item in config]
        if not isinstance(config, dict):
            return config
        config = {name: resize(value) for name, value in config.items()}
        if "memory_slots" in config:
            _check_resizable(config)
            memories.append(config.get("name"))
            config["memory_slots"] = memory_slots
        return config

    config = keras.saving.serialize_keras_object(model)
    # Not compiled: a loss that is a function of the user's would not be found again.
    config.pop("compile_config", None)
    resized = keras.saving.deserialize_keras_object(resize(config))
    if not memories:
        raise ValueError(
            "The model must have a layer or cell of keras_sam, with a `memory_slots`. "
            f"Received: model={model}"
        )
    if not resized.built:
        resized.build(model.input_shape)
    resized.set_weights(model.get_weights())
    return resized


def _check_resizable(config):
    tied = [
        f'{name}="{config[name]}"'
        for name in ("initial_memory", "initial_addressing")
        if config.get(name) in ("learned", "random")
    ]
    if "address_size" in config:  # a D-NTM's addresses are learned
        tied.append(f"address_size={config['address_size']}")
    if tied:
        raise ValueError(
            "A memory can be resized only if none of its weights belongs to a slot. "
            f"Received: layer {config.get('name')!r} with {', '.join(tied)}. Train it "
            'with initial_memory="constant" (and, for an NTM, '
            'initial_addressing="first_slot").'
        )
