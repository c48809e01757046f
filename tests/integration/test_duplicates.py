"""duplicates: an id that came before is left out, whatever the memory holds."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from sightstream.tables import predictions
from sightstream.tables.schema import ROW
from streaming.kafka import duplicates
from streaming.kafka.duplicates import Recent


def rows(*event_ids, hours=0):
    now = datetime.now(UTC) - timedelta(hours=hours)
    required = {"source": "kafka", "status": "ok", "processed_at": now, "date": now.date()}
    return pa.Table.from_pylist([{"event_id": each, **required} for each in event_ids], ROW)


@pytest.fixture
def table(settings):
    return predictions.Predictions(settings.predictions)


def ids(found):
    return found["event_id"].to_pylist()


def test_the_first_of_several_in_a_micro_batch_is_kept(table):
    assert ids(Recent(table, "kafka").first(rows("a", "b", "a", "c", "b"))) == ["a", "b", "c"]


def test_what_the_table_holds_is_left_out_after_a_restart_and_from_another_day(table):
    table.append(rows("a", "b", hours=20), "app", 0)
    assert ids(Recent(table, "kafka").first(rows("a", "c", "a"))) == ["c"]


def test_a_hash_alone_leaves_nothing_out(table):
    recent = Recent(table, "kafka")
    recent.remember(["a"])  # as if another id had the same hash
    assert ids(recent.first(rows("a", "b"))) == ["a", "b"]


def test_the_memory_is_bounded_and_forgets_the_oldest(table, monkeypatch):
    monkeypatch.setattr(duplicates, "WINDOW_ROWS", 3)
    recent = Recent(table, "kafka")
    table.append(rows("a", "b", "c", "d"), "app", 0)
    recent.remember(["a", "b", "c", "d"])
    assert ids(recent.first(rows("a", "b", "d"))) == ["a"]
