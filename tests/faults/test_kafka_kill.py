"""The stream and the broker under kill -9: as many rows and predictions as messages."""

import random
import shutil
import time
from threading import Event, Thread

import pytest

from sightstream import config
from sightstream.io import kafka
from tests.topics import create, messages, send


class Publisher:
    """Digits under ids of their own, sent in bursts from a thread, however often Kafka dies."""

    def __init__(self, broker, topic, digits, count, seed, pause):
        self._settings = config.Settings(kafka_servers=broker.address)
        self._topic = topic
        self._digits = [path.read_bytes() for path in digits]
        self._random = random.Random(seed)
        self._pause = pause
        self.ids = [f"image {number}" for number in range(count)]
        self.done = Event()

    def __enter__(self):
        Thread(target=self._send, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._pause = 0

    def _send(self):
        from kafka import KafkaProducer

        producer = KafkaProducer(
            **kafka.client_options(self._settings.kafka), delivery_timeout_ms=300_000, linger_ms=5
        )
        sent = []
        for start in range(0, len(self.ids), 50):
            for each in self.ids[start : start + 50]:
                digit = self._random.choice(self._digits)
                sent.append(producer.send(self._topic, digit, headers=[("ce_id", each.encode())]))
            time.sleep(self._random.uniform(0, 2 * self._pause))
        for each in sent:
            each.get(timeout=300)
        self.done.set()


@pytest.mark.parametrize(
    ("count", "kills", "restarts"),
    [
        pytest.param(500, 1, 1, id="500 images", marks=pytest.mark.slow),
        pytest.param(
            20_000, 5, 2, id="20,000 images", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]
        ),
    ],
)  # fmt: skip
def test_run_and_broker_are_killed_and_topic_and_table_agree(
    new_home, starter, broker, until, count, kills, restarts
):
    moments, topic = random.Random(20251124), f"killed-{count}"
    create(broker, topic, partitions=4)
    home = new_home(
        kafka_servers=broker.address, kafka_topic=topic, source="kafka",
        kafka_predictions_topic=f"{topic}-predictions", images_per_batch=count // 10,
    )  # fmt: skip
    pause = 0.05 * kills
    with Publisher(broker, topic, starter.digits, count, seed=3, pause=pause) as publisher:
        for number in range(kills):
            before = home.count()
            with home.running():  # which ends by SIGKILL
                until(lambda before=before: home.count() > before, 90)
                Event().wait(moments.uniform(0, 3))
                if number < restarts:
                    broker.kill()
                    Event().wait(moments.uniform(0, 2))
                    broker.start()
                    Event().wait(moments.uniform(0, 3))
        assert publisher.done.wait(300)
    last = home("run", "--once", "--metrics-port", "0")
    assert last.returncode == 0, last.stderr
    rows = home.table()
    assert rows.num_rows == count
    assert set(rows["event_id"].to_pylist()) == set(publisher.ids)
    assert set(rows["status"].to_pylist()) == {"ok"}
    told = {message.key.decode() for message in messages(broker, f"{topic}-predictions")}
    assert told == set(publisher.ids)


@pytest.mark.slow  # it starts a broker twice
def test_while_the_broker_is_away_the_folder_goes_on_and_both_do_when_it_is_back(
    new_home, starter, broker, topic, until
):
    create(broker, topic, partitions=1)
    home = new_home(kafka_servers=broker.address, kafka_topic=topic, source="folder,kafka")
    first, second, third, last = starter.digits[:4]

    def named(*names):
        return home.count() and names == tuple(sorted(home.table()["original_name"].to_pylist()))

    def message(name, path):
        return {"value": path.read_bytes(), "headers": [("ce_subject", name.encode())]}

    with home.running() as run:
        send(broker, topic, [message("a", first)])
        until(lambda: named("a"), 60)
        broker.kill()
        try:
            for name, path in (("b.png", second), ("c.png", third)):
                shutil.copyfile(path, home.settings.inbox / name)
                expected = ("a", "b.png", "c.png")[: 2 + (name == "c.png")]
                until(lambda expected=expected: named(*expected), 60)
        finally:
            broker.start()
        send(broker, topic, [message("d", last)])
        until(lambda: named("a", "b.png", "c.png", "d"), 120)
        assert run.poll() is None
    assert set(home.table()["status"].to_pylist()) == {"ok"}
