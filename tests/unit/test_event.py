"""events: ids that sort by time, and headers that others read."""

import os
import re
from pathlib import Path
from uuid import UUID

import pytest

from sightstream.images.event import (
    CE_SUBJECT,
    CE_TIME,
    CONTENT_TYPE,
    URI,
    ImageEvent,
    is_below,
    local_path,
    new_event_id,
    readable,
)

NOW = 1_763_700_000.0


def event(**changes):
    fields = {
        "event_id": new_event_id(NOW),
        "source": "folder",
        "uri": "file:///images/x.jpg",
        "original_name": "x.jpg",
        "event_time": 1_763_700_000.123456,
        "bytes": 2**40,
    }
    return ImageEvent(**fields | changes)


def test_an_id_is_a_uuid_of_version_7():
    for _ in range(1000):
        made = UUID(new_event_id(NOW))
        assert (made.version, made.variant) == (7, "specified in RFC 4122")


def test_an_id_is_written_in_the_canonical_form():
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", new_event_id(NOW))


def test_an_id_carries_its_milliseconds():
    assert UUID(new_event_id(1_763_700_000.25)).int >> 80 == 1_763_700_000_250


def test_ids_of_one_instant_are_distinct():
    assert len({new_event_id(NOW) for _ in range(50_000)}) == 50_000


def test_ids_sort_by_their_microseconds():
    ids = [new_event_id(NOW + step / 1e6) for step in range(2000)]
    assert ids == sorted(ids)


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


def test_a_name_in_utf_8_is_read_as_such():
    assert readable("日本語.jpg".encode()) == "日本語.jpg"


def test_bytes_that_are_no_utf_8_are_shown():
    assert readable(b"caf\xe9.jpg") == "caf\\xe9.jpg"


def test_headers_are_those_of_a_cloud_event_in_binary_mode():
    made = event(source="publish", uri="", original_name="a/b.jpg")
    assert dict(made.to_headers()) == {
        "content-type": b"image/jpeg",
        "ce_specversion": b"1.0",
        "ce_id": made.event_id.encode(),
        "ce_source": b"publish",
        "ce_type": b"sightstream.image",
        "ce_time": b"2025-11-21T04:40:00.123456Z",
        "ce_subject": b"a/b.jpg",
    }


def test_a_claim_check_says_where_the_image_is():
    assert dict(event(uri="file:///a%20b.jpg").to_headers())[URI] == b"file:///a%20b.jpg"
    assert URI not in dict(event(uri="").to_headers())


def test_any_name_goes_through_headers(weird_name):
    headers = dict(event(original_name=weird_name).to_headers())
    assert headers[CE_SUBJECT].decode() == weird_name


def test_the_time_of_a_whole_second_is_written_like_any_other():
    assert dict(event(event_time=0.0).to_headers())[CE_TIME] == b"1970-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.PNG", b"image/png"),
        ("x.webp", b"image/webp"),
        ("x", b"application/octet-stream"),
        (".jpg", b"application/octet-stream"),
        ("x.jpg.gz\n", b"application/octet-stream"),
        ("data:,x.tif", b"image/tiff"),
    ],
)
def test_the_content_type_follows_the_suffix(name, kind):
    assert dict(event(original_name=name).to_headers())[CONTENT_TYPE] == kind


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
