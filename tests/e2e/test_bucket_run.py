"""`sightstream run --inbox s3://...` as its user sees it."""

import json
import os

import boto3
import pytest

from tests import objects

URI = "s3://photos/in%20coming/"
SECRET = "no-one-may-read-this"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with objects.running(tmp_path_factory.mktemp("objects"), "photos") as environment:
        before = dict(os.environ)
        os.environ.update(environment | {"AWS_SECRET_ACCESS_KEY": SECRET})
        yield boto3.client("s3")
        os.environ.clear()
        os.environ.update(before)


def test_objects_become_rows_and_nothing_secret_is_written(new_home, starter, server):
    home = new_home()
    names = {f"{n % 3}/digit #{n}.png": digit for n, digit in enumerate(starter.digits[:20])}
    for name, digit in names.items():
        server.put_object(Bucket="photos", Key=f"in coming/{name}", Body=digit.read_bytes())
    for name, body in (("noise.png", b"\x89PNG no"), ("empty.png", b""), ("folder/", b"")):
        server.put_object(Bucket="photos", Key=f"in coming/{name}", Body=body)
    done = home("run", "--once", "--json", "--inbox", URI, "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    assert "22 images taken, 0 of them left behind" in done.stderr
    rows = {row["original_name"]: row for row in home.table().to_pylist()}
    assert rows.keys() == {*names, "noise.png", "empty.png"}
    assert len(done.stdout.splitlines()) == len(rows) == home.count()
    for name in names:
        row = rows[name]
        assert (row["status"], row["source"], row["format"]) == ("ok", "bucket", "PNG")
        assert row["uri"] == URI + name.replace(" ", "%20").replace("#", "%23")
        assert row["bytes"] == names[name].stat().st_size
    assert rows["empty.png"]["error_code"] == "empty"
    assert rows["noise.png"]["status"] == "rejected"

    again = home("run", "--once", "--inbox", URI, "--metrics-port", "0")
    assert "0 images taken" in again.stderr
    told = json.loads(home("status", "--inbox", URI, "--json").stdout)
    assert (told["behind"], told["stuck"]["count"], told["rows_today"]) == (0, 0, 22)

    files = [path for path in home.settings.root.rglob("*") if path.is_file()]
    assert home.settings.logs / "sightstream.log" in files
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_bucket_that_is_not_there_is_one_sentence(new_home, server):
    home = new_home()
    done = home("run", "--inbox", "s3://nobody-made-this/in", "--metrics-port", "0")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == (
        "sightstream: the inbox s3://nobody-made-this/in/ cannot be reached: NoSuchBucket: The "
        "specified bucket does not exist; docs/images-in.md tells where its address and "
        "credentials come from"
    )


@pytest.mark.parametrize("uri", [f"s3://key:{SECRET}@photos/in", f"s3://photos/in?secret={SECRET}"])
def test_a_uri_with_a_secret_is_refused_without_it(new_home, uri):
    home = new_home()
    done = home("run", "--inbox", uri, "--metrics-port", "0")
    assert done.returncode == 2
    assert "without users, passwords or options" in done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_bucket_that_goes_away_is_told_and_waited_for(new_home, starter, server, until, figures):
    at = {"Bucket": "leaves"}
    made = at | {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}}
    server.create_bucket(**made)
    home = new_home(inbox_look_seconds=0.2)
    with home.running("--inbox", "s3://leaves") as run:
        screen = home.settings.root / "run.err"
        server.delete_bucket(**at)
        until(lambda: "the inbox s3://leaves/ cannot be reached: NoSuch" in screen.read_text())
        until(lambda: figures(run)["sightstream_inbox_stuck_files",] == 1)
        told = home("status", "--inbox", "s3://leaves").stdout
        assert "bucket  0 images behind; the inbox s3://leaves/ cannot be reached: NoSuch" in told
        server.create_bucket(**made)
        server.put_object(**at, Key="a.png", Body=starter.digits[0].read_bytes())
        until(lambda: home.count() == 1)
        assert "the inbox s3://leaves/ answers again" in screen.read_text()
        until(lambda: figures(run)["sightstream_inbox_stuck_files",] == 0)
        assert run.poll() is None
