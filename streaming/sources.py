"""Where events come from: what a source is, and the inbox as one; Kafka is in `messages`.

Each task reads its share of the manifests' lines itself: read by Spark, they would go through a
second Python worker, and a shuffle.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pyarrow as pa

from sightstream import checkpoint
from sightstream.config import Settings
from sightstream.events import local_path
from sightstream.spark import PIECE
from streaming.classifier import Piece, Read
from streaming.intake import Intake
from streaming.manifests import between, count, lines, parsed

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

    from sightstream.predictions import Predictions
    from streaming.metrics import Metrics

SMALL = 32
"""Micro-batches of fewer images are one task: a second one would cost more than it saves."""


class Work(NamedTuple):
    """What a micro-batch gives its tasks to do.

    Attributes:
        images: their number.
        tasks: the rows of all tasks, in as many partitions.
        told: what each task is told besides.
    """

    images: int
    tasks: DataFrame
    told: str = ""


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
    from streaming.messages import Messages

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
        """The lines of the manifests, in the order of their arrival."""
        from streaming.reader import ManifestSource

        session.dataSource.register(ManifestSource)
        reader = session.readStream.format(ManifestSource.name())
        reader = reader.option("path", str(self._settings.manifests))
        return reader.option("images", self._settings.images_per_batch).load()

    def work(self, batch: DataFrame, batch_id: int) -> Work:
        """One task for a few images, else as many as there are cores."""
        session = batch.sparkSession
        begin, end = (checkpoint.offset(self.checkpoint, n) for n in (batch_id - 1, batch_id))
        images = count(between(self._settings.manifests, begin, end))
        tasks = session.sparkContext.defaultParallelism if images >= SMALL else 1
        if tasks not in self._tasks:
            self._tasks[tasks] = session.range(0, tasks, 1, tasks)
        return Work(images, self._tasks[tasks], json.dumps([begin, end, images, tasks]))

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


class Shares:
    """From the number of a task to its share of the images; goes to the workers with the UDF."""

    def __init__(self, images: Path, manifests: Path) -> None:
        """Remembers the folders."""
        self._images = images
        self._manifests = manifests

    def __call__(self, rows: pd.DataFrame, told: str) -> Iterator[Piece]:
        """The events of each task's share, and the paths of their images.

        Args:
            rows: the numbers of tasks.
            told: what is divided: two offsets, the lines between them, and the shares.

        Raises:
            OSError: this machine does not see a folder, or not all of a manifest: the images are
                not missing.
        """
        for folder in (self._images, self._manifests):
            if not folder.is_dir():
                raise FileNotFoundError(f"{socket.gethostname()} does not see {folder}")
        begin, end, size, shares = json.loads(told)
        found = lines(between(self._manifests, begin, end))
        if len(found) != size:
            raise OSError(f"{socket.gethostname()} sees {len(found)} of {size} lines")
        for number in rows["id"]:
            first, last = (size * n // shares for n in (number, number + 1))
            for events in parsed(found[first:last]).to_batches(max_chunksize=PIECE):
                uris, codes = (events[name].to_pylist() for name in ("uri", "error_code"))
                images = [
                    local_path(uri) if code is None else None
                    for uri, code in zip(uris, codes, strict=True)
                ]
                yield pa.Table.from_batches([events]), images


def waiting(settings: Settings) -> int:
    """The images in manifests that no committed micro-batch holds."""
    return count(between(settings.manifests, checkpoint.offset(settings.checkpoint("folder"))))
