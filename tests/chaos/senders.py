"""Senders: each notes in the ledger what it was told to have arrived, and never gives up.

A file has arrived once it is renamed into the inbox. A message has arrived once all replicas have
it, or its transaction is committed; where the answer is lost, it is sent again under its id.
"""

import hashlib
import os
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread

from confluent_kafka import KafkaException, Producer

from tests.chaos.ledger import Ledger, Sent
from tests.chaos.pictures import Picture, Pictures

RETRY = 0.5
"""Seconds until what failed is tried again."""


class Sender(Thread):
    """Sends bursts of images until it is told to stop."""

    def __init__(self, name: str, pictures: Pictures, ledger: Ledger, rate: float) -> None:
        """`rate` is in images a second, in the mean."""
        super().__init__(name=name, daemon=True)
        self.pictures, self._ledger, self._rate = pictures, ledger, rate
        self._chance = random.Random(name)
        self._count = 0
        self.stopping, self.busy = Event(), Lock()
        self.extra = list[Picture]()  # to be sent with the next burst
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self.stopping.wait(self._chance.uniform(0, 1)):
                size = round(self._chance.uniform(0, self._rate))
                burst = [self.pictures.any() for _ in range(size)]
                while self.extra:
                    burst.append(self.extra.pop())
                if burst:
                    self.send(burst)
            self.close()
        except Exception as error:  # the run tells of it: a sender that ended shows nothing
            self.error = error

    def send(self, burst: Sequence[Picture]) -> None:
        """Sends images, and returns once all have arrived, or the sender is to stop."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends what it holds."""

    def _next(self, suffix: str = "") -> str:
        self._count += 1
        return f"{self.name}-{self._count:06d}{suffix}"


def _sent(name: str, source: str, picture: Picture) -> Sent:
    digest = hashlib.sha256(picture.content).hexdigest()
    return Sent(name, source, digest, len(picture.content), picture.label, picture.code)


class Files(Sender):
    """Files, made aside and renamed into the inbox."""

    def __init__(
        self, name: str, pictures: Pictures, ledger: Ledger, rate: float, inbox: Path
    ) -> None:
        super().__init__(name, pictures, ledger, rate)
        self._inbox, self._aside = inbox, inbox.with_name("staging") / f"{name}.part"

    def send(self, burst: Sequence[Picture]) -> None:
        for picture in burst:
            name = self._next(".png")
            while not self._moved(name, picture.content):
                if self.stopping.wait(RETRY):
                    return
            self._ledger.sent(_sent(name, "folder", picture))

    def _moved(self, name: str, content: bytes) -> bool:
        with self.busy:
            return self._move(name, content)

    def _move(self, name: str, content: bytes) -> bool:
        try:
            for folder in (self._inbox, self._aside.parent):
                folder.mkdir(parents=True, exist_ok=True)
            with self._aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._aside.rename(self._inbox / name)
        except OSError:  # such as a full disk
            with suppress(OSError):
                self._aside.unlink(missing_ok=True)
            return False
        return True


class Messages(Sender):
    """Messages with ids, some of which come again; some bursts are transactions, some aborted."""

    def __init__(
        self, name: str, pictures: Pictures, ledger: Ledger, rate: float, servers: str, topic: str
    ) -> None:
        super().__init__(name, pictures, ledger, rate)
        self._servers, self._topic = servers, topic
        self._plain = self._producer()
        self._bound: Producer | None = None
        self._old = list[tuple[Sent, bytes]]()

    def send(self, burst: Sequence[Picture]) -> None:
        images = [
            (_sent(f"/chaos/{self.name}#{self._next()}", "kafka", picture), picture.content)
            for picture in burst
        ]
        if self._chance.random() < 0.3:
            with self.busy:
                self._transaction(images)
            return
        again = self._chance.sample(self._old, min(len(self._old), len(images) // 10))
        left = [*images, *again]
        while left:
            with self.busy:
                left = self._undelivered(left)
                for image, _ in left:
                    self._ledger.sent(image, certain=False)
            if left and self.stopping.wait(RETRY):
                return
        self._old += images

    def close(self) -> None:
        self._plain.flush(30)

    def _undelivered(self, images: list[tuple[Sent, bytes]]) -> list[tuple[Sent, bytes]]:
        arrived = set[str]()

        def note(image: Sent, error: object) -> None:
            if not error:
                arrived.add(image.id)
                self._ledger.sent(image)

        for image, content in images:
            self._produce(self._plain, image, content, lambda error, _, i=image: note(i, error))
        self._plain.flush(60)
        left = [(image, content) for image, content in images if image.id not in arrived]
        if left:
            self._plain.purge()  # what it still holds would come later, and be no harm
            self._plain.flush(1)
        return left

    def _transaction(self, images: list[tuple[Sent, bytes]]) -> None:
        """Sends all or none; where it is not known which, both are right."""
        abort = self._chance.random() < 0.3
        committing = False
        try:
            if not self._bound:
                self._bound = self._producer(**{"transactional.id": self.name})
                self._bound.init_transactions(20)
            self._bound.begin_transaction()
            for image, content in images:
                self._produce(self._bound, image, content)
            self._bound.flush(20)
            if abort:
                self._bound.abort_transaction(20)
            else:
                committing = True
                self._bound.commit_transaction(20)
        except KafkaException:
            self._bound = None  # the next one of its name aborts what this one has left open
        for image, _ in images:
            if self._bound and not abort:
                self._ledger.sent(image)
            elif committing:
                self._ledger.sent(image, certain=False)
            else:
                self._ledger.aborted(image)

    def _produce(
        self, producer: Producer, image: Sent, content: bytes, note: object = None
    ) -> None:
        source, _, own = image.id.partition("#")
        headers = [("ce_source", source.encode()), ("ce_id", own.encode())]
        producer.produce(self._topic, content, headers=headers, on_delivery=note)
        producer.poll(0)

    def _producer(self, **more: object) -> Producer:
        return Producer({
            "bootstrap.servers": self._servers, "enable.idempotence": True, "linger.ms": 5,
            "message.timeout.ms": 30_000, "transaction.timeout.ms": 30_000,
            "topic.metadata.refresh.interval.ms": 2000, "log_level": 0, **more,
        })  # fmt: skip


def stop(senders: Sequence[Sender]) -> None:
    """Ends senders after their current burst; raises what ended one before."""
    for each in senders:
        each.stopping.set()
    for each in senders:
        each.join(timeout=120)
        if each.error:
            raise each.error
        if each.is_alive():
            raise TimeoutError(f"{each.name} does not end")
