"""The stream on a bucket that is filled, overwritten and lost from sight, killed in between."""

import os
import random
from collections import Counter
from threading import Event

import boto3
import pytest

from tests import objects


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with objects.running(tmp_path_factory.mktemp("objects"), "photos") as environment:
        before = dict(os.environ)
        os.environ.update(environment)
        yield boto3.client("s3")
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def put(server, starter):
    """Puts digits into the bucket, and keeps the number of different contents of each key."""
    chance, told = random.Random(20260130), {}

    def some(*keys):
        for key in keys:
            digit = chance.choice([d for d in starter.digits[:60] if d not in told.get(key, ())])
            server.put_object(Bucket="photos", Key=f"in/{key}", Body=digit.read_bytes())
            told.setdefault(key, []).append(digit)

    some.told = told
    return some


@pytest.mark.slow
def test_every_version_of_an_object_has_one_row_whatever_is_killed(new_home, server, put, until):
    home = new_home(
        inbox_uri="s3://photos/in/", inbox_look_seconds=0.2, inbox_list_seconds=1, inbox_done="tag"
    )
    names = [f"cam {n % 3}/{n:04}.png" for n in range(200)]
    put(*names[:120])
    with home.running():  # which ends by SIGKILL
        until(lambda: home.count() > 0, 90)
    put(*names[120:])
    with home.running() as run:
        until(lambda: home.count() >= 120, 90)
        put(*names[:5])  # overwritten
        Event().wait(random.Random(1).uniform(0, 2))
    put("AAA the first of all.png")
    with home.running() as run:
        until(lambda: home.count() >= 206, 90)
        put("cam 1/late.png", "cam 0/.DS_Store")
        until(lambda: home.count() >= 207, 60)
        assert run.poll() is None
    done = home("run", "--once", "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    assert "0 images taken" in done.stderr
    rows = home.table().to_pylist()
    del put.told["cam 0/.DS_Store"]
    assert Counter(row["original_name"] for row in rows) == {
        name: len(digits) for name, digits in put.told.items()
    }
    assert len({row["event_id"] for row in rows}) == len(rows) == 207
    for row in rows:
        if row["status"] == "rejected":  # the stream was killed before it read the first version
            assert (row["error_code"], row["original_name"] in names[:5]) == ("not_found", True)
        assert row["source"] == "bucket"
        assert "#" not in row["uri"]
    assert Counter(row["status"] for row in rows)["ok"] >= 202
    for name in put.told:
        tags = server.get_object_tagging(Bucket="photos", Key=f"in/{name}")["TagSet"]
        assert tags == [{"Key": "sightstream", "Value": "done"}]
