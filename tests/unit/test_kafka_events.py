"""streaming.kafka.events: what messages become, whatever they hold."""

import hashlib
import random
from datetime import UTC, datetime

import pytest

from sightstream.tables.schema import EVENT
from streaming.kafka.events import UNDATED, Message, Places

NOW = 1_700_000_000.5
DAY = 86_400


@pytest.fixture
def event():
    def made(value=b"image", key=None, milliseconds=int(NOW * 1000), suffix="", **headers):
        headers = {n: v.encode() if isinstance(v, str) else v for n, v in headers.items()}
        message = Message(3, 14, milliseconds, key, value, headers)
        (row,) = Places("images", suffix, NOW, 1000).events([message]).to_pylist()
        return row

    return made


def test_a_message_alone_is_named_by_its_place(event):
    assert event() == {
        "event_id": "images/3/14", "source": "kafka", "uri": "kafka://images/3/14",
        "original_name": "images/3/14", "event_time": NOW, "bytes": 5, "error_code": None,
        "error_detail": None,
    }  # fmt: skip
    assert event(suffix="@ab")["event_id"] == "images@ab/3/14"
    assert event(suffix="@ab")["original_name"] == "images/3/14"


@pytest.mark.parametrize(
    ("own", "source", "expected"),
    [
        ("5", None, "5"), ("5", "", "5"), ("5", "/a", "/a#5"), (None, "/a", None), ("", "/a", None),
        ("x" * 255, None, "x" * 255), ("x" * 256, None, None), (b"\xff", "/a", None),
        ("ü" * 255, None, "ü" * 255), ("5", "ü" * 1024, "ü" * 1024 + "#5"),
        *(
            ("5", raw, f"sha256:{hashlib.sha256(raw).hexdigest()}#5")
            for raw in (b"a#b", b"\xff\xfe", b"y" * 1025, b"y" * 5000)
        ),
    ],
)  # fmt: skip
def test_an_event_is_its_source_and_its_id(event, own, source, expected):
    found = event(ce_id=own, ce_source=source)
    assert found["event_id"] == (expected or "images/3/14")


@pytest.mark.parametrize(
    ("headers", "key", "expected"),
    [
        ({"ce_subject": "gate/7.png"}, b"k", "gate/7.png"), ({}, b"camera 7", "camera 7"),
        ({"ce_subject": b"\xc3"}, "Tür".encode(), "Tür"), ({"ce_subject": None}, b"", None),
        ({}, b"\xff", None), ({"ce_subject": "x" * 4097}, b"x" * 20_000, None),
    ],
)  # fmt: skip
def test_it_is_named_by_its_subject_or_its_key(event, headers, key, expected):
    assert event(key=key, **headers)["original_name"] == (expected or "images/3/14")


@pytest.mark.parametrize(
    ("value", "uri", "code", "shown"),
    [
        (None, None, "empty", "kafka://images/3/14"), (b"", None, "empty", "kafka://images/3/14"),
        (b"", "s3://b/a", None, "s3://b/a"), (None, "s3://b/a", None, "s3://b/a"),
        (b"", b"\xff", "empty", "kafka://images/3/14"),
        (b"i", "file:///etc/passwd", None, "kafka://images/3/14"),
        (bytes(1000), None, None, "kafka://images/3/14"),
        (bytes(1001), None, "too_large", "kafka://images/3/14"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_it_is_its_code(event, value, uri, code, shown):
    found = event(value=value, uri=uri)
    assert (found["error_code"], found["uri"]) == (code, shown)
    assert found["bytes"] == len(value or b"")
    if code == "too_large":
        assert found["error_detail"] == "1,001 bytes; the limit is 1,000."


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("2023-11-14T21:13:20Z", NOW - 3600.5), ("2023-11-14T22:13:20.250+01:00", NOW - 3600.25),
        ("9999-12-31T23:59:59Z", NOW), ("+294247-99-99 yesterday", NOW), (b"\xff", NOW),
        ("2023-11-12T21:13:20Z", NOW), ("", NOW), ("2" * 65, NOW),
    ],
)  # fmt: skip
def test_a_time_is_believed_within_a_day_of_the_brokers(event, told, expected):
    assert event(ce_time=told)["event_time"] == expected


@pytest.mark.parametrize("milliseconds", [-1, 0, 1, 2**63 - 1, -(2**63)])
def test_a_message_without_a_time_is_of_the_epoch_whenever_it_is_read(event, milliseconds):
    assert event(milliseconds=milliseconds)["event_time"] == 0


@pytest.mark.parametrize(
    ("days", "believed"), [(-366, True), (-366.001, False), (2, True), (2.001, False)]
)
def test_a_time_that_is_far_from_the_stream_s_counts_as_none(event, days, believed):
    seconds = NOW // DAY * DAY + days * DAY
    told = event(milliseconds=int(seconds * 1000), ce_time="2023-11-14T21:13:20Z")["event_time"]
    assert told == pytest.approx(seconds if believed else 0)


def test_what_it_tells_itself_within_a_day_of_the_epoch_is_a_date_without_one(event):
    for told in ("1969-12-31T00:00:00Z", "1970-01-01T12:00:00Z", "1970-01-02T00:00:00Z"):
        found = event(milliseconds=-1, ce_time=told)["event_time"]
        assert datetime.fromtimestamp(found, UTC).isoformat()[:10] == told[:10]
        assert datetime.fromtimestamp(found, UTC).date() in UNDATED


def test_noise_raises_no_error_and_keeps_the_schema():
    chance = random.Random(31)

    def noise():
        return chance.choice([None, b"", chance.randbytes(chance.choice([1, 9, 300, 5000]))])

    names = ("ce_id", "ce_source", "ce_subject", "ce_time", "uri", "other")
    messages = [
        Message(0, n, chance.randrange(-(2**63), 2**63), noise(), noise(), {
            name: noise() for name in names if chance.random() < 0.7
        })
        for n in range(2000)
    ]  # fmt: skip
    found = Places("images", "", NOW, 1000).events(messages)
    assert found.schema == EVENT
    assert found.num_rows == 2000
    assert Places("images", "", NOW, 1000).events([]).schema == EVENT
