"""events: ids that sort by time, and headers that others read."""

import re
from uuid import UUID

import pytest

from sightstream.images.event import (
    CE_SUBJECT,
    CE_TIME,
    CONTENT_TYPE,
    URI,
    ImageEvent,
    consecutive,
    milliseconds,
    new_event_id,
    new_event_ids,
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


def test_ids_that_are_made_together_sort_and_are_known_by_the_first():
    before, ids, after = (new_event_ids(NOW + wait / 1e3, 1000) for wait in (-1, 0, 1))
    assert ids == sorted(ids)
    assert all(consecutive(ids[0], each, 1000) for each in ids)
    assert not any(consecutive(ids[0], each, 1000) for each in before + after)
    assert {milliseconds(each) for each in ids} == {int(NOW * 1000)}


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


def test_the_id_of_a_message_is_that_of_its_source_too():
    assert event(event_id="5", source="/site/cam-a").message_id == "/site/cam-a#5"


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
