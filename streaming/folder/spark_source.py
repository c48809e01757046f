"""The manifests as a streaming data source, which Spark runs in Python processes of its own.

Several start one after the other before the first micro-batch, and the first two need no more than
this class, so this module imports next to nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql.datasource import DataSource, DataSourceStreamReader

if TYPE_CHECKING:
    from pyspark.sql.types import StructType


class ManifestSource(DataSource):
    """The format `sightstream_manifests`, with the options `path` and `images`."""

    @classmethod
    def name(cls) -> str:
        """Name of the format."""
        return "sightstream_manifests"

    def schema(self) -> str:
        """The fields of an event, which `events` tells Spark beforehand."""
        from sightstream.tables.schema import EVENT_COLUMNS, ddl

        return ddl(EVENT_COLUMNS)

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: N802
        """Return the reader that Spark runs in a Python process beside the driver."""
        from streaming.folder.spark_reader import ManifestReader

        return ManifestReader(Path(self.options["path"]), int(self.options["images"]))
