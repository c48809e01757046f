"""streaming.start: what ends a start before Spark is there."""

import socket

import pytest

from sightstream import config
from sightstream.errors import EnvironmentUnfitError, ModelNotFoundError
from sightstream.io import disk
from streaming.start import starting


@pytest.fixture
def settings(tmp_path):
    return config.load(home=tmp_path / "home", metrics_port=0)


def test_without_a_model_spark_is_not_started(settings):
    with pytest.raises(ModelNotFoundError, match="sightstream train"), starting(settings):
        pass
    assert not (settings.logs / "spark.log").exists()
    assert not disk.is_held(settings.root)


def test_a_port_in_use_is_told_before_a_model_is_trained(settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = settings.model_copy(update={"metrics_port": port})
        with pytest.raises(EnvironmentUnfitError, match=f":{port}"), starting(settings):
            pass


def test_what_is_wrong_with_spark_comes_from_its_future_and_the_home_is_free(settings, monkeypatch):
    settings.registry.mkdir(parents=True)
    (settings.registry / "mlflow.db").touch()
    monkeypatch.setenv("JAVA_HOME", str(settings.root))
    with starting(settings) as session:
        assert disk.is_held(settings.root)
        with pytest.raises(EnvironmentUnfitError, match="found no Java"):
            session.result()
    assert not disk.is_held(settings.root)
