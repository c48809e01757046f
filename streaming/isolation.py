"""A micro-batch whose job failed, once more: image by image, in a child that may die."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sightstream.classify import Answer, Classifier
from sightstream.imaging import Limits
from sightstream.isolation import SECONDS, Child, LostError
from sightstream.models import ServedModel

log = logging.getLogger(__name__)


def classify(
    paths: Sequence[str], model: ServedModel, limits: Limits, top_k: int, seconds: float = SECONDS
) -> list[Answer]:
    """Classifies local files; an image that ends its child, or takes too long, is rejected.

    Args:
        paths: local files.
        model: what answers.
        limits: larger images are rejected.
        top_k: how many labels an answer holds, at most.
        seconds: the time that an image may take.
    """
    child = Child(Classifier, model, limits, top_k)
    try:
        answers = [_ask(child, path, seconds) for path in paths]
    finally:
        child.end()
    for path, answer in zip(paths, answers, strict=True):
        if answer.error_code in {"crashed", "timeout"}:
            log.warning("%s: %s", path, answer.error_detail)
    return answers


def _ask(child: Child, path: str, seconds: float) -> Answer:
    try:
        answers: list[Answer] = child.ask("__call__", [path], seconds=seconds)
    except LostError as lost:
        return Answer(lost.code, lost.detail)
    except Exception as error:
        child.end()
        return Answer("crashed", f"The model failed on it: {error}")
    return answers[0]
