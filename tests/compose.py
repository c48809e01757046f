"""docker-compose.yml without containers: the same commands, environment and order, as processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from sightstream.runtime.jvm import require_java
from tests import broker
from tests.conftest import end_session

ROOT = Path(__file__).parents[1]

PORTS = ("5000", "7077", "8080", "8081", "9090", "9092", "9093", "9108", "29092")
"""What services listen on. Each gets a free port of this machine instead."""

OF_REPLICA = "8081"
"""The port at which nothing but its own health check asks a service, so that it can have two."""

HOSTS = re.compile(
    r"\b(kafka|localhost|mlflow|stream)(?=:\d)"
    r"|\b(spark-master|0\.0\.0\.0)(?=:|$)"
    r"|(?<=://)(?=:\d)"  # all addresses of a machine
)

DEFAULTS = {"SIGHTSTREAM_METRICS_PORT": "9108", "SPARK_WORKER_WEBUI_PORT": "8081"}
"""Ports that nothing names, since they are the programs' own, and where each is set."""

COMMANDS = {
    "apache/kafka": ["/opt/kafka/bin/run"],
    "prom/prometheus": [
        "prometheus", "--config.file=/etc/prometheus/prometheus.yml",
        "--storage.tsdb.path=/prometheus", "--web.listen-address=localhost:9090",
    ],
}  # fmt: skip
"""What images that are not ours start."""

KAFKA = {
    # The program of Kafka's image that makes settings of its environment, and formats.
    "run": (
        "kafka.docker.KafkaDockerWrapper setup --default-configs-dir none"
        " --mounted-configs-dir none --final-configs-dir {folder}",
        "kafka.Kafka {folder}/server.properties",
    ),
    "kafka-broker-api-versions.sh": ('org.apache.kafka.tools.BrokerApiVersionsCommand "$@"',),
    "kafka-topics.sh": ('org.apache.kafka.tools.TopicCommand "$@"',),
}
"""Scripts of Kafka's image, by what they have Java run."""


def read() -> dict:
    """The file with its anchors resolved."""
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def mlflow(folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """The command of MLflow's server, on loopback with a port and a folder of ours, and its
    environment.
    """
    service = read()["services"]["mlflow"]
    command = [
        part.replace("0.0.0.0", "127.0.0.1").replace("5000", str(port))
        .replace("/mlflow/", f"{folder}/")
        for part in service["command"]
    ]  # fmt: skip
    return command, os.environ | service["environment"]


def in_order(services: Mapping[str, dict]) -> list[str]:
    """The services, each after those that it depends on."""
    done: list[str] = []
    while left := [name for name in services if name not in done]:
        ready = [n for n in left if {*services[n].get("depends_on", ())} <= {*done}]
        assert ready, f"these wait for each other: {left}"
        done += ready
    return done


class Container:
    """A process in its place; what its texts name as host, port or folder is this machine's."""

    def __init__(self, name: str, service: dict, ports: Mapping[str, str], folder: Path) -> None:
        """Prepares its folders; `start` starts it.

        Args:
            name: of its own.
            service: as in the file.
            ports: of this machine, by those that the file names.
            folder: of all of them; holds volumes and logs.
        """
        self._service = service
        self._ports = ports
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen | None = None
        self._mounts = {"/data": folder / "data", "/tmp": folder / "tmp" / name,
                        "/opt/kafka": folder / "opt" / "kafka"}  # fmt: skip
        for volume in service.get("volumes", ()):
            source, target = volume.split(":")[:2]
            self._mounts[target] = folder / source
        for each in self._mounts.values():
            each.mkdir(parents=True, exist_ok=True)
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            for file in (ROOT / source).iterdir() if source.startswith("./") else ():
                (folder / source / file.name).write_text(self._translated(file.read_text()))

    @property
    def said(self) -> str:
        """What it printed."""
        return self._log.read_text()

    def start(self) -> None:
        """Starts it."""
        image = self._service["image"].split(":")[0]
        command = self._service.get("command") or COMMANDS[image]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._here(command), env=self._environment, cwd=self._mounts["/data"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def end(self) -> None:
        """Kills it, and what it started."""
        if self._process:
            end_session(self._process)

    def completed(self, seconds: float = 300) -> None:
        """Waits until it has ended well."""
        assert self._process.wait(seconds) == 0, self.said

    def healthy(self, seconds: float = 300) -> None:
        """Waits until its health check finds nothing wrong."""
        _, *test = self._service["healthcheck"]["test"]
        deadline = time.monotonic() + seconds
        while subprocess.run(
            self._here(test), env=self._environment, capture_output=True
        ).returncode:
            assert self._process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.2)  # a check is a program that starts

    @property
    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIGHTSTREAM_", "KAFKA_"))}
        image = {"SIGHTSTREAM_HOME": "/data", "SPARK_LOCAL_IP": "127.0.0.1", **DEFAULTS}
        own = {**image, **self._service.get("environment", {})}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**kept, "PATH": path, **{k: self._translated(v) for k, v in own.items()}}

    def _here(self, command: list[str]) -> list[str]:
        return [self._translated(each) for each in command]

    def _translated(self, text: str) -> str:
        text = HOSTS.sub("127.0.0.1", text.replace("$$", "$"))
        text = re.sub(rf"\b({'|'.join(self._ports)})\b", lambda m: self._ports[m[1]], text)
        mounts = "|".join(self._mounts)
        return re.sub(rf"(?<!\w)({mounts})\b", lambda m: str(self._mounts[m[1]]), text)


class Compose:
    """Running services.

    Attributes:
        home: the folder that is mounted as /data.
        ports: of this machine, by those that the file names.
        address: the broker's, for this machine's own programs.
    """

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        """Chooses ports; `start` starts.

        Args:
            folder: becomes its own.
            names: the services, with all that they depend on.
        """
        self._services = {name: read()["services"][name] for name in names}
        replicas = {n: s.get("deploy", {}).get("replicas", 1) for n, s in self._services.items()}
        free = list(map(str, broker.free_ports(len(PORTS) + sum(replicas.values()))))
        self.ports = {port: free.pop() for port in PORTS}
        self._containers = {
            name: [
                Container(f"{name}-{n}", self._services[name],
                          self.ports | {OF_REPLICA: free.pop()}, folder)
                for n in range(1, count + 1)
            ]
            for name, count in replicas.items()
        }  # fmt: skip
        self.home = folder / "data"
        self.address = f"127.0.0.1:{self.ports['9092']}"
        _install_kafka(folder / "opt" / "kafka")

    def start(self) -> None:
        """Starts the services in order, and returns when all are as they must be."""
        for name in in_order(self._services):
            for before, wanted in self._services[name].get("depends_on", {}).items():
                self._wait(before, wanted["condition"])
            for container in self._containers[name]:
                container.start()
        for name, service in self._services.items():
            if "test" in service.get("healthcheck", ()):
                self._wait(name, "service_healthy")

    def end(self, *names: str) -> None:
        """Kills services; all, where none are named."""
        for name in names or reversed(in_order(self._services)):
            for container in self._containers[name]:
                container.end()

    def said(self, name: str) -> str:
        """What a service printed."""
        return "".join(container.said for container in self._containers[name])

    def _wait(self, name: str, condition: str) -> None:
        for container in self._containers[name]:
            CONDITIONS[condition](container)


CONDITIONS = {
    "service_healthy": Container.healthy,
    "service_completed_successfully": Container.completed,
}


def _install_kafka(folder: Path) -> None:
    """Kafka's scripts, as far as they are asked for."""
    (folder / "bin").mkdir()
    java = f"{require_java()} $KAFKA_HEAP_OPTS -Dlog4j2.level=INFO -cp {broker.classpath()}"
    for name, runs in KAFKA.items():
        lines = [f"{java} {each.format(folder=folder)}" for each in runs]
        script = folder / "bin" / name
        script.write_text("\n".join(["#!/bin/sh -e", *lines[:-1], f"exec {lines[-1]}", ""]))
        script.chmod(0o755)


@contextmanager
def up(folder: Path, names: Collection[str]) -> Iterator[Compose]:
    """Runs services until the block ends; all are healthy when it begins."""
    compose = Compose(folder, names)
    try:
        compose.start()
        yield compose
    finally:
        compose.end()
