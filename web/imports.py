"""Keeps Spark and TensorFlow out of the page's process."""

from __future__ import annotations

from sightstream.errors import ModelDamagedError
from sightstream.models.engines import hidden
from sightstream.models.registry import Registry, Version
from sightstream.scoring.child import Child, LostError


def import_mlflow() -> None:
    """Imports MLflow without pyspark, which takes seconds and which it does not need."""
    with hidden("pyspark"):
        import mlflow.tracking  # noqa: F401


def moved(registry: str, name: str, number: int | None) -> Version:
    """Promotes a version of a model, or rolls back (None), in a process that verifies its files.

    Raises:
        ModelDamagedError: the version would not serve; the champion stays as it is.
    """
    child = Child(Registry, registry)
    try:
        version: Version = (
            child.ask("promote", name, number) if number else child.ask("rollback", name)
        )
    except LostError as lost:
        raise ModelDamagedError(f"{name} could not be verified: {lost.detail}") from None
    finally:
        child.end()
    return version
