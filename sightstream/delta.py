"""What the Delta tables share: their columns as Arrow, and their rows without Spark."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from pyarrow.dataset import Dataset


def schema(columns: Iterable[tuple[str, str, str]], required: Collection[str]) -> pa.Schema:
    """Columns as Arrow, with a comment on each.

    Args:
        columns: name, kind and comment of each.
        required: the names of those that are never null.
    """
    import pyarrow as pa

    top = pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float64())]))
    types = {
        "string": pa.string(), "time": pa.timestamp("us", "UTC"), "double": pa.float64(),
        "top": top, "long": pa.int64(), "int": pa.int32(), "float": pa.float32(),
        "date": pa.date32(),
    }  # fmt: skip
    return pa.schema(
        pa.field(name, types[kind], name not in required, {"comment": comment})
        for name, kind, comment in columns
    )


def dataset(table: DeltaTable, path: Path, since: datetime | None = None) -> Dataset:
    """The rows of an open table as Arrow reads them, from the files in its folder.

    Args:
        table: the open table.
        path: its folder.
        since: leaves out the days before, whose files are then not even listed; for a table that
            is partitioned by date.
    """
    from pyarrow import fs

    # delta-rs would open files through Python, which Arrow's threads may still hold when the
    # process ends: it then aborts (https://github.com/apache/arrow/issues/34314).
    files = fs.SubTreeFileSystem(str(path.absolute()), fs.LocalFileSystem())
    days = [("date", ">=", since.date().isoformat())] if since else None
    return table.to_pyarrow_dataset(partitions=days, filesystem=files)
