"""From an imported model to a registered version: evaluate, register, decide."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightstream.config import Settings
from sightstream.errors import EnvironmentUnfitError, InputError, first_line
from sightstream.images.decode import Decoded, Preprocessing, decode
from sightstream.images.limits import Limits
from sightstream.images.store import read
from sightstream.io import disk
from sightstream.models import drift
from sightstream.models.bring.bring import IMAGES, Brought, Wish, steps
from sightstream.models.drift import Reference
from sightstream.models.engines import Onnx
from sightstream.models.optimise import CALIBRATED, optimise
from sightstream.models.registry import Registry, Version
from sightstream.models.version import Card, ServedModel, ready, write_card
from sightstream.scoring.child import LOADING, Child, LostError, for_models
from training import compare, datasets, report
from training.datasets import Example
from training.evaluate import Evaluation

_CHUNK = 32

_HELD = 2**27
"""Bytes of decoded images that are held at once to look for a faster engine."""


@dataclass(frozen=True)
class Imported:
    """The outcome of an import; without --data there is no report."""

    version: Version
    brought: Brought
    promoted: bool
    reason: str
    optimised: dict[str, Any]
    """As `optimise` returns it; empty without --optimise."""
    report: Path | None = None


@dataclass(frozen=True)
class _Judged:
    images: list[Example]
    scores: NDArray[np.float32]
    evaluation: Evaluation
    reference: Reference


def import_model(
    settings: Settings, path: Path, name: str, wish: Wish, data: Path | None, *, promote: bool,
    allow_unreadable: bool, on_step: Callable[[str], None], faster: bool = False,
) -> Imported:  # fmt: skip
    """Read a model, prove it, and register it as the challenger; that is the last step.

    `data` has a folder of images for each class: on them the model is evaluated, and the
    reference for drift made. With `promote` it becomes the champion if it is not worse on them;
    with `faster` an engine is looked for on them as `optimise` does.

    Raises:
        InputError: as `bring`; or the data has classes that the model does not know.
    """
    registry = Registry(settings.registry_address)
    images = datasets.class_folders(data) if data else []
    with disk.scratch(settings.root / "tmp", "import-") as folder:
        brought = _brought(path, wish, _contents(images, settings.limits), on_step, folder)
        images = _known(images, brought.labels)
        files, pages = folder / "model", folder / "report"
        card = _write(files, brought)
        if faster:
            on_step("looking for a faster engine")
            card = _optimised(card, files, images, settings.limits)
        served = ready(files, card, name)
        judged = rival = page = None
        if data:
            on_step("evaluating")
            judged = _judge(served, images, settings.limits, allow_unreadable)
            card = replace(card, metrics=judged.evaluation.metrics(), reference=judged.reference)
            report.write(
                pages, name, judged.evaluation, None,
                compare.pictures(judged.scores, judged.images, card.labels), brought.origin,
                settings.limits,
            )  # fmt: skip
            figures = partial(_figures, judged=judged, limits=settings.limits)
            rival = compare.rival(registry, name, figures)
        digest = write_card(files, card)
        on_step("registering")
        version = registry.publish(
            name, files, digest, parameters=brought.origin | card.training, metrics=card.metrics,
            curves={}, report=pages if judged else None,
        )  # fmt: skip
        if judged:
            page = report.keep(pages, settings.root, version)
    better, reason = True, "not evaluated: no --data"
    if judged:
        better, reason = compare.decide(judged.evaluation, rival, None)
    promoted = better and promote
    waits = better and not promoted
    registry.decided(version, promoted=None if waits else promoted, reason=reason)
    if promoted:
        version = registry.promote(name, version.number)
    return Imported(version, brought, promoted, reason, card.training, page)


def _brought(
    path: Path, wish: Wish, images: Sequence[bytes], on_step: Callable[[str], None], scratch: Path
) -> Brought:
    """As `bring`, in a process of its own, which the file may end, fill or hold up."""
    child, step = Child(_Bringing, path, wish, images, scratch, memory=for_models()), "its start"
    try:
        while isinstance(found := child.ask("next", seconds=LOADING), str):
            on_step(step := found)
    except LostError as lost:
        fault = f"took over {LOADING:g} seconds" if lost.code == "timeout" else "ended its process"
        raise InputError(
            f"{path} is not imported: {step} {fault}, so it is damaged, or too large for this "
            "machine; nothing is registered"
        ) from None
    except RuntimeError as error:  # a library's, such as for want of memory
        raise InputError(
            f"{path} is not imported: {step} failed: {first_line(error)}; nothing is registered"
        ) from error
    finally:
        child.end()
    brought: Brought = found
    return brought


class _Bringing:
    def __init__(self, path: Path, wish: Wish, images: Sequence[bytes], scratch: Path) -> None:
        tempfile.tempdir = str(scratch)  # which is removed, however this process ends
        self._steps = steps(path, wish, images)

    def next(self) -> str | Brought:
        try:
            return next(self._steps)
        except OSError as error:
            raise EnvironmentUnfitError(str(error)) from None


def _contents(images: Sequence[Example], limits: Limits) -> list[bytes]:
    """The contents of some images of all classes, on which the original is asked too."""
    some = np.random.default_rng(0).permutation(len(images))[:IMAGES]
    found = (read(images[number].path, limits) for number in some)
    contents = [each for each in found if isinstance(each, bytes)]
    if images and not contents:
        raise InputError("no image of --data can be read")
    return contents


def _known(images: Sequence[Example], labels: Sequence[str]) -> list[Example]:
    images = datasets.one_spelling(images, labels)
    if unknown := sorted({each.label for each in images} - set(labels)):
        raise InputError(
            f"the model does not know the class(es) {', '.join(unknown[:5])} of --data; its labels "
            f"are {', '.join(labels[:5])}, ..."
        )
    return images


def _write(files: Path, brought: Brought) -> Card:
    files.mkdir()
    (files / Onnx.file).write_bytes(brought.content)
    return Card(
        brought.labels, brought.preprocessing, {}, {}, brought.difference, origin=brought.origin
    )


def _optimised(card: Card, files: Path, images: Sequence[Example], limits: Limits) -> Card:
    """Scale eight bits for some of the images, and compare engines on others."""
    most = max(2 * CALIBRATED, _HELD // math.prod(card.preprocessing.shape))
    some = [images[n] for n in np.random.default_rng(0).permutation(len(images))[:most]]
    decoded = zip(some, _decoded(card.preprocessing, some, limits), strict=True)
    good = [(image.pixels, each.label) for each, image in decoded if image]
    if len(good) < 2 * CALIBRATED:
        raise InputError(
            f"--optimise takes {CALIBRATED} images of --data to scale eight bits, and as many at "
            f"least to compare answers; it has {len(good)} that can be read"
        )
    pixels = np.stack([each for each, _ in good])
    truth = np.array([card.labels.index(label) for _, label in good[CALIBRATED:]])
    found = optimise(files, pixels[:CALIBRATED], pixels[CALIBRATED:], truth)
    return replace(card, training=found)


def _judge(model: ServedModel, images: Sequence[Example], limits: Limits, allow: bool) -> _Judged:
    found, scores, seen = _answers(model, images, limits)
    left = [each for each, good in zip(images, found, strict=True) if not good]
    datasets.require_readable(left, len(images), allow)
    images = [each for each, good in zip(images, found, strict=True) if good]
    evaluation = compare.evaluation(scores, images, model.labels)
    number = {label: n for n, label in enumerate(model.labels)}
    counts = np.bincount([number[e.label] for e in images], minlength=len(model.labels))
    reference = Reference.of({**seen, "score": scores.max(axis=1)}, {"label": counts.tolist()})
    return _Judged(images, scores, evaluation, reference)


def _answers(
    model: ServedModel, images: Sequence[Example], limits: Limits
) -> tuple[list[bool], NDArray[np.float32], dict[str, NDArray[Any]]]:
    """Which images could be read, and the scores and statistics of those."""
    engine = model.load()
    found: list[bool] = []
    scores, statistics, sizes = [], [], []
    for start in range(0, len(images), _CHUNK):
        decoded = list(_decoded(model.preprocessing, images[start : start + _CHUNK], limits))
        found += [each is not None for each in decoded]
        if good := [each for each in decoded if each is not None]:
            pixels = np.stack([each.pixels for each in good])
            scores.append(engine(pixels))
            statistics.append(drift.statistics(pixels))
            widths, heights = (np.array([getattr(e, k) for e in good]) for k in ("width", "height"))
            sizes.append(drift.size(widths, heights))
    if not scores:
        raise InputError("no image of --data can be read")
    brightness, contrast, sharpness = np.concatenate(statistics).T
    seen = {"brightness": brightness, "contrast": contrast, "sharpness": sharpness,
            "size": np.concatenate(sizes)}  # fmt: skip
    return found, np.concatenate(scores), seen


def _decoded(
    preprocessing: Preprocessing, images: Sequence[Example], limits: Limits
) -> Iterator[Decoded | None]:
    for each in images:
        data = read(each.path, limits)
        image = decode(data, preprocessing, limits) if isinstance(data, bytes) else data
        yield image if isinstance(image, Decoded) else None


def _figures(model: ServedModel, judged: _Judged, limits: Limits) -> Evaluation:
    """How another model does on the same images, also where it does not know all classes."""
    labels = judged.evaluation.labels
    found, answers, _ = _answers(model, judged.images, limits)
    scores = np.zeros((len(found), len(labels)), np.float32)
    rows = np.flatnonzero(found)
    for column, label in enumerate(model.labels):
        if label in labels:
            scores[rows, labels.index(label)] = answers[:, column]
    return compare.evaluation(scores, judged.images, labels)
