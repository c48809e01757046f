"""Checks of a cluster: its master answers, and its workers can do our work."""

from __future__ import annotations

import socket
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from sightstream.errors import EnvironmentUnfitError
from sightstream.io import address
from sightstream.runtime import pyspark_inside

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EXECUTOR_SECONDS = 60.0
"""Time in which a cluster must give its first executor."""


def is_local(master: str) -> bool:
    """Whether the driver's own JVM runs the tasks."""
    return master.startswith("local")


def require_master(master: str) -> None:
    """Raises EnvironmentUnfitError where a standalone master is away; Spark tries for minutes."""
    if not master.startswith("spark://"):
        return
    try:
        reasons = address.unreachable(master.removeprefix("spark://").split(","), seconds=5)
        fault = "; ".join(f"{each}: {reason}" for each, reason in reasons.items())
    except ValueError as error:
        fault = str(error)
    if fault:
        raise EnvironmentUnfitError(
            f"no Spark master answers ({fault}); start one, or correct the setting master"
        )


def require_workers(session: SparkSession, master: str, home: Path) -> None:
    """Raises EnvironmentUnfitError where executors, our packages or the home folder are missing."""
    context = session.sparkContext
    deadline = time.monotonic() + EXECUTOR_SECONDS
    # The driver is one of them.
    while (there := pyspark_inside.executors(context)) is not None and len(there) < 2:
        if time.monotonic() > deadline:
            raise EnvironmentUnfitError(
                f"{master} gave no executor within {EXECUTOR_SECONDS:.0f} s; look whether its "
                "workers have free cores, and the memory of spark.executor.memory (1g if not set)"
            )
        time.sleep(0.1)
    cores = context.defaultParallelism
    try:
        seen = context.parallelize(range(cores), cores).map(lambda _: _look(home)).collect()
    except Exception as error:
        reasons = [line.strip() for line in str(error).splitlines() if "Error:" in line]
        raise EnvironmentUnfitError(
            f"the workers of {master} cannot run our code "
            f"({reasons[-1] if reasons else type(error).__name__}); they need "
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
                f"the worker on {host} does not see {home}; mount the home folder under the same "
                "path on all machines, see docs/scaling.md"
            )


def _look(home: Path) -> tuple[str, str, bool]:
    time.sleep(0.2)  # so that no executor does them all
    return socket.gethostname(), version("sightstream"), home.is_dir()
