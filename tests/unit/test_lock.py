"""Locks on files."""

import fcntl
import os
import subprocess
import sys

import pytest

from sightstream.errors import AlreadyRunningError, EnvironmentUnfitError
from sightstream.io import lock


def test_a_locked_file_lets_nobody_else_in_until_it_is_given_back(tmp_path):
    at_once = fcntl.LOCK_EX | fcntl.LOCK_NB
    refused = pytest.raises(BlockingIOError)
    with lock.locked(tmp_path / "a"), refused, lock.locked(tmp_path / "a", at_once):
        pass
    with lock.locked(tmp_path / "a", at_once):
        pass


def test_a_home_is_held_by_one_whose_number_the_other_is_given(tmp_path):
    root = tmp_path / "home"
    assert not lock.is_held(root)
    with lock.held(root):
        assert lock.is_held(root)
        refused = pytest.raises(AlreadyRunningError, match=f"process {os.getpid()} runs on {root}")
        with refused, lock.held(root):
            pass
        assert lock.is_held(root)
    assert not lock.is_held(root)


def test_a_killed_process_holds_nothing(tmp_path):
    code = (
        "import os, pathlib, sys; from sightstream.io import lock\n"
        "with lock.held(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == -9
    assert (tmp_path / "lock").read_text() != str(os.getpid())
    with lock.held(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_an_error_of_the_block_stays_what_it_is(tmp_path):
    with pytest.raises(BlockingIOError), lock.held(tmp_path):
        raise BlockingIOError


def test_a_home_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    refused = pytest.raises(EnvironmentUnfitError, match="cannot be written to: Not a directory")
    with refused, lock.held(tmp_path / "file" / "home"):
        pass
