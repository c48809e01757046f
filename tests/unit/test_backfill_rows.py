"""streaming.backfill.rows: the images of tables as events; real Delta and Parquet files."""

import hashlib
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from sightstream.errors import InputError
from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import ROW
from streaming.backfill import files, rows

NOW = 1_763_726_400.0
THEN = datetime(2025, 11, 21, 12, tzinfo=UTC)


def content(each):
    return str(uuid5(NAMESPACE_URL, f"ni:///sha-256;{hashlib.sha256(each).hexdigest()}"))


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "table")


def events(place, where="", labels=None):
    table = rows.opened(place) or rows.parquet(place, files.listed(place, ())[0])
    made, left = rows.events(table, where, NOW, "/home", labels)
    return made.to_pylist(), left


def test_images_of_a_delta_table_get_ids_of_their_content_wherever_their_rows_lie(place):
    held = {"content": [b"one", b"two", b"one"], "name": ["a", "b", "c"], "n": [1, 2, 3]}
    write_deltalake(place, pa.table(held | {"part": ["x y", "z", "x y"]}), partition_by=["part"])
    found, left = events(place)
    first = {each["event_id"] for each in found}
    again = str(uuid5(NAMESPACE_URL, f"ni:///sha-256;{hashlib.sha256(b'one').hexdigest()}#2"))
    assert first == {content(b"one"), content(b"two"), again}
    assert left == {"gone": 0}
    assert all(each["uri"].startswith(f"file://{place}/part%3D") for each in found)
    DeltaTable(place).optimize.compact()
    assert {each["event_id"] for each in events(place)[0]} == first


def test_a_condition_may_name_any_column_and_what_it_leaves_out_is_not_among_the_events(place):
    write_deltalake(place, pa.table({"content": [b"1", b"2", b"3"], "n": [1, 2, 3]}))
    found, _ = events(place, "n >= 2 -- and no bracket is hidden by this")
    assert [each["event_id"] for each in found] == [content(b"2"), content(b"3")]
    assert [each["uri"].rpartition("#")[2] for each in found] == ["1", "2"]
    assert len(events(place, "octet_length(content) > 1")[0]) == 0


def test_a_table_of_images_alone_has_events_too(place):
    write_deltalake(place, pa.table({"image": [b"1", b"2"]}))
    found, _ = events(place)
    assert [each["event_id"] for each in found] == [content(b"1"), content(b"2")]
    assert [each["original_name"] for each in found] == [None, None]


def test_a_condition_is_no_further_statement(place):
    write_deltalake(place, pa.table({"content": [b"1"], "n": ["x"]}))
    with pytest.raises(InputError, match="is more than a condition"):
        events(place, "true); CREATE TABLE more (n INT); SELECT 1 WHERE (true")


@pytest.mark.parametrize("where", ["nothing = 1", "n >", "n = 1) OR (", "n"])
def test_a_wrong_condition_is_one_sentence(place, where):
    write_deltalake(place, pa.table({"content": [b"1"], "n": ["x"]}))
    with pytest.raises(InputError, match=r"--where .* failed: ") as error:
        events(place, where)
    assert "\n" not in str(error.value)


def test_parquet_files_have_the_columns_of_their_folders(tmp_path, place):
    for day in (1, 2):
        (tmp_path / "table" / f"day={day}").mkdir(parents=True)
        held = pa.table({"image_path": [f"/photos/{day}.png", None]})
        pq.write_table(held, tmp_path / "table" / f"day={day}" / "a b.parquet")
    (tmp_path / "table" / "_SUCCESS").touch()
    found, _ = events(place, "day = 2")
    assert [each["uri"] for each in found] == ["/photos/2.png", None]
    assert [each["error_code"] for each in found] == [None, "empty"]
    assert found[0]["event_id"] == str(uuid5(NAMESPACE_URL, "/photos/2.png"))
    alone, _ = events(f"{place}/day=1/a b.parquet")
    assert [each["original_name"] for each in alone] == ["/photos/1.png", None]


def test_a_folder_that_has_other_files_too_is_no_table(tmp_path):
    pq.write_table(pa.table({"content": [b"1"]}), tmp_path / "a.parquet")
    (tmp_path / "b.png").touch()
    assert rows.parquet(str(tmp_path), files.listed(str(tmp_path), ())[0]) is None


@pytest.mark.parametrize("held", [{"n": [1]}, {"left": [b"1"], "right": [b"2"]}, {"uris": [["a"]]}])
def test_a_table_without_a_column_of_images_is_refused_with_its_columns(place, held):
    write_deltalake(place, pa.table(held))
    with pytest.raises(InputError, match=rf"no column of .*table \({', '.join(held)}\) can be"):
        rows.opened(place)


def test_rows_keep_their_own_ids_and_times_and_all_must_have_an_id(place):
    held = {"uri": ["/a", "/b"], "event_id": ["one", None], "event_time": [THEN, None]}
    write_deltalake(place, pa.table(held))
    with pytest.raises(InputError, match=r"1 rows of .* have no event_id"):
        events(place)
    (found,), _ = events(place, "event_id IS NOT NULL")
    assert (found["event_id"], found["event_time"]) == ("one", THEN.timestamp())


def row(event_id, uri, source="folder", **more):
    return {
        "event_id": event_id, "source": source, "uri": uri, "status": "ok", "event_time": THEN,
        "processed_at": THEN, "date": THEN.date(), "model": "leaf", "model_version": 1, **more,
    }  # fmt: skip


def test_predictions_are_the_images_that_are_there_and_strangers_uris_are_confined(tmp_path):
    here, ours = tmp_path / "a.png", tmp_path / "images" / "2025-11-21"
    here.touch()
    ours.mkdir(parents=True)
    name = "01a1fe0c-b2f5-7f93-9ba7-f629a851ac89.png"
    (ours / name).touch()
    made = Predictions(str(tmp_path / "predictions"))
    told = [
        row("moved", f"file:///elsewhere/images/2025-11-21/{name}"),
        row("claim", here.as_uri(), "kafka", label="rust"), row("bytes", "kafka://t/0/1", "kafka"),
        row("earlier", here.as_uri(), "backfill"), row("gone", "file:///gone.png"),
        row("far", "s3://bucket/far.png", "kafka"), row("none", None),
        row("object", "s3://bucket/in/a.png", "bucket"),
        row("again", here.as_uri(), "backfill", error_code="uri_refused"),
    ]  # fmt: skip
    made.append(pa.Table.from_pylist(told, ROW), "app", 0)
    table = rows.opened(made.path)
    found, left = rows.events(table, "", NOW, str(tmp_path), None)
    by_id = {each["event_id"]: each for each in found.to_pylist()}
    assert set(by_id) == {"moved", "claim", "earlier", "far", "object", "again"}
    assert left == {"gone": 3}
    assert by_id["moved"]["uri"] == (ours / name).as_uri()
    assert {name for name, each in by_id.items() if not each["confined"]} == {
        "earlier", "object",
    }  # fmt: skip
    labels = pa.table({"event_id": ["claim"]})
    asked = "event_id IN (SELECT event_id FROM labels) AND label = 'rust'"
    chosen, _ = rows.events(table, asked, NOW, str(tmp_path), labels)
    assert chosen["event_id"].to_pylist() == ["claim"]
    assert rows.events(table, "label = 'none'", NOW, str(tmp_path), labels)[1] == {"gone": 0}


def test_columns_of_other_types_are_refused_and_unlikely_times_are_the_plans(place):
    held = {"uri": ["/a", "/b"], "_row": [5, 6], "_place": [7, 8]}
    times = pa.array([2**62, 1], pa.timestamp("us", "UTC"))
    write_deltalake(f"{place}/times", pa.table(held | {"event_time": times}))
    found, _ = events(f"{place}/times", "_place = 7 AND _row = 5")
    assert [(each["uri"], each["event_time"]) for each in found] == [("/a", NOW)]
    write_deltalake(f"{place}/ids", pa.table(held | {"event_id": [["a"], ["b"]]}))
    with pytest.raises(InputError, match="are no text or times"):
        events(f"{place}/ids")
