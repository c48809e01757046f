"""The page and MLflow's server: whoever asks for another host, or from another site, is refused."""

import os
import socket
import struct
import subprocess
import sys
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from sightstream.io.address import free_port
from tests import compose
from tests.conftest import end_session
from tests.tiny_model import register

BIN = Path(sys.executable).parent.resolve()

FOREIGN = [
    "evil.example",
    "localhost.evil.example",
    "evil.example@localhost",
    "",
    "127.0.0.1.nip.io",
]


def asked(port, path="/", method="GET", body=None, **headers):
    """The status and the headers that answer a request with exactly these headers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    if body is not None:
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}


def upgraded(port, **headers):
    """The status that answers the upgrade to a WebSocket; 101 where it is one now."""
    key = {"upgrade": "websocket", "connection": "Upgrade", "sec_websocket_version": "13",
           "sec_websocket_key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
    return asked(port, "/_stcore/stream", **headers, **key)[0]


@pytest.fixture
def page(tiny_home):
    """The port of a page that runs with settings."""
    running = []

    def serving(*flags, **settings):
        running.append(tiny_home(**settings).serving(*flags))
        return urlsplit(running[-1].__enter__().url).port

    yield serving
    for each in running:
        each.__exit__(None, None, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_page_refuses_foreign_hosts_and_origins(page, host):
    port = page("--host", host)
    for name in ("localhost", "127.0.0.1", "[::1]", "192.0.2.7"):
        ours = f"{name}:{port}"
        assert asked(port, host=ours)[0] == 200
        assert asked(port, host=ours, origin=f"http://{ours}")[0] == 200
        assert upgraded(port, host=ours, origin=f"http://{ours}") == 101
    for name in FOREIGN:
        for path in ("/", "/_stcore/health", "/_stcore/upload_file/a/b", "/media/x.png"):
            assert asked(port, path, host=f"{name}:{port}")[0] == 403, (name, path)
        assert upgraded(port, host=f"{name}:{port}", origin=f"http://{name}:{port}") == 403
    ours = f"localhost:{port}"
    for origin in (
        "http://evil.example", f"http://evil.example:{port}", "null", "file://",
        "http://localhost:1", "http://localhost", f"http://127.0.0.1:{port}",
    ):  # fmt: skip
        assert asked(port, host=ours, origin=origin)[0] == 403, origin
        assert (
            asked(port, "/_stcore/upload_file/a/b", "PUT", b"x", host=ours, origin=origin)[0] == 403
        )
        assert upgraded(port, host=ours, origin=origin) == 403, origin


def test_the_page_takes_what_a_named_proxy_sends_whether_it_keeps_the_host_or_not(page):
    port = page(web_hosts="Photos.example,other.example")
    for host in ("photos.example", f"127.0.0.1:{port}"):
        ours = {"host": host, "origin": "https://photos.example"}
        assert asked(port, **ours)[0] == 200
        assert upgraded(port, **ours) == 101
    assert upgraded(port, host="photos.example", origin="https://evil.example") == 403
    assert asked(port, host="evil.example")[0] == 403


def test_a_request_with_two_hosts_is_refused(page):
    port = page()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(
            f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nHost: evil.example\r\n\r\n".encode()
        )
        assert connection.recv(100).split()[1] in (b"400", b"403")


@contextmanager
def window(port):
    """The WebSocket of a window that shows the page."""
    place = f"127.0.0.1:{port}"
    with connect(
        f"ws://{place}/_stcore/stream", origin=f"http://{place}", subprotocols=["streamlit"],
        max_size=None,
    ) as opened:  # fmt: skip
        yield opened


def test_the_page_is_drawn_for_its_own_origin_and_ends_well_with_an_open_window(
    tiny_home, tmp_path
):
    home = tiny_home()
    register(home.settings, "tiny", tmp_path / "version")
    with home.serving() as process, window(urlsplit(process.url).port) as opened:
        asked_for = BackMsg()
        asked_for.rerun_script.query_string = ""
        opened.send(asked_for.SerializeToString())
        drawn, finished = "", False
        while not finished:
            said = ForwardMsg.FromString(opened.recv(timeout=60))
            drawn, finished = drawn + str(said), said.WhichOneof("type") == "script_finished"
        assert "distinguishes 3 labels" in drawn
        process.terminate()
        assert process.wait(timeout=60) == 0


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory, until):
    """The port of MLflow's server, which runs by the command of docker-compose.yml."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command, environment = compose.mlflow(folder, port)
    # Its flags are looked at, not its path.
    assert command[:2] == ["mlflow", "server"]
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [str(BIN / "mlflow"), *command[1:]], stdout=log, stderr=log,
        env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: _listens(port), 120)
        yield port
    finally:
        end_session(process)
        log.close()


def _listens(port):
    try:
        return asked(port, "/health", host=f"localhost:{port}")[0] == 200
    except OSError:
        return False


SEARCH = "/api/2.0/mlflow/registered-models/search?max_results=1"
CREATE = "/api/2.0/mlflow/registered-models/create"


def test_mlflow_s_server_answers_its_clients_and_refuses_foreign_hosts(mlflow):
    for name in ("mlflow", "localhost", "127.0.0.1"):
        assert asked(mlflow, SEARCH, host=f"{name}:{mlflow}")[0] == 200
    for name in FOREIGN:
        for path in ("/", SEARCH, "/graphql"):
            assert asked(mlflow, path, host=f"{name}:{mlflow}")[0] in (400, 403), (name, path)


def test_mlflow_s_server_changes_nothing_for_foreign_origins_and_lets_none_read(mlflow):
    ours, json = f"localhost:{mlflow}", {"content_type": "application/json"}
    for number, origin in enumerate(
        ("http://evil.example", "null", f"http://evil.example:{mlflow}")
    ):
        body = f'{{"name": "m{number}"}}'.encode()
        status, _ = asked(mlflow, CREATE, "POST", body, host=ours, origin=origin, **json)
        assert status == 403, origin
        _, headers = asked(mlflow, SEARCH, host=ours, origin=origin)
        assert "access-control-allow-origin" not in headers, origin
    status, _ = asked(mlflow, CREATE, "POST", b'{"name": "ours"}', host=ours,
                      origin=f"http://{ours}", **json)  # fmt: skip
    assert status == 200


def listeners(process):
    """Addresses that a process and all below it listen on, with the name of each process."""
    family = [process, *process.children(recursive=True)]
    return [
        (each.name(), found.laddr.ip, found.laddr.port)
        for each in family for found in each.net_connections("tcp")
        if found.status == psutil.CONN_LISTEN
    ]  # fmt: skip


def replied(port, *parts):
    """What a server says to bytes, up to the end of its first answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.settimeout(10)
        connection.sendall(b"".join(parts))
        try:
            return connection.recv(2**16)
        except TimeoutError:
            return b""


def hangs_up(port):
    """Whether a server in Python ends the connection of who is neither its JVM nor has a token."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            connection.sendall(20 * b"c\nnone\ne\n")
            return connection.recv(100) == b""
        except ConnectionError:
            return True


def refusal(port):
    """How a port of the JVM refuses who has no secret: as Spark, or as py4j."""
    body = b"hello, who are you?"
    head = struct.pack(">BqI", 3, 1, len(body))  # Spark's frame of a call, and its number
    said = replied(port, struct.pack(">q", 8 + len(head) + len(body)), head, body)
    if b"Sasl" in said:
        return "spark"
    said = replied(port, b"r\nu\njava.lang.Runtime\nrj\ne\n")  # to look at a name
    return "py4j" if b"uthentication" in said else f"{port} says {said!r}"


def test_a_stream_listens_on_loopback_alone_and_answers_nobody_without_a_secret(
    tiny_home, tmp_path
):
    home = tiny_home()
    register(home.settings, "tiny", tmp_path / "version")
    with home.running() as process:
        port = urlsplit(process.metrics_url).port
        found = listeners(psutil.Process(process.pid))
        assert {address.removeprefix("::ffff:") for _, address, _ in found} == {"127.0.0.1"}
        ports = [each for name, _, each in found if name == "java"]
        assert sorted(map(refusal, ports)) == ["py4j", "spark", "spark"]
        own = psutil.Process(process.pid).net_connections("tcp")
        others = {each.laddr.port for each in own if each.status == psutil.CONN_LISTEN} - {port}
        assert others
        for each in others:
            assert hangs_up(each), each
        for host in ("localhost", "127.0.0.1", f"[::1]:{port}", f"localhost:{port}"):
            assert asked(port, "/metrics", host=host)[0] == 200, host
        for name in FOREIGN:
            assert asked(port, "/metrics", host=f"{name}:{port}")[0] == 403, name
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert asked(port, "/metrics", method, b"", host="localhost")[0] in (405, 501)
        _, headers = asked(port, "/metrics", host="localhost", origin="http://evil.example")
        assert "access-control-allow-origin" not in headers


def test_spark_s_master_ends_no_application_and_takes_none_by_http(tmp_path, until):
    """With the options of docker-compose.yml."""
    port, log = free_port(), tmp_path / "log"
    environment = {**os.environ, **compose.read()["services"]["spark-master"]["environment"],
                   "SPARK_LOCAL_IP": "127.0.0.1",
                   "PATH": f"{BIN}:{os.environ['PATH']}"}  # fmt: skip
    command = ["org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", "0"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(BIN / "spark-class"), *command, "--webui-port", str(port)],
            env=environment, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: "I have been elected leader" in log.read_text())
        family = {port for _, _, port in listeners(psutil.Process(process.pid))}
        assert len(family) == 2, log.read_text()  # its own, and its page
        for kind in ("app", "driver"):
            path = f"/{kind}/kill/?id={kind}-1&terminate=true"
            assert asked(port, path, "POST", b"", host=f"localhost:{port}")[0] in (404, 405), path
    finally:
        end_session(process)
