"""Keras networks in Spark's Python workers: each is built once and kept for later tasks."""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightstream.models.engines import import_keras

CHUNK = 64  # inputs that a network answers at once


class Shipped:
    """A Keras model that Spark's workers apply; its weights are a broadcast.

    With `traced` Keras traces the network, which takes each worker a second, and then runs a large
    one twice as fast.
    """

    def __init__(self, context: Any, network: Any, *, traced: bool = False) -> None:
        self._traced = traced
        self._architecture = architecture(network.to_json())
        self._weights = context.broadcast(network.get_weights())

    def __call__(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Applies the network in a worker to inputs (n, ...); returns (n, outputs)."""
        model = built(self._architecture)
        model.set_weights(self._weights.value)
        shaped = inputs.reshape(-1, *model.input_shape[1:])
        if self._traced:
            return np.asarray(model.predict(shaped, batch_size=CHUNK, verbose=0))
        starts = range(0, len(shaped), CHUNK)
        return np.concatenate([model(shaped[n : n + CHUNK], training=False) for n in starts])

    def destroy(self) -> None:
        """Frees the weights; the network cannot be applied any more."""
        self._weights.destroy()


def architecture(serialized: str) -> str:
    """A serialised network without its training's settings, which change from round to round."""
    fields = json.loads(serialized)
    fields.pop("compile_config", None)
    return json.dumps(fields)


@lru_cache(2)
def built(architecture: str, optimizer: str = "", loss: str = "") -> Any:
    """Builds a network, once in a process; compiles it where an optimizer is given."""
    keras = import_keras()
    model = keras.models.model_from_json(architecture)
    if optimizer:
        # XLA would take seconds to compile what runs for seconds.
        model.compile(keras.optimizers.deserialize(json.loads(optimizer)), loss,
                      metrics=["accuracy"], jit_compile=False)  # fmt: skip
    return model


def forget_training(model: Any) -> None:
    """Empties the optimizer and draws new random states, from NumPy's generator.

    Nothing of an earlier round is left, so any process may train any part of the images.
    """
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))
    weights = {id(weight) for weight in model.weights}
    for state in model.variables:
        if id(state) not in weights:  # the state of a random layer, by Keras' documentation
            state.assign(np.random.randint(2**31, size=state.shape))


def batches(x: NDArray[Any], y: NDArray[np.float32], size: int) -> Any:
    """Shuffled batches of (inputs, targets), as Keras makes them of arrays.

    Without the thread that tunes Keras' own, whose end takes up to 0.3 s.
    """
    import tensorflow as tf

    inputs, targets = tf.constant(x), tf.constant(y)
    rows = tf.data.Dataset.range(len(x)).shuffle(len(x)).batch(size)
    options = tf.data.Options()
    options.autotune.enabled = False
    made = rows.map(lambda at: (tf.gather(inputs, at), tf.gather(targets, at)))
    return made.with_options(options)


def seeded(rows: Any, seed: int) -> Any:
    """An RDD whose tasks seed their worker before anything trains there, so that it repeats."""

    def prepare(index: int, part: Iterator[Any]) -> Iterator[Any]:
        keras = import_keras()
        import tensorflow as tf

        keras.utils.set_random_seed(seed + index)
        tf.config.experimental.enable_op_determinism()
        return part

    return rows.mapPartitionsWithIndex(prepare, preservesPartitioning=True)
