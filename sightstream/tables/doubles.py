"""Rows that are in the table twice, since two merged the same files: found, and left out again.

delta-rs and others may commit both merges: https://github.com/delta-io/delta-rs/pull/3982
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from sightstream.errors import InputError
from sightstream.tables import commits, delta, merging

if TYPE_CHECKING:
    import numpy as np
    from deltalake import DeltaTable
    from pyarrow.fs import FileSystem

ROW_OF = ["event_id", "processed_at"]
"""Columns that are equal in copies of a row; an id that arrived again has another time."""

BEFORE = 100
"""Commits that a merge is compared with which does not say what version it read."""


def suspects(path: str, version: int) -> set[str]:
    """Return the days of which a version's commit merged files that were merged already."""
    store = delta.store(path)
    actions = delta.commit(store, version) or []
    merged = {each["path"]: each for each in _removed(actions) if not each["dataChange"]}
    if not merged:
        return set()
    said: dict[str, Any] = next(
        (each["commitInfo"] for each in actions if "commitInfo" in each), {}
    )
    gone: set[str] = set()
    for other in range(said.get("readVersion", version - BEFORE) + 1, version):
        gone |= {each["path"] for each in _removed(delta.commit(store, other) or [])}
    return {_day(each) for path, each in merged.items() if path in gone}


def count(table: DeltaTable) -> int:
    """Count the copies of rows beyond the first, in the whole table."""
    from deltalake import QueryBuilder

    sql = (
        "SELECT coalesce(sum(copies - 1), 0) AS doubled FROM (SELECT count(*) AS copies "  # noqa: S608
        f"FROM predictions WHERE date = DATE '{{}}' GROUP BY {', '.join(ROW_OF)}) WHERE copies > 1"
    )
    # A day at a time, since each row takes memory.
    days = {str(each["date"]) for each in table.partitions()}
    rows = QueryBuilder().register("predictions", table)
    found = [pa.table(rows.execute(sql.format(day)))["doubled"][0].as_py() for day in days]
    return int(sum(found))


def leave_out(path: str, days: Iterable[str]) -> int:
    """Leave out the copies of rows beyond the first on some days, a commit each.

    Returns:
        The number of rows that were left out.

    Raises:
        InputError: The table has deletion vectors, so that a file does not say which rows are left.
    """
    return sum(commits.tried(partial(_leave_out, path, day), lambda: None) for day in days)


def _leave_out(path: str, day: str) -> int:
    from deltalake import DeltaTable

    table = DeltaTable(path)
    if "deletionVectors" in (table.protocol().reader_features or ()):
        raise InputError(f"{path} has rows twice and deletion vectors; REORG TABLE purges them")
    actions, doubled = _actions(table, delta.store(path), day)
    if actions:
        _commit(path, table, actions)
    return doubled


def _commit(path: str, table: DeltaTable, actions: list[dict[str, Any]]) -> None:
    if commits.plain(table):
        commits.rearrange(path, table.version(), actions)
        return
    from deltalake import CommitProperties
    from deltalake.transaction import AddAction, RemoveAction

    named = [
        (RemoveAction if kind == "remove" else AddAction)(**{
            _NAMES.get(name, name): value
            for name, value in action.items() if name != "extendedFileMetadata"
        })
        for each in actions for kind, action in each.items()
    ]  # fmt: skip
    read = CommitProperties(custom_metadata={"readVersion": table.version()})
    table.create_write_transaction(
        named, "append", table.schema(), ["date"], commit_properties=read
    )


_NAMES = {
    "partitionValues": "partition_values", "modificationTime": "modification_time",
    "dataChange": "data_change", "deletionTimestamp": "deletion_timestamp",
}  # fmt: skip


def _actions(table: DeltaTable, store: FileSystem, day: str) -> tuple[list[Any], int]:
    """Return what leaves out the copies of rows of a day, and their number."""
    files = pa.table(table.get_add_actions(flatten=True))
    files = files.filter(pa.array(str(each) == day for each in files["partition.date"].to_pylist()))
    # Where others changed one of two copies, the newest file has what they made of the row.
    files = files.sort_by([("modification_time", "descending"), ("path", "ascending")])
    paths, sizes = files["path"].to_pylist(), files["size_bytes"].to_pylist()
    actions: list[dict[str, Any]] = []
    doubled = 0
    for path, size, once in zip(paths, sizes, _once(store, map(unquote, paths)), strict=True):
        if not once.all():
            doubled += int((~once).sum())
            actions.append(commits.removed(path, size, day))
        if once.any() and not once.all():
            rows = merging.read(table, store, unquote(path)).filter(pa.array(once))
            actions.append(commits.added(store, day, rows))
    return actions, doubled


def _once(store: FileSystem, names: Iterable[str]) -> list[np.ndarray]:
    """Tell of each row of each file whether none before is its copy."""
    import numpy as np
    import pyarrow.parquet as pq

    schema = pa.schema([("event_id", pa.string()), ("processed_at", pa.timestamp("us", "UTC"))])
    tables = [
        pq.read_table(name, columns=ROW_OF, filesystem=store, partitioning=None).cast(schema)
        for name in names
    ]
    rows = pa.concat_tables([schema.empty_table(), *tables])
    numbered = rows.append_column("row", [np.arange(len(rows))])
    first = numbered.group_by(ROW_OF).aggregate([("row", "min")])["row_min"]
    once = np.zeros(len(rows), bool)
    once[first.to_numpy()] = True
    return np.split(once, np.cumsum([len(table) for table in tables])[:-1])


def _removed(actions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each["remove"] for each in actions if "remove" in each]


def _day(removed: dict[str, Any]) -> str:
    """Return the day of a removed file, which not every writer says but in its path."""
    values = removed.get("partitionValues") or {}
    return values.get("date") or unquote(removed["path"]).partition("date=")[2].partition("/")[0]
