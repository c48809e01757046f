"""The metrics of a running stream, recorded in the driver: from rows, sources and Spark."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, disable_created_metrics, start_http_server

from sightstream.errors import EnvironmentUnfitError
from sightstream.images.decode import ErrorCode
from sightstream.models import drift
from streaming.observe.definitions import register

if TYPE_CHECKING:
    import pyarrow as pa

    from sightstream.models.version import ServedModel
    from streaming.kafka.lag import Partition

STATISTICS = ("label", "score", "brightness", "contrast", "sharpness", "size")
"""Statistics of images that drift is computed of."""


class Metrics:
    """The metrics of one running stream.

    Attributes:
        registry: of `prometheus_client`, for this stream alone.
        of: the metrics of `definitions`, by name.
        port: of the endpoint, once it is served.
    """

    def __init__(self) -> None:
        """Registers all metrics, so that each is there from the first scrape on."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.of = register(self.registry)
        self.port = 0
        self._comparing = Lock()
        self._compared: tuple[str, int] | None = None
        self._window: drift.Window | None = None
        for statistic in STATISTICS:
            self.of["drift_psi"].labels(statistic).set(math.nan)
        for result in ("loaded", "failed"):
            self.of["model_reloads"].labels(result)
        self.idle()

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Starts the endpoint `/metrics`.

        Args:
            host: address to listen on.
            port: 0 for any free one.

        Returns:
            A function that ends it.

        Raises:
            EnvironmentUnfitError: the port is in use.
        """
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
        """Has each scrape call a function that returns the number of images behind."""
        self.of["images_behind"].set_function(behind)

    def expect(self, sources: Sequence[str], model: ServedModel) -> None:
        """Shows counters from zero on, since Prometheus sees a rise but never a first value.

        Args:
            sources: names of the sources.
            model: whose answers will be counted.
        """
        for source in sources:
            for outcome in ("ok", *get_args(ErrorCode)):
                self.of["images"].labels(source, outcome)
        for label in model.labels:
            self.of["predictions"].labels(label, model.name, str(model.version))

    def count(self, rows: pa.Table, model: ServedModel) -> None:
        """Counts a committed micro-batch.

        Args:
            rows: as committed, with `predictions.schema`.
            model: that classified them.
        """
        import pyarrow.compute as pc

        outcome = pc.if_else(pc.equal(rows["status"], "ok"), "ok", rows["error_code"])
        table = rows.select(["source", "label"]).append_column("outcome", outcome)
        for row in table.group_by(["source", "outcome"]).aggregate([([], "count_all")]).to_pylist():
            self.of["images"].labels(row["source"], row["outcome"]).inc(row["count_all"])
        for row in table.group_by(["label"]).aggregate([([], "count_all")]).to_pylist():
            if row["label"] is not None:
                self.of["predictions"].labels(row["label"], model.name, str(model.version)).inc(
                    row["count_all"]
                )
        arrived = pc.cast(rows["event_time"], "int64").to_numpy() / 1e6
        latencies = time.time() - arrived
        sources = rows["source"].to_numpy()
        for source in set(sources):
            self.of["latency_seconds"].observe(latencies[sources == source], source)
        self.of["decode_seconds"].observe(rows["decode_ms"].to_numpy() / 1000)
        self.of["predict_seconds"].observe(rows["predict_ms"].to_numpy() / 1000)
        self.of["score_ratio"].observe(rows["score"].to_numpy())
        self.of["batches"].inc()
        self.use(model)
        self.idle()

    def compare(self, answers: pa.Table, model: ServedModel) -> None:
        """Compares the images of a micro-batch with those that the model was trained on.

        Args:
            answers: as in `classifier.ANSWER`.
            model: that classified them; each version begins a new comparison.
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
                self.of["drift_psi"].labels(statistic).set(known.get(statistic, math.nan))

    def arrived(self, source: str, images: int) -> None:
        """Counts images that arrived."""
        self.of["arrived_images"].labels(source).inc(images)

    def aim(self, seconds: float) -> None:
        """Records the configured time between micro-batches."""
        self.of["trigger_interval_seconds"].set(seconds)

    def phase(self, name: str, seconds: float) -> None:
        """Records how long a phase of a micro-batch took."""
        self.of["batch_phase_seconds"].observe(seconds, name)

    def doubled(self, messages: int) -> None:
        """Counts messages that were left out because their id has a row."""
        self.of["duplicates"].inc(messages)

    def lag(self, topic: str, stands: list[Partition], seconds: dict[int, float]) -> None:
        """Records where the stream stands in a topic.

        Args:
            topic: its name.
            stands: offsets by partition.
            seconds: age of the oldest message without a row, by partition.
        """
        for stand in stands:
            self.of["kafka_lag_records"].labels(topic, stand.number).set(stand.lag)
            self.of["kafka_lag_seconds"].labels(topic, stand.number).set(seconds[stand.number])

    def idle(self) -> None:
        """Records that a micro-batch was committed, or that nothing is waiting."""
        self.of["last_progress_timestamp_seconds"].set_to_current_time()

    def use(self, model: ServedModel) -> None:
        """Records the model in use."""
        self.of["model_version"].labels(model.name).set(model.version)

    def reloaded(self, result: str) -> None:
        """Counts a new champion, `loaded` or `failed`."""
        self.of["model_reloads"].labels(result).inc()

    def restarted(self) -> None:
        """Counts a restart of the query."""
        self.of["query_restarts"].inc()
