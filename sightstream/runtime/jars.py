"""Jars from Maven Central, fetched once by Ivy, which pyspark brings; no Maven is needed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from pathlib import Path
from xml.sax.saxutils import quoteattr

from sightstream.errors import EnvironmentUnfitError
from sightstream.runtime.jvm import require_java


def fetch(name: str, *coordinates: str, transitive: bool = False) -> list[Path]:
    """Jars by their coordinates, from the cache or else from Maven Central.

    Args:
        name: of their folder in the cache; another list of coordinates needs another name.
        coordinates: group:artifact:version.
        transitive: take what these depend on, too.

    Raises:
        EnvironmentUnfitError: there is no Java, or they cannot be fetched.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sightstream"
    folder = cache / "jars" / name
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            # Whoever comes second waits, and finds them.
            with (cache / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not folder.is_dir():
                    _retrieve(folder, coordinates, transitive=transitive)
        except OSError as error:
            raise EnvironmentUnfitError(
                f"the cache {cache} cannot be written: {error.strerror}; set XDG_CACHE_HOME to a "
                "folder that can"
            ) from None
    return sorted(folder.glob("*.jar"))


def spark_kafka() -> list[Path]:
    """What Spark needs to read Kafka, beside the jars that it has.

    Raises:
        EnvironmentUnfitError: see `fetch`.
    """
    return fetch(
        "spark-kafka-4.2.0",
        "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0",
        "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.2.0",
        "org.apache.kafka:kafka-clients:3.9.2",
        "org.apache.commons:commons-pool2:2.13.1",
    )


def _retrieve(folder: Path, coordinates: tuple[str, ...], *, transitive: bool) -> None:
    import pyspark

    java = require_java()
    ivy = next((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wanted = Path(scratch, "ivy.xml")
        wanted.write_text(_module(coordinates, transitive=transitive))
        done = subprocess.run(
            [java, "-jar", ivy, "-ivy", wanted, "-cache", Path(scratch, "cache"),
             "-types", "jar", "bundle", "-retrieve", f"{scratch}/jars/[artifact]-[revision].[ext]"],
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            _, _, problems = done.stdout.partition(":::: ERRORS")
            reason = problems.strip().partition("\n")[0] or "Ivy failed"
            raise EnvironmentUnfitError(
                f"the jars of {', '.join(coordinates)} cannot be fetched from Maven Central "
                f"({reason}); connect to the network once, or put them into {folder}"
            )
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
