"""The ledger: sources that count alike, transactions that are aborted, and a stream that is killed.

One row for each committed message, and none for an aborted one.
"""

import random
import time
from threading import Event, Thread

import pytest

from sightstream import config
from sightstream.io import kafka
from tests.topics import create

SOURCES = 50
TOGETHER = 20  # messages of a transaction


class Ledger:
    """Sends pictures in transactions, every tenth of which is aborted, and keeps what was not."""

    def __init__(self, broker, topic, pictures, count, pause):
        self._settings = config.Settings(kafka_servers=broker.address)
        self._topic, self._count, self._pause = topic, count, pause
        self._pictures = [path.read_bytes() for path in pictures]
        self._random = random.Random(20261128)
        self.committed, self.aborted = [], []
        self.error, self.done = None, Event()

    def __enter__(self):
        Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._pause = 0

    def _run(self):
        try:
            self._send()
        except Exception as error:
            self.error = error
        self.done.set()

    def _send(self):
        from kafka import KafkaProducer

        producer = KafkaProducer(
            **kafka.client_options(self._settings.kafka), transactional_id=self._topic, linger_ms=5
        )
        producer.init_transactions()
        for number, start in enumerate(range(0, self._count, TOGETHER)):
            producer.begin_transaction()
            sent = []
            for message in range(start, start + TOGETHER):
                source, count = f"/site/cam-{message % SOURCES}", str(message // SOURCES)
                headers = [("ce_source", source.encode()), ("ce_id", count.encode())]
                producer.send(self._topic, self._random.choice(self._pictures), headers=headers)
                sent.append(f"{source}#{count}")
            producer.flush()
            if number % 10 == 3:
                producer.abort_transaction()
                self.aborted += sent
            else:
                producer.commit_transaction()
                self.committed += sent
            time.sleep(self._random.uniform(0, 2 * self._pause))
        producer.close()


@pytest.mark.parametrize(
    ("count", "kills"),
    [
        pytest.param(2000, 2, id="2,000 messages"),
        pytest.param(
            20_000, 5, id="20,000 messages", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]
        ),
    ],
)  # fmt: skip
def test_each_committed_message_is_one_row_and_no_aborted_one(
    new_home, starter, broker, until, count, kills
):
    moments, topic = random.Random(1), f"ledger-{count}"
    create(broker, topic, partitions=4)
    home = new_home(
        kafka_servers=broker.address, kafka_topic=topic, source="kafka", images_per_batch=count // 8
    )
    with Ledger(broker, topic, starter.digits, count, pause=0.1) as ledger:
        for _ in range(kills):
            before = home.count()
            with home.running():  # which ends by SIGKILL
                until(lambda before=before: home.count() > before, 90)
                Event().wait(moments.uniform(0, 3))
    assert ledger.done.wait(600)
    assert ledger.error is None
    last = home("run", "--once", "--metrics-port", "0")
    assert last.returncode == 0, last.stderr
    assert last.stderr.splitlines()[-1].endswith("0 of them left behind")
    rows = home.table()
    assert len(ledger.aborted) == count // 10
    assert sorted(rows["event_id"].to_pylist()) == sorted(ledger.committed)
    assert set(rows["status"].to_pylist()) == {"ok"}
