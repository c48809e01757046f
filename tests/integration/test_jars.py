"""sightstream.runtime.jars: jars that are fetched, and what is said where they cannot be."""

import pytest

from sightstream.errors import EnvironmentUnfitError
from sightstream.runtime import jars


def test_what_kept_them_from_being_fetched_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    nobody = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9"
    monkeypatch.setenv("JDK_JAVA_OPTIONS", nobody)
    with pytest.raises(EnvironmentUnfitError, match="Connection refused") as told:
        jars.fetch("pool", "org.apache.commons:commons-pool2:2.12.0")
    assert f"or put them into {tmp_path}/sightstream/jars/pool" in str(told.value)
    assert [path.name for path in (tmp_path / "sightstream" / "jars").iterdir()] == []
