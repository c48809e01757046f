"""sightstream.io.tokens: tokens of a real OAuth server, and what is said where it gives none."""

import json
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import trustme

from sightstream.config import Broker
from sightstream.errors import BrokerRefusedError, BrokerUnavailableError, ConfigError
from sightstream.io.tokens import Tokens
from tests import token_server
from tests.token_server import CLIENT, SECRET


@pytest.fixture
def server():
    with token_server.serving() as it:
        yield it


@pytest.fixture
def broker(server):
    return Broker(
        "localhost:1", mechanism="OAUTHBEARER", user=CLIENT, password=SECRET,
        token_url=f"{server.url}/token",
    )  # fmt: skip


def test_a_token_is_fetched_once_whoever_asks(server, broker):
    tokens = Tokens(replace(broker, scope="images rows"))
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: tokens.token(), range(64)))
    assert len(found) == 1
    assert server.given == [{"grant_type": ["client_credentials"], "scope": ["images rows"]}]


def test_a_token_is_renewed_before_it_expires(server, broker, until):
    server.life = 2
    tokens, begin = Tokens(broker), time.monotonic()
    first = tokens.token()
    until(lambda: tokens.token() != first, 5)
    assert 1.5 < time.monotonic() - begin < 2


def test_a_token_is_used_to_its_end_while_the_server_is_away(server, broker, until, caplog):
    server.life = 3
    tokens, begin = Tokens(broker), time.monotonic()
    first = tokens.token()
    server.status = 503
    until(lambda: "used to its end" in caplog.text or not tokens.token(), 5)
    assert tokens.token() == first
    with pytest.raises(BrokerUnavailableError, match="answers 503 temporarily_unavailable"):
        until(lambda: not tokens.token(), 5)
    assert time.monotonic() - begin >= 3
    server.status = 0
    assert tokens.token() != first
    assert len(caplog.records) == 1  # it is not asked at each look
    assert SECRET not in caplog.text
    assert first not in caplog.text


def test_a_token_that_a_broker_refuses_is_not_used_again(server, broker):
    tokens = Tokens(broker)
    tokens.token()
    tokens.forget()
    tokens.token()
    assert len(server.given) == 2


def test_a_wrong_secret_is_a_refusal_that_does_not_tell_it(broker):
    with pytest.raises(BrokerRefusedError) as refused:
        Tokens(replace(broker, password="wr0ng")).token()
    assert "refuses the client 'stream' (401 invalid_client); set kafka_user" in str(refused.value)
    assert "wr0ng" not in str(refused.value)


@pytest.mark.parametrize("status", [302, 307, 308])
def test_the_secret_is_not_sent_elsewhere(server, broker, status):
    server.status = status
    with pytest.raises(BrokerRefusedError, match=f"gives no token \\({status}.*kafka_oauth_token"):
        Tokens(broker).token()


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"<html>", b"[]", b"7", b'"x"', b"{}", b"[" * 100_000, b"\xff\xfe",
        b'{"access_token": 7}',
        b'{"access_token": ""}', b'{"access_token": "a\\u0001auth=Bearer b"}',
        b'{"access_token": "a", "expires_in": "soon"}', b'{"access_token": "a", "expires_in": [9]}',
        b'{"access_token": "a", "expires_in": 1e400}', b'{"access_token": "a", "expires_in": NaN}',
        b'{"access_token": "a", "expires_in": -60}',
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused(server, broker, answer):
    server.answer = answer
    with pytest.raises(BrokerRefusedError, match="answers without a token"):
        Tokens(broker).token()


@pytest.mark.parametrize("more", [{}, {"expires_in": None}, {"expires_in": "60"}])
def test_a_life_that_is_not_told_is_a_minute(server, broker, more):
    server.answer = json.dumps({"access_token": "a.b-c_d~e+f/==", **more}).encode()
    assert Tokens(broker).token() == "a.b-c_d~e+f/=="
    found = Tokens(broker).fetch()
    assert 55 < found.end - time.monotonic() <= 60


def test_a_server_that_is_away_or_says_nothing_takes_seconds(broker):
    with pytest.raises(BrokerUnavailableError, match=r"does not answer .*refused"):
        Tokens(replace(broker, token_url="http://127.0.0.1:9/token")).token()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/token"
        with pytest.raises(BrokerUnavailableError, match="timed out"):
            Tokens(replace(broker, token_url=url)).token()
        assert time.monotonic() - begin < 8


def test_the_servers_certificate_is_checked(broker, tmp_path):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with token_server.serving(tls=context) as server:
        secure = replace(broker, token_url=f"{server.url}/token")
        assert Tokens(replace(secure, token_ca=tmp_path / "ca.pem")).token()
        with pytest.raises(BrokerRefusedError, match=r"not trusted.*kafka_oauth_ca"):
            Tokens(secure).token()
    (tmp_path / "none.pem").touch()
    for name in ("none.pem", "missing.pem"):
        with pytest.raises(ConfigError, match=f"kafka_oauth_ca: .*{name}"):
            Tokens(replace(secure, token_ca=tmp_path / name))


def test_a_server_that_does_not_speak_tls(server, broker):
    url = f"https://localhost:{server.server_port}/token"
    with pytest.raises(BrokerRefusedError, match="does not speak TLS"):
        Tokens(replace(broker, token_url=url)).token()
