"""From a trained network to a registered version: export, evaluate, register, decide."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightstream.images.limits import Limits
from sightstream.io import disk
from sightstream.models.optimise import optimise
from sightstream.models.registry import Registry, Version
from sightstream.models.version import SPLIT_FILE, Card, export, ready, write_card
from training import compare, drift_reference, report
from training.backbone import Folded
from training.datasets import Dataset, Example
from training.evaluate import Evaluation
from training.fit import Curves
from training.options import Options, Progress
from training.recipes import Recipe
from training.split import SPLITS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SAMPLE_BYTES = 2**27  # of images that the driver holds at once

COMPARED_IMAGES = 256  # on which the answers of the ONNX file are compared with Keras' own


@dataclass(frozen=True)
class Run:
    """A training in progress."""

    session: SparkSession  # its workers train, and answer for the models that are compared
    registry: Registry
    home: Path  # holds unfinished files (`tmp`) and reports (`reports`)
    limits: Limits
    recipe: Recipe
    options: Options
    progress: Progress

    @property
    def name(self) -> str:
        """Name of the registered model."""
        return self.options.name or self.recipe.name


@dataclass(frozen=True)
class Trained:
    """The outcome of a training; `reason` has the figures that decided, `report` is the page."""

    version: Version
    promoted: bool
    reason: str
    report: Path
    left_out: list[Example]
    copies: tuple[int, int]
    """As `Dataset.copies`."""


@dataclass(frozen=True)
class _Judged:
    """The held-out images, a new version's scores (n, labels) for them, and its rival."""

    images: list[Example]
    scores: NDArray[np.float32]
    evaluation: Evaluation
    rival: compare.Rival | None


def publish(
    run: Run, dataset: Dataset, network: Any, curves: Curves, margin: float | None = None
) -> Trained:
    """Evaluates a network beside the champion, registers it, and promotes it if it is not worse.

    The network, from uint8 pixels to probabilities, is a Keras model or a registered featuriser
    with its head; `margin` is that of `compare.decide`. The test images decide; without any, those
    of validation.
    """
    with disk.scratch(run.home / "tmp", "model-") as folder:
        files, pages = folder / "model", folder / "report"
        run.progress.on_step("exporting")
        card = _export(run, dataset, network, files)
        run.progress.on_step("evaluating")
        judged = _judge(run, dataset, card, files)
        reference = drift_reference.of(dataset, judged.scores.max(axis=1))
        figures = judged.evaluation.metrics()
        digest = write_card(files, replace(card, metrics=figures, reference=reference))
        run.progress.on_step("registering")
        report.write(
            pages, run.name, judged.evaluation, asdict(curves) if curves.loss else None,
            compare.pictures(judged.scores, judged.images, dataset.labels), card.training,
            run.limits,
        )  # fmt: skip
        version = run.registry.publish(
            run.name, files, digest, parameters=card.training, metrics=figures,
            curves=asdict(curves), report=pages,
        )  # fmt: skip
        page = report.keep(pages, run.home, version)
    version, promoted, reason = _decide(run, version, judged, margin)
    return Trained(version, promoted, reason, page, dataset.left_out, dataset.copies)


def _export(run: Run, dataset: Dataset, network: Any, files: Path) -> Card:
    """Writes the files that engines run; their card is complete but for the evaluation."""
    split = _held_out_split(dataset)
    sample, folded = _sample(dataset, split)[0], isinstance(network, Folded)
    difference = network.export(files, sample) if folded else export(files, network, sample)
    dataset.write_split(files / SPLIT_FILE)
    training = {
        **run.options.used(run.recipe),
        "judged_on": split,
        **{f"{s}_images": dataset.count(s) for s in SPLITS},
        "left_out_images": len(dataset.left_out),
        "copies": dataset.copies[0],
        "copies_on_several_sides": dataset.copies[1],
    }
    if run.options.optimise:
        run.progress.on_step("looking for a faster engine")
        training |= optimise(files, _sample(dataset, "train")[0], *_sample(dataset, split, 4096))
    origin = network.base.origin if folded else None
    return Card(dataset.labels, run.recipe.preprocessing, {}, training, difference, origin=origin)


def _judge(run: Run, dataset: Dataset, card: Card, files: Path) -> _Judged:
    """Evaluates the exported files, and the champion on the same images."""
    split = _held_out_split(dataset)
    images, labels = [e for e in dataset.examples if e.split == split], dataset.labels
    served = ready(files, card, run.name)
    scores = compare.answers(run.session, served, images, labels, run.limits)
    evaluation = compare.evaluation(scores, images, labels)
    rival = compare.champion(run.session, run.registry, run.name, images, labels, run.limits)
    return _Judged(images, scores, evaluation, rival)


def _decide(
    run: Run, version: Version, judged: _Judged, margin: float | None
) -> tuple[Version, bool, str]:
    """Promotes a version that is not worse; the registry gets the decision before the alias."""
    better, reason = compare.decide(judged.evaluation, judged.rival, margin)
    promoted = better and run.options.promote
    if promoted and run.options.judge == "live" and judged.rival and judged.rival[1]:
        reason += "; the images of the stream decide"
        run.registry.decided(version, promoted=None, reason=reason)
        return version, False, reason
    waits = better and not promoted
    if waits:
        reason += "; --no-promote"
    run.registry.decided(version, promoted=None if waits else promoted, reason=reason)
    if promoted:
        version = run.registry.promote(run.name, version.number)
    return version, promoted, reason


def _held_out_split(dataset: Dataset) -> str:
    return "test" if dataset.count("test") else "validation"


def _sample(
    dataset: Dataset, split: str, most: int = COMPARED_IMAGES
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Some images of a split, (n, height, width, channels), and the indices of their labels."""
    shape = dataset.preprocessing.shape
    count = max(COMPARED_IMAGES, min(most, SAMPLE_BYTES // math.prod(shape)))
    images = dataset.split(split).orderBy("digest").limit(count)
    found = images.select("pixels", "label").toArrow()
    flat = np.frombuffer(b"".join(found["pixels"].to_pylist()), np.uint8)
    return flat.reshape(-1, *shape), found["label"].to_numpy().astype(np.int64)
