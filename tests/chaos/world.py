"""The running parts: a home, its stream and what sends to it, an observer, a broker."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightstream import config
from streaming import checkpoint
from tests.chaos import disks, engine, formats, processes, registry, senders
from tests.chaos.checker import Message, Told
from tests.chaos.kafka import TOPIC, Kafka, unread
from tests.chaos.ledger import Ledger
from tests.chaos.mlflow import Server
from tests.chaos.observer import Observer
from tests.chaos.pictures import Pictures
from tests.chaos.preload import Preload
from tests.chaos.store import Store
from tests.chaos.supervisor import Supervised
from tests.conftest import Home

if TYPE_CHECKING:
    import psutil

    from sightstream.config import Settings
    from tests.cluster import Cluster

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("folder", "kafka")
BUCKET = "tables"
RATE = 12.0
"""Images a second of each sender, in the mean half of it."""

COPIES = 8
"""Further versions of the starter that can become champion, each with its labels in its order."""

SILENCE = 15.0
"""Seconds after which a cluster gives up a process that stands still: faults are longer."""

IMPATIENT = {
    "spark.network.timeout": f"{SILENCE:.0f}s",
    "spark.network.timeoutInterval": f"{SILENCE / 5:.0f}s",
    "spark.executor.heartbeatInterval": f"{SILENCE / 5:.0f}s",
}
"""Options with which the driver of a cluster does so, instead of after two minutes."""

IMAGE_SECONDS = 10.0
"""Time for an image: those that take longer are sent, and should not hold up a run for minutes."""


class World:
    """All that runs, in a folder of its own, until the block ends."""

    def __init__(
        self, folder: Path, starter: Settings, parts: Sequence[str], seed: int, *, bug: str = "",
        preload: bool = False,
    ) -> None:  # fmt: skip
        """Starts nothing yet.

        Args:
            folder: new.
            starter: of a home whose registry has the starter model, and whose digits are sent.
            parts: folder and kafka, of which one is there; store, an object store for the table;
                cluster, of two workers; mlflow, a server for the registry; nodes, a second one
                for Kafka.
            seed: of what is sent.
            bug: one of `bugs.BUGS` for the stream, or none.
            preload: whether stream and broker get `tests.chaos.preload`, each its own, which makes
                them a bit slower.
        """
        self.folder, self.parts, self._bug = folder, parts, bug
        self.sources = [each for each in parts if each in SOURCES]
        self._starter, self._seed = starter, seed
        self._with_preload = preload
        self.preload: Preload | None = None
        self.broker_preload: Preload | None = None
        self.kafka: Kafka | None = None
        self.store: Store | None = None
        self.mlflow: Server | None = None
        self.cluster: Cluster | None = None
        self.disk: disks.Disk | None = None
        self.manifests: disks.Disk | None = None
        self.promoted, self.versions = 1, 1 + COPIES
        self._tried = folder / "tried"
        self.bad = {fault: self.versions + n for n, fault in enumerate(engine.FAULTS, 1)}

    def __enter__(self) -> World:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        self.folder.mkdir(parents=True)
        before = dict(os.environ)
        stack.callback(lambda: (os.environ.clear(), os.environ.update(before)))
        self.ledger = Ledger(self.folder / "ledger.jsonl")
        stack.callback(self.ledger.close)
        root = self.folder / "disk" / "home"
        if not disks.missing():
            self.disk = disks.Disk(self.folder / "disk.img", root.parent, 1500, 40_000)
            stack.callback(self.disk.leave)
        os.environ["PYTHONPATH"] = f"{REPOSITORY}:{formats.install(self.folder / 'plugin')}"
        self.preload = Preload(self.folder / "preload") if self._with_preload else None
        self._given = self._settings(stack)
        self.home = self._home(root, self._given)
        if not self.mlflow:
            self.registry = self.home.settings.registry
            shutil.copytree(_copies(self._starter), self.registry)
        if self.disk:
            place = self.home.settings.manifests
            self.manifests = disks.Disk(self.folder / "manifests.img", place, 16, 4000)
            stack.callback(self.manifests.leave)
        (self.folder / "said").mkdir()
        self.stream = self.supervised(self.home, self.folder / "said")
        self.observer = Observer(self.home.settings.predictions, self.ledger.wrong)
        self.senders = self._senders()
        stack.callback(self.stream.end, 0)
        stack.callback(self.observer.stopping.set)
        for sender in self.senders:
            stack.callback(sender.stopping.set)
        for each in (self.stream, self.observer, *self.senders):
            each.start()

    def supervised(self, home: Home, said: Path) -> Supervised:
        """A stream on a home, which is not started yet; `said` is for what it says."""
        program = ["tests.chaos.launch", self._bug] if self._bug else ["sightstream"]
        return Supervised(
            ["-m", *program, "run", "--metrics-port", "0"], home.environment | self._changed(),
            said, self.ledger,
        )  # fmt: skip

    def second_home(self, name: str) -> tuple[Home, senders.Files]:
        """A home with the same registry and the same table, and a sender of files into it."""
        given = self._given | {
            "source": "folder", "predictions_uri": self.home.settings.predictions,
            "master": "local[1,4]",
        }  # fmt: skip
        home = self._home(self.folder / name, given, self.home.settings.registry_address)
        return home, self._files(name, home.settings.inbox)

    def _home(self, root: Path, settings: dict[str, Any], registry_uri: str = "") -> Home:
        settings = {"image_seconds": str(IMAGE_SECONDS)} | settings
        root.parent.mkdir(exist_ok=True)
        return Home(root, settings.pop("registry_uri", registry_uri), **settings)

    def _settings(self, stack: ExitStack) -> dict[str, Any]:
        settings: dict[str, Any] = {"source": ",".join(self.sources)}
        if "kafka" in self.parts:
            two = "nodes" in self.parts
            if self._with_preload:
                self.broker_preload = Preload(self.folder / "broker-preload")
            environment = self.broker_preload.environment if self.broker_preload else None
            self.kafka = stack.enter_context(
                Kafka(self.folder / "kafka", two=two, environment=environment)
            )
            settings |= self.kafka.settings
        if "mlflow" in self.parts:
            # A server has its files open, which a disk must not have that gets read-only.
            self.registry = self.folder / "registry"
            shutil.copytree(self._starter.registry, self.registry)
            self.mlflow = stack.enter_context(Server(self.registry, self.folder / "mlflow.log"))
            registry.call("publish", self.mlflow.address, COPIES)
            settings |= {"registry_uri": self.mlflow.address}
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
                cluster.running(
                    self.folder / "cluster", silence=SILENCE, environment=self._changed()
                )
            )
            settings |= {"master": self.cluster.url, "spark": dict(IMPATIENT)}
        return settings

    def _changed(self) -> dict[str, str]:
        """What the stream's processes see otherwise than ours."""
        preload = self.preload.environment if self.preload else {}
        tried = {engine.TRIED: str(self._tried)}
        return tried | preload | ({"AWS_ENDPOINT_URL": self.store.address} if self.store else {})

    def _senders(self) -> list[senders.Sender]:
        found: list[senders.Sender] = []
        for source in self.sources:
            name = f"{source}-{self._seed}"
            if source == "folder":
                found.append(self._files(name, self.home.settings.inbox))
            else:
                to = self.home.settings.kafka_servers, TOPIC
                found.append(senders.Messages(name, self._pictures(), self.ledger, RATE, *to))
        return found

    def _files(self, name: str, inbox: Path) -> senders.Files:
        return senders.Files(name, self._pictures(), self.ledger, RATE, inbox)

    def _pictures(self) -> Pictures:
        digits = sorted((self._starter.root / "starter" / "digits").glob("*/*.png"))
        return Pictures(digits, self._starter.registry_address, self._seed)

    def processes(self, kind: str) -> list[psutil.Process]:
        """Processes of the stream, by their kind; a cluster has its workers, and JVMs too."""
        if self.cluster and kind in {"daemon", "worker"}:
            return [each for one in self.cluster.sessions for each in processes.of(one)[kind]]
        if self.cluster and kind == "executor":
            return self.cluster.executors()
        if self.cluster and kind.startswith("cluster's "):
            return self.cluster.jvms(kind.removeprefix("cluster's "))
        return self.stream.processes(kind)

    @contextmanager
    def senders_resting(self) -> Iterator[None]:
        """No sender has a file of the home open, until the block ends."""
        with ExitStack() as stack:
            for each in (self.observer, *self.senders):
                stack.enter_context(each.busy)
            yield

    def promote(self, number: int) -> None:
        """Makes a version the champion, whatever it does."""
        registry.call("champion", self.home.settings.registry_address, number)

    def labels(self, version: int) -> dict[str, str]:
        """Those of a copy, by those of the first version."""
        first = self.senders[0].pictures.labels
        return dict(zip(first, registry.ordered(first, version), strict=True))

    def tried(self) -> list[str]:
        """A line for each time that a version's fault began."""
        return self._tried.read_text().splitlines() if self._tried.exists() else []

    def delete_messages(self) -> int:
        """Deletes all messages; returns how many offsets the stream had not read of them.

        No stream and no sender is at work meanwhile.
        """
        assert self.kafka
        read = checkpoint.offset(self.checkpoint("kafka")).get(TOPIC, {})
        # Of a partition that it has not met yet it cannot know that anything is missing.
        ends = {n: end for n, end in self.kafka.ends().items() if str(n) in read}
        arrived = self._arrived()
        self.kafka.delete(ends)
        self.ledger.deleted(unread(arrived, read, ends))
        return sum(end - read[str(number)] for number, end in ends.items())

    def _arrived(self) -> dict[str, list[tuple[int, int]]]:
        """What is in the topic of images, which the ledger notes."""
        assert self.kafka
        arrived = self.kafka.arrived()
        self.ledger.arrived(arrived)
        return arrived

    def drain(
        self, seconds: float, some: Sequence[senders.Sender] | None = None, name: str = ""
    ) -> None:
        """Ends senders, and waits for the rows of what was sent, as long as rows come.

        By default, these are all; else `some`, whose images have names that begin so. It gives up
        after so many seconds without a new row.
        """
        senders.stop(self.senders if some is None else some)
        if self.kafka and some is None:
            self._arrived()
        told = Told.of(self.ledger.entries())
        sent = {each for each in told.sent if each.startswith(name)}
        deadline, before = time.monotonic() + seconds, 0
        while sent - self.observer.seen.keys() and time.monotonic() < deadline:
            if (now := len(self.observer.seen)) > before:
                deadline, before = time.monotonic() + seconds, now
            time.sleep(0.3)

    def stop(self) -> None:
        """Ends the stream in order."""
        self.end(self.stream)
        self.observer.stopping.set()
        self.observer.join(timeout=60)

    def end(self, stream: Supervised) -> None:
        """Ends a stream in order."""
        if (code := stream.end()) != 0:
            self.ledger.wrong(f"the stream ended with {code} instead of 0, when asked to end")

    def topic(self) -> list[Message] | None:
        """The messages of the predictions topic; None where there is none."""
        return self.kafka.told() if self.kafka else None

    def checkpoint(self, source: str) -> Path:
        """The checkpoint of a source's query."""
        found = self.home.settings.checkpoint(source)
        return found / TOPIC if source == "kafka" else found


def _copies(starter: config.Settings) -> Path:
    """A registry with what `registry.publish` adds, made where none is there yet."""
    made_by = Path(registry.__file__).read_bytes() + Path(engine.__file__).read_bytes()
    found = starter.root.with_name(f"versions-{COPIES}-{sha256(made_by).hexdigest()[:8]}")
    if not found.exists():
        made = found.with_name(f"{found.name}.new")
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(starter.registry, made)
        registry.call("publish", f"sqlite:///{made / 'mlflow.db'}", COPIES)
        made.rename(found)
    return found


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
