"""Spark's Python daemon, with workers that are fit for a long life.

Spark sends a task in small pieces, each of which waits until the one before is acknowledged
(RFC 896, Nagle's algorithm), and Linux holds an acknowledgement back for up to 40 ms (tcp(7)).

Spark also calls importlib.invalidate_caches() before each task, and Python then reads the
directory of every archive on sys.path again: 150 ms a task, for copies of what is installed.
"""

from __future__ import annotations

import signal
import socket
import sys
from importlib.machinery import PathFinder
from typing import Any, BinaryIO

from pyspark import daemon

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
    """Runs a task without archives on sys.path, and deaf to Ctrl-C.

    Ctrl-C reaches the whole process group: the driver alone is to act on it.

    Args:
        given: the task, as Spark sends it.
        answer: takes what it yields.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    drop_archives()
    _task(given, answer)


def drop_archives() -> None:
    """Takes zips and jars from sys.path, and what Python remembers of them."""
    archives = (".zip", ".jar")
    folders = [p for p in sys.path if not p.endswith(archives)]
    if len(folders) < len(sys.path) and PathFinder.find_spec("pyspark", folders):
        sys.path[:] = folders
    # What is inside an archive has entries of its own here.
    for path in [p for p in sys.path_importer_cache if any(a in p for a in archives)]:
        del sys.path_importer_cache[path]


daemon.worker, daemon.worker_main = worker, task

if __name__ == "__main__":
    manager()
