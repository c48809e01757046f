"""The Python of Spark's workers, which takes what it imports from where it is installed.

Spark puts archives of pyspark before all else on the path of its Python. Python compiles what it
imports from an archive anew in every process, 0.7 s of a core in each of the five that a stream
starts; and it reads each archive's directory again whenever Spark calls
importlib.invalidate_caches(), which is before each task: 0.15 s.
"""

from __future__ import annotations

import runpy
import sys
from importlib.machinery import PathFinder

from sightstream.images import mute_pillow


def main() -> None:
    """Runs `-m MODULE ...`, as Spark asks it of a Python."""
    drop_archives()
    mute_pillow()
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def drop_archives() -> None:
    """Takes zips and jars from sys.path, where pyspark is installed too."""
    archives = (".zip", ".jar")
    folders = [p for p in sys.path if not p.endswith(archives)]
    if len(folders) < len(sys.path) and PathFinder.find_spec("pyspark", folders):
        sys.path[:] = folders
    # What is inside an archive has entries of its own here.
    for path in [p for p in sys.path_importer_cache if any(a in p for a in archives)]:
        del sys.path_importer_cache[path]
