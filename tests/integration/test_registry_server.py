"""registry: on MLflow's server, behind a proxy that can be slow or refuse."""

import os
import tempfile
from threading import Event, Thread

import pytest

from sightstream.errors import RegistryUnavailableError
from sightstream.models.registry import Registry
from streaming.champion import Champion
from tests import tiny_model
from tests.chaos.mlflow import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with Server(folder, folder / "log") as running:
        registry = Registry(running.address)
        for number in (1, 2):
            files = folder / f"version {number}"
            digest, report = tiny_model.write_version(files), folder / f"report {number}"
            report.mkdir()
            (report / "report.html").write_text(f"page {number}")
            registry.publish(
                "leaf", files, digest, parameters={}, metrics={}, curves={}, report=report
            )
        yield running


@pytest.fixture
def registry(server):
    """The server's registry with two versions of leaf, of which the first is the champion."""
    server.proxy.mode, server.proxy.faulty, server.proxy.faults = "good", lambda *_: True, 0
    made = Registry(server.address)
    made._client.set_registered_model_alias("leaf", "champion", "1")
    return made


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_is_downloaded_is_removed_after_use(registry, downloads):
    version = registry.version("leaf")
    assert version.folder is None
    assert registry.load(version).version == 1
    assert registry.card(version).labels == tiny_model.LABELS
    with registry.report(version) as report:
        assert (report / "report.html").read_text() == "page 1"
        assert report.is_relative_to(downloads)
    assert not list(downloads.iterdir())


def test_new_champions_leave_no_files_also_where_the_server_goes_away(registry, server, downloads):
    told = []
    champion = Champion("leaf", "onnx", registry, told.append)
    registry._client.set_registered_model_alias("leaf", "champion", "2")

    def goes_away(_):
        server.proxy.mode = "refuses"

    for _ in range(2):
        with pytest.raises(RegistryUnavailableError):
            champion.look(goes_away)
        assert not list(downloads.iterdir())
        server.proxy.mode = "good"
    champion.look(lambda _: None)
    assert (champion.model.version, told) == (2, ["loaded"])
    assert not list(downloads.iterdir())


def test_a_download_that_fails_leaves_no_files(registry, server, downloads):
    version = registry.version("leaf")
    server.proxy.faulty = lambda method, path: path.endswith("/model.onnx")
    server.proxy.mode = "refuses"
    with pytest.raises(RegistryUnavailableError):
        registry.load(version)
    assert server.proxy.faults
    assert not list(downloads.iterdir())


def test_a_request_keeps_our_patience_when_another_thread_has_its_answer(
    registry, server, monkeypatch
):
    for name in ("FACTOR", "JITTER"):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_BACKOFF_{name}", "0")
    first_asks, second_asks, done = Event(), Event(), Event()

    def faulty(_, path):
        if "registered-models/alias" in path:
            first_asks.set()
            assert second_asks.wait(60)
        elif "model-versions/search" in path:
            second_asks.set()
            assert done.wait(60)
        return "registered-models/get" in path

    server.proxy.faulty, server.proxy.mode = faulty, "refuses"

    def first():
        registry.champion_number("leaf")
        done.set()

    other = Thread(target=first)
    other.start()
    assert first_asks.wait(60)
    with pytest.raises(RegistryUnavailableError):
        Registry(server.address).versions("leaf")
    other.join(60)
    assert done.is_set()
    assert 1 <= server.proxy.faults <= 3  # a request, and two more; by default, seven


def test_settings_are_the_users_again_after_a_request(registry, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    before = dict(os.environ)
    assert registry.names() == ["leaf"]
    assert dict(os.environ) == before
