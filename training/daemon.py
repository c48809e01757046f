"""Spark's Python daemon for trainings: TensorFlow is imported once, by what forks the workers."""

from sightstream import daemon
from sightstream.models import import_keras

if __name__ == "__main__":
    import_keras()
    import elephas.worker  # noqa: F401

    daemon.manager()
