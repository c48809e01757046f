"""streaming.bucket.notices: the keys that notifications of several stores and bridges name."""

import json
from urllib.parse import quote_plus

import pytest

from streaming.bucket.notices import keys


def record(key, name="ObjectCreated:Put", bucket="photos", **more):
    return {
        "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": name,
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": bucket, "arn": "arn:aws:s3:::x"},
               "object": {"key": quote_plus(key, safe="/"), "size": 9, "eTag": "0" * 32, **more}},
    }  # fmt: skip


def event(*records, **more):
    return {"Records": list(records)} | more


def found(said):
    return keys(json.dumps(said).encode(), "photos")


def test_several_records_are_several_keys_each_once():
    assert found(event(record("in/a"), record("in/b"), record("in/a"))) == ["in/a", "in/b"]


@pytest.mark.parametrize("key", ["in/a b+c.png", "in/%41.png", "ünï/日本.png", "a&b=c/#1?.png"])
def test_keys_are_decoded_as_s3_encodes_them(key):
    assert found(event(record(key))) == [key]


@pytest.mark.parametrize("key", ["in/a b+c%41.png", "ünï+/日本.png"])
def test_keys_that_nobody_encoded_stay(key):
    said = event(record(key))
    said["Records"][0]["s3"]["object"]["key"] = key
    assert found(said) == [key]


def test_minio_names_the_key_beside_its_records():
    said = event(record("in/a", "s3:ObjectCreated:CompleteMultipartUpload"),
                 EventName="s3:ObjectCreated:Put", Key="photos/in/a")  # fmt: skip
    assert found(said) == ["in/a"]


def test_cephs_records_have_fields_of_their_own():
    said = event(record("in/a", versionId="", sequencer="AB", metadata=[], tags=[]))
    said["Records"][0] |= {"eventSource": "ceph:s3", "opaqueData": "", "eventId": "1.2"}
    assert found(said) == ["in/a"]


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda said: {"Type": "Notification", "Message": json.dumps(said)},
        lambda said: {"Messages": 1, "Body": json.dumps({"Message": json.dumps(said)})},
        lambda said: {"schema": {}, "payload": json.dumps(said)},
        lambda said: [{"body": said}],
    ],
)
def test_queues_and_bridges_wrap_events(wrapped):
    assert found(wrapped(event(record("in/a b")))) == ["in/a b"]


def test_eventbridge_encodes_nothing():
    said = {
        "detail-type": "Object Created", "source": "aws.s3",
        "detail": {"bucket": {"name": "photos"}, "object": {"key": "in/a+b%41.png"}},
    }  # fmt: skip
    assert found(said) == ["in/a+b%41.png"]
    assert found(said | {"detail-type": "Object Deleted"}) == []


@pytest.mark.parametrize(
    "name",
    ["ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated", "LifecycleExpiration:Delete",
     "s3:ObjectRemoved:NoOP"],
)  # fmt: skip
def test_what_was_removed_names_no_key(name):
    assert found(event(record("in/a", name))) == []


def test_other_buckets_name_no_key():
    assert found(event(record("in/a", bucket="other"), record("in/b"))) == ["in/b"]


@pytest.mark.parametrize(
    "value",
    [None, b"", b"\xff\xd8\xff", b"[", b"null", b"3", b'"text"', b"{}", b'{"Records": null}',
     b'{"Records": [null, 3, "x", {"s3": 1}, {"s3": {}}]}', b"[" * 100_000,
     b'{"Records": [{"s3": {"bucket": {"name": "photos"}, "object": {"key": 7}}}]}',
     b'{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "photos"}',
     b'{"Message": ' * 40 + b"1" + b"}" * 40],
)  # fmt: skip
def test_anything_else_names_no_key(value):
    assert keys(value, "photos") == []
