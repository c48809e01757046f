"""Where events come from: what a source is, and the manifests as a streaming source of Spark.

Kafka is in `messages`. Spark's own file source lists a folder that only grows, keeps every name it
has seen for ever, and cannot bound a micro-batch by images. This one keeps a single name as its
offset. Each task reads its share of the lines itself: read by Spark, they would go through a second
Python worker, and a shuffle.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition

from sightstream import checkpoint
from sightstream.config import Settings
from sightstream.events import SCHEMA, local_path
from sightstream.spark import PIECE
from streaming.classifier import EVENT, Piece, Read
from streaming.intake import Intake, published

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from sightstream.predictions import Predictions
    from streaming.metrics import Metrics

SMALL = 32
"""Micro-batches of fewer images are one task: a second one would cost more than it saves."""

Offset = dict[str, str]

_KEY = "manifest"


class Source(Protocol):
    """A way that images come in, with a streaming query of its own.

    Attributes:
        name: of the query, its pool of tasks, and the rows' `source`.
        checkpoint: of the query.
    """

    name: str
    checkpoint: Path

    @property
    def behind(self) -> int:
        """Images that have arrived and have no row yet."""

    def events(self, session: SparkSession) -> DataFrame:
        """A streaming DataFrame with a row for each event."""

    def tasks(self, batch: DataFrame, batch_id: int) -> tuple[int, DataFrame, Read]:
        """The images of a micro-batch, its division into tasks, and what reads their rows."""

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
        # Each is changed by one thread only.
        self._accepted, self._answered_for = waiting(settings), 0

    @property
    def behind(self) -> int:
        """Images that were accepted and have no row yet."""
        return self._accepted - self._answered_for

    def events(self, session: SparkSession) -> DataFrame:
        """The lines of the manifests, in the order of their arrival."""
        session.dataSource.register(ManifestSource)
        reader = session.readStream.format(ManifestSource.name())
        reader = reader.option("path", str(self._settings.manifests))
        return reader.option("images", self._settings.images_per_batch).load()

    def tasks(self, batch: DataFrame, batch_id: int) -> tuple[int, DataFrame, Read]:
        """One task for a few images, else as many as there are cores."""
        session = batch.sparkSession
        before, end = (checkpoint.offset(self.checkpoint, n) for n in (batch_id - 1, batch_id))
        manifests = between(self._settings.manifests, before, end)
        size = count(manifests)
        tasks = session.sparkContext.defaultParallelism if size >= SMALL else 1
        shares = Shares(self._settings.images, manifests, size, tasks)
        return size, session.range(0, tasks, 1, tasks), shares

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

    def __init__(self, images: Path, manifests: Sequence[Path], size: int, tasks: int) -> None:
        """Remembers what is divided.

        Args:
            images: the folder of the images.
            manifests: those of a micro-batch.
            size: their lines.
            tasks: the shares.
        """
        self._images = images
        self._manifests = manifests
        self._size = size
        self._tasks = tasks

    def __call__(self, rows: pd.DataFrame) -> Iterator[Piece]:
        """The events of each task's share, and the paths of their images.

        Raises:
            OSError: this machine does not see a folder, or not all of a manifest: the images are
                not missing.
        """
        for folder in (self._images, *(path.parent for path in self._manifests[:1])):
            if not folder.is_dir():
                raise FileNotFoundError(f"{socket.gethostname()} does not see {folder}")
        found = lines(self._manifests)
        if len(found) != self._size:
            raise OSError(f"{socket.gethostname()} sees {len(found)} of {self._size} lines")
        for number in rows["id"]:
            begin, end = (len(found) * n // self._tasks for n in (number, number + 1))
            for events in parsed(found[begin:end]).to_batches(max_chunksize=PIECE):
                uris, codes = (events[name].to_pylist() for name in ("uri", "error_code"))
                images = [
                    local_path(uri) if code is None else None
                    for uri, code in zip(uris, codes, strict=True)
                ]
                yield pa.Table.from_batches([events]), images


class ManifestSource(DataSource):
    """Spark's view of a folder of manifests."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "sightstream_manifests"

    def schema(self) -> str:
        """The fields of an event."""
        return SCHEMA

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: N802
        """The reader that Spark runs in a Python process beside the driver."""
        return ManifestReader(Path(self.options["path"]), int(self.options["images"]))


class ManifestReader(DataSourceStreamReader):
    """Goes through manifests in the order of their names, as many at once as hold enough images."""

    def __init__(self, folder: Path, images: int) -> None:
        """Remembers the folder, and the images to take at once."""
        self._folder = folder
        self._images = images
        self._end: Offset | None = None

    def initialOffset(self) -> Offset:  # noqa: N802
        """Before the first manifest."""
        return {_KEY: ""}

    def latestOffset(self) -> Offset:  # noqa: N802
        """Where the next micro-batch ends; where the last one did, if nothing came since."""
        end, images = self._end or self.initialOffset(), 0
        for path in between(self._folder, end):
            if images >= self._images:
                break
            images += count([path])
            end = {_KEY: path.name}
        self._end = end
        return end

    def partitions(self, start: Offset, end: Offset) -> Sequence[InputPartition]:
        """A micro-batch as one task; after a start, the first is one that was planned before."""
        self._end = self._end or end
        return [InputPartition((start, end))]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The events of a micro-batch."""
        return iter(parsed(lines(between(self._folder, *partition.value))).to_batches())

    def commit(self, end: Offset) -> None:
        """Deletes what is in the table; the newest stays, so that the next name is above it."""
        for path in between(self._folder, {}, end):
            if path.name < end[_KEY]:
                path.unlink(missing_ok=True)


def between(folder: Path, start: Offset, end: Offset | None = None) -> list[Path]:
    """The manifests after an offset, up to another one or to the newest.

    Args:
        folder: holds them.
        start: is empty before the first micro-batch.
        end: the last one.
    """
    names = published(folder, after=start.get(_KEY, ""))
    return [folder / name for name in names if end is None or name <= end[_KEY]]


def count(manifests: Sequence[Path]) -> int:
    """The events in manifests."""
    return sum(path.read_bytes().count(b"\n") for path in manifests)


def lines(manifests: Sequence[Path]) -> list[bytes]:
    """The lines of manifests, in their order."""
    return [line for path in manifests for line in path.read_bytes().splitlines()]


def parsed(lines: Sequence[bytes]) -> pa.Table:
    """The events of a manifest's lines, in their order."""
    from pyarrow.json import ParseOptions, ReadOptions, read_json

    if not lines:
        return EVENT.empty_table()
    parse = ParseOptions(explicit_schema=EVENT, unexpected_field_behavior="error")
    text = pa.BufferReader(b"\n".join(lines))
    return read_json(text, ReadOptions(use_threads=False), parse).combine_chunks()


def waiting(settings: Settings) -> int:
    """The images in manifests that no committed micro-batch holds."""
    return count(between(settings.manifests, checkpoint.offset(settings.checkpoint("folder"))))
