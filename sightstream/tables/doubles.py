"""Rows that are in the table twice, since two merged the same files: found, and left out again.

delta-rs and others may commit both merges: https://github.com/delta-io/delta-rs/pull/3982
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from uuid import uuid4

import pyarrow as pa

from sightstream.errors import InputError
from sightstream.tables import delta

if TYPE_CHECKING:
    import numpy as np
    from deltalake import DeltaTable
    from pyarrow.fs import FileSystem

ROW_OF = ["event_id", "processed_at"]
"""Columns that are equal in copies of a row; an id that arrived again has another time."""

TRIES = 5
"""Times that copies are left out of files whose rows others change meanwhile."""

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
    return sum(_leave_out(path, day) for day in days)


def _leave_out(path: str, day: str) -> int:
    from deltalake import CommitProperties, DeltaTable
    from deltalake.exceptions import CommitFailedError

    store = delta.store(path)
    for tries_left in range(TRIES - 1, -1, -1):
        table = DeltaTable(path)
        if "deletionVectors" in (table.protocol().reader_features or ()):
            raise InputError(f"{path} has rows twice and deletion vectors; REORG TABLE purges them")
        actions, doubled = _actions(table, store, day)
        properties = CommitProperties(custom_metadata={"readVersion": table.version()})
        try:
            if actions:
                table.create_write_transaction(
                    actions, "append", table.schema(), ["date"], commit_properties=properties
                )
            break
        except CommitFailedError:  # others changed rows of these files meanwhile
            if not tries_left:
                raise
    return doubled


def _actions(table: DeltaTable, store: FileSystem, day: str) -> tuple[list[Any], int]:
    """Return what leaves out the copies of rows of a day, and their number."""
    files = pa.table(table.get_add_actions(flatten=True))
    files = files.filter(pa.array(str(each) == day for each in files["partition.date"].to_pylist()))
    # Where others changed one of two copies, the newest file has what they made of the row.
    files = files.sort_by([("modification_time", "descending"), ("path", "ascending")])
    names = [unquote(name) for name in files["path"].to_pylist()]
    sizes = files["size_bytes"].to_pylist()
    actions: list[Any] = []
    doubled = 0
    for name, size, once in zip(names, sizes, _once(store, names), strict=True):
        if not once.all():
            doubled += int((~once).sum())
            actions += [_remove(name, size, day), *_written(table, store, name, day, once)]
    return actions, doubled


def _once(store: FileSystem, names: list[str]) -> list[np.ndarray]:
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


def _remove(name: str, size: int, day: str) -> Any:
    from deltalake.transaction import RemoveAction

    return RemoveAction(
        quote(name, safe="/=+"), False, int(time.time() * 1000),
        size=size, partition_values={"date": day},
    )  # fmt: skip


def _written(
    table: DeltaTable, store: FileSystem, name: str, day: str, once: np.ndarray
) -> list[Any]:
    """Write those rows of a file anew, if any, and return the action that adds them."""
    import pyarrow.parquet as pq
    from deltalake.transaction import AddAction

    if not once.any():
        return []
    schema = pa.schema(table.schema().to_arrow())
    fields = [field.remove_metadata() for field in schema if field.name != "date"]
    rows = pq.read_table(name, filesystem=store, partitioning=None)
    for field in fields:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    rows = rows.select([field.name for field in fields]).cast(pa.schema(fields))
    rows = rows.filter(pa.array(once))  # which takes no string views
    new = f"{PurePosixPath(name).parent}/part-00000-{uuid4()}-c000.snappy.parquet"
    pq.write_table(rows, new, filesystem=store)
    size, now = store.get_file_info(new).size, int(time.time() * 1000)
    stats = json.dumps({"numRecords": len(rows)})
    return [AddAction(quote(new, safe="/=+"), size, {"date": day}, now, False, stats)]


def _removed(actions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each["remove"] for each in actions if "remove" in each]


def _day(removed: dict[str, Any]) -> str:
    """Return the day of a removed file, which not every writer says but in its path."""
    values = removed.get("partitionValues") or {}
    return values.get("date") or unquote(removed["path"]).partition("date=")[2].partition("/")[0]
