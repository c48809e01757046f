"""sightstream.io.kafka: how settings reach kafka-python and Spark."""

import socket

import pytest
from kafka.errors import KafkaConnectionError
from kafka.net.transport import KafkaTCPTransport

from sightstream import config
from sightstream.errors import ConfigError
from sightstream.io import kafka
from sightstream.io.kafka import client_options, spark_options

LOGIN = {"kafka_security": "SASL_SSL", "kafka_user": "me", "kafka_password": 'a"b\\c;'}


def test_a_password_reaches_java_with_its_quotes(settings):
    options = spark_options(config.load(**LOGIN).kafka)
    assert options["kafka.sasl.jaas.config"] == (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        'username="me" password="a\\"b\\\\c;";'
    )
    assert client_options(config.load(**LOGIN).kafka)["sasl_plain_password"] == 'a"b\\c;'


def test_an_authority_is_a_pem_file_that_is_there(settings, tmp_path):
    (tmp_path / "ca.pem").touch()
    with_tls = config.load(kafka_security="SSL", kafka_ca=tmp_path / "ca.pem").kafka
    assert spark_options(with_tls)["kafka.ssl.truststore.type"] == "PEM"
    assert client_options(with_tls)["ssl_cafile"] == str(tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match="kafka_ca"):
        client_options(config.load(kafka_security="SSL", kafka_ca=tmp_path / "none").kafka)


def test_a_login_needs_a_user(settings):
    with pytest.raises(ConfigError, match="needs kafka_user"):
        client_options(config.load(kafka_security="SASL_SSL").kafka)


def test_the_password_is_not_shown(settings):
    assert 'a"b' not in str(config.load(**LOGIN).model_dump(mode="json"))
    assert 'a"b' not in repr(config.load(**LOGIN).kafka)


@pytest.fixture
def transport():
    """A connection of kafka-python, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield KafkaTCPTransport(None, ours), theirs
    ours.close()


def test_bytes_that_come_with_the_end_of_a_connection_are_read_contract(transport):
    kafka._prepare_library()
    connection, broker = transport
    broker.sendall(b"why it is refused")
    broker.close()
    assert connection._sock_recv() == (b"why it is refused", None)
    data, end = connection._sock_recv()
    assert data == b""
    assert isinstance(end, KafkaConnectionError)
    assert "disconnected" in str(end)


def test_another_inside_of_kafka_python_is_left_as_it_is(monkeypatch, caplog):
    monkeypatch.delattr(KafkaTCPTransport, "_sock_recv")
    caplog.set_level("INFO")
    kafka._prepare_library.__wrapped__()
    assert "other transports than expected" in caplog.text
