"""A standalone Spark cluster: a master and workers, as processes of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.conftest import end_session

_BIN = Path(sys.executable).parent


class Cluster:
    """A running cluster.

    Attributes:
        url: of the master, for the setting `master`.
    """

    def __init__(self, folder: Path, silence: float = 60) -> None:
        """Starts nothing yet.

        Args:
            folder: holds logs, and what executors write; created.
            silence: seconds after which the master gives up a worker that it has not heard of.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.url = ""
        self._folder, self._silence = folder, silence
        self._processes: dict[str, subprocess.Popen] = {}
        self._environment: Mapping[str, str] = {}

    def start(self, workers: int, environment: Mapping[str, str]) -> None:
        """Starts the master and workers of one core each, and waits until they know each other."""
        self.start_master()
        self._environment = environment
        for number in range(workers):
            self.start_worker(number)
        for number in range(workers):
            self._said(f"worker-{number}", r"(Successfully registered) with master")

    def start_master(self) -> None:
        """Starts the master, again on its port after `end_master`, with what it knew before."""
        settings = {
            "deploy.recoveryMode": "FILESYSTEM",
            "deploy.recoveryDirectory": self._folder / "master",
            "worker.timeout": f"{self._silence:.0f}",
        }
        options = " ".join(f"-Dspark.{key}={value}" for key, value in settings.items())
        port = self.url.rpartition(":")[2] or "0"
        self._start("master", "master.Master", "--port", port, SPARK_MASTER_OPTS=options)
        self.url = self._said("master", r"Starting Spark master at (spark://\S+)")

    def end_master(self) -> None:
        """Kills the master."""
        end_session(self._processes["master"])

    def start_worker(self, number: int) -> None:
        """Starts a worker, again after `end_worker`."""
        self._start(
            f"worker-{number}", "worker.Worker", "--cores", "1", "--memory", "1g",
            "--work-dir", str(self._folder / f"work-{number}"), self.url, **self._environment,
        )  # fmt: skip

    def end_worker(self, number: int) -> None:
        """Kills a worker with its executors."""
        end_session(self._processes[f"worker-{number}"])

    def jvms(self, kind: str) -> list[psutil.Process]:
        """Those of the master, or of the workers without their executors."""
        found = [each.pid for name, each in self._processes.items() if name.startswith(kind)]
        return [psutil.Process(pid) for pid in found if psutil.pid_exists(pid)]

    def end(self) -> None:
        """Kills all of it."""
        for process in self._processes.values():
            end_session(process)

    @property
    def sessions(self) -> list[int]:
        """Of its processes."""
        return [process.pid for process in self._processes.values()]

    def executors(self) -> list[psutil.Process]:
        """The JVMs that run tasks."""
        found = []
        for process in self._processes.values():
            with suppress(psutil.Error):
                for child in psutil.Process(process.pid).children(recursive=True):
                    if any("CoarseGrainedExecutorBackend" in part for part in child.cmdline()):
                        found.append(child)
        return found

    def _start(self, name: str, kind: str, *arguments: str, **environment: str) -> None:
        command = [str(_BIN / "spark-class"), f"org.apache.spark.deploy.{kind}"]
        with (self._folder / f"{name}.log").open("w") as log:
            self._processes[name] = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--webui-port", "0", *arguments],
                env=os.environ | {
                    "PATH": f"{_BIN}:{os.environ['PATH']}", "SPARK_LOCAL_IP": "127.0.0.1",
                    **environment,
                },
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def _said(self, name: str, pattern: str) -> str:
        log, deadline = self._folder / f"{name}.log", time.monotonic() + 60
        while not (found := re.search(pattern, log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        return found[1]


@contextmanager
def running(
    folder: Path, workers: int = 2, *, silence: float = 60,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:  # fmt: skip
    """Runs a cluster until the block ends.

    Args:
        folder: for its files.
        workers: of one core and 1 GiB each.
        silence: as `Cluster` takes it.
        environment: what workers and their executors get further.
    """
    cluster = Cluster(folder, silence)
    try:
        cluster.start(workers, environment or {})
        yield cluster
    finally:
        cluster.end()
