"""Jars of Spark's Kafka connector, fetched once from Maven Central and verified at each use."""

import hashlib
import os
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from xml.sax.saxutils import quoteattr

from sightstream.errors import EnvironmentUnfitError
from sightstream.runtime.jvm import require_java

_CONNECTORS = Path(__file__).with_name("spark_kafka.txt")
"""SHA-256 and coordinates (group:artifact:version), by the first Spark that they are for.

The versions of the clients are those that the connector's own release declares. The connector of
Spark 4.2 reads and writes with Spark 4.3, too.
"""


def spark_kafka() -> list[Path]:
    """Jars that Spark needs to read Kafka, besides those that it has, as `fetch` finds them."""
    lines = [line.split() for line in _CONNECTORS.read_text().splitlines()[1:]]
    installed = _numbers(version("pyspark"))
    release = max((r for r, _, _ in lines if _numbers(r) <= installed), key=_numbers)
    return fetch(f"spark-kafka-{release}", {name: sha for r, sha, name in lines if r == release})


def fetch(name: str, digests: dict[str, str]) -> list[Path]:
    """Jars by their coordinates, from a folder of the cache or else from Maven Central.

    Args:
        name: of the folder.
        digests: SHA-256 of each, in hexadecimal, by group:artifact:version.

    Raises:
        EnvironmentUnfitError: They cannot be fetched, or are not what they should be.
    """
    folder = cache() / name
    paths = {folder / _file(coordinates): digest for coordinates, digest in digests.items()}
    try:
        if not all(path.exists() for path in paths):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                retrieve(Path(scratch, "jars"), *digests)
                for path, digest in paths.items():
                    _verify(Path(scratch, "jars", path.name), digest)
                    Path(scratch, "jars", path.name).replace(path)
        for path, digest in paths.items():
            _verify(path, digest)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the jars of {', '.join(digests)} cannot be fetched from Maven Central ({error}); "
            f"connect to the network once, or put them into {folder}; another place is chosen by "
            "XDG_CACHE_HOME"
        ) from None
    return list(paths)


def cache() -> Path:
    """Folder of all jars that were fetched."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "sightstream" / "jars"


def retrieve(folder: Path, *coordinates: str, transitive: bool = False) -> None:
    """Fetches jars by group:artifact:version into a new folder, with Ivy, which pyspark brings.

    With `transitive`, what these depend on, too. OSError where Ivy fails, with its reason.
    """
    import pyspark

    ivy = next((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch, "ivy.xml")
        wanted.write_text(_module(coordinates, transitive=transitive))
        done = subprocess.run(
            [require_java(), "-jar", ivy, "-ivy", wanted, "-cache", Path(scratch, "cache"),
             "-types", "jar", "bundle", "-retrieve", f"{folder}/[artifact]-[revision].[ext]"],
            capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode:
        _, _, problems = done.stdout.partition(":::: ERRORS")
        raise OSError(problems.strip().partition("\n")[0] or "Ivy failed")


def _module(coordinates: tuple[str, ...], *, transitive: bool) -> str:
    """The module that Ivy resolves, as the file that it reads."""
    dependencies, follows = [], str(transitive).lower()
    for each in coordinates:
        keys = zip(("org", "name", "rev"), each.split(":"), strict=True)
        attributes = " ".join(f"{key}={quoteattr(value)}" for key, value in keys)
        dependencies.append(f'<dependency {attributes} conf="*->default" transitive="{follows}"/>')
    return (
        '<ivy-module version="2.0"><info organisation="sightstream" module="jars"/>'
        f"<dependencies>{''.join(dependencies)}</dependencies></ivy-module>"
    )


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")[:2]))


def _file(coordinates: str) -> str:
    _, artifact, release = coordinates.split(":")
    return f"{artifact}-{release}.jar"


def _verify(path: Path, digest: str) -> None:
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise EnvironmentUnfitError(
            f"{path} is not the jar that it should be: its SHA-256 is not {digest}; remove it if "
            "it is in the cache, and look what stands between this machine and Maven Central"
        )
