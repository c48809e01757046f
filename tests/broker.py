"""A real Kafka broker as a child process, for the tests and the benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightstream.runtime.jvm import require_java
from tests import ivy

if TYPE_CHECKING:
    import trustme

VERSION = "4.1.2"
MECHANISM = "SCRAM-SHA-512"
USER, PASSWORD = "viewer", 'quo"te \\ and = , ;'
"""Of the SASL_SSL listener; a password that needs every care in quoting."""


class Broker:
    """A node on loopback, with a folder of its own: broker, and controller unless it is the second.

    Attributes:
        address: of the listener without TLS.
        secure_address: of the listener with TLS and SCRAM; empty where there is none.
        certificates_address: of the one that wants a client's certificate; empty likewise.
        tokens_address: of the one with TLS that wants a token; empty likewise.
        authority: signed the broker's certificate, and the ones that it takes.
        ca: its own certificate, as a PEM file.
    """

    def __init__(
        self, folder: Path, *, secure: bool = False, jwks: str = "", beside: Broker | None = None,
        settings: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Formats its storage; `start` begins to serve.

        Args:
            folder: becomes its own; created.
            beside: the first node of a cluster, which this one becomes the second of: no
                controller.
            settings: further ones, which win over ours.
            environment: what its process gets further.
            secure: also listen with TLS and SASL/SCRAM, which needs trustme.
            jwks: where the keys of tokens are; also listen for those and for certificates.
        """
        self.folder = folder
        folder.mkdir(parents=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._classpath = classpath()
        self._jwks, self._environment = jwks, environment or {}
        plain, controller, tls, certificates, tokens = free_ports(5)
        self.address = f"127.0.0.1:{plain}"
        self.secure_address = f"localhost:{tls}" if secure else ""
        self.certificates_address = f"localhost:{certificates}" if jwks else ""
        self.tokens_address = f"localhost:{tokens}" if jwks else ""
        self.ca = folder / "ca.pem"
        listeners = [f"PLAINTEXT://127.0.0.1:{plain}"] + [f"SASL_SSL://localhost:{tls}"] * secure
        if jwks:
            listeners += [
                f"CERTIFICATES://localhost:{certificates}",
                f"TOKENS://localhost:{tokens}",
            ]
        self._voters = beside._voters if beside else f"1@127.0.0.1:{controller}"
        given = dict(settings or {})
        settings = {
            "process.roles": "broker" if beside else "broker,controller",
            "node.id": "2" if beside else "1",
            "controller.quorum.voters": self._voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(
                [*listeners, *([] if beside else [f"CONTROLLER://127.0.0.1:{controller}"])]
            ),
            "advertised.listeners": ",".join(listeners),
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,"
                "CERTIFICATES:SSL,TOKENS:SASL_SSL"
            ),
            "log.dirs": str(folder / "logs"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # Until then the controller takes no other start of a broker that was killed.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
        }
        if secure or jwks:
            settings |= self._certificate()
        if secure:
            settings |= {
                "sasl.enabled.mechanisms": MECHANISM,
                f"listener.name.sasl_ssl.{MECHANISM.lower()}.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                ),
            }
        if jwks:
            settings |= self._logins()
        self._file = folder / "server.properties"
        settings |= given
        self._file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        cluster = ["-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", str(self._file)]
        done = self._java("kafka.tools.StorageTool", "format", *cluster)
        if done.wait(timeout=120):
            raise RuntimeError(f"the broker's storage was not formatted: {self.log}")

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "broker.log").read_text(errors="replace")

    def start(self, timeout: float = 120) -> None:
        """Starts it, again on the same ports, and returns once it answers."""
        from kafka.admin import KafkaAdminClient, UserScramCredentialUpsertion
        from kafka.errors import KafkaError

        self._process = self._java("kafka.Kafka", str(self._file))
        deadline = time.monotonic() + timeout
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker did not start: {self.log}")
            if not _listens(self.address):
                time.sleep(0.1)
                continue
            try:
                with KafkaAdminClient(
                    bootstrap_servers=self.address, bootstrap_timeout_ms=5000
                ) as admin:
                    if self.secure_address:
                        answer = admin.alter_user_scram_credentials(
                            [UserScramCredentialUpsertion(USER, MECHANISM, PASSWORD)]
                        )
                        if answer != {USER: None}:
                            raise RuntimeError(f"the broker took no user: {answer}")
            except KafkaError:
                continue
            return

    def kill(self) -> None:
        """Ends it by SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends it in order."""
        self._end(signal.SIGTERM)

    def suspend(self) -> None:
        """Lets it stand still by SIGSTOP, until `resume`."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(number)
            self._process.wait(timeout=60)
            self._process = None

    def _java(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [
            require_java(),
            "-Xmx300m",
            "-Dlog4j2.level=INFO",
            f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self._jwks}",
            "-cp",
            self._classpath,
            *arguments,
        ]
        with (self.folder / "broker.log").open("ab") as log:
            return subprocess.Popen(
                command, env={**os.environ, **self._environment}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _certificate(self) -> dict[str, str]:
        import trustme

        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(self.ca)
        certificate, key = pem(self.authority.issue_cert("localhost"))
        store = self.folder / "broker.pem"
        store.write_bytes(key + certificate)
        return {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(store)}

    def _logins(self) -> dict[str, str]:
        """Of listeners that want a client's certificate, or a token."""
        classes = "org.apache.kafka.common.security.oauthbearer.OAuthBearer"
        tokens = "listener.name.tokens.oauthbearer"
        return {
            "listener.name.certificates.ssl.client.auth": "required",
            "listener.name.certificates.ssl.truststore.type": "PEM",
            "listener.name.certificates.ssl.truststore.location": str(self.ca),
            "listener.name.tokens.sasl.enabled.mechanisms": "OAUTHBEARER",
            f"{tokens}.sasl.jaas.config": f"{classes}LoginModule required;",
            f"{tokens}.sasl.server.callback.handler.class": f"{classes}ValidatorCallbackHandler",
            f"{tokens}.sasl.oauthbearer.jwks.endpoint.url": self._jwks,
            f"{tokens}.sasl.oauthbearer.expected.audience": "kafka",
            f"{tokens}.sasl.oauthbearer.clock.skew.seconds": "1",
            # A connection lives as long as its token, unless the client logs in again.
            f"{tokens}.connections.max.reauth.ms": "3600000",
        }


def pem(certificate: trustme.LeafCert, password: bytes = b"") -> tuple[bytes, bytes]:
    """A certificate with those above it, and its key as Java reads it: PKCS #8."""
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    hidden = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    chain = b"".join(each.bytes() for each in certificate.cert_chain_pems)
    return chain, key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, hidden)


@contextmanager
def running(folder: Path, **arguments: Any) -> Iterator[Broker]:
    """A broker that serves until the block ends; arguments as `Broker` has them."""
    broker = Broker(folder, **arguments)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


def classpath() -> str:
    """The jars of the broker and of its command line's tools, as Java takes them.

    Raises:
        EnvironmentUnfitError: they cannot be fetched.
    """
    found = ivy.fetch(
        f"kafka-{VERSION}", f"org.apache.kafka:kafka_2.13:{VERSION}",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3", transitive=True,
    )  # fmt: skip
    found += ivy.fetch(f"kafka-tools-{VERSION}", f"org.apache.kafka:kafka-tools:{VERSION}")
    return ":".join(map(str, found))


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
