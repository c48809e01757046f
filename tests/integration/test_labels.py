"""labels: a Delta table that people and processes add to, and of which the last word counts."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from sightstream.errors import EnvironmentUnfitError, InputError
from sightstream.tables import labels, predictions
from sightstream.tables.labels import Label, Labels, from_csv
from sightstream.tables.query import query
from sightstream.tables.schema import LABEL, ROW


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home/labels"


@pytest.fixture
def table(path):
    return Labels(path)


def held(path):
    """The labels that hold, as {event id: label}."""
    current = Labels(path).current()
    return dict(zip(current["event_id"].to_pylist(), current["label"].to_pylist(), strict=True))


def history(path):
    return DeltaTable(path).to_pyarrow_table().sort_by("labelled_at").to_pylist()


# The table


def test_it_is_created_by_the_first_label(table, path):
    assert table.current().num_rows == 0
    assert not path.exists()
    table.put({"a": "cat"}, "ann")
    assert pa.schema(DeltaTable(path).schema().to_arrow()).names == LABEL.names


def test_what_is_in_the_place_of_its_folder_is_named(table, path):
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(EnvironmentUnfitError, match=r"^the labels table's folder .*; move what"):
        table.put({"a": "cat"}, "ann")
    assert path.read_text() == "mine"


def test_each_column_has_a_comment(table, path):
    table.put({"a": "cat"}, "ann")
    comments = {field.name: field.metadata for field in DeltaTable(path).schema().fields}
    assert comments["labelled_by"] == {"comment": "who said it"}
    assert all(comment["comment"] for comment in comments.values())


def test_a_row_says_what_by_whom_and_when(table, path):
    before = datetime.now(UTC)
    (row,) = table.put({"a": "chat \u200c 猫"}, "ann")
    assert row == Label("a", "chat \u200c 猫", row.labelled_at, "ann")
    assert before <= row.labelled_at <= datetime.now(UTC)
    assert history(path) == table.current().to_pylist() == [vars(row)]


def test_many_labels_are_one_commit(table, path):
    table.put({str(n): "cat" for n in range(1000)}, "ann")
    assert DeltaTable(path).version() == 1
    assert len(held(path)) == 1000


def test_no_labels_are_no_commit(table, path):
    assert table.put({}, "ann") == []
    assert not path.exists()


def test_the_newest_label_counts_and_the_others_are_kept(table, path):
    for label in ("cat", "dog", "cow"):
        table.put({"a": label}, "ann")
    table.put({"b": "cat"}, "bob")
    assert held(path) == {"a": "cow", "b": "cat"}
    assert [row["label"] for row in history(path)] == ["cat", "dog", "cow", "cat"]


def test_the_newest_label_counts_also_when_the_clock_was_set_back(table, path, monkeypatch):
    (first,) = table.put({"a": "cat"}, "ann")

    class Earlier(datetime):
        @classmethod
        def now(cls, zone=None):
            return first.labelled_at - timedelta(days=1)

    monkeypatch.setattr(labels, "datetime", Earlier)
    table.put({"a": "dog"}, "ann")
    assert held(path) == {"a": "dog"}


def test_a_withdrawn_label_is_left_out(table, path):
    table.put({"a": "cat", "b": "dog"}, "ann")
    table.put({"a": None}, "ann")
    assert held(path) == {"b": "dog"}


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        (" cat", "has spaces around it"),
        (".hidden", "begins with a dot"),
        ("..", "begins with a dot"),
        ("cats/dogs", "has a / in it"),
        ("a\x00b", "has control characters in it"),
        ("a\nb", "has control characters in it"),
        ("a\u2028b", "has control characters in it"),
        ("a\udcffb", "has control characters in it"),
        ("ü" * 101, "is longer than 200 bytes"),
    ],
)
def test_what_cannot_name_a_folder_is_refused_with_all_beside_it(table, path, label, why):
    with pytest.raises(InputError, match=f"cannot be a label, since it {why}"):
        table.put({"a": "cat", "b": label}, "ann")
    assert not path.exists()


# Undo


def test_an_undo_brings_back_the_label_before(table, path):
    table.put({"a": "cat"}, "ann")
    table.put({"a": "dog", "b": "dog"}, "ann")
    assert table.undo("a", "bob").label == "cat"
    assert held(path) == {"a": "cat", "b": "dog"}
    assert history(path)[-1]["labelled_by"] == "bob"


def test_an_undo_of_the_first_label_withdraws_it(table, path):
    table.put({"a": "cat"}, "ann")
    assert table.undo("a", "ann").label is None
    assert held(path) == {}
    assert [row["label"] for row in history(path)] == ["cat", None]


def test_an_undo_can_be_undone(table, path):
    table.put({"a": "cat"}, "ann")
    table.undo("a", "ann")
    assert table.undo("a", "ann").label == "cat"
    assert held(path) == {"a": "cat"}


def test_an_undo_takes_back_a_change_not_its_confirmation(table):
    for label in ("cat", "dog", "dog"):
        table.put({"a": label}, "ann")
    assert table.undo("a", "ann").label == "cat"


def test_what_was_never_labelled_cannot_be_undone(table, path):
    with pytest.raises(InputError, match="event 'a' has no label that could be undone"):
        table.undo("a", "ann")
    assert not path.exists()


# Several writers

WRITER = """
import pathlib, sys
from sightstream.tables import labels
import deltalake, pyarrow.compute, pyarrow.dataset
labels.SMALL_FILES = 5
name, path = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for n in range(30):
    labels.Labels(pathlib.Path(path)).put({f"{name}{n}": name, "both": f"{name}{n}"}, name)
"""


def test_two_processes_that_write_at_once_both_succeed(path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name, path],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in ("page", "command")
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert len(history(path)) == 2 * 2 * 30
    assert {f"{name}{n}" for name in ("page", "command") for n in range(30)} <= set(held(path))
    assert held(path)["both"] in {"page29", "command29"}


def test_small_files_are_merged_and_nothing_is_lost(table, path, monkeypatch):
    monkeypatch.setattr(labels, "SMALL_FILES", 5)
    for n in range(20):
        table.put({"a": str(n)}, "ann")
    assert len(DeltaTable(path).file_uris()) <= 6
    assert [row["label"] for row in history(path)] == [str(n) for n in range(20)]
    assert held(path) == {"a": "19"}


# Beside the predictions


@pytest.fixture
def predicted(path):
    """A table of predictions that says cat of a, b and c, and has rejected x."""
    now, here = datetime.now(UTC), str(path.parent / "predictions")
    both = {"source": "folder", "date": date(2025, 11, 21), "processed_at": now}
    ok = {"status": "ok", "model": "pets", "label": "cat"} | both
    rows = [{"event_id": event_id} | ok for event_id in "abc"]
    rows.append({"event_id": "x", "status": "rejected"} | both)
    predictions.Predictions(here).append(pa.Table.from_pylist(rows, ROW), "app", 0)
    return here


def test_a_query_joins_predictions_with_labels(table, path, predicted):
    table.put({"a": "cat", "b": "cat"}, "ann")
    table.put({"b": "dog", "c": "dog"}, "bob")
    table.undo("c", "bob")
    sql = (
        "SELECT event_id, p.label AS said, l.label, labelled_by, labelled_at "
        "FROM predictions p JOIN labels l USING (event_id) ORDER BY event_id"
    )
    found = query(predicted, sql, labels=path)
    assert found.drop_columns("labelled_at").to_pylist() == [
        {"event_id": "a", "said": "cat", "label": "cat", "labelled_by": "ann"},
        {"event_id": "b", "said": "cat", "label": "dog", "labelled_by": "bob"},
    ]
    assert found["labelled_at"].to_pylist()[0] < datetime.now(UTC)


@pytest.mark.parametrize("known", [True, False])
def test_before_the_first_label_a_query_finds_none(path, predicted, known):
    found = query(predicted, "FROM labels", labels=path if known else None)
    assert (found.num_rows, found.column_names) == (0, LABEL.names)
    assert not path.exists()


def test_the_models_of_events_are_known_from_their_rows(predicted):
    found = predictions.models_of(predicted, ["a", "x", "nothing"])
    assert found == {"a": "pets", "x": None}
    assert predictions.models_of(predicted, []) == {}


# Files of labels


@pytest.fixture
def file(tmp_path):
    def write(content):
        written = tmp_path / "labels.csv"
        written.write_bytes(content)
        return written

    return write


@pytest.mark.parametrize(
    "content",
    [
        b'a,cat\nb,"red, big"\n',
        b'event_id,label\r\na,cat\r\n\r\nb,"red, big"',
        b'\xef\xbb\xbfa,cat\nb,"red, big"\n',
        b"\xef\xbb\xbfevent_id;label\r\na;cat\r\nb;red, big\r\n;\r\n",
        b"\xef\xbb\xbfa;cat\r\nb;red, big\r\n",
        b"sep=;\r\nevent_id;label\r\na;cat\r\nb;red, big\r\n",
        b"sep=\na,cat\nb,'red, big'\n".replace(b"'", b'"'),
        "event_id\tlabel\r\na\tcat\r\nb\tred, big\r\n".encode("utf-16"),
    ],
)
def test_a_file_holds_an_event_and_its_label_on_each_line(file, content):
    assert from_csv(file(content))[0] == {"a": "cat", "b": "red, big"}


def test_semicolons_within_a_column_separate_none(file):
    assert from_csv(file(b"a;b;c,cat\nd,x;y;z\n"))[0] == {"a;b;c": "cat", "d": "x;y;z"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a,cat\n\nb\n", "line 3: it is not event_id,label but 'b'"),
        (b"a,cat,dog\n", "line 1: it is not event_id,label but 'a,cat,dog'"),
        (b",cat\n", "line 1: it is not event_id,label but ',cat'"),
        (b"event_id,label\na,cat\nb,\n", "line 3: '' cannot be a label, since it is empty"),
        (b"sep=;\na;cat\nb\n", "line 3: it is not event_id,label but 'b'"),
        (b"a;cat\na;dog\n", "line 2: event 'a' stands in line 1 already"),
        (b"a,cat\na,dog\n", "line 2: event 'a' stands in line 1 already"),
        (b"a,\xff\n", "cannot be read: 'utf-8' codec"),
        (b'a,"cat\n', "cannot be read: unexpected end of data"),
        (b"event_id,label\n", "has no lines of event_id,label"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_line(file, content, why):
    with pytest.raises(InputError) as told:
        from_csv(file(content))
    assert why in str(told.value)
    assert "labels.csv" in str(told.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv cannot be read: .*No such file"):
        from_csv(tmp_path / "none.csv")


@pytest.mark.parametrize("damage", ["log", "rows", "table of others"])
def test_a_damaged_table_is_told(table, path, damage):
    table.put({"a": "cat"}, "ann")
    if damage == "log":
        for entry in (path / "_delta_log").glob("*.json"):
            entry.write_bytes(b"{")
    elif damage == "rows":
        for file in path.glob("*.parquet"):
            file.write_bytes(bytes(2000))
    else:
        shutil.rmtree(path)
        write_deltalake(path, pa.table({"a": [1]}))
    for use in (
        table.current, lambda: table.put({"b": "dog"}, "ann"), lambda: table.undo("a", "ann"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"^the table {path} cannot be read: "):
            use()


def test_an_id_that_is_no_utf_8_is_no_text(table):
    table.put({"a": "cat"}, "ann")
    for use in (lambda: table.put({"a\udcff": "dog"}, "ann"), lambda: table.undo("a\udcff", "ann")):
        with pytest.raises(UnicodeEncodeError):
            use()
