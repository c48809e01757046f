"""streaming.kafka.values: what `kafka_value` finds in messages, and what it says of others."""

import base64
import json
import pickle
from datetime import UTC, datetime
from io import BytesIO

import fastavro
import pytest
from PIL import Image

from sightstream import config
from sightstream.errors import ConfigError
from sightstream.images.limits import Rejected
from streaming.kafka import values
from streaming.kafka.values import opener

PNG = (
    Image.new("RGB", (9, 9), "red").save(stream := BytesIO(), "PNG"),
    stream.getvalue(),
)[1]
TEXT = base64.b64encode(PNG).decode()
SAFE = base64.urlsafe_b64encode(b"\xfb\xff" + PNG).decode()


def image(setting, value):
    value = value if isinstance(value, bytes) else json.dumps(value).encode()
    return opener(setting)(value).image


def test_images_are_not_opened():
    assert opener("image") is None


@pytest.mark.parametrize(
    "text",
    [TEXT, f'"{TEXT}"', base64.encodebytes(PNG).decode(), TEXT.rstrip("="), f"\ufeff {TEXT}\r\n",
     f"data:image/png;base64,{TEXT}", f'"data:;base64,{TEXT}"', f"DATA:image/png;BASE64,{TEXT}",
     "data:image/png;base64," + TEXT.replace("+", "%2B").replace("/", "%2F"),
     "data:image/png," + "".join(f"%{byte:02x}" for byte in PNG)],
)  # fmt: skip
def test_base64_in_every_form(text):
    assert image("base64", text.encode()) == PNG
    assert image("json:$.a", {"a": text.strip('"\ufeff')}) == PNG


def test_the_alphabet_of_addresses():
    assert "_" in SAFE or "-" in SAFE
    assert image("base64", SAFE.encode()) == b"\xfb\xff" + PNG


@pytest.mark.parametrize(
    ("path", "value"),
    [("$.image", {"image": TEXT}), ("$.a.b-c.d", {"a": {"b-c": {"d": TEXT}}}),
     ("$.frames[1].data", {"frames": [{}, {"data": TEXT}]}), ("$[0]", [TEXT])],
)  # fmt: skip
def test_a_path_into_json(path, value):
    assert config.Settings(kafka_value=f"json:{path}").kafka_value
    assert image(f"json:{path}", value) == PNG
    assert image(f"json:{path}", b"\xef\xbb\xbf" + json.dumps(value).encode()) == PNG


@pytest.mark.parametrize(
    ("setting", "value", "code", "said"),
    [
        ("base64", PNG, "unsupported_format", "Not base64 text, as kafka_value says: it is a PNG"),
        ("base64", {"image": TEXT}, "unsupported_format", "it is JSON"),
        ("base64", b"", "empty", "no bytes"),
        ("base64", b"data:image/png;base64,", "empty", "no bytes"),
        ("base64", TEXT[:-3].encode() + b"!", "corrupt", "damaged"),
        ("base64", b"\xff\xfe\xfd", "unsupported_format", "begins with"),
        ("json:$.a", TEXT.encode(), "unsupported_format", "Not JSON, as kafka_value says: it is b"),
        ("json:$.a", PNG, "unsupported_format", "it is a PNG file"),
        ("json:$.a", b'{"a": ', "unsupported_format", "Not JSON"),
        ("json:$.a", b"[" * 100_000, "unsupported_format", "nested too deeply"),
        ("json:$.a", b'{"a": ' + b"9" * 5000 + b"}", "unsupported_format", "has a number at $.a"),
        ("json:$.a", b'{"a": false}', "unsupported_format", "has a truth value at $.a"),
        ("base64", b"data:image/png," + b"%41" * 400_000, "too_large", "must be in base64"),
        ("json:$.a.b[2]", {"a": {"b": [1]}}, "unsupported_format", "has nothing at $.a.b[2]"),
        ("json:$.a", [TEXT], "unsupported_format", "has nothing at $.a"),
        ("json:$.a", {"a": {"b": 1}}, "unsupported_format", "has an object at $.a"),
        ("json:$.a", {"a": None}, "unsupported_format", "has null at $.a"),
        ("json:$.a", {"a": 5}, "unsupported_format", "no base64 text"),
        ("json:$.a", {"a": ""}, "empty", "$.a"),
        ("json:$.a", {"a": "s3://bucket/x.png"}, "unsupported_format", "it is an address"),
        ("json:$.a", b'{"a": "\\ud800"}', "unsupported_format", "Not base64"),
    ],
)
def test_what_is_wrong_with_a_message_is_said(setting, value, code, said):
    refused = image(setting, value)
    assert isinstance(refused, Rejected)
    assert (refused.code, said in refused.detail) == (code, True), refused.detail
    assert "\n" not in refused.detail


SCHEMA = {
    "type": "record", "name": "Shot",
    "fields": [
        {"name": "camera", "type": "string"},
        {"name": "image", "type": ["null", "bytes"]},
        {"name": "text", "type": "string"},
    ],
}  # fmt: skip


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "shot.avsc"
    path.write_text(json.dumps(SCHEMA))
    return path


@pytest.mark.parametrize("around", ["N", ["null", "N"], {"type": "array", "items": "N"}])
def test_a_type_that_holds_itself_is_refused(tmp_path, around):
    fields = [{"name": "image", "type": "bytes"}, {"name": "next", "type": around}]
    path = tmp_path / "itself.avsc"
    path.write_text(json.dumps({"type": "record", "name": "a.N", "fields": fields}))
    with pytest.raises(ConfigError, match="holds itself"):
        opener(f"avro:{path}:$.image")


def framed(number=7, **fields):
    stream = BytesIO()
    fastavro.schemaless_writer(stream, SCHEMA, {"camera": "a", "image": PNG, "text": TEXT} | fields)
    return b"\0" + number.to_bytes(4, "big") + stream.getvalue()


def test_a_field_of_avro(schema):
    assert image(f"avro:{schema}:$.image", framed()) == PNG
    assert image(f"avro:{schema}:$.text", framed(number=8)) == PNG


def test_what_is_wrong_with_avro_is_said(schema):
    for value, said in [
        (PNG, "Not Avro in Confluent's framing, as kafka_value says: it is a PNG"),
        (framed() + b"more", "does not fit the Avro schema that kafka_value names"),
        (framed()[:40], "does not fit"),
        (framed(image=None), "has null at $.image"),
    ]:
        refused = image(f"avro:{schema}:$.image", value)
        assert (refused.code, said in refused.detail) == ("unsupported_format", True), refused
    assert image(f"avro:{schema}:$.image", framed(image=b"")).code == "empty"


def test_a_schema_that_cannot_be_read_is_an_error_of_the_settings(tmp_path):
    for content in (None, "{", '{"type": "no such"}'):
        path = tmp_path / "x.avsc"
        if content:
            path.write_text(content)
        with pytest.raises(ConfigError, match="cannot be read as an Avro schema"):
            opener(f"avro:{path}:$.image")


@pytest.mark.parametrize("value", ["json", "json:image", "json:$", "avro:$.a", "base32", ""])
def test_what_the_setting_takes(value):
    with pytest.raises(ConfigError, match="kafka_value: it must be such as image or base64"):
        config.load(kafka_value=value)


def test_workers_get_openers_by_pickle(schema):
    for setting in ("base64", "json:$.text", f"avro:{schema}:$.text"):
        again = pickle.loads(pickle.dumps(opener(setting)))
        value = {"b": TEXT.encode(), "j": json.dumps({"text": TEXT}).encode(), "a": framed()}
        assert again(value[setting[0]]).image == PNG


# CloudEvents, structured mode


def event(**attributes):
    usual = {"specversion": "1.0", "id": "5", "source": "/cam", "type": "t", "data_base64": TEXT}
    return json.dumps(usual | attributes).encode()


def told(**attributes):
    return opener("json:$.data_base64")(event(**attributes)).event


def test_a_cloud_event_has_its_own_id_as_in_binary_mode():
    assert opener("json:$.data_base64")(event()).image == PNG
    assert values.event_id(told()) == "/cam#5"
    assert values.event_id(told(source="")) == "5"
    assert values.event_id(told(source=7)) == "5"
    assert values.event_id(told(source="a#b")).startswith("sha256:")
    assert values.event_id(told(source="x" * 1025)).startswith("sha256:")
    for bad in ("", "x" * 256, 5, None, "\ud800"):
        assert values.event_id(told(id=bad)) is None


def test_fields_of_plain_json_are_no_event():
    body = opener("json:$.image")(json.dumps({"id": "5", "source": "s", "image": TEXT}).encode())
    assert not body.event


def test_only_a_time_near_the_brokers_is_believed():
    now = datetime(2026, 5, 4, 12, tzinfo=UTC).timestamp()
    for text, offset in [
        ("2026-05-04T11:00:00Z", -3600), ("2026-05-04T14:00:00+02:00", 0),
        ("2026-05-04T11:00:00", -3600), ("9999-12-31T23:59:59Z", 0), ("yesterday", 0),
        ("0001-01-01T00:00:00+23:00", 0), (5, 0), (None, 0),
    ]:  # fmt: skip
        assert values.event_time(told(time=text), now) == now + offset, text
