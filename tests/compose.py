"""docker-compose.yml without containers: the same commands, environment and order, as processes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.conftest import end_session

FILE = Path(__file__).parents[1] / "docker-compose.yml"

PORTS = ("5000", "7077", "8080", "8081", "9108")
"""What services listen on. Each gets a free port of this machine instead."""

HOSTS = r"\b(mlflow|spark-master|stream|0\.0\.0\.0|localhost)\b(?=:|$)"

DEFAULTS = {"SIGHTSTREAM_METRICS_PORT": "9108", "SPARK_WORKER_WEBUI_PORT": "8081"}
"""Ports that nothing names, since they are the programs' own, and where each is set."""


def read() -> dict:
    """The file with its anchors resolved."""
    return yaml.safe_load(FILE.read_text())


def in_order(services: Mapping[str, dict]) -> list[str]:
    """The services, each after those that it depends on."""
    done: list[str] = []
    while left := [name for name in services if name not in done]:
        ready = [n for n in left if {*services[n].get("depends_on", ())} <= {*done}]
        assert ready, f"these wait for each other: {left}"
        done += ready
    return done


class Compose:
    """Running services.

    Attributes:
        home: the folder that is mounted as /data.
    """

    def __init__(self, folder: Path, services: Mapping[str, dict]) -> None:
        """Chooses ports and folders; `start` starts.

        Args:
            folder: holds what volumes hold, and logs.
            services: as in the file.
        """
        self.home = folder / "data"
        self._folder = folder
        self._services = services
        self._processes: dict[str, subprocess.Popen] = {}
        taken = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
        self.ports = {p: str(s.getsockname()[1]) for p, s in zip(PORTS, taken, strict=True)}
        for each in taken:
            each.close()

    def start(self) -> None:
        """Starts the services in order; each when those before it are healthy."""
        for name in in_order(self._services):
            for before in self._services[name].get("depends_on", ()):
                self.healthy(before)
            self._start(name)

    def end(self) -> None:
        """Kills what runs."""
        for process in reversed(self._processes.values()):
            end_session(process)

    def healthy(self, name: str, seconds: float = 300) -> None:
        """Waits until the health check of a service finds nothing wrong."""
        test = self._services[name]["healthcheck"]["test"]
        deadline = time.monotonic() + seconds
        while subprocess.run(self._here(test[1:]), capture_output=True).returncode:
            assert self._processes[name].poll() is None, self.said(name)
            assert time.monotonic() < deadline, self.said(name)
            time.sleep(0.2)

    def said(self, name: str) -> str:
        """What a service printed."""
        return (self._folder / f"{name}.log").read_text()

    def environment(self, name: str) -> dict[str, str]:
        """A service's environment, here."""
        service = self._services[name]
        own = {k: self._translated(v) for k, v in service.get("environment", {}).items()}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTSTREAM_")}
        defaults = {key: self.ports[port] for key, port in DEFAULTS.items()}
        image = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SIGHTSTREAM_HOME": str(self.home),
            "SPARK_LOCAL_IP": "127.0.0.1",
        }
        return {**kept, **defaults, **image, **own}

    def _start(self, name: str) -> None:
        for volume in ("data", "mlflow", "spark"):
            (self._folder / volume).mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{name}.log").open("w") as log:
            self._processes[name] = subprocess.Popen(
                self._here(self._services[name]["command"]), env=self.environment(name),
                cwd=self.home, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def _here(self, command: list[str]) -> list[str]:
        program = Path(sys.executable).parent / command[0]
        return [str(program), *map(self._translated, command[1:])]

    def _translated(self, text: str) -> str:
        text = text.replace("/tmp/spark", f"{self._folder}/spark")
        text = re.sub(HOSTS, "127.0.0.1", text)
        text = re.sub(r"(?<!\w)/(data|mlflow)\b", rf"{self._folder}/\1", text)
        return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda m: self.ports[m[1]], text)


@contextmanager
def up(folder: Path, services: Mapping[str, dict]) -> Iterator[Compose]:
    """Runs services until the block ends."""
    compose = Compose(folder, services)
    try:
        compose.start()
        yield compose
    finally:
        compose.end()
