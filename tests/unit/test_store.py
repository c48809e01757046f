"""claims: which images a message may name, and what becomes of the others."""

from types import SimpleNamespace

import pytest

from sightstream.images.decode import Limits, Rejected
from sightstream.images.store import Claims


@pytest.fixture
def allowed(tmp_path):
    folder = tmp_path / "allowed"
    (folder / "below").mkdir(parents=True)
    (folder / "a b.png").write_bytes(b"x")
    (folder / "below" / "link.png").symlink_to(folder / "a b.png")
    (folder / "out.png").symlink_to("/etc/passwd")
    return folder


def test_a_file_below_a_prefix_is_read_by_its_path_and_a_link_there_by_its_target(allowed):
    claims = Claims([allowed.as_uri()], Limits())
    assert claims((allowed / "a b.png").as_uri()) == str(allowed / "a b.png")
    assert claims((allowed / "below" / "link.png").as_uri()) == str(allowed / "a b.png")


@pytest.mark.parametrize("name", ["/../x", "/%2e%2e/x", "/out.png", "-not/x", "/\0", "/%00", ""])
def test_what_leads_out_of_a_prefix_is_refused(allowed, name):
    assert Claims([allowed.as_uri()], Limits())(allowed.as_uri() + name).code == "uri_refused"


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "s3://b/x", "", "x", "http://127.0.0.1/"])
def test_without_prefixes_nothing_is_read(uri):
    assert Claims([], Limits())(uri).code == "uri_refused"


def test_another_store_is_read_through_that_of_the_prefix(monkeypatch):
    from pyarrow import fs

    store, asked = fs._MockFileSystem(), []
    store.create_dir("in")
    with store.open_output_stream("in/a?b@c.png") as file:
        file.write(b"12345")

    def from_uri(uri):
        asked.append(uri)
        return store, "in"

    monkeypatch.setattr(fs, "FileSystem", SimpleNamespace(from_uri=from_uri))
    claims = Claims(["mock:///in/"], Limits(max_bytes=5))
    assert claims("mock:///in/a?b@c.png") == b"12345"
    assert claims("mock:///in/none").code == "not_found"
    assert isinstance(Claims(["mock:///in"], Limits(max_bytes=4))("mock:///in/a?b@c.png"), Rejected)
    assert set(asked) == {"mock:///in"}
