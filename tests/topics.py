"""What tests of the producers share: the program as a user runs it, and what is in a topic."""

import os
import subprocess
import sys

from sightstream import config, kafka


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
        **kafka.client_options(settings), enable_auto_commit=False, max_partition_fetch_bytes=2**25
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
    with kafka.connect(config.Settings(kafka_servers=broker.address)) as client:
        return set(client.list_topics())
