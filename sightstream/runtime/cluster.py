"""A cluster's master and workers: whether they are there, and fit for our work."""

from __future__ import annotations

import socket
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from sightstream.config import Settings
from sightstream.errors import EnvironmentUnfitError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PATIENCE = 60.0
"""Seconds until a cluster gives us its first executor."""


def is_local(master: str) -> bool:
    """Whether the driver's own JVM does the work."""
    return master.startswith("local")


def require_master(master: str) -> None:
    """Raises where none of a standalone cluster's masters answers; Spark would try for minutes.

    Raises:
        EnvironmentUnfitError: with what to look at.
    """
    if not master.startswith("spark://"):
        return
    faults = []
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except (OSError, ValueError, OverflowError) as error:
            faults.append(f"{address}: {getattr(error, 'strerror', None) or error}")
        else:
            return
    raise EnvironmentUnfitError(
        f"no Spark master answers ({'; '.join(faults)}); start one, or correct the setting master"
    )


def require_workers(session: SparkSession, settings: Settings) -> None:
    """Raises where the executors that are there cannot do our work.

    Raises:
        EnvironmentUnfitError: there are none, or they lack our packages or the home folder.
    """
    context = session.sparkContext
    tracker = context._jsc.sc().statusTracker()
    deadline = time.monotonic() + PATIENCE
    # The driver is one of them.
    while len(tracker.getExecutorInfos()) < 2:
        if time.monotonic() > deadline:
            raise EnvironmentUnfitError(
                f"{settings.master} gave no executor within {PATIENCE:.0f} s; look whether its "
                "workers have free cores, and the memory of spark.executor.memory (1g if not set)"
            )
        time.sleep(0.1)
    cores, root = context.defaultParallelism, settings.root
    try:
        seen = context.parallelize(range(cores), cores).map(lambda _: _look(root)).collect()
    except Exception as error:
        reason = next(
            (line for line in reversed(str(error).splitlines()) if "Error:" in line),
            type(error).__name__,
        )
        raise EnvironmentUnfitError(
            f"the workers of {settings.master} cannot run our code ({reason.strip()}); they need "
            "the driver's version of Python and its packages, see docs/scaling.md"
        ) from error
    ours = version("sightstream")
    for host, theirs, there in seen:
        if theirs != ours:
            raise EnvironmentUnfitError(
                f"the worker on {host} has sightstream {theirs}, the driver {ours}; "
                "install the same on both"
            )
        if not there:
            raise EnvironmentUnfitError(
                f"the worker on {host} does not see {root}; mount the home folder under the same "
                "path on all machines, see docs/scaling.md"
            )


def _look(root: Path) -> tuple[str, str, bool]:
    time.sleep(0.2)  # so that no executor does them all
    return socket.gethostname(), version("sightstream"), root.is_dir()
