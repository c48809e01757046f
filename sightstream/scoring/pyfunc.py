"""The loader that MLflow calls for a version: `mlflow.pyfunc.load_model`, `spark_udf`, `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightstream import config
from sightstream.errors import InputError
from sightstream.images.limits import Rejected
from sightstream.images.store import Image, Store
from sightstream.models.version import serve
from sightstream.scoring.classifier import Classifier
from sightstream.scoring.udf import table
from sightstream.tables.rows import results

if TYPE_CHECKING:
    import pandas as pd

_MISSING = {"error_code": "", "error_detail": "", "label": "", "top": [], "format": ""}
"""Values for null, which `spark_udf` would turn into the text "None", or fail on in an array."""


class PyFunc:
    """A version as MLflow calls it, with the limits and `top_k` that are configured here."""

    def __init__(self, directory: Path) -> None:
        """Load a version; ModelDamagedError where it does not match the checksums of its card."""
        settings = config.load()
        model = serve(directory, directory.name, 0, None, settings.engine, settings.device)
        self._classifier = Classifier(model, settings.limits, settings.top_k)
        # Whoever sends a request may not have this process read any file.
        self._store = Store(settings.kafka_uri_prefixes, settings.limits)

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classify images by their column `image` or `uri`; return the signature's columns."""
        import pandas as pd

        if not {"image", "uri"} & {*rows.columns}:  # of which MLflow has removed all others
            raise InputError("send a column `image`, the content of files, or `uri`")
        nothing = [None] * len(rows)
        cells = zip(rows.get("image", nothing), rows.get("uri", nothing), strict=True)
        answers = table(self._classifier([self._image(*each) for each in cells]))
        found = results(answers, self._classifier.model).drop_columns(["model", "model_version"])
        filled = (
            {key: _MISSING.get(key) if value is None else value for key, value in each.items()}
            for each in found.to_pylist()
        )
        return pd.DataFrame(filled, rows.index)

    def _image(self, content: Any, uri: Any) -> Image:
        if isinstance(content, bytes | bytearray | memoryview):
            return bytes(content)
        if isinstance(uri, str):
            return self._store(uri)
        return Rejected("empty", "The row has neither an image nor a uri.")


def _load_pyfunc(path: str) -> PyFunc:
    return PyFunc(Path(path))
