"""sightstream.runtime.jars: jars are fetched once and verified; errors name the cure."""

import pytest

from sightstream.errors import EnvironmentUnfitError
from sightstream.runtime import jars

POOL = "org.apache.commons:commons-pool2:2.12.0"
NOBODY = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9"
RIGHT = "6d3bd18df8410f3e31b031aca582cc109342358a62a2759ebd0c4cdf30d06f8b"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sightstream" / "jars" / "pool"


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setenv("JDK_JAVA_OPTIONS", NOBODY)


def test_what_kept_them_from_being_fetched_is_told(folder, no_network):
    with pytest.raises(EnvironmentUnfitError, match="Connection refused") as told:
        jars.fetch("pool", {POOL: RIGHT})
    assert f"or put them into {folder}" in str(told.value)
    assert list(folder.iterdir()) == []


def test_what_was_fetched_is_kept(folder, monkeypatch):
    (path,) = jars.fetch("pool", {POOL: RIGHT})
    assert path == folder / "commons-pool2-2.12.0.jar"
    monkeypatch.setenv("JDK_JAVA_OPTIONS", NOBODY)
    assert jars.fetch("pool", {POOL: RIGHT}) == [path]


def test_another_content_is_refused_and_not_kept(folder):
    with pytest.raises(EnvironmentUnfitError, match=r"commons-pool2-2\.12\.0\.jar is not the jar"):
        jars.fetch("pool", {POOL: "0" * 64})
    assert list(folder.iterdir()) == []


def test_a_jar_that_was_changed_in_the_cache_is_refused(folder, no_network):
    folder.mkdir(parents=True)
    (folder / "commons-pool2-2.12.0.jar").write_bytes(b"something else")
    with pytest.raises(EnvironmentUnfitError, match=f"{folder}.* is not the jar"):
        jars.fetch("pool", {POOL: RIGHT})


@pytest.mark.parametrize(
    ("installed", "connector"),
    [("4.0.1", "4.0.0"), ("4.1.3", "4.1.1"), ("4.2.1", "4.2.0"), ("4.3.0", "4.2.0")],
)
def test_each_spark_has_its_connector(installed, connector, monkeypatch):
    chosen = []
    monkeypatch.setattr(jars, "version", lambda _: installed)
    monkeypatch.setattr(jars, "fetch", lambda name, digests: chosen.extend(digests))
    jars.spark_kafka()
    assert f"org.apache.spark:spark-sql-kafka-0-10_2.13:{connector}" in chosen
