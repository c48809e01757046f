"""Training with Elephas: the workers fit a pass each, the driver averages, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import InputError
from sightstream.models import import_keras
from sightstream.spark import prepare_worker
from training.datasets import Dataset
from training.recipes import Recipe

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Example = tuple[NDArray[np.uint8], int]


@dataclass
class Curves:
    """A value for each epoch."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)


def fit(
    network: Any, dataset: Dataset, recipe: Recipe, *, epochs: int, workers: int, seed: int,
    on_epoch: Callable[[int, Curves], None],
) -> Curves:  # fmt: skip
    """Trains a network in place and leaves it with the weights of its best epoch.

    Args:
        network: an uncompiled Keras model.
        dataset: its splits train and validation are used.
        recipe: batch size, learning rate and augmentation.
        epochs: rounds; in each, every worker passes once over its part.
        workers: partitions that are trained side by side.
        seed: of the order of the images and of the network's random layers.
        on_epoch: called after each epoch with its number, from 1, and the curves so far.

    Returns:
        The curves.

    Raises:
        InputError: there are too few images for so many workers.
    """
    from elephas.spark_model import SparkModel
    from keras.optimizers import Adam

    examples = _examples(dataset, recipe, workers, seed)
    validation = dataset.arrays("validation")
    optimizer = Adam(recipe.learning_rate)
    network.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    master = SparkModel(network, batch_size=recipe.batch_size)
    curves, best = Curves(), network.get_weights()
    for epoch in range(1, epochs + 1):
        optimizer.learning_rate = _rate(recipe.learning_rate, epoch, epochs)
        seen = len(master.training_histories)
        # The optimizer forgets between rounds, so that a round is one epoch; the driver counts.
        master.fit(_prepared(examples, seed + epoch), epochs=1, batch_size=recipe.batch_size,
                   verbose=0)  # fmt: skip
        _record(curves, master.training_histories[seen:], network.evaluate(*validation, verbose=0))
        if curves.val_loss[-1] <= min(curves.val_loss):
            best = network.get_weights()
        on_epoch(epoch, curves)
    network.set_weights(best)
    return curves


def warm(session: SparkSession, workers: int) -> None:
    """Starts Spark's Python workers, and imports in them what training needs.

    Args:
        session: the session that will train.
        workers: how many of them.
    """

    def load(_: Iterator[int]) -> Iterator[int]:
        prepare_worker()
        import_keras()
        import elephas.worker  # noqa: F401

        return iter(())

    session.sparkContext.parallelize(range(workers), workers).mapPartitions(load).count()


def _rate(start: float, epoch: int, epochs: int) -> float:
    """Cuts the rate to 0.4 after 60 % and 85 % of the rounds, which makes up for averaging."""
    return float(start * 0.4 ** sum(epoch > share * epochs for share in (0.6, 0.85)))


def _examples(dataset: Dataset, recipe: Recipe, workers: int, seed: int) -> Any:
    """An RDD of (pixels, label), cached, in partitions of equal size."""
    p = dataset.preprocessing
    shape, augment = (p.height, p.width, p.channels), recipe.augment

    def variants(index: int, rows: Iterator[Any]) -> Iterator[Example]:
        found = [
            (each, int(row.label))
            for row in sorted(rows, key=lambda row: row.digest)
            for each in augment(np.frombuffer(row.pixels, np.uint8).reshape(shape))
        ]
        order = np.random.default_rng(seed + index).permutation(len(found))
        return iter([found[i] for i in order])

    rows = dataset.images.where(dataset.images.split == "train").repartition(workers)
    examples = rows.rdd.mapPartitionsWithIndex(variants, preservesPartitioning=True).cache()
    smallest = min(examples.mapPartitions(lambda part: [sum(1 for _ in part)]).collect())
    if smallest <= recipe.batch_size:  # Elephas would leave such a partition untrained
        raise InputError(
            f"{workers} workers get {smallest} images each, a batch has {recipe.batch_size}; "
            "give more images or fewer --workers"
        )
    return examples


def _prepared(examples: Any, seed: int) -> Any:
    """Makes each worker repeatable; the function runs before Elephas builds its model there."""

    def prepare(index: int, part: Iterator[Example]) -> Iterator[Example]:
        prepare_worker()
        keras = import_keras()
        import tensorflow as tf

        keras.utils.set_random_seed(seed + index)
        # It also keeps Keras from compiling each round's new model with XLA, which costs seconds.
        tf.config.experimental.enable_op_determinism()
        return part

    return examples.mapPartitionsWithIndex(prepare, preservesPartitioning=True)


def _record(
    curves: Curves, histories: list[dict[str, list[float]]], validation: list[float]
) -> None:
    curves.loss.append(float(np.mean([h["loss"][-1] for h in histories])))
    curves.accuracy.append(float(np.mean([h["accuracy"][-1] for h in histories])))
    curves.val_loss.append(float(validation[0]))
    curves.val_accuracy.append(float(validation[1]))
