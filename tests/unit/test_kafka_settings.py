"""kafka: how settings reach kafka-python and Spark, and what a stream has missed."""

import pytest

from sightstream import config
from sightstream.errors import ConfigError
from sightstream.io.kafka import Partition, client_options, loss, spark_options

LOGIN = {"kafka_security": "SASL_SSL", "kafka_user": "me", "kafka_password": 'a"b\\c;'}


def test_a_password_reaches_java_with_its_quotes(settings):
    options = spark_options(config.load(**LOGIN))
    assert options["kafka.sasl.jaas.config"] == (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        'username="me" password="a\\"b\\\\c;";'
    )
    assert client_options(config.load(**LOGIN))["sasl_plain_password"] == 'a"b\\c;'


def test_an_authority_is_a_pem_file_that_is_there(settings, tmp_path):
    (tmp_path / "ca.pem").touch()
    with_tls = config.load(kafka_security="SSL", kafka_ca=tmp_path / "ca.pem")
    assert spark_options(with_tls)["kafka.ssl.truststore.type"] == "PEM"
    assert client_options(with_tls)["ssl_cafile"] == str(tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match="kafka_ca"):
        client_options(config.load(kafka_security="SSL", kafka_ca=tmp_path / "none"))


def test_a_login_needs_a_user(settings):
    with pytest.raises(ConfigError, match="needs kafka_user"):
        client_options(config.load(kafka_security="SASL_SSL"))


def test_the_password_is_not_shown(settings):
    assert 'a"b' not in str(config.load(**LOGIN).model_dump(mode="json"))


@pytest.mark.parametrize(
    ("begin", "committed", "end", "lag", "lost"),
    [
        (0, 0, 10, 10, range(0)),
        (0, 10, 10, 0, range(0)),
        (5, 7, 10, 3, range(0)),
        (5, 3, 10, 5, range(3, 5)),
        (10, 3, 10, 0, range(3, 10)),
        (0, 7, 2, 0, range(2, 7)),
    ],
)
def test_what_a_partition_has_in_store(settings, begin, committed, end, lag, lost):
    stand = Partition(0, begin, committed, end)
    assert stand.lag == lag
    assert list(stand.lost) == list(lost)
    told = loss(settings, [stand])
    assert bool(told) == bool(lost)
    if lost:
        assert f"partition 0: offsets {lost.start} to {lost.stop - 1}" in told
    assert loss(config.load(kafka_fail_on_data_loss=False), [stand]) == ""
