"""Notifications on a real broker lead the intake of a real bucket; listings are the safety net."""

import json
import time
from collections import Counter
from contextlib import closing
from threading import Event, Thread
from urllib.parse import quote_plus

import pytest

from sightstream import config
from sightstream.errors import BrokerUnavailableError, ConfigError, TopicNotFoundError
from streaming import job
from streaming.bucket import intake as module
from streaming.bucket.intake import Intake, Pace
from streaming.bucket.notices import Notices
from streaming.bucket.store import place
from streaming.folder import manifests
from streaming.observe.metrics import Metrics
from tests import objects


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with objects.client(tmp_path_factory.mktemp("objects"), "photos") as found:
        yield found


@pytest.fixture
def send(broker, topic):
    """Sends messages to a new topic of two partitions."""
    from kafka import KafkaAdminClient, KafkaProducer
    from kafka.admin import NewTopic

    with closing(KafkaAdminClient(bootstrap_servers=broker.address)) as admin:
        admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])

    def all_of(*messages):
        with closing(KafkaProducer(bootstrap_servers=broker.address)) as producer:
            for each in messages:
                producer.send(topic, each if isinstance(each, bytes) else json.dumps(each).encode())
            producer.flush()

    return all_of


@pytest.fixture
def kafka(broker):
    return config.Settings(kafka_servers=broker.address).kafka


def event(*keys, name="s3:ObjectCreated:Put", bucket="photos"):
    """What MinIO sends."""
    records = [
        {"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}}}
        for key in keys
    ]
    return {"EventName": name, "Key": f"{bucket}/{keys[0]}", "Records": records}


def test_images_come_by_their_notifications_and_once_by_listings_too(
    server, send, kafka, topic, tmp_path, until
):
    def put(*keys):
        for key in keys:
            server.put_object(Bucket="photos", Key=key, Body=key.encode())

    def taken():
        folder = module.manifests_of(tmp_path)
        found = manifests.read(manifests.between(folder, {}))
        return Counter(found["original_name"].to_pylist())

    send(event("in/sent before the start.png"))
    notices = Notices(kafka, topic, "photos")
    intake = Intake(place("s3://photos/in"), tmp_path, Pace(0.5, 3600), hints=notices)
    put("in/old.png")
    stop = Event()
    thread = Thread(target=intake.run, args=(stop,))
    thread.start()
    try:
        until(lambda: taken() == {"old.png": 1})
        put("in/a b+c.png", "in/ü.png", "in/%41.png", "in/twice.png", "in/untold.png")
        send(
            event("in/a b+c.png", "in/ü.png"), b"noise", event("in/old.png", "in/twice.png"),
            event("in/old.png", name="s3:ObjectRemoved:Delete"), event("in/never.png"),
            event("in/untold.png", bucket="another"), event("in/twice.png"), event("in/%41.png"),
        )  # fmt: skip
        named = ["a b+c.png", "ü.png", "%41.png", "twice.png", "old.png"]
        until(lambda: taken().keys() >= set(named))
        put("in/old.png")  # the same content: the same version
        server.put_object(Bucket="photos", Key="in/ü.png", Body=b"another")
        send(event("in/ü.png", "in/old.png"))
        until(lambda: taken()["ü.png"] == 2)
        assert taken() == Counter([*named, "ü.png"])
        intake._due = 0.0
        until(lambda: taken()["untold.png"])
        assert taken() == Counter([*named, "ü.png", "untold.png"])
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def test_what_comes_right_after_the_start_is_told(send, kafka, topic):
    notices = Notices(kafka, topic, "photos")
    send(event("in/a.png"))
    deadline, found = time.monotonic() + 20, []
    while not found and time.monotonic() < deadline:
        found = notices(1.0)
    assert found == ["in/a.png"]


def test_a_topic_that_is_not_there_and_a_broker_that_is_away_are_told_at_the_start(kafka):
    with pytest.raises(TopicNotFoundError, match="nobody-made-this"):
        Notices(kafka, "nobody-made-this", "photos")
    with pytest.raises(BrokerUnavailableError):
        Notices(config.Settings(kafka_servers="127.0.0.1:9").kafka, "any", "photos")


def test_a_broker_that_goes_away_is_waited_for(send, kafka, topic, caplog, monkeypatch):
    notices = Notices(kafka, topic, "photos")
    notices._close()  # as after a failure
    monkeypatch.setattr(notices, "_broker", config.Settings(kafka_servers="127.0.0.1:9").kafka)
    assert [notices(0.01), notices(0.01)] == [(), ()]
    assert caplog.text.count("notifications wait for Kafka") == 1
    monkeypatch.setattr(notices, "_broker", kafka)
    notices(0.1)
    send(event("in/a.png"))
    assert notices(20.0) == ["in/a.png"]


def test_notifications_need_a_bucket(settings):
    with pytest.raises(ConfigError, match="set inbox_uri too"):
        job._inbox(settings.model_copy(update={"inbox_topic": "events"}), Metrics())
