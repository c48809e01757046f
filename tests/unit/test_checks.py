"""The checks of the stream and of training, each with the fault that it must name."""

import fcntl
import os
import socket
import stat
import time
from pathlib import Path

import pytest

from streaming import checks
from streaming.folder import stuck


@pytest.mark.parametrize("name", ["inbox", "images", "predictions", "checkpoints", "logs"])
def test_a_file_where_a_folder_must_be_is_told(look, settings, name):
    settings.root.mkdir()
    (settings.root / name).touch()
    check = look("folders")
    assert not check.ok
    assert f"{settings.root / name} is in the way" in check.detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(look, settings):
    settings.root.mkdir()
    settings.root.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert "cannot be written" in look("folders").detail


@pytest.mark.skipif(
    not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == Path("/tmp").stat().st_dev,
    reason="there is only one file system",
)
def test_an_inbox_on_another_file_system_is_told(look, settings):
    settings.root.mkdir()
    settings.inbox.symlink_to("/dev/shm")
    check = look("folders")
    assert check.ok
    assert "is on another file system, from which images are copied" in check.detail


def test_an_inbox_that_is_not_mounted_is_told(look, settings, tmp_path):
    settings.root.mkdir()
    settings.inbox.symlink_to(tmp_path / "nas")
    sentence = (
        f"the inbox {settings.inbox} is a link to {tmp_path}/nas, which is not there: mount it"
    )
    assert (look("folders").detail, look("inbox").detail) == (sentence, sentence)
    assert not look("folders").ok and not look("inbox").ok


def test_what_is_stuck_in_the_inbox_is_told(look, settings):
    assert look("inbox").ok
    settings.root.mkdir()
    paths = [os.fsencode(settings.inbox / name) for name in ("a\nb.jpg", "c.jpg")]
    why = dict.fromkeys(paths, "cannot be read: Permission denied")
    stuck.write(settings.stuck, os.fsencode(settings.inbox), why)
    check = look("inbox")
    assert not check.ok
    assert "2 file(s) stay in the inbox, such as a\\nb.jpg: it cannot be read" in check.detail
    settings.stuck.write_text('{"count": ')
    assert look("inbox").ok


def test_a_full_disk_is_told(look, monkeypatch):
    monkeypatch.setattr(checks, "FREE_BYTES", 2**62)
    check = look("disk")
    assert not check.ok
    assert "make room" in check.detail


def test_a_checkpoint_that_tells_another_story_is_told(look, settings, table):
    (settings.checkpoint("folder") / "commits").mkdir(parents=True)
    (settings.checkpoint("folder") / "metadata").write_text('{"id": "app"}')
    (settings.checkpoint("folder") / "commits" / "0").write_text("v1\n{}")
    assert look("checkpoint").ok
    (settings.checkpoint("folder") / "commits" / "1").write_text("v1\n{}")
    check = look("checkpoint")
    assert not check.ok
    assert "was replaced" in check.detail


def test_a_clock_behind_the_newest_manifest_is_told(look, settings):
    settings.manifests.mkdir(parents=True)
    (settings.manifests / f"{time.time_ns():020d}.arrow").touch()
    assert look("clock").ok
    (settings.manifests / f"{time.time_ns() + 10**12:020d}.arrow").touch()
    check = look("clock")
    assert not check.ok
    assert "earlier than the newest manifest" in check.detail


def test_a_clock_that_was_never_set_is_told(look, monkeypatch):
    monkeypatch.setattr(checks.time, "time", lambda: 0.0)
    assert "1970-01-01 00:00:00 UTC, earlier than this program" in look("clock").detail


def test_a_taken_port_is_told_with_who_has_it(look, settings):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check = look("metrics port", metrics_port=port)
        assert not check.ok
        assert f"(process {os.getpid()})" in check.detail

        settings.root.mkdir()
        with (settings.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            check = look("metrics port", metrics_port=port)
        assert check.ok
        assert "the sightstream that runs" in check.detail
    assert look("metrics port", metrics_port=port).detail == f"{port} is free"


def test_an_address_of_another_machine_is_told(look):
    check = look("metrics port", metrics_host="192.0.2.1")
    assert not check.ok
    assert "set metrics_host to an address of this machine" in check.detail


def test_tensorflow_cpu_beside_tensorflow_is_told(look, package):
    package("tensorflow-cpu", "2.19.1")
    check = look("training")
    assert not check.ok
    assert "tensorflow-cpu has overwritten files of tensorflow" in check.detail


def test_training_that_is_not_installed_is_no_fault(look, monkeypatch):
    monkeypatch.setattr("sightstream.cli.extras.installed", lambda _: "")
    assert look("training").detail == "not installed: pip install 'sightstream[train]'"
