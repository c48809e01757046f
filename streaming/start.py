"""The start of a stream: its home folder is held, and Spark starts beside what needs no Spark.

Spark's start takes seconds, and so do our imports and MLflow's: this module imports little.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from sightstream.config import Settings
from sightstream.errors import ModelNotFoundError
from sightstream.io import disk
from sightstream.runtime import cluster, spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPARK = {
    # A micro-batch runs plans of three nodes, of which nothing is to be gained by making code.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # By default each half hour: until then, what lived for a minute piles up in the heap.
    "spark.cleaner.periodicGC.interval": "10min",
    # Else what a task answers goes through the block manager from 1 MB on, in 20 ms more.
    "spark.task.maxDirectResultSize": "64m",
    # Else the first micro-batch never runs where a kill has left a file of it: since 4.1, Spark
    # takes that for another query's. `streaming.checkpoint` compares checkpoint and table itself.
    "spark.sql.streaming.verifyCheckpointDirectoryEmptyOnStart": "false",
}
"""Options of the stream's session."""


@contextmanager
def starting(settings: Settings) -> Iterator[Future[SparkSession]]:
    """Hold the home folder and start Spark; end both, also where that has not started yet.

    Raises:
        ModelNotFoundError: nothing is registered; Spark is not started.
        SightstreamError: of the kind that says what to correct; also from the session's future.
    """
    with disk.held(settings.root):
        spark.clear(settings.root, "run")
        if not settings.has_registry:
            from streaming.observe.metrics import Metrics

            # A port in use is told before a model is trained.
            Metrics().serve(settings.metrics_host, settings.metrics_port)()
            raise ModelNotFoundError(
                f"the registry {settings.registry} is empty; train a model with: sightstream train"
            )
        start = partial(
            spark.start, "run", settings.root, settings.master, settings.driver_memory,
            {**SPARK, **settings.spark}, kafka="kafka" in settings.source,
            token_url=settings.kafka_oauth_token_url,
        )  # fmt: skip
        session: Future[SparkSession]
        with ThreadPoolExecutor(1) as beside:
            if cluster.is_local(settings.master):
                session = beside.submit(start)
            else:  # whose executors may be long in coming: Ctrl-C ends the wait for them
                session = Future()
                session.set_result(start())
            try:
                yield session
            finally:
                if not session.exception():
                    spark.stop(session.result())
