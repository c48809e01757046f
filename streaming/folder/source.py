"""Where events come from: what a source is, and the inbox as one; Kafka is in `messages`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sightstream.config import Settings
from sightstream.runtime import cluster, spark
from sightstream.scoring.udf import Read
from streaming import checkpoint
from streaming.folder.intake import Intake
from streaming.folder.manifests import between, read
from streaming.folder.tasks import SMALL, Shares, tell

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from sightstream.tables.predictions import Predictions
    from streaming.observe.metrics import Metrics


class Work(NamedTuple):
    """What a micro-batch gives its tasks to do.

    Attributes:
        images: their number.
        tasks: the rows of all tasks, in as many partitions.
        told: what each task is told besides; to be called anew for each job.
    """

    images: int
    tasks: DataFrame
    told: Callable[[], str] = str


class Source(Protocol):
    """A way that images come in, with a streaming query of its own.

    Attributes:
        name: of the query, its pool of tasks, and the rows' `source`.
        checkpoint: of the query.
        read: what finds the images of a task.
    """

    name: str
    checkpoint: Path
    read: Read

    @property
    def behind(self) -> int:
        """Images that have arrived and have no row yet."""

    def events(self, session: SparkSession) -> DataFrame:
        """A streaming DataFrame with a row for each event."""

    def work(self, batch: DataFrame, batch_id: int) -> Work:
        """What a micro-batch gives its tasks to do."""

    def first(self, rows: pa.Table) -> pa.Table:
        """Leaves out rows of events that the table has under their id."""

    def done(self, batch_id: int, images: int, rows: pa.Table | None) -> None:
        """Notes that a micro-batch is in the table; rows are None where it was there before."""

    def drain(self) -> int:
        """Takes what is there, for a stream that ends when it is classified."""

    def watch(self, stop: Event) -> None:
        """Begins what runs beside the query, until `stop` is set."""

    def check(self) -> bool:
        """Whether what the query reads from is there; raises what a user has to mend."""


def of(settings: Settings, table: Predictions, metrics: Metrics) -> list[Source]:
    """The sources that the settings ask for."""
    from streaming.kafka.source import Messages

    made: dict[str, Callable[[], Source]] = {
        "folder": lambda: Folder(settings, metrics),
        "kafka": lambda: Messages(settings, table, metrics),
    }
    return [make() for name, make in made.items() if name in settings.source]


class Folder:
    """The inbox: files become manifests, and these events."""

    name = "folder"

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Opens the inbox.

        Args:
            settings: the folders, and the images that a micro-batch aims at.
            metrics: gets what arrives.
        """
        self.checkpoint = settings.checkpoint(self.name)
        self._settings = settings
        self._metrics = metrics
        self._intake = Intake(settings, self._arrived)
        self.read: Read = Shares(settings.images, settings.manifests)
        self._tasks: dict[int, DataFrame] = {}
        # Each is changed by one thread only.
        self._accepted, self._answered_for = waiting(settings), 0

    @property
    def behind(self) -> int:
        """Images that were accepted and have no row yet."""
        return self._accepted - self._answered_for

    def events(self, session: SparkSession) -> DataFrame:
        """The events of the manifests, in the order of their arrival."""
        from streaming.folder.spark_source import ManifestSource

        session.dataSource.register(ManifestSource)
        reader = session.readStream.format(ManifestSource.name())
        reader = reader.option("path", str(self._settings.manifests))
        return reader.option("images", self._settings.images_per_batch).load()

    def work(self, batch: DataFrame, batch_id: int) -> Work:
        """One task for a few images, else as many as there are cores."""
        session = batch.sparkSession
        begin, end = (checkpoint.offset(self.checkpoint, n) for n in (batch_id - 1, batch_id))
        images = len(read(between(self._settings.manifests, begin, end)))
        tasks = session.sparkContext.defaultParallelism if images >= SMALL else 1
        if tasks not in self._tasks:
            self._tasks[tasks] = session.range(0, tasks, 1, tasks)
        scratch = spark.scratch_folder(self._settings, "run")
        turns = scratch if tasks > 1 and cluster.is_local(self._settings.master) else None
        return Work(images, self._tasks[tasks], partial(tell, begin, end, images, tasks, turns))

    def first(self, rows: pa.Table) -> pa.Table:
        """All of them: the ids are our own."""
        return rows

    def done(self, batch_id: int, images: int, rows: pa.Table | None) -> None:
        """Counts a micro-batch."""
        self._answered_for += images

    def drain(self) -> int:
        """Takes what is complete in the inbox."""
        return self._intake.drain()

    def watch(self, stop: Event) -> None:
        """Takes what is dropped into the inbox from now on."""
        Thread(target=self._intake.run, args=(stop,), name="intake", daemon=True).start()

    def check(self) -> bool:
        """A folder is always there, or its faults are those of the query."""
        return True

    def _arrived(self, images: int) -> None:
        self._accepted += images
        self._metrics.arrived(self.name, images)


def waiting(settings: Settings) -> int:
    """The images in manifests that no committed micro-batch holds."""
    return len(read(between(settings.manifests, checkpoint.offset(settings.checkpoint("folder")))))
