"""Where the stream's events come from: the manifests, as a streaming source of Spark.

Spark's own file source lists a folder that only grows, keeps every name it has seen for ever, and
cannot bound a micro-batch by images. This one keeps a single name as its offset.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, SimpleDataSourceStreamReader
from pyspark.sql.datasource_internal import _SimpleStreamReaderWrapper

from sightstream import checkpoint
from sightstream.config import Settings
from sightstream.events import SCHEMA
from streaming.intake import published

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

Offset = dict[str, str]

_KEY = "manifest"

_TYPES = {"string": pa.string(), "double": pa.float64(), "long": pa.int64()}
_ARROW = pa.schema((n, _TYPES[kind]) for n, kind in (f.split() for f in SCHEMA.split(", ")))


def manifests(spark: SparkSession, settings: Settings) -> DataFrame:
    """A streaming DataFrame of image events, in the order of their arrival.

    Args:
        spark: the session.
        settings: the folder of the manifests, and the images that a micro-batch aims at.
    """
    spark.dataSource.register(ManifestSource)
    reader = spark.readStream.format(ManifestSource.name()).option("path", str(settings.manifests))
    return reader.option("images", settings.images_per_batch).load()


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

        options = ParseOptions(explicit_schema=_ARROW, unexpected_field_behavior="error")
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
    after = checkpoint.committed_offset(settings.checkpoint("folder")).get(_KEY, "")
    count = 0
    for name in published(settings.manifests, after):
        with (settings.manifests / name).open("rb") as lines:
            count += sum(1 for _ in lines)
    return count
