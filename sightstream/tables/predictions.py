"""The predictions table: its schema, its commits, and reading it without Spark."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Iterator
from datetime import datetime
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from sightstream.errors import InputError, first_line
from sightstream.tables import delta
from sightstream.tables.schema import ROW

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa
    from deltalake import DeltaTable
    from pyarrow.fs import FileSystem

log = logging.getLogger(__name__)

SMALL_FILES = 256
"""Commits after which the small files of a trickle are merged."""

MERGED = 32 * 2**20
"""Bytes from which a file is left as it is: a day's only file would be written anew, in seconds,
for each few hundred rows.
"""

KEPT_HOURS = 1
"""How long readers that opened the table earlier can go on reading the files they know."""

LOG_MINUTES = 10
"""How long the entries of the log are kept: every commit lists them, and all its checkpoints."""

REPLAYED = 20
"""Commits from checkpoint to checkpoint: each commit replays all that came after the one that the
table was opened with.
"""

GAP = 2.0
"""Seconds without a new version after which a follower asks whether it has missed any."""


class Predictions:
    """The table as the stream writes it, one commit for each micro-batch."""

    def __init__(self, path: str) -> None:
        """Opens the table, and creates it where there is none.

        Args:
            path: the table's folder, as an absolute path or a uri.
        """
        self.path = path
        with delta.reached(path):
            self._unmerged = len(self._table.file_uris())
            self._opened_at = self._table.version()
        self._upkeep = Lock()
        # The open table is one object, and each source's query has a thread.
        self._access = Lock()

    @cached_property
    def _table(self) -> DeltaTable:
        from deltalake import DeltaTable

        return DeltaTable.create(
            self.path,
            ROW,
            mode="ignore",
            partition_by=["date"],
            name="predictions",
            description="One row for each image that arrived, classified or rejected.",
            configuration={
                "delta.logRetentionDuration": f"interval {LOG_MINUTES} minutes",
                "delta.checkpointInterval": str(REPLAYED),
            },
        )

    def last_batch(self, app_id: str) -> int | None:
        """The last micro-batch that a checkpoint committed here; None before the first."""
        with self._access:
            self._table.update_incremental()
            return self._table.transaction_version(app_id)

    def append(self, rows: pa.Table, app_id: str, batch_id: int) -> None:
        """Commits a micro-batch; readers see all of its rows or none.

        Args:
            rows: columns as in `schema.ROW`.
            app_id: the id of the checkpoint.
            batch_id: the micro-batch.
        """
        from deltalake import (
            ColumnProperties,
            CommitProperties,
            DeltaTable,
            PostCommitHookProperties,
            Transaction,
            WriterProperties,
            write_deltalake,
        )

        once = CommitProperties(app_transactions=[Transaction(app_id, batch_id)])
        # To look for old log entries takes as long as the rest, and upkeep does so in time.
        after = PostCommitHookProperties(cleanup_expired_logs=False)
        # Dictionaries take a third of the time, and most values are found once. What `maintain`
        # merges has them.
        plainly = WriterProperties(
            compression="SNAPPY",
            default_column_properties=ColumnProperties(dictionary_enabled=False),
        )
        with self._access:
            if self._table.version() - self._opened_at >= REPLAYED:
                self._table = DeltaTable(self.path)
                self._opened_at = self._table.version()
            else:
                # Upkeep may have removed the log entry that the version at hand stands on.
                self._table.update_incremental()
            write_deltalake(
                self._table, delta.plain(rows), mode="append", commit_properties=once,
                post_commithook_properties=after, writer_properties=plainly,
            )  # fmt: skip
            self._unmerged += 1

    def known(self, event_ids: pa.ChunkedArray, dates: pa.ChunkedArray) -> set[str]:
        """Which of these event ids the table holds already, looking only at their dates."""
        import pyarrow.dataset as ds

        event_ids, dates = event_ids.combine_chunks(), dates.combine_chunks().unique()
        here = ds.field("date").isin(dates) & ds.field("event_id").isin(event_ids)
        with self._access:
            self._table.update_incremental()
            rows = delta.dataset(self._table, self.path)
        found = rows.to_table(columns=["event_id"], filter=here)
        return set(found["event_id"].to_pylist())

    def maintain(self, *, quiet: bool) -> bool:
        """Merges small files, drops unused ones and old log entries, when there is reason to.

        Args:
            quiet: nothing has arrived for a while, so that a few files are reason enough.

        Returns:
            Whether there was reason to.
        """
        with self._upkeep:
            return self._maintain(quiet=quiet)

    def _maintain(self, *, quiet: bool) -> bool:
        from deltalake import DeltaTable

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
    """The table's number of commits so far, by which a change shows; None where there is none.

    Raises:
        InputError: there is one, and it cannot be read.
    """
    from deltalake import DeltaTable

    with delta.reached(path):
        return opened(path).version() if DeltaTable.is_deltatable(path) else None


def models_of(path: str, event_ids: Collection[str]) -> dict[str, str | None]:
    """The model that answered each of these events; None for an image that was rejected.

    Args:
        path: the table's folder, as an absolute path or a uri.
        event_ids: those that the table does not hold are left out of the answer.

    Raises:
        InputError: there is no table yet.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    here = ds.field("event_id").isin(pa.array(event_ids, pa.string()))
    columns = ["event_id", "model"]
    found = delta.dataset(opened(path), path).to_table(columns=columns, filter=here)
    return dict(zip(*(found[column].to_pylist() for column in columns), strict=True))


def ask(path: str, sql: str) -> pa.Table:
    """Runs SQL over the table `predictions` in the engine of delta-rs; needs no DuckDB.

    Args:
        path: the table's folder, as an absolute path or a uri.
        sql: DataFusion's dialect; only the columns that it names are read.

    Raises:
        InputError: there is no table yet.
    """
    import pyarrow as pa
    from deltalake import QueryBuilder

    with delta.reached(path):
        return pa.table(QueryBuilder().register("predictions", opened(path)).execute(sql))


def latest(path: str, count: int) -> pa.Table:
    """The rows that were committed last, the newest at the end; none where there is no table.

    Args:
        path: the table's folder, as an absolute path or a uri.
        count: how many, at most.

    Returns:
        All columns of `schema` but `top`.
    """
    import pyarrow as pa

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
    """Yields the rows that are committed from now on, a list for each commit.

    Args:
        path: the table's folder, as an absolute path or a uri.
        interval: seconds between two looks.

    Raises:
        InputError: there is no table yet.
    """
    version, looked = current_version(path) + 1, time.monotonic()
    while True:
        rows = added(path, version)
        if rows is not None:
            version, looked = version + 1, time.monotonic()
            if rows:
                yield rows
        elif time.monotonic() - looked <= GAP:
            time.sleep(interval)
        else:
            newest, looked = current_version(path), time.monotonic()
            if newest >= version and added(path, version) is None:
                log.warning("rows were merged before they were seen; a query shows them")
                version = newest


def current_version(path: str) -> int:
    """The table's last version.

    Raises:
        InputError: there is no table yet.
    """
    return opened(path).version()


def added(path: str, version: int) -> list[dict[str, Any]] | None:
    """The rows of a commit; None where it has not been made, or its log entry is gone.

    Args:
        path: the table's folder, as an absolute path or a uri.
        version: of the table.

    Raises:
        FileNotFoundError: its files were merged and removed since.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    store = delta.store(path)
    adds = added_files(store, version)
    if not adds:
        return adds
    names = [unquote(add["path"]) for add in adds]
    parts = ds.partitioning(pa.schema([ROW.field("date")]), flavor="hive")
    data = ds.dataset(names, schema=ROW, partitioning=parts, filesystem=store)
    return list(data.to_table().sort_by("event_id").to_pylist())


def added_files(store: FileSystem, version: int) -> list[dict[str, Any]] | None:
    """What the log tells of the files with a commit's rows; None as in `added`.

    Merging small files adds none (Delta protocol, "dataChange").

    Args:
        store: the table's folder, as `delta.store` gives it.
        version: of the table.
    """
    try:
        with store.open_input_stream(f"_delta_log/{version:020d}.json") as log:
            commit = log.read().decode()
    except FileNotFoundError:
        return None
    adds = [json.loads(line).get("add") for line in commit.splitlines()]
    return [add for add in adds if add and add["dataChange"]]


def since(path: str, moment: datetime) -> list[dict[str, Any]]:
    """The rows that were processed at a moment or later, in this order.

    Args:
        path: the table's folder, as an absolute path or a uri.
        moment: with its time zone.

    Raises:
        InputError: there is no table yet.
    """
    import pyarrow.dataset as ds

    here = ds.field("processed_at") >= moment
    found = delta.dataset(opened(path), path).to_table(filter=here)
    return list(found.sort_by("processed_at").to_pylist())


def opened(path: str) -> DeltaTable:
    """The table, as it is now.

    Raises:
        InputError: there is no table yet, or it cannot be read.
        EnvironmentUnfitError: its store is away.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        with delta.reached(path):
            return DeltaTable(path)
    except TableNotFoundError:
        raise InputError(
            f"there are no predictions in {path} yet; start the stream with: sightstream run"
        ) from None
    except DeltaError as error:
        raise InputError(f"the table {path} cannot be read: {first_line(error)}") from None
