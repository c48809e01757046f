"""Queries on the tables of a home, in SQL and for the page, without Spark."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sightstream.errors import InputError, first_line
from sightstream.tables import delta
from sightstream.tables.predictions import opened
from sightstream.tables.schema import ANSWERED, LABEL, LARGE

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection, DuckDBPyRelation
    from pyarrow.dataset import Dataset


RECENT = timedelta(minutes=1)
"""How far back the newest rows are looked for first: beside a stream, all are there."""

RESERVED = ("predictions", "dead_letters", "labels")
"""Names of tables that no other table can have."""


def query(
    path: str, sql: str, *, labels: Path | None = None, tables: Path | None = None
) -> pa.Table:  # fmt: skip
    """Run SQL as `Snapshot.ask` does, over the tables of `snapshot`.

    Those of a backfill, in the folder `tables`, are there too, by their names.
    """
    with snapshot(path, labels=labels) as now:
        for each in sorted(tables.glob("*/_delta_log")) if tables else ():
            now.add(each.parent.name, str(each.parent))
        return now.ask(sql)


def _readable(relation: DuckDBPyRelation) -> DuckDBPyRelation:
    """Write intervals as DuckDB does: in Arrow they are months, days and nanoseconds."""
    kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
    if "INTERVAL" not in kinds.values():
        return relation
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in kinds}
    return relation.project(
        ", ".join(
            f"CAST({quoted[name]} AS VARCHAR) AS {quoted[name]}" if kind == "INTERVAL" else
            quoted[name] for name, kind in kinds.items()
        )
    )  # fmt: skip


class Snapshot:
    """The tables as they are at one moment, for any number of queries; made by `snapshot`."""

    def __init__(self, connection: DuckDBPyConnection, table: DeltaTable) -> None:
        self._connection = connection
        self._table = table

    def ask(self, sql: str, values: Sequence[Any] = ()) -> pa.Table:
        """Run SQL in DuckDB's dialect, with a `?` for each value; InputError where it is wrong.

        Of the predictions, only the days and columns that it names are read. Intervals are text.
        """
        import duckdb

        try:
            relation = self._connection.sql(sql, params=list(values) or None)
            # A statement such as COPY has no result.
            return pa.table({}) if relation is None else _readable(relation).to_arrow_table()
        except duckdb.Error as error:
            raise InputError(f"the query failed: {error}") from None

    def add(self, name: str, path: str) -> None:
        """Add the table in a folder, or at a uri, under a name."""
        with _fitting(path):
            _view(self._connection, name, delta.dataset(opened(path), path))

    def newest(self, wanted: Filter, count: int, *, skip: int = 0) -> list[dict[str, Any]]:
        """Return the rows that arrived last without `LARGE`, the newest first.

        What arrived within a minute is read, and then days from the newest on, until there are
        enough rows.
        """
        recent = datetime.now(UTC) - RECENT
        if not wanted.since or wanted.since < recent:
            found = self._newest(replace(wanted, since=recent), skip + count)
            if len(found) == skip + count:
                return found[skip:]
        return self._newest(wanted, skip + count)[skip:]

    def _newest(self, wanted: Filter, count: int) -> list[dict[str, Any]]:
        where, values = wanted.sql()
        found: list[dict[str, Any]] = []
        days = self._days()
        if wanted.since:
            days = [day for day in days if day >= wanted.since.date().isoformat()]
        columns = _all_but(LARGE, [field.name for field in self._table.schema().fields])
        taken, width = 0, 1
        while days[taken:] and len(found) < count:
            part, left = days[taken : taken + width], count - len(found)
            chosen = f"FROM predictions WHERE date BETWEEN ?::DATE AND ?::DATE AND {where}"
            asked = [part[-1], part[0], *values]
            # All columns are read of the parts of files that have rows since then, and no others.
            times = self.ask(
                f"SELECT event_time {chosen} ORDER BY event_time DESC LIMIT ?", [*asked, left]
            )["event_time"]
            if len(times) and not times.null_count:
                chosen, asked = f"{chosen} AND event_time >= ?", [*asked, times[-1].as_py()]
            rows = self.ask(
                f"SELECT {columns} {chosen} ORDER BY event_time DESC, event_id DESC LIMIT ?",
                [*asked, left],
            )
            found += rows.to_pylist()
            taken, width = taken + width, 2 * width
        return found

    def _days(self) -> list[str]:
        """Return the days that have rows, the newest first."""
        if "date" in self._table.metadata().partition_columns:
            days = {day["date"] for day in self._table.partitions()}
        else:
            found = self.ask("SELECT DISTINCT date::VARCHAR AS date FROM predictions")
            days = set(found["date"].to_pylist())
        return sorted(days, reverse=True)

    def trend(self, wanted: Filter, bins: int) -> pa.Table:
        """Count images and their latency by label, over time spans of a whole number of seconds.

        Returns:
            A row for each span, where `label` is null and `whole` true, and one for each label in
            it, which is null for rejected images; with `start`, seconds since the epoch;
            `seconds`, the length of the span; `images`; `p50` and `p95`, seconds from arrival
            to row, which are estimated: no memory grows with the number of rows.
        """
        where, values = wanted.sql()
        length = "ceil((epoch_us(max(event_time)) - epoch_us(min(event_time))) / 1e6 / ?)"
        (seconds,) = self.ask(
            f"SELECT greatest(1, {length}) AS seconds FROM predictions WHERE {where}",
            [bins, *values],
        )["seconds"].to_pylist()
        return self.ask(
            f"""
            WITH placed AS (
              SELECT label, floor(epoch_us(event_time) / 1e6 / ?) * ? AS start,
                (epoch_us(processed_at) - epoch_us(event_time)) / 1e6 AS latency
              FROM predictions WHERE {where})
            SELECT start, ?::DOUBLE AS seconds, label, grouping(label) = 1 AS whole,
              count(*) AS images, approx_quantile(latency, 0.5) AS p50,
              approx_quantile(latency, 0.95) AS p95
            FROM placed GROUP BY GROUPING SETS ((start), (start, label)) ORDER BY start
            """,
            [seconds, seconds, *values, seconds],
        )

    def row(self, event_id: str) -> dict[str, Any] | None:
        """Return all columns of an image's row, or None."""
        # Two steps: the second reads all columns, but of a part of a file.
        when = self.ask("SELECT processed_at FROM predictions WHERE event_id = ?", [event_id])
        for moment in when["processed_at"].to_pylist()[:1]:
            here = "processed_at = ? AND event_id = ?"  # each row has the former
            rows = self.ask(f"SELECT * FROM predictions WHERE {here}", [moment, event_id])
            return next(iter(rows.to_pylist()), None)
        return None

    def kinds(self, since: datetime | None = None) -> Filter:
        """Return the filter with all values that rows which arrived since a time have, sorted."""
        where, values = Filter(since).sql()
        columns = "label, source, model, model_version"
        rows = self.ask(f"SELECT DISTINCT {columns} FROM predictions WHERE {where}", values)
        pairs = zip(rows["model"].to_pylist(), rows["model_version"].to_pylist(), strict=True)
        return Filter(
            since,
            labels=tuple(sorted(rows["label"].drop_null().unique().to_pylist())),
            sources=tuple(sorted(rows["source"].unique().to_pylist())),
            versions=tuple(sorted({pair for pair in pairs if None not in pair})),
        )

    def uncertain(self, model: str, count: int, but: Collection[str] = ()) -> list[dict[str, Any]]:
        """Return a model's unlabelled rows except some event ids, the lowest scores first."""
        # Two steps: the second reads all columns, but of few rows.
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


@contextmanager
def snapshot(
    path: str, *, labels: Path | None = None, since: datetime | None = None
) -> Iterator[Snapshot]:
    """Open the tables `predictions`, `dead_letters` and `labels` for queries.

    Without `labels`, that table is empty. Predictions of days before `since` are left out.

    Raises:
        InputError: There is no table yet, or it cannot be read.
    """
    import duckdb

    from sightstream.tables.labels import Labels

    table = opened(path)
    labelled = Labels(labels).current() if labels else LABEL.empty_table()
    with duckdb.connect() as connection:
        with _fitting(path):
            rows = delta.dataset(table, path, since.date() if since else None)
            _view(connection, "predictions", rows)
            connection.register("labels", labelled)
            connection.execute(
                f"CREATE VIEW dead_letters AS SELECT {_all_but(ANSWERED, rows.schema.names)} "
                "FROM predictions WHERE status = 'rejected'"
            )
        yield Snapshot(connection, table)


@contextmanager
def _fitting(path: str) -> Iterator[None]:
    """Raise InputError where a table cannot be one of those that are asked."""
    import duckdb

    try:
        with delta.readable(path):
            yield
    except duckdb.Error as error:
        raise InputError(f"{path} cannot be queried: {first_line(error)}") from None


def _view(connection: DuckDBPyConnection, name: str, rows: Dataset) -> None:
    connection.register(f"_{name}_rows", rows)
    # DuckDB has Arrow compare the columns that a condition names, and Arrow fails where others
    # changed rows (`delta.text`); the result of a function is compared by DuckDB.
    texts = [each.name.replace('"', '""') for each in rows.schema if each.type == pa.string()]
    replaced = ", ".join(f'substring("{each}", 1) AS "{each}"' for each in texts)
    connection.execute(f'CREATE VIEW "{name}" AS SELECT * REPLACE ({replaced}) FROM "_{name}_rows"')


def _all_but(left_out: Collection[str], columns: Sequence[str]) -> str:
    """Name all columns but some, which a table of an earlier release may lack."""
    quoted = ('"' + each.replace('"', '""') + '"' for each in columns if each not in left_out)
    return ", ".join(quoted)


@dataclass(frozen=True)
class Filter:
    """Conditions on rows; one that is None or empty is left out."""

    since: datetime | None = None  # the earliest arrival
    status: str | None = None  # ok or rejected
    labels: tuple[str, ...] = ()  # best labels; a row has one of them
    sources: tuple[str, ...] = ()  # ways of arrival, likewise
    versions: tuple[tuple[str, int], ...] = ()  # names and numbers of models, likewise
    scores: tuple[float, float] | None = None  # the lowest and the highest

    def sql(self) -> tuple[str, list[Any]]:
        """Return a condition in SQL, with a `?` for each value, and the values."""
        parts: list[tuple[str, list[Any]]] = [("TRUE", [])]
        if self.since:
            # With the day, files of other days are not opened.
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
