"""Locks, and files that a crash leaves whole."""

import fcntl
import os
import stat
import subprocess
import sys

import pytest

from sightstream.errors import AlreadyRunningError, EnvironmentUnfitError
from sightstream.io import disk


def test_a_locked_file_lets_nobody_else_in_until_it_is_given_back(tmp_path):
    at_once = fcntl.LOCK_EX | fcntl.LOCK_NB
    refused = pytest.raises(BlockingIOError)
    with disk.locked(tmp_path / "a"), refused, disk.locked(tmp_path / "a", at_once):
        pass
    with disk.locked(tmp_path / "a", at_once):
        pass


def test_a_home_is_held_by_one_whose_number_the_other_is_given(tmp_path):
    root = tmp_path / "home"
    assert not disk.is_held(root)
    with disk.held(root):
        assert disk.is_held(root)
        refused = pytest.raises(AlreadyRunningError, match=f"process {os.getpid()} runs on {root}")
        with refused, disk.held(root):
            pass
        assert disk.is_held(root)
    assert not disk.is_held(root)


def test_a_folder_that_is_not_mounted_is_named(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("nas")
    why = f"is a link to {tmp_path}/nas, which is not there: mount it"
    assert disk.dangling(tmp_path / "a") == why
    with pytest.raises(EnvironmentUnfitError, match=f"^the home folder {tmp_path}/a {why}$"):
        disk.held(tmp_path / "a").__enter__()
    (tmp_path / "nas").mkdir()
    assert not disk.dangling(tmp_path / "a") and not disk.dangling(tmp_path / "none")


def test_a_killed_process_holds_nothing(tmp_path):
    code = (
        "import os, pathlib, sys; from sightstream.io import disk\n"
        "with disk.held(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == -9
    assert (tmp_path / "lock").read_text() != str(os.getpid())
    with disk.held(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_scratch_of_a_killed_process_goes_and_that_of_another_stays(tmp_path):
    code = (
        "import os, pathlib, sys; from sightstream.io import disk\n"
        "with disk.scratch(pathlib.Path(sys.argv[1]), 'a-') as mine:\n"
        "    (mine / 'file').touch(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == -9
    (killed,) = tmp_path.iterdir()
    (tmp_path / "b-another").mkdir()
    with disk.scratch(tmp_path, "a-") as one, disk.scratch(tmp_path, "a-") as two:
        assert {*tmp_path.iterdir()} == {one, two, tmp_path / "b-another"}
        assert killed not in {one, two}
    assert {*tmp_path.iterdir()} == {tmp_path / "b-another"}


def test_an_error_of_the_block_stays_what_it_is(tmp_path):
    with pytest.raises(BlockingIOError), disk.held(tmp_path):
        raise BlockingIOError


def test_a_home_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    why = "cannot be written to: Not a directory; give another one with --home, or change its perm"
    refused = pytest.raises(EnvironmentUnfitError, match=f"^the home folder .*/file/home {why}")
    with refused, disk.held(tmp_path / "file" / "home"):
        pass


@pytest.fixture
def steps(monkeypatch):
    """What is synced and renamed, in this order."""
    done, fsync, replace = [], os.fsync, os.replace

    def syncs(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        done.append(kind)
        fsync(descriptor)

    def renames(*paths, **other):
        done.append("rename")
        replace(*paths, **other)

    monkeypatch.setattr(os, "fsync", syncs)
    monkeypatch.setattr(os, "replace", renames)
    return done


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, steps):
    for content in (b"old", b"new"):
        steps.clear()
        disk.replace(tmp_path / "position.json", content)
        assert (tmp_path / "position.json").read_bytes() == content
        assert steps == ["file", "rename", "folder"]
    assert [each.name for each in tmp_path.iterdir()] == ["position.json"]


def test_a_crash_before_the_rename_leaves_the_old_content(tmp_path, monkeypatch):
    disk.replace(tmp_path / "a", b"old")

    def crash(_):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="no space"):
        disk.replace(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_lock_of_another_name_is_told_apart(tmp_path):
    with disk.locked(tmp_path / "training"):
        assert disk.is_held(tmp_path, "training") and not disk.is_held(tmp_path)
    assert not disk.is_held(tmp_path, "training")
