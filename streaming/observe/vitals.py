"""What is looked at now and then: disk, table, registry, inbox, Spark, the machine."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry, Counter, Gauge

from sightstream.config import Settings
from sightstream.models.registry import Registry
from sightstream.runtime import cluster
from streaming import upkeep

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two looks."""

FIGURES = ("accuracy", "f1_macro", "precision_macro", "recall_macro")
"""Of an evaluation, what is shown."""

_MODEL = ("model", "alias")


class Vitals:
    """The figures that no micro-batch tells."""

    def __init__(self, settings: Settings, registry: CollectorRegistry) -> None:
        """Registers them all.

        Args:
            settings: the home folder, the model and the retention.
            registry: where they are shown.
        """
        self._settings = settings
        self._aliases = set[str]()

        def gauge(name: str, documentation: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"sightstream_{name}", documentation, labels, registry=registry)

        self._disk_free = gauge("disk_free_bytes", "Space left where the home folder is")
        self._disk_size = gauge("disk_size_bytes", "Size of the disk where the home folder is")
        self._table_size = gauge("table_size_bytes", "Size of the predictions table's files in use")
        self._table_files = gauge("table_files", "Files that the predictions table is read from")
        self._table_rows = gauge("table_rows", "Rows of the predictions table")
        self._inbox = gauge("inbox_files", "Files in the inbox that were not accepted yet")
        self._retention = gauge(
            "retention_seconds", "How long images are kept, as set; 0: for ever"
        )
        self._oldest = gauge(
            "oldest_image_timestamp_seconds", "The day of the oldest images that are kept"
        )
        self._versions = gauge(
            "registry_version", "Version by alias; newest is the one registered last", _MODEL
        )
        self._created = gauge(
            "registry_created_timestamp_seconds", "When a version was registered", _MODEL
        )
        self._evaluation = gauge(
            "registry_evaluation_ratio", "Figures of a version on images it never saw",
            (*_MODEL, "figure"),
        )  # fmt: skip
        self._decisions = gauge(
            "registry_versions", "Versions by what their training decided, or undecided",
            ("model", "decision"),
        )  # fmt: skip
        self._executors = gauge("spark_executors", "Spark's executors; locally the driver is one")
        self._tasks = gauge("spark_running_tasks", "Tasks that run at the moment of the look")
        self._cores = gauge("spark_cores", "Tasks that Spark runs at once")
        self._storage = gauge(
            "spark_storage_bytes", "Memory for cached and broadcast blocks, used and in all",
            ("kind",),
        )  # fmt: skip
        self._heap = gauge(
            "spark_driver_heap_bytes", "Heap of the driver's JVM, used and at most", ("kind",)
        )
        self._memory = gauge(
            "memory_resident_bytes", "Resident memory of the driver's Python, its JVM, and workers",
            ("process",),
        )  # fmt: skip
        self._available = gauge("machine_memory_available_bytes", "Memory that can be had")
        self._memory_size = gauge("machine_memory_size_bytes", "Memory of the machine")
        self._cpu = Counter(
            "sightstream_machine_cpu_seconds", "Time of all cores of the machine", ("mode",),
            registry=registry,
        )  # fmt: skip
        self._cpu_seen = {"busy": 0.0, "idle": 0.0}

    def watch(self, registry: Registry, session: SparkSession, stop: Event) -> None:
        """Looks at everything until told to stop; what cannot be looked at keeps its figures."""
        looks = (
            self._look_at_disk, self._look_at_table, self._look_at_machine,
            lambda: self._look_at_registry(registry), lambda: self._look_at_spark(session),
        )  # fmt: skip
        while True:
            for look in looks:
                try:
                    look()
                except Exception as error:  # whatever it is, the stream goes on
                    log.warning("a look failed, and is tried again: %s", error)
            if stop.wait(INTERVAL):
                return

    def _look_at_disk(self) -> None:
        settings = self._settings
        disk = shutil.disk_usage(settings.root)
        self._disk_free.set(disk.free)
        self._disk_size.set(disk.total)
        self._inbox.set(sum(len(names) for _, _, names in os.walk(settings.inbox)))
        self._retention.set(86_400 * settings.retention_days)
        if kept := upkeep.days(settings.images):
            oldest = datetime.combine(min(kept), datetime.min.time(), UTC)
            self._oldest.set(oldest.timestamp())

    def _look_at_table(self) -> None:
        import pyarrow as pa
        from deltalake import DeltaTable

        files = pa.table(DeltaTable(self._settings.predictions).get_add_actions())
        self._table_files.set(files.num_rows)
        self._table_size.set(sum(files["size_bytes"].to_pylist()))
        self._table_rows.set(sum(files["num_records"].to_pylist()))

    def _look_at_registry(self, registry: Registry) -> None:
        name = self._settings.model
        versions = registry.versions(name)
        found = {alias: v for v in versions for alias in v.aliases}
        found = {**found, **({"newest": versions[0]} if versions else {})}
        if self._aliases - found.keys():
            for gauge in (self._versions, self._created, self._evaluation):
                gauge.clear()
        self._aliases = set(found)
        for alias, version in found.items():
            self._versions.labels(name, alias).set(version.number)
            self._created.labels(name, alias).set(version.created.timestamp())
            for figure in FIGURES:
                if figure in version.metrics:
                    self._evaluation.labels(name, alias, figure).set(version.metrics[figure])
        for decision in ("promoted", "refused", "undecided"):
            said = sum((v.decision.partition(":")[0] or "undecided") == decision for v in versions)
            self._decisions.labels(name, decision).set(said)

    def _look_at_spark(self, session: SparkSession) -> None:
        context: Any = session.sparkContext
        executors = list(context._jsc.sc().statusTracker().getExecutorInfos())
        local = cluster.is_local(context.master)
        self._executors.set(len(executors) if local else len(executors) - 1)
        self._cores.set(context.defaultParallelism)
        self._tasks.set(sum(e.numRunningTasks() for e in executors))
        self._storage.labels("used").set(sum(e.usedOnHeapStorageMemory() for e in executors))
        self._storage.labels("all").set(sum(e.totalOnHeapStorageMemory() for e in executors))
        heap = context._jvm.java.lang.Runtime.getRuntime()
        self._heap.labels("used").set(heap.totalMemory() - heap.freeMemory())
        self._heap.labels("most").set(heap.maxMemory())

    def _look_at_machine(self) -> None:
        resident = dict.fromkeys(("driver", "jvm", "workers"), 0)
        driver = psutil.Process()
        resident["driver"] = driver.memory_info().rss
        for process in driver.children(recursive=True):
            with suppress(psutil.Error):  # it has ended since
                kind = "jvm" if process.name() == "java" else "workers"
                resident[kind] += process.memory_info().rss
        for kind, taken in resident.items():
            self._memory.labels(kind).set(taken)
        memory = psutil.virtual_memory()
        self._available.set(memory.available)
        self._memory_size.set(memory.total)
        times = psutil.cpu_times()._asdict()
        idle = times["idle"] + times.get("iowait", 0)
        busy = sum(times[mode] for mode in ("user", "system", "irq", "softirq", "steal", "nice")
                   if mode in times)  # fmt: skip
        for mode, seconds in {"busy": busy, "idle": idle}.items():
            self._cpu.labels(mode).inc(max(0.0, seconds - self._cpu_seen[mode]))
            self._cpu_seen[mode] = seconds
