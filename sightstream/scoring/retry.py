"""Retry of images whose process ended or was ended: one by one, in a child process that may die."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import ModelDamagedError
from sightstream.images.frames import Counter, Framed
from sightstream.images.limits import Limits, Rejected
from sightstream.images.store import Image, content
from sightstream.models.version import ServedModel
from sightstream.scoring.child import Child, LostError
from sightstream.scoring.classifier import Answer, Classifier
from sightstream.scoring.framed import Piece, framed

if TYPE_CHECKING:
    import pyarrow as pa

IN_A_ROW = 8
"""Images in a row, decoded without fault, that a model may fail on until it is to blame."""


def answered(
    pieces: Iterable[Piece], model: ServedModel, limits: Limits, top_k: int
) -> Iterator[tuple[pa.Table, list[Answer]]]:
    """Yield events and their answers; an image that ends its child, or takes too long, is rejected.

    A frame is an event where the model wants that. An event without an image gets an empty answer.
    Each piece is requested after the one before has been answered.

    Raises:
        LostError: A child does not start, which is the fault of no image.
        ModelDamagedError: The model fails on image after image.
        SightstreamError: The model does not load.
        RuntimeError: It does not, for another reason.
    """
    alone, counter = _Alone(model, limits, top_k), Child(Counter, limits)

    def count(image: Image) -> int:
        try:
            return int(counter.ask("count", content(image, limits), seconds=limits.seconds))
        except LostError:
            return 1

    try:
        if model.preprocessing.frame == "each":
            pieces = framed(pieces, count)
        for events, images in pieces:
            yield events, [alone.answer(image) for image in images]
    finally:
        alone.end()
        counter.end()


class _Alone:
    """One image after the other in a child, which reads none: a store that is slow is waited for.

    Each step of an image has its own time, so that it is known what it is the fault of.
    """

    def __init__(self, model: ServedModel, limits: Limits, top_k: int) -> None:
        self._model, self._limits = model, limits
        self._child = Child(Steps, model, limits, top_k)
        self._failed = 0

    def answer(self, image: Image | Framed | None) -> Answer:
        if image is None:
            return Answer()
        number = image.number if isinstance(image, Framed) else None
        data = content(image.image if isinstance(image, Framed) else image, self._limits)
        if isinstance(data, Rejected):
            return Answer(data.code, data.detail, frame=number)
        self._child.start()
        try:
            answer = self._step("decode", data, number)
        except LostError as lost:
            return Answer(lost.code, lost.detail, frame=number)
        if answer.error_code:
            return answer
        try:
            answer = self._step("predict")
        except LostError as lost:
            self._failed += 1
            if self._failed == IN_A_ROW:
                raise ModelDamagedError(
                    f"{self._model} failed on {IN_A_ROW} images in a row, each alone in a process "
                    f"({lost.detail}); roll it back: sightstream models rollback {self._model.name}"
                ) from None
            return Answer(lost.code, lost.detail, frame=number)
        self._failed = 0
        return answer

    def end(self) -> None:
        self._child.end()

    def _step(self, method: str, *arguments: object) -> Answer:
        try:
            found: Answer = self._child.ask(method, *arguments, seconds=self._limits.seconds)
        except LostError:
            raise
        except Exception as error:  # of a decoder or an engine, which may raise any
            self._child.end()
            raise LostError("crashed", f"The model failed on it: {error}") from None
        return found


class Steps(Classifier):
    """The classifier inside the child."""

    _held: tuple[Answer, NDArray[np.uint8] | None]

    def decode(self, data: bytes, frame: int | None) -> Answer:
        """Decode an image, and keep its pixels; return its answer as far as it is known."""
        begin = perf_counter()
        self._held = answer, _ = self._decode(data, frame)
        answer.decode_ms = 1000 * (perf_counter() - begin)
        return answer

    def predict(self) -> Answer:
        """Return the whole answer for the image that was decoded."""
        answer, pixels = self._held
        if pixels is not None:
            self._predict([answer], pixels[np.newaxis])
        return answer
