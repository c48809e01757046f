"""Delta tables: where they lie, and their rows without Spark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from sightstream.errors import EnvironmentUnfitError

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from pyarrow.dataset import Dataset
    from pyarrow.fs import FileSystem


def plain(rows: pa.Table) -> pa.Table:
    """Rows without comments on their columns, which must be those of the table word for word."""
    import pyarrow as pa

    return rows.cast(pa.schema([field.remove_metadata() for field in rows.schema]))


@lru_cache(8)
def store(place: str) -> FileSystem:
    """A folder as Arrow's file system, with paths relative to it.

    Args:
        place: its absolute path, or its uri.
    """
    from pyarrow import fs

    if "://" in place:
        files, folder = fs.FileSystem.from_uri(place)
        return fs.SubTreeFileSystem(folder, files)
    return fs.SubTreeFileSystem(place, fs.LocalFileSystem())


@contextmanager
def reached(place: str) -> Iterator[None]:
    """Tells in a sentence what a store's client tells in ten lines.

    Args:
        place: the folder that is looked into; errors of local ones say enough.

    Raises:
        EnvironmentUnfitError: the store is away, or refuses us.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if "://" not in place:
            raise
        lines = re.sub(r"\x1b\[\d+m", "", str(error)).split("\n")
        reason = [line.strip(" \u21b3") for line in lines if line.strip(" \u21b3")][-1]
        raise EnvironmentUnfitError(
            f"{place} cannot be reached: {reason}; see docs/scaling.md for what leads to a store"
        ) from None


def dataset(table: DeltaTable, place: str, since: datetime | None = None) -> Dataset:
    """The rows of an open table as Arrow reads them.

    Args:
        table: the open table.
        place: its folder, as an absolute path or a uri.
        since: leaves out the days before, whose files are then not even listed; for a table that
            is partitioned by date.
    """
    # delta-rs would open files through Python, which Arrow's threads may still hold when the
    # process ends: it then aborts (https://github.com/apache/arrow/issues/34314).
    days = [("date", ">=", since.date().isoformat())] if since else None
    return table.to_pyarrow_dataset(partitions=days, filesystem=store(place))
