"""Addresses of network services: parsed, tried, and chosen."""

import ipaddress
import re
import socket
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

_ADDRESS = re.compile(r"(.+):([0-9]{1,5})")


def split(address: str) -> tuple[str, int]:
    """Return host and port of an address, kafka:9092 or [::1]:9092; else raise ValueError."""
    found = _ADDRESS.fullmatch(address.strip())
    try:
        host = found[1].strip("[]") if found else ""
        host.encode("idna")
    except UnicodeError:  # a part of the name is empty, or too long
        host = ""
    if not found or not host or int(found[2]) > 65_535:
        raise ValueError(f"{address!r} is not host:port")
    return host, int(found[2])


def unreachable(addresses: Iterable[str], seconds: float) -> dict[str, str]:
    """Try addresses in turn; return why each accepts no connection, or nothing where one does.

    Raises:
        ValueError: an address is not host:port.
    """
    reasons = {}
    for address in addresses:
        try:
            socket.create_connection(split(address), timeout=seconds).close()
        except OSError as error:
            reasons[address] = error.strerror or str(error)
        else:
            return {}
    return reasons


def free_port(host: str = "127.0.0.1", port: int = 0) -> int:
    """Return a port that a server can listen on now: the given one, or for 0 any free one.

    OSError where the port is in use, or the host is not this machine.
    """
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        return int(probe.getsockname()[1])


def name(place: str) -> str:
    """Return the name or address in host:port; empty where there is more, or it is none."""
    try:
        parts = urlsplit(f"//{place}")
        _ = parts.port
    except ValueError:
        return ""
    found = (parts.hostname or "").rstrip(".")
    return found if parts.netloc == place and "@" not in place else ""


def is_known(host: str, names: Collection[str]) -> bool:
    """Tell whether a request's Host has one of these names, or any address in figures.

    A name can be made to resolve to this machine by whoever owns it, an address cannot.
    """
    found = name(host.lower())
    try:
        return found in names or bool(ipaddress.ip_address(found))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Tell whether nobody but this machine reaches a server that listens on a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
