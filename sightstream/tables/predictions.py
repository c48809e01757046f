"""The predictions table without Spark; `path` is its folder, as an absolute path or a uri.

Functions that read raise InputError where there is no table yet.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from sightstream.errors import InputError, first_line
from sightstream.tables import delta
from sightstream.tables.schema import ROW

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.fs import FileSystem

log = logging.getLogger(__name__)

SMALL_FILES = 256
"""Commits after which the small files of a trickle are merged."""

MERGED = 32 * 2**20
"""Bytes from which a file is left as it is, so that no large file is rewritten for few rows."""

KEPT_HOURS = 1
"""Hours that merged files are kept for readers that opened the table earlier."""

LOG_MINUTES = 10
"""Minutes that log entries are kept; each commit lists all of them."""

REPLAYED = 20
"""Commits between checkpoints; each commit replays those since the last one."""

SOURCES_COUNT = "sightstream: seconds of the epoch since which a message's source counts"
"""Mark of the table, for rows that have the id of a message alone as their event id."""

GAP = 2.0
"""Seconds without a new version after which a follower looks for missed ones."""


class Predictions:
    """The table as the stream writes it, one commit for each micro-batch."""

    def __init__(self, path: str) -> None:
        """Open the table, and create it where there is none."""
        from deltalake import DeltaTable

        self.path = path
        configuration = {
            "delta.logRetentionDuration": f"interval {LOG_MINUTES} minutes",
            "delta.checkpointInterval": str(REPLAYED),
        }
        with delta.reached(path), _readable(path):
            self._table = DeltaTable.create(
                path, ROW, mode="ignore", partition_by=["date"], name="predictions",
                description="One row for each image that arrived, classified or rejected.",
                configuration=configuration,
            )  # fmt: skip
            self._unmerged = len(self._table.file_uris())
            self._opened_at = self._table.version()
        self._upkeep = Lock()
        # The open table is one object, and each source's query has a thread.
        self._access = Lock()

    def last_batch(self, app_id: str) -> int | None:
        """Return the last micro-batch that was committed for a checkpoint, if any."""
        with self._access:
            self._table.update_incremental()
            return self._table.transaction_version(app_id)

    def append(self, rows: pa.Table, app_id: str, batch_id: int) -> None:
        """Commit a micro-batch of a checkpoint, with the columns of `schema.ROW`, as a whole."""
        import deltalake

        once = deltalake.CommitProperties(
            app_transactions=[deltalake.Transaction(app_id, batch_id)]
        )
        # Looking for old log entries takes as long as the rest, and upkeep does it.
        after = deltalake.PostCommitHookProperties(cleanup_expired_logs=False)
        # Dictionaries take a third of the time, and most values occur once. Merged files have them.
        columns = deltalake.ColumnProperties(dictionary_enabled=False)
        plainly = deltalake.WriterProperties(
            compression="SNAPPY", default_column_properties=columns
        )
        with self._access:
            if self._table.version() - self._opened_at >= REPLAYED:
                self._table = deltalake.DeltaTable(self.path)
                self._opened_at = self._table.version()
            else:
                # Upkeep may have removed the log entry of the open version.
                self._table.update_incremental()
            deltalake.write_deltalake(
                self._table, delta.plain(rows), mode="append", commit_properties=once,
                post_commithook_properties=after, writer_properties=plainly,
            )  # fmt: skip
            self._unmerged += 1

    def known(self, event_ids: pa.ChunkedArray, dates: pa.ChunkedArray) -> set[str]:
        """Return those of these event ids that the table holds on these dates."""
        found = self._of(event_ids.combine_chunks(), dates.combine_chunks().unique(), ["event_id"])
        return set(found["event_id"].to_pylist())

    def earlier(self, event_ids: Iterable[str], dates: Iterable[date]) -> list[dict[str, Any]]:
        """Return rows of these event ids and dates from before a message's source counted."""
        columns = ["event_id", "uri", "original_name", "bytes", "processed_at"]
        found = self._of(
            pa.array(set(event_ids), pa.string()), pa.array(dates, pa.date32()), columns
        )
        if not len(found):
            return []
        before = datetime.fromtimestamp(self.mark(SOURCES_COUNT, int(time.time())), UTC)
        return [row for row in found.to_pylist() if row["processed_at"] < before]

    def mark(self, name: str, value: int) -> int:
        """Return the number that the table keeps under a name: the value of the first call."""
        import deltalake

        with self._access:
            self._table.update_incremental()
            held = self._table.transaction_version(name)
            if held is None:
                once = deltalake.CommitProperties(
                    app_transactions=[deltalake.Transaction(name, value)]
                )
                schema = pa.schema([field.remove_metadata() for field in ROW])
                self._table.create_write_transaction(
                    [], "append", schema, ["date"], commit_properties=once
                )
        return value if held is None else held

    def _of(self, event_ids: pa.Array, dates: pa.Array, columns: list[str]) -> pa.Table:
        import pyarrow.dataset as ds

        here = ds.field("date").isin(dates) & ds.field("event_id").isin(event_ids)
        with self._access:
            self._table.update_incremental()
            rows = delta.dataset(self._table, self.path)
        return rows.to_table(columns=columns, filter=here)

    def maintain(self, *, quiet: bool) -> bool:
        """Merge small files, and remove unused ones and old log entries.

        Returns:
            False where it had nothing to do: there are too few files, of which two are enough in
            a `quiet` time.
        """
        from deltalake import DeltaTable

        with self._upkeep:
            files = self._unmerged
            if files < (2 if quiet else SMALL_FILES):
                return False
            table = DeltaTable(self.path)
            table.optimize.compact(target_size=MERGED)
            table.vacuum(KEPT_HOURS, dry_run=False, enforce_retention_duration=False)
            table.create_checkpoint()
            table.cleanup_metadata()
            self._unmerged -= files
            return True


def version(path: str) -> int | None:
    """Return the table's last version, which each commit changes; None where there is no table."""
    from deltalake import DeltaTable

    with delta.reached(path):
        return opened(path).version() if DeltaTable.is_deltatable(path) else None


def models_of(path: str, event_ids: Collection[str]) -> dict[str, str | None]:
    """Return the model that answered each of these events, or None where it was rejected.

    Events that the table does not hold are left out.
    """
    import pyarrow.dataset as ds

    here = ds.field("event_id").isin(pa.array(event_ids, pa.string()))
    columns = ["event_id", "model"]
    found = delta.dataset(opened(path), path).to_table(columns=columns, filter=here)
    return dict(zip(*(found[column].to_pylist() for column in columns), strict=True))


def ask(path: str, sql: str) -> pa.Table:
    """Run SQL in DataFusion's dialect over the table `predictions`; needs no DuckDB."""
    from deltalake import QueryBuilder

    with delta.reached(path):
        return pa.table(QueryBuilder().register("predictions", opened(path)).execute(sql))


def latest(path: str, count: int) -> pa.Table:
    """Return the last rows without `top`, the newest at the end; none where there is no table."""
    columns = pa.schema(field for field in ROW if field.name != "top")
    if version(path) is None:
        return columns.empty_table()
    newest = ask(
        path,
        f"SELECT {', '.join(columns.names)} FROM predictions "  # noqa: S608
        f"ORDER BY processed_at DESC, event_id DESC LIMIT {count:d}",
    )
    return newest.cast(columns)[::-1]


def follow(path: str, *, interval: float = 0.05) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each commit from now on; look for it every `interval` seconds."""
    version, looked = opened(path).version() + 1, time.monotonic()
    while True:
        rows = added(path, version)
        if rows is not None:
            version, looked = version + 1, time.monotonic()
            if rows:
                yield rows
        elif time.monotonic() - looked <= GAP:
            time.sleep(interval)
        else:
            newest, looked = opened(path).version(), time.monotonic()
            if newest >= version and added(path, version) is None:
                log.warning("rows were merged before they were seen; a query shows them")
                version = newest


def added(path: str, version: int) -> list[dict[str, Any]] | None:
    """Return the rows of a version's commit; None where there is no log entry for it.

    FileNotFoundError where its files were merged and removed since.
    """
    import pyarrow.dataset as ds

    store = delta.store(path)
    adds = added_files(store, version)
    if not adds:  # None, or no rows
        return adds
    names = [unquote(add["path"]) for add in adds]
    parts = ds.partitioning(pa.schema([ROW.field("date")]), flavor="hive")
    data = ds.dataset(names, schema=ROW, partitioning=parts, filesystem=store)
    return list(data.to_table().sort_by("event_id").to_pylist())


def added_files(store: FileSystem, version: int) -> list[dict[str, Any]] | None:
    """Return the log's actions "add" of a version, or None; merging adds no rows ("dataChange")."""
    try:
        with store.open_input_stream(f"_delta_log/{version:020d}.json") as log:
            commit = log.read().decode()
    except FileNotFoundError:
        return None
    adds = [json.loads(line).get("add") for line in commit.splitlines()]
    return [add for add in adds if add and add["dataChange"]]


def since(path: str, moment: datetime) -> list[dict[str, Any]]:
    """Return the rows that were processed at a moment or later, in order of time."""
    import pyarrow.dataset as ds

    here = ds.field("processed_at") >= moment
    found = delta.dataset(opened(path), path).to_table(filter=here)
    return list(found.sort_by("processed_at").to_pylist())


def opened(path: str) -> DeltaTable:
    """Open the table as it is now.

    Raises:
        InputError: There is no table yet, or it cannot be read.
        EnvironmentUnfitError: Its store cannot be reached.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        with _readable(path), delta.reached(path):
            return DeltaTable(path)
    except TableNotFoundError:
        raise InputError(
            f"there are no predictions in {path} yet; start the stream with: sightstream run"
        ) from None


@contextmanager
def _readable(path: str) -> Iterator[None]:
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        yield
    except DeltaError as error:
        if isinstance(error, TableNotFoundError) and "scheme" not in str(error):
            raise
        raise InputError(f"the table {path} cannot be read: {first_line(error)[:160]}") from None
