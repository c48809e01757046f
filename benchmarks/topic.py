"""Kafka in: a backlog in a topic, and a trickle, as the stream and as bare consumers take them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import loops, stream
from producers.load import load
from producers.topic import Destination
from sightstream.config import Settings
from sightstream.io import kafka
from sightstream.models.version import ServedModel

PARTITIONS = 4
WARM_UP = 1
"""Rounds that are not counted: the JVM compiles what runs often."""


def rounds(
    settings: Settings, process: subprocess.Popen[bytes], images: Path, model: ServedModel,
    count: int, cores: int,
) -> tuple[dict[str, list[float]], list[float]]:  # fmt: skip
    """Backlogs of all images, from the topic to committed rows, in turn with bare loops.

    Args:
        settings: the home folder, the broker and the topic.
        process: the stream, which has taken all that is in the topic.
        images: a folder of them.
        model: what the loops predict with; the stream has it from the registry.
        count: rounds that are measured.
        cores: processes of a loop.

    Returns:
        Images a second of the stream and of the loops by name, and of `sightstream publish`.
    """
    figures: dict[str, list[float]] = {"sightstream": []}
    total, speeds = sum(1 for _ in images.iterdir()), []
    for number in range(-WARM_UP, count):
        with stream.paused(process):
            begins = end_offsets(settings)
            speeds.append(publish(settings, images))
            parts = [(n, begins[n], end) for n, end in end_offsets(settings).items()]
            for name, loop in loops.CONSUMERS.items() if number >= 0 else ():
                speed = loops.consumers(loop, settings, parts, model, cores)
                figures.setdefault(name, []).append(speed)
            wait = stream.rows_more(settings, total)
            begin = time.time()
        wait()
        if number >= 0:
            figures["sightstream"].append(total / (time.time() - begin))
    return figures, speeds


def trickle(settings: Settings, image: Path, rate: float, seconds: float) -> dict[str, float]:
    """Percentiles of the seconds from the acknowledgement of a message until its row is read."""
    report = load(
        Destination(settings.kafka, settings.kafka_topic), settings.predictions, [image],
        {"good": 1.0}, rate=rate, seconds=seconds, largest=settings.max_image_bytes,
    )  # fmt: skip
    if not report.clean:
        raise RuntimeError(f"not every image has one row: {report}")
    return report.latency


def publish(settings: Settings, images: Path) -> float:
    """Images a second that `sightstream publish` has acknowledged."""
    command = [sys.executable, "-m", "sightstream", "publish", str(images), "--json"]
    command += ["--topic", settings.kafka_topic, "--servers", settings.kafka_servers]
    command += ["--create-topic", "--partitions", str(PARTITIONS)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    told = json.loads(done.stdout)
    return float(told["acknowledged"] / told["seconds"])


def end_offsets(settings: Settings) -> dict[int, int]:
    """The offset behind the last message of each partition."""
    from kafka import KafkaConsumer, TopicPartition

    parts = [TopicPartition(settings.kafka_topic, n) for n in range(PARTITIONS)]
    with KafkaConsumer(**kafka.client_options(settings.kafka)) as consumer:
        return {part.partition: end for part, end in consumer.end_offsets(parts).items()}
