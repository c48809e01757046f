"""Client certificates and OAuth tokens, against a real broker that takes nothing else."""

import json
import shutil
import ssl
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import trustme

from sightstream import config
from sightstream.errors import BrokerRefusedError, BrokerUnavailableError, ConfigError
from sightstream.io import kafka
from tests import broker as brokers
from tests import token_server
from tests.broker import pem
from tests.token_server import CLIENT, SECRET
from tests.topics import Program, create, messages

KEY_PASSWORD = "key pa$$ word"


@pytest.fixture(scope="module")
def oauth(tmp_path_factory):
    """An OAuth server with TLS, and without; and a broker that trusts the tokens of both."""
    folder = tmp_path_factory.mktemp("logins")
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(folder / "oauth-ca.pem")
    with (
        token_server.serving(tls=context) as secure,
        token_server.serving() as plain,
        brokers.running(folder / "broker", jwks=f"{plain.url}/jwks") as broker,
    ):
        yield SimpleNamespace(
            secure=secure, plain=plain, broker=broker, ca=folder / "oauth-ca.pem",
        )  # fmt: skip


@pytest.fixture(scope="module")
def broker(oauth):
    return oauth.broker


@pytest.fixture(scope="module")
def certificate(broker, tmp_path_factory):
    """Makes settings with a new certificate of a client."""

    def make(authority=broker.authority, password=b"", days=1):
        folder, now = tmp_path_factory.mktemp("client"), datetime.now(UTC)
        days = timedelta(days=days)
        issued = authority.issue_cert(
            "client@site", not_before=now - timedelta(days=9), not_after=now + days
        )
        files = [folder / name for name in ("client.pem", "client.key")]
        for path, text in zip(files, pem(issued, password), strict=True):
            path.write_bytes(text)
        return {
            "kafka_servers": broker.certificates_address, "kafka_security": "SSL",
            "kafka_ca": broker.ca, "kafka_ssl_certificate": files[0], "kafka_ssl_key": files[1],
            "kafka_ssl_key_password": password.decode(),
        }  # fmt: skip

    return make


@pytest.fixture(scope="module")
def token(oauth):
    """Settings of a login by token."""
    return {
        "kafka_servers": oauth.broker.tokens_address, "kafka_security": "SASL_SSL",
        "kafka_ca": oauth.broker.ca, "kafka_sasl_mechanism": "OAUTHBEARER", "kafka_user": CLIENT,
        "kafka_password": SECRET, "kafka_oauth_token_url": f"{oauth.secure.url}/token",
        "kafka_oauth_ca": oauth.ca, "kafka_oauth_scope": "images",
    }  # fmt: skip


def environment(settings):
    return {config.ENV_PREFIX + key.upper(): str(value) for key, value in settings.items()}


def streamed(home, broker, topic, digits, secrets):
    """Publishes images, streams them and their rows; no file of the home holds a secret."""
    command = ("publish", *digits, "--topic", topic, "--create-topic")
    published = home(*command)
    assert published.returncode == 0, published.stderr
    found = home("doctor")
    assert f"{len(digits)} messages behind" in found.stdout
    done = home("run", "--once", "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    labels = {each["original_name"]: each["label"] for each in home.table().to_pylist()}
    assert set(labels) == {path.name for path in digits}
    assert sum(labels[path.name] == path.parent.name for path in digits) > 0.9 * len(digits)
    rows = [json.loads(each.value) for each in messages(broker, f"{topic}-rows")]
    assert {each["original_name"] for each in rows} == set(labels)
    assert {*map(tuple, json.loads(home("status", "--json").stdout)["lag"].values())} == {(0, 0.0)}
    said = "".join(each.stdout + each.stderr for each in (published, found, done))
    kept = [p for p in home.settings.root.rglob("*") if p.is_file() and "registry" not in p.parts]
    for secret in secrets:
        assert secret not in said
        assert not [p for p in kept if secret.encode() in p.read_bytes()]


def test_a_stream_by_certificate(new_home, broker, starter, topic, certificate):
    settings = certificate(password=KEY_PASSWORD.encode())
    home = new_home(
        **settings, kafka_topic=topic, kafka_predictions_topic=f"{topic}-rows", source="kafka",
    )  # fmt: skip
    opened = kafka.spark_options(config.Settings(**settings).kafka)["kafka.ssl.keystore.key"]
    key = opened.splitlines()[1]
    streamed(home, broker, topic, starter.digits[:20], [KEY_PASSWORD, key])


def test_a_stream_by_token(new_home, broker, oauth, starter, topic, token):
    home = new_home(
        **token, kafka_topic=topic, kafka_predictions_topic=f"{topic}-rows", source="kafka",
    )  # fmt: skip
    streamed(
        home,
        broker,
        topic,
        starter.digits[:20],
        [SECRET, SECRET.split()[0], oauth.plain.token()[:24]],
    )


def test_what_is_refused_is_a_sentence(broker, oauth, certificate, token):
    good, other = certificate(), certificate()
    new = {"kafka_oauth_scope": "other"}  # of which no token is known yet
    wrong = [
        (certificate(authority=trustme.CA()), BrokerRefusedError, "refuses the certificate .*expi"),
        (certificate(days=-1), BrokerRefusedError, "refuses the certificate .* kafka_ssl_certific"),
        ({**good, "kafka_ssl_certificate": None}, BrokerRefusedError, "wants a certificate"),
        ({**good, "kafka_ca": None}, BrokerRefusedError, "set kafka_ca"),
        ({**good, "kafka_ssl_key": other["kafka_ssl_key"]}, ConfigError, "KEY_VALUES_MISMATCH"),
        ({**token, "kafka_password": "wr0ng"}, BrokerRefusedError, "refuses the client 'stream'"),
        ({**token, "kafka_oauth_ca": None}, BrokerRefusedError, "set kafka_oauth_ca"),
        (
            {**token, "kafka_oauth_token_url": "http://localhost:9/token"}, BrokerUnavailableError,
            "the token server http://localhost:9/token does not answer",
        ),
        (
            {**token, "kafka_sasl_mechanism": "SCRAM-SHA-512"}, BrokerRefusedError,
            "takes no login by SCRAM-SHA-512; set kafka_sasl_mechanism",
        ),
    ]  # fmt: skip
    for settings, error, said in wrong:
        begin = time.monotonic()
        with pytest.raises(error, match=said) as refused:
            kafka.connect(config.Settings(**settings).kafka)
        assert time.monotonic() - begin < 15
        assert "wr0ng" not in str(refused.value)
        assert SECRET not in str(refused.value)
    foreign = {"access_token": oauth.plain.token(audience="others"), "expires_in": 3600}
    oauth.secure.answer = json.dumps(foreign).encode()
    try:
        refused = config.Settings(**token | new).kafka
        with pytest.raises(BrokerRefusedError, match="does not accept the token that https"):
            kafka.connect(refused)
    finally:
        oauth.secure.answer = None
    kafka.connect(refused).close()  # with another token


@pytest.mark.slow
@pytest.mark.parametrize("case", ["other authority", "expired", "secret", "away"])
def test_commands_end_within_seconds(new_home, broker, starter, topic, certificate, token, case):
    settings, said = {
        "other authority": (certificate(authority=trustme.CA()), "refuses the certificate"),
        "expired": (certificate(days=-1), "refuses the certificate"),
        "secret": ({**token, "kafka_password": "wr0ng"}, "refuses the client 'stream'"),
        "away": (
            {**token, "kafka_oauth_token_url": "http://localhost:9/t"},
            "token server http://localhost:9/t does not answer",
        ),
    }[case]
    home = new_home(**settings, kafka_topic=topic, source="kafka")
    for command, code in [
        (("run", "--metrics-port", "0"), 7), (("publish", starter.digits[0]), 7), (("doctor",), 1),
    ]:  # fmt: skip
        begin = time.monotonic()
        done = home(*command)
        assert time.monotonic() - begin < 30
        assert done.returncode == code, done.stderr
        shown = " ".join((done.stdout + done.stderr).split())
        assert shown.count(said) == 1, shown
        assert "set kafka_" in shown
        assert "Traceback" not in shown
        assert "wr0ng" not in shown


@pytest.mark.slow
def test_a_stream_outlives_its_tokens_and_an_absence_of_their_server(
    new_home, oauth, starter, topic, token, until, figures, monkeypatch
):
    create(oauth.broker, topic, partitions=2)
    monkeypatch.setattr(oauth.secure, "life", 10)
    before = len(oauth.secure.given)
    home = new_home(
        **token, kafka_topic=topic, kafka_predictions_topic=f"{topic}-rows", source="kafka",
    )  # fmt: skip
    variables = environment(token)
    to = ("--topic", topic, "--rate", 4, "--json")
    with home.running() as run:
        folder = home.settings.root / "sent"
        folder.mkdir()
        for path in starter.digits[:160]:
            shutil.copyfile(path, folder / path.name)
        publishing = Program(
            SimpleNamespace(address=oauth.broker.tokens_address), home.settings.root, "publish",
            folder, *to, **variables,
        )  # fmt: skip
        try:
            until(lambda: home.count() >= 100, 120)  # 25 s later, for which no token lives
            restarts = figures(run)[("sightstream_query_restarts_total",)]
            assert restarts == 0
            assert len(oauth.secure.given) - before >= 6  # two of each of the three processes
            oauth.secure.status = 503
            time_of_death = time.monotonic() + 12
            until(lambda: time.monotonic() > time_of_death, 20)
        finally:
            oauth.secure.status = 0
            publishing.ended()
        assert publishing.code == 0, publishing.err
        assert json.loads(publishing.out)["acknowledged"] == 160
        until(lambda: home.count() == 160, 120)
        gauges = [("sightstream_kafka_lag_records", str(n), topic) for n in (0, 1)]
        until(lambda: [figures(run).get(each) for each in gauges] == [0, 0], 60)
        until(lambda: len(messages(oauth.broker, f"{topic}-rows")) == 160, 60)
    labels = {each["original_name"]: each["label"] for each in home.table().to_pylist()}
    assert len(labels) == 160
