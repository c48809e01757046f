"""An image in, an answer out: read, decode, predict. Stream, `predict` and the page share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from sightstream.images.decode import Decoded, Limits, Rejected, decode
from sightstream.images.store import Image, read
from sightstream.models import drift
from sightstream.models.version import ServedModel
from sightstream.scoring.occlusion import occlusion

CHUNK = 64
"""Images that are predicted at once: enough to be fast, few enough to fit any worker's memory."""


@dataclass
class Answer:
    """What became of one image.

    Attributes:
        error_code: None where it was classified.
        error_detail: the sentence that goes with the code.
        classes: indices of the best labels, best first.
        scores: their probabilities.
        format: JPEG, PNG, ...
        width: pixels, as a person sees the image.
        height: pixels, as a person sees the image.
        bytes: its size.
        decode_ms: the time to read, decode and resize it.
        predict_ms: its share of the time to run the model on its chunk.
        brightness: of its pixels, as `drift.statistics` tells; 0 to 1.
        contrast: of its pixels, 0 to 1.
        sharpness: of its pixels, 0 to 1.
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


class Classifier:
    """A loaded model with the limits that its images must keep."""

    def __init__(self, model: ServedModel, limits: Limits, top_k: int) -> None:
        """Starts the model's engine.

        Args:
            model: what answers.
            limits: larger images are rejected.
            top_k: how many labels an answer holds, at most.
        """
        self._engine = model.load()
        self._preprocessing = model.preprocessing
        self._limits = limits
        self._top_k = min(top_k, len(model.labels))

    def __call__(self, images: Sequence[Image]) -> list[Answer]:
        """Classifies images; what cannot be read or decoded is an answer with an error.

        Args:
            images: local files by their paths, and others by their bytes.

        Returns:
            An answer for each image, in order.
        """
        return [
            answer
            for start in range(0, len(images), CHUNK)
            for answer in self._chunk(images[start : start + CHUNK])
        ]

    def occlusion(self, image: Image, label: int) -> NDArray[np.float32] | None:
        """How much each pixel counts for a label; None where the image cannot be decoded.

        Args:
            image: as in a call.
            label: the index of the label.

        Returns:
            As `occlusion.occlusion`, over the pixels that the model sees.
        """
        pixels = self._decode(image)[1]
        return None if pixels is None else occlusion(self._engine, pixels, label)

    def _chunk(self, images: Sequence[Image]) -> list[Answer]:
        answers, good, pixels = [], list[Answer](), list[NDArray[np.uint8]]()
        for image in images:
            begin = perf_counter()
            answer, decoded = self._decode(image)
            answer.decode_ms = 1000 * (perf_counter() - begin)
            answers.append(answer)
            if decoded is not None:
                good.append(answer)
                pixels.append(decoded)
        if good:
            begin = perf_counter()
            stack = np.stack(pixels)
            probabilities = self._engine(stack)
            share = 1000 * (perf_counter() - begin) / len(good)
            best = np.argsort(-probabilities, axis=1, kind="stable")[:, : self._top_k]
            scores = np.take_along_axis(probabilities, best, axis=1)
            for answer, classes, values in zip(good, best.tolist(), scores.tolist(), strict=True):
                answer.classes, answer.scores, answer.predict_ms = classes, values, share
            for answer, seen in zip(good, drift.statistics(stack).tolist(), strict=True):
                answer.brightness, answer.contrast, answer.sharpness = seen
        return answers

    def _decode(self, image: Image) -> tuple[Answer, NDArray[np.uint8] | None]:
        data = read(image, self._limits) if isinstance(image, str) else image
        if isinstance(data, Rejected):
            return Answer(data.code, data.detail), None
        decoded = decode(data, self._preprocessing, self._limits)
        answer = Answer(
            format=decoded.format, width=decoded.width, height=decoded.height, bytes=len(data)
        )
        if isinstance(decoded, Decoded):
            return answer, decoded.pixels
        answer.error_code, answer.error_detail = decoded.code, decoded.detail
        return answer, None
