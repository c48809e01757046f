"""Small files of a table in a folder, merged by a commit of ours.

delta-rs lists the log before each try to commit a merge. With a day of entries that takes longer
than a trickle's next commit, so that it never succeeds; and it sees no merge of the same files.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from sightstream.tables import commits, delta

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltalake import DeltaTable
    from pyarrow.fs import FileSystem

GROUP = 50_000
"""Rows of a part of a file, of which readers leave out those of other times."""

File = tuple[str, str, int]
"""Day, path as in the log, and bytes."""


def merge(path: str, table: DeltaTable, size: int) -> None:
    """Merge files that are smaller than a size to files of about it.

    Raises:
        AlteredError: Others changed rows of these files, or merged them, meanwhile.
    """
    store, actions = delta.store(path), list[dict[str, Any]]()
    head = commits.head(path, table.version())
    for day, files in groupby(_small(table, size), key=lambda file: file[0]):
        for some in _bins(files, size):
            date: commits.Values = {"date": day}
            actions += [commits.removed(name, bytes_, date) for _, name, bytes_ in some]
            rows = pa.concat_tables([read(table, store, unquote(name)) for _, name, _ in some])
            actions.append(commits.added(store, f"date={day}", date, rows, row_group_size=GROUP))
    if actions:
        commits.rearrange(path, head, actions)


def read(table: DeltaTable, store: FileSystem, name: str) -> pa.Table:
    """Read a file of an open table in the columns that it has now, but those of the partition."""
    import pyarrow.parquet as pq

    schema = pa.schema(table.schema().to_arrow())
    parts = table.metadata().partition_columns
    fields = [field.remove_metadata() for field in schema if field.name not in parts]
    with store.open_input_file(name) as opened:
        rows = pq.ParquetFile(opened).read()
    held = set(rows.column_names)
    columns = [
        rows[field.name].cast(field.type) if field.name in held else pa.nulls(len(rows), field.type)
        for field in fields
    ]
    return pa.table(columns, pa.schema(fields))


def _small(table: DeltaTable, size: int) -> list[File]:
    files = pa.table(table.get_add_actions(flatten=True)).sort_by("modification_time")
    columns = (files[name].to_pylist() for name in ("partition.date", "path", "size_bytes"))
    found = ((str(day), path, length) for day, path, length in zip(*columns, strict=True))
    return sorted((file for file in found if file[2] < size), key=lambda file: file[0])


def _bins(files: Iterator[File], size: int) -> Iterator[list[File]]:
    """Part the files of a day so that each part has about a size, and several files."""
    part: list[File] = []
    for file in files:
        part.append(file)
        if sum(length for _, _, length in part) >= size:
            yield part
            part = []
    if len(part) > 1:
        yield part
