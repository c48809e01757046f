"""Each frame a row: folder, Kafka and backfill agree; who gives one answer a file says so."""

import json
from dataclasses import replace

import pytest

from tests import tiny_model
from tests.dicoms import dataset, saved, stack
from tests.topics import create, send

EACH = replace(tiny_model.PREPROCESSING, frame="each")
FILES = {
    "heart.dcm": saved(dataset(stack(23), frames=23)),
    "chest.dcm": saved(dataset(stack(2)[1])),
    "cut.dcm": saved(dataset(stack(23), frames=23))[:-50],
    "words.dcm": b"words",
}


def expected(name, event_id):
    """Rows of a file: id, frame, label or code."""
    if name != "heart.dcm":
        said = {"chest": "dark", "cut": "truncated", "words": "unsupported_format"}
        return {(event_id, None, said[name.partition(".")[0]])}
    # Of 24 pixels those up to the frame's number are white, the others black.
    label = ["dark"] * 6 + ["grey"] * 12 + ["bright"] * 5
    ids = [event_id, *(f"{event_id}#frame={n}" for n in range(2, 24))]
    return set(zip(ids, range(1, 24), label, strict=True))


def require_rows(rows):
    """All rows are there, once, in one commit a file, with the file's name and place."""
    first = {row["original_name"]: row for row in rows if "#frame=" not in row["event_id"]}
    assert first.keys() == FILES.keys()
    wanted = {each for name, row in first.items() for each in expected(name, row["event_id"])}
    found = [(r["event_id"], r["frame"], r["label"] or r["error_code"]) for r in rows]
    assert len(found) == len(wanted) == 26
    assert set(found) == wanted
    for row in rows:
        same = first[row["original_name"]]
        assert (row["uri"], row["batch_id"]) == (same["uri"], same["batch_id"])


@pytest.fixture
def home(tiny_home, tmp_path):
    made = tiny_home()
    tiny_model.register(made.settings, "leaf", tmp_path / "v1", preprocessing=EACH)
    for folder in (made.settings.inbox, tmp_path / "scans"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in FILES.items():
            (folder / name).write_bytes(data)
    return made


def test_frames_of_a_folder_and_of_a_backfill(home, tmp_path):
    done = home("run", "--once", "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    assert "4 images taken, 0 of them left behind" in done.stderr
    require_rows(home.table().to_pylist())

    told = home("backfill", tmp_path / "scans", "--into", "scans", "--json")
    assert told.returncode == 0, told.stderr
    assert {json.loads(told.stdout)[key] for key in ("images", "complete")} == {4, True}
    assert json.loads(told.stdout)["rows"] == 26
    again = home("backfill", "predictions", "--into", "again", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["rows"] == 26  # a file is taken apart once
    for table in ("scans", "again"):
        asked = f"select event_id, frame from {table} where frame = 23"
        found = json.loads(home("query", asked, "--format", "json").stdout)
        assert [row["event_id"].endswith("#frame=23") for row in found] == [True]

    one = home("predict", "--json", tmp_path / "scans" / "heart.dcm")
    assert one.returncode == 1
    assert "23 frames is no single picture" in json.loads(one.stdout)[0]["error_detail"]


@pytest.mark.slow
def test_frames_of_messages_and_of_those_that_come_again(tiny_home, broker, topic, tmp_path):
    create(broker, topic, partitions=1)
    home = tiny_home(kafka_servers=broker.address, kafka_topic=topic, source="kafka")
    tiny_model.register(home.settings, "leaf", tmp_path / "v1", preprocessing=EACH)
    for _ in range(2):
        named = [("ce_source", b"ward"), ("ce_type", b"scan")]
        values = [
            {
                "value": data,
                "headers": [*named, *((k, n.encode()) for k in ("ce_id", "ce_subject"))],
            }
            for n, data in FILES.items()
        ]
        send(broker, topic, values)
        done = home("run", "--once", "--metrics-port", "0")
        assert done.returncode == 0, done.stderr
        require_rows(home.table().to_pylist())
