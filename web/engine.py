"""A model version in a child process, which an image may crash and TensorFlow may fill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import ModelDamagedError
from sightstream.images.decode import Limits, Preprocessing
from sightstream.models.registry import Version
from sightstream.models.version import serve
from sightstream.scoring.child import Child, LostError
from sightstream.scoring.classifier import Answer, Classifier

SHOWN = 5
"""Labels of an answer, unless the setting top_k is larger."""


class Engine:
    """Classifies images; an image that fails gets an answer with an error code."""

    def __init__(
        self, directory: Path, version: Version, engine: str, limits: Limits, top_k: int
    ) -> None:
        """Loads the version.

        Args:
            directory: its files.
            version: its entry in the registry.
            engine: what runs it.
            limits: of the images.
            top_k: labels of an answer; at least `SHOWN` are given.

        Raises:
            ModelDamagedError: a checksum is wrong, or the model gives no proper answer.
        """
        self._child = Child(_Loaded, directory, version, engine, limits, max(SHOWN, top_k))
        try:
            self.labels, self.preprocessing, self.runs_on = self._facts()
        except Exception:
            self.end()
            raise

    def classify(self, image: bytes) -> Answer:
        """Classifies an image; `predict` and the stream give the same answer for the same bytes."""
        try:
            answer: Answer = self._child.ask("classify", image)
        except LostError as lost:
            return Answer(lost.code, lost.detail)
        return answer

    def occlusion(self, image: bytes, label: int) -> NDArray[np.float32] | None:
        """The map of `Classifier.occlusion`; None where the model did not answer."""
        try:
            answer: NDArray[np.float32] | None = self._child.ask("occlusion", image, label)
        except (LostError, RuntimeError):
            return None
        return answer

    def end(self) -> None:
        """Ends the process."""
        self._child.end()

    def _facts(self) -> tuple[tuple[str, ...], Preprocessing, str]:
        try:
            facts: tuple[tuple[str, ...], Preprocessing, str] = self._child.ask("facts")
        except LostError as lost:
            raise ModelDamagedError(f"the model does not load: {lost.detail}") from None
        return facts


class _Loaded:
    """The model inside of the process."""

    def __init__(
        self, directory: Path, version: Version, engine: str, limits: Limits, top_k: int
    ) -> None:
        self._model = serve(directory, version.name, version.number, version.digest, engine)
        self._classifier = Classifier(self._model, limits, top_k)

    def facts(self) -> tuple[tuple[str, ...], Preprocessing, str]:
        return self._model.labels, self._model.preprocessing, self._model.engine

    def classify(self, image: bytes) -> Answer:
        return self._classifier([image])[0]

    def occlusion(self, image: bytes, label: int) -> NDArray[np.float32] | None:
        return self._classifier.occlusion(image, label)
