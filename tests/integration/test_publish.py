"""sightstream publish against a real broker: what is delivered, and what is told."""

import json
import os
import random
import threading
import time
from contextlib import contextmanager
from uuid import UUID

import pytest

from sightstream.images.store import local_path
from tests import broker as brokers
from tests.topics import Program, headers, messages, topics

SEED = 20251123


@pytest.fixture
def photos(tmp_path):
    """Images of random bytes, under all kinds of names."""
    dice = random.Random(SEED)
    folder = tmp_path / "photos"
    for name in (
        b"a.jpg", b"sub/b c.PNG", b"caf\xe9.jpg", b"line\nbreak.jpg", b"100%.jpg",
        "日本語-🐈.webp".encode(), b"[red]x[/red].jpg", b"-x.jpg",
    ):  # fmt: skip
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(dice.randint(1, 50_000)))
    (folder / "empty.jpg").touch()
    return folder


@pytest.fixture
def run(broker, tmp_path):
    return lambda *arguments, **more: Program(broker, tmp_path, *arguments, **more).ended()


def readable(path):
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# publish


def test_a_topic_that_the_broker_does_not_create_is_told(run, photos, topic):
    to = ("publish", photos / "a.jpg", "--create-topic", "--topic")
    assert run(*to, f"{topic}.a").code == 0
    done = run(*to, f"{topic}_a")  # which the broker's metrics could not tell from the other one
    assert done.code == 7
    assert f"Kafka does not create the topic '{topic}_a' with 4 partition(s): " in done.err
    assert "Traceback" not in done.err


def test_every_image_is_delivered_byte_for_byte_with_its_headers(run, broker, photos, topic):
    done = run("publish", photos, "--topic", topic, "--create-topic", "--partitions", 3, "--json")
    assert done.code == 0, done.err
    expected = {
        readable(path.relative_to(photos.parent)): path.read_bytes()
        for path in photos.rglob("*")
        if path.is_file()
    }
    found = messages(broker, topic)
    assert {headers(m)["ce_subject"]: m.value for m in found} == expected
    assert len(found) == len(expected) == json.loads(done.out)["acknowledged"] == 9
    for message in found:
        told = headers(message)
        assert (told["ce_specversion"], told["ce_source"]) == ("1.0", "publish")
        assert message.key.decode() == f"{told['ce_source']}#{told['ce_id']}"
        assert UUID(told["ce_id"]).version == 7
        assert abs(message.timestamp / 1000 - time.time()) < 60
    assert {m.partition for m in found} <= set(range(3))


def test_the_summary_is_one_line_and_stdout_stays_empty(run, photos, topic):
    done = run("publish", photos / "a.jpg", "--topic", topic, "--create-topic")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith(f"1 of 1 images are in the topic {topic}")
    assert done.err.count("\n") == 1


def test_a_topic_is_made_with_limits_that_match(run, broker, topic, tmp_path):
    largest = tmp_path / "large.bmp"
    largest.write_bytes(random.Random(SEED).randbytes(3_000_000))
    limits = {"SIGHTSTREAM_MAX_IMAGE_BYTES": "3000000"}
    done = run("publish", largest, "--topic", topic, "--create-topic", **limits)
    assert done.code == 0, done.err
    (message,) = messages(broker, topic)
    assert message.value == largest.read_bytes()


@pytest.mark.parametrize(
    ("key", "expected"), [("name", b"b c.PNG"), ("path", b"photos/sub/b c.PNG")]
)
def test_the_key_is_what_was_asked_for(run, broker, photos, topic, key, expected):
    assert run("publish", photos, "--topic", topic, "--create-topic", "--key", key).code == 0
    assert expected in {message.key for message in messages(broker, topic)}


def test_by_hash_a_picture_keeps_its_id_under_any_name(run, broker, photos, topic, tmp_path):
    again = tmp_path / "other name.jpg"
    again.write_bytes((photos / "a.jpg").read_bytes())
    for path in (photos / "a.jpg", again, photos / "100%.jpg"):
        assert run("publish", path, "--topic", topic, "--create-topic", "--key", "hash").code == 0
    ids = {}
    for message in messages(broker, topic):
        ids.setdefault(headers(message)["ce_id"], []).append(headers(message)["ce_subject"])
    assert sorted(map(sorted, ids.values())) == [["100%.jpg"], ["a.jpg", "other name.jpg"]]


SMALL = {"SIGHTSTREAM_MAX_IMAGE_BYTES": "100000"}


@pytest.fixture
def large(photos):
    path = photos / "sub" / "large ü.tif"
    path.write_bytes(random.Random(SEED).randbytes(400_000))
    return path


def test_an_image_that_is_too_large_goes_as_its_uri(run, broker, photos, large, topic):
    allowed = {"SIGHTSTREAM_KAFKA_URI_PREFIXES": photos.as_uri()}
    done = run("publish", photos, "--topic", topic, "--create-topic", "--json", **SMALL, **allowed)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["acknowledged"], told["claim_checks"], told["refused"]) == (10, 1, 0)
    (claim,) = (m for m in messages(broker, topic) if "uri" in headers(m))
    assert claim.value == b""
    assert local_path(headers(claim)["uri"]) == str(large)


def test_without_an_allowed_prefix_it_is_refused_by_name_and_the_others_go(
    run, broker, photos, large, topic
):
    done = run("publish", photos, "--topic", topic, "--create-topic", "--json", **SMALL)
    assert done.code == 1
    told = json.loads(done.out)
    assert (told["acknowledged"], told["refused"]) == (9, 1)
    assert f"{large} has 400000 bytes" in done.err
    cure = "add the folder's uri to kafka_uri_prefixes here and where the stream runs"
    assert f"{cure}: {large.parent.as_uri()}/" in done.err
    assert len(messages(broker, topic)) == 9


def test_a_claim_check_can_be_forbidden_and_demanded(run, broker, photos, large, topic):
    more = {**SMALL, "SIGHTSTREAM_KAFKA_URI_PREFIXES": photos.as_uri()}
    to = ("--topic", topic, "--create-topic", "--claim-check")
    assert run("publish", large, *to, "never", **more).code == 1
    assert run("publish", photos / "a.jpg", *to, "always", **more).code == 0
    (message,) = messages(broker, topic)
    assert local_path(headers(message)["uri"]) == str(photos / "a.jpg")


def test_what_is_no_file_or_cannot_be_read_is_refused_by_name(run, photos, topic):
    os.mkfifo(photos.parent / "pipe")
    (photos.parent / "dangling").symlink_to("nowhere")
    done = run(
        "publish", photos / "a.jpg", photos.parent / "pipe", photos.parent / "dangling",
        "--topic", topic, "--create-topic", "--json",
    )  # fmt: skip
    assert done.code == 1
    assert (json.loads(done.out)["acknowledged"], json.loads(done.out)["refused"]) == (1, 2)
    assert f"{photos.parent / 'pipe'} is no file" in done.err
    assert f"{photos.parent / 'dangling'} cannot be read: No such file" in done.err


def test_a_rate_is_kept(run, photos, topic):
    done = run("publish", *[photos / "a.jpg"] * 21, "--topic", topic, "--create-topic",
               "--rate", 10, "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert 2.0 <= json.loads(done.out)["seconds"] < 3.0


def test_a_topic_that_does_not_exist_is_told_with_its_cure(run, photos):
    done = run("publish", photos, "--topic", "nobody-made-it")
    assert done.code == 7
    assert "no topic 'nobody-made-it'" in done.err
    assert "--create-topic" in done.err


def test_a_topic_may_be_made_alone(run, photos, topic):
    done = run("publish", "--create-topic", "--topic", topic)
    assert done.code == 0, done.err
    assert run("publish", photos / "a.jpg", "--topic", topic).code == 0


class Away:
    """Where no broker listens."""

    address = "127.0.0.1:9"


def test_a_broker_that_is_away_is_waited_for_until_the_timeout(photos, tmp_path):
    begin = time.monotonic()
    done = Program(Away, tmp_path, "publish", photos, "--timeout", 3, "--json").ended()
    assert done.code == 7
    assert 3 <= time.monotonic() - begin < 15
    assert "Kafka at 127.0.0.1:9 does not answer; waiting for it, 3 s at most" in done.err
    assert "no Kafka broker answers at 127.0.0.1:9" in done.err
    assert json.loads(done.out)["acknowledged"] == 0


def test_through_tls_and_scram(broker, photos, topic, tmp_path):
    class Secure:
        address = broker.secure_address

    login = {
        "SIGHTSTREAM_KAFKA_SECURITY": "SASL_SSL", "SIGHTSTREAM_KAFKA_CA": str(broker.ca),
        "SIGHTSTREAM_KAFKA_USER": brokers.USER, "SIGHTSTREAM_KAFKA_PASSWORD": brokers.PASSWORD,
    }  # fmt: skip
    command = ("publish", photos, "--topic", topic, "--create-topic")
    assert Program(Secure, tmp_path, *command, **login).ended().code == 0
    assert len(messages(broker, topic)) == 9
    login["SIGHTSTREAM_KAFKA_PASSWORD"] = "wrong"
    begin = time.monotonic()
    refused = Program(Secure, tmp_path, *command, **login).ended()
    assert refused.code == 7
    assert "password" in refused.err
    assert time.monotonic() - begin < 20


@contextmanager
def own_broker(folder):
    made = brokers.Broker(folder / "broker")
    made.start()
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def mortal(tmp_path):
    """A broker of the test's own, which it may kill."""
    with own_broker(tmp_path) as made:
        yield made


def test_a_broker_that_dies_and_comes_back_costs_no_image(mortal, tmp_path, until):
    dice = random.Random(SEED)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(1000):
        (folder / f"{number:04d}.jpg").write_bytes(dice.randbytes(24_000))
    to = ("--topic", "images", "--create-topic", "--rate", 200, "--json")
    publishing = Program(mortal, tmp_path, "publish", folder, *to)
    until(lambda: "images" in topics(mortal) and len(messages(mortal, "images")) > 100, 60)
    mortal.kill()
    threading.Event().wait(4)
    mortal.start()
    done = publishing.ended()
    assert done.code == 0, done.err
    assert "does not answer; waiting for it, 60 s at most" in done.err
    found = messages(mortal, "images")
    assert {headers(m)["ce_subject"] for m in found} == {
        f"many/{number:04d}.jpg" for number in range(1000)
    }
    assert len({headers(m)["ce_id"] for m in found}) == 1000
    assert json.loads(done.out)["acknowledged"] == 1000
    stays_away(mortal, tmp_path, folder)


def stays_away(mortal, tmp_path, folder):
    """It ends at the timeout, with a count of what was acknowledged that the topic confirms."""
    to = ("--topic", "images", "--rate", 200, "--timeout", 5, "--json")
    before = len(messages(mortal, "images"))
    publishing = Program(mortal, tmp_path, "publish", folder, *to)
    deadline = time.monotonic() + 60
    while len(messages(mortal, "images")) < before + 100:
        assert time.monotonic() < deadline
    mortal.kill()
    done = publishing.ended()
    assert done.code == 7
    assert "has acknowledged nothing for 5 s" in done.err
    mortal.start()
    assert 100 <= json.loads(done.out)["acknowledged"] <= len(messages(mortal, "images")) - before
