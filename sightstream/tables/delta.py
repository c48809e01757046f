"""Delta tables: where they lie, and their rows without Spark."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import lru_cache, reduce
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import fs

from sightstream.errors import EnvironmentUnfitError, InputError, first_line

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.compute import Expression
    from pyarrow.dataset import Dataset, FileSystemDataset, ParquetFileFragment


log = logging.getLogger(__name__)


def fitted(rows: pa.Table, table: DeltaTable) -> pa.Table:
    """Give rows the columns of an open table, in which others may have added and widened some.

    A column that the rows lack is null; one that the table lacks is left out. Comments are dropped:
    delta-rs refuses rows with others than the table has.

    Raises:
        InputError: The table demands what the rows do not have.
    """
    fields = [field.remove_metadata() for field in pa.schema(table.schema().to_arrow())]
    held, names = set(rows.column_names), [field.name for field in fields]
    lacking = [field.name for field in fields if not field.nullable and field.name not in held]
    lacking += [f.name for f in rows.schema if not f.nullable and f.name not in names]
    if lacking:
        raise InputError(
            f"the table {table.table_uri} takes no rows of sightstream, because of its columns "
            f"{', '.join(lacking)}: those that others add must be nullable, and ours must stay"
        )
    columns = [
        rows[field.name] if field.name in held else pa.nulls(len(rows), field.type)
        for field in fields
    ]
    return pa.table(columns, names).cast(pa.schema(fields))


def widen(table: DeltaTable, schema: pa.Schema) -> None:
    """Add the nullable columns of a schema that an open table of an earlier release lacks."""
    from deltalake import Schema
    from deltalake.exceptions import DeltaError

    held = {field.name for field in table.schema().fields}
    new = pa.schema(field for field in schema if field.nullable and field.name not in held)
    if not len(new):
        return
    try:
        table.alter.add_columns(list(Schema.from_arrow(new).fields))
    except DeltaError as error:  # rows are written without them
        log.warning("%s gets no column %s: %s", table.table_uri, ", ".join(new.names), error)


def text(column: str) -> Expression:
    """Name a column of strings in a filter.

    Arrow compares no string with the string views that delta-rs writes where it changes rows,
    unless the column is cast.
    """
    import pyarrow.compute as pc

    return pc.field(column).cast(pa.string())


@lru_cache(8)
def store(place: str) -> fs.FileSystem:
    """Return Arrow's file system of a folder, from its absolute path or uri."""
    if "://" in place:
        files, folder = fs.FileSystem.from_uri(place)
        return fs.SubTreeFileSystem(folder, files)
    return fs.SubTreeFileSystem(place, fs.LocalFileSystem())


@contextmanager
def reached(place: str) -> Iterator[None]:
    """Raise InputError where a file is in the way of a table's folder.

    EnvironmentUnfitError, with one line of the client's ten, where the folder or its store fails.
    """
    remote = "://" in place
    there = Path("/" if remote else place)
    found = next(each for each in (there, *there.parents) if each.exists())
    if not found.is_dir():
        raise InputError(f"the table {place} cannot be read: {found} is no folder; move it away")
    try:
        yield
    except (OSError, RuntimeError) as error:
        lines = re.sub(r"\x1b\[\d+m", "", str(error)).split("\n")
        if len(lines) == 1 and not remote:
            raise
        reason = [line.strip(" \u21b3") for line in lines if line.strip(" \u21b3")][-1][:160]
        more = "; see docs/scaling.md for what leads to a store" if remote else ""
        raise EnvironmentUnfitError(f"{place} cannot be reached: {reason}{more}") from None


@contextmanager
def readable(place: str) -> Iterator[None]:
    """Raise InputError where a table is damaged, or has not the columns that are asked for.

    TableNotFoundError is left to the caller.
    """
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        yield
    except (DeltaError, pa.ArrowException) as error:
        if isinstance(error, TableNotFoundError) and "scheme" not in str(error):
            raise
        raise InputError(f"the table {place} cannot be read: {first_line(error)[:160]}") from None


def dataset(table: DeltaTable, place: str, since: date | None = None) -> Dataset:
    """Return the rows of an open table in a folder, for Arrow to read.

    In a table that is partitioned by date, files of days before `since` are not even listed.
    """
    import pyarrow.dataset as ds

    if table.protocol().min_reader_version > 1:
        # Arrow knows neither deletion vectors nor mapped columns: others' rows lie in memory.
        return ds.dataset(_scanned(table, place, f"date >= DATE '{since}'" if since else None))
    # delta-rs would open files through Python, which Arrow's threads may still hold when the
    # process ends: it then aborts (https://github.com/apache/arrow/issues/34314).
    by_day = since and "date" in table.metadata().partition_columns
    days = [("date", ">=", since.isoformat())] if since and by_day else None
    return _without_gaps(table.to_pyarrow_dataset(partitions=days, filesystem=store(place)))


def _without_gaps(found: FileSystemDataset) -> Dataset:
    """Keep files of which Arrow would think that a column has no value.

    Where a file lacks the statistics of a column that others have, delta-rs 1.6.6 says that its
    values are at least, and at most, null. Such files keep the values of their partition alone.
    """
    import pyarrow.dataset as ds

    def without(file: ParquetFileFragment) -> ParquetFileFragment:
        known = [
            ds.field(name).is_null() if value is None else ds.field(name) == value
            for name, value in ds.get_partition_keys(file.partition_expression).items()
        ]
        expression = reduce(and_, known, ds.scalar(True))
        return found.format.make_fragment(file.path, file.filesystem, expression)

    files = list(found.get_fragments())
    gaps = [" null[" in str(each.partition_expression) for each in files]
    if not any(gaps):
        return found
    files = [without(file) if gap else file for file, gap in zip(files, gaps, strict=True)]
    return ds.FileSystemDataset(files, found.schema, found.format, found.filesystem)


def _scanned(table: DeltaTable, place: str, predicate: str | None) -> pa.Table:
    with readable(place):
        rows = pa.table(table.scan(predicate=predicate).read_all())
    return rows.cast(pa.schema(table.schema().to_arrow()))


def commit(store: fs.FileSystem, version: int) -> list[dict[str, Any]] | None:
    """Return the actions of a version's log entry; None where there is none.

    InputError where it is damaged.
    """
    held = entry(store, version)
    if held is None:
        return None
    try:
        return [dict(json.loads(line)) for line in held.splitlines() if line.strip()]
    except (TypeError, ValueError, RecursionError):
        raise InputError(
            f"{entry_name(version)} of the table is damaged; restore this file from a backup"
        ) from None


def entry_name(version: int) -> str:
    """Return the place of a version's log entry below a table's folder."""
    return f"_delta_log/{version:020d}.json"


def entry(store: fs.FileSystem, version: int) -> bytes | None:
    """Return a version's log entry as it is; None where there is none."""
    try:
        with store.open_input_stream(entry_name(version)) as log:
            return bytes(log.read())
    except FileNotFoundError:
        return None


def has(place: str, name: str) -> bool:
    """Tell whether there is a file of this name below a table's folder."""
    return bool(store(place).get_file_info(name).type != fs.FileType.NotFound)
