"""What sightstream is compared with: loops of a process per core, with nothing around them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np
from PIL import Image

from sightstream.config import Settings
from sightstream.images.limits import Limits
from sightstream.models.version import ServedModel
from sightstream.scoring.classifier import Classifier


def bare(paths: Sequence[str], model: ServedModel, processes: int) -> float:
    """Images a second of a loop that reads, decodes and predicts with our decoder and engine."""
    return len(paths) / _side_by_side(_bare, paths, model, processes)


def full_decode(paths: Sequence[str], model: ServedModel, processes: int) -> float:
    """The same with a decoder as the guides write it: all pixels are decoded, then resized."""
    return len(paths) / _side_by_side(_full_decode, paths, model, processes)


def by_hand(paths: Sequence[str], model: ServedModel, processes: int) -> float:
    """A loop with nothing of ours: Pillow's open and resize, ONNX Runtime by 64 on one thread."""
    return len(paths) / _side_by_side(_by_hand, paths, model, processes)


Part = tuple[int, int, int]
"""A partition, the offset of its first message, and the one behind its last."""


def consumers(
    loop: Loop, settings: Settings, parts: Sequence[Part], model: ServedModel, processes: int
) -> float:
    """Images a second of consumers that poll, decode and predict, each its own partitions.

    Args:
        loop: one of `CONSUMERS`.
        settings: the broker and the topic.
        parts: what is consumed.
        model: what predicts.
        processes: consumers side by side.
    """
    where = {"servers": settings.kafka_servers, "topic": settings.kafka_topic}
    seconds = _side_by_side(partial(loop, **where), parts, model, processes)
    return sum(end - begin for _, begin, end in parts) / seconds


Loop = Callable[..., Callable[[], None]]


def _bare(paths: Sequence[str], model: ServedModel) -> Callable[[], None]:
    classifier = Classifier(model, Limits(), top_k=3)
    classifier(paths[:64])
    return lambda: classifier(paths) and None


def _full_decode(paths: Sequence[str], model: ServedModel) -> Callable[[], None]:
    engine, p = model.load(), model.preprocessing

    def loop() -> None:
        for start in range(0, len(paths), 64):
            chunk = [
                np.asarray(Image.open(path).convert("RGB").resize((p.width, p.height)))
                for path in paths[start : start + 64]
            ]
            engine(np.stack(chunk))

    return loop


def _by_hand(paths: Sequence[str], model: ServedModel) -> Callable[[], None]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    run = onnxruntime.InferenceSession(model.content, options)
    name, side = run.get_inputs()[0].name, (model.preprocessing.width, model.preprocessing.height)

    def loop(paths: Sequence[str] = paths) -> None:
        for start in range(0, len(paths), 64):
            chunk = [
                np.asarray(Image.open(path).convert("RGB").resize(side))
                for path in paths[start : start + 64]
            ]
            run.run(None, {name: np.stack(chunk)})

    loop(paths[:64])
    return loop


def _kafka_python(
    parts: Sequence[Part], model: ServedModel, *, servers: str, topic: str
) -> Callable[[], None]:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=servers, enable_auto_commit=False, max_partition_fetch_bytes=_FETCH
    )
    consumer.assign([TopicPartition(topic, number) for number, _, _ in parts])
    for number, begin, _ in parts:
        consumer.seek(TopicPartition(topic, number), begin)

    def poll(count: int) -> list[bytes]:
        found = consumer.poll(1000, max_records=count)
        return [message.value for several in found.values() for message in several]

    return _consumed(poll, parts, model)


def _confluent(
    parts: Sequence[Part], model: ServedModel, *, servers: str, topic: str
) -> Callable[[], None]:
    from confluent_kafka import Consumer, TopicPartition

    options = {
        "bootstrap.servers": servers, "group.id": "benchmark", "enable.auto.commit": False,
        "max.partition.fetch.bytes": _FETCH,
    }  # fmt: skip
    consumer = Consumer(options)
    consumer.assign([TopicPartition(topic, number, begin) for number, begin, _ in parts])
    return _consumed(lambda count: [m.value() for m in consumer.consume(count, 1.0)], parts, model)


def _consumed(
    poll: Callable[[int], list[bytes]], parts: Sequence[Part], model: ServedModel
) -> Callable[[], None]:
    classifier = Classifier(model, Limits(), top_k=3)
    left = sum(end - begin for _, begin, end in parts)

    def loop() -> None:
        count = left
        while count > 0:
            images = poll(min(count, _POLL))
            classifier(images)
            count -= len(images)

    return loop


CONSUMERS: dict[str, Loop] = {"kafka-python": _kafka_python, "confluent-kafka": _confluent}

_POLL = 512
_FETCH = 8 * 2**20


def _side_by_side(loop: Loop, work: Sequence[Any], model: ServedModel, processes: int) -> float:
    """Seconds that processes take for all of the work, each for its share."""
    context = get_context("spawn")
    barrier, times = context.Barrier(processes), context.Queue()
    children = [
        context.Process(target=_timed, args=(loop, work[n::processes], model, barrier, times))
        for n in range(processes)
    ]
    for child in children:
        child.start()
    spans = [times.get(timeout=600) for _ in children]
    for child in children:
        child.join()
    return max(end for _, end in spans) - min(begin for begin, _ in spans)


def _timed(
    loop: Loop, work: Sequence[Any], model: ServedModel, barrier: Barrier,
    times: Queue[tuple[float, float]],
) -> None:  # fmt: skip
    run = loop(work, model)
    barrier.wait()
    begin = time.time()
    run()
    times.put((begin, time.time()))
