"""The intake of a bucket, on a server that speaks S3: objects become events, each version once."""

import json
import pickle
import time
from collections import Counter

import boto3
import pandas as pd
import pytest

from sightstream.errors import ConfigError, EnvironmentUnfitError
from sightstream.images.limits import Limits, Rejected
from streaming.bucket import intake as module
from streaming.bucket import reading, s3
from streaming.bucket.arrow import Arrow
from streaming.bucket.intake import Intake, Pace
from streaming.bucket.reading import AssignedObjects, read
from streaming.bucket.source import BucketSource, require_answer
from streaming.bucket.store import AwayError, Place, claimed, place, require_bucket
from streaming.folder import manifests, stuck
from streaming.folder.assignment import Assignment
from tests import objects

LIMITS = Limits(max_bytes=1000)
ALWAYS = Pace(0.1, 0.1)

ODD = [
    "a b+c&d=e.png", "%41%2F.png", "ünï/日本.png", "x//y.png", "..", "./a/../b.png", "#1?v=2.png",
    'quo"te<>.png', "back\\slash", "~tilde", "/leading", "tab\there", "k" * 1021,
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with objects.client(tmp_path_factory.mktemp("objects"), "photos") as found:
        yield found


@pytest.fixture
def bucket(server, request):
    """Puts, gets and deletes objects in a bucket of its own."""
    return Filled(server, f"b{abs(hash(request.node.name)):x}"[:40])


class Filled:
    def __init__(self, client, name):
        self.client, self.name = client, name
        client.create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )

    def put(self, key, body=b"an image"):
        self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def delete(self, key):
        self.client.delete_object(Bucket=self.name, Key=key)

    @property
    def uri(self):
        return f"s3://{self.name}/in/"


@pytest.fixture
def intake_of(bucket, tmp_path):
    """Opens the intake of the folder `in`, as each start does."""

    def make(pace=ALWAYS, uri=bucket.uri, **more):
        return Intake(place(uri), tmp_path / "bucket", pace, **more)

    return make


@pytest.fixture
def told(tmp_path):
    """Reads what all manifests tell."""

    def events():
        folder = module.manifests_of(tmp_path / "bucket")
        return manifests.read(manifests.between(folder, {})).to_pylist()

    return events


def names(events):
    return Counter(each["original_name"] for each in events)


def test_objects_become_events_once_and_stay(bucket, intake_of, told):
    for key in ("in/a.png", "in/b/c.png", "elsewhere/d.png", "into.png"):
        bucket.put(key)
    begin = time.time()
    intake = intake_of()
    assert [intake.take(), intake.take(), intake_of().take()] == [2, 0, 0]
    assert names(told()) == {"a.png": 1, "b/c.png": 1}
    for event in told():
        uri, _, version = event["uri"].partition("#")
        assert uri == bucket.uri + event["original_name"]
        assert version
        assert (event["source"], event["bytes"]) == ("bucket", 8)
        assert begin - 2 <= event["event_time"] <= time.time()
    assert len(bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]) == 4


def test_keys_of_any_kind_are_read_under_their_own_name(bucket, intake_of, told):
    for number, key in enumerate(ODD):
        bucket.put(f"in/{key}", b"%d" % number)
    assert intake_of().drain() == len(ODD)
    assert names(told()) == Counter(ODD)
    content = {each["original_name"]: read(each["uri"], LIMITS) for each in told()}
    assert content == {key: b"%d" % number for number, key in enumerate(ODD)}


def test_a_whole_bucket_is_an_inbox_too(bucket, intake_of, told):
    for key in ("a.png", "in/b.png"):
        bucket.put(key)
    assert intake_of(uri=f"s3a://{bucket.name}").drain() == 2
    assert names(told()) == {"a.png": 1, "in/b.png": 1}


def test_folders_and_what_other_programs_keep_make_no_event(bucket, intake_of, told):
    for key in ("in/", "in/folder/"):
        bucket.put(key, b"")
    for key in ("in/.DS_Store", "in/_temporary/part.png", "in/x.thumb", "in/named/"):
        bucket.put(key)
    assert intake_of(ignore=["*.thumb"]).drain() == 1
    assert names(told()) == {"named/": 1}


def test_an_upload_in_parts_is_one_event_when_it_is_complete(bucket, intake_of, told):
    client, at = bucket.client, {"Bucket": bucket.name, "Key": "in/large.bin"}
    upload = client.create_multipart_upload(**at)["UploadId"]
    parts = [
        {"PartNumber": n, "ETag": client.upload_part(**at, UploadId=upload, PartNumber=n, Body=b)[
            "ETag"]}
        for n, b in ((1, b"a" * 5 * 2**20), (2, b"b"))
    ]  # fmt: skip
    intake = intake_of()
    assert intake.take() == 0
    client.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": parts})
    assert intake.take() == 1
    (event,) = told()
    assert read(event["uri"], Limits())[-2:] == b"ab"
    assert read(event["uri"], LIMITS).code == "too_large"


def test_an_overwritten_object_is_a_new_event_and_the_old_one_says_so(bucket, intake_of, told):
    intake = intake_of()
    bucket.put("in/a.png", b"old")
    assert intake.take() == 1
    bucket.put("in/a.png", b"new")
    assert intake.take() == 1
    first, second = told()
    assert read(first["uri"], LIMITS) == s3.CHANGED
    assert read(second["uri"], LIMITS) == b"new"
    bucket.delete("in/a.png")
    assert read(second["uri"], LIMITS) == s3.GONE


def test_no_bytes_are_a_rejection(bucket, intake_of, told):
    bucket.put("in/empty.png", b"")
    intake_of().drain()
    assert read(told()[0]["uri"], LIMITS).code == "empty"


def test_late_names_that_sort_first_are_found_by_full_listings(bucket, intake_of, told):
    intake = intake_of(Pace(0.1, 3600))
    for number in range(1200):
        bucket.put(f"in/m{number:04}.png", b"")
    assert intake.drain() == 1200
    bucket.put("in/zzz.png")
    assert intake.take() == 1  # behind the greatest key
    bucket.put("in/aaa.png")
    assert intake.take() == 0
    intake._due = 0.0  # an hour later
    assert intake.take() == 1
    assert names(told()).most_common(1)[0][1] == 1


def test_what_was_deleted_and_comes_again_is_an_event_again(bucket, intake_of):
    intake = intake_of()
    bucket.put("in/stays.png")
    bucket.put("in/a.png")
    assert intake.take() == 2
    bucket.delete("in/a.png")
    assert [intake.take() for _ in range(3)] == [0, 0, 0]
    bucket.put("in/a.png")
    assert intake.take() == 1


def test_manifests_have_a_size_and_tell_how_many_came(bucket, intake_of, tmp_path):
    for number in range(25):
        bucket.put(f"in/{number}.png")
    arrived = []
    intake_of(chunk=10, on_arrival=arrived.append).drain()
    assert arrived == [10, 10, 5]
    assert len(manifests.published(module.manifests_of(tmp_path / "bucket"))) == 3


class Crash(BaseException):
    """The end of the process."""


@pytest.mark.parametrize("step", ["write", "publish", "add"])
def test_a_crash_at_any_step_loses_and_doubles_nothing(bucket, intake_of, told, monkeypatch, step):
    for number in range(30):
        bucket.put(f"in/{number:02}.png")
    intake, calls = intake_of(chunk=10), []
    owner = intake._seen if step == "add" else module
    real = getattr(owner, step)

    def crash(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise Crash
        return real(*arguments)

    monkeypatch.setattr(owner, step, crash)
    with pytest.raises(Crash):
        intake.drain()
    monkeypatch.undo()
    intake_of(chunk=10).drain()
    assert names(told()) == {f"{number:02}.png": 1 for number in range(30)}


def test_another_inbox_forgets_nothing_of_this_one(bucket, intake_of):
    bucket.put("in/a.png")
    bucket.put("other/b.png")
    assert intake_of().drain() == 1
    other = intake_of(uri=f"s3://{bucket.name}/other")
    assert [other.drain() for _ in range(3)] == [1, 0, 0]
    assert intake_of().drain() == 0


def test_a_bucket_that_is_away_is_told_and_waited_for(bucket, tmp_path, server, caplog):
    file = tmp_path / "stuck.json"
    uri = "s3://comes-later/in/"
    intake = Intake(place(uri), tmp_path / "bucket", ALWAYS, stuck_file=file)
    assert intake.drain() == 0
    why = "cannot be reached: NoSuchBucket: The specified bucket does not exist"
    assert intake.left == {uri: why}
    assert str(stuck.read(file)) == f"the inbox {uri} {why}"
    assert f"the inbox {uri} {why}" in caplog.text
    with pytest.raises(AwayError):
        intake.take()
    with pytest.raises(EnvironmentUnfitError, match="NoSuchBucket"):
        require_answer(place(uri))
    Filled(server, "comes-later").put("in/a.png")
    assert intake.drain() == 1
    assert intake.left == {}
    assert stuck.read(file).count == 0


def test_a_store_that_ends_is_waited_for_by_the_source(tmp_path, monkeypatch):
    with objects.running(tmp_path, "photos") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        s3._client.cache_clear()
        source = BucketSource(
            place("s3://photos/in"), tmp_path / "bucket", tmp_path / "checkpoint", ALWAYS, (),
            LIMITS, 1000, None, int, tmp_path / "stuck.json",
        )  # fmt: skip
        assert source.check()
        boto3.client("s3").put_object(Bucket="photos", Key="in/a.png", Body=b"x")
        assert (source.drain(), source.behind) == (1, 1)
    (event,) = manifests.read(
        manifests.between(module.manifests_of(tmp_path / "bucket"), {})
    ).to_pylist()
    assert not source.check()
    with pytest.raises(AwayError, match="Could not connect"):
        read(event["uri"], LIMITS)
    assert (source.drain(), list(source.left)) == (0, ["s3://photos/in/"])
    s3._client.cache_clear()


def test_workers_read_what_is_assigned_in_pieces_of_some_bytes(
    bucket, intake_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(reading, "PIECE_BYTES", 30)
    contents = {f"{n:02}.png": b"%02d" % n * (n % 7) for n in range(40)}
    for name, content in contents.items():
        bucket.put(f"in/{name}", content)
    bucket.put("in/98 large.png", b"x" * 2000)
    bucket.put("in/99 gone.png")
    intake_of(chunk=15).drain()
    bucket.delete("in/99 gone.png")
    folder = module.manifests_of(tmp_path / "bucket")
    end = {manifests.KEY: manifests.published(folder)[-1]}
    read_all = pickle.loads(pickle.dumps(AssignedObjects(folder, LIMITS)))
    found, sizes = [], []
    for task in (0, 1):
        work = Assignment({}, end, 42, 2).text()
        for events, images in read_all(pd.DataFrame({"id": [task]}), work):
            sizes.append(sum(len(each) for each in images if isinstance(each, bytes)))
            assert set(events["uri"].to_pylist()) == {
                f"{bucket.uri}{name.replace(' ', '%20')}"
                for name in events["original_name"].to_pylist()
            }
            found += zip(events["original_name"].to_pylist(), images, strict=True)
    assert max(sizes) <= 30 < sum(sizes)
    answers = dict(found)
    assert len(answers) == len(found) == 42
    for name, content in contents.items():
        assert answers[name] == content if content else answers[name].code == "empty"
    assert (answers["98 large.png"].code, answers["99 gone.png"]) == ("too_large", s3.GONE)


@pytest.mark.parametrize("rows", [None, "committed just now"])
def test_objects_of_a_committed_micro_batch_are_handed_on(bucket, tmp_path, rows):
    for number in range(3):
        bucket.put(f"in/{number}.png")
    handed = []
    checkpoint = tmp_path / "checkpoint"
    source = BucketSource(
        place(bucket.uri), tmp_path / "bucket", checkpoint, ALWAYS, (), LIMITS, 2, None, int,
        tmp_path / "stuck.json", after=handed.append,
    )  # fmt: skip
    source.drain()
    (checkpoint / "offsets").mkdir(parents=True)
    for batch, name in enumerate(manifests.published(module.manifests_of(tmp_path / "bucket"))):
        offset = json.dumps({manifests.KEY: name})
        (checkpoint / "offsets" / str(batch)).write_text(f"v1\n{{}}\n{offset}")
        source.done(batch, len(handed), rows)
    names = [[each.partition("#")[0].rpartition("/")[2] for each in claims] for claims in handed]
    assert names == [["0.png", "1.png"], ["2.png"]]


def test_a_read_from_a_bucket_that_is_away_is_no_row(bucket):
    with pytest.raises(AwayError):
        read("s3://nobody-made-this/in/a.png#%221%22", LIMITS)


def test_an_object_that_alone_cannot_be_read_is_its_own_fault(bucket):
    bucket.client.put_object(
        Bucket=bucket.name, Key="in/cold.png", Body=b"x", StorageClass="GLACIER"
    )
    found = place(bucket.uri).bucket.find("in/cold.png")
    answer = read(f"{bucket.uri}cold.png#{found.version}", LIMITS)
    assert isinstance(answer, Rejected)
    assert (answer.code, "InvalidObjectState" in answer.detail) == ("unreadable", True)


def test_what_other_stores_get_through_arrow_takes_and_reads_the_same(bucket, told, tmp_path):
    for key in ("in/a b.png", "in/ü/c.png", "in/d/e/f.png"):
        bucket.put(key, key.encode())
    there = Place(Arrow(f"s3://{bucket.name}/"), "in/")
    intake = Intake(there, tmp_path / "bucket", ALWAYS)
    assert [intake.drain(), intake.drain()] == [3, 0]
    assert names(told()) == {"a b.png": 1, "ü/c.png": 1, "d/e/f.png": 1}
    for event in told():
        _, key, version = claimed(event["uri"])
        assert there.bucket.read(key, version, LIMITS) == key.encode()
        assert there.bucket.read(key, "0-1", LIMITS) == s3.CHANGED
        assert there.bucket.read(f"{key}.gone", version, LIMITS) == s3.GONE
    bucket.put("in/d/e/f.png", b"of another size")
    assert intake.drain() == 1


@pytest.mark.parametrize(
    "uri",
    ["photos", "/srv/photos", "file:///srv", "http://photos/in", "s3://", "s3:///in",
     "s3://key:geheim@photos/in", "s3://geheim@photos/in", "s3://photos/in?secret_key=geheim",
     "gs://geheim@photos/in", "abfs://photos:geheim@account.dfs.core.windows.net/in"],
)  # fmt: skip
def test_uris_that_are_no_bucket_are_refused_without_their_secrets(uri):
    with pytest.raises(ConfigError) as error:
        require_bucket(uri)
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize(
    ("uri", "found"),
    [("s3a://photos/in", "s3://photos/in/"), ("s3://photos", "s3://photos/"),
     ("gcs://photos/a%20b/", "gs://photos/a%20b/"),
     ("abfss://photos@account.dfs.core.windows.net/in",
      "abfss://photos@account.dfs.core.windows.net/in/")],
)  # fmt: skip
def test_an_inbox_has_one_uri(uri, found):
    assert place(uri).uri == found


def test_keys_that_are_hinted_are_taken_once_whatever_is_said_of_them(bucket, intake_of, told):
    for number in range(1100):
        bucket.put(f"in/m{number:04}", b"")
    intake = intake_of(Pace(0.1, 3600), hints=lambda seconds: ())
    assert intake.drain() == 1100
    bucket.put("in/a b.png")
    bucket.put("in/.DS_Store")
    bucket.put("out/c.png")
    hints = ["in/a b.png", "in/gone.png", "out/c.png", "in/m0001", "in/.DS_Store", "", "in/\ud800"]
    assert intake.take([*hints, "in/" + "k" * 5000, "in/a b.png"]) == 1
    assert intake.take(hints) == 0
    bucket.put("in/z.png")  # of which nothing is told
    intake._due = 0.0
    assert intake.take(hints) == 1
    assert {name: n for name, n in names(told()).items() if name[0] != "m"} == {
        "a b.png": 1, "z.png": 1,
    }  # fmt: skip
