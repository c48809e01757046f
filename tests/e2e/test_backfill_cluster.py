"""A backfill of a bucket on a standalone cluster, into a table in the bucket."""

import json

import pytest
from deltalake import DeltaTable

from sightstream.tables import delta
from tests import cluster, objects, tiny_model

BUCKET = "lake"

pytestmark = pytest.mark.slow


@pytest.fixture
def master(tmp_path, monkeypatch):
    """The uri of a cluster's master, in an environment in which the object store is found."""
    with objects.running(tmp_path, BUCKET) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with cluster.running(tmp_path) as place:
            yield place.url


def put(photo, *names):
    for name in names:
        with delta.store(f"s3://{BUCKET}").open_output_stream(f"photos/{name}") as file:
            file.write(photo)


def test_objects_get_their_rows_once_and_a_later_one_gets_its_own(master, tiny_home, tmp_path):
    home = tiny_home()
    tiny_model.register(home.settings, "leaf", tmp_path / "v1")
    photo = tiny_model.photograph(tmp_path / "a.png", 250).read_bytes()
    put(photo, *(f"2025/{number} #%.png" for number in range(100)))
    put(photo[:60], "torn.png")
    put(b"left alone", "upload.part")

    def run():
        wanted = f"s3://{BUCKET}/photos/", "--into", f"s3://{BUCKET}/answers", "--master", master
        done = home("backfill", *wanted, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    told = run()
    assert (told["rows"], told["rejected"], told["left_out"]) == (101, 1, {})
    put(photo, "2026.png")
    told = run()
    assert (told["rows"], told["left_out"]) == (1, {"classified": 101})
    rows = DeltaTable(f"s3://{BUCKET}/answers").to_pyarrow_table().to_pylist()
    answered = {row["uri"]: row["label"] or row["error_code"] for row in rows}
    assert len(answered) == len(rows) == 102
    assert answered[f"s3://{BUCKET}/photos/2025/7%20%23%25.png"] == "bright"
    assert answered[f"s3://{BUCKET}/photos/torn.png"] == "truncated"
