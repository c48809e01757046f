"""`sightstream run --source kafka` against a real broker: what messages become."""

import base64
import contextlib
import hashlib
import io
import json
import os
import select
import shutil
import socket
import socketserver
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from sightstream import config
from sightstream.config import Broker
from sightstream.errors import BrokerRefusedError
from sightstream.io import kafka
from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import ROW
from tests.broker import MECHANISM, PASSWORD, USER
from tests.topics import create, messages, send


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode()


def headers(**values):
    return [(name, as_bytes(value)) for name, value in values.items()]


SENDERS = {
    each: f"{each}#5"
    for each in ("/cam-a", "/cam-b", "/cam-a/5", "urn:uuid:6e8b", "Tor 7, Süd", "x" * 1024)
} | {
    each: f"sha256:{hashlib.sha256(as_bytes(each)).hexdigest()}#5"
    for each in ("https://site/cams#a", "https://site/cams#b", "y" * 1025, b"\xff\xfe")
}
"""The event id of a message with id 5, by its source."""


def bodies(digit):
    """What people publish instead of an image's own bytes, by the kind that a row names."""
    text = base64.b64encode(digit)
    array = io.BytesIO()
    np.save(array, np.zeros((8, 8), np.uint8))
    return {
        "base64 text": text, "data URI": b"data:image/png;base64," + text,
        "JSON": json.dumps({"image": text.decode(), "camera": "a"}).encode(),
        "Avro (Confluent framing)": b"\0\0\0\0\x07" + digit, "NumPy array": array.getvalue(),
        "hexadecimal text": digit.hex().encode(), "DICOM": bytes(128) + b"DICM" + bytes(200),
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200),
        "raw pixels (64x64, RGB)": bytes(64 * 64 * 3),
    }  # fmt: skip


class TestOnce:
    """What `run --once --source kafka --predictions-topic` makes of all kinds of messages."""

    @pytest.fixture(scope="class")
    def claims(self, tmp_path_factory, starter):
        folder = tmp_path_factory.mktemp("claims") / "allowed"
        folder.mkdir()
        shutil.copyfile(starter.digits[0], folder / "a digit.png")
        shutil.copyfile(starter.digits[0], folder.parent / "secret.png")
        (folder / "link.png").symlink_to(folder.parent / "secret.png")
        return folder

    @pytest.fixture(scope="class")
    def home(self, new_home, broker, claims):
        return new_home(
            kafka_servers=broker.address, kafka_topic="once", source="kafka",
            kafka_predictions_topic="once-predictions", kafka_uri_prefixes=claims.as_uri(),
        )  # fmt: skip

    @pytest.fixture(scope="class")
    def sent(self, broker, starter, claims):
        """Each message under a name, in the order in which it was sent, and where it is."""
        create(broker, "once")
        digit, now = starter.digits[0].read_bytes(), datetime.now(UTC)
        values = {
            "plain": digit,
            "keyed": {"value": digit, "key": b"camera 7"},
            "keyed again": {"value": digit, "key": b"camera 7"},
            "described": {
                "value": digit, "partition": 0,
                "headers": headers(
                    ce_id="event 1", ce_subject="gate/7.png",
                    ce_time=(now - timedelta(hours=1)).isoformat().replace("+00:00", "Z"),
                ),
            },
            "sent twice": {"value": digit, "partition": 0, "headers": headers(ce_id="event 1")},
            "no utf-8": {
                "value": digit, "key": b"\xff\xfe",
                "headers": headers(ce_id=b"\xff", ce_subject=b"\xc3"),
            },
            "doubled header": {
                "value": digit, "headers": [*headers(ce_id="event 2"), *headers(ce_id="event 3")]
            },
            **{
                f"5 of {sender!r}": {
                    "value": digit, "partition": 0, "headers": headers(ce_id="5", ce_source=sender)
                }
                for sender in SENDERS
            },
            "5 of nobody": {"value": digit, "headers": headers(ce_id="5")},
            "5 of an empty source": {
                "value": digit, "partition": 0, "headers": headers(ce_id="5", ce_source="")
            },
            "no id": {"value": digit, "headers": headers(ce_source="/cam-a")},
            "a claim of cam-c": {
                "value": b"",
                "headers": headers(
                    ce_id="5", ce_source="/cam-c", uri=(claims / "a digit.png").as_uri()
                ),
            },
            "long id": {"value": digit, "headers": headers(ce_id="x" * 256)},
            "empty id": {"value": digit, "headers": headers(ce_id="")},
            "from the future": {
                "value": digit, "headers": headers(ce_time="9999-12-31T23:59:59Z")
            },
            "no time": {"value": digit, "headers": headers(ce_time="+294247-99-99 yesterday")},
            "an old clock": {"value": digit, "timestamp_ms": 1},
            "null": {"value": None, "key": b"null"},
            "empty": b"",
            "no image": b"noise" * 1000,
            "20 MB of noise": os.urandom(20 * 2**20 + 1),
            "a claim": {"value": b"", "headers": headers(uri=(claims / "a digit.png").as_uri())},
            "no such file": {"value": b"", "headers": headers(uri=(claims / "none").as_uri())},
            "a way out": {
                "value": b"", "headers": headers(uri=f"{claims.as_uri()}/../secret.png")
            },
            "a hidden way out": {
                "value": b"", "headers": headers(uri=f"{claims.as_uri()}/%2e%2e/secret.png")
            },
            "a link out": {"value": b"", "headers": headers(uri=(claims / "link.png").as_uri())},
            "elsewhere": {"value": b"", "headers": headers(uri="s3://bucket/a.png")},
            "no uri": {"value": b"", "headers": headers(uri=b"\xff")},
            **bodies(digit),
            "content and claim": {"value": digit, "headers": headers(uri="file:///etc/passwd")},
        }  # fmt: skip
        places = send(broker, "once", values.values())
        return {
            name: f"once/{place.partition}/{place.offset}"
            for name, place in zip(values, places, strict=True)
        }

    @pytest.fixture(scope="class")
    def once(self, home, sent):
        return home("run", "--once", "--metrics-port", "0")

    @pytest.fixture(scope="class")
    def rows(self, home, once, sent):
        """The row of each message that has one, by the message's name."""
        assert once.returncode == 0, once.stderr
        names = {place: name for name, place in sent.items()}
        described = {
            "event 1": "described", "event 2": "doubled header", "5": "5 of nobody",
            "/cam-c#5": "a claim of cam-c",
            **{event_id: f"5 of {sender!r}" for sender, event_id in SENDERS.items()},
        }  # fmt: skip
        rows = home.table().to_pylist()
        return {names.get(r["event_id"]) or described[r["event_id"]]: r for r in rows}

    def test_each_message_is_one_row_and_what_was_sent_twice_is_one_too(self, rows, sent, home):
        assert set(rows) == set(sent) - {"sent twice", "5 of an empty source"}
        assert home.count() == len(sent) - 2

    def test_its_last_word_is_how_many_were_taken(self, rows, once):
        assert once.stderr.splitlines()[-1].endswith(" images taken, 0 of them left behind")

    def test_what_is_wrong_with_a_message_is_its_code(self, rows):
        codes = {name: row["error_code"] for name, row in rows.items() if row["error_code"]}
        assert codes == {
            "null": "empty", "empty": "empty", "no image": "unsupported_format",
            "20 MB of noise": "too_large", "no such file": "not_found",
            "a way out": "uri_refused", "a hidden way out": "uri_refused",
            "a link out": "uri_refused", "elsewhere": "uri_refused", "no uri": "empty",
            **dict.fromkeys(bodies(b""), "unsupported_format"),
        }  # fmt: skip
        assert [kind for kind in bodies(b"") if kind not in rows[kind]["error_detail"]] == []
        assert {row["label"] for row in rows.values() if row["status"] == "ok"} == {"0"}
        assert rows["20 MB of noise"]["bytes"] == 20 * 2**20 + 1

    def test_a_message_without_an_id_has_that_of_its_place(self, rows, sent):
        named = {each for each in rows if each.startswith("5 of ")}
        named |= {"described", "doubled header", "a claim of cam-c"}
        assert all(rows[name]["event_id"] == sent[name] for name in set(rows) - named)
        assert rows["plain"]["uri"] == f"kafka://{sent['plain']}"

    def test_an_event_is_its_source_and_its_id(self, rows):
        found = {sender: rows[f"5 of {sender!r}"]["event_id"] for sender in SENDERS}
        assert found == SENDERS
        assert rows["5 of nobody"]["event_id"] == "5"
        assert rows["a claim of cam-c"]["event_id"] == "/cam-c#5"

    def test_headers_and_key_name_the_image(self, rows, sent):
        assert rows["described"]["original_name"] == "gate/7.png"
        assert rows["keyed"]["original_name"] == "camera 7"
        assert rows["no utf-8"]["original_name"] == sent["no utf-8"]

    def test_only_a_time_near_the_brokers_is_believed(self, rows):
        now = datetime.now(UTC)
        told = now - rows["described"]["event_time"]
        assert timedelta(minutes=59) < told < timedelta(minutes=75)
        for name in ("from the future", "no time"):
            assert now - rows[name]["event_time"] < timedelta(minutes=15)
        assert rows["an old clock"]["event_time"] == datetime(1970, 1, 1, tzinfo=UTC)

    def test_the_predictions_topic_tells_what_the_table_holds(self, broker, rows, once):
        told = messages(broker, "once-predictions")
        assert sorted(m.key.decode() for m in told) == sorted(r["event_id"] for r in rows.values())
        by_id = {row["event_id"]: row for row in rows.values()}
        for message in told:
            row = json.loads(message.value)
            assert row == json.loads(json.dumps(by_id[row["event_id"]], default=str))

    def test_a_second_run_has_nothing_to_do_and_a_late_duplicate_adds_nothing(
        self, home, rows, broker, starter
    ):
        digit = starter.digits[0].read_bytes()
        late = {"value": digit, "headers": headers(ce_id="event 1")}
        send(broker, "once", [late, {**late, "headers": headers(ce_id="event 9")}])
        again = home("run", "--once", "--metrics-port", "0", "--json")
        assert again.returncode == 0, again.stderr
        assert [json.loads(line)["event_id"] for line in again.stdout.splitlines()] == ["event 9"]
        assert Counter(home.table()["event_id"].to_pylist())["event 1"] == 1

    def test_what_the_broker_deleted_unread_stops_the_stream(self, home, rows, broker, starter):
        digit = starter.digits[0].read_bytes()
        places = send(broker, "once", [{"value": digit, "partition": n % 3} for n in range(30)])
        first = {p.partition: p.offset for p in reversed(places)}
        with kafka.connect(Broker(broker.address)) as client:
            from kafka import TopicPartition

            gone = {TopicPartition("once", n): offset + 2 for n, offset in first.items()}
            client.delete_records(gone)
        done = home("run", "--once", "--metrics-port", "0")
        assert done.returncode == 8
        for number, offset in first.items():
            assert f"partition {number}: offsets {offset} to {offset + 1}" in done.stderr
        assert "SIGHTSTREAM_KAFKA_FAIL_ON_DATA_LOSS=false" in done.stderr


def test_a_message_that_has_a_row_of_before_sources_counted_gets_no_second_one(
    new_home, broker, starter, topic
):
    create(broker, topic, partitions=1)
    home = new_home(kafka_servers=broker.address, kafka_topic=topic, source="kafka")
    digit, other = (path.read_bytes() for path in starter.digits[:2])
    then = datetime.now(UTC) - timedelta(minutes=1)
    before = {
        "event_id": "5", "source": "kafka", "uri": f"kafka://{topic}/0/0", "status": "ok",
        "original_name": f"{topic}/0/0", "bytes": len(digit), "processed_at": then,
        "date": then.date(),
    }  # fmt: skip
    table = Predictions(home.settings.predictions)
    table.append(pa.Table.from_pylist([before], ROW), "an earlier checkpoint", 0)
    sent = [(digit, "/cam-a"), (other, "/cam-b"), (digit, "/cam-a")]
    send(
        broker, topic,
        [{"value": each, "headers": headers(ce_id="5", ce_source=name)} for each, name in sent],
    )  # fmt: skip
    done = home("run", "--once", "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    assert sorted(home.table()["event_id"].to_pylist()) == ["/cam-b#5", "5"]


def test_wrong_credentials_a_topic_that_is_not_there_and_a_broker_that_is_away(new_home, broker):
    home = new_home(
        kafka_servers=broker.secure_address, kafka_security="SASL_SSL", kafka_ca=broker.ca,
        kafka_sasl_mechanism=MECHANISM, kafka_user=USER, kafka_password="wrong", source="kafka",
    )  # fmt: skip
    for flags, settings, said in [
        ([], {}, f"does not accept the user '{USER}'"),
        (["--topic", "none"], {"kafka_password": PASSWORD}, "publish --create-topic --topic none"),
        ([], {"kafka_ca": ""}, "not trusted"),
        ([], {"kafka_servers": "127.0.0.1:1"}, "no Kafka broker answers"),
    ]:
        done = home("run", *flags, "--metrics-port", "0", **settings)
        assert done.returncode in {7}, done.stderr
        assert said in done.stderr
        assert "wrong" not in done.stderr


def test_a_refusal_is_read_where_its_last_bytes_come_with_the_end_of_the_connection(broker):
    class Relay(socketserver.BaseRequestHandler):
        def handle(self):
            host, port = broker.secure_address.split(":")
            with socket.create_connection((host, int(port))) as upstream:
                threading.Thread(target=self.ask, args=[upstream], daemon=True).start()
                while piece := upstream.recv(65536):
                    self.hold(True)
                    self.request.sendall(piece)
                    if not select.select([upstream], [], [], 0.05)[0]:
                        self.hold(False)

        def ask(self, upstream):
            with contextlib.suppress(OSError):  # the broker has closed first
                while piece := self.request.recv(65536):
                    upstream.sendall(piece)
                upstream.shutdown(socket.SHUT_WR)

        def hold(self, on):
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        settings = config.Settings(
            kafka_servers=f"localhost:{relay.server_address[1]}", kafka_security="SASL_SSL",
            kafka_ca=broker.ca, kafka_sasl_mechanism=MECHANISM, kafka_user=USER,
            kafka_password="wrong",
        )  # fmt: skip
        try:
            with pytest.raises(BrokerRefusedError, match=f"does not accept the user '{USER}'"):
                kafka.connect(settings.kafka)
        finally:
            relay.shutdown()


def test_both_sources_over_tls_with_the_lag_in_metrics_and_status(
    new_home, broker, starter, until, figures
):
    create(broker, "both", partitions=2)
    home = new_home(
        kafka_servers=broker.secure_address, kafka_security="SASL_SSL", kafka_ca=broker.ca,
        kafka_sasl_mechanism=MECHANISM, kafka_user=USER, kafka_password=PASSWORD,
        kafka_topic="both", source="folder,kafka", kafka_predictions_topic="both-predictions",
    )  # fmt: skip
    images = [path.read_bytes() for path in starter.digits[:100]]
    send(broker, "both", images)

    def lag():
        done = home("status", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    before = lag()
    assert not before["running"]
    assert sum(count for count, _ in before["lag"].values()) == 100
    assert all(seconds > 0 for _, seconds in before["lag"].values())
    with home.running() as run:
        for path in starter.digits[100:150]:
            shutil.copyfile(path, home.settings.inbox / path.name)
        until(lambda: home.count() == 150, 60)
        gauges = [("sightstream_kafka_lag_records", str(n), "both") for n in (0, 1)]
        until(lambda: [figures(run).get(each) for each in gauges] == [0, 0])
        after = lag()
        assert after["running"]
        assert list(after["lag"].values()) == [[0, 0.0], [0, 0.0]]
        until(lambda: len(messages(broker, "both-predictions")) >= 150)
    rows = home.table()
    assert Counter(rows["source"].to_pylist()) == {"kafka": 100, "folder": 50}
    assert set(rows["status"].to_pylist()) == {"ok"}
    keys = {m.key.decode() for m in messages(broker, "both-predictions")}
    assert keys == set(rows["event_id"].to_pylist())
    secret = PASSWORD[-9:].encode()  # the same however it is quoted
    kept = [p for p in home.settings.root.rglob("*") if p.is_file() and "registry" not in p.parts]
    assert len(kept) > 50
    assert not [path for path in kept if secret in path.read_bytes()]
