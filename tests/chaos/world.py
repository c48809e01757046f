"""The running parts: a home, its stream and what sends to it, an observer, a broker."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sightstream import config
from tests.chaos import disks, formats, processes, senders
from tests.chaos.clock import Clock
from tests.chaos.ledger import Ledger
from tests.chaos.observer import Observer
from tests.chaos.pictures import Pictures
from tests.chaos.store import Store
from tests.chaos.supervisor import Supervised
from tests.conftest import Home

if TYPE_CHECKING:
    import psutil

    from sightstream.config import Settings
    from tests.broker import Broker
    from tests.cluster import Cluster

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("folder", "kafka")
BUCKET = "tables"
TOPIC = "images"
TOLD = "predictions"
PARTITIONS = 4
RATE = 12.0
"""Images a second of each sender, in the mean half of it."""

COPIES = 8
"""Further versions of the starter, equal to it, that can become champion."""


class World:
    """All that runs, in a folder of its own, until the block ends."""

    def __init__(
        self, folder: Path, starter: Settings, parts: Sequence[str], seed: int, *, bug: str = "",
        settable: bool = False,
    ) -> None:  # fmt: skip
        """Starts nothing yet.

        Args:
            folder: new.
            starter: of a home whose registry has the starter model, and whose digits are sent.
            parts: folder and kafka, of which one is there; store, an object store for the table;
                cluster, of two workers.
            seed: of what is sent.
            bug: one of `bugs.BUGS` for the stream, or none.
            settable: whether the stream's clock can be set, which makes reading it slower.
        """
        self.folder, self.parts, self._bug = folder, parts, bug
        self.sources = [each for each in parts if each in SOURCES]
        self._starter, self._seed = starter, seed
        self._settable = settable
        self.clock: Clock | None = None
        self.broker: Broker | None = None
        self.store: Store | None = None
        self.cluster: Cluster | None = None
        self.disk: disks.Disk | None = None
        self.manifests: disks.Disk | None = None
        self.promoted, self.versions = 1, 1 + COPIES
        self._partitions = PARTITIONS

    def __enter__(self) -> World:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        self.folder.mkdir(parents=True)
        self.ledger = Ledger(self.folder / "ledger.jsonl")
        stack.callback(self.ledger.close)
        root = self.folder / "disk" / "home"
        if not disks.missing():
            self.disk = disks.Disk(self.folder / "disk.img", root.parent, 1500, 40_000)
            stack.callback(self.disk.leave)
        os.environ["PYTHONPATH"] = f"{REPOSITORY}:{formats.install(self.folder / 'plugin')}"
        self.clock = Clock(self.folder / "clock") if self._settable else None
        settings = self._settings(stack)
        self.home = Home(root, "", **settings)
        shutil.copytree(self._starter.registry, self.home.settings.registry)
        self.registry = self.home.publish_copies(COPIES)
        if self.disk:
            place = self.home.settings.manifests
            self.manifests = disks.Disk(self.folder / "manifests.img", place, 16, 4000)
            stack.callback(self.manifests.leave)
        (self.folder / "said").mkdir()
        program = ["tests.chaos.launch", self._bug] if self._bug else ["sightstream"]
        self.stream = Supervised(
            ["-m", *program, "run", "--metrics-port", "0"], self._environment(),
            self.folder / "said", self.ledger,
        )  # fmt: skip
        self.observer = Observer(self.home.settings.predictions)
        self.senders = self._senders()
        stack.callback(self.stream.end, 0)
        stack.callback(self.observer.stopping.set)
        for each in (self.stream, self.observer, *self.senders):
            each.start()

    def _settings(self, stack: ExitStack) -> dict[str, str]:
        settings = {"source": ",".join(self.sources)}
        if "kafka" in self.parts:
            from tests import broker, topics

            self.broker = stack.enter_context(broker.running(self.folder / "broker"))
            topics.create(self.broker, TOPIC, partitions=PARTITIONS)
            settings |= {
                "kafka_servers": self.broker.address, "kafka_topic": TOPIC,
                "kafka_predictions_topic": TOLD,
            }  # fmt: skip
        if "store" in self.parts:
            from tests import objects

            environment = stack.enter_context(objects.running(self.folder, BUCKET))
            os.environ.update(environment)
            self.store = Store(environment["AWS_ENDPOINT_URL"])
            stack.callback(self.store.end)
            settings |= {"predictions_uri": f"s3://{BUCKET}/predictions"}
        if "cluster" in self.parts:
            from tests import cluster

            self.cluster = stack.enter_context(
                cluster.running(self.folder / "cluster", **self._changed())
            )
            settings |= {"master": self.cluster.url}
        return settings

    def _environment(self) -> dict[str, str]:
        return self.home.environment | self._changed()

    def _changed(self) -> dict[str, str]:
        """What the stream's processes see otherwise than ours."""
        clock = self.clock.environment if self.clock else {}
        return clock | ({"AWS_ENDPOINT_URL": self.store.address} if self.store else {})

    def _senders(self) -> list[senders.Sender]:
        digits = sorted((self._starter.root / "starter" / "digits").glob("*/*.png"))
        found: list[senders.Sender] = []
        for source in self.sources:
            name = f"{source}-{self._seed}"
            made = Pictures(digits, self._starter.registry_address, self._seed)
            if source == "folder":
                inbox = self.home.settings.inbox
                found.append(senders.Files(name, made, self.ledger, RATE, inbox))
            elif self.broker:
                to = self.broker.address, TOPIC
                found.append(senders.Messages(name, made, self.ledger, RATE, *to))
        return found

    def processes(self, kind: str) -> list[psutil.Process]:
        """Processes of the stream, by their kind; a cluster has its workers."""
        if self.cluster and kind in {"daemon", "worker"}:
            return [each for one in self.cluster.sessions for each in processes.of(one)[kind]]
        return self.stream.processes(kind)

    @contextmanager
    def senders_resting(self) -> Iterator[None]:
        """No sender has a file of the home open, until the block ends."""
        with ExitStack() as stack:
            for each in (self.observer, *self.senders):
                stack.enter_context(each.busy)
            yield

    def enlarge(self) -> int:
        """Gives the topic one more partition; returns their number."""
        from sightstream.io import kafka

        assert self.broker
        with kafka.connect(config.Broker(self.broker.address)) as client:
            client.create_partitions({TOPIC: self._partitions + 1})
        self._partitions += 1
        return self._partitions

    def drain(self, seconds: float) -> None:
        """Ends the senders, and waits until all that was sent has a row, or the time is over."""
        senders.stop(self.senders)
        sent = {e["id"] for e in self.ledger.entries() if e["kind"] == "sent"}
        deadline = time.monotonic() + seconds
        while sent - self.observer.seen.keys() and time.monotonic() < deadline:
            time.sleep(0.3)

    def stop(self) -> None:
        """Ends the stream in order."""
        code = self.stream.end()
        if code != 0:
            self.ledger.wrong(f"the stream ended with {code} instead of 0, when asked to end")
        self.observer.stopping.set()
        self.observer.join(timeout=60)

    def topic(self) -> list[str] | None:
        """The keys of the predictions topic; None where there is none."""
        if not self.broker:
            return None
        from tests import topics

        return [(each.key or b"").decode() for each in topics.messages(self.broker, TOLD)]


def starter(folder: Path) -> config.Settings:
    """The settings of a home with the starter model, trained where none is there yet."""
    for name in [name for name in os.environ if name.startswith(config.ENV_PREFIX)]:
        del os.environ[name]
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    settings = config.Settings(home=folder)
    if not (settings.registry / "mlflow.db").exists():
        done = Home(folder, "")("train", "starter")
        if done.returncode:
            shutil.rmtree(folder)
            raise RuntimeError(done.stderr)
    return settings
