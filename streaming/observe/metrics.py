"""What Prometheus sees, all of it from the driver: the rows in hand, and Spark's progress."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    start_http_server,
)

from sightstream.config import Settings
from sightstream.errors import EnvironmentUnfitError
from sightstream.images.decode import ErrorCode
from sightstream.models import drift
from streaming.observe.column_histogram import Histogram

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from sightstream.models.version import ServedModel
    from streaming.kafka.lag import Partition

_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 1800)

_IMAGE_SECONDS = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 60,
)  # fmt: skip

_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)

STATISTICS = ("label", "score", "brightness", "contrast", "sharpness", "size")
"""What drift is computed of."""


class Metrics:
    """The figures of one running stream."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Registers them all, so that each is there from the first scrape on.

        Args:
            registry: where to; None for a new one.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.port = 0
        self.registry = r = registry or CollectorRegistry()
        self._images = Counter(
            "sightstream_images", "Images with a row", ("source", "outcome"), registry=r
        )
        self._predictions = Counter(
            "sightstream_predictions", "Images by best label", ("label", "model_version"),
            registry=r,
        )  # fmt: skip
        self._batches = Counter("sightstream_batches", "Micro-batches committed", registry=r)
        self._latency = Histogram(
            "sightstream_latency_seconds", "From the arrival of an image to its committed row",
            ("source",), buckets=_SECONDS, registry=r,
        )  # fmt: skip
        self._decode = Histogram(
            "sightstream_decode_seconds", "To read, decode and resize an image",
            buckets=_IMAGE_SECONDS, registry=r,
        )  # fmt: skip
        self._predict = Histogram(
            "sightstream_predict_seconds", "An image's share of the time to run the model",
            buckets=_IMAGE_SECONDS, registry=r,
        )  # fmt: skip
        self._score = Histogram(
            "sightstream_score_ratio", "Score of the best label, 0 to 1", buckets=_SCORES,
            registry=r,
        )  # fmt: skip
        self._drift = Gauge(
            "sightstream_drift_psi",
            "Population stability index of the latest images against those of the training; "
            "none until there are enough, or where the version has no reference",
            ("statistic",), registry=r,
        )  # fmt: skip
        for statistic in STATISTICS:
            self._drift.labels(statistic).set(math.nan)
        self._comparing = Lock()
        self._compared: tuple[str, int] | None = None
        self._window: drift.Window | None = None
        self._arrived = Counter(
            "sightstream_arrived_images", "Images that arrived, as yet unread", ("source",),
            registry=r,
        )  # fmt: skip
        self._trigger = Gauge(
            "sightstream_trigger_interval_seconds",
            "Time from micro-batch to micro-batch that is aimed at; 0: as soon as images wait",
            registry=r,
        )  # fmt: skip
        self._phases = Histogram(
            "sightstream_batch_phase_seconds", "Time of a micro-batch by phase", ("phase",),
            buckets=_SECONDS, registry=r,
        )  # fmt: skip
        self._behind = Gauge(
            "sightstream_images_behind", "Images that arrived and have no row yet", registry=r
        )
        self._progress = Gauge(
            "sightstream_last_progress_timestamp_seconds",
            "When a micro-batch was last committed, or nothing was waiting", registry=r,
        )  # fmt: skip
        self._version = Gauge(
            "sightstream_model_version", "Version of the model in use", ("model",), registry=r
        )
        self._reloads = Counter(
            "sightstream_model_reloads", "New champions by result", ("result",), registry=r
        )
        for result in ("loaded", "failed"):
            self._reloads.labels(result)
        self._restarts = Counter(
            "sightstream_query_restarts", "Restarts of the streaming query", registry=r
        )
        self._doubled = Counter(
            "sightstream_duplicates", "Messages left out since their id has a row", registry=r
        )
        partition = ("topic", "partition")
        self._lag = Gauge(
            "sightstream_kafka_lag_records", "Messages that have no row yet", partition, registry=r
        )
        self._lag_seconds = Gauge(
            "sightstream_kafka_lag_seconds", "Age of the oldest message that has no row yet",
            partition, registry=r,
        )  # fmt: skip
        self._progress.set_to_current_time()

    def serve(self, settings: Settings) -> Callable[[], None]:
        """Starts the endpoint `/metrics`.

        Returns:
            What ends it.

        Raises:
            EnvironmentUnfitError: the port is in use.
        """
        host, port = settings.metrics_host, settings.metrics_port
        try:
            server, _ = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise EnvironmentUnfitError(
                f"the metrics endpoint cannot listen on {host}:{port}: {error.strerror}; choose "
                "another port with --metrics-port, or 0 for any free one"
            ) from None
        self.port = server.server_port
        return server.shutdown

    def watch_behind(self, behind: Callable[[], int]) -> None:
        """Asks for the number of images behind at each scrape."""
        self._behind.set_function(behind)

    def expect(self, sources: Sequence[str], model: ServedModel) -> None:
        """Shows what may be counted from zero on: Prometheus sees a rise, never a first value.

        Args:
            sources: of images.
            model: is about to answer.
        """
        for source in sources:
            for outcome in ("ok", *get_args(ErrorCode)):
                self._images.labels(source, outcome)
        for label in model.labels:
            self._predictions.labels(label, str(model.version))

    def count(self, rows: pa.Table, model: ServedModel) -> None:
        """Counts a committed micro-batch.

        Args:
            rows: as committed.
            model: what answered.
        """
        import pyarrow.compute as pc

        outcome = pc.if_else(pc.equal(rows["status"], "ok"), "ok", rows["error_code"])
        table = rows.select(["source", "label"]).append_column("outcome", outcome)
        for row in table.group_by(["source", "outcome"]).aggregate([([], "count_all")]).to_pylist():
            self._images.labels(row["source"], row["outcome"]).inc(row["count_all"])
        for row in table.group_by(["label"]).aggregate([([], "count_all")]).to_pylist():
            if row["label"] is not None:
                self._predictions.labels(row["label"], str(model.version)).inc(row["count_all"])
        arrived = pc.cast(rows["event_time"], "int64").to_numpy() / 1e6
        latencies = time.time() - arrived
        sources = rows["source"].to_numpy()
        for source in set(sources):
            self._latency.observe(latencies[sources == source], source)
        self._decode.observe(rows["decode_ms"].to_numpy() / 1000)
        self._predict.observe(rows["predict_ms"].to_numpy() / 1000)
        self._score.observe(rows["score"].to_numpy())
        self._batches.inc()
        self.use(model)
        self.idle()

    def compare(self, answers: pa.Table, model: ServedModel) -> None:
        """Compares what a micro-batch's images look like with the model's training images.

        Args:
            answers: as in `classifier.ANSWER`.
            model: what answered; the comparison begins anew with each version.
        """
        import pyarrow.compute as pc

        seen = answers.filter(pc.is_valid(answers["brightness"]))
        values = {
            "label": pc.list_element(seen["classes"], 0).to_numpy(),
            "score": pc.list_element(seen["scores"], 0).to_numpy(),
            "size": drift.size(seen["width"].to_numpy(), seen["height"].to_numpy()),
            **{name: seen[name].to_numpy() for name in ("brightness", "contrast", "sharpness")},
        }
        with self._comparing:
            key = model.name, model.version
            if key != self._compared:
                self._compared = key
                self._window = drift.Window(model.reference) if model.reference else None
            if window := self._window:
                for statistic in STATISTICS:
                    window.add(statistic, values[statistic])
            known = window.psi() if window else {}
            for statistic in STATISTICS:
                self._drift.labels(statistic).set(known.get(statistic, math.nan))

    def arrived(self, source: str, images: int) -> None:
        """Counts images that arrived."""
        self._arrived.labels(source).inc(images)

    def aim(self, seconds: float) -> None:
        """Notes the time from micro-batch to micro-batch that is aimed at."""
        self._trigger.set(seconds)

    def phase(self, name: str, seconds: float) -> None:
        """Notes how long a phase of a micro-batch took."""
        self._phases.observe(seconds, name)

    def doubled(self, messages: int) -> None:
        """Counts messages that were left out."""
        self._doubled.inc(messages)

    def lag(self, topic: str, stands: list[Partition], seconds: dict[int, float]) -> None:
        """Notes where the stream stands in a topic.

        Args:
            topic: its name.
            stands: by partition.
            seconds: how long the oldest message without a row has waited, by partition.
        """
        for stand in stands:
            self._lag.labels(topic, stand.number).set(stand.lag)
            self._lag_seconds.labels(topic, stand.number).set(seconds[stand.number])

    def idle(self) -> None:
        """Notes that what was waiting is done, or that nothing is waiting."""
        self._progress.set_to_current_time()

    def use(self, model: ServedModel) -> None:
        """Notes the model in use."""
        self._version.labels(model.name).set(model.version)

    def reloaded(self, result: str) -> None:
        """Counts a new champion, `loaded` or `failed`."""
        self._reloads.labels(result).inc()

    def restarted(self) -> None:
        """Counts a restart of the query."""
        self._restarts.inc()

    def listen(self, session: SparkSession) -> None:
        """Notes the phases that Spark itself measures, from now on."""
        from pyspark.java_gateway import ensure_callback_server_started

        context: Any = session.sparkContext
        ensure_callback_server_started(context._gateway)
        wrapper = context._jvm.org.apache.spark.sql.streaming.PythonStreamingQueryListenerWrapper
        session.streams._jsqm.addListener(wrapper(_Listener(self)))


class _Listener:
    """A StreamingQueryListener that reads the one field it needs of an event.

    pyspark's own copies each event field by field, in 2,000 calls that take 100 ms of a core.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def onQueryProgress(self, event: Any) -> None:  # noqa: N802
        """Notes the durations of a micro-batch."""
        durations = json.loads(event.progress().json())["durationMs"]
        if "addBatch" in durations:
            # To wait for images is no part of a micro-batch.
            durations["triggerExecution"] -= durations.pop("latestOffset", 0)
            for phase, milliseconds in durations.items():
                self._metrics.phase(_snake(phase), milliseconds / 1000)

    def onQueryIdle(self, event: Any) -> None:  # noqa: N802
        """Notes that nothing is waiting."""
        self._metrics.idle()

    def onQueryStarted(self, event: Any) -> None:  # noqa: N802
        """Nothing to note."""

    def onQueryTerminated(self, event: Any) -> None:  # noqa: N802
        """Nothing to note."""

    class Java:
        """What Spark calls it through."""

        implements = ("org.apache.spark.sql.streaming.PythonStreamingQueryListener",)


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name)
