"""`sightstream run --inbox-topic`: notifications beside listings make one row for each version."""

import json
import random
from collections import Counter
from itertools import batched
from urllib.parse import quote_plus

import pytest

from tests import objects
from tests.topics import create, send


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with objects.client(tmp_path_factory.mktemp("objects"), "photos") as found:
        yield found


@pytest.fixture
def inbox(server, broker, topic, starter, new_home):
    create(broker, topic, partitions=2)
    return Inbox(server, broker, topic, starter.digits, new_home)


class Inbox:
    """A folder of a bucket, whose store tells a topic of what happens there, and a home."""

    def __init__(self, server, broker, topic, digits, new_home):
        self._server, self._broker, self._topic, self._digits = server, broker, topic, digits
        self._folder = f"{topic}/in"
        self._uri = f"s3://photos/{self._folder}/"
        self._home = new_home
        self._chance = random.Random(20260131)
        self.versions = Counter()

    def home(self, **settings):
        return self._home(
            inbox_uri=self._uri, inbox_topic=self._topic, kafka_servers=self._broker.address,
            **settings,
        )  # fmt: skip

    def put(self, *names):
        """Puts objects, each time with a content that no other one has."""
        for name in names:
            digit = self._digits[self.versions.total()].read_bytes()
            self._server.put_object(Bucket="photos", Key=f"{self._folder}/{name}", Body=digit)
            self.versions[name] += 1

    def delete(self, *names):
        for name in names:
            self._server.delete_object(Bucket="photos", Key=f"{self._folder}/{name}")

    def tell(self, *names, kind="s3:ObjectCreated:Put", records=1):
        """Sends what MinIO sends, in the order of the names; `records` to a message."""
        told = [self._record(name, kind) for name in names]
        send(
            self._broker, self._topic,
            [
                json.dumps({"EventName": kind, "Key": "any", "Records": some}).encode()
                for some in batched(told, records)
            ],
        )  # fmt: skip

    def _record(self, name, kind):
        key = quote_plus(f"{self._folder}/{name}")
        return {
            "eventVersion": "2.0", "eventSource": "minio:s3", "eventName": kind,
            "s3": {"bucket": {"name": "photos"}, "object": {"key": key, "sequencer": "1"}},
        }  # fmt: skip


def names_of(home):
    return Counter(row["original_name"] for row in home.table().to_pylist())


def test_what_is_notified_comes_at_once_and_the_rest_by_a_listing(inbox, until):
    home = inbox.home(inbox_list_seconds=3600)
    inbox.put("old.png", "gone.png")
    named = ["a b+c.png", "ü %41.png", "cam 1/%2F&=.png", "twice.png"]
    with home.running():
        until(lambda: home.count() == 2)
        inbox.put(*named, "untold.png")
        inbox.delete("gone.png")
        inbox.tell("gone.png", kind="s3:ObjectRemoved:Delete")
        inbox.tell("twice.png", "old.png", "never.png", "gone.png", *named, records=3)
        until(lambda: home.count() == 6)
        inbox.tell(*named)
        inbox.put("twice.png")  # overwritten
        inbox.tell("twice.png")
        until(lambda: home.count() == 7)
        assert names_of(home) == inbox.versions - Counter(["untold.png"])
    inbox.tell(*named, "old.png")  # late, and the stream was killed
    done = home("run", "--once", "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    assert "1 images taken" in done.stderr
    rows = home.table().to_pylist()
    assert names_of(home) == inbox.versions
    assert len({row["event_id"] for row in rows}) == len(rows) == 8
    assert {row["status"] for row in rows} == {"ok"}


@pytest.mark.slow
def test_notifications_and_listings_of_the_same_objects_make_one_row_each(inbox, until):
    home = inbox.home(inbox_list_seconds=1, inbox_look_seconds=0.2)
    chance = random.Random(20260201)
    names = [f"cam {n % 5}/{n:03} ü+%.png" for n in range(300)]
    chance.shuffle(names)
    for part in batched(names, 100):
        with home.running():  # which ends by SIGKILL
            for some in batched(part, 20):
                inbox.put(*some)
                told = [*some, *some, *chance.choices(names, k=20)]  # doubled, late, too early
                inbox.tell(*chance.sample(told, len(told)), records=chance.randint(1, 4))
                inbox.tell(*chance.choices(names, k=3), kind="s3:ObjectRemoved:Delete")
            until(lambda: home.count() > inbox.versions.total() - 60)
    done = home("run", "--once", "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    assert names_of(home) == inbox.versions == Counter(names)
    assert {row["status"] for row in home.table().to_pylist()} == {"ok"}
    again = home("run", "--once", "--metrics-port", "0")
    assert "0 images taken" in again.stderr
