"""One workload: sightstream and its peers, all up at once, of whom all but one stand still."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

import numpy as np
import psutil
from PIL import Image
from rich.console import Console

from benchmarks import images, networks, stream
from benchmarks.__main__ import CORES, percentiles, publish, small_network
from benchmarks.peers import report
from benchmarks.peers.peer import Peer, Running, Workload
from sightstream import config
from sightstream.tables.predictions import ask

WARM = 40
"""Small backlogs of sightstream that nothing is measured of: the JVM compiles what runs often."""

RATE = 10
"""Images a second of the trickle."""

screen = Console(stderr=True)


class Comparison:
    """Of one network, on one folder of images."""

    def __init__(self, folder: Path, name: str, count: int, rounds: int, seconds: float) -> None:
        """Writes images and networks.

        Args:
            folder: an empty one.
            name: 24x24, or a network of `networks.SCALES`.
            count: images a round.
            rounds: of all in turn.
            seconds: of the trickle.
        """
        self.folder, self.turns, self.seconds = folder, rounds, seconds
        screen.print(f"{name}: writing images and a network")
        self.paths = images.small(folder / "images", count)
        few, one = folder / "few", folder / "one"
        part = max(1, count // 20)
        for into, paths in ((few, self.paths[:part]), (one, self.paths[:1])):
            link(paths, into)
        side = 24 if name == "24x24" else networks.SIDE
        network = small_network() if side == 24 else networks.network(name)
        network = spread(network, self.paths, side)
        self.settings = config.load(home=folder / "home", model="peers")
        self.model = publish(self.settings, "peers", network, side)
        (folder / "peers.onnx").write_bytes(self.model.content)
        network.save(folder / "peers.keras")
        self.workload = Workload(name, side, folder / "peers", folder / "images", few, one)
        self.figures: dict[str, dict[str, Any]] = {}
        self.rounds: dict[str, list[dict[str, float]]] = {}

    def run(self, known: dict[str, Peer], commands: dict[str, list[str]]) -> dict[str, Any]:
        """Figures of all, by name."""
        with stream.running(self.settings):  # so that files are in memory, for the second start
            stream.backlog(self.settings, self.paths[:1], "first")
        begin = time.time()
        with stream.running(self.settings) as process, ExitStack() as stack:
            self._ours(process, begin)
            found = {}
            for name, command in commands.items():
                with stream.paused(process), self._noted(name):
                    found[name] = Contender(known[name], command, self, stack)
            for number in range(self.turns):
                self._round(number, found, process)
        ours = self._labels()
        for name, rounds in self.rounds.items():
            labels = found[name].running.labels
            self.figures[name] |= report.summary(rounds)
            self.figures[name]["equal labels"] = report.agreement(ours, labels)
        speeds = [each["ours"] for rounds in self.rounds.values() for each in rounds]
        self.figures["sightstream"]["images/s"] = round(median(speeds)) if speeds else 0
        return {"images": len(self.paths), "figures": self.figures, "rounds": self.rounds}

    def _ours(self, process: Any, begin: float) -> None:
        stream.backlog(self.settings, self.paths[:1], "start")
        self.figures["sightstream"] = {"start, s": round(time.time() - begin, 2), "ratio": 1}
        for number in range(WARM):
            stream.backlog(self.settings, self.paths[: len(self.paths) // 20], f"warm-{number}")
        with Peak(process) as peak:
            for number in range(2):
                stream.backlog(self.settings, self.paths, f"full-{number}")
        latencies = stream.trickle(self.settings, self.paths[0], RATE, self.seconds)
        self.figures["sightstream"] |= {"MiB": peak.most, "p50, p95": delays(latencies)}
        screen.print(self.workload.name, "sightstream", self.figures["sightstream"])

    def _round(self, number: int, found: dict[str, Contender], process: Any) -> None:
        before = self._backlog(f"round-{number}")
        for name in report.turns(list(found), number):
            if "error" in self.figures[name]:
                continue
            with stream.paused(process), self._noted(name):
                told = found[name].measure()
            if "error" in self.figures[name]:
                continue
            after = self._backlog(f"round-{number}-{name}")
            told["ratio"] = report.ratio(before, after, told["images/s"])
            told |= {"ours": (before * after) ** 0.5, "load": os.getloadavg()[0]}
            self.rounds.setdefault(name, []).append(told)
            screen.print(number, name, {key: round(value, 2) for key, value in told.items()})
            before = after

    def _backlog(self, name: str) -> float:
        # Those who stood still wake up with a few images, as the peers do.
        few = self.paths[: len(self.paths) // 20]
        stream.backlog(self.settings, few, f"{name}-few")
        return stream.backlog(self.settings, self.paths, name)

    def _labels(self) -> dict[str, int]:
        numbers = {label: number for number, label in enumerate(self.model.labels)}
        query = (
            "SELECT DISTINCT original_name, label FROM predictions WHERE original_name LIKE '%-0%'"
        )
        rows = ask(self.settings.predictions, query).to_pylist()
        return {r["original_name"].rpartition("-")[2]: numbers[r["label"]] for r in rows}

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        """A block whose error is a figure of the peer, and no end of the comparison."""
        self.figures.setdefault(name, {})
        try:
            yield
        except Exception as error:
            self.figures[name]["error"] = str(error) or type(error).__name__
            screen.print(name, str(error), markup=False)


class Contender:
    """A peer that is up, warm, and stands still until it is measured."""

    def __init__(self, peer: Peer, command: list[str], told: Comparison, stack: ExitStack) -> None:
        """Starts it, twice, and takes its start, memory and latency; `stack` ends it."""
        self.peer, self.workload, self.pause = peer, told.workload, ExitStack()
        self.full = told.workload.images
        if peer.share < 1:
            self.full = told.folder / peer.name
            link(told.paths[: max(1, round(len(told.paths) * peer.share))], self.full)
        work = told.folder / "work" / peer.name
        for attempt in ("first", "second"):
            begin = time.time()
            self.running = Running(peer, command, told.workload, work / attempt, CORES)
            stack.callback(self.running.close)
            with self._ended_by_errors():
                self.running.classify(told.workload.one)
            told.figures[peer.name] = {"start, s": round(time.time() - begin, 2)}
            if attempt == "first":
                self.running.close()
        stack.callback(self.pause.close)
        with self._ended_by_errors():
            told.figures[peer.name] |= self._first(told)
        screen.print(told.workload.name, peer.name, told.figures[peer.name])

    def _first(self, told: Comparison) -> dict[str, Any]:
        self.running.classify(self.workload.few)
        with Peak(self.running.process) as peak:
            for _ in range(2):
                self.running.classify(self.full)
        figures: dict[str, Any] = {"MiB": peak.most}
        if self.peer.kind == "stream" or self.peer.trickle:
            latencies = self.running.trickle(told.paths[0], RATE, told.seconds)
            figures["p50, p95"] = delays(latencies)
        self._rest()
        return figures

    def measure(self) -> dict[str, float]:
        """Images a second, of one round."""
        told, count = self.workload, sum(1 for _ in self.full.iterdir())
        self.pause.close()
        with self._ended_by_errors():
            # Also wakes workers that stood still; of a batch framework, the start of a job.
            start = self.running.classify(told.one if self.peer.batch else told.few)
            seconds = self.running.classify(self.full)
        self._rest()
        figures = {"images/s": count / seconds}
        if self.peer.batch:
            figures["start"] = min(1.0, start / seconds)
        return figures

    @contextmanager
    def _ended_by_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.running.close()
            raise

    def _rest(self) -> None:
        if not self.peer.idle:
            self.pause.enter_context(stream.paused(self.running.process))


class Peak:
    """The largest memory of a process tree while a block runs, in MiB."""

    def __init__(self, process: Any) -> None:
        self.process, self.most, self.over = process, 0, Event()

    def __enter__(self) -> Peak:
        self.thread = Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _look(self) -> None:
        while True:
            with suppress(psutil.Error):
                self.most = max(self.most, round(stream.memory(self.process) / 2**20))
            if self.over.wait(0.3):
                return


def spread(network: Any, paths: list[Path], side: int) -> Any:
    """A network of random weights whose labels differ: its last layer is centred on photographs.

    Else nearly all images would get one label, and equal labels would say nothing.
    """
    pixels = np.stack([np.asarray(Image.open(path).resize((side, side))) for path in paths[:128]])
    body = network.layers[-1] if side == networks.SIDE else network
    for layer in body.layers:
        if hasattr(layer, "momentum"):  # batch normalisation takes the photographs' mean
            layer.momentum = 0.0
    network(pixels[:32], training=True)
    scores = np.log(network.predict(pixels, verbose=0))
    scores -= scores.mean(axis=1, keepdims=True)
    centre = scores.mean(axis=0)
    factor = 2 / (scores - centre).std()
    weights, bias = body.layers[-1].get_weights()
    body.layers[-1].set_weights([weights * factor, (bias - centre) * factor])
    return network


def link(paths: list[Path], folder: Path) -> None:
    """The same images in a further folder."""
    folder.mkdir()
    for path in paths:
        os.link(path, folder / path.name)


def delays(latencies: list[float]) -> list[float]:
    """p50 and p95, in seconds."""
    told = percentiles(latencies)
    return [told["p50"], told["p95"]]
