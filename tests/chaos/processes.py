"""The processes of a stream, by what they are, and signals to them."""

from contextlib import suppress

import psutil

from tests.conftest import _session

KINDS = ("driver", "jvm", "daemon", "worker", "other")


def of(session: int) -> dict[str, list[psutil.Process]]:
    """Those of a session that live; a worker is forked from a daemon, whose command line it has.

    The others are such as the child that loads a new champion, and the shell that starts the JVM.
    """
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
    if "pyspark.daemon" not in line:
        return "other"
    return "worker" if forked else "daemon"
