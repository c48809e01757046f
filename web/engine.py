"""A model version in a child process, which an image may crash and TensorFlow may fill."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import ModelDamagedError, first_line
from sightstream.images.limits import Limits
from sightstream.models.registry import Registry, Version
from sightstream.models.version import ServedModel, serve
from sightstream.scoring.child import Child, LostError
from sightstream.scoring.classifier import Answer, Classifier

SHOWN_LABELS = 5  # labels of an answer, unless the setting top_k is larger


class Engine:
    """Classifies images; an image that fails gets an answer with an error code."""

    def __init__(
        self, registry: Registry, version: Version, engine: str, device: str, limits: Limits,
        top_k: int,
    ) -> None:  # fmt: skip
        """Loads the version; its files are kept until `end`, for a child after this one.

        Raises:
            ModelDamagedError: a checksum is wrong, or the model gives no proper answer.
            RegistryUnavailableError: the registry does not answer.
        """
        shown, self._files = max(SHOWN_LABELS, top_k), ExitStack()
        directory = self._files.enter_context(registry.files(version))
        self._child = Child(_Loaded, directory, version, engine, device, limits, shown)
        try:
            self.model: ServedModel = self._child.ask("served")
        except Exception as error:
            self.end()
            if isinstance(error, LostError | RuntimeError):
                raise ModelDamagedError(f"the model does not load: {first_line(error)}") from None
            raise

    def classify(self, image: bytes) -> Answer:
        """Classifies an image; `predict` and the stream give the same answer for the same bytes."""
        try:
            (answer,) = self._child.ask("__call__", [image])
        except LostError as lost:
            return Answer(lost.code, lost.detail)
        return answer  # type: ignore[no-any-return]

    def occlusion(self, image: bytes, label: int) -> NDArray[np.float32] | None:
        """The map of `Classifier.occlusion`; None if the model did not answer."""
        try:
            return self._child.ask("occlusion", image, label)  # type: ignore[no-any-return]
        except (LostError, RuntimeError):
            return None

    def end(self) -> None:
        """Ends the process."""
        self._child.end()
        self._files.close()


class _Loaded(Classifier):
    """The classifier inside the process."""

    def __init__(
        self, directory: Path, version: Version, engine: str, device: str, limits: Limits,
        top_k: int,
    ) -> None:  # fmt: skip
        model = serve(directory, version.name, version.number, version.digest, engine, device)
        super().__init__(model, limits, top_k)

    def served(self) -> ServedModel:
        return self.model
