"""What sightstream.runtime.pyspark_inside reaches, in the pyspark that is installed."""

import logging
import os
import socket
from contextlib import contextmanager

import psutil
import pytest

from sightstream.runtime import pyspark_inside as inside
from sightstream.runtime import spark
from streaming import start

SECRET_OPTION = "spark.hadoop.fs.s3a.secret.key"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder, options = tmp_path_factory.mktemp("contract"), {SECRET_OPTION: "hunter2"}
    made = spark.start("contract", folder, "local[2]", options=options)
    yield made
    spark.stop(made)


@pytest.fixture(autouse=True)
def nothing_is_missing(caplog):
    inside._missing.cache_clear()
    with caplog.at_level(logging.WARNING, "sightstream"):
        yield
    assert [each.getMessage() for each in caplog.records if each.name == "sightstream"] == []


def test_the_jvm_is_known_as_long_as_it_runs(session):
    assert inside.has_jvm() is True
    assert inside.jvm_has_ended() is False
    assert spark.is_alive(session)


def test_the_driver_is_an_executor(session):
    (driver,) = inside.executors(session.sparkContext)
    assert driver.tasks == 0
    assert 0 <= driver.storage_used < driver.storage_all


def test_the_heap_has_bounds(session):
    heap = inside.heap(session.sparkContext)
    assert 0 < heap["used"] < heap["most"] <= 2**30


def test_secrets_reach_the_jvm_and_are_not_on_its_command_line(session):
    line = " ".join(psutil.Process(inside._jvm_process().pid).cmdline())
    assert "spark.ui.enabled=false" in line
    assert "hunter2" not in line
    hadoop = session.sparkContext._jsc.hadoopConfiguration()
    assert hadoop.get(SECRET_OPTION.removeprefix("spark.hadoop.")) == "hunter2"


@contextmanager
def serving(pid=None):
    """The port of py4j's server in Python; with a process's id, for the connections of that one."""
    from py4j.clientserver import ClientServer, JavaParameters, PythonParameters

    quiet = {"eager_load": False, "daemonize": True, "daemonize_connections": True}
    gateway = ClientServer(JavaParameters(port=1), PythonParameters(port=0, **quiet))
    if pid:
        inside._answer_alone(gateway, pid)
    gateway.start_callback_server()
    try:
        yield gateway.get_callback_server().get_listening_port()
    finally:
        gateway.shutdown_callback_server()


def said(port):
    """What it answers a call of an object that is not there; nothing where it hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as opened:
        try:
            opened.sendall(b"c\nnone\ne\n")
            return opened.recv(100)
        except ConnectionError:
            return b""


def answers(port):
    try:
        return said(port) is not None
    except ConnectionRefusedError:  # it does not listen yet
        return False


def test_python_s_server_answers_one_process_alone(until, caplog):
    for pid, known in ((None, True), (os.getpid(), True), (os.getppid(), False)):
        with serving(pid) as port:
            until(lambda port=port: answers(port))
            assert (b"unknown" in said(port)) == known
            assert (said(port) == b"") != known
    caplog.clear()


def test_the_jvm_reaches_python_s_server_and_others_do_not(session, tmp_path, caplog):
    rate = session.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load()
    seen = []
    writer = rate.writeStream.foreachBatch(lambda _, number: seen.append(number))
    query = writer.option("checkpointLocation", tmp_path).trigger(availableNow=True).start()
    assert query.awaitTermination(60)
    assert seen
    assert said(session.sparkContext._gateway.get_callback_server().get_listening_port()) == b""
    assert "was refused: not of its JVM" in caplog.text
    caplog.clear()


def test_a_connection_that_is_closed_is_made_anew(session):
    inside.interrupt(session.sparkContext)
    assert session.range(3).count() == 3


def test_checkpoints_are_plain_files(session, tmp_path):
    name = inside.checkpoint_file_manager(session.sparkContext)
    assert session.conf.get("spark.sql.streaming.checkpointFileManagerClass") == name
    rate = session.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load()
    writer = rate.writeStream.foreachBatch(lambda *_: None)
    query = writer.option("checkpointLocation", tmp_path).trigger(availableNow=True).start()
    assert query.awaitTermination(60)
    assert (tmp_path / "commits" / "0").exists()
    assert list(tmp_path.rglob("*.crc")) == []


def test_a_worker_takes_the_installed_pyspark(session):
    import pyspark

    found = session.sparkContext.parallelize(range(2), 2).map(lambda _: pyspark.__file__)
    assert set(map(os.path.realpath, found.collect())) == {os.path.realpath(pyspark.__file__)}


def test_what_is_missing_is_logged_once_and_nothing_fails(session, caplog):
    class Other:
        """A context as no pyspark has it."""

    assert inside.executors(Other()) is None
    assert inside.executors(Other()) is None
    assert [each.getMessage() for each in caplog.records] == [
        "executors is not in this pyspark as in Spark 4.0 to 4.3: "
        "'Other' object has no attribute '_jsc'"
    ]
    caplog.clear()


def test_the_options_of_the_streams_plans_are_sparks(session):
    """Spark takes any name, and one that it has no more would have no effect."""
    named = [name for name in start.SPARK if name.startswith("spark.sql.")]
    assert len(named) == 3
    assert [name for name in named if not session.conf.isModifiable(name)] == []
    assert not session.conf.isModifiable("spark.sql.codegen.none")
