"""Files that a crash leaves whole."""

import os
import stat

import pytest

from sightstream.io import durable


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
        durable.replace(tmp_path / "position.json", content)
        assert (tmp_path / "position.json").read_bytes() == content
        assert steps == ["file", "rename", "folder"]
    assert [each.name for each in tmp_path.iterdir()] == ["position.json"]


def test_a_crash_before_the_rename_leaves_the_old_content(tmp_path, monkeypatch):
    durable.replace(tmp_path / "a", b"old")

    def crash(_):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="no space"):
        durable.replace(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
