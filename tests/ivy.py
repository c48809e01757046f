"""Jars for the tests with all that they depend on, fetched once by the Ivy that pyspark brings."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path

from sightstream.runtime import jars


def fetch(name: str, *coordinates: str, transitive: bool = False) -> list[Path]:
    """Jars by their coordinates, from the cache or else from Maven Central.

    Args:
        name: of their folder in the cache; another list of coordinates needs another name.
        coordinates: group:artifact:version.
        transitive: take what these depend on, too.
    """
    folder = jars.cache() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Whoever comes second waits, and finds them.
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                jars.retrieve(Path(scratch, "jars"), *coordinates, transitive=transitive)
                Path(scratch, "jars").rename(folder)
    return sorted(folder.glob("*.jar"))
