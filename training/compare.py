"""The answers of registered models for held-out images, and which of two models is better."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sightstream.config import Settings
from sightstream.errors import InputError, ModelDamagedError, ModelNotFoundError
from sightstream.images.limits import Limits
from sightstream.images.store import local_path
from sightstream.models.registry import Registry, Version, parts
from sightstream.models.version import ServedModel
from sightstream.runtime import spark
from sightstream.tables.schema import ANSWER
from training import datasets, report
from training.datasets import Example
from training.evaluate import Evaluation
from training.evaluate import evaluate as figures_of
from training.report import Picture

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import SparkSession

Rival = tuple[Version, Evaluation | None]


def answers(
    session: SparkSession, model: ServedModel, images: Sequence[Example], labels: Sequence[str],
    limits: Limits,
) -> NDArray[np.float32]:  # fmt: skip
    """A model's scores (n, labels) for images, computed by Spark's workers as the stream does.

    A row is zeros where an image was rejected, and a column where the model does not know the
    label.
    """
    from sightstream.scoring import framed, udf

    def read(rows: pd.DataFrame, _told: str) -> Iterator[framed.Piece]:
        uris = [addresses[number] for number in rows["id"]]
        yield pa.table({"uri": uris}), [local_path(uri) for uri in uris]

    context, addresses = session.sparkContext, [each.uri for each in images]
    tasks = session.range(0, len(images), 1, context.defaultParallelism)
    answering = udf.Answering(context.broadcast(model), limits, len(model.labels))
    found = tasks.mapInPandas(udf.packed_answers(answering, read), udf.PACKED).toArrow()
    rows = udf.unpacked(found["answers"], ANSWER)
    column = {label: number for number, label in enumerate(labels)}
    at = np.array([column.get(label, -1) for label in model.labels])
    table = np.zeros((len(images), len(labels) + 1), np.float32)
    answers = zip(rows["classes"].to_pylist(), rows["scores"].to_pylist(), strict=True)
    for row, (classes, scores) in enumerate(answers):
        if classes is not None:
            table[row, at[classes]] = scores
    return table[:, :-1]


def evaluation(
    scores: NDArray[np.float32], images: Sequence[Example], labels: Sequence[str]
) -> Evaluation:
    """The figures of a model's scores (n, labels) for images."""
    return figures_of(scores, _truth(images, labels), labels)


def pictures(
    scores: NDArray[np.float32], images: Sequence[Example], labels: Sequence[str]
) -> list[Picture]:
    """The images with the answers of a model's scores (n, labels)."""
    best = scores.argmax(axis=1)
    return [
        Picture(e.path, int(truth), int(label), float(row[label]))
        for e, truth, label, row in zip(images, _truth(images, labels), best, scores, strict=True)
    ]


def evaluate(
    settings: Settings, which: str, data: Path, on_step: Callable[[str], None],
    allow_unreadable: bool,
) -> tuple[Evaluation, Path]:  # fmt: skip
    """Evaluates a registered version on class folders; returns the figures and their page.

    `which` is NAME, NAME@ALIAS or NAME@NUMBER; `on_step` is called with a sentence for each step.

    Raises:
        ConfigError: `which` is none of these.
        InputError: the model does not know a class, or too many images cannot be read.
    """
    registry = Registry(settings.registry_address)
    name, alias = parts(which)
    on_step("loading the model")
    version = registry.version(name, alias)
    model = registry.load(version, settings.engine, settings.device)
    images = datasets.one_spelling(datasets.class_folders(data), model.labels)
    # Of a data set that is split, the images that it holds out.
    held_out = ([e for e in images if e.split == name] for name in ("test", "validation"))
    images = next(filter(None, held_out), images)
    if unknown := {e.label for e in images} - set(model.labels):
        raise InputError(
            f"{model} does not know the class(es) {', '.join(sorted(unknown))} of {data}"
        )
    on_step("starting Spark")
    session = spark.start(
        "evaluate", settings.root, settings.master, settings.driver_memory, settings.spark
    )
    try:
        on_step("classifying")
        scores = answers(session, model, images, model.labels, settings.limits)
    finally:
        spark.stop(session)
    read = scores.sum(axis=1) > 0
    datasets.require_readable(
        [e for e, good in zip(images, read, strict=True) if not good], len(images), allow_unreadable
    )
    images, scores = [e for e, good in zip(images, read, strict=True) if good], scores[read]
    on_step("drawing")
    figures = evaluation(scores, images, model.labels)
    facts = {"model": str(model), "engine": model.engine, "data": str(data),
             "unreadable_images": int((~read).sum())}  # fmt: skip
    folder = settings.root / "reports" / name / f"{version.number}-on-{data.absolute().name}"
    folder.mkdir(parents=True, exist_ok=True)
    page = report.write(folder, f"{model} on {data.absolute().name}", figures, None,
                        pictures(scores, images, model.labels), facts, settings.limits)  # fmt: skip
    registry.attach(version, folder)
    return figures, page


def champion(
    session: SparkSession, registry: Registry, name: str, images: Sequence[Example],
    labels: Sequence[str], limits: Limits,
) -> Rival | None:  # fmt: skip
    """The champion with its figures on the same images, as Spark's workers answer for them."""
    return rival(
        registry, name,
        lambda model: evaluation(answers(session, model, images, labels, limits), images, labels),
    )  # fmt: skip


def rival(
    registry: Registry, name: str, figures: Callable[[ServedModel], Evaluation]
) -> Rival | None:
    """The champion with its figures; no figures where it is damaged, None where there is none."""
    try:
        version = registry.version(name)
    except ModelNotFoundError:
        return None
    try:
        model = registry.load(version)
    except ModelDamagedError:
        return version, None
    return version, figures(model)


def decide(challenger: Evaluation, rival: Rival | None, margin: float | None) -> tuple[bool, str]:
    """Decides whether a challenger is not worse than the champion; returns the figures too.

    `margin` is the largest allowed loss of F1 in any class; None allows any.
    """
    if rival is None:
        return True, "there was no champion"
    version, old = rival
    if old is None:
        return True, f"version {version.number}, the champion, is damaged"
    before, after = old.metrics()["f1_macro"], challenger.metrics()["f1_macro"]
    reason = f"macro F1 {after:.4f} against {before:.4f} of version {version.number}"
    if after < before:
        return False, reason
    if margin is not None:
        losses = {
            new.label: was.f1 - new.f1
            for was, new in zip(old.classes, challenger.classes, strict=True)
        }
        worst = max(losses, key=lambda label: losses[label])
        if losses[worst] > margin:
            return False, f"{reason}, but F1 of {worst} fell by {losses[worst]:.4f}"
    return True, reason


def _truth(images: Sequence[Example], labels: Sequence[str]) -> NDArray[np.int64]:
    column = {label: number for number, label in enumerate(labels)}
    return np.array([column[e.label] for e in images], np.int64)
