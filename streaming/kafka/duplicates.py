"""Duplicates: event ids that a producer sent twice get one row each, within a window."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from sightstream.tables.predictions import Predictions, ask

WINDOW_ROWS = 200_000  # rows whose event ids are remembered; about 20 MB of memory


class Recent:
    """The event ids of a source's latest rows, as hashes; a hit is looked up in the table."""

    def __init__(self, table: Predictions, source: str) -> None:
        """Remember the latest rows that the table has of a source."""
        self._table = table
        # A dictionary keeps its order, so that the oldest are forgotten first.
        self._seen: dict[int, None] = {}
        latest = ask(
            table.path,
            f"SELECT event_id FROM predictions WHERE source = '{source}' "  # noqa: S608
            f"ORDER BY processed_at DESC LIMIT {WINDOW_ROWS}",
        )
        self.remember(reversed(latest["event_id"].to_pylist()))

    def first(self, rows: pa.Table) -> pa.Table:
        """Leave out rows whose id came before, in this micro-batch or in the table."""
        ids = rows["event_id"].to_pylist()
        here = dict.fromkeys(ids)
        suspects = [each for each in here if hash(each) in self._seen]
        if len(here) == len(ids) and not suspects:
            return rows
        known = self._known(rows, set(suspects)) if suspects else set[str]()
        keep = []
        for each in ids:
            keep.append(each in here and each not in known)
            here.pop(each, None)
        return rows.filter(keep)

    def remember(self, event_ids: Iterable[str]) -> None:
        """Remember ids that are in the table now."""
        self._seen.update(dict.fromkeys(map(hash, event_ids)))
        for oldest in list(islice(self._seen, max(0, len(self._seen) - WINDOW_ROWS))):
            del self._seen[oldest]

    def _known(self, rows: pa.Table, suspects: set[str]) -> set[str]:
        rows = rows.filter(pc.is_in(rows["event_id"], pa.array(suspects, pa.string())))
        # A message that was sent again may be of another day where only the broker gives the time.
        days = {
            day + timedelta(shift)
            for day in rows["date"].unique().to_pylist()
            for shift in (-1, 0, 1)
        }
        return self._table.known(rows["event_id"], pa.chunked_array([sorted(days)]))
