"""The Unix sockets between Spark's JVM and Python: short, private, and gone with their owners."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from sightstream.errors import EnvironmentUnfitError
from sightstream.runtime import spark

SCRIPT = """
import sys
import time
from pathlib import Path
from sightstream.runtime import spark

session = spark.start("sockets", Path(sys.argv[1]), "local[2]")
counted = session.sparkContext.accumulator(0)
session.sparkContext.parallelize(range(4), 2).foreach(lambda n: counted.add(n))
rows = session.range(3).mapInPandas(lambda found: found, "id long").toArrow()
folder = session.conf.get("spark.python.unix.domain.socket.dir")
print(counted.value, rows.num_rows, folder, flush=True)
sys.stdin.readline()
spark.stop(session)
"""


def begun(home):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, home],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_home_of_a_long_path_has_them_elsewhere_and_a_kill_leaves_none(tmp_path, until):
    home = tmp_path / ("long" * 40)
    with begun(home) as process:
        try:
            counted, rows, folder = process.stdout.readline().split()
            assert (counted, rows) == ("6", "3"), process.communicate("\n", timeout=60)
            folder = Path(folder)
            assert folder.parent == Path(tempfile.gettempdir())
            assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IRWXU
            sockets = [each for each in folder.iterdir() if each.is_socket()]
            assert sockets
            assert {stat.S_IMODE(each.stat().st_mode) & 0o077 for each in sockets} <= {0, 0o055}
            process.send_signal(signal.SIGKILL)
            process.wait()
            # The program's own is left, until the next start looks for sockets of the dead.
            until(lambda: len(list(folder.iterdir())) <= 1, 30)
            assert spark._socket_folder(spark.scratch_folder(home, "sockets")) == folder
            assert list(folder.iterdir()) == []
        finally:
            process.kill()
    spark.clear(home, "sockets")
    assert not folder.exists()


def test_a_session_that_is_stopped_leaves_nothing_elsewhere(tmp_path):
    with begun(tmp_path / ("long" * 40)) as process:
        printed, errors = process.communicate("\n", timeout=120)
    assert process.returncode == 0, errors
    folder = Path(printed.split()[2])
    assert folder.parent == Path(tempfile.gettempdir())
    assert not folder.exists()


def test_a_folder_that_was_removed_is_made_again(tmp_path):
    session = spark.start("sockets", tmp_path / ("long" * 40), "local[2]")

    def rows():
        return session.range(3).mapInPandas(lambda found: found, "id long").toArrow().num_rows

    try:
        assert rows() == 3
        folder = Path(session.conf.get("spark.python.unix.domain.socket.dir"))
        shutil.rmtree(folder)
        spark.renew_sockets(session)
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IRWXU
        assert rows() == 3
    finally:
        spark.stop(session)


def test_they_are_in_the_scratch_folder_where_that_is_short(tmp_path):
    with tempfile.TemporaryDirectory() as short:
        folder = spark._socket_folder(Path(short))
        assert folder == Path(short, "sockets")
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IRWXU


@pytest.mark.parametrize("mode", [0o777, 0o750])
def test_a_folder_that_others_can_enter_is_not_used(mode, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    scratch = tmp_path / ("long" * 20)
    taken = spark._short(scratch)
    taken.mkdir()
    try:
        taken.chmod(mode)
        assert spark._socket_folder(scratch) is None
        assert (
            spark._folders(scratch, local=True)["spark.python.unix.domain.socket.enabled"]
            == "false"
        )
    finally:
        taken.rmdir()


def test_one_that_others_can_enter_in_its_place_ends_the_stream(tmp_path):
    scratch = tmp_path / ("long" * 20)
    folder = spark._short(scratch)
    options = {"spark.local.dir": str(scratch), "spark.python.unix.domain.socket.dir": str(folder)}
    session = SimpleNamespace(conf=options)
    try:
        spark.renew_sockets(session)
        spark.renew_sockets(session)
        folder.chmod(0o777)
        with pytest.raises(EnvironmentUnfitError, match="is open to other users"):
            spark.renew_sockets(session)
    finally:
        folder.rmdir()


def test_a_link_that_another_user_has_set_is_not_followed(tmp_path):
    scratch, private = tmp_path / ("long" * 20), tmp_path / "private"
    private.mkdir(mode=0o700)
    link = spark._short(scratch)
    link.symlink_to(private)
    try:
        assert spark._socket_folder(scratch) is None
    finally:
        link.unlink()
