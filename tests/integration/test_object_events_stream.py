"""`kafka_value = "s3-event"` at a real broker and a real store: a row for each new content."""

import json
from collections import Counter

import pytest

from tests import objects
from tests.topics import create, send
from tests.unit.test_notices import event, record


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with objects.client(tmp_path_factory.mktemp("objects"), "photos") as found:
        yield found


@pytest.fixture
def put(server, starter):
    """Puts a digit, and returns the record that tells of it."""
    digits = iter(starter.digits)

    def one(key, bucket="photos", **more):
        body = next(digits).read_bytes()
        done = server.put_object(Bucket=bucket, Key=key, Body=body)
        tag = done["ETag"].strip('"')
        return record(key, "s3:ObjectCreated:Put", bucket, size=len(body), eTag=tag, **more)

    return one


@pytest.fixture
def tell(broker, topic):
    create(broker, topic, partitions=2)
    return lambda *said: send(broker, topic, [json.dumps(each).encode() for each in said])


@pytest.fixture
def home(new_home, broker, topic):
    return new_home(
        source="kafka", kafka_topic=topic, kafka_servers=broker.address, kafka_value="s3-event",
        kafka_uri_prefixes="s3://photos/in/,s3://leaves",
    )  # fmt: skip


def test_each_new_content_is_one_row(server, put, tell, home):
    server.create_bucket(
        Bucket="leaves", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    first, second = put("in/a b+c.png", sequencer="1"), put("in/ü %41.png", sequencer="1")
    gone, old = put("in/gone.png"), put("in/twice.png", sequencer="1")
    new, elsewhere = put("in/twice.png", sequencer="2"), put("secret/a.png")
    server.delete_object(Bucket="photos", Key="in/gone.png")
    removal = record("in/gone.png", "s3:ObjectRemoved:Delete", eTag="")
    tell(
        event(first, second, elsewhere), event(removal), event(first), event(old), event(new, gone),
        {"Message": json.dumps(event(second, put("b.png", "leaves")))}, {"image": "AAAA"},
    )  # fmt: skip
    done = home("run", "--once", "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    assert "2 of 10 images came again" in done.stderr
    rows = home.table().to_pylist()
    assert Counter((row["original_name"], row["error_code"]) for row in rows) == Counter(
        {("in/a b+c.png", None): 1, ("in/ü %41.png", None): 1, ("b.png", None): 1,
         ("in/twice.png", None): 1, ("in/twice.png", "not_found"): 1,
         ("in/gone.png", "not_found"): 1, ("secret/a.png", "uri_refused"): 1,
         (next(r["original_name"] for r in rows if r["uri"][:8] == "kafka://"),
          "unsupported_format"): 1}
    )  # fmt: skip
    (row,) = (each for each in rows if each["original_name"] == "in/a b+c.png")
    assert row["uri"] == "s3://photos/in/a%20b%2Bc.png"
    assert row["event_id"] == f"{row['uri']}#{first['s3']['object']['eTag']}-1"
    assert (row["bytes"], row["format"]) == (first["s3"]["object"]["size"], "PNG")
    tell(event(second, new))
    again = home("run", "--once", "--metrics-port", "0")
    assert "2 of 2 images came again" in again.stderr
    assert home.count() == len(rows) == 8


@pytest.mark.slow
def test_a_bucket_that_goes_away_is_waited_for(server, put, tell, home, until):
    made = {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}}
    if "leaves" not in [each["Name"] for each in server.list_buckets()["Buckets"]]:
        server.create_bucket(Bucket="leaves", **made)
    with home.running() as run:
        tell(event(put("in/first.png")))
        until(lambda: home.count() == 1)
        told = put("late.png", "leaves")
        for each in server.list_objects_v2(Bucket="leaves")["Contents"]:
            server.delete_object(Bucket="leaves", Key=each["Key"])
        server.delete_bucket(Bucket="leaves")
        tell(event(told))
        log = home.settings.logs / "sightstream.log"
        until(lambda: "the query failed and is started again" in log.read_text())
        assert home.count() == 1
        server.create_bucket(Bucket="leaves", **made)
        until(lambda: home.count() == 2)
        assert run.poll() is None
    codes = {row["original_name"]: row["error_code"] for row in home.table().to_pylist()}
    assert codes == {"in/first.png": None, "late.png": "not_found"}


def test_a_bucket_that_is_not_there_ends_the_start(tell, home):
    done = home("run", kafka_uri_prefixes="s3://nobody-made-this/in")
    assert done.returncode == 3
    assert "the folder s3://nobody-made-this/in/ cannot be reached: NoSuchBucket" in done.stderr
