"""Training in rounds: the workers pass over their images, the driver merges, looks and decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import InputError
from sightstream.models.engines import import_keras
from training import elephas, networks

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from training.recipes import Recipe

Logs = dict[str, float]  # values of one round, by the names that Keras gives them
ASYNCHRONOUS_ROUNDS = 4  # rounds of an asynchronous training, whose passes need no driver


@dataclass
class Curves:
    """A value for each round."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)

    def add(self, logs: Mapping[str, float]) -> None:
        """Appends the values of a round."""
        for name, value in logs.items():
            getattr(self, name).append(value)


class Rounds:
    """The rounds of a training; between them callbacks act, and the best weights are kept.

    Callbacks, a Keras `CallbackList`, act on the compiled `learner`: they set its `stop_training`
    and its optimizer's `learning_rate`. Of the `network` inside, only the weights are read and set.
    `train` is called with the passes made so far and those to make now. It returns logs, as
    `validate` does after each round: `val_loss` and `val_accuracy`.
    """

    def __init__(
        self, network: Any, learner: Any, callbacks: Any, train: Callable[[int, int], Logs],
        validate: Callable[[], Logs],
    ) -> None:  # fmt: skip
        self._network, self._learner, self._callbacks = network, learner, callbacks
        self._train, self._validate = train, validate
        self._curves = Curves()
        self._best, self._worth = network.get_weights(), (-1.0, 0.0)

    def run(self, epochs: int, passes: int, on_round: Callable[[int, Curves], None]) -> Curves:
        """Trains in rounds of `passes`, and leaves the network with the weights of its best round.

        After each round `on_round` is called with the passes made and the curves so far.

        Raises:
            KeyboardInterrupt: Ctrl-C came in the first round; a later one ends the training.
        """
        self._callbacks.on_train_begin()
        self._learner.stop_training = False
        try:
            for number, start in enumerate(range(0, epochs, passes)):
                end = min(start + passes, epochs)
                self._round(number, start, end - start)
                on_round(end, self._curves)
                if self._learner.stop_training:
                    break
        except KeyboardInterrupt:
            if not self._curves.loss:
                raise
        self._network.set_weights(self._best)
        return self._curves

    def _round(self, number: int, start: int, passes: int) -> None:
        self._callbacks.on_epoch_begin(number)
        rate = float(self._learner.optimizer.learning_rate)
        logs = {**self._train(start, passes), **self._validate()}
        self._curves.add({**logs, "learning_rate": rate})
        worth = logs["val_accuracy"], -logs["val_loss"]
        if worth >= self._worth:
            self._best, self._worth = self._network.get_weights(), worth
        self._callbacks.on_epoch_end(number, logs)


def fit(
    network: Any, train: Any, validation: Any, recipe: Recipe, *, epochs: int, batch_size: int,
    mode: elephas.Mode, seed: int, on_round: Callable[[int, Curves], None],
) -> Curves:  # fmt: skip
    """Trains an uncompiled Keras model in place, and leaves it with the weights of its best round.

    `train` and `validation`, which may be empty, are RDDs that `examples` made; `batch_size` is
    that of one worker. Ctrl-C gives up the current round and keeps what the earlier ones reached.

    Raises:
        InputError: there are too few images for so many workers.
    """
    _require_full_batches(train, batch_size)
    learner = _learner(network, recipe)
    passes = recipe.passes if mode == "synchronous" else max(1, epochs // ASYNCHRONOUS_ROUNDS)
    callbacks = import_keras().callbacks.CallbackList(
        recipe.callbacks(-(-epochs // passes), recipe.learning_rate), model=learner
    )
    targets = _targets(network.output_shape[-1], recipe.label_smoothing)
    wanted = train.mapValues(lambda label: targets[label])
    fit_workers = elephas.trainer(learner, mode, batch_size)
    rounds = Rounds(
        network, learner, callbacks,
        lambda start, count: _means(fit_workers(networks.seeded(wanted, seed + start), count)),
        lambda: _validated(network, validation, train),
    )  # fmt: skip
    return rounds.run(epochs, passes, on_round)


def examples(images: DataFrame, column: str, workers: int, seed: int) -> Any:
    """An RDD of (input, label), persisted, in partitions of equal size and in a fixed order.

    `images` has the columns label (index), digest and `column`, the flat input: `pixels` (bytes) or
    `features` (a vector).
    """
    from pyspark import StorageLevel

    def dealt(index: int, part: Iterator[Any]) -> Iterator[tuple[Any, int]]:
        found = sorted(part, key=lambda row: row.digest)
        for i in np.random.default_rng(seed + index).permutation(len(found)):
            value, label = found[i][column], int(found[i].label)
            yield (np.frombuffer(value, np.uint8) if column == "pixels" else value.toArray()), label

    # From one partition in order, rows are dealt out evenly, and always in the same way.
    one = images.select(column, "label", "digest").repartition(1).sortWithinPartitions("digest")
    parts = one.repartition(workers).rdd.mapPartitionsWithIndex(dealt, preservesPartitioning=True)
    return parts.persist(StorageLevel.DISK_ONLY)


def probabilities(network: Any, inputs: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Applies a Keras model to an RDD of (input, label index) in Spark's workers.

    Returns probabilities (n, labels) and the right labels (n,), in the order of the RDD.
    """
    shipped = networks.Shipped(inputs.context, network)

    def answer(part: Iterator[tuple[Any, int]]) -> Iterator[tuple[Any, Any]]:
        rows = list(part)
        if rows:
            yield shipped(np.stack([x for x, _ in rows])), np.array([y for _, y in rows], np.int64)

    parts = inputs.mapPartitions(answer).collect()
    shipped.destroy()
    if not parts:
        return np.zeros((0, network.output_shape[-1]), np.float32), np.zeros(0, np.int64)
    return np.concatenate([p for p, _ in parts]), np.concatenate([t for _, t in parts])


def _require_full_batches(train: Any, batch_size: int) -> None:
    """Refuses a partition of one batch or less: Elephas leaves it untrained in silence."""
    smallest = min(train.mapPartitions(lambda part: [sum(1 for _ in part)]).collect())
    if smallest <= batch_size:
        raise InputError(
            f"a worker gets {smallest} images, and a batch has {batch_size}: give more images, "
            "fewer --workers or a smaller --batch-size"
        )


def _learner(network: Any, recipe: Recipe) -> Any:
    """The network behind its augmentation, compiled, from flat inputs."""
    keras = import_keras()
    shape = network.input_shape[1:]
    learner = keras.Sequential([
        keras.Input((int(np.prod(shape)),), dtype=network.inputs[0].dtype),
        keras.layers.Reshape(shape),
        *(recipe.augmentation() if len(shape) == 3 else ()),
        network,
    ])  # fmt: skip
    learner.compile(keras.optimizers.Adam(recipe.learning_rate),
                    "categorical_crossentropy", metrics=["accuracy"])  # fmt: skip
    return learner


def _targets(labels: int, smoothing: float) -> NDArray[np.float32]:
    """Row by row, the probabilities that a network should answer for each label."""
    return np.eye(labels, dtype=np.float32) * (1 - smoothing) + np.float32(smoothing / labels)


def _means(histories: list[elephas.History]) -> Logs:
    """Loss and accuracy of the workers' last pass; not a number where they report none."""
    return {
        key: float(np.mean([h[key][-1] for h in histories])) if histories else float("nan")
        for key in ("loss", "accuracy")
    }


def _validated(network: Any, validation: Any, train: Any) -> Logs:
    """Loss and accuracy on the validation images; without any, those of training stand in."""
    answers, truth = probabilities(network, validation)
    if not len(truth):
        answers, truth = probabilities(network, train)
    right = answers[np.arange(len(truth)), truth]
    return {
        "val_loss": float(-np.log(np.clip(right, 1e-7, None)).mean()),
        "val_accuracy": float((answers.argmax(axis=1) == truth).mean()),
    }
