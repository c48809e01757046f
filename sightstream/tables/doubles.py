"""Rows that are in the table twice, since two merged the same files: found, and left out again.

delta-rs and others may commit both merges: https://github.com/delta-io/delta-rs/pull/3982
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa

from sightstream.errors import InputError
from sightstream.tables import commits, delta, merging

if TYPE_CHECKING:
    import numpy as np
    from deltalake import DeltaTable
    from pandas import DataFrame
    from pyarrow.fs import FileSystem

ROW_OF = ["event_id", "processed_at"]
"""Columns that are equal in copies of a row; an id that arrived again has another time."""

Choice = Callable[[pa.Table], tuple[list[str] | None, pa.Table]]
"""Of the table's files: those that are gone, or None; and those to leave rows out of."""

BEFORE = 100
"""Commits that a merge is compared with which does not say what version it read."""


class Double(NamedTuple):
    """A commit that merged files which another had merged, changed or left out already.

    Or one that restored files.
    """

    days: set[str]
    gone: list[str]
    """Paths of those files; what became of their rows is elsewhere in the table."""
    made: list[str]
    """Paths of the files that the commit made."""


def doubles(path: str, versions: Iterable[int]) -> list[Double]:
    """Return what commits in order merged that was merged already, or restored.

    A file that was restored may have the only copy of its rows, whatever became of it before: of
    earlier commits, the days alone are looked at.
    """
    found: list[Double] = []
    for version in versions:
        if one := double(path, version):
            if not one.gone:
                found = [Double(each.days, [], []) for each in found]
            found.append(one)
    return found


def double(path: str, version: int) -> Double | None:
    """Return what a version's commit merged that was merged already; None where nothing.

    What a commit restored may have been double.
    """
    store = delta.store(path)
    actions = delta.commit(store, version) or []
    said: dict[str, Any] = next(iter(_all(actions, "commitInfo")), {})
    if said.get("operation") == "RESTORE":
        return Double({_day(each) for each in _all(actions, "add")}, [], [])
    merged = {each["path"]: each for each in _all(actions, "remove") if not each["dataChange"]}
    if not merged:
        return None
    gone: set[str] = set()
    for other in range(said.get("readVersion", version - BEFORE) + 1, version):
        between = delta.commit(store, other) or []
        gone |= {each["path"] for each in _all(between, "remove")}
        gone -= {each["path"] for each in _all(between, "add")}  # restored
    twice = [path for path in merged if path in gone]
    made = [each["path"] for each in _all(actions, "add")]
    return Double({_day(merged[each]) for each in twice}, twice, made) if twice else None


def count(table: DeltaTable) -> int:
    """Count the copies of rows beyond the first, in the whole table."""
    from deltalake import QueryBuilder

    sql = (
        "SELECT coalesce(sum(copies - 1), 0) AS doubled FROM (SELECT count(*) AS copies "  # noqa: S608
        f"FROM predictions WHERE date = DATE '{{}}' GROUP BY {', '.join(ROW_OF)}) WHERE copies > 1"
    )
    # A day at a time, since each row takes memory.
    rows = QueryBuilder().register("predictions", table)
    days = pa.table(rows.execute("SELECT DISTINCT date FROM predictions"))["date"].to_pylist()
    found = [pa.table(rows.execute(sql.format(day)))["doubled"][0].as_py() for day in days]
    return int(sum(found))


def leave_out(path: str, doubles: Iterable[Double]) -> int:
    """Leave out the copies of rows that commits made, and any others of their days.

    Returns:
        The number of rows that were left out.

    Raises:
        InputError: The table has deletion vectors, so that a file does not say which rows are left.
    """
    found = list(doubles)
    files = [partial(_files_of, each) for each in found]
    files += [
        partial(_files_on, day) for day in sorted({day for each in found for day in each.days})
    ]
    return sum(commits.tried(partial(_leave_out, path, each), lambda: None) for each in files)


def _leave_out(path: str, files: Choice) -> int:
    from deltalake import DeltaTable

    table = DeltaTable(path)
    head = commits.head(path, table.version())
    before, after = files(pa.table(table.get_add_actions(flatten=True)))
    if not _are_plain(table, after["path"].to_pylist()):
        raise InputError(
            f"{path} has rows twice, and deletion vectors or mapped columns, so that its files do "
            "not say which rows are left; REORG TABLE of Delta Lake's Spark purges them"
        )
    actions, doubled = _actions(table, delta.store(path), before, after)
    if actions:
        commits.rearrange(path, table, head, actions)
    return doubled


def _are_plain(table: DeltaTable, paths: list[str]) -> bool:
    """Tell whether files hold the rows of an open table and no others, under their own names."""
    protocol = table.protocol()
    if protocol.min_reader_version == 1 or not paths:
        return True
    if "deletionVectors" not in (protocol.reader_features or ()):
        return False
    mapped = "delta.columnMapping.mode" in table.metadata().configuration
    return not mapped and not merging.masked(table, paths)


def _files_of(double: Double, files: pa.Table) -> tuple[list[str] | None, pa.Table]:
    """Return the files whose rows are elsewhere, and those of a commit that hold them again."""
    import pyarrow.compute as pc

    made = files.filter(pc.is_in(files["path"], pa.array(double.made, pa.string())))
    return double.gone, made if len(made) == len(double.made) else made[:0]


def _files_on(day: str, files: pa.Table) -> tuple[list[str] | None, pa.Table]:
    """Return all files of a day; the newest first, since it has what others made of a row.

    Where the table is not partitioned by days, all files may have rows of the day.
    """
    if (date := "partition.date") in files.column_names:
        here = [str(each) == day for each in files[date].to_pylist()]
        files = files.filter(pa.array(here, pa.bool_()))
    order = [("modification_time", "descending"), ("path", "ascending")]
    return None, files.sort_by(order)


def _actions(
    table: DeltaTable, store: FileSystem, gone: list[str] | None, files: pa.Table
) -> tuple[list[Any], int]:
    """Return what leaves rows out of files, and their number: those of files that are gone.

    None: all copies beyond the first.
    """
    paths, sizes = (files[name].to_pylist() for name in ("path", "size_bytes"))
    actions: list[dict[str, Any]] = []
    doubled = 0
    kept = _kept(store, gone, paths)
    for path, size, values, keep in zip(paths, sizes, merging.values(files), kept, strict=True):
        if not keep.all():
            doubled += int((~keep).sum())
            actions.append(commits.removed(path, size, values))
        if keep.any() and not keep.all():
            rows = merging.read(table, store, unquote(path)).filter(pa.array(keep))
            actions.append(commits.added(store, unquote(path).rpartition("/")[0], values, rows))
    return actions, doubled


def _kept(store: FileSystem, gone: list[str] | None, paths: list[str]) -> list[np.ndarray]:
    """Tell of each row of each file whether it is kept."""
    import numpy as np

    if not paths:
        return []
    rows = _keys(store, paths)
    copy = rows.groupby(ROW_OF).cumcount()
    if gone is None:
        keep = (copy == 0).to_numpy()
    else:
        # As many copies as these files had: where rows were there twice before, the rest are right.
        there = [each for each in gone if store.get_file_info(unquote(each)).is_file]
        less = _keys(store, there).groupby(ROW_OF).size().rename("less")
        keep = copy.to_numpy() >= rows.join(less, ROW_OF)["less"].fillna(0).to_numpy()
    ends = np.cumsum(np.bincount(rows["file"], minlength=len(paths)))
    return np.split(keep, ends)[: len(paths)]


def _keys(store: FileSystem, paths: list[str]) -> DataFrame:
    import pandas as pd
    import pyarrow.parquet as pq

    schema = pa.schema([("event_id", pa.string()), ("processed_at", pa.timestamp("us", "UTC"))])
    frames = [schema.empty_table().to_pandas().assign(file=0)]
    for number, path in enumerate(paths):
        read = pq.read_table(unquote(path), columns=ROW_OF, filesystem=store, partitioning=None)
        frames.append(read.cast(schema).to_pandas().assign(file=number))
    rows: DataFrame = pd.concat(frames[1:] or frames, ignore_index=True)
    return rows


def _all(actions: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each[kind] for each in actions if kind in each]


def _day(file: dict[str, Any]) -> str:
    """Return the day of a file, which not every writer of a removal says but in its path."""
    values = file.get("partitionValues") or {}
    return values.get("date") or unquote(file["path"]).partition("date=")[2].partition("/")[0]
