"""Mutated images through a running stream: python -m tests.mutation.stream --seed 1 --minutes 10.

Each gets its one row, from the folder and, in turn, from Kafka; the stream is never stopped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from kafka import KafkaProducer

from sightstream.images.event import SEPARATOR
from sightstream.tables.predictions import ask
from tests import broker, tiny_model, topics
from tests.conftest import Home, figures_of
from tests.mutation.__main__ import files_by_format, seeds_of
from tests.mutation.targets import TARGETS
from tests.mutation.trial import Inputs

if TYPE_CHECKING:
    from sightstream.config import Settings

TOPIC = "mutations"
ROUND = 400
"""Inputs that are on their way at once."""

IMAGE_SECONDS = 5.0
LONGEST = 300.0
"""Seconds for a round's rows: each of its images may take its time, and that of its second try."""


def main() -> int:
    """Sends mutated images for some minutes; returns 1 where a row or the stream is missing."""
    asked = _arguments()
    given = files_by_format(asked.files) if asked.files else {}
    names = [name for name in TARGETS if name.startswith("images/")]
    makers = [Inputs(name, asked.seed, seeds_of(name, given), ()) for name in names]
    headers = Inputs("headers", asked.seed, TARGETS["headers"].seeds(), TARGETS["headers"].words)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutation-")))
        settings, producer = {"model": "leaf", "image_seconds": IMAGE_SECONDS}, None
        if asked.kafka:
            node = stack.enter_context(broker.running(folder / "broker"))
            topics.create(node, TOPIC)
            producer = KafkaProducer(bootstrap_servers=node.address, max_request_size=2**25)
            settings |= {"source": "folder,kafka", "kafka_servers": node.address}
            settings |= {"kafka_topic": TOPIC}
        home = Home(folder / "home", "", **settings)
        tiny_model.register(home.settings, "leaf", folder / "leaf")
        process = stack.enter_context(home.running())
        driver, sent, number = psutil.Process(process.pid), list[str](), asked.first
        end = time.monotonic() + 60 * asked.minutes
        while time.monotonic() < end:
            for _ in range(ROUND):
                maker = makers[number % len(makers)]
                _, data, _ = maker(number, TARGETS[maker.name])
                if producer and number % 2:
                    sent.append(_message(producer, number, data, headers))
                else:
                    sent.append(_file(home.settings, number, data))
                number += 1
            if producer:
                producer.flush()
            _rows_come(home, sent, driver)
            print(f"{len(sent):,} sent, each has its row", flush=True)
        return _told(home, sent, driver, process.metrics_url)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.mutation.stream", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--files", type=Path, help="a folder of further images to mutate")
    parser.add_argument("--kafka", action="store_true", help="every second one is a message")
    return parser.parse_args()


def _file(settings: Settings, number: int, data: bytes) -> str:
    """Drops a file; returns its name."""
    aside, name = settings.staging / "mutation.part", f"{number}.bin"
    aside.parent.mkdir(exist_ok=True)
    aside.write_bytes(data)
    aside.rename(settings.inbox / name)
    return name


def _message(producer: KafkaProducer, number: int, data: bytes, headers: Inputs) -> str:
    """Sends a message with mutated headers and key; returns the id that its own has."""
    _, text, _ = headers(number, TARGETS[headers.name])
    lines = (line.partition(b": ") for line in text.split(b"\n"))
    sent = [(name.decode("utf-8", "replace"), value) for name, _, value in lines]
    # Two of one id are one image; librdkafka reads a name up to its first zero byte.
    sent = [(name, value) for name, value in sent if name.partition("\0")[0] != "ce_id"]
    sent.append(("ce_id", str(number).encode()))
    producer.send(TOPIC, data, key=text[:300] or None, headers=sent)
    return str(number)


def _rows_come(home: Home, sent: Sequence[str], driver: psutil.Process) -> None:
    """Waits until there are as many rows as inputs."""
    deadline = time.monotonic() + LONGEST
    while home.count() < len(sent):
        if not driver.is_running() or driver.status() == psutil.STATUS_ZOMBIE:
            raise SystemExit(f"the stream has ended:\n{_said(home)[-4000:]}")
        if time.monotonic() > deadline:
            raise SystemExit(f"of {len(sent):,} inputs {home.count():,} have a row")
        time.sleep(0.1)


def _told(home: Home, sent: Sequence[str], driver: psutil.Process, address: str) -> int:
    """Tells what came of all; returns 1 where anything is wrong."""
    rows = ask(
        home.settings.predictions,
        "SELECT event_id, source, original_name, coalesce(error_code, status) AS outcome "
        "FROM predictions",
    ).to_pylist()
    own = Counter(
        row["event_id"].rpartition(SEPARATOR)[2] if row["source"] == "kafka"
        else row["original_name"] for row in rows
    )  # fmt: skip
    wrong = sorted(own - Counter(sent)) + sorted(Counter(sent) - own)
    said = _said(home)
    restarts = int(figures_of(address)["sightstream_query_restarts_total",])
    outcomes = Counter(row["outcome"] for row in rows).most_common()
    print(f"{len(rows):,} rows: {', '.join(f'{count:,} {name}' for name, count in outcomes)}")
    print(
        f"{len(wrong)} without a row of their own {wrong[:5]}, {said.count('in isolation')} "
        f"micro-batches run again, {restarts} restarts of a query, driver "
        f"{'alive' if driver.is_running() else 'dead'}, {said.count('Traceback')} tracebacks"
    )
    return int(bool(wrong or restarts or "Traceback" in said))


def _said(home: Home) -> str:
    return (home.settings.root / "run.err").read_text(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
