"""publisher: the predictions topic tells what the table gets, whatever happened in between."""

import itertools
import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field
from deltalake.schema import PrimitiveType

from sightstream import config
from sightstream.tables import predictions
from sightstream.tables.schema import ROW
from streaming.kafka.publisher import Publisher
from tests.topics import messages


@pytest.fixture
def place(broker, request, tmp_path):
    name = f"told-{abs(hash(request.node.name))}"
    return config.Settings(
        home=tmp_path, kafka_servers=broker.address, kafka_predictions_topic=name
    )


@pytest.fixture
def table(place):
    return predictions.Predictions(place.predictions)


def append(table, *event_ids, later=timedelta(0)):
    now = datetime.now(UTC) + later
    required = {"source": "folder", "status": "ok", "processed_at": now, "date": now.date()}
    rows = [{"event_id": each, **required} for each in event_ids]
    table.append(pa.Table.from_pylist(rows, ROW), "app", table.last_batch("app") or 0)


def publisher_of(settings):
    file = settings.root / "checkpoints" / "predictions-topic.json"
    topic = settings.kafka_predictions_topic
    return Publisher(settings.kafka, topic, settings.predictions, file)


@contextmanager
def publishing(settings):
    stop = Event()
    thread = Thread(target=publisher_of(settings).run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def told(broker, settings):
    return [m.key.decode() for m in messages(broker, settings.kafka_predictions_topic)]


def test_rows_that_come_are_told_and_those_before_the_first_start_are_not(place, table, broker):
    append(table, "before")
    with publishing(place):
        append(table, "a", "b")
        append(table, "c")
    assert told(broker, place) == ["a", "b", "c"]
    (first, *_) = messages(broker, place.kafka_predictions_topic)
    assert json.loads(first.value)["event_id"] == "a"


def test_what_came_while_it_was_away_is_told_at_the_next_start(place, table, broker):
    with publishing(place):
        append(table, "a")
    append(table, "b")
    with publishing(place):
        pass
    with publishing(place):
        pass
    assert told(broker, place) == ["a", "b"]


def test_rows_whose_files_were_merged_are_told_from_the_table(place, table, broker):
    with publishing(place):
        append(table, "a")
    append(table, "b")
    append(table, "c")
    table._table.optimize.compact()
    table._table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    append(table, "d")
    with publishing(place):
        append(table, "e")
    assert set(told(broker, place)) == {"a", "b", "c", "d", "e"}


def test_rows_whose_versions_are_gone_from_the_log_are_told_from_the_table(place, table, broker):
    with publishing(place):
        append(table, "a")
    before = predictions.opened(place.predictions).version()
    append(table, "b")
    append(table, "c")
    table._table.create_checkpoint()
    Path(place.predictions, "_delta_log", f"{before + 1:020d}.json").unlink()
    with publishing(place):
        pass
    assert set(told(broker, place)) == {"a", "b", "c"}


def test_one_that_fails_amid_many_rows_goes_on_from_there(place, table, broker, monkeypatch):
    with publishing(place):
        append(table, "a")
    before = predictions.opened(place.predictions).version()
    for hours, event_id in enumerate("bcd", 1):
        append(table, event_id, later=timedelta(hours=hours))
    table._table.create_checkpoint()
    Path(place.predictions, "_delta_log", f"{before + 1:020d}.json").unlink()
    monkeypatch.setattr(predictions, "HELD", 1)
    since = predictions.since

    def fails(path, moment):
        yield from itertools.islice(since(path, moment), 2)
        raise OSError("the disk is away")

    with monkeypatch.context() as fault:
        fault.setattr(predictions, "since", fails)
        with publishing(place):
            pass
    assert told(broker, place) == ["a", "a", "b"]
    with publishing(place):
        pass
    assert told(broker, place) == ["a", "a", "b", "b", "c", "d"]


def test_rows_that_others_wrote_anew_are_not_told_again(place, table, broker):
    with publishing(place):
        append(table, "a", "b")
        other = DeltaTable(place.predictions)
        other.update({"error_detail": "'seen'"}, predicate="event_id = 'a'")
        other.delete("event_id = 'b'")
        other.alter.add_columns([Field("reviewed_by", PrimitiveType("string"))])
        append(table, "c")
        other.optimize.compact()
        append(table, "d")
    assert told(broker, place) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "wrong", [None, {"version": "1"}, {"version": True}, {"processed_at": None}], ids=str
)
def test_a_damaged_memory_tells_all_rows_again(place, table, broker, wrong):
    with publishing(place):
        append(table, "a")
    file = place.root / "checkpoints" / "predictions-topic.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong) if wrong else "{")
    with publishing(place):
        pass
    assert told(broker, place) == ["a", "a"]
