"""`kafka_value` at a real broker: each message is one row, with its image's label or the reason."""

import base64
import json
import os
from datetime import UTC, datetime, timedelta
from io import BytesIO

import fastavro
import pytest

from tests.topics import create, send

SCHEMA = {
    "type": "record", "name": "Shot",
    "fields": [{"name": "camera", "type": "string"}, {"name": "image", "type": "bytes"}],
}  # fmt: skip
MOST = 300_000
"""Bytes of an image here, fewer than its message has as base64."""


@pytest.fixture
def answered(new_home, broker, topic):
    """Sends messages by name, and returns the row of each."""

    def answer(setting, values):
        create(broker, topic, partitions=1)
        places = send(broker, topic, values.values())
        home = new_home(
            kafka_servers=broker.address, kafka_topic=topic, source="kafka", kafka_value=setting,
            max_image_bytes=MOST,
        )  # fmt: skip
        done = home("run", "--once", "--metrics-port", "0")
        assert done.returncode == 0, done.stderr
        rows = {row["uri"]: row for row in home.table().to_pylist()}
        assert len(rows) == home.count()
        found = {
            name: rows.pop(f"kafka://{topic}/{place.partition}/{place.offset}")
            for name, place in zip(values, places, strict=True)
            if f"kafka://{topic}/{place.partition}/{place.offset}" in rows
        }
        assert not rows
        return found

    return answer


def outcome(row):
    return row["label"] or row["error_code"]


def test_base64_and_data_uris(answered, starter):
    digit = starter.digits[0].read_bytes()
    text = base64.b64encode(digit)
    large = base64.b64encode(digit + os.urandom(MOST - len(digit)))
    rows = answered(
        "base64",
        {
            "text": text, "quoted": b'"' + text + b'"', "uri": b"data:image/png;base64," + text,
            "lines": base64.encodebytes(digit), "an image": digit, "JSON": b'{"a": 1}',
            "cut": text[:-40], "empty": b"", "as large as may be": large,
            "larger": base64.b64encode(bytes(MOST + 1)), "huge": b"A" * (3 * MOST),
            "no image": base64.b64encode(b"noise" * 100),
        },
    )  # fmt: skip
    assert {name: outcome(row) for name, row in rows.items()} == {
        "text": "0", "quoted": "0", "uri": "0", "lines": "0", "an image": "unsupported_format",
        "JSON": "unsupported_format", "cut": "truncated", "empty": "empty",
        "as large as may be": "0", "larger": "too_large", "huge": "too_large",
        "no image": "unsupported_format",
    }  # fmt: skip
    assert rows["text"]["bytes"] == len(digit)
    assert rows["as large as may be"]["bytes"] == MOST < len(large)
    assert "it is a PNG file" in rows["an image"]["error_detail"]
    assert "it is JSON" in rows["JSON"]["error_detail"]


def test_json_and_cloud_events_in_structured_mode(answered, starter):
    digit = starter.digits[0].read_bytes()
    text = base64.b64encode(digit).decode()
    sent = datetime.now(UTC) - timedelta(hours=1)
    event = {
        "specversion": "1.0", "type": "shot", "source": "/cam", "id": "1", "subject": "gate/7.png",
        "time": sent.isoformat(), "data_base64": text,
    }  # fmt: skip
    binary = [("ce_source", b"/cam"), ("ce_id", b"1")]
    rows = answered(
        "json:$.data_base64",
        {
            "event": json.dumps(event).encode(),
            "again": json.dumps(event).encode(),
            "again in headers": {"value": json.dumps({"data_base64": text}).encode(),
                                 "headers": binary},
            "another": json.dumps(event | {"id": "2"}).encode(),
            "plain": json.dumps({"data_base64": text, "id": "1", "source": "/cam"}).encode(),
            "elsewhere": json.dumps({"image": text}).encode(),
            "an image": digit,
        },
    )  # fmt: skip
    assert set(rows) == {"event", "another", "plain", "elsewhere", "an image"}
    assert rows["event"]["event_id"] == "/cam#1"
    assert rows["another"]["event_id"] == "/cam#2"
    assert rows["event"]["original_name"] == "gate/7.png"
    assert abs(rows["event"]["event_time"] - sent) < timedelta(seconds=1)
    assert "#" not in rows["plain"]["event_id"]
    assert [outcome(rows[name]) for name in ("event", "another", "plain")] == ["0"] * 3
    assert "has nothing at $.data_base64" in rows["elsewhere"]["error_detail"]
    assert "Not JSON" in rows["an image"]["error_detail"]


def test_avro_in_confluents_framing(answered, starter, tmp_path):
    digit = starter.digits[0].read_bytes()
    (tmp_path / "shot.avsc").write_text(json.dumps(SCHEMA))
    fastavro.schemaless_writer(packed := BytesIO(), SCHEMA, {"camera": "a", "image": digit})
    framed = b"\0\0\0\0\7" + packed.getvalue()
    rows = answered(
        f"avro:{tmp_path / 'shot.avsc'}:$.image",
        {"framed": framed, "cut": framed[:-9], "an image": digit, "more": framed + b"more"},
    )
    assert {name: outcome(row) for name, row in rows.items()} == {
        "framed": "0", "cut": "unsupported_format", "an image": "unsupported_format",
        "more": "unsupported_format",
    }  # fmt: skip
