"""The Python of Spark's workers: what it imports, who can reach it, its memory and its end.

It owns the timer of the process (ITIMER_REAL): at work that bounds a step, at rest it gives memory
back.
"""

import os
import runpy
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from time import monotonic

from sightstream.images import mute_pillow
from sightstream.io import memory

REST_SECONDS = 1.0
"""Time without a task after which a worker gives memory back."""

SLACK = 1.1
"""Times the seconds of `end_in` after which a process ends at the latest."""

_is_at_work = False
_end = 0.0
"""The time at which the timer of `end_in` ends the process, if it is set."""


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
    """A task of a worker, in which `end_in` works; to be entered in the main thread.

    A worker that has had a rest gives freed memory back to the system, 80 MB now and then.
    """
    global _is_at_work, _end
    signal.setitimer(signal.ITIMER_REAL, 0)
    # The system ends the process then, whatever code it runs: a handler in Python would wait until
    # a decoder returns.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _is_at_work, _end = True, 0.0
    try:
        yield
    finally:
        _is_at_work = False
        signal.signal(signal.SIGALRM, lambda *_: memory.give_back())
        signal.setitimer(signal.ITIMER_REAL, REST_SECONDS)


def end_in(seconds: float) -> None:
    """Ends this process in so many seconds, unless it is called again before; 0 calls that off.

    It may be a tenth later, so that few of many calls set the timer, which takes 5 us between other
    work.

    It does nothing where no task of ours is at work: a user's own process, or a worker of their
    session, is never ended. Wall-clock time counts, as a hang may use no core; while the machine is
    suspended, none does.
    """
    global _end
    if _is_at_work:
        now, latest = monotonic(), SLACK * seconds
        if not now + seconds <= _end <= now + latest:
            _end = now + latest
            signal.setitimer(signal.ITIMER_REAL, latest)
