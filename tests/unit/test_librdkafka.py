"""sightstream.io.librdkafka: how a login reaches a consumer on any machine."""

import pickle
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from sightstream import config
from sightstream.errors import ConfigError
from sightstream.io import librdkafka
from tests.broker import pem

USER = {"kafka_security": "SASL_SSL", "kafka_user": "me", "kafka_password": 'a"b\\c;'}


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder of temporary files."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def issued(tmp_path):
    """Settings of a client's certificate, with a key that is encrypted."""
    certificate, key = pem(trustme.CA().issue_cert("client@site"), b"s3cret")
    (tmp_path / "client.pem").write_bytes(certificate)
    (tmp_path / "client.key").write_bytes(key)
    return {
        "kafka_security": "SSL", "kafka_ssl_certificate": tmp_path / "client.pem",
        "kafka_ssl_key": tmp_path / "client.key", "kafka_ssl_key_password": "s3cret",
    }  # fmt: skip


def login(**settings):
    return librdkafka.login(config.load(**settings).kafka)


def options(given):
    return librdkafka._options(given, Path("/nowhere"))


def test_a_password_is_told_as_it_is_and_never_shown(settings):
    given = login(**USER)
    assert options(given)["sasl.password"] == 'a"b\\c;'
    assert options(given)["sasl.mechanism"] == "SCRAM-SHA-512"
    assert "sasl.password" not in options(login())
    assert 'a"b' not in repr(given)


def test_a_certificate_travels_without_its_files_and_leaves_none(settings, issued, scratch):
    given = pickle.loads(pickle.dumps(login(**issued)))
    for name in ("kafka_ssl_certificate", "kafka_ssl_key"):
        issued[name].unlink()
    with closing(librdkafka.consumer(given, {})):
        assert list(scratch.iterdir()) == []
    assert "PRIVATE KEY" not in repr(given)
    assert "s3cret" not in repr(given)


def test_an_authority_is_found_from_any_folder(settings, tmp_path, monkeypatch, scratch):
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.chdir(tmp_path)
    given = login(kafka_security="SSL", kafka_ca="ca.pem")
    monkeypatch.chdir("/")
    librdkafka.consumer(given, {}).close()
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(ConfigError, match="kafka_ca: there is no file"):
        librdkafka.consumer(given, {})
