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
from sightstream.scoring.classifier import LATE, Answer, Classifier
from sightstream.scoring.framed import Images, Piece, framed

if TYPE_CHECKING:
    import pyarrow as pa

IN_A_ROW = 8
"""Images in a row, decoded without fault, that a model may fail on until it is to blame."""

DOUBTED = 2
"""Of these, those after which it gets little time for the next ones, since it may hang on all."""

HASTE = 2.0
"""Seconds that it gets then, or `classifier.LATE` times what it usually takes, if that is more."""


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
            yield events, alone.answers(images)
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
        self._failed, self._hasty = 0, False
        self._usual: float | None = None

    def answers(self, images: Images) -> list[Answer]:
        """Answer for a piece; no image is rejected for good that had less than its time."""
        found, hasty = [], []
        for place, image in enumerate(images):
            self._hasty = False
            found.append(self._answer(image))
            if self._hasty:
                hasty.append(place)
        for place in hasty:
            found[place] = self._answer(images[place], again=True)
        return found

    def _answer(self, image: Image | Framed | None, *, again: bool = False) -> Answer:
        if image is None:
            return Answer()
        number = image.number if isinstance(image, Framed) else None
        data = content(image.image if isinstance(image, Framed) else image, self._limits)
        if isinstance(data, Rejected):
            return Answer(data.code, data.detail, frame=number)
        self._child.start()
        try:
            answer = self._step("decode", self._limits.seconds, data, number)
        except LostError as lost:
            return Answer(lost.code, lost.detail, frame=number)
        if answer and answer.error_code:
            return answer
        seconds = self._limits.seconds if again else self._patience()
        try:
            answer = self._step("predict", seconds)
        except LostError as lost:
            self._hasty = lost.code == "timeout" and seconds < self._limits.seconds
            if not again:  # it counted then
                self._failed += 1
            if self._failed == IN_A_ROW:
                raise self._damaged(lost) from None
            return Answer(lost.code, lost.detail, frame=number)
        self._failed = 0
        return answer or self._answer(image, again=again)

    def _patience(self) -> float:
        """Return the seconds that the model gets for the next image."""
        if self._failed < DOUBTED:
            return self._limits.seconds
        if self._usual is None:
            try:
                self._usual = self._child.ask("usual", seconds=self._limits.seconds)
            except (LostError, RuntimeError) as error:
                raise self._damaged(error) from None
        return min(self._limits.seconds, max(HASTE, LATE * self._usual))

    def _damaged(self, error: Exception) -> ModelDamagedError:
        return ModelDamagedError(
            f"{self._model} failed on {self._failed} images in a row, each alone in a process "
            f"({error}); roll it back: sightstream models rollback {self._model.name}"
        )

    def end(self) -> None:
        self._child.end()

    def _step(self, method: str, seconds: float, *arguments: object) -> Answer | None:
        try:
            found: Answer | None = self._child.ask(method, *arguments, seconds=seconds)
        except LostError:
            raise
        except Exception as error:  # of a decoder or an engine, which may raise any
            self._child.end()
            raise LostError("crashed", f"The model failed on it: {error}") from None
        return found


class Steps(Classifier):
    """The classifier inside the child."""

    _held: tuple[Answer, NDArray[np.uint8] | None] | None = None

    def decode(self, data: bytes, frame: int | None) -> Answer:
        """Decode an image, and keep its pixels; return its answer as far as it is known."""
        begin = perf_counter()
        self._held = answer, _ = self._decode(data, frame)
        answer.decode_ms = 1000 * (perf_counter() - begin)
        return answer

    def predict(self) -> Answer | None:
        """Return the whole answer for the image that was decoded; None in a process after that."""
        if not self._held:
            return None
        answer, pixels = self._held
        if pixels is not None:
            self._predict([answer], pixels[np.newaxis])
        return answer

    def usual(self) -> float:
        """Return the seconds that the model takes for a grey image."""
        self.try_out()
        return self._usual
