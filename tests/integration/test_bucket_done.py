"""Objects after their row: tagged or moved, in the version that the row is about."""

import pytest

from sightstream.errors import ConfigError
from streaming.bucket.arrow import Arrow
from streaming.bucket.done import action
from streaming.bucket.store import Place, claim, place
from tests import objects

INBOX = "s3://photos/in/"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with objects.client(tmp_path_factory.mktemp("objects"), "photos") as found:
        yield found


@pytest.fixture
def put(server):
    """Puts an object, and returns its claim."""

    def made(key, body=b"an image"):
        server.put_object(Bucket="photos", Key=key, Body=body)
        bucket = place(INBOX).bucket
        return claim(bucket, bucket.find(key))

    return made


def tags(server, key):
    found = server.get_object_tagging(Bucket="photos", Key=key)["TagSet"]
    return {each["Key"]: each["Value"] for each in found}


def keys(server, bucket="photos"):
    found = server.list_objects_v2(Bucket=bucket).get("Contents", ())
    return {each["Key"] for each in found}


def test_nothing_is_the_default():
    assert action("", place(INBOX)) is None


def test_a_tag_is_added_to_those_that_are_there_again_and_again(server, put):
    named = put("in/a b.png")
    own = {"TagSet": [{"Key": "ward", "Value": "3"}]}
    server.put_object_tagging(Bucket="photos", Key="in/a b.png", Tagging=own)
    for _ in range(2):
        action("tag", place(INBOX))([named])
    assert tags(server, "in/a b.png") == {"ward": "3", "sightstream": "done"}
    assert place(INBOX).bucket.find("in/a b.png").version in named.replace("%22", '"')


def test_what_was_overwritten_or_deleted_gets_no_tag(server, put):
    old, gone = put("in/new.png", b"old"), put("in/gone.png")
    put("in/new.png", b"new")
    server.delete_object(Bucket="photos", Key="in/gone.png")
    action("tag", place(INBOX))([old, gone])
    assert tags(server, "in/new.png") == {}


def test_objects_are_moved_under_their_name_once_and_the_newer_ones_stay(server, put):
    server.create_bucket(
        Bucket="archive", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    moved, old = put("in/ü/a b+c.png"), put("in/kept.png", b"old")
    put("in/kept.png", b"new")
    move = action("s3://archive/photos", place(INBOX))
    move([moved, old])
    move([moved, old])  # as after a crash
    assert keys(server, "archive") == {"photos/ü/a b+c.png"}
    assert keys(server) & {"in/ü/a b+c.png", "in/kept.png"} == {"in/kept.png"}


def test_what_cannot_be_moved_stays_and_the_stream_goes_on(put, server, caplog):
    named = [put("in/stays.png"), put("in/stays too.png")]
    action("s3://nobody-made-this/", place(INBOX))(named)
    assert keys(server) >= {"in/stays.png", "in/stays too.png"}
    assert "s3://photos/in/stays.png stays as it is: NoSuchBucket" in caplog.text
    assert "so do 1 more" in caplog.text


@pytest.mark.parametrize(
    ("said", "why"),
    [("s3://photos/in/done", "part of the inbox"), ("s3a://photos/in", "part of the inbox"),
     ("gs://archive/", "within S3"), ("done", "the uri of a bucket")],
)  # fmt: skip
def test_other_settings_are_refused(said, why):
    with pytest.raises(ConfigError, match=why):
        action(said, place(INBOX))


def test_other_stores_keep_their_objects_as_they_are():
    with pytest.raises(ConfigError, match="leave it empty"):
        action("tag", Place(Arrow("gs://photos/"), ""))
