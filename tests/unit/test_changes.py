"""Waiting for what comes into a folder."""

import os
import sys
import time
from threading import Timer

import pytest

from sightstream.io import changes

told = pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")


@pytest.fixture
def waited(tmp_path):
    """Seconds that a wait for a folder took."""

    def wait(seconds, folder=tmp_path):
        begin = time.monotonic()
        changes.wait(os.fsencode(folder), seconds)
        return time.monotonic() - begin

    return wait


def written(folder):
    (folder / "written").write_bytes(b"x")


def moved_in(folder):
    aside = folder.with_name("aside")
    aside.write_bytes(b"x")
    aside.rename(folder / "moved in")


@told
@pytest.mark.parametrize("come", [written, moved_in])
def test_what_comes_ends_it(waited, tmp_path, come):
    timer = Timer(0.2, come, [tmp_path])
    timer.start()
    assert waited(60) < 30
    timer.join()


@told
def test_what_came_meanwhile_ends_the_next_one(waited, tmp_path):
    waited(0)
    written(tmp_path)
    assert waited(60) < 30
    assert waited(0.1) >= 0.1


def test_what_goes_does_not_end_it(waited, tmp_path):
    written(tmp_path)
    waited(0)
    (tmp_path / "written").unlink()
    assert waited(0.1) >= 0.1


def test_nothing_is_told_of_a_folder_that_is_not_there(waited, tmp_path):
    assert waited(0.1, tmp_path / "none") >= 0.1
