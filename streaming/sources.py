"""Where events come from: what a source is, and the manifests as a streaming source of Spark.

Kafka is in `messages`. Spark's own file source lists a folder that only grows, keeps every name it
has seen for ever, and cannot bound a micro-batch by images. This one keeps a single name as its
offset.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, SimpleDataSourceStreamReader
from pyspark.sql.datasource_internal import _SimpleStreamReaderWrapper

from sightstream import checkpoint
from sightstream.config import Settings
from sightstream.events import SCHEMA, local_path
from streaming.classifier import Locate
from streaming.intake import Intake, published

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from sightstream.predictions import Predictions
    from streaming.metrics import Metrics

SMALL = 32
"""Micro-batches of fewer images are one task: a shuffle would cost more than it saves."""

Offset = dict[str, str]

_KEY = "manifest"

_TYPES = {"string": pa.string(), "double": pa.float64(), "long": pa.int64()}
ARROW = pa.schema((n, _TYPES[kind]) for n, kind in (f.split() for f in SCHEMA.split(", ")))
"""The fields of an event as Arrow names them."""


class Source(Protocol):
    """A way that images come in, with a streaming query of its own.

    Attributes:
        name: of the query, its pool of tasks, and the rows' `source`.
        checkpoint: of the query.
    """

    name: str
    checkpoint: Path

    @property
    def locate(self) -> Locate:
        """From an event's uri to its image, in the workers."""

    @property
    def behind(self) -> int:
        """Images that have arrived and have no row yet."""

    def events(self, session: SparkSession) -> DataFrame:
        """A streaming DataFrame with the fields of an event, and `content`, which may be null."""

    def tasks(self, batch: DataFrame, batch_id: int) -> DataFrame:
        """A micro-batch, divided into tasks."""

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
        self.locate = Shared(settings.images)
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
        """Image events in the order of their arrival; their content stays in its files."""
        session.dataSource.register(ManifestSource)
        reader = session.readStream.format(ManifestSource.name())
        reader = reader.option("path", str(self._settings.manifests))
        events = reader.option("images", self._settings.images_per_batch).load()
        return events.selectExpr("*", "CAST(NULL AS BINARY) AS content")

    def tasks(self, batch: DataFrame, batch_id: int) -> DataFrame:
        """One task for a few images, else as many as there are cores."""
        cores = batch.sparkSession.sparkContext.defaultParallelism
        return batch.coalesce(1) if self.behind < SMALL else batch.repartition(cores)

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


class Shared:
    """From uris to paths in the folder of images; goes to the workers with the UDF."""

    def __init__(self, images: Path) -> None:
        """Remembers the folder."""
        self._images = images
        self._there = False

    def __call__(self, uri: str) -> str:
        """The path of an image.

        Raises:
            FileNotFoundError: this machine does not have the folder: the image is not missing.
        """
        if not self._there and not self._images.is_dir():
            raise FileNotFoundError(f"{socket.gethostname()} does not see {self._images}")
        self._there = True
        return local_path(uri)


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
        folder, images = Path(self.options["path"]), int(self.options["images"])
        return _Prefetching(ManifestReader(folder, images))


class ManifestReader(SimpleDataSourceStreamReader):
    """Reads manifests in the order of their names."""

    def __init__(self, folder: Path, images: int) -> None:
        """Remembers the folder, and the images to take at once."""
        self._folder = folder
        self._images = images

    def initialOffset(self) -> Offset:  # noqa: N802
        """Before the first manifest."""
        return {_KEY: ""}

    def read(self, start: Offset) -> tuple[Iterator[pa.RecordBatch], Offset]:
        """The manifests after an offset, as many as hold the wanted number of images."""
        batches: list[pa.RecordBatch] = []
        end = start
        for name in published(self._folder, after=start[_KEY]):
            if sum(batch.num_rows for batch in batches) >= self._images:
                break
            batches += self._events(name)
            end = {_KEY: name}
        return iter(batches), end

    def readBetweenOffsets(  # noqa: N802
        self, start: Offset, end: Offset
    ) -> Iterator[pa.RecordBatch]:
        """The same rows again, for a micro-batch that a crash interrupted."""
        for name in published(self._folder, after=start[_KEY]):
            if name <= end[_KEY]:
                yield from self._events(name)

    def commit(self, end: Offset) -> None:
        """Deletes what is in the table; the newest stays, so that the next name is above it."""
        for name in published(self._folder):
            if name < end[_KEY]:
                (self._folder / name).unlink(missing_ok=True)

    def _events(self, name: str) -> list[pa.RecordBatch]:
        from pyarrow.json import ParseOptions, read_json

        options = ParseOptions(explicit_schema=ARROW, unexpected_field_behavior="error")
        events: list[pa.RecordBatch] = read_json(
            self._folder / name, parse_options=options
        ).to_batches()
        return events


class _Prefetching(_SimpleStreamReaderWrapper):
    """Spark's wrapper remembers each look at the source until a commit, also where it saw nothing.

    An idle stream would grow by 50 entries a second.
    """

    def latestOffset(self) -> Offset:  # noqa: N802
        before = len(self.cache), self.current_offset
        end: Offset = super().latestOffset()
        if end == before[1]:
            del self.cache[before[0] :]
        return end


def waiting(settings: Settings) -> int:
    """The images in manifests that no committed micro-batch holds."""
    after = checkpoint.offset(settings.checkpoint("folder")).get(_KEY, "")
    count = 0
    for name in published(settings.manifests, after):
        with (settings.manifests / name).open("rb") as lines:
            count += sum(1 for _ in lines)
    return count
