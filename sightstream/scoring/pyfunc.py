"""The loader that MLflow calls for a version: `mlflow.pyfunc.load_model`, `spark_udf`, `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightstream import config
from sightstream.images.store import Image, Store
from sightstream.models.version import serve
from sightstream.scoring.classifier import Answer, Classifier

if TYPE_CHECKING:
    import pandas as pd

_NEITHER = Answer("empty", "The row has neither an image nor a uri.")


class PyFunc:
    """A version as MLflow calls it, with the limits and `top_k` that are configured here."""

    def __init__(self, directory: Path) -> None:
        """Verifies and loads a version.

        Args:
            directory: The version's files, compared with the checksums in version.json.

        Raises:
            ModelDamagedError: A checksum is wrong, or the model does not answer as it must.
        """
        settings = config.load()
        model = serve(directory, directory.name, 0, None, settings.engine)
        self._labels = model.labels
        self._classifier = Classifier(model, settings.limits, settings.top_k)
        # Whoever sends a request may not have this process read any file.
        self._store = Store(settings.kafka_uri_prefixes, settings.limits)

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classifies images; one that cannot be read or decoded is a row with an error.

        Args:
            rows: Columns `image`, the bytes of a file, or `uri`, below `kafka_uri_prefixes`.
            params: None are known.

        Returns:
            A row for each of `rows`, with the columns of the version's signature. A missing text is
            empty, and so is a missing `top`: `spark_udf` would pass on the text "None", and fail.
        """
        import pandas as pd

        images = [self._image(*row) for row in _cells(rows)]
        found = iter(self._classifier([image for image in images if image is not None]))
        answers = [_NEITHER if image is None else next(found) for image in images]
        return pd.DataFrame([self._row(each) for each in answers], rows.index)

    def _image(self, content: Any, uri: Any) -> Image | None:
        if isinstance(content, bytes | bytearray | memoryview):
            return bytes(content)
        return self._store(uri) if isinstance(uri, str) else None

    def _row(self, answer: Answer) -> dict[str, Any]:
        top = [
            {"label": self._labels[index], "score": score}
            for index, score in zip(answer.classes or (), answer.scores or (), strict=True)
        ]
        best = top[0] if top else {"label": "", "score": None}
        return {
            "status": "rejected" if answer.error_code else "ok",
            "error_code": answer.error_code or "", "error_detail": answer.error_detail or "",
            **best, "top": top, "format": answer.format or "",
            "width": answer.width, "height": answer.height,
        }  # fmt: skip


def _cells(rows: pd.DataFrame) -> Any:
    nothing = [None] * len(rows)
    return zip(rows.get("image", nothing), rows.get("uri", nothing), strict=True)


def _load_pyfunc(path: str) -> PyFunc:
    return PyFunc(Path(path))
