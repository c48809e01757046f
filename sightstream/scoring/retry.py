"""Retry of a micro-batch whose job failed: image by image, in a child process that may die."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sightstream.images.frames import Counter, Framed
from sightstream.images.limits import Limits
from sightstream.images.store import Image
from sightstream.models.version import ServedModel
from sightstream.scoring.child import SECONDS, Child, LostError
from sightstream.scoring.classifier import Answer, Classifier
from sightstream.scoring.framed import Piece
from sightstream.scoring.framed import framed as framed_by

log = logging.getLogger(__name__)


def classify(
    images: Iterable[Image | Framed | None], model: ServedModel, limits: Limits, top_k: int,
    seconds: float = SECONDS,
) -> Iterator[Answer]:  # fmt: skip
    """Yield an answer for each image; one that ends its child, or takes too long, is rejected.

    None, for an event without an image, gets an empty answer. Each image is requested after the
    one before has been answered.
    """
    child = Child(Classifier, model, limits, top_k)
    try:
        for image in images:
            answer = Answer() if image is None else _ask(child, image, seconds)
            if answer.error_code in {"crashed", "timeout"}:
                named = image.image if isinstance(image, Framed) else image
                shown = named if isinstance(named, str) else "the image of a message"
                log.warning("%s: %s", shown, answer.error_detail)
            yield answer
    finally:
        child.end()


@contextmanager
def framed(
    pieces: Iterable[Piece], model: ServedModel, limits: Limits
) -> Iterator[Iterable[Piece]]:
    """Give each frame an event where the model wants that; frames are counted in another child."""
    if model.preprocessing.frame != "each":
        yield pieces
        return
    child = Child(Counter, limits)

    def count(image: Image) -> int:
        try:
            return int(child.ask("count", image))
        except LostError:
            return 1

    try:
        yield framed_by(pieces, count)
    finally:
        child.end()


def _ask(child: Child, image: Image | Framed, seconds: float) -> Answer:
    try:
        answers: list[Answer] = child.ask("__call__", [image], seconds=seconds)
    except LostError as lost:
        return Answer(lost.code, lost.detail)
    except Exception as error:
        child.end()
        return Answer("crashed", f"The model failed on it: {error}")
    return answers[0]
