"""The manifests as Spark reads them, in a Python process of its own: offsets, and rarely rows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql.datasource import DataSourceStreamReader, InputPartition

from sightstream.io import changes
from streaming.folder.manifests import KEY, Offset, between, read

if TYPE_CHECKING:
    import pyarrow as pa

WAIT = 0.2  # seconds that `latestOffset` waits for a manifest; asking anew costs more
LOOK = 0.05  # seconds between two looks meanwhile, unless the system reports a manifest earlier


class ManifestReader(DataSourceStreamReader):
    """Reads manifests in the order of their names, as many at once as hold enough images."""

    def __init__(self, folder: Path, images: int) -> None:
        self._folder = folder
        self._images = images
        self._end: Offset | None = None

    def initialOffset(self) -> Offset:  # noqa: N802
        """Return the offset before the first manifest."""
        return {KEY: ""}

    def latestOffset(self) -> Offset:  # noqa: N802
        """Return the end of the next micro-batch; that of the last one if no manifest comes.

        Spark 4.0 and 4.1 pass neither the start, which `partitions` gets, nor a limit.
        """
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
        """Return one task; the first call after a start is for the micro-batch planned before."""
        self._end = self._end or end
        return [InputPartition((start, end))]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Return the events of a micro-batch."""
        return iter(read(between(self._folder, *partition.value)).to_batches())

    def commit(self, end: Offset) -> None:
        """Delete manifests in the table but for the newest, above whose name the next one is."""
        for path in between(self._folder, {}, end):
            if path.name < end[KEY]:
                path.unlink(missing_ok=True)
