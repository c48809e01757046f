"""MLflow's server, as docker-compose.yml starts it, behind a proxy that can be slow or refuse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from tests import compose
from tests.broker import free_ports
from tests.chaos.store import Store
from tests.conftest import end_session

START = 120.0
"""Seconds within which it must answer."""


class Server:
    """Serves a registry until the block ends.

    Attributes:
        proxy: what clients see; its `mode` is a fault.
        address: of that.
    """

    def __init__(self, registry: Path, log: Path) -> None:
        """`registry` is the folder of a registry in SQLite, which it goes on with."""
        (port,) = free_ports(1)
        self._url, self._log = f"http://127.0.0.1:{port}", log
        self.proxy = Store(self._url)
        self.address = self.proxy.address
        command, self._environment = compose.mlflow(registry, port)
        hosts = f"--allowed-hosts=127.0.0.1:{port},{self.address.removeprefix('http://')}"
        command = [part for part in command if not part.startswith("--allowed-hosts")]
        self._command = [str(Path(sys.executable).parent / command[0]), *command[1:], hosts]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.proxy.end()

    def start(self) -> None:
        """Starts it, and returns once it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self._environment, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START
        while True:
            with suppress(OSError), urlopen(f"{self._url}/health", timeout=5):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"MLflow's server did not start: {self._log.read_text()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Ends it by SIGKILL."""
        if self._process:
            end_session(self._process)

    def suspend(self) -> None:
        """Lets it stand still until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process:
            os.killpg(self._process.pid, number)
