"""sightstream.io.login: how settings of a login reach both clients, and what is refused."""

import pytest
import trustme

from sightstream import config
from sightstream.errors import ConfigError
from sightstream.io.login import java_options, python_options
from tests.broker import pem

OAUTH = {
    "kafka_security": "SASL_SSL", "kafka_sasl_mechanism": "OAUTHBEARER", "kafka_user": "me",
    "kafka_password": 'a"b\\c;', "kafka_oauth_token_url": "https://login.site/token",
}  # fmt: skip


@pytest.fixture(scope="module")
def issued():
    return trustme.CA().issue_cert("client@site")


@pytest.fixture
def broker(settings, tmp_path):
    """Makes a broker's settings with a client's certificate and key of these contents."""

    def make(certificate, key=None, **more):
        for name, text in (("client.pem", certificate), ("client.key", key)):
            (tmp_path / name).write_bytes(text or b"")
        files = {"kafka_ssl_certificate": tmp_path / "client.pem"}
        if key is not None:
            files["kafka_ssl_key"] = tmp_path / "client.key"
        return config.load(kafka_security="SSL", **files, **more).kafka

    return make


def test_a_key_may_be_in_the_file_of_its_certificate(broker, issued):
    chain, key = pem(issued)
    both = broker(chain + key)
    assert python_options(both)["ssl_keyfile"] == python_options(both)["ssl_certfile"]
    assert java_options(both)["ssl.keystore.key"] == key.decode()


def test_an_encrypted_key_needs_its_password(broker, issued):
    chain, key = pem(issued, b"right")
    opened = broker(chain, key, kafka_ssl_key_password="right")
    assert java_options(opened)["ssl.keystore.key"] == pem(issued)[1].decode()
    assert "right" not in repr(opened)
    for password in ("wr0ng", ""):
        with pytest.raises(ConfigError, match="KAFKA_SSL_KEY_PASSWORD") as refused:
            python_options(broker(chain, key, kafka_ssl_key_password=password))
        assert "wr0ng" not in str(refused.value)


def test_a_key_in_a_form_that_java_does_not_read_is_converted(broker, issued):
    chain, key = pem(issued)
    traditional = issued.private_key_pem.bytes()  # of OpenSSL's own form
    assert b"BEGIN EC PRIVATE KEY" in traditional
    assert java_options(broker(chain, traditional))["ssl.keystore.key"] == key.decode()


@pytest.mark.parametrize("swap", [b"", b"no PEM", b"\xff\xfe\x00"])
def test_files_that_are_no_certificate_or_no_key_are_refused(broker, issued, swap):
    chain, key = pem(issued)
    for files in ((swap, key), (chain, swap)):
        with pytest.raises(ConfigError, match="cannot be used together"):
            python_options(broker(*files))


def test_files_that_are_not_there_are_named(settings, tmp_path):
    with pytest.raises(ConfigError, match="kafka_ssl_certificate: there is no file"):
        python_options(
            config.load(kafka_security="SSL", kafka_ssl_certificate=tmp_path / "none").kafka
        )


def test_a_certificate_is_of_no_use_without_tls(settings, tmp_path):
    broker = config.load(kafka_ssl_certificate=tmp_path / "none").kafka
    assert python_options(broker) == {"security_protocol": "PLAINTEXT"}


def test_a_login_by_token_reaches_java_with_its_quotes(settings, tmp_path):
    broker = config.load(
        **OAUTH, kafka_oauth_scope="images rows", kafka_oauth_ca=tmp_path / "ca.pem"
    ).kafka
    options = java_options(broker)
    assert options["sasl.jaas.config"] == (
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
        'clientId="me" clientSecret="a\\"b\\\\c;" scope="images rows" '
        f'ssl.truststore.type="PEM" ssl.truststore.location="{tmp_path}/ca.pem";'
    )
    assert options["sasl.oauthbearer.token.endpoint.url"] == "https://login.site/token"


def test_a_login_by_token_needs_its_server(settings):
    with pytest.raises(ConfigError, match="OAUTHBEARER needs kafka_oauth_token_url"):
        python_options(config.load(**{**OAUTH, "kafka_oauth_token_url": ""}).kafka)


@pytest.mark.parametrize(
    "url", ["login.site/token", "file:///etc/token", "https://", "https://me:pw@site/t", 'http://a/"b']
)  # fmt: skip
def test_a_token_url_is_one_of_http(settings, url):
    with pytest.raises(ConfigError, match="kafka_oauth_token_url: it must be such as https://"):
        config.load(kafka_oauth_token_url=url)
