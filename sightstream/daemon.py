"""Spark's Python daemon, with workers that acknowledge at once, and leave Ctrl-C to the driver.

Spark sends a task in small pieces, each of which waits until the one before is acknowledged
(RFC 896, Nagle's algorithm), and Linux holds an acknowledgement back for up to 40 ms (tcp(7)).
"""

from __future__ import annotations

import signal
import socket
from typing import Any, BinaryIO

from sightstream.python import drop_archives

drop_archives()  # an executor may have been given any Python

from pyspark import daemon  # noqa: E402

_worker: Any = daemon.worker
_task: Any = daemon.worker_main

manager: Any = daemon.manager
"""Forks a worker for each connection, until its input ends."""


def worker(connection: socket.socket, authenticated: bool) -> int:
    """Runs a task in a forked worker; Linux forgets the option, so that each task sets it anew.

    Args:
        connection: to Spark's JVM.
        authenticated: whether the JVM has proved who it is.

    Returns:
        The exit code; with 0 the worker takes another task.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    return int(_worker(connection, authenticated))


def task(given: BinaryIO, answer: BinaryIO) -> None:
    """Runs a task; Ctrl-C reaches the whole process group, and the driver alone is to act on it.

    Args:
        given: the task, as Spark sends it.
        answer: takes what it yields.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _task(given, answer)


daemon.worker, daemon.worker_main = worker, task

if __name__ == "__main__":
    manager()
