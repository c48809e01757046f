"""streaming.kafka.messages at a real broker: all that lies between offsets, and nothing else."""

import time
from contextlib import closing
from functools import partial

import pandas as pd
import pytest

from sightstream.config import Broker
from sightstream.errors import BrokerUnavailableError, MessagesLostError
from sightstream.images.limits import Limits
from sightstream.images.store import Store
from sightstream.io import kafka, librdkafka
from streaming.kafka import messages as module
from streaming.kafka.assignment import Assignment, Span
from streaming.kafka.messages import Messages
from streaming.kafka.reader import AssignedMessages, contents
from tests.topics import create, send


@pytest.fixture
def reader(broker, topic):
    """Makes what reads the topic."""

    def make(isolation="read_committed", fail_on_loss=True):
        login = librdkafka.login(Broker(broker.address))
        return Messages(login, topic, isolation, fail_on_loss)

    yield make
    for each in [key for key in module._consumers if key.topic == topic]:
        module._consumers.pop(each).close()


def read(messages, *spans):
    """The offsets of the messages, by partition."""
    found = {}
    for piece in messages.pieces([Span(*each) for each in spans]):
        for each in piece:
            found.setdefault(each.partition, []).append(each.offset)
    return found


def delete_before(broker, topic, offset):
    from kafka import TopicPartition

    with kafka.connect(Broker(broker.address)) as client:
        client.delete_records({TopicPartition(topic, 0): offset})


def test_messages_come_whole_in_the_order_of_their_partitions(broker, topic, reader):
    create(broker, topic, partitions=3)
    sent = [
        {"value": b"%d" % n, "key": b"k", "partition": n % 3, "timestamp_ms": 1_700_000_000_000 + n,
         "headers": [("a", b"first"), ("a", b"second"), ("b", b"")]}
        for n in range(300)
    ]  # fmt: skip
    send(broker, topic, [*sent, {"value": None, "key": b"n", "partition": 0}])
    assert read(reader(), (0, 0, 101), (1, 7, 20), (2, 99, 100)) == {
        0: [*range(101)], 1: [*range(7, 20)], 2: [99],
    }  # fmt: skip
    assert read(reader()) == {}
    ((one, none),) = reader().pieces([Span(0, 99, 101)])
    assert one == (0, 99, 1_700_000_000_297, b"k", b"297", {"a": b"first", "b": b""})
    assert (none.value, none.key, none.headers) == (None, b"n", {})
    assert len([each for each in module._consumers if each.topic == topic]) == 1


def test_messages_without_bytes_come_too(broker, topic, reader):
    create(broker, topic, partitions=1)
    send(broker, topic, [b"", {"value": None, "key": b"k"}, b"", b""])
    for offset in range(4):
        assert read(reader(), (0, offset, offset + 1)) == {0: [offset]}
    assert read(reader(), (0, 0, 4)) == {0: [0, 1, 2, 3]}


def test_pieces_are_bounded_in_number_and_in_bytes(broker, topic, reader):
    create(broker, topic, partitions=1)
    send(broker, topic, [b"x"] * 3000 + [bytes(2**20)] * 40)
    pieces = list(reader().pieces([Span(0, 0, 3040)]))
    assert sum(map(len, pieces)) == 3040
    assert max(map(len, pieces)) <= module.PIECE
    assert max(sum(len(each.value) for each in piece) for piece in pieces) <= module.HELD + 2**20


@pytest.fixture
def transaction(broker, topic):
    """Sends some messages in a transaction, and returns its producer."""
    from kafka import KafkaProducer

    opened = []

    def begin(count):
        options = kafka.client_options(Broker(broker.address))
        name = f"{topic} {len(opened)}"
        opened.append(KafkaProducer(**options, transactional_id=name))
        opened[-1].init_transactions()
        opened[-1].begin_transaction()
        for _ in range(count):
            opened[-1].send(topic, b"image")
        opened[-1].flush()
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


def test_transactions_that_were_aborted_and_what_ends_them_are_passed(
    broker, topic, reader, transaction
):
    create(broker, topic, partitions=1)
    transaction(2).commit_transaction()  # 0, 1, and 2 is its end
    transaction(3).abort_transaction()  # 3, 4, 5, and 6
    send(broker, topic, [b"plain"])  # 7
    transaction(2).abort_transaction()  # 8, 9, and 10
    begin = time.monotonic()
    assert read(reader(), (0, 0, 11)) == {0: [0, 1, 7]}
    assert read(reader(), (0, 3, 7)) == {}
    assert read(reader(), (0, 8, 11)) == {}
    assert read(reader(), (0, 2, 3)) == {}
    last = transaction(1)  # 11, which is open
    assert read(reader(), (0, 5, 11)) == {0: [7]}
    assert read(reader("read_uncommitted"), (0, 0, 12)) == {0: [0, 1, 3, 4, 5, 7, 8, 9, 11]}
    last.commit_transaction()
    assert read(reader(), (0, 10, 13)) == {0: [11]}
    assert time.monotonic() - begin < module.WAIT_SECONDS


def test_what_the_broker_deleted_is_an_error_or_skipped(broker, topic, reader):
    create(broker, topic, partitions=1)
    send(broker, topic, [b"image"] * 10)
    delete_before(broker, topic, 4)
    assert read(reader(), (0, 4, 10)) == {0: [*range(4, 10)]}
    with pytest.raises(MessagesLostError, match="does not have offset 2 of partition 0"):
        read(reader(), (0, 2, 10))
    allowed = reader(fail_on_loss=False)
    assert read(allowed, (0, 2, 10)) == {0: [*range(4, 10)]}
    assert read(allowed, (0, 0, 4)) == {}
    assert read(allowed, (0, 20, 30)) == {}  # of a longer topic of that name


@pytest.mark.parametrize("fail_on_loss", [True, False])
def test_what_is_deleted_while_it_is_read_is_an_error_or_skipped(
    broker, topic, reader, fail_on_loss
):
    create(broker, topic, partitions=1)
    send(broker, topic, [bytes(2**20)] * 80)  # more than a consumer holds at once
    pieces = reader(fail_on_loss=fail_on_loss).pieces([Span(0, 0, 80)])
    found = [each.offset for each in next(pieces)]
    delete_before(broker, topic, 78)
    if fail_on_loss:
        with pytest.raises(MessagesLostError):
            list(pieces)
    else:
        found += [each.offset for piece in pieces for each in piece]
        assert found == sorted(set(found))
        assert found[-2:] == [78, 79]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_messages(broker, topic, reader, codec):
    from confluent_kafka import Producer

    create(broker, topic, partitions=1)
    producer = Producer({
        "bootstrap.servers": broker.address, "compression.type": codec, "linger.ms": 100,
    })  # fmt: skip
    for n in range(100):
        producer.produce(topic, b"image %d" % n * 50)
    producer.flush(30)
    pieces = list(reader().pieces([Span(0, 3, 100)]))
    assert [each.value[:8] for piece in pieces for each in piece] == [
        b"image %d" % n + b"image "[: 8 - len(b"image %d" % n)] for n in range(3, 100)
    ]


def test_a_header_whose_name_is_no_utf_8_leaves_its_message_without_headers(broker, topic, reader):
    class Name(str):
        def encode(self, *_):
            return b"\xff\xfe"

    create(broker, topic, partitions=1)
    named = ("ce_id", b"5")
    damaged = {"value": b"a", "headers": [(Name("x"), b"1"), named]}
    send(broker, topic, [damaged, {"value": b"b", "headers": [named]}])
    ((damaged, sound),) = reader().pieces([Span(0, 0, 2)])
    assert (damaged.value, damaged.headers) == (b"a", {})
    assert (sound.value, sound.headers) == (b"b", {"ce_id": b"5"})


def test_a_broker_that_is_away_is_waited_for_and_not_for_ever(broker, topic, reader, monkeypatch):
    create(broker, topic, partitions=1)
    send(broker, topic, [bytes(2**20)] * 60)
    pieces = reader().pieces([Span(0, 0, 60)])
    found = [each.offset for each in next(pieces)]
    broker.kill()
    try:
        monkeypatch.setattr(module, "WAIT_SECONDS", 1.0)
        with pytest.raises(BrokerUnavailableError, match="gave nothing of"):
            read(reader(), (0, 59, 60))
        monkeypatch.undo()
    finally:
        broker.start()
    found += [each.offset for piece in pieces for each in piece]
    assert found == [*range(60)]
    assert read(reader(), (0, 59, 60)) == {0: [59]}


@pytest.mark.slow
def test_what_was_compacted_is_passed(broker, topic, reader, until):
    with kafka.connect(Broker(broker.address)) as client:
        compacted = {
            "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01",
        }  # fmt: skip
        client.create_topics({topic: {"num_partitions": 1, "configs": compacted}})
    for n in range(20):
        send(broker, topic, [{"value": b"%d" % n, "key": b"one"}])
        time.sleep(0.15)  # so that it is in a segment of its own
    until(lambda: len(read(reader(), (0, 0, 20))[0]) < 20, 90)
    found = read(reader(), (0, 0, 20))[0]
    assert found[-1] == 19
    assert read(reader(), (0, found[-2] + 1, 19)) == {}


def test_a_login_is_shown_without_secrets(broker, tmp_path):
    login = librdkafka.login(
        Broker(broker.secure_address, "SASL_SSL", broker.ca, user="u", password="s3cret")
    )
    assert "s3cret" not in repr(login)
    with closing(librdkafka.consumer(login, {})) as consumer:
        assert "s3cret" not in repr(consumer)


def test_each_task_reads_its_share_with_the_images(broker, topic, reader):
    create(broker, topic, partitions=2)
    send(broker, topic, [{"value": b"%d" % n, "partition": n % 2} for n in range(9)])
    read = AssignedMessages(reader(), partial(contents, Store((), Limits()), None), 100)
    work = Assignment("@ab", time.time(), 2, [Span(0, 0, 5), Span(1, 1, 4)]).text()
    # As the tasks of a job, and as the driver does where a micro-batch is isolated.
    found = [
        (event, image)
        for task in (0, 1)
        for events, images in read(pd.DataFrame([{"id": task}]), work)
        for event, image in zip(events["event_id"].to_pylist(), images, strict=True)
    ]
    assert sorted(found) == [
        *((f"{topic}@ab/0/{n}", b"%d" % (2 * n)) for n in range(5)),
        *((f"{topic}@ab/1/{n}", b"%d" % (2 * n + 1)) for n in (1, 2, 3)),
    ]
