"""streaming.bucket.arrow: folders and addresses; the file system is a local one."""

import pytest
from pyarrow import fs

from sightstream.images.limits import Limits, Rejected
from streaming.bucket import arrow
from streaming.bucket.arrow import Arrow


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A bucket whose store is a folder."""
    for name in ("in/a b.png", "in/cam/ü+%41.png", "in/cam/deep/er/c.png", "other/d.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(name.encode())
    local = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(arrow, "_file_system", lambda _: (local, "photos"))
    return lambda scheme: Arrow(f"{scheme}://photos/")


@pytest.mark.parametrize("scheme", ["gs", "abfs"])
def test_objects_of_all_folders_below_are_listed_by_their_keys(bucket, scheme):
    found = [each for page in bucket(scheme).pages("in/") for each in page]
    keys = ["in/a b.png", "in/cam/deep/er/c.png", "in/cam/ü+%41.png"]
    assert sorted(each.key for each in found) == keys
    for each in found:
        content = bucket(scheme).read(each.key, each.version, Limits(1000, 1000))
        assert content == each.key.encode()
        assert bucket(scheme).find(each.key) == each
    assert [*bucket(scheme).pages("nothing/")] == []


def test_another_version_is_not_read(bucket):
    (each,) = next(bucket("gs").pages("other/"))
    assert isinstance(bucket("gs").read(each.key, "1-1", Limits(1000, 1000)), Rejected)
    assert bucket("gs").read("other/none", "1-1", Limits(1000, 1000)).code == "not_found"


def test_googles_client_gives_up_soon_and_knows_its_emulators(monkeypatch):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    assert arrow._address("abfs://a@b/c") == "abfs://a@b/c"
    assert arrow._address("gs://photos") == "gs://photos?retry_limit_seconds=10"
    for said in ("127.0.0.1:9", "http://127.0.0.1:9"):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", said)
        made, base = fs.FileSystem.from_uri(arrow._address("gs://photos"))
        assert base == "photos"
        limit = "scheme=http&endpoint_override=127.0.0.1:9&retry_limit_seconds=10"
        assert arrow._address("gs://photos") == f"gs://anonymous@photos?{limit}"
        assert made.type_name == "gcs"
