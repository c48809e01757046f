"""How a client proves to Kafka who it is, and Kafka to the client: options of both clients.

Those are kafka-python's, and the Java client's in Spark.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

from sightstream.config import Broker
from sightstream.errors import BrokerUnavailableError, ConfigError
from sightstream.io.tokens import Tokens, tokens

OAUTH = "OAUTHBEARER"

_SECURITY = "org.apache.kafka.common.security"
_OAUTH = "oauthbearer.OAuthBearerLogin"
_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


def python_options(broker: Broker) -> dict[str, Any]:
    """Return the options of kafka-python.

    Raises:
        ConfigError: a setting is missing that the login needs, or a file is not as it must be.
    """
    options: dict[str, Any] = {"security_protocol": broker.security}
    if ca := _ca(broker):
        options["ssl_cafile"] = ca
    if files := _certificate(broker):
        options |= {"ssl_certfile": str(files[0]), "ssl_keyfile": str(files[1])}
        options["ssl_password"] = broker.key_password
    if not logs_in(broker):
        return options
    options["sasl_mechanism"] = broker.mechanism
    if broker.mechanism == OAUTH:
        return options | {"sasl_oauth_token_provider": _provider(tokens(broker))}
    return options | {
        "sasl_plain_username": broker.user, "sasl_plain_password": broker.password,
    }  # fmt: skip


def java_options(broker: Broker) -> dict[str, str]:
    """Return the options with which a Java client does the same; raises as `python_options`."""
    options = {"security.protocol": broker.security}
    if ca := _ca(broker):
        options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": ca}
    if files := _certificate(broker):
        # As text, for a file would have to be on all machines of a cluster, with both in it.
        options |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": files[0].read_text(),
            "ssl.keystore.key": _java_key(files[1], broker.key_password),
        }
    if not logs_in(broker):
        return options
    options["sasl.mechanism"] = broker.mechanism
    if broker.mechanism == OAUTH:
        return options | _java_tokens(broker)
    module = "plain.Plain" if broker.mechanism == "PLAIN" else "scram.Scram"
    login = {"username": broker.user, "password": broker.password}
    return options | {"sasl.jaas.config": _jaas(module, login)}


def logs_in(broker: Broker) -> bool:
    """Return whether the client logs in, beside its certificate; raises as `python_options`."""
    if not broker.security.startswith("SASL"):
        return False
    if not broker.user:
        raise ConfigError(f"kafka_security {broker.security} needs kafka_user")
    if broker.mechanism == OAUTH and not broker.token_url:
        raise ConfigError(f"kafka_sasl_mechanism {OAUTH} needs kafka_oauth_token_url")
    return True


def _provider(given: Tokens) -> object:
    from kafka.errors import KafkaConnectionError
    from kafka.net.sasl.oauth import AbstractTokenProvider

    class Provider(AbstractTokenProvider):
        def token(self) -> str:
            try:
                return given.token()
            except BrokerUnavailableError as error:  # messages on their way are sent again
                raise KafkaConnectionError(str(error)) from None

    return Provider()


def _java_tokens(broker: Broker) -> dict[str, str]:
    login = {"clientId": broker.user, "clientSecret": broker.password}
    if broker.scope:
        login["scope"] = broker.scope
    if broker.token_ca:
        authority = str(broker.token_ca.absolute())
        login |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": authority}
    return {
        "sasl.login.callback.handler.class": f"{_SECURITY}.{_OAUTH}CallbackHandler",
        "sasl.oauthbearer.token.endpoint.url": broker.token_url,
        # Else it waits for ever for a server that does not answer.
        "sasl.login.connect.timeout.ms": "5000",
        "sasl.login.read.timeout.ms": "5000",
        "sasl.jaas.config": _jaas(_OAUTH.removesuffix("Login"), login),
    }


def _jaas(module: str, login: dict[str, str]) -> str:
    pairs = " ".join(f"{key}={_quoted(value)}" for key, value in login.items())
    return f"{_SECURITY}.{module}LoginModule required {pairs};"


def _quoted(value: str) -> str:
    """Quote a string for Java's configuration of logins."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _ca(broker: Broker) -> str:
    if "SSL" not in broker.security or not broker.ca:
        return ""
    return str(_there("kafka_ca", broker.ca))


def _certificate(broker: Broker) -> tuple[Path, Path] | None:
    """Return the files of the client's certificate and of its key, which may be one."""
    if "SSL" not in broker.security or not broker.certificate:
        return None
    certificate = _there("kafka_ssl_certificate", broker.certificate)
    key = _there("kafka_ssl_key", broker.key or broker.certificate)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            certificate, key, lambda: broker.key_password
        )
    except (OSError, ValueError) as error:  # SSLError is an OSError; UnicodeError a ValueError
        raise ConfigError(
            f"kafka_ssl_certificate: {certificate} and the key {key} cannot be used together "
            f"({_why(error)}); give a certificate and its key as PEM, and "
            "SIGHTSTREAM_KAFKA_SSL_KEY_PASSWORD where the key is encrypted"
        ) from None
    return certificate, key


def _java_key(path: Path, password: str) -> str:
    """Return a key as Java reads it: in PKCS #8, and open, for it knows few ciphers."""
    from cryptography.hazmat.primitives import serialization as form

    found = _KEY.search(path.read_bytes())
    block = found[0] if found else b""
    hidden = password.encode() if b"ENCRYPTED" in block else None
    key = form.load_pem_private_key(block, hidden)
    return key.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    ).decode()


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)


def _there(setting: str, path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"{setting}: there is no file {path}")
    return path.absolute()
