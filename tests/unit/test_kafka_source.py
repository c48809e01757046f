"""streaming.kafka.source: where a topic stands, what a micro-batch is, a broker that is away."""

import json
from contextlib import nullcontext
from dataclasses import replace
from threading import Event
from types import SimpleNamespace
from uuid import UUID

import pyarrow as pa
import pytest
from kafka.errors import KafkaConnectionError

from sightstream.config import Broker
from sightstream.errors import (
    BrokerRefusedError,
    BrokerUnavailableError,
    MessagesLostError,
    TopicNotFoundError,
)
from sightstream.images.limits import Limits
from streaming.kafka import source as module
from streaming.kafka.assignment import Assignment, Span
from streaming.kafka.lag import Topic
from streaming.kafka.source import KafkaSource
from streaming.observe.metrics import Metrics

PLANNED = 1_700_000_000
"""Seconds since the epoch."""


class Client:
    """A topic on a broker, as kafka-python's administration client shows it."""

    def __init__(self):
        self.begin, self.end = {0: 0, 1: 0}, {0: 60, 1: 40}
        self.bytes = 24_000 * 100
        self.fault = None
        self.id = UUID(int=1 << 100)
        self.open = {}  # offsets from which an open transaction holds messages back

    def describe_topics(self, names):
        code = 0 if self.end else 3
        parts = [{"partition_index": number} for number in self.end]
        return [{"error_code": code, "partitions": parts, "topic_id": self.id}]

    def list_partition_offsets(self, asked, isolation):
        if self.fault:
            raise self.fault
        readable = self.end | (self.open if isolation == "read_committed" else {})
        offsets = {-2: self.begin, -1: readable}
        return {
            part: SimpleNamespace(offset=offsets[spec.value][part.partition])
            for part, spec in asked.items()
        }

    def describe_log_dirs(self, topics):
        parts = [
            {"partition_index": number, "partition_size": self.bytes // 2} for number in (0, 1)
        ]
        return [{"log_dirs": [{"topics": [{"partitions": parts}]}]}] * 2  # two replicas


class Recent:
    """The ids of rows that were committed."""

    def __init__(self):
        self.ids = []
        self.topics = {}

    def is_first(self, topic, topic_id):
        return self.topics.setdefault(topic, topic_id) == topic_id

    def first(self, rows):
        return rows.filter([each not in self.ids for each in rows["event_id"].to_pylist()])

    def remember(self, ids):
        self.ids += ids


@pytest.fixture
def client(monkeypatch):
    made = Client()

    def connect(broker, timeout=5.0):
        if isinstance(made.fault, (BrokerUnavailableError, BrokerRefusedError)):
            raise made.fault
        return nullcontext(made)

    monkeypatch.setattr(module.kafka, "connect", connect)
    return made


@pytest.fixture
def topic(tmp_path):
    return Topic(Broker("here:9092"), "images", tmp_path / "images")


@pytest.fixture
def make(client, topic):
    def made(topic=topic, recent=None, metrics=None, images_per_batch=20_000, max_offsets=0):
        limits = Limits(max_bytes=1000, max_pixels=1000)
        return KafkaSource(
            topic, recent or Recent(), metrics or Metrics(), limits, (), images_per_batch,
            max_offsets,
        )  # fmt: skip

    return made


@pytest.fixture
def planned(topic):
    """Writes a micro-batch as Spark plans it, and as it commits it."""

    def write(number, *, committed=False, **ends):
        offsets = {"images": {name.removeprefix("p"): end for name, end in ends.items()}}
        content = f'v1\n{{"batchTimestampMs":{1000 * PLANNED}}}\n{json.dumps(offsets)}'
        for folder in ("offsets", "commits") if committed else ("offsets",):
            (topic.checkpoint / folder).mkdir(exist_ok=True, parents=True)
            (topic.checkpoint / folder / str(number)).write_text(content)
        (topic.checkpoint / "metadata").write_text('{"id": "app"}')
        first = topic.checkpoint / "sources" / "0" / "0"
        first.parent.mkdir(exist_ok=True, parents=True)
        first.write_bytes(b'\0v1\n{"images":{"1":5,"0":10}}')

    return write


class Batch:
    """A micro-batch, and the session that makes tasks for it."""

    def __init__(self):
        self.sparkSession = self.sparkContext = self
        self.defaultParallelism = 2

    def range(self, start, end, step, partitions):
        return f"{end} in {partitions}"


def rows(*ids):
    return pa.table({"event_id": ids})


def test_without_a_checkpoint_all_that_the_broker_has_is_behind(make, client):
    client.begin[0] = 10
    assert make().behind == 90
    assert make().drain() == 90


def test_a_start_at_the_newest_message_leaves_out_those_before(make, topic):
    latest = Topic(topic.broker, topic.name, topic.checkpoint, from_end=True)
    assert make(latest).behind == 0


def test_a_checkpoint_says_what_has_a_row(make, planned):
    planned(0, committed=True, p0=50, p1=40)
    assert make().behind == 10


def test_micro_batches_are_counted_one_after_the_other(make, planned):
    source, batch = make(), Batch()
    planned(0, p0=40, p1=30)
    work = source.work(batch, 0)
    assert (work.images, work.tasks) == (55, "2 in 2")
    source.done(0, 55, rows("a"))
    assert source.behind == 30
    planned(1, p0=50, p1=30)
    work = source.work(batch, 1)
    assert (work.images, work.tasks) == (10, "1 in 1")
    source.done(1, 10, rows("b"))
    assert source.behind == 20


def test_a_micro_batch_is_what_spark_has_planned(make, planned):
    source = make()
    planned(0, p0=40, p1=30)
    first = Assignment.of(source.work(Batch(), 0).assignment())
    assert first == Assignment("", PLANNED, 2, [Span(0, 10, 40), Span(1, 5, 30)])
    planned(1, p0=40, p1=31, p2=7)  # a partition that is new
    second = Assignment.of(source.work(Batch(), 1).assignment())
    assert second.spans == [Span(1, 30, 31), Span(2, 0, 7)]


def test_after_a_crash_the_planned_micro_batch_comes_again_with_the_same_size(make, planned):
    planned(0, committed=True, p0=40, p1=30)
    planned(1, p0=50, p1=30)
    works = [make().work(Batch(), 1) for _ in range(2)]
    assert [each.images for each in works] == [10, 10]
    assert works[0].assignment() == works[1].assignment()
    source = make()
    source.done(1, 10, None)
    assert source.behind == 20


def test_ids_are_remembered_once_they_are_committed_and_not_before(make, planned):
    recent, metrics = Recent(), Metrics()
    source = make(recent=recent, metrics=metrics)
    planned(0, p0=40, p1=30)
    for _ in range(2):  # the commit of the first try failed
        assert source.first(rows("a", "b"))["event_id"].to_pylist() == ["a", "b"]
    source.done(0, 2, rows("a", "b"))
    assert source.first(rows("b", "c"))["event_id"].to_pylist() == ["c"]
    assert metrics.registry.get_sample_value("sightstream_duplicates_total") == 1


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [(24_000, 20_000, 20_000), (24_000, 500, 500), (2**20, 20_000, 512), (2**30, 20_000, 1)],
)
def test_a_micro_batch_keeps_below_half_a_gigabyte(make, client, size, most, expected):
    client.bytes = size * 100
    options = make(images_per_batch=most)._options()
    assert options["maxOffsetsPerTrigger"] == pytest.approx(expected, rel=0.12)
    assert make(max_offsets=7)._options()["maxOffsetsPerTrigger"] == 7


def test_a_topic_that_is_not_there_is_an_error_of_its_own(make, client):
    client.end = {}
    with pytest.raises(TopicNotFoundError, match="no topic 'images'"):
        make()


def test_messages_that_were_deleted_unread_stop_the_start_and_a_restart(make, client, planned):
    planned(0, committed=True, p0=10, p1=10)
    source = make()
    client.begin[0] = 30
    with pytest.raises(MessagesLostError, match="partition 0: offsets 10 to 29"):
        source.check()
    with pytest.raises(MessagesLostError):
        make()


@pytest.mark.parametrize(
    ("fault", "there"),
    [
        (None, True),
        (BrokerUnavailableError("away"), False),
        (KafkaConnectionError("went away"), False),
        (BrokerRefusedError("wrong password"), True),
    ],
)
def test_a_broker_that_is_away_is_no_failure_and_one_that_refuses_us_is(make, client, fault, there):
    source = make()
    client.fault = fault
    assert source.check() is there


def test_the_lag_is_looked_at_until_the_end_and_after_a_fault(make, client, until, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(Topic, "waiting_seconds", lambda self, stands: {0: 3.0, 1: 0.0})
    metrics, stop = Metrics(), Event()
    source = make(metrics=metrics)

    def lag():
        labels = {"topic": "images", "partition": "0"}
        return metrics.registry.get_sample_value("sightstream_kafka_lag_records", labels)

    source.watch(stop)
    until(lambda: lag() == 60)
    client.fault = KafkaConnectionError("went away")
    client.end[0] = 75
    assert not stop.wait(0.01)
    client.fault = None
    until(lambda: lag() == 75)
    stop.set()
    assert source.behind == 115
    arrived = {"source": "kafka"}
    assert metrics.registry.get_sample_value("sightstream_arrived_images_total", arrived) == 15


def test_a_stream_that_goes_on_meanwhile_is_not_ahead_of_the_broker(make, client, planned):
    planned(0, committed=True, p0=60, p1=40)
    listed = client.list_partition_offsets

    def list_and_go_on(asked, isolation):
        found = listed(asked, isolation)
        client.end = {0: 80, 1: 40}
        planned(1, committed=True, p0=80, p1=40)
        return found

    client.list_partition_offsets = list_and_go_on
    assert make().changed() is False


def test_what_an_open_transaction_holds_back_is_waited_for(make, client, planned):
    planned(0, committed=True, p0=60, p1=40)
    source = make()
    client.open = {0: 50}
    assert source.check() is False
    assert make().behind == 0
    client.open = {}
    assert source.check() is True


def test_a_topic_that_was_made_anew_ends_the_stream(make, client, planned):
    planned(0, committed=True, p0=10, p1=10)
    source = make()
    assert source.changed() is False
    client.id = UUID(int=2 << 100)
    with pytest.raises(MessagesLostError, match="deleted and made anew"):
        source.check()
    with pytest.raises(MessagesLostError, match="deleted and made anew"):
        source.changed()
    with pytest.raises(MessagesLostError, match="deleted and made anew"):
        make()


@pytest.mark.parametrize("longer", [True, False])
def test_where_losses_are_allowed_a_topic_made_anew_is_read_from_its_beginning(
    make, client, planned, topic, longer
):
    allowed, recent = replace(topic, fail_on_loss=False, from_end=True), Recent()
    make(allowed, recent)
    planned(0, committed=True, p0=10, p1=10)
    running = make(allowed, recent)
    client.id = UUID(int=2 << 100)
    client.end = {0: 30, 1: 30} if longer else {0: 3, 1: 4}
    assert running.check() is True
    assert running.changed() is True
    assert make(allowed, recent).behind == sum(client.end.values())
    assert len(list(topic.checkpoint.parent.iterdir())) == 2
    assert make(allowed, recent).changed() is False
