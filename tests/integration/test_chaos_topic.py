"""tests.chaos.kafka: what is in the topic of images, of which senders do not know whether it is."""

import time

import pytest

from tests.chaos.kafka import TOPIC, Kafka


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    with Kafka(tmp_path_factory.mktemp("kafka")) as it:
        yield it


def producer(kafka, name):
    from confluent_kafka import Producer

    made = Producer({
        "bootstrap.servers": kafka.servers, "transactional.id": name,
        "transaction.timeout.ms": 3000, "log_level": 0,
    })  # fmt: skip
    made.init_transactions(20)
    made.begin_transaction()
    for partition, number in enumerate("123"):
        headers = [("ce_source", b"/" + name.encode()), ("ce_id", number.encode())]
        made.produce(TOPIC, b"it", headers=headers, partition=partition)
    made.flush(20)
    return made


def test_what_is_committed_is_there_and_what_is_aborted_or_left_open_is_not(kafka):
    for name in ("again", "again"):
        producer(kafka, name).commit_transaction(20)
    producer(kafka, "aborted").abort_transaction(20)
    begin, _open = time.monotonic(), producer(kafka, "open")
    arrived = kafka.arrived()
    assert time.monotonic() - begin > 2  # the broker ends it, after which it reads on
    assert {name: [n for n, _ in places] for name, places in arrived.items()} == {
        f"/again#{number}": [partition] * 2 for partition, number in enumerate("123")
    }
    assert all(first < second for (_, first), (_, second) in arrived.values())


def test_what_was_deleted_is_not_there(kafka):
    producer(kafka, "new").commit_transaction(20)
    ends = kafka.ends()
    assert "/new#1" in kafka.arrived()
    kafka.delete({0: ends[0]})
    assert {"/new#2", "/new#3"} <= kafka.arrived().keys()
    assert "/new#1" not in kafka.arrived()
