"""streaming.observe.news: failures and new champions are told once, and noted for `status`."""

from datetime import UTC, datetime
from io import StringIO
from types import SimpleNamespace

import pyarrow as pa
import pytest
from rich.console import Console

from sightstream import terminal
from sightstream.tables.schema import ROW
from streaming import query
from streaming.observe import news
from streaming.observe.news import News, Note, Restarts
from streaming.observe.screen import Screen
from tests.streams import Checkpoint, Running, Source, Table

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def running(tmp_path, monkeypatch):
    """A stream whose query is started again without a pause."""
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(query, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    place = tmp_path / "checkpoint"
    return Running(Source(place, "abc"), Table(), Checkpoint(place))


def broken(*_):
    raise RuntimeError("the disk is full")


def again(running):
    running.query.tend()
    running.query.tend()
    running.steps()


def test_a_query_that_fails_is_told_each_time_and_noted_until_it_commits(running, tmp_path):
    said, file = [], tmp_path / "stream.json"
    told = News(running.stream, said.append, file)
    done, running.source.done = running.source.done, broken
    running.run()
    for count in (1, 2):
        again(running)
        told.look()
        told.look()
        note = Note({"folder": Restarts(count, "the disk is full")})
        assert news.read(file) == note
    assert said == ["the query of folder failed and is started again: the disk is full"] * 2
    assert str(note.restarts["folder"]) == (
        "failed and was started again 2 times since its last micro-batch: the disk is full"
    )
    running.source.done = done
    again(running)
    running.query.tend()
    told.look()
    assert news.read(file) == Note()


def test_a_new_champion_is_told_once(running, tmp_path):
    said = []
    told = News(running.stream, said.append, tmp_path / "stream.json")
    told.look()
    before, running.champion.model = running.champion.model, "leaf version 2"
    told.look()
    told.look()
    assert said == [f"leaf version 2 takes over from {before} at the next micro-batch"]


def test_a_home_that_cannot_be_written_stops_nothing(running, tmp_path):
    said = []
    running.source.done = broken
    running.run()
    again(running)
    News(running.stream, said.append, tmp_path / "gone" / "stream.json").look()
    assert said
    assert news.read(tmp_path / "gone" / "stream.json") == Note()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"restarts": {"folder": {"count": 1}}}'])
def test_a_note_that_cannot_be_read_is_empty(tmp_path, text):
    file = tmp_path / "stream.json"
    file.write_text(text)
    assert news.read(file) == Note()


def test_names_and_labels_of_rows_are_text(monkeypatch):
    monkeypatch.setattr(terminal, "out", Console(file=StringIO()))
    row = dict.fromkeys(ROW.names) | {
        "event_time": NOW, "processed_at": NOW, "original_name": "a\x1b.png", "score": 0.5,
        "label": "b\x1b[2J",
    }  # fmt: skip
    Screen(as_json=False).add(pa.Table.from_pylist([row | {"status": "ok"}], ROW))
    assert "  a\\x1b.png  b\\x1b[2J  0.5000  0.00 s\n" in terminal.out.file.getvalue()


def test_a_sentence_stays_above_the_live_table(monkeypatch, tmp_path):
    shown = Console(file=StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(terminal, "out", shown)
    screen = Screen(as_json=False)
    screen.open({}, str(tmp_path / "none"), int)
    screen.say("the query failed\x1b[2J")
    screen.close()
    text = shown.file.getvalue()
    assert "the query failed\\x1b[2J\n" in text
    assert text.rindex("latency") > text.index("the query failed")


@pytest.mark.parametrize(
    "text",
    ["", "[" * 200_000, "\0" * 99, "[]", '{"restarts": []}', '{"restarts": {"folder": 3}}',
     '{"restarts": {"folder": {"count": "2", "why": "it"}}}',
     '{"restarts": {"folder": {"count": 2, "why": null}}}'],
)  # fmt: skip
def test_a_damaged_note_is_an_empty_one(tmp_path, text):
    (tmp_path / "stream.json").write_text(text)
    assert news.read(tmp_path / "stream.json") == Note()
