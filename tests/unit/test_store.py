"""store: which images may be read, and what becomes of the others."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from sightstream.images.limits import DEFAULT_LIMITS, Limits, Rejected
from sightstream.images.store import Store, here, is_below, local_path, read


@pytest.fixture
def allowed(tmp_path):
    folder = tmp_path / "allowed"
    (folder / "below").mkdir(parents=True)
    (folder / "a b.png").write_bytes(b"x")
    (folder / "below" / "link.png").symlink_to(folder / "a b.png")
    (folder / "out.png").symlink_to("/etc/passwd")
    return folder


def test_a_file_below_a_prefix_is_read_by_its_path_and_a_link_there_by_its_target(allowed):
    store = Store([allowed.as_uri()], Limits())
    assert store((allowed / "a b.png").as_uri()) == str(allowed / "a b.png")
    assert store((allowed / "below" / "link.png").as_uri()) == str(allowed / "a b.png")


@pytest.mark.parametrize("name", ["/../x", "/%2e%2e/x", "/out.png", "-not/x", "/\0", "/%00", ""])
def test_what_leads_out_of_a_prefix_is_refused(allowed, name):
    assert Store([allowed.as_uri()], Limits())(allowed.as_uri() + name).code == "uri_refused"


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "s3://b/x", "", "x", "http://127.0.0.1/"])
def test_without_prefixes_nothing_is_read(uri):
    assert Store([], Limits())(uri).code == "uri_refused"


def test_another_store_is_read_through_that_of_the_prefix(monkeypatch):
    from pyarrow import fs

    mock, asked = fs._MockFileSystem(), []
    mock.create_dir("in")
    with mock.open_output_stream("in/a?b@c.png") as file:
        file.write(b"12345")

    def from_uri(uri):
        asked.append(uri)
        return mock, "in"

    monkeypatch.setattr(fs, "FileSystem", SimpleNamespace(from_uri=from_uri))
    store = Store(["mock:///in/"], Limits(max_bytes=5))
    assert store("mock:///in/a?b@c.png") == b"12345"
    assert store("mock:///in/none").code == "not_found"
    assert isinstance(Store(["mock:///in"], Limits(max_bytes=4))("mock:///in/a?b@c.png"), Rejected)
    assert set(asked) == {"mock:///in"}


# Uris that the owner of the process names


@pytest.fixture
def free():
    return pickle.loads(pickle.dumps(Store(None, Limits())))


def test_without_a_restriction_paths_and_file_uris_of_any_form_are_read(allowed, free):
    file = str(allowed / "a b.png")
    for uri in (file, f"file:{file}", f"file://{file}", (allowed / "a b.png").as_uri()):
        assert free(uri) == file
    assert free(f"file:{allowed}/a%20b.png") == file


def test_a_name_with_a_percent_sign_is_taken_as_spark_writes_it(allowed, free):
    (allowed / "50%20.png").write_bytes(b"x")
    assert free(f"file:{allowed}/50%20.png") == str(allowed / "50%20.png")


@pytest.mark.parametrize("uri", ["file://host/x", "nonsense://x/y", "ftp://h/x"])
def test_a_store_that_is_not_known_is_unreadable(uri, free):
    assert free(uri).code == "unreadable"


def test_a_path_that_no_file_can_have_is_unreadable(free):
    assert read(free("a\0b")).code == "unreadable"


def test_the_store_of_a_free_uri_is_its_own_and_made_once(monkeypatch):
    from pyarrow import fs

    mock, asked = fs._MockFileSystem(), []
    mock.create_dir("bucket/in")
    with mock.open_output_stream("bucket/in/a b.png") as file:
        file.write(b"12345")

    def from_uri(uri):
        asked.append(uri)
        return mock, "bucket"

    monkeypatch.setattr(fs, "FileSystem", SimpleNamespace(from_uri=from_uri))
    store = Store(None, Limits())
    assert store("s3a://bucket/in/a b.png") == store("s3a://bucket/in/a%20b.png") == b"12345"
    assert store("s3a://bucket/none").code == "not_found"
    assert asked == ["s3://bucket"]


# Uris


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b.jpg", "/a/b.jpg"),
        ("file:///a%20b/c%25d.jpg", "/a b/c%d.jpg"),
        ("file:///a b.jpg", "/a b.jpg"),
        ("file:///%E6%97%A5.jpg", "/日.jpg"),
        ("file:///x%0Ay", "/x\ny"),
        ("file:///x%3Fy%23z", "/x?y#z"),
        ("file:///caf%E9.jpg", os.fsdecode(b"/caf\xe9.jpg")),
    ],
)
def test_the_path_of_a_file_uri_is_decoded(uri, path):
    assert local_path(uri) == path


@pytest.mark.parametrize("name", ["a b", "50%", "x?y#z", "ü", os.fsdecode(b"\xff"), "a\nb", "+"])
def test_a_path_survives_the_way_through_its_uri(name):
    path = Path("/images") / name
    assert local_path(path.as_uri()) == str(path)


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/x.jpg", "http://h/x", "/a/b.jpg", "x.jpg", "", "file://host/x", "hdfs:///x"],
)
def test_another_scheme_is_refused(uri):
    with pytest.raises(ValueError, match="only file:/// is read here"):
        local_path(uri)


def test_the_refusal_names_the_scheme():
    with pytest.raises(ValueError, match="not s3"):
        local_path("s3://bucket/x.jpg")


@pytest.mark.parametrize("prefix", ["file:///srv/images", "file:///srv/images/"])
@pytest.mark.parametrize(
    ("uri", "below"),
    [
        ("file:///srv/images/a.jpg", True),
        ("file:///srv/images/sub/a%20b.jpg", True),
        ("file:///srv/images/sub/../a.jpg", True),
        ("file:///srv/images2/a.jpg", False),
        ("file:///srv/images/../../etc/passwd", False),
        ("file:///srv/images/%2e%2e/%2E%2e/etc/passwd", False),
        ("file:///etc/passwd", False),
        ("file:///srv/images/a\0.jpg", False),
        ("/srv/images/a.jpg", False),
        ("s3://srv/images/a.jpg", False),
        ("", False),
    ],
)
def test_only_what_is_below_a_prefix_may_be_read(prefix, uri, below):
    assert is_below(uri, ["s3://bucket/in", prefix]) is below


@pytest.mark.parametrize(
    ("uri", "below"),
    [
        ("s3://bucket/in/a.jpg", True),
        ("s3://bucket/in/../b.jpg", False),
        ("s3://bucket/in/%2e%2e/b.jpg", False),
        ("s3://bucket/inner/a.jpg", False),
        ("s3://bucket2/in/a.jpg", False),
    ],
)
def test_other_stores_are_compared_by_their_uris(uri, below):
    assert is_below(uri, ["s3://bucket/in"]) is below


def test_nothing_is_below_no_prefix_or_an_unreadable_one():
    assert not is_below("file:///a.jpg", [])
    for uri in ("file:///a.jpg", "/a.jpg", "//a", ""):
        assert not is_below(uri, ["s3://x/../y", ""])


def test_a_link_out_of_an_allowed_folder_is_followed_and_refused(tmp_path):
    (tmp_path / "allowed").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "allowed" / "out").symlink_to(tmp_path / "secret")
    allowed = [(tmp_path / "allowed").as_uri()]
    assert is_below((tmp_path / "allowed" / "x").as_uri(), allowed)
    assert not is_below((tmp_path / "allowed" / "out" / "x").as_uri(), allowed)


# Reading files


def refused(path, limits=DEFAULT_LIMITS):
    result = read(path, limits)
    assert isinstance(result, Rejected)
    return result.code


def test_a_file_is_read_whole(tmp_path):
    path = tmp_path / "a b ü.bin"
    path.write_bytes(os.urandom(300_000))
    assert read(path) == path.read_bytes()
    assert read(str(path)) == path.read_bytes()


def test_a_missing_file_is_not_found(tmp_path):
    assert refused(tmp_path / "none.jpg") == "not_found"


def test_a_file_below_a_file_is_not_found(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    assert refused(tmp_path / "file" / "below.jpg") == "not_found"


def test_a_file_is_read_whole_where_the_system_gives_less_than_it_is_asked_for(
    tmp_path, monkeypatch
):
    path, whole = tmp_path / "image", os.read
    path.write_bytes(content := bytes(range(256)) * 9)
    monkeypatch.setattr(os, "read", lambda file, size: whole(file, min(size, 1000)))
    assert read(path) == content


def test_a_folder_is_unreadable(tmp_path):
    assert refused(tmp_path) == "unreadable"


def test_a_symlink_is_unreadable(tmp_path):
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert refused(tmp_path / "link") == "unreadable"


@pytest.mark.timeout(10)
def test_a_fifo_is_unreadable_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert refused(tmp_path / "fifo") == "unreadable"


def test_a_device_is_unreadable():
    assert refused("/dev/zero") == "unreadable"


def test_an_empty_file_is_empty(tmp_path):
    (tmp_path / "empty").touch()
    assert refused(tmp_path / "empty") == "empty"


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.truncate(2**40)
    assert refused(path) == "too_large"
    path.write_bytes(b"12345")
    assert refused(path, Limits(max_bytes=4)) == "too_large"
    assert read(path, Limits(max_bytes=5)) == b"12345"


def test_a_file_without_permission_is_unreadable(tmp_path):
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "secret").chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything, nobody may not
        os.seteuid(65_534)
    try:
        assert refused(tmp_path / "secret") == "unreadable"
    finally:
        os.seteuid(user)


def test_reading_leaves_the_time_of_the_last_access(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"x")
    os.utime(path, (0, 0))  # so old that any file system would note an access
    assert read(path) == b"x"
    assert path.stat().st_atime == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_read(tmp_path):
    path = Path("/tmp", f"{tmp_path.name}-{os.getpid()}")  # tmp_path is closed to others
    path.write_bytes(b"x")
    os.seteuid(65_534)
    try:
        assert read(path) == b"x"
    finally:
        os.seteuid(0)
        path.unlink()


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
def test_a_path_that_cannot_exist_is_unreadable(path):
    assert refused(path) == "unreadable"


def test_reading_leaves_no_file_open(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for path in (tmp_path, tmp_path / "fifo", Path(__file__)):
        read(path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_without_prefixes_a_link_is_not_followed(tmp_path):
    (tmp_path / "image.png").write_bytes(b"picture")
    (tmp_path / "link.png").symlink_to(tmp_path / "image.png")
    for named in (str(tmp_path / "link.png"), (tmp_path / "link.png").as_uri()):
        refused = read(Store(None, Limits())(named))
        assert (refused.code, "links are not followed" in refused.detail) == ("unreadable", True)


NAME = "01a1fe0c-b2f5-7f93-9ba7-f629a851ac89"
ARRIVED = f"images/2026-11-28/1340/{NAME}"


@pytest.mark.parametrize("arrived", [ARRIVED, f"images/2026-11-28/{NAME}"])
@pytest.mark.parametrize("suffix", ["", ".png", ".JPG"])
def test_an_image_that_the_intake_took_is_in_the_home_in_use(arrived, suffix):
    assert here(f"/old\nhome/{arrived}{suffix}", "/new") == f"/new/{arrived}{suffix}"
    assert here(f"file:///old/{arrived}{suffix}", "file:///a%20b") == (
        f"file:///a%20b/{arrived}{suffix}"
    )


@pytest.mark.parametrize(
    "place",
    ["", "/x.png", "file:///images/2026-11-28/cat.png", f"/old/{ARRIVED}/x.png", "s3://b/k.png"],
)
def test_any_other_image_is_where_it_is(place):
    assert here(place, "/new") == place
