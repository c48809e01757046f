"""The running parts: a home with short times of retention, its stream, its page, and the flow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import psutil

from sightstream.io.address import free_port
from tests.chaos import disks, formats
from tests.chaos.ledger import Ledger
from tests.chaos.pictures import Pictures
from tests.chaos.supervisor import Supervised
from tests.chaos.world import REPOSITORY, World
from tests.conftest import Home
from tests.soak.flow import Arrived, Flow

if TYPE_CHECKING:
    from tests.soak.samples import Parts

SETTINGS = {"retention_days": 1 / 1440, "table_history": "10m"}
"""Images are kept for a minute, what the table's log names for ten."""

MODEL = "starter"

NEW = 5
"""Images of each class that a training gets."""


class Soaked(World):
    """A world of `tests.chaos`, whose faults it bears, with a flow in place of its senders."""

    def _start(self, stack: ExitStack) -> None:
        self.folder.mkdir(parents=True)
        self.ledger = Ledger(self.folder / "ledger.jsonl")
        stack.callback(self.ledger.close)
        os.environ["PYTHONPATH"] = f"{REPOSITORY}:{formats.install(self.folder / 'plugin')}"
        self.home = Home(self.folder / "home", "", source="folder", **SETTINGS)
        settings = self.home.settings
        shutil.copytree(self._starter.registry, settings.registry)
        self.registry = self.home.publish_copies(0)
        if not disks.missing():
            # Of manifests alone: images are too many for a disk in a file.
            image = self.folder / "manifests.img"
            self.manifests = self.disk = disks.Disk(image, settings.manifests, 256, 20_000)
            stack.callback(self.manifests.leave)
        (self.folder / "said").mkdir()
        self.metrics = f"127.0.0.1:{free_port()}"
        port = self.metrics.rpartition(":")[2]
        self.stream = Supervised(
            ["-m", "sightstream", "run", "--metrics-port", port], self.home.environment,
            self.folder / "said", self.ledger,
        )  # fmt: skip
        self._digits = sorted((self._starter.root / MODEL / "digits").glob("*/*.png"))
        self.pictures = Pictures(self._digits, self._starter.registry_address, self._seed)
        self.sent = self.folder / "sent.jsonl"
        self.flow = Flow(self.pictures, settings, self.sent)
        self.senders = [self.flow]
        self._trainings = list[Thread]()
        stack.callback(self.stream.end, 0)
        self.stream.start()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """The flow runs, and its rows are counted, until the block ends."""
        self.arrived = Arrived(self.home.settings)
        for each in (self.arrived, self.flow):
            each.start()
        try:
            yield
        finally:
            for each in (self.flow, self.arrived):
                each.stopping.set()

    @contextmanager
    def page(self) -> Iterator[str]:
        """`sightstream web` on the home, until the block ends; yields its address."""
        with self.home.serving() as process:
            self._page = process.pid
            yield process.url

    @contextmanager
    def senders_resting(self) -> Iterator[None]:
        """The flow has no file open, until the block ends."""
        with self.flow.busy:
            yield

    def used_by(self) -> Parts:
        """The processes whose memory is looked at."""
        found = {
            "driver": self.stream.processes("driver"), "JVM": self.stream.processes("jvm"),
            "workers": [
                each for kind in ("daemon", "worker", "other")
                for each in self.stream.processes(kind)
            ],
            "page": [],
        }  # fmt: skip
        with suppress(psutil.Error):
            page = psutil.Process(self._page)
            found["page"] = [page, *page.children(recursive=True)]
        return found

    def promote(self) -> str:
        """A new version, equal to the first, becomes champion: numbers of champions rise."""
        self.home.publish_copies(1)
        number = self.registry.version(MODEL, "challenger").number
        self.ledger.promoted(number, {})
        self.registry.promote(MODEL, number)
        return f"version {number}"

    def refresh(self) -> str:
        """Trains the champion further on some new images, beside the stream; it stays champion.

        A training that fails is a difference.
        """
        if any(each.is_alive() for each in self._trainings):
            return "left out: the one before still runs"
        data = self.folder / f"new-{len(self._trainings)}"
        for path in self._chosen():
            (data / path.parent.name).mkdir(parents=True, exist_ok=True)
            (data / path.parent.name / path.name).write_bytes(
                self.pictures.again(path.read_bytes())
            )
        thread = Thread(target=self._refresh, args=(data,), name=data.name, daemon=True)
        self._trainings.append(thread)
        thread.start()
        return f"on {len(list(data.glob('*/*')))} new images"

    def _chosen(self) -> Iterator[Path]:
        for label in sorted({path.parent for path in self._digits}):
            yield from [path for path in self._digits if path.parent == label][:NEW]

    def _refresh(self, data: Path) -> None:
        flags = ["--data", str(data), "--epochs", "1", "--no-promote"]
        done = subprocess.run(
            [sys.executable, "-m", "sightstream", "refresh", MODEL, *flags],
            env=self.home.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        if done.returncode:
            self.ledger.wrong(f"a training ended with {done.returncode}: {done.stderr[-500:]}")

    def stop(self) -> None:
        """Ends the stream in order."""
        if code := self.stream.end():
            self.ledger.wrong(f"the stream ended with {code} instead of 0, when asked to end")

    def trained(self) -> None:
        """Waits for trainings that still run."""
        for each in self._trainings:
            each.join(900)
