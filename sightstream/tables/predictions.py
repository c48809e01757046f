"""The predictions table without Spark; `path` is its folder, as an absolute path or a uri.

Functions that read raise InputError where there is no table yet.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from math import inf
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa

from sightstream.errors import InputError
from sightstream.io import disk, memory
from sightstream.tables import commits, delta, doubles, merging
from sightstream.tables.schema import LARGE, LATER, ROW

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.dataset import Dataset
    from pyarrow.fs import FileSystem

log = logging.getLogger(__name__)

SMALL_FILES = 256
"""Commits after which the small files of a trickle are merged."""

MERGED = 32 * 2**20
"""Bytes from which a file is left as it is, so that no large file is rewritten for few rows."""

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

HISTORY = timedelta(days=1)
"""Time that log entries and files are kept for readers that are away, unless it is set."""

CLEANING = 3600.0
"""Seconds between two removals of what is older, at most; they list all files."""

REPLAYED = 20
"""Commits between checkpoints in a store; each commit replays those since the last one."""

SOURCES_COUNT = "sightstream: seconds of the epoch since which a message's source counts"
"""Mark of the table, for rows that have the id of a message alone as their event id."""

LOOK = 10.0
"""Seconds between two looks at the commits of others."""

COPIED = 1.0
"""Seconds between two looks for a copy of the checkpoint, which begins later than that."""

PART = 1000
"""Rows that `since` yields at once, as dictionaries of some KB each."""

HELD = 50_000
"""Rows that it holds, which are 200 bytes each."""

GAP = 2.0
"""Seconds without a new version after which a follower looks for missed ones."""


class Predictions:
    """The table as the stream writes it, one commit for each micro-batch."""

    def __init__(self, path: str, history: timedelta | None = None) -> None:
        """Open the table, and create it where there is none.

        It keeps its `history` for readers that are away; None: as before.

        InputError where others altered it so that it demands what our rows do not have.
        """
        from deltalake import DeltaTable

        self.path, self._history = path, HISTORY if history is None else history
        kept = f"interval {self._history // HOUR} hours"
        if self._history % HOUR:
            kept = f"interval {self._history // MINUTE} minutes"
        configuration = {
            "delta.logRetentionDuration": kept, "delta.deletedFileRetentionDuration": kept,
            "delta.checkpointInterval": str(REPLAYED),
        }  # fmt: skip
        with delta.reached(path), delta.readable(path):
            if "://" not in path:
                disk.make(Path(path), "the table's folder")
            self._table = DeltaTable.create(
                path, ROW, mode="ignore", partition_by=["date"], name="predictions",
                description="One row for each image that arrived, classified or rejected.",
                configuration=configuration,
            )  # fmt: skip
            delta.fitted(ROW.empty_table(), self._table)
            delta.widen(self._table, LATER)
            if (
                history is not None
                and configuration.items() - self._table.metadata().configuration.items()
            ):
                self._table.alter.set_table_properties(configuration)
            commits.settle(self.path, self._table.version())
            self._unmerged = len(self._table.file_uris())
            self._opened_at = self._table.version()
            self._head = commits.head(path, self._opened_at)
        # No copies up to this version. Of the commits before the start, only those of the time when
        # no stream ran matter; they are the last ones.
        self._clean = max(-1, self._opened_at - SMALL_FILES)
        self._ours = set[int]()  # later versions, which add rows and no copies
        self._looked, self._cleaned, self._asked = -inf, -inf, -inf
        self._copied = set[str]()  # app ids of checkpoints that have copies
        self.copies = 0  # of rows, which were left out
        self._upkeep = Lock()
        # The open table is one object, and each source's query has a thread.
        self._access = Lock()

    def last_batch(self, app_id: str) -> int | None:
        """Return the last micro-batch that was committed for a checkpoint, if any."""
        with self._access:
            self._refresh()
            return self._table.transaction_version(app_id)

    def append(self, rows: pa.Table, app_id: str, batch_id: int) -> pa.Table:
        """Commit a micro-batch of a checkpoint, with the columns of `schema.ROW`, as a whole.

        Returns:
            The rows without those of events that a copy of the checkpoint brought in before.

        Raises:
            InputError: Others altered the table so that it demands what our rows do not have.
        """
        failed = False

        def commit() -> pa.Table:
            # A store may have made the commit whose answer was lost.
            if failed and self._table.transaction_version(app_id) == batch_id:
                return rows
            new = self._not_of_copies(rows, app_id)
            self._head = self._append(new, app_id, batch_id)
            self._ours.add(self._head.version)
            return new

        def look() -> None:
            nonlocal failed
            failed = True
            self._look_anew()

        with self._access:
            new = commits.tried(commit, look)
            self._unmerged += 1
        return new

    def share(self, app_id: str, batch_id: int) -> str:
        """Return an app id for the copy of a checkpoint that ends with a micro-batch.

        From now on, the table is asked for the events of each micro-batch of either.
        """
        store, mark = delta.store(self.path), _copied(app_id)
        store.create_dir(str(Path(mark).parent))
        with store.open_output_stream(mark):
            own = f"{commits.family(app_id)}{commits.FAMILY}{uuid4()}"
        if batch_id >= 0:
            self.mark(own, batch_id)
        return own

    def _not_of_copies(self, rows: pa.Table, app_id: str) -> pa.Table:
        import pyarrow.compute as pc

        if not self._is_copied(app_id):
            return rows
        self._refresh()
        now = delta.dataset(self._table, self.path, pc.min(rows["date"]).as_py())
        known = _held(now, rows["event_id"], rows["date"])
        return rows.filter(pc.invert(pc.is_in(rows["event_id"], known)))

    def _is_copied(self, app_id: str) -> bool:
        if app_id not in self._copied and time.monotonic() - self._asked > COPIED:
            self._asked = time.monotonic()
            if delta.has(self.path, _copied(app_id)):
                self._copied.add(app_id)
        return app_id in self._copied

    def _look_anew(self) -> None:
        self._asked = -inf
        self._refresh()

    def _append(self, rows: pa.Table, app_id: str, batch_id: int) -> commits.Head:
        if commits.plain(self._table):
            fitted = delta.fitted(rows, self._table)
            return commits.append(self.path, self._head, fitted, app_id, batch_id)
        self._refresh()
        self._append_by_library(rows, app_id, batch_id)
        commits.settle(self.path, self._table.version())
        commits.is_there(self.path, self._head)
        return commits.head(self.path, self._table.version())

    def _append_by_library(self, rows: pa.Table, app_id: str, batch_id: int) -> None:
        import deltalake

        once = deltalake.CommitProperties(
            app_transactions=[deltalake.Transaction(app_id, batch_id)]
        )
        # Looking for old log entries takes as long as the rest, and upkeep does it.
        after = deltalake.PostCommitHookProperties(cleanup_expired_logs=False)
        columns = deltalake.ColumnProperties(dictionary_enabled=False)
        plainly = deltalake.WriterProperties(
            compression="SNAPPY", default_column_properties=columns
        )
        deltalake.write_deltalake(
            self._table, delta.fitted(rows, self._table), mode="append", commit_properties=once,
            post_commithook_properties=after, writer_properties=plainly,
        )  # fmt: skip

    def _refresh(self) -> None:
        """Read the newest version; InputError where it is another table."""
        try:
            self._read()
            head = commits.head(self.path, self._table.version())
        finally:
            commits.is_there(self.path, self._head)
        self._head = head

    def _read(self) -> None:
        """Read the newest version; now and then from its checkpoint, which replays less."""
        from deltalake import DeltaTable

        if self._table.version() - self._opened_at >= REPLAYED:
            self._table = DeltaTable(self.path)
            self._opened_at = self._table.version()
        else:
            # Upkeep may have removed the log entry of the open version.
            self._table.update_incremental()

    def known(self, event_ids: pa.ChunkedArray, dates: pa.ChunkedArray) -> set[str]:
        """Return those of these event ids that the table holds on these dates."""
        return set(_held(self._since(dates), event_ids, dates).to_pylist())

    def earlier(self, event_ids: Iterable[str], dates: Iterable[date]) -> list[dict[str, Any]]:
        """Return rows of these event ids and dates from before a message's source counted."""
        columns = ["event_id", "uri", "original_name", "bytes", "processed_at"]
        ids, days = pa.array(set(event_ids), pa.string()), pa.array(dates, pa.date32())
        found = _of(self._since(days), ids, days, columns)
        if not len(found):
            return []
        before = datetime.fromtimestamp(self.mark(SOURCES_COUNT, int(time.time())), UTC)
        return [row for row in found.to_pylist() if row["processed_at"] < before]

    def mark(self, name: str, value: int) -> int:
        """Return the number that the table keeps under a name: the value of the first call."""
        import deltalake

        with self._access:
            self._refresh()
            held = self._table.transaction_version(name)
            if held is None:
                once = deltalake.CommitProperties(
                    app_transactions=[deltalake.Transaction(name, value)]
                )
                schema = pa.schema(self._table.schema().to_arrow())
                parts = self._table.metadata().partition_columns
                self._table.create_write_transaction(
                    [], "append", schema, parts, commit_properties=once
                )
                self._refresh()
                commits.settle(self.path, self._table.version())
        return value if held is None else held

    def _since(self, days: pa.ChunkedArray | pa.Array) -> Dataset:
        import pyarrow.compute as pc

        with self._access:
            self._refresh()
            return delta.dataset(self._table, self.path, pc.min(days).as_py())

    def maintain(self, *, quiet: bool) -> bool:
        """Merge small files, and remove unused ones, old log entries, and copies of rows.

        Returns:
            False where it had nothing to merge: there are too few files, of which two are enough in
            a `quiet` time.
        """
        from deltalake import DeltaTable

        with self._upkeep:
            if time.monotonic() - self._looked > LOOK:
                self._leave_out_copies()
            files = self._unmerged
            if merged := files >= (2 if quiet else SMALL_FILES):
                self._merge()
                self._unmerged -= files
            if merged:
                self._checkpoint(DeltaTable(self.path))
            pause = min(CLEANING, self._history.total_seconds())
            if merged and time.monotonic() - self._cleaned > pause:
                self._clean_up()
            return merged

    def _merge(self) -> None:
        from deltalake import DeltaTable

        table = DeltaTable(self.path)
        if "delta.columnMapping.mode" in table.metadata().configuration:
            log.info("small files are not merged, which delta-rs cannot where columns are mapped")
        else:
            with suppress(commits.AlteredError):  # the others' files are merged the next time
                merging.merge(self.path, table, MERGED)
            # Else the room of the rows is kept for a later merge, beside a stream for good.
            pa.default_memory_pool().release_unused()
            memory.give_back()

    def _clean_up(self) -> None:
        """Remove files and log entries that are older than the table's history."""
        from deltalake import DeltaTable

        self._cleaned = time.monotonic()
        table = DeltaTable(self.path)
        # Deletion vectors of others count as files that the log does not name.
        full = "deletionVectors" not in (table.protocol().reader_features or ())
        # It takes whole hours; without, the table's own history counts.
        hours = None if self._history % HOUR else self._history // HOUR
        table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=full)
        self._checkpoint(table)
        table.cleanup_metadata()

    def _checkpoint(self, table: DeltaTable) -> None:
        """Make a checkpoint, and sync it: what it stands for may be removed then."""
        table.create_checkpoint()
        if "://" not in self.path:
            log = Path(self.path, "_delta_log")
            # In this order: readers do without the hint, and fail where it names an empty file.
            for name in (f"{table.version():020d}.checkpoint.parquet", "_last_checkpoint"):
                disk.sync(log / name)
            disk.sync(log)

    def _leave_out_copies(self) -> None:
        """Look at the commits since the last look that are not ours, until no rows are double."""
        from deltalake.exceptions import CommitFailedError

        self._looked = time.monotonic()
        while others := self._others():
            found = doubles.doubles(self.path, others)
            try:
                copies = doubles.leave_out(self.path, found)
            except (CommitFailedError, commits.AlteredError):  # others are quicker; the next time
                break
            if copies:
                self.copies += copies
                log.warning(
                    "%d rows were in the table twice, since two jobs merged the same files; the "
                    "copies are left out now", copies,
                )  # fmt: skip
            self._clean = others[-1]

    def _others(self) -> list[int]:
        """Return the versions since the last look whose commits may have made copies, in order."""
        with self._access:
            newest, ours = max(self._clean, self._head.version), self._ours
            # To list the log takes longer.
            while delta.has(self.path, delta.entry_name(newest + 1)):
                newest += 1
            self._ours = {each for each in ours if each > newest}
        others = [each for each in range(self._clean + 1, newest + 1) if each not in ours]
        if not others:
            self._clean = newest
        return others


def _held(table: Dataset, event_ids: pa.ChunkedArray, dates: pa.ChunkedArray) -> pa.Array:
    ids, days = event_ids.combine_chunks(), dates.combine_chunks().unique()
    return _of(table, ids, days, ["event_id"])["event_id"].combine_chunks()


def _of(table: Dataset, event_ids: pa.Array, dates: pa.Array, columns: list[str]) -> pa.Table:
    import pyarrow.dataset as ds

    here = ds.field("date").isin(dates) & delta.text("event_id").isin(event_ids)
    return table.to_table(columns=columns, filter=here)


def _copied(app_id: str) -> str:
    """Return the file that says that there are copies; to ask the log takes 20 ms a commit."""
    return f"_copied/{commits.family(app_id)}"  # Delta leaves names with a _ alone


def version(path: str) -> int | None:
    """Return the table's last version, which each commit changes; None where there is no table."""
    from deltalake import DeltaTable

    with delta.reached(path):
        if (known := commits.newest(path)) >= 0:
            return known
        return opened(path).version() if DeltaTable.is_deltatable(path) else None


def version_of(path: str) -> int:
    """Return a table's last version; InputError where there is no table."""
    found = version(path)
    return opened(path).version() if found is None else found


def models_of(path: str, event_ids: Collection[str]) -> dict[str, str | None]:
    """Return the model that answered each of these events, or None where it was rejected.

    Events that the table does not hold are left out.
    """
    here = delta.text("event_id").isin(pa.array(event_ids, pa.string()))
    columns = ["event_id", "model"]
    with delta.readable(path):
        found = delta.dataset(opened(path), path).to_table(columns=columns, filter=here)
    return dict(zip(*(found[column].to_pylist() for column in columns), strict=True))


def ask(path: str, sql: str) -> pa.Table:
    """Run SQL in DataFusion's dialect over the table `predictions`; needs no DuckDB."""
    from deltalake import QueryBuilder

    with delta.readable(path), delta.reached(path):
        return pa.table(QueryBuilder().register("predictions", opened(path)).execute(sql))


def latest(path: str, count: int) -> pa.Table:
    """Return the last rows, the newest at the end; none where there is no table.

    `LARGE` and `LATER` are left out.
    """
    left_out = {*LARGE, *LATER.names}  # of which a table of before knows none
    columns = pa.schema(field for field in ROW if field.name not in left_out)
    if version(path) is None:
        return columns.empty_table()
    newest = ask(
        path,
        f"SELECT {', '.join(columns.names)} FROM predictions "  # noqa: S608
        f"ORDER BY processed_at DESC, event_id DESC LIMIT {count:d}",
    )
    with delta.readable(path):
        return newest.cast(columns)[::-1]


def follow(path: str, *, interval: float = 0.05) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each commit from now on; look for it every `interval` seconds."""
    version, looked = version_of(path) + 1, time.monotonic()
    while True:
        gone = False
        try:
            rows = added(path, version)
        except FileNotFoundError:
            rows, gone = None, True
        if rows is not None:
            version, looked = version + 1, time.monotonic()
            if rows:
                yield rows
        elif not gone and time.monotonic() - looked <= GAP:
            time.sleep(interval)
        else:
            newest, looked = version_of(path), time.monotonic()
            if gone or (newest >= version and delta.commit(delta.store(path), version) is None):
                log.warning(
                    "versions %d to %d of the table are gone, since they are older than its "
                    "table_history; a query shows them", version, max(newest - 1, version),
                )  # fmt: skip
                version = max(newest, version + 1)


def added(path: str, version: int) -> list[dict[str, Any]] | None:
    """Return the rows that a version's commit added; None where there is no log entry for it.

    Rows that it wrote anew, as others do who change or restore some, are not among them.

    FileNotFoundError where its files were merged and removed since.
    """
    import pyarrow.compute as pc

    store = delta.store(path)
    actions = delta.commit(store, version)
    if actions is None:
        return None
    adds, removes = (changed(actions, kind) for kind in ("add", "remove"))
    operations = [each["commitInfo"].get("operation") for each in actions if "commitInfo" in each]
    if not adds or "RESTORE" in operations:
        return []
    rows = _rows(store, adds, ROW)
    if removes:
        before = _rows(store, removes, pa.schema([ROW.field("event_id")]))["event_id"]
        rows = rows.filter(pc.invert(pc.is_in(rows["event_id"], before.combine_chunks())))
    return list(rows.sort_by("event_id").to_pylist())


def changed(actions: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the actions of a kind that change rows; merging files does not."""
    return [each[kind] for each in actions if kind in each and each[kind]["dataChange"]]


def _rows(store: FileSystem, files: list[dict[str, Any]], columns: pa.Schema) -> pa.Table:
    import pyarrow.dataset as ds

    names = [unquote(each["path"]) for each in files]
    named = {part: None for each in files for part in each.get("partitionValues") or {"date": ""}}
    fields = [ROW.field(part) for part in named if part in ROW.names]
    parts = ds.partitioning(pa.schema(fields), flavor="hive")
    return ds.dataset(names, schema=columns, partitioning=parts, filesystem=store).to_table()


def since(path: str, moment: datetime) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows that were processed at a moment or later in order of time, `PART` at once."""
    import pyarrow.dataset as ds

    processed = ds.field("processed_at")
    rows = delta.dataset(opened(path), path)
    columns = [name for name in ROW.names if name in rows.schema.names]
    for begin, end in _spans(rows, moment):
        here = (processed >= begin) & (processed < end)
        found = rows.to_table(columns=columns, filter=here).sort_by("processed_at")
        for part in found.to_batches(max_chunksize=PART):
            yield part.to_pylist()


def _spans(rows: Dataset, moment: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield spans of whole minutes that have `HELD` rows or a minute more, from a moment on."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    images = Counter[int]()
    at = ds.field("processed_at")
    for batch in rows.to_batches(columns=["processed_at"], filter=at >= moment):
        seconds = batch["processed_at"].cast(pa.timestamp("s", "UTC"), safe=False).cast(pa.int64())
        for each in pc.value_counts(pc.divide(seconds, 60)).to_pylist():
            images[each["values"]] += each["counts"]
    begin, held = moment, 0
    for minute in sorted(images):
        end, held = datetime.fromtimestamp(60 * (minute + 1), UTC), held + images[minute]
        if held >= HELD:
            yield begin, end
            begin, held = end, 0
    if held:
        yield begin, end


def opened(path: str) -> DeltaTable:
    """Open the table as it is now.

    Raises:
        InputError: There is no table yet, or it cannot be read.
        EnvironmentUnfitError: Its store cannot be reached.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        with delta.readable(path), delta.reached(path):
            return DeltaTable(path)
    except TableNotFoundError:
        raise InputError(
            f"there are no predictions in {path} yet; start the stream with: sightstream run"
        ) from None


def beginning(path: str) -> tuple[int, datetime]:
    """Return the first version that a reader of changes can begin with, and its time."""
    from pyarrow.fs import FileSelector

    names = [each.base_name for each in delta.store(path).get_file_info(FileSelector("_delta_log"))]
    entries = (name[:-5] for name in names if name.endswith(".json"))
    first = min(int(number) for number in entries if number.isdecimal())
    info = delta.store(path).get_file_info(delta.entry_name(first))
    return first, info.mtime
