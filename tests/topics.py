"""What tests of Kafka share: the program as a user runs it, topics, and what is in them."""

import os
import subprocess
import sys
from contextlib import closing

from sightstream import config
from sightstream.config import Broker
from sightstream.io import kafka


class Program:
    """`sightstream`, told where a broker is."""

    def __init__(self, broker, folder, *arguments, **more):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(config.ENV_PREFIX)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sightstream", *map(str, arguments)],
            env=environment | {"SIGHTSTREAM_KAFKA_SERVERS": broker.address, **more}, cwd=folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ended(self, number=None):
        if number:
            self.process.send_signal(number)
        try:
            self.out, self.err = self.process.communicate(timeout=90)
        finally:
            self.process.kill()
        self.code = self.process.returncode
        return self


def messages(broker, topic):
    """All messages of a topic, from its beginning to its end."""
    from kafka import KafkaConsumer, TopicPartition

    settings = config.Settings(kafka_servers=broker.address)
    with KafkaConsumer(
        **kafka.client_options(settings.kafka),
        enable_auto_commit=False,
        max_partition_fetch_bytes=2**25,
    ) as consumer:
        parts = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        found = []
        while any(consumer.position(part) < ends[part] for part in parts):
            found += [m for several in consumer.poll(1000).values() for m in several]
        return found


def headers(message):
    return {name: value.decode() for name, value in message.headers}


def topics(broker):
    with kafka.connect(Broker(broker.address)) as client:
        return set(client.list_topics())


def create(broker, topic, *, partitions=3):
    with kafka.connect(Broker(broker.address)) as client:
        large = {"max.message.bytes": str(2**25)}
        client.create_topics({topic: {"num_partitions": partitions, "configs": large}})


def send(broker, topic, values):
    """Sends messages, each a dictionary of what KafkaProducer.send takes; returns when they are in.

    A lone bytes object is a message without key and headers.
    """
    from kafka import KafkaProducer

    settings = config.Settings(kafka_servers=broker.address)
    options = {"max_request_size": 2**25, "linger_ms": 5}
    with closing(KafkaProducer(**kafka.client_options(settings.kafka), **options)) as producer:
        sent = [
            producer.send(topic, **(each if isinstance(each, dict) else {"value": each}))
            for each in values
        ]
        producer.flush()
        return [each.get(timeout=60) for each in sent]
