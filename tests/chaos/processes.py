"""The processes of a stream, by what they are, and signals to them."""

from contextlib import suppress

import psutil

from tests.conftest import _session

KINDS = ("driver", "jvm", "daemon", "worker")


def of(session: int) -> dict[str, list[psutil.Process]]:
    """Those of a session that live; a worker is forked from a daemon, whose command line it has."""
    found: dict[str, list[psutil.Process]] = {kind: [] for kind in KINDS}
    for each in _session(session):
        with suppress(psutil.Error):
            found[_kind(each, session)].append(each)
    return found


def _kind(process: psutil.Process, session: int) -> str:
    line = process.cmdline()
    if process.pid == session:
        return "driver"
    if "java" in process.name():
        return "jvm"
    parent = process.parent()
    forked = parent is not None and parent.cmdline()[1:] == line[1:]
    return "daemon" if "pyspark.daemon" in line and not forked else "worker"
