"""The predictions table asked in SQL, and by what the page asks; without Spark."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightstream.errors import InputError
from sightstream.tables import delta
from sightstream.tables.predictions import opened
from sightstream.tables.schema import ANSWERED, LABEL

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable


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

    from sightstream.tables.labels import Labels

    table = opened(path)
    labelled = Labels(labels).current() if labels else LABEL.empty_table()
    with duckdb.connect() as connection:
        connection.register("predictions", delta.dataset(table, path, since))
        connection.register("labels", labelled)
        connection.execute(
            f"CREATE VIEW dead_letters AS SELECT * EXCLUDE ({', '.join(ANSWERED)}) "
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
