"""Load on a stream: images are sent at a rate, and looked up in the table."""

import os
import random
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from uuid import uuid4

from producers import inbox
from producers.inbox import Drop
from producers.publish import Messages
from producers.topic import Destination, Message, Publisher
from sightstream.errors import ConfigError
from sightstream.images.event import readable
from sightstream.tables import predictions

GOOD, BAD = "good", "bad"

QUIET_SECONDS = 1.0  # wait after the last answer, in which a second row of an image may still come
_LOOK_SECONDS = 0.01
_VARIANTS = 20  # bad images of each kind
_LARGE_EVERY = 100  # number of bad images of which one is too large


@dataclass
class Report:
    """Images sent, and their rows; latencies in seconds."""

    sent: int = 0
    answered: int = 0
    ok: int = 0
    rejected: int = 0
    lost: int = 0
    doubled: int = 0
    unsent: int = 0
    seconds: float = 0.0
    latency: dict[str, float] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """True if each image was sent and has one row."""
        return not (self.lost or self.doubled or self.unsent)


def shares(mix: str) -> dict[str, float]:
    """Parses a mix such as good=95,bad=5 into fractions; raises ConfigError for another form."""
    try:
        pairs = dict(part.split("=") for part in mix.split(","))
        found = {name: float(share) for name, share in pairs.items()}
    except ValueError:
        found = {}
    total = sum(found.values())
    if not found.keys() <= {GOOD, BAD} or not 0 < total < float("inf") or min(found.values()) < 0:
        raise ConfigError(f"--mix is such as good=95,bad=5, not {mix!r}")
    return {name: share / total for name, share in found.items()}


def images(
    good: Sequence[Path], mix: dict[str, float], folder: Path, largest: int, seed: int
) -> Iterator[Path]:
    """Yields images without end, in the shares of a mix; the seed decides on their order.

    Bad ones are written to `folder`: empty, truncated, noise, and, unless `largest` is 0, of that
    many bytes.
    """
    dice = random.Random(seed)  # noqa: S311
    bad = []
    for number in range(_VARIANTS):
        whole = good[dice.randrange(len(good))]
        content = whole.read_bytes()
        for kind, data in (
            ("empty", b""),
            ("truncated", content[: len(content) // 2]),
            ("noise", dice.randbytes(dice.randint(1, 50_000))),
        ):
            bad.append(folder / f"{kind}-{number}{whole.suffix}")
            bad[-1].write_bytes(data)
    large = folder / f"large{good[0].suffix}"
    with large.open("wb") as file:
        file.truncate(largest)
    goods, bads = count(), count()
    while True:
        if dice.random() >= mix.get(BAD, 0):
            yield good[next(goods) % len(good)]
        elif (number := next(bads)) % _LARGE_EVERY or not largest:
            yield bad[number % len(bad)]
        else:
            yield large


class Answers:
    """Watches the rows of a run arrive, and measures the latency of each."""

    def __init__(self, table: str, run: str, key: str) -> None:
        """Watches the table, which must exist, for rows whose original names begin with `run`."""
        self._table, self._run, self._key = table, f"{run}/", key
        self._open: dict[str, float] = {}
        self._lock = Lock()
        self._error: Exception | None = None
        self.answered = 0
        self.latencies = array("d")
        version = predictions.opened(table).version() + 1
        Thread(target=self._follow, args=(version,), daemon=True).start()

    def record(self, key: str, signed: float) -> None:
        """Records when an image was sent, or minus the time of its row, in seconds of the epoch."""
        with self._lock:
            other = self._open.pop(key, None)
            if other is None:
                self._open[key] = signed
            else:
                self.latencies.append(max(0.0, -(signed + other)))

    def check(self) -> None:
        """Raises the error that ended the watching thread."""
        if self._error:
            raise self._error

    def _follow(self, version: int) -> None:
        try:
            while True:
                rows = predictions.added(self._table, version)
                now = time.time()
                if rows is None:
                    time.sleep(_LOOK_SECONDS)
                    continue
                version += 1
                for row in rows:
                    if (row["original_name"] or "").startswith(self._run):
                        self.record(row[self._key], -now)
                        self.answered += 1
        except Exception as error:
            self._error = error


def load(
    to: AbstractContextManager[Drop] | Destination, table: str, good: Sequence[Path],
    mix: dict[str, float], *, rate: float, seconds: float, largest: int, seed: int = 0,
    timeout: float = 60, notify: Callable[[str], None] = lambda _: None,
    on_answers: Callable[[int], None] = lambda _: None,
) -> Report:  # fmt: skip
    """Sends images at a rate a second for some seconds, waits for their rows, and reports both.

    `to` is the inbox, as `inbox.dropping` opens it, or the topic; `mix` the result of `shares`;
    `largest` the bytes of the largest image that the stream takes. After `timeout` seconds without
    an answer images are given up. `notify` is called with a sentence about a wait, and about an
    image that was not sent; `on_answers` with the number of rows so far.

    Raises:
        SightstreamError: there is no table yet, or as `Publisher` raises it.
    """
    run = f"load-{uuid4().hex[:12]}"
    key = "event_id" if isinstance(to, Destination) else "original_name"
    report, answers = Report(), Answers(table, run, key)
    total = max(1, round(rate * seconds))

    def files(too_large: int) -> Iterator[tuple[Path, Path]]:
        chosen = islice(images(good, mix, Path(folder), too_large, seed), total)
        named = ((file, Path(run, f"{n:07d}{file.suffix}")) for n, file in enumerate(chosen))
        for file in inbox.paced(named, rate):
            answers.check()
            on_answers(answers.answered)
            yield file

    def answered(message: Message, error: str, when: float) -> None:
        if error:
            report.unsent += 1
            notify(f"{message.event.original_name} was not sent: {error}")
        else:
            report.sent += 1
            answers.record(message.event.message_id, when)

    begin = time.monotonic()
    with TemporaryDirectory() as folder:
        if isinstance(to, Destination):
            with Publisher(to, answered, notify) as publisher:
                messages = Messages((), publisher, "load", claim_check="never")
                for file, name in files(largest + 1 if largest < publisher.limit - 1025 else 0):
                    publisher.send(messages.of(file, os.fsencode(name)))
                publisher.flush()
        else:
            with to as drop:
                for file, name in files(largest + 1):
                    drop(file, name)
                    report.sent += 1
                    answers.record(readable(os.fsencode(name)), time.time())
        report.seconds = time.monotonic() - begin
    _wait(answers, report.sent, timeout, on_answers)
    _count(report, answers, table, run, key)
    return report


def _wait(answers: Answers, wanted: int, timeout: float, on_answers: Callable[[int], None]) -> None:
    seen, since = -1, time.monotonic()
    while (now := time.monotonic()) - since < (
        timeout if answers.answered < wanted else QUIET_SECONDS
    ):
        answers.check()
        on_answers(answers.answered)
        if answers.answered != seen:
            seen, since = answers.answered, now
        time.sleep(_LOOK_SECONDS)


def _count(report: Report, answers: Answers, table: str, run: str, key: str) -> None:
    (row,) = predictions.ask(
        table,
        f"SELECT count(*) AS rows, count(DISTINCT {key}) AS images, "  # noqa: S608
        "count(*) FILTER (WHERE status = 'ok') AS ok "
        f"FROM predictions WHERE starts_with(original_name, '{run}/')",
    ).to_pylist()
    report.answered, report.ok = row["images"], row["ok"]
    report.rejected = row["rows"] - row["ok"]
    report.lost = report.sent - row["images"]
    report.doubled = row["rows"] - row["images"]
    if answers.latencies:
        at = sorted(answers.latencies)
        report.latency = {
            f"p{p}": round(at[min(len(at) - 1, len(at) * p // 100)], 3) for p in (50, 95, 99)
        }
