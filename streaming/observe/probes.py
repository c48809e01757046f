"""Probes: one look at each part of a home, for the metrics, `status` and `doctor` alike.

Each probe takes what it looks at, changes nothing, and returns a frozen dataclass.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sightstream.runtime import cluster, pyspark_inside
from streaming import upkeep

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sightstream.config import Settings
    from sightstream.models.registry import Registry, Version
    from streaming.kafka.lag import Partition

DECISIONS = ("promoted", "refused", "undecided")
"""How a training's decision about its version may have ended."""


@dataclass(frozen=True)
class Disk:
    """Bytes of a disk."""

    free: int
    size: int


@dataclass(frozen=True)
class Images:
    """Files that wait in the inbox, and when the oldest day of kept images began, in UTC."""

    inbox: int
    oldest: datetime | None


@dataclass(frozen=True)
class Table:
    """Files, bytes and rows of the newest version of a table."""

    files: int
    size: int
    rows: int


@dataclass(frozen=True)
class Registered:
    """Versions of a model by alias, `newest` included, and their number by decision."""

    versions: dict[str, Version]
    decisions: dict[str, int]


@dataclass(frozen=True)
class Lag:
    """Where the stream stands in a topic.

    Attributes:
        partitions: offsets by partition.
        seconds: age of the oldest message without a row, by number of the partition.
    """

    partitions: tuple[Partition, ...]
    seconds: dict[int, float]

    @property
    def messages(self) -> int:
        """Messages without a row, of all partitions."""
        return sum(each.lag for each in self.partitions)


@dataclass(frozen=True)
class Spark:
    """The Spark application; bytes are those of memory.

    Attributes:
        cores: tasks that run at once.
        tasks: tasks that run now.
        executors: their number, and storage and heap by kind; None where this release of Spark
            does not tell.
    """

    cores: int
    tasks: int
    executors: int | None = None
    storage: dict[str, int] | None = None
    heap: dict[str, int] | None = None


@dataclass(frozen=True)
class Machine:
    """Memory in bytes, and the time of all cores in seconds, by mode.

    Attributes:
        resident: of the driver, its JVM and its workers.
        available: that could still be had.
        size: in all.
        cpu: since the machine started, `busy` and `idle`.
    """

    resident: dict[str, int]
    available: int
    size: int
    cpu: dict[str, float]


def disk(folder: Path) -> Disk:
    """The disk of a folder."""
    found = shutil.disk_usage(folder)
    return Disk(found.free, found.total)


def images(inbox: Path, kept: Path) -> Images:
    """The images of a home.

    Args:
        inbox: the folder that images are dropped into.
        kept: the folder of accepted images.
    """
    days = upkeep.days(kept)
    oldest = datetime.combine(min(days), datetime.min.time(), UTC) if days else None
    return Images(sum(len(names) for _, _, names in os.walk(inbox)), oldest)


def table(path: str) -> Table:
    """The predictions table, from its log alone.

    Args:
        path: the table's folder, as an absolute path or a uri.
    """
    import pyarrow as pa
    from deltalake import DeltaTable

    files = pa.table(DeltaTable(path).get_add_actions())
    size, rows = (sum(files[name].to_pylist()) for name in ("size_bytes", "num_records"))
    return Table(files.num_rows, size, rows)


def registered(registry: Registry, model: str) -> Registered:
    """The versions of a model.

    Raises:
        RegistryUnavailableError: the registry does not answer.
    """
    versions = registry.versions(model)
    found = {alias: version for version in versions for alias in version.aliases}
    if versions:
        found["newest"] = versions[0]
    made = Counter(version.decision.partition(":")[0] or "undecided" for version in versions)
    return Registered(found, {decision: made[decision] for decision in DECISIONS})


def lag(settings: Settings) -> Lag:
    """The lag of the stream behind its topic.

    Raises:
        BrokerUnavailableError: no broker answers, or it refuses this client.
        TopicNotFoundError: the topic does not exist.
    """
    from sightstream.io import kafka
    from streaming.kafka.lag import topic

    images = topic(settings)
    with kafka.connect(images.broker) as client:
        stands = images.partitions(client)
    return Lag(tuple(stands), images.waiting_seconds(stands))


def spark(session: SparkSession) -> Spark:
    """The Spark application of a session."""
    context = session.sparkContext
    cores = context.defaultParallelism
    found, heap = pyspark_inside.executors(context), pyspark_inside.heap(context)
    if found is None or heap is None:
        tracker = context.statusTracker()
        stages = filter(None, map(tracker.getStageInfo, tracker.getActiveStageIds()))
        return Spark(cores, sum(stage.numActiveTasks for stage in stages))
    return Spark(
        cores,
        sum(each.tasks for each in found),
        # Locally the driver is the executor; on a cluster it stands in the list besides.
        len(found) - (not cluster.is_local(context.master)),
        {
            "used": sum(each.storage_used for each in found),
            "all": sum(each.storage_all for each in found),
        },
        heap,
    )


def machine() -> Machine:
    """The memory of this process and its children, and the memory and cores of the machine."""
    import psutil  # type: ignore[import-untyped]

    driver = psutil.Process()
    resident = {"driver": driver.memory_info().rss, "jvm": 0, "workers": 0}
    for process in driver.children(recursive=True):
        with suppress(psutil.Error):  # it has ended since
            kind = "jvm" if process.name() == "java" else "workers"
            resident[kind] += process.memory_info().rss
    memory, times = psutil.virtual_memory(), psutil.cpu_times()._asdict()
    idle = times["idle"] + times.get("iowait", 0)
    modes = ("user", "system", "irq", "softirq", "steal", "nice")
    busy = sum(times.get(mode, 0) for mode in modes)
    return Machine(resident, memory.available, memory.total, {"busy": busy, "idle": idle})
