"""Reads and decodes images, and predicts their labels: for the stream, the library and the page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sightstream.images.decode import Decoded, Preprocessing, decode
from sightstream.images.frames import Framed
from sightstream.images.limits import Limits, Rejected
from sightstream.images.store import Image, content
from sightstream.models import drift
from sightstream.models.pace import fitting
from sightstream.models.version import ServedModel
from sightstream.runtime.worker import end_in
from sightstream.scoring.occlusion import occlusion

LATE = 10.0
"""Times the seconds that a model usually takes which it may take for a chunk, beside those of one
image.
"""

START_SECONDS = 60.0
"""Time for the first answers of a model, which may prepare much."""


@dataclass  # a frozen one takes four times as long to make, for each image
class Answer:
    """The answer for one image: the columns of `tables.schema.ANSWER`, in their order.

    `error_code` is None where the image was classified; `classes` is None where it was not.
    """

    error_code: str | None = None
    error_detail: str | None = None
    classes: list[int] | None = None
    scores: list[float] | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    decode_ms: float | None = None
    predict_ms: float | None = None
    brightness: float | None = None
    contrast: float | None = None
    sharpness: float | None = None
    frame: int | None = None


class Others(Protocol):
    """Other models, which get each image that this one has answered for; see `scoring.beside`."""

    def see(self, content: bytes, own: Preprocessing, frame: int | None) -> None:
        """Take an image that was decoded for `own`, while its content is there.

        Where a frame is an event, it has its number.
        """

    def ask(self, answers: Sequence[Answer], pixels: NDArray[np.uint8], own: Preprocessing) -> None:
        """Take the images since the last call, which have these answers now."""


class Classifier:
    """A loaded model, with limits for its images; `model` is without the content of its file."""

    def __init__(self, model: ServedModel, limits: Limits, top_k: int) -> None:
        """Start the model's engine; answers have at most `top_k` labels."""
        self.model = replace(model, content=b"")
        self._engine = model.load()
        self._preprocessing = model.preprocessing
        self._limits = limits
        self._top_k = min(top_k, len(model.labels))
        side = model.preprocessing
        self._chunk = fitting(side.height, side.width)
        self._usual = 0.0

    def __call__(
        self, images: Sequence[Image | Framed], others: Others | None = None
    ) -> list[Answer]:
        """Return an answer for each image, in order; where it is rejected, with an error code."""
        return [
            answer
            for start in range(0, len(images), self._chunk)
            for answer in self._answers(images[start : start + self._chunk], others)
        ]

    def try_out(self) -> None:
        """Measure how long the model takes for a grey image, which bounds what chunks may take.

        It takes the same time alone as later, but for the first answer.
        """
        grey = np.full((1, *self._preprocessing.shape), 128, np.uint8)
        end_in(START_SECONDS)
        self._engine(grey)
        begin = perf_counter()
        self._engine(grey)
        self._usual = perf_counter() - begin
        end_in(0)

    def occlusion(self, image: Image, label: int) -> NDArray[np.float32] | None:
        """Return the map of `occlusion` for the label of an index; None for a rejected image."""
        pixels = self._decode(self._read(image))[1]
        return None if pixels is None else occlusion(self._engine, pixels, label)

    def _answers(self, images: Sequence[Image | Framed], others: Others | None) -> list[Answer]:
        answers, good, pixels = [], list[Answer](), list[NDArray[np.uint8]]()
        for image in images:
            begin = perf_counter()
            frame = image.number if isinstance(image, Framed) else None
            data = self._read(image)
            answer, decoded = self._decode(data, frame)
            answer.decode_ms = 1000 * (perf_counter() - begin)
            answers.append(answer)
            if decoded is not None:
                good.append(answer)
                pixels.append(decoded)
                if others and isinstance(data, bytes):
                    end_in(0)  # it may wait
                    others.see(data, self._preprocessing, frame)
        if good:
            chunk = np.stack(pixels)
            self._predict(good, chunk)
        end_in(0)
        if good and others:
            others.ask(good, chunk, self._preprocessing)
        return answers

    def _predict(self, answers: Sequence[Answer], pixels: NDArray[np.uint8]) -> None:
        begin = perf_counter()
        # One image that hangs is found after the time of one. A chunk that is merely large, on a
        # machine that is merely busy, is not ended: it has ten times as long as it usually takes.
        end_in(self._limits.seconds + LATE * self._usual * len(answers))
        probabilities = self._engine(pixels)
        share = 1000 * (perf_counter() - begin) / len(answers)
        best_of = (each.tolist() for each in best(probabilities, self._top_k))
        seen = drift.statistics(pixels).tolist()
        whole = np.isfinite(probabilities).all(axis=1).tolist()
        for answer, classes, values, each, ok in zip(answers, *best_of, seen, whole, strict=True):
            answer.predict_ms = share
            answer.brightness, answer.contrast, answer.sharpness = each
            if ok:
                answer.classes, answer.scores = classes, values
            else:
                answer.error_code = "no_answer"
                answer.error_detail = "The model answered with scores that are no numbers."

    def _read(self, image: Image | Framed) -> bytes | Rejected:
        return content(image.image if isinstance(image, Framed) else image, self._limits)

    def _decode(
        self, data: bytes | Rejected, frame: int | None = None
    ) -> tuple[Answer, NDArray[np.uint8] | None]:
        if isinstance(data, Rejected):
            return Answer(data.code, data.detail, frame=frame), None
        want = self._preprocessing if frame is None else replace(self._preprocessing, frame=frame)
        end_in(self._limits.seconds)
        decoded = decode(data, want, self._limits)
        answer = Answer(
            format=decoded.format, width=decoded.width, height=decoded.height, bytes=len(data),
            frame=frame,
        )  # fmt: skip
        if isinstance(decoded, Decoded):
            return answer, decoded.pixels
        answer.error_code, answer.error_detail = decoded.code, decoded.detail
        return answer, None


def best(
    probabilities: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the indices and the scores of the best labels of each image, best first."""
    classes = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return classes, np.take_along_axis(probabilities, classes, axis=1)
