"""From images to a registered model: load, learn, judge, publish, decide."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightstream.config import Settings
from sightstream.errors import InputError
from sightstream.models.engines import import_keras
from sightstream.models.registry import Registry, Version
from sightstream.models.version import SPLIT_FILE, Card, export, ready, write_card
from sightstream.runtime import spark
from training import compare, datasets, drift_reference, features, report
from training.datasets import Dataset, Example, Source
from training.elephas import Mode
from training.fit import Curves, examples, fit
from training.recipes import Recipe
from training.split import SPLITS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

COMPARED = 256
"""Images on which the answers of the ONNX file are compared with those of the Keras file."""


@dataclass(frozen=True)
class Options:
    """What a user may set of a training; None is the recipe's own.

    Attributes:
        recipe: its name or file.
        network: one of the recipe's networks.
        name: of the registered model.
        epochs: passes over the images.
        batch_size: images in a step of one worker.
        workers: partitions that are trained side by side.
        mode: of Elephas.
        seed: of the split, the first weights and the order of the images.
        promote: whether the new version may become the champion.
        allow_unreadable: goes on however many images cannot be read.
        featuriser: another pretrained network than the recipe's.
        weights: of the featuriser: a file, or `imagenet`.
        head: what learns from the featuriser's features.
    """

    recipe: str
    network: str | None = None
    name: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    workers: int = 2
    mode: Mode = "synchronous"
    seed: int = 0
    promote: bool = True
    allow_unreadable: bool = False
    featuriser: str | None = None
    weights: str | None = None
    head: Literal["logistic", "elephas"] = "logistic"


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    Attributes:
        version: as registered.
        promoted: whether it is the champion now.
        reason: the figures that decided it.
        report: the page that shows how good it is.
        left_out: the images that were not used, each with its fault.
    """

    version: Version
    promoted: bool
    reason: str
    report: Path
    left_out: list[Example]


@dataclass(frozen=True)
class Progress:
    """Whom to tell how a training goes.

    Attributes:
        on_step: called with a sentence as each step begins.
        on_round: called after each round with the passes made, all passes, and the curves so far.
    """

    on_step: Callable[[str], None]
    on_round: Callable[[int, int, Curves], None]


def train(
    recipe: Recipe, settings: Settings, source: Source, options: Options, progress: Progress
) -> Trained:
    """Trains, evaluates and registers a model; promotes it when it is not worse.

    Args:
        recipe: what to train.
        settings: the home folder, Spark and the registry.
        source: the images; an empty one takes those that the recipe brings.
        options: what the user wants otherwise than the recipe.
        progress: whom to tell.
    """
    _require_fitting(recipe, options)
    registry = Registry(settings.registry_address)
    with learning(settings, recipe, options.workers, progress) as session:
        if recipe.prepare and source == Source():
            source = Source((recipe.prepare(settings.root),))
        progress.on_step("decoding the images")
        dataset = datasets.load(
            session, source, recipe.preprocessing, settings.limits, shares=recipe.shares,
            seed=options.seed, allow_unreadable=options.allow_unreadable,
        )  # fmt: skip
        Thread(target=registry.names, daemon=True).start()  # MLflow's import takes seconds too
        import_keras().utils.set_random_seed(options.seed)
        network, curves = learn(recipe, dataset, options, progress)
        return publish(session, settings, registry, recipe, dataset, network, curves, options,
                       progress)  # fmt: skip


@contextmanager
def learning(
    settings: Settings, recipe: Recipe, workers: int, progress: Progress
) -> Iterator[SparkSession]:
    """A Spark session whose workers have TensorFlow, as the driver then has."""
    progress.on_step("starting Spark and TensorFlow")
    session = spark.start(settings, "train", optimised=not recipe.network)  # else by MLlib
    try:
        # TensorFlow's import takes 8 s of a core, here as in the daemon that a first job starts.
        first = session.sparkContext.parallelize(range(workers), workers)
        Thread(target=first.count, daemon=True).start()
        import_keras()
        yield session
    finally:
        spark.stop(session)


def learn(
    recipe: Recipe, dataset: Dataset, options: Options, progress: Progress,
    start: Any = None,
) -> tuple[Any, Curves]:  # fmt: skip
    """Trains a network on a data set.

    Args:
        recipe: what to train.
        dataset: its splits train and validation are used.
        options: what the user wants otherwise than the recipe.
        progress: whom to tell.
        start: the Keras model to go on from; None for a new one.

    Returns:
        A Keras model from uint8 pixels to probabilities, and the curves of its training.
    """
    progress.on_step("training")
    epochs, workers, seed = options.epochs or recipe.epochs, options.workers, options.seed

    def fitted(network: Any, train: Any, validation: Any) -> Curves:
        return fit(
            network, examples(train, column, workers, seed),
            examples(validation, column, workers, seed), recipe, epochs=epochs,
            batch_size=options.batch_size or recipe.batch_size, mode=options.mode, seed=seed,
            on_round=lambda done, curves: progress.on_round(done, epochs, curves),
        )  # fmt: skip

    train, validation = dataset.split("train"), dataset.split("validation")
    labels, shape = len(dataset.labels), recipe.preprocessing.shape
    if recipe.network:
        column = "pixels"
        network = start or recipe.network(labels)
        return network, fitted(network, train, validation)
    base = (
        features.base(start)
        if start
        else features.featuriser(options.featuriser or recipe.featuriser, options.weights, shape)
    )
    if options.head == "logistic":
        head = features.regression(train, base, recipe.regularization, labels)
        return features.fold(base, head), Curves()
    column = "features"
    train, validation = (
        features.transformer(base).transform(s).cache() for s in (train, validation)
    )
    head = features.linear(base.output_shape[-1], labels, features.moments(train))
    curves = fitted(head, train, validation)
    return features.fold(base, head), curves


def publish(
    session: SparkSession, settings: Settings, registry: Registry, recipe: Recipe,
    dataset: Dataset, network: Any, curves: Curves, options: Options, progress: Progress, *,
    margin: float | None = None,
) -> Trained:  # fmt: skip
    """Judges a network beside the champion, registers it, and promotes it when it is not worse.

    Args:
        session: its workers answer for both models.
        settings: the home folder and the limits of images.
        registry: where to.
        recipe: that it was trained by.
        dataset: its test images decide; without any, those of validation.
        network: from uint8 pixels to probabilities.
        curves: of its training.
        options: of its training.
        progress: whom to tell.
        margin: what the F1 of a class may lose at most; None for any loss.
    """
    name = options.name or recipe.name
    split = "test" if dataset.count("test") else "validation"
    held_out = [e for e in dataset.examples if e.split == split]
    unsaid = {"name", "promote", "allow_unreadable", *(("head",) if recipe.network else ())}
    settings_used = {
        **{k: v for k, v in asdict(options).items() if v is not None and k not in unsaid},
        "epochs": options.epochs or recipe.epochs,
        "batch_size": options.batch_size or recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "judged_on": split,
        **{f"{s}_images": dataset.count(s) for s in SPLITS},
        "left_out_images": len(dataset.left_out),
    }
    home = settings.root / "tmp"
    with tempfile.TemporaryDirectory(dir=home, prefix="model-") as folder:
        files, pages = Path(folder) / "model", Path(folder) / "report"
        progress.on_step("exporting")
        difference = export(files, network, _sample(dataset, split))
        card = Card(dataset.labels, recipe.preprocessing, {}, settings_used, difference)
        dataset.write_split(files / SPLIT_FILE)
        progress.on_step("evaluating")
        served = ready(files, card, name)
        answers = compare.answers(session, served, held_out, dataset.labels, settings.limits)
        evaluation = compare.evaluation(answers, held_out, dataset.labels)
        rival = compare.champion(session, registry, name, held_out, dataset.labels, settings.limits)
        seen = drift_reference.of(dataset, answers.max(axis=1))
        digest = write_card(files, replace(card, metrics=evaluation.metrics(), reference=seen))
        progress.on_step("registering")
        page = report.write(
            pages, f"{name}", evaluation, asdict(curves) if curves.loss else None,
            compare.pictures(answers, held_out, dataset.labels), settings_used, settings.limits,
        )  # fmt: skip
        version = registry.publish(
            name, files, digest, parameters=settings_used, metrics=evaluation.metrics(),
            curves=asdict(curves), report=pages,
        )  # fmt: skip
        kept = settings.root / "reports" / name / str(version.number)
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        pages.rename(kept)
    better, reason = compare.decide(evaluation, rival, margin)
    promoted = better and options.promote
    if better and not options.promote:
        reason += "; --no-promote"
    registry.decided(version, promoted=promoted, reason=reason)
    if promoted:
        version = registry.promote(name, version.number)
    return Trained(version, promoted, reason, kept / page.name, dataset.left_out)


def _require_fitting(recipe: Recipe, options: Options) -> None:
    if not recipe.network:
        features.require_weights(options.featuriser or recipe.featuriser, options.weights)
    elif options.featuriser or options.weights or options.head != "logistic":
        raise InputError(
            f"this network of the recipe {recipe.name} learns all by itself: --featuriser, "
            "--weights and --head belong to pretrained ones"
        )


def _sample(dataset: Dataset, split: str) -> NDArray[np.uint8]:
    rows = dataset.split(split).orderBy("digest").limit(COMPARED).select("pixels").toArrow()
    flat = np.frombuffer(b"".join(rows["pixels"].to_pylist()), np.uint8)
    return flat.reshape(-1, *dataset.preprocessing.shape)
