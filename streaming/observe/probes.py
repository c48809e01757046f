"""Probes: each yields names of metrics, with their values and labels; it changes nothing.

The metrics are set every ten seconds, so that a scrape never waits for a registry.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import prometheus_client

from sightstream.io.folder import files
from sightstream.io.ignored import ignored
from sightstream.runtime import cluster, pyspark_inside
from streaming import upkeep
from streaming.folder import stuck as stuck_in_inbox

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sightstream.models.registry import Registry
    from sightstream.tables.predictions import Predictions

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0  # time between two looks
TABLE_SHARE = 0.005  # of a core that looks at the table take at most; they slow with its log
DECISIONS = ("promoted", "refused", "undecided")  # of a training about its version
FIGURES = ("accuracy", "f1_macro", "precision_macro", "recall_macro")  # that become metrics

Figures = Iterator[tuple[str, float, *tuple[str, ...]]]
Values = dict[tuple[str, ...], float]


def watch(of: Mapping[str, Any], probes: Sequence[Callable[[], Figures]], stop: Event) -> None:
    """Set metrics by name until `stop` is set; a probe that fails leaves its metrics alone."""
    values: list[Values] = [{} for _ in probes]
    while True:
        for number, probe in enumerate(probes):
            try:
                values[number] = _set(of, probe(), values[number])
            except Exception as error:  # the stream goes on whatever it is
                log.warning("a look failed and is repeated later: %s", error)
        if stop.wait(LOOK_SECONDS):
            return


def _set(of: Mapping[str, Any], found: Figures, before: Values) -> Values:
    values = {(name, *labels): value for name, value, *labels in found}
    for name, *labels in before.keys() - values.keys():
        if labels:  # such as an alias that is gone
            of[name].remove(*labels)
    for (name, *labels), value in values.items():
        metric = of[name].labels(*labels) if labels else of[name]
        if isinstance(metric, prometheus_client.Counter):
            metric.inc(max(0.0, value - before.get((name, *labels), 0.0)))
        else:
            metric.set(value)
    return values


def disk(folder: Path) -> Figures:
    """Yield the free space and the size of a folder's disk, in bytes."""
    found = shutil.disk_usage(folder)
    yield "disk_free_bytes", found.free
    yield "disk_size_bytes", found.total


def images(inbox: Path, ignore: Iterable[str], kept: Path, retention_days: float) -> Figures:
    """Yield the files that wait in the inbox, and the age of the images that are kept."""
    there = inbox.is_dir()  # not where images come from elsewhere alone
    yield "inbox_files", sum(1 for _ in files(os.fsencode(inbox), ignored(ignore))) if there else 0
    yield "retention_seconds", 86_400 * retention_days
    if days := upkeep.days(kept):
        oldest = datetime.combine(min(days), datetime.min.time(), UTC)
        yield "oldest_image_timestamp_seconds", oldest.timestamp()


def stuck(file: Path, inbox: Path) -> Figures:
    """Yield the number of files that the intake cannot take."""
    yield "inbox_stuck_files", stuck_in_inbox.now(file, inbox).count


class Table:
    """The predictions table, of which the log alone is read: seldom where that takes long."""

    def __init__(self, path: str) -> None:
        """Look at the table of a path from the first call on."""
        self._path = path
        self._next = 0.0
        self._found: list[tuple[str, float]] = []

    def __call__(self) -> Figures:
        """Yield the files, bytes and rows of the table, from before where it is too early."""
        if (begin := time.monotonic()) >= self._next:
            self._found = list(self._look())
            now = time.monotonic()
            self._next = now + (now - begin) / TABLE_SHARE
        yield from self._found

    def _look(self) -> Iterator[tuple[str, float]]:
        import pyarrow as pa
        from deltalake import DeltaTable

        files = pa.table(DeltaTable(self._path).get_add_actions())
        yield "table_files", files.num_rows
        yield "table_size_bytes", sum(files["size_bytes"].to_pylist())
        if not files["num_records"].null_count:  # others may write files without statistics
            yield "table_rows", sum(files["num_records"].to_pylist())


def copies(table: Predictions) -> Figures:
    """Yield the number of rows that were in the table twice and were left out."""
    yield "table_copies", table.copies


def registered(registry: Registry, model: str) -> Figures:
    """Yield what is known of a model's versions by alias, `newest` included."""
    versions = registry.versions(model)
    aliases = {alias: version for version in versions for alias in version.aliases}
    if versions:
        aliases["newest"] = versions[0]
    for alias, each in aliases.items():
        yield "registry_version", each.number, model, alias
        yield "registry_created_timestamp_seconds", each.created.timestamp(), model, alias
        for figure in set(FIGURES) & each.metrics.keys():
            yield "registry_evaluation_ratio", each.metrics[figure], model, alias, figure
    decided = Counter(each.decision.partition(":")[0] or "undecided" for each in versions)
    for decision in DECISIONS:
        yield "registry_versions", decided[decision], model, decision


def spark(session: SparkSession) -> Figures:
    """Yield figures of the Spark application; fewer where this release of Spark hides them."""
    context = session.sparkContext
    yield "spark_cores", context.defaultParallelism
    found, heap = pyspark_inside.executors(context), pyspark_inside.heap(context)
    if found is None or heap is None:
        tracker = context.statusTracker()
        stages = filter(None, map(tracker.getStageInfo, tracker.getActiveStageIds()))
        yield "spark_running_tasks", sum(stage.numActiveTasks for stage in stages)
        return
    yield "spark_running_tasks", sum(each.tasks for each in found)
    # Locally the driver is the executor; on a cluster it stands in the list besides.
    yield "spark_executors", len(found) - (not cluster.is_local(context.master))
    yield "spark_storage_bytes", sum(each.storage_used for each in found), "used"
    yield "spark_storage_bytes", sum(each.storage_all for each in found), "all"
    for kind, size in heap.items():
        yield "spark_driver_heap_bytes", size, kind


def machine() -> Figures:
    """Yield the memory of this process and its children, and memory and cores of the machine."""
    import psutil  # type: ignore[import-untyped]

    driver = psutil.Process()
    resident = {"driver": driver.memory_info().rss, "jvm": 0, "workers": 0}
    for process in driver.children(recursive=True):
        with suppress(psutil.Error):  # it has ended since
            kind = "jvm" if process.name() == "java" else "workers"
            resident[kind] += process.memory_info().rss
    for kind, size in resident.items():
        yield "memory_resident_bytes", size, kind
    memory, times = psutil.virtual_memory(), psutil.cpu_times()._asdict()
    yield "machine_memory_available_bytes", memory.available
    yield "machine_memory_size_bytes", memory.total
    modes = ("user", "system", "irq", "softirq", "steal", "nice")
    yield "machine_cpu_seconds", sum(times.get(mode, 0) for mode in modes), "busy"
    yield "machine_cpu_seconds", times["idle"] + times.get("iowait", 0), "idle"
