"""Gauges from probes: a look every ten seconds, so that a scrape never waits for a registry."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING

from sightstream.config import Settings
from sightstream.models.registry import Registry
from streaming.observe import probes

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streaming.observe.metrics import Metrics

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""Time between two looks."""

FIGURES = ("accuracy", "f1_macro", "precision_macro", "recall_macro")
"""Figures of an evaluation that become metrics."""


def watch(
    settings: Settings, metrics: Metrics, registry: Registry, session: SparkSession, stop: Event
) -> None:
    """Looks at everything until `stop` is set; where a look fails its gauges keep their values.

    Args:
        settings: of the home folder, the model and the retention.
        metrics: gets the figures.
        registry: of the model.
        session: of the stream.
        stop: ends it.
    """
    gauges = Gauges(metrics)
    looks: tuple[Callable[[], None], ...] = (
        lambda: gauges.disk(probes.disk(settings.root)),
        lambda: gauges.images(
            probes.images(settings.inbox, settings.images), settings.retention_days
        ),
        lambda: gauges.table(probes.table(settings.predictions)),
        lambda: gauges.machine(probes.machine()),
        lambda: gauges.registered(settings.model, probes.registered(registry, settings.model)),
        lambda: gauges.spark(probes.spark(session)),
    )
    while True:
        for look in looks:
            try:
                look()
            except Exception as error:  # the stream goes on whatever it is
                log.warning("a look failed and is repeated later: %s", error)
        if stop.wait(LOOK_SECONDS):
            return


class Gauges:
    """Sets gauges from what the probes return."""

    def __init__(self, metrics: Metrics) -> None:
        """Remembers the metrics."""
        self._of = metrics.of
        self._aliases = set[str]()
        self._cpu = {"busy": 0.0, "idle": 0.0}

    def disk(self, found: probes.Disk) -> None:
        """Sets the gauges of the disk."""
        self._of["disk_free_bytes"].set(found.free)
        self._of["disk_size_bytes"].set(found.size)

    def images(self, found: probes.Images, retention_days: int) -> None:
        """Sets the gauges of the inbox and of the kept images."""
        self._of["inbox_files"].set(found.inbox)
        self._of["retention_seconds"].set(86_400 * retention_days)
        if found.oldest:
            self._of["oldest_image_timestamp_seconds"].set(found.oldest.timestamp())

    def table(self, found: probes.Table) -> None:
        """Sets the gauges of the predictions table."""
        self._of["table_files"].set(found.files)
        self._of["table_size_bytes"].set(found.size)
        self._of["table_rows"].set(found.rows)

    def registered(self, model: str, found: probes.Registered) -> None:
        """Sets the gauges of a model's versions; those of an alias that is gone disappear."""
        version, created, evaluation = (
            self._of[f"registry_{name}"]
            for name in ("version", "created_timestamp_seconds", "evaluation_ratio")
        )
        if self._aliases - found.versions.keys():
            for gauge in (version, created, evaluation):
                gauge.clear()
        self._aliases = set(found.versions)
        for alias, each in found.versions.items():
            version.labels(model, alias).set(each.number)
            created.labels(model, alias).set(each.created.timestamp())
            for figure in set(FIGURES) & each.metrics.keys():
                evaluation.labels(model, alias, figure).set(each.metrics[figure])
        self._set("registry_versions", found.decisions, model)

    def spark(self, found: probes.Spark) -> None:
        """Sets the gauges of Spark."""
        self._of["spark_cores"].set(found.cores)
        self._of["spark_running_tasks"].set(found.tasks)
        if found.executors is not None:
            self._of["spark_executors"].set(found.executors)
        self._set("spark_storage_bytes", found.storage or {})
        self._set("spark_driver_heap_bytes", found.heap or {})

    def machine(self, found: probes.Machine) -> None:
        """Sets the gauges of the machine, and counts the time of its cores."""
        self._set("memory_resident_bytes", found.resident)
        self._of["machine_memory_available_bytes"].set(found.available)
        self._of["machine_memory_size_bytes"].set(found.size)
        for mode, seconds in found.cpu.items():
            self._of["machine_cpu_seconds"].labels(mode).inc(max(0.0, seconds - self._cpu[mode]))
        self._cpu = found.cpu

    def _set(self, name: str, values: dict[str, int], *labels: str) -> None:
        for last, value in values.items():
            self._of[name].labels(*labels, last).set(value)
