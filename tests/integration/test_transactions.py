"""Transactions of a real producer: what was committed has a row, and nothing else is waited for."""

import json
import time
from contextlib import closing, contextmanager

import pytest

from sightstream.config import Broker
from sightstream.io import kafka
from tests.topics import create, send


@pytest.fixture
def picture(starter):
    return starter.digits[0].read_bytes()


@pytest.fixture
def transaction(broker, topic, picture):
    """Sends messages in a transaction, which the block ends, or which is left open."""

    @contextmanager
    def begun(*ids):
        from kafka import KafkaProducer

        name = f"{topic} {ids[0]}"
        options = {**kafka.client_options(Broker(broker.address)), "transactional_id": name}
        with closing(KafkaProducer(**options)) as producer:
            producer.init_transactions()
            producer.begin_transaction()
            for each in ids:
                producer.send(topic, picture, headers=[("ce_id", each.encode())])
            producer.flush()
            yield producer

    return begun


@pytest.fixture
def home(new_home, broker, topic):
    create(broker, topic, partitions=1)
    return new_home(kafka_servers=broker.address, kafka_topic=topic, source="kafka")


def once(home, **settings):
    begin = time.monotonic()
    done = home("run", "--once", "--metrics-port", "0", **settings)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin < 60
    return done.stderr.splitlines()[-1]


def behind(home):
    done = home("status", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["lag"]["0"]


def ids(home):
    return sorted(home.table()["event_id"].to_pylist())


def test_only_what_was_committed_has_a_row_and_no_offset_is_waited_for(
    home, broker, topic, picture, transaction
):
    for number in range(3):
        with transaction(f"aborted {number}", "aborted too") as producer:
            producer.abort_transaction()
        with transaction(f"committed {number}") as producer:
            producer.commit_transaction()
    with transaction("aborted last") as producer:
        producer.abort_transaction()
    assert once(home) == "3 images taken, 0 of them left behind"
    expected = [f"committed {number}" for number in range(3)]
    assert ids(home) == expected
    assert behind(home) == [0, 0.0]
    with transaction("aborted alone") as producer:
        producer.abort_transaction()
    begin = time.monotonic()
    assert behind(home)[1] == 0.0
    assert time.monotonic() - begin < 20
    assert once(home) == "0 images taken, 0 of them left behind"
    assert behind(home) == [0, 0.0]
    # An open transaction holds back what comes after it, until it ends.
    with transaction("open") as producer:
        send(broker, topic, [{"value": picture, "headers": [("ce_id", b"plain")]}])
        assert once(home) == "0 images taken, 0 of them left behind"
        assert behind(home) == [0, 0.0]
        producer.commit_transaction()
    assert behind(home)[0] > 0
    assert once(home) == "2 images taken, 0 of them left behind"
    assert ids(home) == [*expected, "open", "plain"]


@pytest.mark.slow
def test_by_a_setting_aborted_and_open_messages_count_too(home, transaction):
    uncommitted = {"kafka_isolation_level": "read_uncommitted"}
    with transaction("aborted") as producer:
        producer.abort_transaction()
    with transaction("open") as producer:
        assert once(home, **uncommitted) == "2 images taken, 0 of them left behind"
        assert ids(home) == ["aborted", "open"]
        # Back at the default, what was read already is neither lost nor read again.
        assert once(home) == "0 images taken, 0 of them left behind"
        producer.commit_transaction()
    (planned,) = home.settings.checkpoint("kafka").rglob("offsets")
    assert [each.name for each in planned.iterdir() if each.name.isdigit()] == ["0"]
    assert once(home) == "0 images taken, 0 of them left behind"
    assert ids(home) == ["aborted", "open"]
