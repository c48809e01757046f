"""Keeps Spark and TensorFlow out of the page's process."""

from __future__ import annotations

import os
import sys

from sightstream.config import Settings
from sightstream.errors import ModelDamagedError
from sightstream.models.registry import Registry, Version
from sightstream.scoring.child import Child, LostError


def import_mlflow() -> None:
    """Imports what the registry needs, which takes seconds.

    MLflow imports pyspark where it is installed, and does without it where it is not. It tries a
    server that is away for minutes, where somebody who looks at a page wants to know at once.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    absent = {"pyspark": None} if "pyspark" not in sys.modules else {}
    sys.modules.update(absent)  # type: ignore[arg-type]
    try:
        import mlflow.tracking  # noqa: F401
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def moved(settings: Settings, name: str, number: int | None) -> Version:
    """Promotes a version, or rolls back, in a process of its own, where its files are verified.

    Args:
        settings: the registry.
        name: the registered model.
        number: the version to promote; None to roll back.

    Raises:
        ModelDamagedError: it would not serve; the champion stays as it is.
    """
    child = Child(Registry, settings.registry_address)
    try:
        arguments = (name,) if number is None else (name, number)
        version: Version = child.ask("promote" if number else "rollback", *arguments)
    except LostError as lost:
        raise ModelDamagedError(f"{name} could not be verified: {lost.detail}") from None
    finally:
        child.end()
    return version
