"""A topic of which a partition has no leader: its only node does not run."""

from threading import Thread

import pytest

from sightstream.config import Broker
from sightstream.errors import BrokerUnavailableError
from sightstream.images.limits import Limits
from sightstream.io import kafka
from sightstream.tables.predictions import Predictions
from streaming.kafka.duplicates import Recent
from streaming.kafka.lag import Topic
from streaming.kafka.source import KafkaSource
from streaming.observe.metrics import Metrics
from tests.chaos.kafka import Kafka

APART = {"apart": {"assignments": {0: [1], 1: [2]}}}
"""Each of the two partitions on a node of its own."""


@pytest.fixture
def nodes(tmp_path):
    with Kafka(tmp_path / "kafka", two=True) as both:
        with kafka.connect(Broker(both.servers)) as client:
            client.create_topics(APART, wait_for_metadata=True)
        yield both


@pytest.mark.slow  # it starts two brokers, and one of them twice
def test_a_start_waits_for_leaders_and_then_says_what_is_missing(
    nodes, settings, tmp_path, monkeypatch
):
    table = Predictions(settings.predictions)

    def opened():
        topic = Topic(Broker(nodes.servers), "apart", tmp_path / "checkpoint")
        limits = Limits(max_bytes=1000, max_pixels=1000)
        return KafkaSource(topic, Recent(table, "kafka"), Metrics(), limits, (), 1000)

    assert opened().behind == 0
    nodes.nodes[1].kill()
    with pytest.raises(BrokerUnavailableError, match="each of its partitions has a leader"):
        opened()
    monkeypatch.setattr(kafka, "ANSWER_SECONDS", 60.0)
    starting = Thread(target=nodes.nodes[1].start)
    starting.start()
    assert opened().behind == 0
    starting.join()
