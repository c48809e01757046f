"""Mutations of bytes: the same seed and number give the same ones."""

import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

Mutation = Callable[[random.Random, bytearray, bytes], None]

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1)
MOST = 2**20
"""Bytes that a mutation lets an input grow to."""


def _place(rng: random.Random, data: bytes | bytearray) -> int:
    """An offset; headers, where formats keep their lengths, are as likely as all the rest."""
    most = len(data) if rng.random() < 0.5 else min(len(data), 256)
    return rng.randrange(most) if most else 0


def _part(rng: random.Random, data: bytes | bytearray) -> slice:
    start = _place(rng, data)
    return slice(start, start + 1 + int(rng.expovariate(1 / 64)))


def _bits(rng: random.Random, data: bytearray, other: bytes) -> None:
    for _ in range(rng.randint(1, 8)):
        if data:
            data[_place(rng, data)] ^= 1 << rng.randrange(8)


def _noise(rng: random.Random, data: bytearray, other: bytes) -> None:
    where = _part(rng, data)
    data[where] = rng.randbytes(len(data[where]))


def _extreme(rng: random.Random, data: bytearray, other: bytes) -> None:
    width = rng.choice((1, 2, 4, 8))
    value = rng.choice(EXTREMES) & (256**width - 1)
    start = _place(rng, data)
    data[start : start + width] = value.to_bytes(width, rng.choice(("little", "big")))


def _cut_off(rng: random.Random, data: bytearray, other: bytes) -> None:
    del data[rng.randint(0, len(data)) :]


def _cut_out(rng: random.Random, data: bytearray, other: bytes) -> None:
    del data[_part(rng, data)]


def _doubled(rng: random.Random, data: bytearray, other: bytes) -> None:
    part = data[_part(rng, data)]
    start = _place(rng, data)
    data[start:start] = part * rng.choice((1, 1, 2, 16))


def _inserted(rng: random.Random, data: bytearray, other: bytes) -> None:
    start, count = _place(rng, data), rng.randint(1, 64)
    data[start:start] = bytes(count) if rng.random() < 0.5 else rng.randbytes(count)


def _spliced(rng: random.Random, data: bytearray, other: bytes) -> None:
    data[_place(rng, data) :] = other[_place(rng, other) :]


def _grafted(rng: random.Random, data: bytearray, other: bytes) -> None:
    start, part = _place(rng, data), other[_part(rng, other)]
    data[start : start + rng.choice((0, len(part)))] = part


def _moved(rng: random.Random, data: bytearray, other: bytes) -> None:
    where = _part(rng, data)
    part = data[where]
    del data[where]
    start = _place(rng, data)
    data[start:start] = part


KINDS: dict[str, Mutation] = {
    "bits": _bits, "noise": _noise, "extreme": _extreme, "cut off": _cut_off,
    "cut out": _cut_out, "doubled": _doubled, "inserted": _inserted, "spliced": _spliced,
    "grafted": _grafted, "moved": _moved,
}  # fmt: skip


def mutated(
    rng: random.Random, data: bytes, others: Sequence[bytes], words: Sequence[bytes] = ()
) -> tuple[bytes, str]:
    """A mutated copy, and the names of its one to three mutations.

    Parts of `others` are taken over; so are `words`, which a text is made of.
    """
    made, names = bytearray(data), []
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(tuple(KINDS))
        other = rng.choice(others) if others else data
        if words and rng.random() < 0.5:
            name, other = "word", rng.choice(words)
            # Between words, or in the place of one.
            spaces = [each.start() for each in re.finditer(rb"[\s,()=]", made)] or [0]
            start = rng.choice((rng.choice(spaces), _place(rng, made)))
            end = min((each for each in spaces if each > start), default=start)
            made[start : rng.choice((start, start, start + 1, end))] = other
        else:
            KINDS[name](rng, made, other)
        names.append(name)
    return bytes(made[:MOST]), "+".join(names)


def with_checksums(data: bytes) -> bytes:
    """A PNG with the checksums that its chunks need, so that what is in them is looked at."""
    made, place = bytearray(data), 8
    while place + 12 <= len(made):
        (size,) = struct.unpack_from(">I", made, place)
        end = place + 8 + size
        if end + 4 > len(made):
            break
        struct.pack_into(">I", made, end, zlib.crc32(made[place + 4 : end]))
        place = end + 4
    return bytes(made)


_ODD = (None, True, -1, 0, 1.5, 1e999, 10**30, "", "5", "../x", "\ud800", "\0", "x" * 5000, [], {},
        [None], [[]], {"": None}, {"a": "b"}, ["a", "a"])  # fmt: skip


def retyped(rng: random.Random, text: bytes) -> bytes:
    """Return a text that ends in JSON, in which a value is away, or another one of any type."""
    start = text.rindex(b"\n") + 1 if b"\n" in text else 0
    start += text[start:].index(b"{")
    whole = json.loads(text[start:])
    found, left = list[tuple[Any, Any]](), [whole]
    while left:
        each = left.pop()
        keys = each if isinstance(each, dict) else range(len(each))
        found += [(each, key) for key in keys]
        left += [each[key] for key in keys if isinstance(each[key], dict | list)]
    holder, key = rng.choice(found)
    if rng.random() < 0.1:
        del holder[key]
    else:
        holder[key] = rng.choice(_ODD)
    return text[:start] + json.dumps(whole).encode()
