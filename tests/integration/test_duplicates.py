"""duplicates: an id that came before is left out, whatever the memory holds."""

import time
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from sightstream.tables import predictions
from sightstream.tables.schema import ROW
from streaming.kafka import duplicates
from streaming.kafka.duplicates import Recent
from streaming.kafka.events import Message, Places

DAY = 86_400


def rows(*event_ids, hours=0, **more):
    now = datetime.now(UTC) - timedelta(hours=hours)
    required = {"source": "kafka", "status": "ok", "processed_at": now, "date": now.date()} | more
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


def reading(now, milliseconds):
    """The row of a message, as a stream makes it whose clock is at `now`."""
    message = Message(0, 7, int(milliseconds), None, b"image", {})
    (event,) = Places("images", "", now, 1000).events([message]).to_pylist()
    return rows(event["event_id"], date=datetime.fromtimestamp(event["event_time"], UTC).date())


NOW = time.time() // DAY * DAY + 60
SENT = 1000 * NOW
READINGS = {
    "without a time": (reading(NOW, -1), reading(NOW + 5 * DAY, -1)),
    "of the future": (reading(NOW, SENT + 1e10), reading(NOW + 120 * DAY, SENT + 1e10)),
    "still of the future": (reading(NOW, SENT + 1e11), reading(NOW + 5 * DAY, SENT + 1e11)),
    "a year old": (
        reading(NOW, SENT - 365e3 * DAY), reading(NOW + 5 * DAY, SENT - 365e3 * DAY)
    ),
    "the stream's clock was behind": (reading(NOW - 4000 * DAY, SENT), reading(NOW, SENT)),
    "the stream's clock was ahead": (reading(NOW + 4000 * DAY, SENT), reading(NOW, SENT)),
    "the stream's clock is ahead": (reading(NOW, SENT), reading(NOW + 4000 * DAY, SENT)),
    "of an earlier release": (
        rows("images/0/7", date=date.today() - timedelta(371)), reading(NOW, -1)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("first", "again"), READINGS.values(), ids=READINGS)
def test_a_message_that_is_read_again_is_found_whatever_date_it_then_gets(table, first, again):
    table.append(first, "app", 0)
    other = again.set_column(0, ROW.field("event_id"), pa.array(["images/0/8"]))
    both = pa.concat_tables([again, other])
    assert ids(Recent(table, "kafka").first(both)) == ["images/0/8"]


def test_a_dated_id_that_comes_again_after_a_week_is_another_event(table):
    """As the counter of a sender that begins anew."""
    table.append(rows("5", hours=24 * 7), "app", 0)
    assert ids(Recent(table, "kafka").first(rows("5"))) == ["5"]


def test_the_memory_is_bounded_and_forgets_the_oldest(table, monkeypatch):
    monkeypatch.setattr(duplicates, "WINDOW_ROWS", 3)
    recent = Recent(table, "kafka")
    table.append(rows("a", "b", "c", "d"), "app", 0)
    recent.remember(["a", "b", "c", "d"])
    assert ids(recent.first(rows("a", "b", "d"))) == ["a"]


PLACE = {"uri": "kafka://images/0/7", "original_name": "images/0/7", "bytes": 900}


def message(**changes):
    return rows("/cam-a#5", **PLACE | {"uri": "kafka://images/0/9"} | changes)


@pytest.fixture
def before(settings):
    """A table with a row that an earlier version wrote of a message with a source and an id."""
    path = settings.predictions
    table = predictions.Predictions(path)
    table.append(rows("5", **PLACE, hours=1), "app", 0)
    return table


@pytest.mark.parametrize(
    ("sent", "new"),
    [
        pytest.param(message(uri=PLACE["uri"]), False, id="the same message"),
        pytest.param(message(original_name="images/0/9"), False, id="again, without a name"),
        pytest.param(message(original_name="gate.png"), True, id="of another name"),
        pytest.param(message(bytes=901), True, id="of another size"),
        pytest.param(
            message(uri="file:///x", original_name="images/0/9"), True, id="another claim check"
        ),
    ],
)
def test_a_row_of_before_sources_counted_answers_for_its_message_alone(before, sent, new):
    for _ in range(2):  # after a restart too
        assert Recent(before, "kafka").first(sent).num_rows == new


def test_a_row_of_before_is_found_behind_the_memory_while_all_comes_again(before, monkeypatch):
    monkeypatch.setattr(duplicates, "WINDOW_ROWS", 1)
    before.append(rows("x"), "app", 1)
    recent = Recent(before, "kafka")
    again = rows("/cam-a#5", **PLACE)
    assert recent.first(again).num_rows == 0
    assert recent.first(rows("/cam-a#6")).num_rows == 1
    assert recent.first(again).num_rows == 1  # a micro-batch had none of them


def test_an_id_without_a_source_is_another_event_than_one_with_it(table):
    recent = Recent(table, "kafka")
    ids_sent = ["5", "/cam-a#5", "/cam-b#5"]
    for batch, each in enumerate(ids_sent):
        left = recent.first(rows(each, **PLACE))
        assert ids(left) == [each]
        table.append(left, "app", batch)
        recent.remember([each])
    assert ids(Recent(table, "kafka").first(rows(*ids_sent, "/cam-c#5", **PLACE))) == ["/cam-c#5"]
