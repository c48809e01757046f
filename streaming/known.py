"""Which events have a row already, also where another reading of a message dated it otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from sightstream.tables.predictions import models_of
from streaming.kafka.events import UNDATED

if TYPE_CHECKING:
    from sightstream.tables.predictions import Predictions


def known(table: Predictions, rows: pa.Table, dates: Sequence[date]) -> set[str]:
    """Return the event ids of rows that the table holds on these dates.

    A message is undated at one reading and dated at another where the stream's clock was wrong at
    one of them, or a year lies between: so messages without a row on these dates are looked up
    among the undated rows, and those that are undated now, on all dates.
    """
    found = table.known(rows["event_id"], pa.chunked_array([dates], pa.date32()))
    rows = _without(rows.filter(pc.equal(rows["source"], "kafka")), found)
    if len(rows):
        undated = pa.array(UNDATED)
        found |= table.known(rows["event_id"], pa.chunked_array([undated]))
        rows = _without(rows.filter(pc.is_in(rows["date"], undated)), found)
    if len(rows):
        found |= set(models_of(table.path, rows["event_id"].to_pylist()))
    return found


def _without(rows: pa.Table, event_ids: set[str]) -> pa.Table:
    held = pc.is_in(rows["event_id"], pa.array(event_ids, pa.string()))
    return rows.filter(pc.invert(held))
