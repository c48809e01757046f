"""Jars for the tests with all that they depend on, fetched once by the Ivy that pyspark brings."""

from __future__ import annotations

import fcntl
import subprocess
import tempfile
from pathlib import Path
from xml.sax.saxutils import quoteattr

from sightstream.runtime import jars
from sightstream.runtime.jvm import require_java


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
            _retrieve(folder, coordinates, transitive=transitive)
    return sorted(folder.glob("*.jar"))


def _retrieve(folder: Path, coordinates: tuple[str, ...], *, transitive: bool) -> None:
    import pyspark

    ivy = next((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wanted = Path(scratch, "ivy.xml")
        wanted.write_text(_module(coordinates, transitive=transitive))
        done = subprocess.run(
            [require_java(), "-jar", ivy, "-ivy", wanted, "-cache", Path(scratch, "cache"),
             "-types", "jar", "bundle", "-retrieve", f"{scratch}/jars/[artifact]-[revision].[ext]"],
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"Ivy cannot fetch {', '.join(coordinates)}: {done.stdout[-2000:]}")
        Path(scratch, "jars").rename(folder)


def _module(coordinates: tuple[str, ...], *, transitive: bool) -> str:
    """The module that Ivy resolves, as the file that it reads."""
    dependencies = []
    for each in coordinates:
        keys = zip(("org", "name", "rev"), each.split(":"), strict=True)
        attributes = " ".join(f"{key}={quoteattr(value)}" for key, value in keys)
        passes = str(transitive).lower()
        dependencies.append(f'<dependency {attributes} conf="*->default" transitive="{passes}"/>')
    return (
        '<ivy-module version="2.0"><info organisation="sightstream" module="jars"/>'
        f"<dependencies>{''.join(dependencies)}</dependencies></ivy-module>"
    )
