"""streaming.kafka.object_events: what messages with S3's events become, without a store."""

import json

import pyarrow as pa
import pytest

from sightstream import config
from sightstream.errors import ConfigError
from sightstream.images.decode import Preprocessing, decode
from sightstream.images.limits import Limits
from sightstream.tables.schema import EVENT
from streaming.kafka.object_events import event_reader
from tests.unit.test_notices import event, record

PREFIXES = ("file:///srv", "s3a://photos/in coming/", "s3://photos/plain")


@pytest.fixture
def rows():
    """Returns the rows of messages, as workers see them before their objects are read."""
    reader = event_reader(PREFIXES, Limits(1000, 1000))

    def of(*values):
        message = {"event_id": "topic/0/7", "uri": "kafka://topic/0/7", "event_time": 1e9}
        found = []
        for value in values:
            value = value if isinstance(value, bytes) else json.dumps(value).encode()
            found += reader._events(message | {"error_code": None, "error_detail": None}, value)
        return found

    return of


def test_each_new_content_in_a_message_is_an_event(rows):
    key = "in coming/ü +1.png"
    first, second = rows(
        event(
            record(key, sequencer="0A"),
            record("plain/b", "s3:ObjectRemoved:Delete"),
            record("plain/b", "s3:ObjectCreated:CompleteMultipartUpload", eTag='"3-2"', size="7"),
        )
    )
    uri = "s3://photos/in%20coming/%C3%BC%20%2B1.png"
    assert first == {
        "event_id": f"{uri}#{'0' * 32}-0A", "uri": f"{uri}#%22{'0' * 32}%22",
        "original_name": key, "bytes": 9, "event_time": 1e9,
        "error_code": None, "error_detail": None,
    }  # fmt: skip
    assert second["uri"] == "s3://photos/plain/b#%223-2%22"
    assert (second["event_id"], second["bytes"]) == ("s3://photos/plain/b#3-2", 0)


@pytest.mark.parametrize(
    "kind",
    ["ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated", "LifecycleExpiration:Delete",
     "s3:ObjectCreated:PutTagging", "s3:ObjectCreated:DeleteTagging", "s3:ObjectAccessed:Get",
     "ObjectTagging:Put", "s3:ObjectCreated:PutRetention", "ObjectRestore:Completed"],
)  # fmt: skip
def test_other_events_make_no_row(rows, kind):
    assert rows(event(record("plain/a", kind))) == []


def test_the_test_event_of_a_new_notification_makes_no_row(rows):
    assert rows({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "photos"}) == []


def test_an_event_without_version_is_its_place_in_the_topic(rows):
    said = event(record("plain/a"), record("plain/b"))
    for each in said["Records"]:
        del each["s3"]["object"]["eTag"]
    found = rows(said)
    assert [each["event_id"] for each in found] == ["topic/0/7", "topic/0/7/1"]
    assert [each["uri"] for each in found] == ["s3://photos/plain/a#", "s3://photos/plain/b#"]


@pytest.mark.parametrize(
    ("key", "bucket"),
    [("secret/a", "photos"), ("plain/../secret/a", "photos"), ("plain", "photos"),
     ("plain/%2e%2e/../a", "photos"), ("plain/a", "photos2"), ("a\0b", "photos")],
)  # fmt: skip
def test_objects_elsewhere_are_refused(rows, key, bucket):
    (found,) = rows(event(record(key, bucket=bucket)))
    assert found["error_code"] == "uri_refused"
    assert "#" not in found["uri"]


@pytest.mark.parametrize("size", [True, 1.5, -1, 2**63, "9", None, [9]])
def test_a_size_that_is_none_is_nothing_and_fits_the_column(rows, size):
    (found,) = rows(event(record("plain/a", size=size)))
    assert pa.Table.from_pylist([found], EVENT)["bytes"].to_pylist() == [0]


@pytest.mark.parametrize("bucket", ["photos/plain", "photos#", "photos/plain/?", "a@photos", "", 7])
def test_a_bucket_of_a_false_name_is_refused(rows, bucket):
    (found,) = rows(event(record("plain/a", bucket=bucket)))
    assert (found["error_code"], found["uri"]) == ("unsupported_format", "kafka://topic/0/7")


@pytest.mark.parametrize(
    ("value", "seen"),
    [(b"\xff\xd8\xff\xe0", "a JPEG file"), (b'{"a": 1}', "JSON"), (b"noise", "is text"),
     (b'{"Records": [{"s3": 1}]}', "JSON"), (b"[" * 100_000, "JSON")],
)  # fmt: skip
def test_what_is_no_event_is_refused_by_what_it_is(rows, value, seen):
    (found,) = rows(value)
    assert found["error_code"] == "unsupported_format"
    assert found["error_detail"].startswith("Not an S3 event, as kafka_value says: it ")
    assert seen in found["error_detail"]


def test_claims_by_header_are_read_as_ever(tmp_path):
    reader = event_reader((*PREFIXES, tmp_path.as_uri()), Limits(1000, 1000))
    columns = {"event_id": "a", "source": "kafka", "original_name": "n", "event_time": 1.0,
               "bytes": 0, "error_code": None, "error_detail": None}  # fmt: skip
    claim = columns | {"uri": (tmp_path / "a.png").as_uri()}
    empty = columns | {"uri": "kafka://t/0/1", "error_code": "empty", "error_detail": "none"}
    ((events, images),) = reader(pa.Table.from_pylist([claim, empty], EVENT), [None, None])
    assert (len(events), images) == (2, [str(tmp_path / "a.png"), None])


def test_prefixes_without_a_bucket_are_refused():
    with pytest.raises(ConfigError, match="kafka_uri_prefixes alone; name"):
        event_reader(("file:///srv", "gs://photos"), Limits(1000, 1000))


@pytest.mark.parametrize(
    "said",
    [event(record("a")), event(record("a"), EventName="s3:ObjectCreated:Put", Key="b/a"),
     {"Type": "Notification", "Message": json.dumps(event(record("a")))},
     {"version": "0", "detail-type": "Object Created", "source": "aws.s3", "detail": {}}],
)  # fmt: skip
def test_without_the_setting_an_event_is_named_and_the_setting_too(said):
    refused = decode(json.dumps(said).encode(), Preprocessing(8, 8))
    assert "it is an S3 event" in refused.detail
    assert 'set kafka_value = "s3-event".' in refused.detail
    assert config.Settings(kafka_value="s3-event").kafka_value


def test_a_message_of_few_bytes_makes_no_table_of_rows(rows):
    told = {"Records": [{"s3": {}}] * 1000}
    assert len(rows(told)) == 1000
    told["Records"].append({"s3": {}})
    (row,) = rows(told)
    assert (row["event_id"], row["error_code"]) == ("topic/0/7", "too_large")
    assert row["error_detail"] == "The message tells of 1,001 events; the limit is 1,000."
