"""The metrics of a running stream as a table; docs/metrics.md is made from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

from streaming.observe.column_histogram import Histogram

PREFIX = "sightstream_"

_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 1800)
_IMAGE_SECONDS = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 60,
)  # fmt: skip
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
_VERSION = ("model", "alias")
_PARTITION = ("topic", "partition")


@dataclass(frozen=True)
class Metric:
    """A metric; its name is without the prefix, and without the `_total` of a counter."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: Sequence[float] = ()  # upper ends of a histogram's, but for the last, without one

    @property
    def full_name(self) -> str:
        """Its name at the endpoint."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"

    def register(self, registry: CollectorRegistry) -> Any:
        """Make the metric and return it."""
        name = PREFIX + self.name
        if self.kind == "histogram":
            return Histogram(name, self.help, self.labels, buckets=self.buckets, registry=registry)
        made = Counter if self.kind == "counter" else Gauge
        return made(name, self.help, self.labels, registry=registry)


# fmt: off
METRICS = (
    # From the rows of each micro-batch.
    Metric("counter", "images", "Images with a row", ("source", "outcome")),
    Metric("counter", "predictions", "Images by best label", ("label", "model", "model_version")),
    Metric("counter", "batches", "Micro-batches committed"),
    Metric("histogram", "latency_seconds", "Time from the arrival of an image to its committed row",
           ("source",), _SECONDS),
    Metric("histogram", "decode_seconds", "Time to read, decode and resize an image",
           buckets=_IMAGE_SECONDS),
    Metric("histogram", "predict_seconds", "Share of an image in the time to run the model",
           buckets=_IMAGE_SECONDS),
    Metric("histogram", "score_ratio", "Score of the best label, 0 to 1", buckets=_SCORES),
    Metric("gauge", "drift_psi",
           "Population stability index of the latest images against those of the training; none "
           "until there are enough, or where the version has no reference", ("statistic",)),
    Metric("counter", "other_answers",
           "Images by what another model answered beside the first: ok, why it did not, or skipped",
           ("model", "alias", "outcome")),
    Metric("counter", "agreement",
           "Images by the first model's label, and whether another model gave the same",
           ("model", "alias", "label", "agrees")),
    Metric("gauge", "other_version", "Version of another model that answers beside the first",
           ("model", "alias")),
    Metric("counter", "duplicates", "Messages left out because their id has a row"),
    # From the stream, its sources and Spark's progress.
    Metric("counter", "arrived_images", "Images that arrived, not yet read", ("source",)),
    Metric("gauge", "images_behind", "Images that arrived and have no row yet"),
    Metric("gauge", "last_progress_timestamp_seconds",
           "Time at which a micro-batch was last committed, or nothing was waiting"),
    Metric("gauge", "trigger_interval_seconds",
           "Configured time between micro-batches; 0: as soon as images wait"),
    Metric("histogram", "batch_phase_seconds", "Time of a micro-batch by phase", ("phase",),
           _SECONDS),
    Metric("counter", "query_restarts", "Restarts of the streaming query"),
    Metric("gauge", "model_version", "Version of the model in use", ("model",)),
    Metric("counter", "model_reloads", "New versions of the models in use by result", ("result",)),
    Metric("gauge", "kafka_lag_records", "Messages that have no row yet", _PARTITION),
    Metric("gauge", "kafka_lag_seconds", "Age of the oldest message that has no row yet",
           _PARTITION),
    # From a look every ten seconds.
    Metric("gauge", "disk_free_bytes", "Free space on the disk of the home folder"),
    Metric("gauge", "disk_size_bytes", "Size of the disk of the home folder"),
    Metric("gauge", "inbox_files", "Files in the inbox that are not yet accepted"),
    Metric(
        "gauge", "inbox_stuck_files",
        "Files in the inbox that cannot be read or moved, or 1 for an inbox that is not there",
    ),
    Metric("gauge", "retention_seconds", "Configured time that images are kept; 0: for ever"),
    Metric("gauge", "oldest_image_timestamp_seconds", "Day of the oldest images that are kept"),
    Metric("gauge", "table_size_bytes", "Size of the files that the predictions table consists of"),
    Metric("gauge", "table_files", "Files that the predictions table consists of"),
    Metric("gauge", "table_rows", "Rows of the predictions table"),
    Metric("counter", "table_copies",
           "Rows that were there twice, since several merged the same files, and were left out"),
    Metric("gauge", "registry_version", "Version by alias; newest is the one registered last",
           _VERSION),
    Metric("gauge", "registry_created_timestamp_seconds", "Time at which a version was registered",
           _VERSION),
    Metric("gauge", "registry_evaluation_ratio", "Figures of a version on images it never saw",
           (*_VERSION, "figure")),
    Metric("gauge", "registry_versions", "Versions by the decision of their training, or undecided",
           ("model", "decision")),
    Metric("gauge", "spark_executors", "Executors of Spark; locally the driver is one"),
    Metric("gauge", "spark_running_tasks", "Tasks that run at the moment of the look"),
    Metric("gauge", "spark_cores", "Tasks that Spark runs at once"),
    Metric("gauge", "spark_storage_bytes", "Memory for cached and broadcast blocks, used and all",
           ("kind",)),
    Metric("gauge", "spark_driver_heap_bytes", "Heap of the driver's JVM, used and at most",
           ("kind",)),
    Metric("gauge", "memory_resident_bytes",
           "Resident memory of the driver's Python, its JVM, and workers", ("process",)),
    Metric("gauge", "machine_memory_available_bytes", "Available memory of the machine"),
    Metric("gauge", "machine_memory_size_bytes", "Memory of the machine"),
    Metric("counter", "machine_cpu_seconds", "Time of all cores of the machine", ("mode",)),
)
# fmt: on
"""All metrics; each is there from the first scrape on."""
