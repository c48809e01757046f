"""Spark's Python daemon, with workers that acknowledge at once what they are sent.

Spark sends a task in small pieces, each of which waits until the one before is acknowledged
(RFC 896, Nagle's algorithm), and Linux holds an acknowledgement back for up to 40 ms (tcp(7)).
"""

from __future__ import annotations

import socket
from typing import Any

from pyspark import daemon

_worker: Any = daemon.worker

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


daemon.worker = worker

if __name__ == "__main__":
    manager()
