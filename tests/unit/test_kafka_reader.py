"""streaming.kafka.reader: the images that messages carry or claim."""

import json

import pytest

from sightstream.images.limits import Limits
from sightstream.images.store import Store
from streaming.kafka.events import Message, Places
from streaming.kafka.reader import contents
from streaming.kafka.values import opener

DATA = {"specversion": "1.0", "id": "5", "source": "/cam", "type": "t", "data_base64": "aW1hZ2U="}


@pytest.fixture
def read():
    """Reads messages with these values, keys and headers."""

    def made(*messages, setting="image", prefixes=()):
        found = [
            Message(0, offset, 1000 * 1_700_000_000, b"key", value, headers)
            for offset, (value, headers) in enumerate(messages)
        ]
        events = Places("images", "", 1_700_000_000.0, 1000).events(found)
        codes = events["error_code"].to_pylist()
        values = [None if c else each.value or None for c, each in zip(codes, found, strict=True)]
        (piece,) = contents(Store(prefixes, Limits()), opener(setting), events, values)
        return piece

    return made


def test_a_message_carries_its_image_or_claims_it_or_was_refused(read, tmp_path):
    (tmp_path / "a.png").write_bytes(b"image")
    claim = (tmp_path / "a.png").as_uri().encode()
    messages = [
        (b"abc", {}), (b"abc", {"uri": claim}), (None, {"uri": claim}), (b"", {}),
        (b"", {"uri": b"file:///etc/passwd"}), (bytes(1001), {}),
    ]  # fmt: skip
    events, images = read(*messages, prefixes=(tmp_path.as_uri(),))
    assert images[:4] == [b"abc", b"abc", str(tmp_path / "a.png"), None]
    assert (images[4].code, images[5]) == ("uri_refused", None)
    assert events["error_code"].to_pylist() == [None, None, None, "empty", None, "too_large"]


def test_rows_get_what_events_in_values_tell(read):
    messages = [
        (json.dumps(DATA | {"subject": "gate/7.png"}).encode(), {}), (b"noise", {}),
        (json.dumps(DATA | {"subject": ""}).encode(), {"ce_id": b"6"}), (None, {}),
    ]  # fmt: skip
    events, images = read(*messages, setting="json:$.data_base64")
    assert events["event_id"].to_pylist() == ["/cam#5", "images/0/1", "/cam#5", "images/0/3"]
    assert events["original_name"].to_pylist() == ["gate/7.png", "key", "key", "key"]
    assert (images[0], images[1].code, *images[2:]) == (
        b"image", "unsupported_format", b"image", None,
    )  # fmt: skip
