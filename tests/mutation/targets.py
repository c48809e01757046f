"""What takes input from outside, each as the product calls it: an answer, or one sentence.

A target's object lives in a child process. Called with a kind and bytes, it returns `read` or
`refused`; all that it raises is a find.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np

from sightstream.errors import SightstreamError
from tests.mutation import foreign_models, seeds
from tests.mutation.mutate import retyped, with_checksums

READ, REFUSED = "read", "refused"
ROOT = Path(__file__).parents[2]

Call = Callable[[str, bytes], str]


@dataclass(frozen=True)
class Target:
    """Input of one sort: what to mutate, and what is called with it."""

    make: Callable[[], Call]  # in the child process
    seeds: Callable[[], Mapping[str, list[bytes]]]  # by kind
    words: tuple[bytes, ...] = ()  # parts that a text is made of
    repair: Callable[[bytes], bytes] | None = None  # of every second one, as a PNG's checksums
    may_die: bool = False  # in a process of its own in the product, too
    alone: bool = False  # only where it is asked for by its name: it takes long
    slow: float = 5.0  # seconds above which an input is a find


def _watch_for(folder: Path) -> None:
    """Make it an error of this process to change files elsewhere, or to reach or start anything."""
    root = os.path.realpath(folder)
    never = {"socket.connect", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"}
    changes = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link"}

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if event in never:
            raise AssertionError(f"{event} {given[:2]}")
        opens = event == "open" and isinstance(given[2], int) and given[2] & _WRITES
        if not (opens or event in changes):
            return
        places = given[:2] if event in {"os.rename", "os.link"} else given[:1]
        places = given[1:2] if event == "os.symlink" else places
        for place in places:
            if isinstance(place, (str, bytes, os.PathLike)):
                here = os.path.realpath(os.fsdecode(place))
                if not here.startswith((f"{root}/", "/dev/")) and "__pycache__" not in here:
                    raise AssertionError(f"{event} {here}")

    sys.addaudithook(watch)


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class _Folder:
    """A folder of a target."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp())


@cache
def stay_below(folder: str) -> None:
    """Have what this process writes come below a folder, or be an error."""
    tempfile.tempdir = folder
    os.chdir(folder)
    _watch_for(Path(folder))


def _sentence(text: object) -> None:
    """Fail unless a text is what a row, a terminal and a log can hold."""
    assert isinstance(text, str) and text.strip(), repr(text)
    text.encode()
    assert "Traceback" not in text, text


# Images: in the stream's workers, in `predict`, in the page


class Images:
    """The decoder, and the models' answer for what it read."""

    def __init__(self) -> None:
        from sightstream.images.decode import Preprocessing

        self._wants = [
            Preprocessing(8, 8), Preprocessing(24, 32, 1, "bicubic", "pad"),
            Preprocessing(16, 16, aspect="crop", levels="full", crop=0.8, window="lung"),
            Preprocessing(64, 64, resize="lanczos", frame="middle"),
        ]  # fmt: skip
        self._count = 0

    def __call__(self, kind: str, data: bytes) -> str:
        from sightstream.images.decode import Decoded, decode

        self._count += 1
        want = self._wants[self._count % len(self._wants)]
        found = decode(data, want)
        if not isinstance(found, Decoded):
            return _rejected(found)
        assert found.pixels.shape == want.shape and found.pixels.dtype == np.uint8
        assert 0 < found.width < 2**31 and 0 < found.height < 2**31
        if self._count % 4 == 0:  # memory that nobody wrote would differ
            again = decode(data, want)
            assert isinstance(again, Decoded), again
            assert np.array_equal(again.pixels, found.pixels), "the same bytes, other pixels"
        return READ


def _rejected(found: Any) -> str:
    from sightstream.images.limits import ErrorCode

    assert found.code in get_args(ErrorCode), found
    _sentence(found.detail)
    for side in (found.width, found.height):
        assert side is None or 0 <= side < 2**31
    return REFUSED


class Page:
    """What the page does with an upload: the answer, its picture, and what decided."""

    def __init__(self) -> None:
        from sightstream.images.limits import DEFAULT_LIMITS
        from sightstream.models.version import serve
        from sightstream.scoring.classifier import Classifier
        from tests.tiny_model import write_version
        from web.thumbnails import Painter

        version = _Folder().path / "version"
        digest = write_version(version)
        model = serve(version, "tiny", 1, digest, "onnx", "cpu")
        self._classifier = Classifier(model, DEFAULT_LIMITS, 3)
        self._painter, self._seen = Painter(DEFAULT_LIMITS), model.preprocessing

    def __call__(self, kind: str, data: bytes) -> str:
        (answer,) = self._classifier([data])
        picture = self._painter.fit(data, 96)
        heat = self._classifier.occlusion(data, 0)
        if answer.error_code:
            _sentence(answer.error_detail)
            assert heat is None
            return REFUSED
        assert picture and heat is not None and np.isfinite(heat).all()
        assert self._painter.overlay(data, 96, heat, self._seen)
        return READ


# Kafka: headers, keys, and values that hold images or S3's events


class Headers:
    """A message's headers and key; one line of `name: value` each."""

    def __init__(self) -> None:
        from sightstream.images.limits import DEFAULT_LIMITS
        from sightstream.images.store import Store
        from streaming.kafka.events import Places

        self._folder = _Folder()
        self._below = self._folder.path / "shared"
        self._below.mkdir()
        (self._below / "a.png").write_bytes(seeds.images()["PNG"][0])
        self._store = Store((self._below.as_uri(), "s3://bucket/in"), DEFAULT_LIMITS)
        self._places = Places("images", "", 1_796_000_000.0, 2**20)
        self._count = 0

    def __call__(self, kind: str, data: bytes) -> str:
        from sightstream.tables.schema import EVENT
        from streaming.kafka.events import Message

        data = data.replace(b"SHARED", os.fsencode(self._below))
        lines = [line.partition(b": ") for line in data.split(b"\n")]
        names = ("ce_id", "ce_source", "ce_time", "ce_subject", "uri")
        headers: dict[str, bytes | None] = {
            name.decode("utf-8", "replace"): value for name, _, value in lines
        }
        headers |= {name: lines[n % len(lines)][2] for n, name in enumerate(names)
                    if name not in headers and n % 2}  # fmt: skip
        self._count += 1
        size, when = self._count % 3, (-1, 0, 1_796_000_000_000, 2**62)[self._count % 4]
        message = Message(0, 2**62, when, data[:300], bytes(size), headers)
        events = self._places.events([message])
        assert events.schema == EVENT and events.num_rows == 1
        events.validate(full=True)
        (event,) = events.to_pylist()
        assert event["event_id"] and len(event["event_id"]) <= 1024 + 1 + 255
        days = event["event_time"] / 86_400
        assert abs(days - 1_796_000_000 / 86_400) < 370 or abs(days) <= 1
        if size or event["error_code"]:
            return READ if size else REFUSED
        uri = event["uri"]
        if uri.startswith("s3:"):
            return READ  # asked of a bucket
        found = self._store(uri)
        if isinstance(found, str):
            assert found.startswith(f"{self._below}/"), found
            return READ
        return _rejected(found)

    @staticmethod
    def seeds() -> dict[str, list[bytes]]:
        ours = (
            b"ce_id: 01a1fe0c-b2f5\nce_source: camera/3\nce_time: 2026-11-29T07:00:00Z\n"
            b"ce_subject: north/a b.png\nuri: file://SHARED/a.png"
        )
        return {
            "headers": [
                ours, ours.replace(b"/a.png", b"/%2e%2e/a.png"), ours.replace(b"file://", b"s3://"),
                b"ce_id: x#y\nce_source: a#b\nce_time: 1\nuri: file:///SHARED/../b",
                "ce_id: ü€\nce_subject: 日本.png".encode(),
            ]
        }  # fmt: skip


class Values:
    """Values around an image, as `kafka_value` has them, and S3's events."""

    def __init__(self) -> None:
        from sightstream.images.limits import DEFAULT_LIMITS
        from streaming.kafka.object_events import event_reader
        from streaming.kafka.values import opener

        self._folder = _Folder()
        schema = self._folder.path / "image.avsc"
        schema.write_text(_SCHEMA)
        opened = {"base64": "base64", "json": "json:$.data.image", "avro": f"avro:{schema}:$.image"}
        self._openers = {kind: opener(setting) for kind, setting in opened.items()}
        self._reader = event_reader(["s3://photos/in"], DEFAULT_LIMITS)

    def __call__(self, kind: str, data: bytes) -> str:
        import pyarrow as pa

        from sightstream.tables.schema import EVENT
        from streaming.kafka.reader import _as_told

        row = {"event_id": "e", "source": "kafka", "event_time": 1_796_000_000.0}
        if kind == "s3-event":
            found = list(self._reader._events(row, data))
            pa.Table.from_pylist(found, EVENT).validate(full=True)
            for each in found:
                fine = each.get("error_code") or each["uri"].startswith("s3://photos/in/")
                assert fine, each
            return READ if any(not each.get("error_code") for each in found) else REFUSED
        body = self._openers[kind](data)
        told = _as_told(pa.Table.from_pylist([row], EVENT), [body.event])
        told.validate(full=True)
        return READ if isinstance(body.image, bytes) else _rejected(body.image)

    @staticmethod
    def seeds() -> dict[str, list[bytes]]:
        import base64
        import json

        from fastavro import parse_schema, schemaless_writer

        png = seeds.images()["PNG"][0]
        text = base64.b64encode(png).decode()
        schemaless_writer(avro := io.BytesIO(), parse_schema(json.loads(_SCHEMA)), {
            "id": 3, "image": png, "tags": ["a", "b"], "of": {"x": 1.5},
        })  # fmt: skip
        event = {"specversion": "1.0", "id": "7", "source": "cam", "subject": "a.png",
                 "time": "2026-11-29T07:00:00+01:00", "data": {"image": text}}  # fmt: skip
        put = {"eventName": "s3:ObjectCreated:Put", "eventTime": "2026-11-29T07:00:00.000Z",
               "s3": {"bucket": {"name": "photos"}, "object": {
                   "key": "in/a+b%C3%BC.png", "eTag": "d41d8", "size": 17,
                   "sequencer": "0A"}}}  # fmt: skip
        bridge = {"detail-type": "Object Created", "time": "2026-11-29T07:00:00Z",
                  "detail": put["s3"]}  # fmt: skip
        wrapped = {"Message": json.dumps({"Records": [put, put]})}
        return {
            "base64": [text.encode(), f"data:image/png;base64,{text}".encode()],
            "json": [json.dumps(event).encode(), json.dumps({"data": {"image": "%41"}}).encode()],
            "avro": [b"\0\0\0\0\1" + avro.getvalue()],
            "s3-event": [
                json.dumps(each).encode() for each in ({"Records": [put]}, bridge, wrapped)
            ],
        }


_SCHEMA = """{"type": "record", "name": "Image", "fields": [
 {"name": "id", "type": "long"}, {"name": "image", "type": ["null", "bytes", "string"]},
 {"name": "tags", "type": {"type": "array", "items": "string"}},
 {"name": "of", "type": {"type": "map", "values": ["double", "null"]}}]}"""

_JSON_WORDS = (b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"1e999", b"-1", b"NaN",
               b"Infinity", b'"\\ud800"', b"9" * 400, b"[" * 50_000, b'{"a":' * 2000, b"\\u0000",
               b"../", b"%2e%2e%2f", b"#", b"\xef\xbb\xbf")  # fmt: skip


# Files of a home or of a user, which the driver reads


class Manifests:
    """Manifests that wait at a start."""

    def __init__(self) -> None:
        self._folder = _Folder()
        self._manifests = self._folder.path / "manifests"
        self._manifests.mkdir()

    def __call__(self, kind: str, data: bytes) -> str:
        from streaming.folder.manifests import between, placed, read
        from streaming.folder.source import waiting

        (self._manifests / f"{1:020d}.arrow").write_bytes(data)
        try:
            count = waiting(self._manifests, self._folder.path / "checkpoint")
        except SightstreamError as error:
            _sentence(str(error))
            return REFUSED
        events = placed(read(between(self._manifests, {})), self._folder.path / "images")
        assert len(events.to_pylist()) == count
        return READ

    @staticmethod
    def seeds() -> dict[str, list[bytes]]:
        import pyarrow as pa

        from sightstream.images.event import ImageEvent
        from sightstream.tables.schema import EVENT
        from streaming.folder.manifests import write

        made = []
        with tempfile.TemporaryDirectory() as folder:
            for count in (1, 3, 200):
                events = [
                    ImageEvent(f"id {n}", "folder", f"2026-11-29/0700/{n}.png", f"ü {n}", n, n)
                    for n in range(count)
                ]
                write(Path(folder, "a"), pa.Table.from_pylist(list(map(vars, events)), EVENT))
                made.append(Path(folder, "a").read_bytes())
        return {"manifest": made}


class Home:
    """Files in which a home keeps its state, and the cards of versions."""

    def __init__(self) -> None:
        from streaming.backfill import plan
        from streaming.backfill.files import found

        self._folder = _Folder()
        self._plan, self._home = self._folder.path / "plan", self._folder.path / "home"
        made = found({"event_id": ["a", "b"], "uri": ["/a", "/b"]}, 2, 1.0)
        plan.write(self._plan, made, model="leaf@1", source="/", content=None)
        self._checkpoint = self._home / "checkpoints" / "images"
        for kind, seed in self.seeds().items():
            if "/" in kind:
                self._place(kind).parent.mkdir(parents=True, exist_ok=True)
                self._place(kind).write_bytes(seed[0])
        (self._home / "manifests").mkdir()
        self._count = 0

    def _place(self, kind: str) -> Path:
        return self._checkpoint / kind if "/" in kind else self._folder.path / kind

    def __call__(self, kind: str, data: bytes) -> str:
        self._count += 1
        if self._count % 2 and kind != "split.csv":  # few changes of bytes leave JSON
            rng = random.Random(data)
            data = retyped(rng, rng.choice(self.seeds()[kind]))
        file = self._plan / kind if kind == "plan.json" else self._place(kind)
        before = file.read_bytes() if "/" in kind else b""
        file.write_bytes(data)
        try:
            self._read(kind, file)
        except SightstreamError as error:
            _sentence(str(error).encode("utf-8", "replace").decode())
            return REFUSED
        finally:
            file.write_bytes(before)
        return READ

    def _read(self, kind: str, file: Path) -> None:
        from sightstream.config import Broker
        from sightstream.models import drift, version
        from streaming import checkpoint
        from streaming.backfill import plan
        from streaming.folder import source, stuck
        from streaming.kafka.lag import Topic
        from streaming.observe import news
        from training import datasets

        if kind == "stuck.json":
            _sentence(str(stuck.read(file)))
        elif kind == "stream.json":
            for each in news.read(file).restarts.values():
                _sentence(str(each))
        elif kind == "plan.json":
            held = plan.read(file.parent)
            assert held and held.images == 2
        elif kind == "split.csv":
            for each in datasets.read_split(file):
                assert each.path + each.label + each.split + each.digest + each.fault is not None
        elif kind == "version.json":
            card = version.read_card(file.parent)
            assert version.automatic(card) and all(each.encode() for each in card.labels)
            if card.reference:
                drift.Window(card.reference).add("label", np.arange(len(card.labels)))
        else:
            checkpoint.app_id(self._checkpoint)
            if b"manifest" in file.read_bytes():
                source.waiting(self._home / "manifests", self._checkpoint)
            else:
                topic = Topic(Broker("broker:9092"), "images", self._checkpoint)
                for each in topic.committed_offsets().values():
                    assert each + 1 > each
            assert checkpoint.planned(self._checkpoint, 0) is not None
            if kind == "commits/0":  # which the table lacks
                checkpoint.require_match(self._checkpoint, str(self._folder.path / "no table"))

    @staticmethod
    def seeds() -> dict[str, list[bytes]]:
        card = (
            b'{"labels": ["cat", "dog"], "preprocessing": {"height": 8, "width": 9, "channels": 3},'
            b' "metrics": {"accuracy": 0.5}, "training": {"recipe": "leaf"}, "onnx_difference": 0,'
            b' "checksums": {}, "reference": {"edges": {"size": [1.5]}, "counts": {"size": [1, 2],'
            b' "label": [3, 4]}}, "origin": null}'
        )
        plan = b'{"app_id": "a", "model": "leaf@1", "images": 2, "source": "/", "content": null}'
        return {
            "stuck.json": [b'{"count": 2, "named": {"a.jpg": "cannot be read"}}'],
            "stream.json": [b'{"restarts": {"folder": {"count": 1, "why": "it is full"}}}'],
            "plan.json": [plan], "version.json": [card],
            "split.csv": [b"path,label,split,digest,fault\n/a.png,cat,train,12,\n"],
            "./metadata": [b'{"id":"01a1fe0c-b2f5-7f93"}'],
            "offsets/0": [
                b'v1\n{"batchWatermarkMs":0,"batchTimestampMs":7}\n{"manifest": "17.arrow"}',
                b'v2\n{"batchWatermarkMs":0,"batchTimestampMs":7}\n0:{"images":{"1":22,"0":23}}',
            ],
            "commits/0": [b'v1\n{"nextBatchWatermarkMs":0}'],
        }  # fmt: skip


class Labels:
    """Files of labels: `label --csv`, and `models import --labels`."""

    def __init__(self) -> None:
        self._folder = _Folder()

    def __call__(self, kind: str, data: bytes) -> str:
        from sightstream.models.bring import labels
        from sightstream.tables.labels import from_csv

        file = self._folder.path / "file"
        file.write_bytes(data)
        try:
            if kind == "csv":
                pairs, lines = from_csv(file)
                assert pairs and pairs.keys() == lines.keys()
                for each in (*pairs.keys(), *pairs.values()):
                    each.encode()
            else:
                assert all(labels.distinct(labels.given(str(file))))
        except SightstreamError as error:
            _sentence(str(error))
            return REFUSED
        return READ

    @staticmethod
    def seeds() -> dict[str, list[bytes]]:
        table = 'event_id,label\nid 1,red panda\n"id, 2","a ""cat"""\n'
        names = ["cat\ndog\n", "0 cat\n1 dog\n", '["cat", "dog"]', '{"0": "cat", "1": "dog"}',
                 "{0: 'cat', 1: 'dog'}"]  # fmt: skip
        csv = [table, table.replace(",", ";"), "sep=;\n" + table.replace(",", ";")]
        return {
            "csv": [*(each.encode() for each in csv), table.encode("utf-16"),
                    table.encode("utf-8-sig")],
            "labels": [each.encode() for each in names],
        }  # fmt: skip


class Settings:
    """`sightstream.toml`, and variables of the environment."""

    def __init__(self) -> None:
        from sightstream import config

        for name in [name for name in os.environ if name.startswith(config.ENV_PREFIX)]:
            del os.environ[name]
        self._folder = _Folder()

    def __call__(self, kind: str, data: bytes) -> str:
        from sightstream import config

        os.chdir(self._folder.path)
        config.FILE.write_bytes(data if kind == "toml" else b"")
        added = {}
        if kind == "variable":
            name, _, value = data.partition(b"=")
            known = sorted(config.Settings.model_fields)
            key = config.ENV_PREFIX + known[sum(name) % len(known)].upper()
            added = {key: os.fsdecode(value.replace(b"\0", b""))}
        os.environ.update(added)
        try:
            found = config.load(home="home")
            for place in (found.root, found.predictions, found.registry_address, found.kafka):
                str(place)
            assert found.limits and found.acceptance and found.history
        except SightstreamError as error:
            _sentence(os.fsencode(str(error)).decode("utf-8", "replace"))
            return REFUSED
        finally:
            for each in added:
                del os.environ[each]
            os.chdir(tempfile.gettempdir())
        return READ

    @staticmethod
    def seeds() -> dict[str, list[bytes]]:
        toml = (
            b'model = "leaf"\ntop_k = 3\nsource = ["folder", "kafka"]\nsettle_seconds = 0.5\n'
            b'canary = "5%"\nshadow = "leaf@challenger"\nignore = "*.tmp,~*"\n'
            b'kafka_value = "json:$.a[0].b"\ntable_history = "12h"\nmaster = "local[2,4]"\n'
            b'[spark]\n"spark.sql.shuffle.partitions" = "2"\n'
        )
        values = ("3", "5%", "leaf@challenger", "folder,kafka", '{"spark.a": "b"}', "*.tmp,~*",
                  "json:$.a[0]", "https://login.site/token", "/a/b.pem", "12h", "true")  # fmt: skip
        return {
            "toml": [toml, b"top_k = 5\n", b'\xef\xbb\xbfmodel = "x"\n'],
            "variable": [f"{n}={value}".encode() for n, value in enumerate(values)],
        }


class Query:
    """SQL of `sightstream query`, as the command prints it."""

    def __init__(self) -> None:
        from datetime import UTC, datetime

        import pyarrow as pa

        from sightstream.tables.labels import Labels as Table
        from sightstream.tables.predictions import Predictions
        from sightstream.tables.schema import ROW

        self._folder = _Folder()
        home = self._folder.path / "home"
        now = datetime(2026, 11, 29, tzinfo=UTC)
        row = {"source": "folder", "status": "ok", "label": "cat", "score": 0.75, "model": "a",
               "top": [{"label": "cat", "score": 0.75}], "model_version": 1, "event_time": now,
               "processed_at": now, "date": now.date()}  # fmt: skip
        bad = {"status": "rejected", "label": None, "score": None, "error_code": "empty"}
        rows = [{**row, "event_id": "1"}, {**row, "event_id": "2", **bad}]
        Predictions(str(home / "predictions")).append(pa.Table.from_pylist(rows, ROW), "app", 0)
        Table(home / "labels").put({"1": "dog"}, "me")
        os.environ["COLUMNS"] = "80"
        self._count = 0

    def __call__(self, kind: str, data: bytes) -> str:
        from sightstream.cli import tables

        self._count += 1
        shown = ("table", "csv", "json")[self._count % 3]
        text = data.decode("utf-8", "surrogateescape").replace("\0", "")
        said = io.TextIOWrapper(io.BytesIO(), "utf-8")
        try:
            with redirect_stdout(said), redirect_stderr(io.StringIO()):
                tables.query(text, shown, self._folder.path / "home", False)
                said.flush()
        except SightstreamError as error:
            _sentence(str(error).encode("utf-8", "replace").decode())
            return REFUSED
        return READ

    @staticmethod
    def seeds() -> dict[str, list[bytes]]:
        return {"sql": [each.encode() for each in _SQL]}


_SQL = (
    "select label, count(*) as images, avg(score) from predictions group by label",
    "select original_name, error_code, error_detail from dead_letters",
    "select * from predictions p left join labels l using (event_id) where p.score > 0.5",
    "with a as (select date, top[1].label as best from predictions) select * from a order by 1",
    "select event_time, processed_at - event_time, date_trunc('hour', event_time) from predictions",
    "select unnest(top), also, {'a': 1}, [1, 2], map {'k': 2}, 1::decimal(30, 4) from predictions",
    "select quantile_cont(score, 0.5), stddev(score), histogram(label) from predictions",
    "select date '2026-11-29' + interval 1 day, time '07:00:00', uuid(), 'x'::blob, 1::hugeint",
    "summarize predictions", "describe labels", "show tables", "explain select 1",
)  # fmt: skip
_SQL_WORDS = tuple(
    f" {each} ".encode()
    for each in (
        "select", "from", "predictions", "labels", "dead_letters", "where", "null", "(", ")", "*",
        ",", ";", "--", "'", '"', "union all", "distinct", "over ()", "::date", "::timestamptz",
        "::interval", "::bit", "::timetz", "::blob", "::json", "::uhugeint", "'infinity'::date",
        "'-infinity'::timestamp", "date '200000-01-01'", "timestamp '0044-03-15 (BC) 00:00:00'",
        "interval '300000 years'", "'nan'::float", "1e308", "-1", "9223372036854775807",
        "170141183460469231731687303715884105727", "struct_pack(a := 1)", "enum_range(null)",
        "'\\xff'::blob", "chr(0)", "chr(55296)", "as \"a b\"", "union_value(k := 1)", "[]", "?",
        "time_ns", "::timestamp_ns", "::timestamp_s", "::bignum", "limit 3", "group by all",
    )
)  # fmt: skip


class Recipes:
    """Recipe files of a user, which are Python: a mistake in one is a sentence with its line."""

    def __init__(self) -> None:
        self._folder = _Folder()

    def __call__(self, kind: str, data: bytes) -> str:
        from training import recipes

        file = self._folder.path / "mine.py"
        file.write_bytes(data)
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                recipes.find(str(file))
        except SightstreamError as error:
            _sentence(str(error).encode("utf-8", "replace").decode())
            return REFUSED
        return READ

    @staticmethod
    def seeds() -> dict[str, list[bytes]]:
        folder = ROOT / "training" / "recipes"
        return {"recipe": [(folder / f"{name}.py").read_bytes() for name in ("leaf", "xray")]}


_PYTHON_WORDS = (b"\n", b"    ", b"(", b")", b"None", b"=", b"Recipe(", b"raise ValueError\n",
                 b"import os\n", b"\0", b"\xff", b"1/0", b"\nraise SystemExit(3)\n", b"def f(:",
                 b"# -*- coding: nonsense -*-\n", b"RECIPE = 3\n", b"(" * 300)  # fmt: skip


class Models:
    """Files and folders of `models import`, up to the served graph and its proof."""

    def __init__(self) -> None:
        self._folder = _Folder()
        self._count = 0

    def __call__(self, kind: str, data: bytes) -> str:
        from sightstream.models.bring.bring import Wish, bring
        from sightstream.models.bring.scale import NAMED

        self._count += 1
        place = self._folder.path / f"model {self._count}"
        place.mkdir()
        path = foreign_models.written(place, kind, data)
        wish = Wish(labels=tuple("abcd"), scale=NAMED["0..255"])
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                brought = bring(path, wish, seeds.images()["BMP"][:3])
            assert brought.content and brought.labels
        except SightstreamError as error:
            _sentence(str(error).encode("utf-8", "replace").decode())
            return REFUSED
        finally:
            shutil.rmtree(place)
        return READ


class KerasModels(Models):
    """Those that TensorFlow reads; it is imported, and a model made, before files are watched."""

    def __init__(self) -> None:
        foreign_models.keras_file()
        super().__init__()


def _images(name: str) -> Callable[[], Mapping[str, list[bytes]]]:
    return lambda: {name: seeds.images()[name]}


_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIC", "JXL", "DICOM")

TARGETS: dict[str, Target] = {
    **{
        f"images/{name}": Target(
            Images, _images(name), may_die=True,
            repair=with_checksums if name == "PNG" else None,
        )
        for name in _FORMATS
    },
    "page": Target(Page, seeds.images, may_die=True, slow=15.0),  # it decodes an image thrice
    "headers": Target(Headers, Headers.seeds, (
        b"ce_id: ", b"ce_source: ", b"ce_time: ", b"uri: ", b"\n", b"file://", b"../", b"%2e%2e/",
        b"SHARED", b"%00", b"\0", b"#", b"\xff", b"9999-12-31T23:59:59+00:00", b"0001-01-01",
        b"2026-11-29T07:00:00,5-23:59", b"x" * 5000, "\u2028".encode(), b"s3://", b"\\",
    )),
    "values": Target(Values, Values.seeds, _JSON_WORDS),
    "manifests": Target(Manifests, Manifests.seeds),
    "home": Target(Home, Home.seeds, (*_JSON_WORDS, b",", b"\n", b"5", b"\\ud800", b"1.5")),
    "labels": Target(Labels, Labels.seeds, (
        b",", b";", b"\t", b'"', b"\n", b"\r", b"\0", b"sep=", b"/", b".", b" ", b"[", b"{",
        "\u2028".encode(), b"\xff\xfe", b"\xed\xa0\x80", b"x" * 300, b"(" * 300, b"[" * 50_000,
        b"-" * 300,
    )),
    "settings": Target(Settings, Settings.seeds, (
        b"=", b'"', b"'", b"[", b"]", b"{", b"}", b"\n", b"#", b"inf", b"nan", b"-1", b"1e999",
        b"9" * 30, b"true", b"2026-11-29", b"[spark]", b"[[spark]]", b"home = ", b"\0", b"\xff",
        b"[" * 2000, b"a." * 2000, b"%", b",", b"@", b"~nobody-has-this/", b"http://[::1",
    )),
    "query": Target(Query, Query.seeds, _SQL_WORDS),
    "recipes": Target(Recipes, Recipes.seeds, _PYTHON_WORDS),
    "models": Target(Models, foreign_models.light, may_die=True),
    "keras": Target(KerasModels, foreign_models.heavy, may_die=True, alone=True),
}  # fmt: skip
