"""Spark's progress events, as a `StreamingQueryListener` that is cheap.

pyspark copies each event out of the JVM field by field, in 2,000 calls that take 100 ms of a core.
The quick way asks for the event's JSON, in two calls. Where this pyspark does not have it, events
come the public way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from sightstream.runtime import pyspark_inside

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Sink(Protocol):
    """Gets the figures of events."""

    def phase(self, name: str, seconds: float) -> None:
        """Records how long a phase of a micro-batch took."""

    def idle(self) -> None:
        """Records that nothing is waiting."""


def listen(session: SparkSession, sink: Sink) -> None:
    """Has a sink get the phases that Spark measures, from now on."""
    from pyspark.sql.streaming.listener import StreamingQueryListener

    class Listener(StreamingQueryListener):
        def onQueryStarted(self, event: Any) -> None:  # noqa: N802
            """Nothing to record."""

        def onQueryProgress(self, event: Any) -> None:  # noqa: N802
            record(event.progress.durationMs, sink)

        def onQueryIdle(self, event: Any) -> None:  # noqa: N802
            sink.idle()

        def onQueryTerminated(self, event: Any) -> None:  # noqa: N802
            """Nothing to record."""

    listener = Listener()
    pyspark_inside.give_whole_events(session, listener, Events(sink))
    session.streams.addListener(listener)


class Events:
    """The events of the JVM; implements Spark's PythonStreamingQueryListener."""

    def __init__(self, sink: Sink) -> None:
        """Remembers the sink."""
        self._sink = sink

    def onQueryStarted(self, event: Any) -> None:  # noqa: N802
        """Nothing to record."""

    def onQueryProgress(self, event: Any) -> None:  # noqa: N802
        """Records the durations of a micro-batch."""
        record(json.loads(event.progress().json())["durationMs"], self._sink)

    def onQueryIdle(self, event: Any) -> None:  # noqa: N802
        """Records that nothing is waiting."""
        self._sink.idle()

    def onQueryTerminated(self, event: Any) -> None:  # noqa: N802
        """Nothing to record."""

    class Java:
        """Tells py4j which interface this is."""

        implements = ("org.apache.spark.sql.streaming.PythonStreamingQueryListener",)


def record(durations: Mapping[str, int], sink: Sink) -> None:
    """Records the durations of a micro-batch.

    Args:
        durations: milliseconds by phase, as Spark names them.
        sink: gets seconds, by phases in snake case.
    """
    if "addBatch" not in durations:
        return
    # To wait for images is no part of a micro-batch.
    waited = durations.get("latestOffset", 0)
    for phase, milliseconds in durations.items():
        if phase != "latestOffset":
            milliseconds -= waited if phase == "triggerExecution" else 0
            sink.phase(_snake(phase), milliseconds / 1000)


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name)
