"""`sightstream backfill` of a bucket's objects, with a real server, Spark and a small model."""

import json

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import ROW
from tests import objects, tiny_model

KEYS = ("a.png", "b c/%41+.png", "b//c.png", "./d.png", "trail/")
"""Names that Arrow's paths do not have, or that it changes."""


@pytest.fixture
def client(tmp_path, monkeypatch):
    with objects.client(tmp_path, "photos") as found:
        monkeypatch.delenv("AWS_ALLOW_HTTP")  # which is for delta-rs alone
        yield found


@pytest.fixture
def home(client, tiny_home, tmp_path):
    made = tiny_home()
    tiny_model.register(made.settings, "leaf", tmp_path / "v1")
    return made


def rows(path):
    found = DeltaTable(path).to_pyarrow_dataset().to_table().to_pylist()
    return {row["original_name"]: row for row in found}


def test_objects_are_read_in_their_listed_version_and_those_of_a_stream_by_their_uri(
    home, client, tmp_path
):
    photo = tiny_model.photograph(tmp_path / "photo.png", 250).read_bytes()
    for key in KEYS:
        client.put_object(Bucket="photos", Key=f"in/{key}", Body=photo)
    client.put_object(Bucket="photos", Key="in/folder/")
    client.put_object(Bucket="photos", Key="in/x.png.part", Body=b"left alone")
    done = home("backfill", "s3://photos/in/", "--into", "archive", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == len(KEYS)
    archive = rows(home.settings.tables / "archive")
    assert archive.keys() == set(KEYS)
    assert {row["label"] for row in archive.values()} == {"bright"}

    streams = [row | {"source": "bucket", "batch_id": 0} for row in archive.values()]
    Predictions(home.settings.predictions).append(pa.Table.from_pylist(streams, ROW), "stream", 0)
    done = home("backfill", "s3://photos/", "--json")
    assert done.returncode == 2
    assert "get their rows from the stream" in done.stderr
    done = home("backfill", "predictions", "--into", "again", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rows"], told["rejected"]) == (len(KEYS), 0)
    first = rows(home.settings.predictions)
    again = rows(home.settings.tables / "again")
    assert {row["event_id"] for row in again.values()} == {
        row["event_id"] for row in first.values()
    }


def test_a_bucket_that_is_away_is_an_error_and_makes_no_row(home):
    done = home("backfill", "s3://nowhere/in", "--into", "archive")
    assert done.returncode == 3
    assert "s3://nowhere/in cannot be reached: NoSuchBucket" in done.stderr
    assert not (home.settings.tables / "archive").exists()
