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


@pytest.mark.parametrize("text", ["", "kafka", "kafka:", "kafka:none", "kafka:65536", "kafka:-1"])
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
