"""The manifests as a streaming source of Spark.

Spark's own file source lists a folder that only grows, keeps every name it has seen for ever, and
cannot bound a micro-batch by images. This one keeps a single name as its offset.

Spark runs it in Python processes of its own, one after the other before the first micro-batch, each
of which imports this module: it brings in little.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition

from sightstream.io import changes
from sightstream.tables.schema import EVENT_COLUMNS, ddl
from streaming.folder.manifests import KEY, Offset, between, read

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.types import StructType

WAIT = 0.2
"""Seconds that Spark waits for a manifest before it asks anew, which costs more than to wait."""

LOOK = 0.05
"""Seconds from look to look meanwhile, unless the system tells of a manifest."""


class ManifestSource(DataSource):
    """Spark's view of a folder of manifests."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "sightstream_manifests"

    def schema(self) -> str:
        """The fields of an event."""
        return ddl(EVENT_COLUMNS)

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
        return {KEY: ""}

    def latestOffset(self) -> Offset:  # noqa: N802
        """Where the next micro-batch ends; where the last one did, if nothing comes for a while."""
        end, images = self._end or self.initialOffset(), 0
        deadline = time.monotonic() + WAIT
        while not (found := between(self._folder, end)) and time.monotonic() < deadline:
            changes.wait(os.fsencode(self._folder), LOOK)
        for path in found:
            if images >= self._images:
                break
            images += len(read([path]))
            end = {KEY: path.name}
        self._end = end
        return end

    def partitions(self, start: Offset, end: Offset) -> Sequence[InputPartition]:
        """A micro-batch as one task; after a start, the first is one that was planned before."""
        self._end = self._end or end
        return [InputPartition((start, end))]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The events of a micro-batch."""
        return iter(read(between(self._folder, *partition.value)).to_batches())

    def commit(self, end: Offset) -> None:
        """Deletes what is in the table; the newest stays, so that the next name is above it."""
        for path in between(self._folder, {}, end):
            if path.name < end[KEY]:
                path.unlink(missing_ok=True)
