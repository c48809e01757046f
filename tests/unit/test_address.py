"""Addresses of services."""

import socket

import pytest

from sightstream.io import address


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("kafka:9092", ("kafka", 9092)),
        (" 10.0.0.1:1 ", ("10.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65_535)),
    ],
)
def test_an_address_has_a_host_and_a_port(text, parts):
    assert address.split(text) == parts


@pytest.mark.parametrize(
    "text",
    ["", "kafka", "kafka:", "kafka:none", "kafka:65536", "kafka:-1", ":9092", "..:9092",
     f"{'k' * 64}:9092", "kafka:\u0669", f"kafka:{'9' * 5000}"],
)  # fmt: skip
def test_another_text_is_refused_with_its_form(text):
    with pytest.raises(ValueError, match="is not host:port"):
        address.split(text)


def test_one_that_answers_is_enough():
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"127.0.0.1:{server.getsockname()[1]}"
        assert address.unreachable(["127.0.0.1:1", there], 1) == {}


def test_each_that_does_not_answer_has_its_reason():
    assert address.unreachable(["127.0.0.1:1"], 1) == {"127.0.0.1:1": "Connection refused"}
    assert address.unreachable(["nowhere.invalid:1"], 1).keys() == {"nowhere.invalid:1"}


def test_a_free_port_can_be_listened_on():
    port = address.free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(OSError, match="in use"):
        address.free_port("127.0.0.1", port)
    assert address.free_port("127.0.0.1", port) == port


def test_an_address_of_another_machine_cannot_be_listened_on():
    with pytest.raises(OSError, match="assign requested address"):
        address.free_port("192.0.2.1")


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True), ("LOCALHOST.:9108", True), ("127.0.0.1:9108", True), ("[::1]:1", True),
        ("", False), ("localhost.evil.example", False), ("evil.example@localhost", False),
        ("127.0.0.1.nip.io", False), ("localhost:port", False), ("localhost/x", False),
    ],
)  # fmt: skip
def test_a_host_is_known_by_its_name_or_an_address_in_figures(host, known):
    assert address.is_known(host, ("localhost",)) == known


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_what_only_this_machine_reaches_is_known(host, loopback):
    assert address.is_loopback(host) == loopback
