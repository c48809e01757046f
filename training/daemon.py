"""Spark's Python daemon for trainings: it imports TensorFlow once, before it forks the workers."""

import gc

from pyspark import daemon

from sightstream.models.engines import import_keras

if __name__ == "__main__":
    import_keras()
    import elephas.worker  # noqa: F401

    from training import datasets, fit  # noqa: F401

    gc.freeze()  # Spark collects garbage after each task, which takes 0.4 s over all these objects
    daemon.manager()
