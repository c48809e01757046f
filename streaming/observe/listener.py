"""Spark's progress events, read as JSON, in two calls to the JVM instead of 2,000.

Where this pyspark does not have that quick way, events come the public way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sightstream.runtime import pyspark_inside

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streaming.observe.metrics import Metrics


def listen(session: SparkSession, metrics: Metrics) -> None:
    """Have metrics get the phases that Spark measures, from now on."""
    from pyspark.sql.streaming.listener import StreamingQueryListener

    class Listener(Events, StreamingQueryListener):
        def onQueryProgress(self, event: Any) -> None:  # noqa: N802
            record(event.progress.durationMs, metrics)

    listener = Listener(metrics)
    pyspark_inside.give_whole_events(session, listener, Events(metrics))
    session.streams.addListener(listener)


class Events:
    """The events of the JVM; implements Spark's PythonStreamingQueryListener."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def onQueryStarted(self, event: Any) -> None:  # noqa: N802
        """Nothing to record."""

    def onQueryProgress(self, event: Any) -> None:  # noqa: N802
        """Record the durations of a micro-batch."""
        record(json.loads(event.progress().json())["durationMs"], self._metrics)

    def onQueryIdle(self, event: Any) -> None:  # noqa: N802
        """Record that nothing is waiting."""
        self._metrics.idle()

    def onQueryTerminated(self, event: Any) -> None:  # noqa: N802
        """Nothing to record."""

    class Java:
        """Names the interface to py4j."""

        implements = ("org.apache.spark.sql.streaming.PythonStreamingQueryListener",)


def record(durations: Mapping[str, int], metrics: Metrics) -> None:
    """Record the durations of a micro-batch, in milliseconds by Spark's names of its phases."""
    if "addBatch" not in durations:
        return
    # To wait for images is no part of a micro-batch.
    waited = durations.get("latestOffset", 0)
    for phase, milliseconds in durations.items():
        if phase != "latestOffset":
            milliseconds -= waited if phase == "triggerExecution" else 0
            snake = "".join("_" + c.lower() if c.isupper() else c for c in phase)
            metrics.phase(snake, milliseconds / 1000)
