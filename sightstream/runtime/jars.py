"""Jars of Spark's Kafka connector, fetched once from Maven Central and verified at each use."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from xml.sax.saxutils import quoteattr

from sightstream.errors import EnvironmentUnfitError
from sightstream.runtime.jvm import require_java

_CONNECTORS = {
    (4, 0): {
        "org.apache.spark:spark-sql-kafka-0-10_2.13:4.0.0": (
            "33a3b8b04df4a2e43c9d5bf8ca5972936a1ac662f2714e014d00ef6f27468bf3"
        ),
        "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.0.0": (
            "f2be3b76f9e6cbe63379d4e4e0dc14f59dbf056ae2ad16ff15ac108004c86767"
        ),
        "org.apache.kafka:kafka-clients:3.9.0": (
            "15c1e137f2c2c94398e27abc4060a03b6bde10bf9fac15e8f70c02320b202f18"
        ),
        "org.apache.commons:commons-pool2:2.12.0": (
            "6d3bd18df8410f3e31b031aca582cc109342358a62a2759ebd0c4cdf30d06f8b"
        ),
    },
    (4, 1): {
        "org.apache.spark:spark-sql-kafka-0-10_2.13:4.1.1": (
            "9c1ce986f548e6b1dcb0e2dfe2f253a0bc58f2232a32a0c9c6c674dd25a8570c"
        ),
        "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.1.1": (
            "e510adc37b03d01d0a190d0dab472b5538e05eaa77454f7e9477156d7a6820ae"
        ),
        "org.apache.kafka:kafka-clients:3.9.1": (
            "7568b998572d256f0b7bc0afdc1b7a2588b8b08415c62ce314c864a6851ae9d9"
        ),
        "org.apache.commons:commons-pool2:2.12.1": (
            "5273c8bc8c0dca2211175c0d27efbd7228efae99689aac001a8e1ef8e872e9ef"
        ),
    },
    (4, 2): {
        "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0": (
            "64539c45e5d39f7ddb747312c239f38f5208d08c1a0ddf7d70beb2fbd9373705"
        ),
        "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.2.0": (
            "641c7947afc8aa1189e433b7c2d305293993c8691bc1c2062d6d4f513b12518c"
        ),
        "org.apache.kafka:kafka-clients:3.9.2": (
            "014b4ef36884478a932641818b080c36a8f8e2e92dc771e800c9d2694f4f83d8"
        ),
        "org.apache.commons:commons-pool2:2.13.1": (
            "f77a5060d6936a9144023584232f9de3f2248f1abfe156e9d31795f18770674f"
        ),
    },
}
"""SHA-256 by coordinates (group:artifact:version), by the first Spark that they are for.

The versions of the clients are those that the connector's own release declares. The connector of
Spark 4.2 reads and writes with Spark 4.3, too.
"""


def spark_kafka() -> list[Path]:
    """Jars that Spark needs to read Kafka, besides those that it has.

    Raises:
        EnvironmentUnfitError: they cannot be fetched, or are not what they should be.
    """
    installed = tuple(map(int, version("pyspark").split(".")[:2]))
    release = max(each for each in _CONNECTORS if each <= installed)
    return fetch(f"spark-kafka-{release[0]}.{release[1]}", _CONNECTORS[release])


def fetch(name: str, digests: dict[str, str]) -> list[Path]:
    """Jars by their coordinates, from the cache or else from Maven Central.

    Args:
        name: Folder of the jars in the cache.
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
    """Fetches jars with Ivy, which pyspark brings; no Maven is needed.

    Args:
        folder: Created; gets the jars.
        coordinates: group:artifact:version of each.
        transitive: Takes what these depend on, too.

    Raises:
        OSError: Ivy has failed, with its reason.
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


def _file(coordinates: str) -> str:
    _, artifact, release = coordinates.split(":")
    return f"{artifact}-{release}.jar"


def _verify(path: Path, digest: str) -> None:
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise EnvironmentUnfitError(
            f"{path} is not the jar that it should be: its SHA-256 is not {digest}; remove it if "
            "it is in the cache, and look what stands between this machine and Maven Central"
        )
