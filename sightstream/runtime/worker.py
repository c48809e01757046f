"""The Python of Spark's workers: what it imports, who can reach it, and the memory it keeps."""

import ctypes
import os
import runpy
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder

from sightstream.images import mute_pillow

REST_SECONDS = 1.0
"""Time without a task after which a worker gives memory back."""


def main() -> None:
    """Runs `-m MODULE ...`, as Spark calls a Python."""
    os.umask(0o077)  # whoever reaches the daemon's socket can have it run code
    drop_archives()
    mute_pillow()
    mute_pyspark()
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def mute_pyspark() -> None:
    """Hides pyspark's warning of pandas 3 in a process of ours: our tests pass with it."""
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)


def drop_archives() -> None:
    """Removes zips and jars from sys.path, where pyspark is installed too.

    Spark puts archives of pyspark before all else on the path. Python compiles what it imports from
    them anew in every process, for 0.8 s of a core. Before Spark 4.3, it also reads their
    directories before each task, for 0.15 s.
    """
    archives = (".zip", ".jar")
    folders = [p for p in sys.path if not p.endswith(archives)]
    if len(folders) < len(sys.path) and PathFinder.find_spec("pyspark", folders):
        sys.path[:] = folders
    # Folders inside an archive have entries of their own here.
    for path in [p for p in sys.path_importer_cache if any(a in p for a in archives)]:
        del sys.path_importer_cache[path]


@contextmanager
def at_work() -> Iterator[None]:
    """A task of a worker, which gives freed memory back to the system when it has had a rest.

    glibc keeps what lies below memory in use, 80 MB now and then. Giving it back takes 1 to 5 ms,
    and getting it again as much.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, _release_memory)
        signal.setitimer(signal.ITIMER_REAL, REST_SECONDS)


def _release_memory(*_: object) -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # which other C libraries do not have
    if trim:
        trim(0)
