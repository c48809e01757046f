"""Duplicates: events that a producer sent twice get one row each, within a window.

The event id of a message with a source is `source#id`. Rows of before sources counted have the id
alone; they answer for a message of that id which is as large and of the same place or name.
"""

import time
from collections.abc import Iterable
from datetime import date, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from sightstream.images.event import SEPARATOR
from sightstream.tables.predictions import SOURCES_COUNT, Predictions, ask
from streaming.known import known

WINDOW_ROWS = 200_000  # rows whose event ids are remembered; about 20 MB of memory


class Recent:
    """The event ids of a source's latest rows, as hashes; a hit is looked up in the table."""

    def __init__(self, table: Predictions, source: str) -> None:
        """Remember the latest rows that the table has of a source."""
        self._table = table
        table.mark(SOURCES_COUNT, int(time.time()))
        # A dictionary keeps its order, so that the oldest are forgotten first.
        self._seen: dict[int, None] = {}
        latest = ask(
            table.path,
            f"SELECT event_id FROM predictions WHERE source = '{source}' "  # noqa: S608
            f"ORDER BY processed_at DESC LIMIT {WINDOW_ROWS}",
        )
        self.remember(reversed(latest["event_id"].to_pylist()))
        # With a new checkpoint come more messages again than are remembered.
        self._doubtful = bool(latest.num_rows)

    def is_first(self, topic: str, topic_id: str) -> bool:
        """Return whether the table knows no other topic of this name, from before it."""
        number = UUID(topic_id).int >> 65  # the table keeps 63 bits
        return self._table.mark(f"sightstream: first topic {topic}", number) == number

    def first(self, rows: pa.Table) -> pa.Table:
        """Leave out rows whose event came before, in this micro-batch or in the table."""
        ids = rows["event_id"].to_pylist()
        here = dict.fromkeys(ids)
        suspects = {each for each in here if hash(each) in self._seen}
        alone = {each: each.partition(SEPARATOR)[2] for each in here if SEPARATOR in each}
        old = {e: name for e, name in alone.items() if self._doubtful or hash(name) in self._seen}
        if len(here) == len(ids) and not suspects and not old:
            return rows
        held = self._known(rows, suspects) if suspects else set[str]()
        held |= self._earlier(rows, old) if old else set()
        keep = []
        for each in ids:
            keep.append(each in here and each not in held)
            here.pop(each, None)
        return rows.filter(keep)

    def remember(self, event_ids: Iterable[str]) -> None:
        """Remember ids that are in the table now."""
        self._seen.update(dict.fromkeys(map(hash, event_ids)))
        for oldest in list(islice(self._seen, max(0, len(self._seen) - WINDOW_ROWS))):
            del self._seen[oldest]

    def _known(self, rows: pa.Table, suspects: Iterable[str]) -> set[str]:
        rows = _of(rows, suspects)
        return known(self._table, rows, _days(rows))

    def _earlier(self, rows: pa.Table, alone: dict[str, str]) -> set[str]:
        """Return the events that have a row of before, under the id without the source."""
        rows = _of(rows, alone)
        held: dict[str, list[dict[str, Any]]] = {}
        for row in self._table.earlier(alone.values(), _days(rows)):
            held.setdefault(row["event_id"], []).append(row)
        found = {
            row["event_id"]
            for row in (rows.select(["event_id", *_SIGNS]).to_pylist() if held else ())
            if any(_same(row, each) for each in held.get(alone[row["event_id"]], ()))
        }
        self._doubtful = self._doubtful and bool(found)
        return found


_SIGNS = ("bytes", "uri", "original_name")


def _same(row: dict[str, Any], other: dict[str, Any]) -> bool:
    size, uri, _ = (row[sign] == other[sign] for sign in _SIGNS)
    return size and (uri or _name(row) == _name(other))


def _name(row: dict[str, Any]) -> str | None:
    """Return the name that a message had; None where that of its row is its place in the topic."""
    name: str = row["original_name"]
    return None if row["uri"] == f"kafka://{name}" else name


def _of(rows: pa.Table, event_ids: Iterable[str]) -> pa.Table:
    return rows.filter(pc.is_in(rows["event_id"], pa.array(event_ids, pa.string())))


def _days(rows: pa.Table) -> list[date]:
    # A message that was sent again may be of another day where only the broker gives the time.
    return sorted(
        {day + timedelta(n) for day in rows["date"].unique().to_pylist() for n in (-1, 0, 1)}
    )
