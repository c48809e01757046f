"""Keeps Spark and TensorFlow out of the page's process."""

from sightstream.models.engines import hidden


def import_mlflow() -> None:
    """Imports MLflow without pyspark, which takes seconds and which it does not need."""
    with hidden("pyspark"):
        import mlflow.tracking  # noqa: F401
