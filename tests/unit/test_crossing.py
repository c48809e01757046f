"""streaming.folder.crossing: an inbox on another file system loses, doubles and forgets nothing."""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from producers.inbox import dropping
from sightstream.images.limits import Rejected
from sightstream.images.store import local_path, read
from streaming.folder import crossing
from tests.intakes import intake_of

SHM = Path("/dev/shm")


@pytest.fixture
def inbox(settings, tmp_path):
    """An inbox that is a link, as a stand-in for a mount."""
    if not SHM.is_dir() or SHM.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip(f"{SHM} is no other file system here")
    with tempfile.TemporaryDirectory(dir=SHM) as folder:
        settings.root.mkdir()
        settings.inbox.symlink_to(folder)
        yield Path(folder)


def test_each_file_is_taken_once_whatever_its_name_and_kind(inbox, settings, told, left):
    names = [b"x.jpg", b"caf\xe9.jpg", b"sub/line\nbreak.png"]
    for name in names:
        path = inbox / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name)
    (inbox / "link.png").symlink_to("/etc/passwd")
    os.mkfifo(inbox / "pipe.png")
    assert intake_of(settings).drain() == 5
    events = {event.original_name: event for event in told()}
    assert {events[n].error_code for n in ("link.png", "pipe.png")} == {"unreadable"}
    kept = [Path(local_path(e.uri)) for e in events.values() if not e.error_code]
    assert sorted(path.read_bytes() for path in kept) == sorted(names)
    assert not left()
    assert len([*settings.images.glob("*/*/*")]) == 5


def test_a_full_disk_is_waited_for_and_costs_nothing(inbox, settings, told, left, monkeypatch):
    (inbox / "x.jpg").write_bytes(b"picture")
    intake = intake_of(settings)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                intake.take()
    assert not told()
    assert intake.drain() == 0  # it is the recovery that takes it
    (event,) = told()
    assert event.original_name == "x.jpg"
    assert Path(local_path(event.uri)).read_bytes() == b"picture"
    assert not left()


@pytest.mark.parametrize("fault", [None, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_what_cannot_be_read_stays_under_its_name(inbox, settings, told, left, monkeypatch, fault):
    def no_links(*_, **__):
        raise OSError(fault, os.strerror(fault))

    if fault:
        monkeypatch.setattr(os, "link", no_links)
    (inbox / "x.jpg").write_bytes(b"picture")

    def broken(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shutil, "copyfile", broken)
    assert intake_of(settings).drain() == 0
    assert not told()
    assert left() == {b"x.jpg"}
    monkeypatch.undo()
    assert intake_of(settings).drain() == 1
    assert [event.original_name for event in told()] == ["x.jpg"]


def test_drop_brings_files_there(inbox, settings, tmp_path, left):
    (tmp_path / "x.png").write_bytes(b"picture")
    with dropping(settings.inbox, settings.staging) as drop:
        drop(tmp_path / "x.png", Path("x.png"))
        drop(tmp_path / "x.png", Path("x.png"))
    assert left() == {b"x.png", b"x (2).png"}
    assert [each.name for each in inbox.iterdir() if each.is_dir()] == []


def test_a_file_that_becomes_a_link_amid_its_move_is_not_followed(
    inbox, settings, told, tmp_path, monkeypatch
):
    (tmp_path / "secret.png").write_bytes(b"secret")
    (inbox / "x.jpg").write_bytes(b"picture")

    def swap(_):
        (held,) = inbox.glob(".sightstream-*")
        held.unlink()
        held.symlink_to(tmp_path / "secret.png")
        return True

    monkeypatch.setattr(crossing, "stat", SimpleNamespace(S_ISREG=swap))
    assert intake_of(settings).drain() == 1
    (event,) = told()
    assert isinstance(read(local_path(event.uri)), Rejected)
