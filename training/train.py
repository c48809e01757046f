"""From images to a registered model: load, learn, publish."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from sightstream.config import Settings
from sightstream.errors import InputError
from sightstream.models.engines import import_keras
from sightstream.models.registry import Registry
from sightstream.runtime import spark
from training import backbone, datasets, elephas, features, recipes
from training.backbone import Backbone
from training.datasets import Dataset, Source
from training.fit import Curves, examples, fit
from training.options import Options, Progress
from training.publish import Run, Trained, publish
from training.recipes import Recipe

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)


def spark_options() -> dict[str, str]:
    """Options of a training's session."""
    from pyspark import daemon

    if not hasattr(daemon, "manager"):
        log.warning("this Spark has another daemon: each worker imports TensorFlow by itself")
        return {}
    return {
        "spark.python.daemon.module": "training.daemon",
        # Else tasks of RDDs and those of DataFrames have daemons and workers of their own.
        "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "false",
    }


def train(
    recipe: Recipe, settings: Settings, source: Source, options: Options, progress: Progress
) -> Trained:
    """Trains, evaluates and registers a model; an empty source is that of the recipe."""
    registry = Registry(settings.registry_address)
    base = _registered(registry, recipe, options)
    if base:
        recipe, options = upon(base, recipe, options)
    else:
        _require_fitting(recipe, options)
    if recipe.prepare and source == Source():
        with recipes.mistakes_told(Path(options.recipe)):
            source = Source((recipe.prepare(settings.root),))
    source.list()  # a fault of the data shows before Spark has started
    with learning(settings, recipe, options, base, progress) as session:
        run = Run(session, registry, settings.root, settings.limits, recipe, options, progress)
        progress.on_step("decoding the images")
        dataset = datasets.load(
            session, source, recipe.preprocessing, settings.limits, shares=recipe.shares,
            seed=options.seed, allow_unreadable=options.allow_unreadable,
        )  # fmt: skip
        Thread(target=registry.names, daemon=True).start()  # MLflow's import takes seconds too
        if not _spark_alone(base, options):
            import_keras().utils.set_random_seed(options.seed)
        network, curves = learn(run, dataset, base)
        return publish(run, dataset, network, curves)


@contextmanager
def learning(
    settings: Settings, recipe: Recipe, options: Options, base: Any, progress: Progress
) -> Iterator[SparkSession]:
    """A Spark session whose workers have TensorFlow, as the driver then has.

    Where a registered featuriser and MLlib do all the work, neither has it.

    Raises:
        ModuleNotFoundError: TensorFlow or Elephas is not installed.
        EnvironmentUnfitError: Elephas is too old.
    """
    alone = _spark_alone(base, options)
    if not alone:
        elephas.require()
    progress.on_step("starting Spark" if alone else "starting Spark and TensorFlow")
    session = spark.start(
        "train", settings.root, settings.master, settings.driver_memory,
        {**({} if alone else spark_options()), **settings.spark},
        optimised=not recipe.network,  # else by MLlib
    )  # fmt: skip
    try:
        if not alone:
            # TensorFlow's import takes 8 s of a core, here as in the daemon that a job starts.
            first = session.sparkContext.parallelize(range(options.workers), options.workers)
            Thread(target=first.count, daemon=True).start()
            import_keras()
        yield session
    finally:
        spark.stop(session)


def learn(run: Run, dataset: Dataset, start: Any = None) -> tuple[Any, Curves]:
    """Trains a network on the splits train and validation of a data set.

    `start` is the Keras model to go on from, or a registered featuriser; None for a new network.

    Returns:
        A network from uint8 pixels to probabilities, a Keras model or `Folded`, and the curves of
        its training.
    """
    run.progress.on_step("training")
    with recipes.mistakes_told(Path(run.options.recipe)):
        return _learnt(run, dataset, start)


def _learnt(run: Run, dataset: Dataset, start: Any) -> tuple[Any, Curves]:
    recipe, options, labels = run.recipe, run.options, len(dataset.labels)
    train, validation = dataset.split("train"), dataset.split("validation")
    if recipe.network:
        network = start or recipe.network(labels)
        return network, _fit(run, network, train, validation, "pixels")
    base = _featuriser(run, start)
    if options.head == "logistic":
        found = features.regression(train, base, recipe.regularization, labels)
        if isinstance(base, Backbone):
            return base.fold(*found), Curves()
        return features.fold(base, features.dense(*found)), Curves()
    featurise = features.transformer(base).transform
    train, validation = featurise(train).cache(), featurise(validation).cache()
    head = features.linear(features.width(base), labels, features.moments(train))
    curves = _fit(run, head, train, validation, "features")
    return features.fold(base, head), curves


def _featuriser(run: Run, start: Any) -> Any:
    recipe, options = run.recipe, run.options
    if isinstance(start, Backbone):
        return start
    if start:
        return features.base(start)
    name = options.featuriser or recipe.featuriser
    return features.featuriser(name, options.weights, recipe.preprocessing.shape)


def upon(base: Backbone, recipe: Recipe, options: Options) -> tuple[Recipe, Options]:
    """The recipe with a registered featuriser in place of its network, and the images as it."""
    return (
        replace(recipe, network=None, preprocessing=base.preprocessing),
        replace(options, featuriser=base.origin["featuriser"]),
    )


def _spark_alone(base: Any, options: Options) -> bool:
    return isinstance(base, Backbone) and options.head == "logistic"


def _registered(registry: Registry, recipe: Recipe, options: Options) -> Backbone | None:
    """The featuriser from the registry that was asked for; None for one of Keras."""
    name = options.featuriser
    if not name or name == features.SQUEEZENET:
        return None
    if "@" not in name and (options.weights or name not in registry.names()):
        return None
    if options.weights:
        raise InputError(f"{name} is a registered model with its weights: leave --weights out")
    if options.network and recipe.network:
        raise InputError(
            f"--network {options.network} learns all by itself: give that or --featuriser {name}"
        )
    return backbone.find(registry, name)


def _fit(run: Run, network: Any, train: DataFrame, validation: DataFrame, column: str) -> Curves:
    recipe, options, seed = run.recipe, run.options, run.options.seed
    epochs = options.epochs or recipe.epochs
    inputs, held_out = (
        examples(images, column, options.workers, seed) for images in (train, validation)
    )
    return fit(
        network, inputs, held_out, recipe, epochs=epochs, mode=options.mode, seed=seed,
        batch_size=options.batch_size or recipe.batch_size,
        on_round=lambda done, curves: run.progress.on_round(done, epochs, curves),
    )  # fmt: skip


def _require_fitting(recipe: Recipe, options: Options) -> None:
    """Refuses options that the recipe's network has no use for."""
    if not recipe.network:
        features.require_weights(options.featuriser or recipe.featuriser, options.weights)
    elif options.featuriser or options.weights or options.head != "logistic":
        raise InputError(
            f"this network of the recipe {recipe.name} learns all by itself: --weights and --head "
            "belong to pretrained ones, and --featuriser takes its place where it names a "
            "registered model, see: sightstream models list"
        )
