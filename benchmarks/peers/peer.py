"""One peer: what it is, its environment, and the process that the comparison talks to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any

import psutil

from benchmarks.peers.rows import Row, Rows
from sightstream.runtime.jars import retrieve

SCRIPTS = Path(__file__).with_name("scripts")
PATIENCE = 180
"""Seconds after which a peer that gives no answer is given up."""


@dataclass(frozen=True)
class Peer:
    """What peers.toml says of it."""

    name: str
    title: str
    script: str
    kind: str
    rows: str
    lacks: str
    requirements: str = ""
    python: str = ""
    jars: tuple[str, ...] = ()
    share: float = 1.0
    batch: bool = False
    idle: bool = False
    threads: bool = False
    trickle: bool = False


def peers() -> dict[str, Peer]:
    """All of them, in the order of the table."""
    found = tomllib.loads(Path(__file__).with_name("peers.toml").read_text())
    return {name: Peer(name, **told) for name, told in found.items()}


@dataclass(frozen=True)
class Workload:
    """A network and images for it."""

    name: str
    side: int
    model: Path
    """Of its files, without the suffix: .onnx, .keras."""
    images: Path
    few: Path
    one: Path


def prepare(peer: Peer, folder: Path, say: Callable[[str], None]) -> list[str]:
    """The command that starts a peer, whose environment is made at the first use.

    Args:
        peer: which.
        folder: of all environments.
        say: gets a line before what takes long.
    """
    made = folder / peer.name
    if peer.jars:
        return _java(peer, made, say)
    if not peer.requirements:
        return [sys.executable, str(SCRIPTS / peer.script)]
    wanted = (SCRIPTS / peer.requirements).read_text()
    python, stamp = made / "bin" / "python", made / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        say(f"{peer.name}: installing {' '.join(wanted.split())}")
        uv = str(Path(sys.executable).with_name("uv"))
        # uv finds a Python of pyenv only where that is on PATH.
        pyenv = map(str, Path.home().glob(f".pyenv/versions/{peer.python or '-'}.*/bin"))
        told = os.environ | {"PATH": os.pathsep.join([os.environ["PATH"], *pyenv])}
        which = peer.python or sys.executable
        _run([uv, "venv", "--quiet", "--clear", "--python", which, str(made)], told)
        _run([uv, "pip", "install", "--quiet", "--python", str(python),
              "--requirement", str(SCRIPTS / peer.requirements)], told)  # fmt: skip
        stamp.write_text(wanted)
    return [str(python), str(SCRIPTS / peer.script)]


def _java(peer: Peer, made: Path, say: Callable[[str], None]) -> list[str]:
    import pyspark

    spark = Path(pyspark.__file__).parent
    source, program = SCRIPTS / peer.script, made / "peer.jar"
    if not (made / "jars").exists():
        say(f"{peer.name}: fetching {' '.join(peer.jars)}")
        made.mkdir(parents=True, exist_ok=True)
        retrieve(made / "jars", *peer.jars)
    jars = sorted(map(str, (made / "jars").glob("*.jar")))
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        classes = made / "classes"
        path = os.pathsep.join([str(spark / "jars" / "*"), *jars])
        _run(["javac", "-nowarn", "-d", str(classes), "-cp", path, str(source)])
        _run(["jar", "cf", str(program), "-C", str(classes), "."])
    return [
        str(spark / "bin" / "spark-submit"), "--class", source.stem, "--driver-memory", "2g",
        "--jars", ",".join(jars), str(program),
    ]  # fmt: skip


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(" ".join((done.stderr or done.stdout).split())[-300:])


class Running:
    """A peer's process."""

    def __init__(
        self, peer: Peer, command: list[str], workload: Workload, work: Path, cores: int
    ) -> None:
        """Starts it; `work` is a new folder of its own."""
        self.peer, self.work = peer, work
        for name in ("inbox", "rows", "staging"):
            (work / name).mkdir(parents=True)
        told = {
            "MODEL": str(workload.model), "SIDE": str(workload.side), "WORK": str(work),
            "CORES": str(cores), "PYTHONPATH": str(SCRIPTS), "PYTHONWARNINGS": "ignore",
            "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1",
        }  # fmt: skip
        if not peer.threads:  # a process a core, each of one thread
            told |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with (work / "log").open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=work, env=os.environ | told, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.rows, self.labels = Rows(work / "rows", peer.rows), dict[str, int]()
        self.answers: Queue[Any] = Queue()
        assert self.process.stdin
        assert self.process.stdout
        self.questions = self.process.stdin
        Thread(target=self._listen, args=[self.process.stdout], daemon=True).start()

    def classify(self, folder: Path) -> float:
        """Seconds until the results of all images in a folder are kept."""
        count = sum(1 for _ in folder.iterdir())
        if self.peer.kind == "stream":
            return self._stream(folder, count)
        begin = time.time()
        done = self._ask("classify", str(folder))
        seconds = time.time() - begin
        found = self._new()
        if not done == len(found) == count:
            raise RuntimeError(f"{count} images, {done} answered, {len(found)} rows")
        return seconds

    def trickle(self, image: Path, rate: float, seconds: float) -> list[float]:
        """Seconds from an image's rename into the inbox, or its request, until its result."""
        if self.peer.kind == "job":
            return list(self._ask("trickle", str(image), rate, seconds))
        count, sent, latencies = int(rate * seconds), dict[str, float](), list[float]()
        into = self.work / "inbox" / "trickle"
        into.mkdir()

        def send() -> None:
            begin = time.time()
            for number in range(count):
                staged = self.work / "staging" / f"trickle-{number:05d}.jpg"
                shutil.copyfile(image, staged)
                time.sleep(max(0.0, begin + number / rate - time.time()))
                sent[staged.name] = time.time()
                staged.rename(into / staged.name)

        sender = Thread(target=send, daemon=True)
        sender.start()
        self._until(count, lambda name: latencies.append(time.time() - sent[name]))
        sender.join()
        shutil.rmtree(into)
        return latencies

    def close(self) -> None:
        """Ends the whole tree."""
        tree = []
        with suppress(psutil.NoSuchProcess):
            tree = psutil.Process(self.process.pid).children(recursive=True)
        with suppress(OSError):
            self.questions.close()
        if self.peer.kind == "stream":
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        for each in (*tree, self.process):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()
        psutil.wait_procs(tree, timeout=30)  # their ports are for the next start

    def _stream(self, folder: Path, count: int) -> float:
        staged = self.work / "staging" / str(time.time_ns())
        staged.mkdir()
        for image in folder.iterdir():
            os.link(image, staged / image.name)
        begin = time.time()
        dropped = staged.rename(self.work / "inbox" / staged.name)
        self._until(count)
        seconds = time.time() - begin
        shutil.rmtree(dropped)  # else listings would take longer with each round
        return seconds

    def _until(self, count: int, each: Callable[[str], None] = lambda name: None) -> None:
        deadline = time.monotonic() + PATIENCE
        while count > 0:
            found = self._new()
            count -= len(found)
            for name, _ in found:
                each(name)
            if not found:
                self._alive(deadline)
                time.sleep(0.01)

    def _new(self) -> list[Row]:
        found = self.rows.new()
        self.labels.update(found)
        return found

    def _ask(self, *command: Any) -> Any:
        self.questions.write(json.dumps(command).encode() + b"\n")
        self.questions.flush()
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(Empty):
                return self.answers.get(timeout=0.5)
            self._alive(deadline)

    def _alive(self, deadline: float) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended: {self._last()}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"no answer in {PATIENCE} s: {self._last()}")

    def _last(self) -> str:
        return (self.work / "log").read_text(errors="replace").strip().rpartition("\n")[2]

    def _listen(self, lines: IO[bytes]) -> None:
        for line in lines:
            if line.startswith(b'{"answer": '):  # the rest is what frameworks print
                self.answers.put(json.loads(line)["answer"])
