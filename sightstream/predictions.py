"""The predictions table: its schema, its commits, and reading it without Spark."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from sightstream import delta
from sightstream.errors import InputError

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa
    from deltalake import DeltaTable

SMALL_FILES = 256
"""Commits after which the small files of a trickle are merged."""

KEPT_HOURS = 1
"""How long readers that opened the table earlier can go on reading the files they know."""

_COLUMNS = (
    ("event_id", "string", "the image's arrival; one row each"),
    ("source", "string", "the way the image came: folder or kafka"),
    ("uri", "string", "where the image's bytes are"),
    ("original_name", "string", "the path below the inbox, or as the message says"),
    ("event_time", "time", "when the image arrived, UTC"),
    ("processed_at", "time", "when its micro-batch was ready to be committed, UTC"),
    ("status", "string", "ok or rejected"),
    ("error_code", "string", "why it was rejected, for machines"),
    ("error_detail", "string", "why it was rejected, in a sentence"),
    ("label", "string", "the best label"),
    ("score", "double", "the best label's score, 0 to 1"),
    ("top", "top", "the best labels with their scores, best first"),
    ("model", "string", "the registered model that answered"),
    ("model_version", "long", "its version in the registry"),
    ("format", "string", "the image's format, such as JPEG"),
    ("width", "int", "pixels, as a person sees the image"),
    ("height", "int", "pixels, as a person sees the image"),
    ("bytes", "long", "the image's size"),
    ("decode_ms", "float", "time to read, decode and resize it, milliseconds"),
    ("predict_ms", "float", "its share of the time to run the model, milliseconds"),
    ("batch_id", "long", "the micro-batch that it was part of"),
    ("date", "date", "the day of event_time, UTC; the table's partition"),
)


def schema() -> pa.Schema:
    """The table's columns as Arrow, with a comment on each."""
    return delta.schema(_COLUMNS, required=("event_id", "source", "status", "date", "processed_at"))


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
        self._upkeep = Lock()
        # The open table is one object, and each source's query has a thread.
        self._access = Lock()

    @cached_property
    def _table(self) -> DeltaTable:
        from deltalake import DeltaTable

        return DeltaTable.create(
            self.path,
            schema(),
            mode="ignore",
            partition_by=["date"],
            name="predictions",
            description="One row for each image that arrived, classified or rejected.",
            configuration={
                "delta.logRetentionDuration": f"interval {KEPT_HOURS} hours",
                "delta.checkpointInterval": "100",
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
            rows: columns as in `schema`.
            app_id: the id of the checkpoint.
            batch_id: the micro-batch.
        """
        from deltalake import CommitProperties, Transaction, write_deltalake

        once = CommitProperties(app_transactions=[Transaction(app_id, batch_id)])
        with self._access:
            # Upkeep may have removed the log entry that the version at hand stands on.
            self._table.update_incremental()
            write_deltalake(self._table, delta.plain(rows), mode="append", commit_properties=once)
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
        table.optimize.compact()
        table.vacuum(KEPT_HOURS, dry_run=False, enforce_retention_duration=False)
        table.create_checkpoint()
        table.cleanup_metadata()
        self._unmerged -= files
        return True


def query(path: str, sql: str, *, labels: Path | None = None) -> pa.Table:
    """Runs SQL over the tables `predictions`, `dead_letters` and `labels`, without Spark.

    Args:
        path: the table's folder, as an absolute path or a uri.
        sql: DuckDB's dialect.
        labels: the labels table's folder; while it is None or not there, nothing is labelled.

    Raises:
        InputError: there is no table yet, or the SQL is wrong.
    """
    with snapshot(path, labels=labels) as now:
        return now.ask(sql)


class Snapshot:
    """The tables as they are at one moment, for any number of questions; made by `snapshot`."""

    def __init__(self, connection: Any, table: DeltaTable) -> None:
        """Remembers what to ask.

        Args:
            connection: DuckDB's, which knows the tables by name.
            table: the predictions.
        """
        self._connection = connection
        self._table = table

    def ask(self, sql: str, values: Sequence[Any] = ()) -> pa.Table:
        """Runs SQL; of the predictions, only the days and columns that it names are read.

        Args:
            sql: DuckDB's dialect, with a `?` in the place of each value.
            values: in their order.

        Raises:
            InputError: the SQL is wrong.
        """
        import duckdb
        import pyarrow as pa

        try:
            relation = self._connection.sql(sql, params=list(values) or None)
            # A statement such as COPY answers nothing.
            return pa.table({}) if relation is None else relation.to_arrow_table()
        except duckdb.Error as error:
            raise InputError(f"the query failed: {error}") from None

    def newest(self, wanted: Filter, count: int, *, skip: int = 0) -> list[dict[str, Any]]:
        """The rows that arrived last, the newest first, all columns but `top`.

        Days are read from the newest on, until there are enough rows.

        Args:
            wanted: what the rows must be.
            count: how many, at most.
            skip: leaves out so many of the newest.
        """
        where, values = wanted.sql()
        found: list[dict[str, Any]] = []
        days = sorted((day["date"] for day in self._table.partitions()), reverse=True)
        if wanted.since:
            days = [day for day in days if day >= wanted.since.date().isoformat()]
        taken, width = 0, 1
        while days[taken:] and len(found) < skip + count:
            part = days[taken : taken + width]
            rows = self.ask(
                f"SELECT * EXCLUDE (top) FROM predictions WHERE date BETWEEN ?::DATE AND ?::DATE "
                f"AND {where} ORDER BY event_time DESC, event_id DESC LIMIT ?",
                [part[-1], part[0], *values, skip + count - len(found)],
            )
            found += rows.to_pylist()
            taken, width = taken + width, 2 * width
        return found[skip:]

    def trend(self, wanted: Filter, bins: int) -> pa.Table:
        """How many images there were over time, of each label, and how long they took.

        Args:
            wanted: which rows to count.
            bins: spans of equal length, of a whole number of seconds, that time is divided into.

        Returns:
            A row for each span, where `label` is null and `whole` true, and one for each label in
            it, which is null for rejected images; with `start`, seconds since the epoch;
            `seconds`, the length of the span; `images`; `p50` and `p95`, seconds from arrival
            to row.
        """
        where, values = wanted.sql()
        return self.ask(
            f"""
            WITH chosen AS (
              SELECT label, epoch_us(event_time) / 1e6 AS arrived,
                (epoch_us(processed_at) - epoch_us(event_time)) / 1e6 AS latency
              FROM predictions WHERE {where}),
            spans AS (
              SELECT greatest(1, ceil((max(arrived) - min(arrived)) / ?)) AS seconds FROM chosen),
            placed AS (
              SELECT *, floor(arrived / seconds) * seconds AS start FROM chosen, spans)
            SELECT start, seconds, label, grouping(label) = 1 AS whole, count(*) AS images,
              quantile_cont(latency, 0.5) AS p50, quantile_cont(latency, 0.95) AS p95
            FROM placed GROUP BY GROUPING SETS ((start, seconds), (start, seconds, label))
            ORDER BY start
            """,
            [*values, bins],
        )

    def row(self, event_id: str) -> dict[str, Any] | None:
        """All columns of an image's row; None where there is none."""
        rows = self.ask("SELECT * FROM predictions WHERE event_id = ?", [event_id])
        return next(iter(rows.to_pylist()), None)

    def kinds(self, since: datetime | None = None) -> Kinds:
        """What there is to choose from among the images that arrived since then."""
        where, values = Filter(since).sql()
        columns = "label, source, model, model_version"
        rows = self.ask(f"SELECT DISTINCT {columns} FROM predictions WHERE {where}", values)
        pairs = zip(rows["model"].to_pylist(), rows["model_version"].to_pylist(), strict=True)
        return Kinds(
            tuple(sorted(rows["label"].drop_null().unique().to_pylist())),
            tuple(sorted(rows["source"].unique().to_pylist())),
            tuple(sorted({pair for pair in pairs if None not in pair})),
        )

    def uncertain(self, model: str, count: int, but: Collection[str] = ()) -> list[dict[str, Any]]:
        """Rows that nobody has labelled, all columns, the lowest scores first.

        Args:
            model: that answered.
            count: how many, at most.
            but: event ids to leave out.
        """
        # Two steps, so that the columns that are not looked through are read of few rows only.
        found = self.ask(
            "SELECT event_id, date FROM predictions ANTI JOIN labels USING (event_id) "
            "WHERE status = 'ok' AND model = ? AND NOT list_contains(?::VARCHAR[], event_id) "
            "ORDER BY score, event_id LIMIT ?",
            [model, list(but), count],
        )
        if not found.num_rows:
            return []
        marks = ", ".join("?" * found.num_rows)
        rows = self.ask(
            f"SELECT * FROM predictions WHERE date IN ({marks}) AND event_id IN ({marks}) "
            "ORDER BY score, event_id",
            [*found["date"].to_pylist(), *found["event_id"].to_pylist()],
        )
        return list(rows.to_pylist())


@dataclass(frozen=True)
class Kinds:
    """What rows can be told apart by, each in alphabetical order.

    Attributes:
        labels: best labels.
        sources: the ways that images came.
        versions: names and numbers of the model versions that answered.
    """

    labels: tuple[str, ...]
    sources: tuple[str, ...]
    versions: tuple[tuple[str, int], ...]


@contextmanager
def snapshot(
    path: str, *, labels: Path | None = None, since: datetime | None = None
) -> Iterator[Snapshot]:
    """Opens the tables `predictions`, `dead_letters` and `labels` for questions.

    Args:
        path: the table's folder, as an absolute path or a uri.
        labels: the labels table's folder; while it is None or not there, nothing is labelled.
        since: leaves out the predictions of the days before.

    Raises:
        InputError: there is no table yet, or it cannot be read.
    """
    import duckdb

    from sightstream.labels import Labels, schema

    table = _open(path)
    labelled = Labels(labels).current() if labels else schema().empty_table()
    with duckdb.connect() as connection:
        connection.register("predictions", delta.dataset(table, path, since))
        connection.register("labels", labelled)
        connection.execute(
            "CREATE VIEW dead_letters AS SELECT event_id, source, uri, original_name, event_time, "
            "processed_at, error_code, error_detail, format, width, height, bytes, batch_id, date "
            "FROM predictions WHERE status = 'rejected'"
        )
        yield Snapshot(connection, table)


@dataclass(frozen=True)
class Filter:
    """Which rows are wanted; what is None or empty does not matter.

    Attributes:
        since: the earliest arrival.
        status: ok or rejected.
        labels: best labels, one of which a row must have.
        sources: ways the image came, likewise.
        versions: names and numbers of model versions, likewise.
        scores: the lowest and the highest score; rejected rows have none.
    """

    since: datetime | None = None
    status: str | None = None
    labels: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    versions: tuple[tuple[str, int], ...] = ()
    scores: tuple[float, float] | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """A condition in SQL, with a `?` in the place of each value; and the values."""
        parts: list[tuple[str, list[Any]]] = [("TRUE", [])]
        if self.since:
            # The day too, so that other days' files are never opened.
            since = "date >= ?::DATE AND event_time >= ?"
            parts.append((since, [self.since.date().isoformat(), self.since]))
        if self.status:
            parts.append(("status = ?", [self.status]))
        for column, values in (("label", self.labels), ("source", self.sources)):
            if values:
                parts.append((f"{column} IN ({', '.join('?' * len(values))})", list(values)))
        if self.versions:
            pair = "(model = ? AND model_version = ?)"
            pairs = [value for version in self.versions for value in version]
            parts.append((f"({' OR '.join([pair] * len(self.versions))})", pairs))
        if self.scores:
            parts.append(("score BETWEEN ? AND ?", list(self.scores)))
        return " AND ".join(part for part, _ in parts), [v for _, vs in parts for v in vs]


def version(path: str) -> int | None:
    """The table's number of commits so far, by which a change shows; None where there is none.

    Raises:
        InputError: there is one, and it cannot be read.
    """
    from deltalake import DeltaTable

    with delta.reached(path):
        return _open(path).version() if DeltaTable.is_deltatable(path) else None


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
    found = delta.dataset(_open(path), path).to_table(columns=columns, filter=here)
    return dict(zip(*(found[column].to_pylist() for column in columns), strict=True))


def latest(path: str, count: int) -> pa.Table:
    """The rows that were committed last, the newest at the end; none where there is no table."""
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(path):
        return schema().empty_table()
    newest = "(SELECT * FROM predictions ORDER BY processed_at DESC, event_id DESC LIMIT {})"
    return query(path, f"FROM {newest.format(int(count))} ORDER BY processed_at, event_id")


def follow(path: str, *, interval: float = 0.05) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows that are committed from now on, a list for each commit.

    Args:
        path: the table's folder, as an absolute path or a uri.
        interval: seconds between two looks.

    Raises:
        InputError: there is no table yet.
    """
    version = current_version(path) + 1
    while True:
        rows = added(path, version)
        if rows is None:
            time.sleep(interval)
            continue
        version += 1
        if rows:
            yield rows


def current_version(path: str) -> int:
    """The table's last version.

    Raises:
        InputError: there is no table yet.
    """
    return _open(path).version()


def added(path: str, version: int) -> list[dict[str, Any]] | None:
    """The rows of a commit; None where it has not been made, or its log entry is gone.

    Merging small files adds none (Delta protocol, "dataChange").

    Args:
        path: the table's folder, as an absolute path or a uri.
        version: of the table.

    Raises:
        FileNotFoundError: its files were merged and removed since.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    files = delta.store(path)
    try:
        with files.open_input_stream(f"_delta_log/{version:020d}.json") as log:
            commit = log.read().decode()
    except FileNotFoundError:
        return None
    adds = [json.loads(line).get("add") for line in commit.splitlines()]
    names = [unquote(add["path"]) for add in adds if add and add["dataChange"]]
    if not names:
        return []
    parts = ds.partitioning(pa.schema([schema().field("date")]), flavor="hive")
    data = ds.dataset(names, schema=schema(), partitioning=parts, filesystem=files)
    return list(data.to_table().sort_by("event_id").to_pylist())


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
    found = delta.dataset(_open(path), path).to_table(filter=here)
    return list(found.sort_by("processed_at").to_pylist())


def _open(path: str) -> DeltaTable:
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
        fault = str(error).splitlines()[0]
        raise InputError(f"the table {path} cannot be read: {fault}") from None
