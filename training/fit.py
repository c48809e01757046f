"""Training with Elephas: each worker passes once over its part, the driver averages, and again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import InputError
from sightstream.models.engines import import_keras

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from training.recipes import Recipe

Mode = Literal["synchronous", "asynchronous", "hogwild"]

Weights = list[NDArray[np.float32]]

ASYNCHRONOUS_ROUNDS = 4
"""How often asynchronous workers are stopped to look at them: their passes need no driver."""


@dataclass
class Curves:
    """A value for each round, which is one pass over the images where the mode is synchronous."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)


def fit(
    network: Any, train: Any, validation: Any, recipe: Recipe, *, epochs: int, batch_size: int,
    mode: Mode, seed: int, on_round: Callable[[int, Curves], None],
) -> Curves:  # fmt: skip
    """Trains a network in place and leaves it with the weights of its best round.

    Ctrl-C gives up the current round, and keeps what the earlier ones reached.

    Args:
        network: an uncompiled Keras model.
        train: an RDD of (input, label index), cached, as `examples` makes it.
        validation: likewise; may be empty.
        recipe: its learning rate, augmentation and callbacks are used.
        epochs: passes over the images.
        batch_size: images in a step of one worker.
        mode: synchronous averages the workers' weights after each pass; in the others each worker
            exchanges weights with a parameter server by itself.
        seed: of the order of the images and of the network's random layers.
        on_round: called after each round with the passes made and the curves so far.

    Returns:
        The curves.

    Raises:
        InputError: there are too few images for so many workers.
    """
    keras = import_keras()
    smallest = min(train.mapPartitions(lambda part: [sum(1 for _ in part)]).collect())
    if smallest <= batch_size:  # Elephas would leave such a partition untrained
        raise InputError(
            f"a worker gets {smallest} images, and a batch has {batch_size}: give more images, "
            "fewer --workers or a smaller --batch-size"
        )
    shape = network.input_shape[1:]
    learner = keras.Sequential([
        keras.Input((int(np.prod(shape)),), dtype=network.inputs[0].dtype),
        keras.layers.Reshape(shape),
        *(recipe.augmentation() if len(shape) == 3 else ()),
        network,
    ])  # fmt: skip
    learner.compile(keras.optimizers.Adam(recipe.learning_rate),
                    "categorical_crossentropy", metrics=["accuracy"])  # fmt: skip
    labels = network.output_shape[-1]
    # Row by row, what a network is to answer for each label.
    wanted = np.eye(labels, dtype=np.float32) * (1 - recipe.label_smoothing)
    wanted += recipe.label_smoothing / labels
    smoothed = train.mapValues(lambda label: wanted[label])
    synchronous = mode == "synchronous"
    passes = recipe.passes if synchronous else max(1, epochs // ASYNCHRONOUS_ROUNDS)
    callbacks = keras.callbacks.CallbackList(
        recipe.callbacks(-(-epochs // passes), recipe.learning_rate), model=learner
    )
    elephas = _elephas(learner, mode, batch_size)
    curves, best, worth = Curves(), network.get_weights(), (-1.0, 0.0)
    callbacks.on_train_begin()
    learner.stop_training = False
    try:
        for done in range(0, epochs, passes):
            callbacks.on_epoch_begin(done // passes)
            rate = float(learner.optimizer.learning_rate)
            seen = len(elephas.training_histories)
            now = min(passes, epochs - done)
            each = {"epochs": 1, "passes": now} if synchronous else {"epochs": now}
            elephas.fit(_prepared(smoothed, seed + done), batch_size=batch_size, verbose=0, **each)
            logs = _measured(network, train, validation, elephas.training_histories[seen:])
            for key, value in {**logs, "learning_rate": rate}.items():
                getattr(curves, key).append(value)
            if (logs["val_accuracy"], -logs["val_loss"]) >= worth:
                worth = logs["val_accuracy"], -logs["val_loss"]
                best = network.get_weights()
            callbacks.on_epoch_end(done // passes, logs)
            on_round(min(done + passes, epochs), curves)
            if learner.stop_training:
                break
    except KeyboardInterrupt:
        if not curves.loss:
            raise
    network.set_weights(best)
    return curves


def examples(images: DataFrame, column: str, workers: int, seed: int) -> Any:
    """An RDD of (input, label), kept, in partitions of equal size and in a fixed order.

    Args:
        images: a DataFrame of label (index), digest and `column`.
        column: the flat input: `pixels` (bytes), or `features` (a vector).
        workers: the number of partitions.
        seed: of the order.
    """

    def pair(row: Any) -> tuple[Any, int]:
        value = row[column]
        flat = np.frombuffer(value, np.uint8) if column == "pixels" else value.toArray()
        return flat, int(row.label)

    from pyspark import StorageLevel

    def dealt(index: int, part: Iterator[Any]) -> Iterator[tuple[Any, int]]:
        found = sorted(part, key=lambda row: row.digest)
        order = np.random.default_rng(seed + index).permutation(len(found))
        return iter([pair(found[i]) for i in order])

    # From one partition in order, rows are dealt out evenly, and always in the same way.
    one = images.select(column, "label", "digest").repartition(1).sortWithinPartitions("digest")
    parts = one.repartition(workers).rdd.mapPartitionsWithIndex(dealt, preservesPartitioning=True)
    return parts.persist(StorageLevel.DISK_ONLY)


def probabilities(network: Any, inputs: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What a network answers, computed by the workers.

    Args:
        network: a Keras model.
        inputs: an RDD of (input, label index).

    Returns:
        Probabilities (n, labels) and the right labels (n,), in the order of the RDD.
    """
    architecture = _architecture(network.to_json())
    weights = inputs.context.broadcast(network.get_weights())

    def answer(part: Iterator[tuple[Any, int]]) -> Iterator[tuple[Any, Any]]:
        rows = list(part)
        if rows:
            model = _kept(architecture)
            model.set_weights(weights.value)
            inputs = np.stack([x for x, _ in rows]).reshape(-1, *model.input_shape[1:])
            truth = np.array([y for _, y in rows], np.int64)
            # Not `predict`, which traces the network first.
            found = [model(inputs[n : n + 64], training=False) for n in range(0, len(inputs), 64)]
            yield np.concatenate(found), truth

    parts = inputs.mapPartitions(answer).collect()
    weights.destroy()
    if not parts:
        return np.zeros((0, network.output_shape[-1]), np.float32), np.zeros(0, np.int64)
    return np.concatenate([p for p, _ in parts]), np.concatenate([t for _, t in parts])


def _elephas(learner: Any, mode: Mode, batch_size: int) -> Any:
    """The Elephas model of a mode."""
    from elephas import spark_model

    if mode == "synchronous":
        from elephas.worker import SparkWorker

        class Worker(SparkWorker):
            """A worker that keeps its compiled network: to build and trace it takes seconds."""

            def train(self, data_iterator: Iterator[tuple[Any, int]]) -> Iterator[Any]:
                yield _pass(self, list(data_iterator))

        spark_model.SparkWorker = Worker
        return spark_model.SparkModel(learner, batch_size=batch_size)
    from elephas.parameter import factory
    from elephas.parameter.server import SocketServer

    class Server(SocketServer):
        """A server whose threads end with their workers, instead of listening to silence."""

        def action_listener(self, connection: Any) -> None:
            with connection, suppress(OSError):
                while action := connection.recv(1):
                    (self.update_parameters if action == b"u" else self.get_parameters)(connection)

    class Model(spark_model.AsynchronousSparkModel):
        """A model whose server ends however the training does."""

        @contextmanager
        def run_parameter_server(self) -> Iterator[None]:
            self.parameter_server.start()
            try:
                yield
            finally:
                self.parameter_server.stop()

    factory.SocketServer = Server
    # Its server is a thread that speaks a protocol of its own. The other one is a forked Flask
    # in debug mode, which lets whoever reaches it run code.
    return Model(
        learner, batch_size=batch_size, mode=mode, parameter_server_mode="socket", port=_free_port()
    )


def _pass(worker: Any, rows: list[tuple[Any, int]]) -> list[Any]:
    """One worker's part of a round: what its weights lost, and its history."""
    rate = worker.master_optimizer["config"].pop("learning_rate")
    model = _kept(
        _architecture(worker.json), json.dumps(worker.master_optimizer), worker.master_loss
    )
    # Nothing of an earlier round is left, so that it does not matter which process has which part.
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))
    for layer in model._flatten_layers():
        for generator in getattr(layer, "_seed_generators", ()):
            generator.state.assign(np.random.randint(2**31, size=2))
    model.optimizer.learning_rate = rate
    before = worker.parameters.value
    model.set_weights(before)
    x, y = np.stack([x for x, _ in rows]), np.array([y for _, y in rows])
    config = worker.train_config
    images = _batches(x, y, config["batch_size"])
    history = model.fit(images, epochs=config["passes"], verbose=0).history
    return [[a - b for a, b in zip(before, model.get_weights(), strict=True)], history]


def _batches(x: NDArray[Any], y: NDArray[np.float32], size: int) -> Any:
    """What Keras makes of arrays, without the thread that tunes it, whose end takes up to 0.3 s."""
    import tensorflow as tf

    inputs, wanted = tf.constant(x), tf.constant(y)
    rows = tf.data.Dataset.range(len(x)).shuffle(len(x)).batch(size)
    options = tf.data.Options()
    options.autotune.enabled = False
    batches = rows.map(lambda at: (tf.gather(inputs, at), tf.gather(wanted, at)))
    return batches.with_options(options)


def _architecture(serialized: str) -> str:
    """A serialised network without its training's settings, which change from round to round."""
    fields = json.loads(serialized)
    fields.pop("compile_config", None)
    return json.dumps(fields)


@lru_cache(2)
def _kept(architecture: str, optimizer: str = "", loss: str = "") -> Any:
    """A worker's network, built once; compiled where there is an optimizer."""
    keras = import_keras()
    model = keras.models.model_from_json(architecture)
    if optimizer:
        # XLA would take seconds to compile what runs for seconds.
        model.compile(keras.optimizers.deserialize(json.loads(optimizer)), loss,
                      metrics=["accuracy"], jit_compile=False)  # fmt: skip
    return model


def _prepared(rows: Any, seed: int) -> Any:
    """Makes each worker's pass repeatable; the function runs before Elephas trains there."""

    def prepare(index: int, part: Iterator[Any]) -> Iterator[Any]:
        keras = import_keras()
        import tensorflow as tf

        keras.utils.set_random_seed(seed + index)
        tf.config.experimental.enable_op_determinism()
        return part

    return rows.mapPartitionsWithIndex(prepare, preservesPartitioning=True)


def _measured(
    network: Any, train: Any, validation: Any, histories: list[dict[str, list[float]]]
) -> dict[str, float]:
    """Loss and accuracy of a round; without validation images, those of training stand in."""
    logs = {
        key: float(np.mean([h[key][-1] for h in histories])) if histories else float("nan")
        for key in ("loss", "accuracy")
    }
    answers, truth = probabilities(network, validation)
    if not len(truth):
        answers, truth = probabilities(network, train)
    right = answers[np.arange(len(truth)), truth]
    return {
        **logs,
        "val_loss": float(-np.log(np.clip(right, 1e-7, None)).mean()),
        "val_accuracy": float((answers.argmax(axis=1) == truth).mean()),
    }


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
