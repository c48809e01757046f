"""Values of messages that are no plain images: base64, JSON or Avro around one.

They are opened in the workers. What is wrong with one is a value (`Rejected`), never an exception.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from sightstream.errors import ConfigError
from sightstream.images import formats, kinds
from sightstream.images.event import SEPARATOR
from sightstream.images.limits import Rejected

PER_IMAGE = 2
"""Bytes of a message for each byte of the image inside; base64 takes 1.37 with its line ends."""
ROOM = 2**16
"""Bytes of a message beside that, for fields around an image."""

_STEP = re.compile(r"\.([\w-]+)|\[(\d+)\]")
_DATA_URI = re.compile(r"data:[^,]{0,255}?(;base64)?,", re.IGNORECASE)
_DAY = 86_400
_KINDS = {dict: "an object", list: "a list", type(None): "null", bool: "a truth value",
          float: "a number"}  # fmt: skip
_MOST_ENCODED = 2**20
"""Characters of a data URI without base64: taking one apart needs 30 times its memory."""
_RESERVED = {"%2B": "+", "%2F": "/", "%3D": "=", "%0D": "", "%0A": ""}
"""Characters of base64 that may be encoded in a uri."""


@dataclass(frozen=True)
class Body:
    """The image in a message, and the CloudEvent that it may be the data of."""

    image: bytes | Rejected
    event: Mapping[str, Any] = field(default_factory=dict)


Opened = Callable[[bytes], Body]
"""Takes a message's value apart; picklable."""


def opener(setting: str) -> Opened | None:
    """Return what opens values as `kafka_value` says; None where they are images.

    Raises:
        ConfigError: a schema of Avro cannot be read, or the extra `avro` is not installed.
    """
    kind, _, rest = setting.partition(":")
    place, _, path = rest.rpartition(":")
    match kind:
        case "base64":
            return _open_text
        case "json":
            return _Json(_steps(rest))
        case "avro":
            return _Avro(_schema(Path(place)), _steps(path))
    return None


def _open_text(value: bytes) -> Body:
    return Body(_image(_text(value), value, "base64"))


@dataclass(frozen=True)
class _Json:
    path: tuple[str | int, ...]

    def __call__(self, value: bytes) -> Body:
        try:
            whole = json.loads(value.decode("utf-8-sig"), parse_int=float)
        except RecursionError:
            return Body(Rejected("unsupported_format", "The JSON is nested too deeply."))
        except ValueError:
            return Body(unexpected(value, "JSON"))
        event = whole if isinstance(whole, dict) and "specversion" in whole else {}
        return Body(_found(whole, self.path, "JSON"), event)


@dataclass(frozen=True)
class _Avro:
    schema: Any  # as fastavro has parsed it
    path: tuple[str | int, ...]

    def __call__(self, value: bytes) -> Body:
        from fastavro import schemaless_reader

        if value[:1] != b"\0" or len(value) < 6:  # A zero, and the number of a schema.
            return Body(unexpected(value, "Avro in Confluent's framing"))
        stream = BytesIO(value[5:])
        try:
            whole = schemaless_reader(stream, self.schema)
        except Exception as error:  # Whatever bytes of another schema lead to.
            return Body(_misfit(f"{type(error).__name__}"))
        if stream.tell() != len(value) - 5:
            return Body(_misfit("bytes are left over"))
        return Body(_found(whole, self.path, "Avro"))


def _misfit(reason: str) -> Rejected:
    sentence = f"The message does not fit the Avro schema that kafka_value names: {reason}."
    return Rejected("unsupported_format", sentence)


def _steps(path: str) -> tuple[str | int, ...]:
    return tuple(name or int(index) for name, index in _STEP.findall(path))


def _schema(path: Path) -> Any:
    try:
        from fastavro.schema import parse_schema
    except ImportError:
        sentence = "kafka_value: Avro needs: pip install 'sightstream[avro]'"
        raise ConfigError(sentence) from None
    try:
        said = json.loads(path.read_text("utf-8"))
        parsed = parse_schema(said)
    except Exception as error:
        sentence = f"kafka_value: {path} cannot be read as an Avro schema: {error}"
        raise ConfigError(sentence) from None
    if _holds_itself(said, ()):
        sentence = f"kafka_value: a type in {path} holds itself, so that nothing bounds a message"
        raise ConfigError(sentence)
    return parsed


def _holds_itself(schema: Any, around: tuple[str, ...]) -> bool:
    """Tell whether a schema names a type within its own definition."""
    if isinstance(schema, str):
        return schema.rpartition(".")[2] in around
    if isinstance(schema, list):
        return any(_holds_itself(each, around) for each in schema)
    inside = around + ((schema["name"].rpartition(".")[2],) if "name" in schema else ())
    parts = [schema[part] for part in ("items", "values") if part in schema]
    parts += [schema["type"]] if isinstance(schema.get("type"), dict | list) else []
    parts += [field["type"] for field in schema.get("fields", ())]
    return any(_holds_itself(each, inside) for each in parts)


def _found(whole: Any, path: tuple[str | int, ...], kind: str) -> bytes | Rejected:
    """The image at a path, as bytes or as base64."""
    shown = "$" + "".join(f".{step}" if isinstance(step, str) else f"[{step}]" for step in path)
    for step in path:
        try:
            whole = whole[step]
        except (KeyError, IndexError, TypeError):
            return Rejected("unsupported_format", f"The {kind} has nothing at {shown}.")
    if isinstance(whole, bytes):
        return whole or _nothing(shown)
    if not isinstance(whole, str):
        what = _KINDS.get(type(whole), "no text")
        sentence = f"The {kind} has {what} at {shown}, and no base64 text."
        return Rejected("unsupported_format", sentence)
    return _image(whole, whole.encode("utf-8", "replace"), shown) if whole else _nothing(shown)


def _nothing(place: str) -> Rejected:
    return Rejected("empty", f"The message has no bytes at {place}.")


def _text(value: bytes) -> str:
    text = value.decode("utf-8-sig", "replace").strip()
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1].replace("\\/", "/") if quoted else text


def _image(text: str, value: bytes, place: str) -> bytes | Rejected:
    """The bytes of base64 text or of a data URI, in the alphabet of either kind."""
    uri = _DATA_URI.match(text := text.strip())
    text = text[uri.end() :] if uri else text
    if uri and not uri[1]:
        if len(text) > _MOST_ENCODED:
            return Rejected("too_large", f"A data URI of {len(text):,} bytes must be in base64.")
        return unquote_to_bytes(text.encode("utf-8", "replace")) or _nothing(place)
    for code, letter in _RESERVED.items() if uri else ():
        text = text.replace(code, letter).replace(code.lower(), letter)
    packed = "".join(text.split())
    packed = packed.rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True) or _nothing(place)
    except ValueError:
        return unexpected(value, "base64 text")


def unexpected(value: bytes, wanted: str) -> Rejected:
    """Say what came in the place of what `kafka_value` asks for."""
    format = formats.find(value)
    seen = f"a {format.name} file" if format else kinds.name(value)[0]
    if wanted.startswith("base64") and seen in ("base64 text", "a data URI"):
        return Rejected("corrupt", "The base64 text of the message is damaged.")
    seen = f"it is {seen}" if seen else f"it begins with {kinds.beginning(value)}"
    return Rejected("unsupported_format", f"Not {wanted}, as kafka_value says: {seen}.")


def event_id(event: Mapping[str, Any]) -> str | None:
    """The event id of a CloudEvent as of one in binary mode; None where it has no id."""
    own, source = _attribute(event, "id", 255), event.get("source")
    if own is None or not isinstance(source, str) or not source:
        return own
    raw = source.encode("utf-8", "replace")
    if _attribute(event, "source", 1024) is None or SEPARATOR in source:
        source = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return f"{source}{SEPARATOR}{own}"


def event_time(event: Mapping[str, Any], received: float) -> float:
    """Its time in seconds since the epoch, if within a day of when it was received."""
    try:
        time = datetime.fromisoformat(_attribute(event, "time", 64) or "")
        sent = time.replace(tzinfo=time.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return received
    return sent if abs(sent - received) <= _DAY else received


def subject(event: Mapping[str, Any]) -> str | None:
    """The original name of its image."""
    return _attribute(event, "subject", 4096)


def _attribute(event: Mapping[str, Any], name: str, most: int) -> str | None:
    """An attribute that is text which UTF-8 can hold, not empty and not too long."""
    value = event.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can hold halves of letters.
        return None
    return value
