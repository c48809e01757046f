"""Small files of a table, merged by a commit of ours.

delta-rs lists the log before each try to commit a merge. With a day of entries that takes longer
than a trickle's next commit, so that it never succeeds; and it sees no merge of the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from sightstream.tables import commits, delta

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deltalake import DeltaTable
    from pyarrow.fs import FileSystem

GROUP = 50_000
"""Rows of a part of a file, of which readers leave out those of other times."""

READERS = 16
"""Files of a store that are read at once, where each takes some answers to wait for."""

File = tuple[str, int]
"""Path as in the log, and bytes."""


def merge(path: str, table: DeltaTable, size: int) -> None:
    """Merge files that are smaller than a size to files of about it.

    Files with deletion vectors stay as they are.

    Raises:
        AlteredError: Others changed rows of these files, or merged them, meanwhile.
    """
    store, actions = delta.store(path), list[dict[str, Any]]()
    head = commits.head(path, table.version())
    with ThreadPoolExecutor(READERS if "://" in path else 1) as readers:
        for part, files in _small(table, size):
            for some in _bins(files, size):
                names = [unquote(name) for name, _ in some]
                rows = pa.concat_tables(readers.map(partial(read, table, store), names))
                folder = names[0].rpartition("/")[0]
                actions += [commits.removed(name, bytes_, part) for name, bytes_ in some]
                actions.append(commits.added(store, folder, part, rows, row_group_size=GROUP))
    if actions:
        commits.rearrange(path, table, head, actions)


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


def values(files: pa.Table) -> list[commits.Values]:
    """Return the values of each file's partition, as the log has them."""
    parts = [name for name in files.column_names if name.startswith("partition.")]
    return [
        {name.removeprefix("partition."): None if value is None else str(value)
         for name, value in row.items()}
        for row in files.select(parts).to_pylist()
    ] if parts else [{} for _ in range(len(files))]  # fmt: skip


def masked(table: DeltaTable, paths: Sequence[str]) -> set[str]:
    """Return those of the paths, as in the log, whose files have rows that are gone."""
    if "deletionVectors" not in (table.protocol().reader_features or ()):
        return set()
    found = pa.table(table.deletion_vectors())["filepath"].to_pylist()
    names = {each.rpartition("/")[2] for each in found}  # no two files have the same
    return {path for path in paths if path.rpartition("/")[2] in names}


def _small(table: DeltaTable, size: int) -> Iterator[tuple[commits.Values, list[File]]]:
    """Yield each partition and its small files, the oldest first."""
    files = pa.table(table.get_add_actions(flatten=True)).sort_by("modification_time")
    paths, sizes = (files[name].to_pylist() for name in ("path", "size_bytes"))
    whole, found = masked(table, paths), dict[tuple[str | None, ...], list[File]]()
    parts = values(files)
    for path, length, part in zip(paths, sizes, parts, strict=True):
        if length < size and path not in whole:
            found.setdefault(tuple(part.values()), []).append((path, length))
    names = list(parts[0]) if parts else []
    for held, small in found.items():
        yield dict(zip(names, held, strict=True)), small


def _bins(files: Iterable[File], size: int) -> Iterator[list[File]]:
    """Part the files of a partition so that each part has about a size, and several files."""
    part: list[File] = []
    for file in files:
        part.append(file)
        if sum(length for _, length in part) >= size:
            yield part
            part = []
    if len(part) > 1:
        yield part
