"""The size of AV1 pictures, from their sequence header (AV1 Bitstream, 5.3 to 5.5)."""

from collections.abc import Iterator

Size = tuple[int, int]

_SEQUENCE_HEADER = 1


def coded_size(stream: bytes) -> Size | None:
    """Return the largest width and height of pictures; None without a sequence header."""
    for kind, content in _units(stream):
        if kind == _SEQUENCE_HEADER:
            return _size(_Bits(content))
    return None


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def __call__(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("the sequence header is cut short")
        return self._value >> self._left & ((1 << count) - 1)


def _units(stream: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(stream):
        kind, is_extended, is_sized = (
            stream[place] >> 3 & 15, stream[place] & 4, stream[place] & 2,
        )  # fmt: skip
        place += 2 if is_extended else 1
        size = len(stream) - place
        if is_sized:
            size = shift = 0
            while True:  # little endian, 7 bits a byte
                byte = stream[place]
                size |= (byte & 127) << shift
                place, shift = place + 1, shift + 7
                if byte < 128 or shift > 56:
                    break
        yield kind, stream[place : place + min(size, 256)]
        place += size


def _size(bits: _Bits) -> Size:
    bits(4)  # profile, and whether it is a still picture
    if bits(1):  # reduced header of a still picture
        bits(5)
    else:
        _skip_operating_points(bits)
    wide, high = bits(4) + 1, bits(4) + 1
    return bits(wide) + 1, bits(high) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delays = 0
    if bits(1):  # timing
        bits(64)
        if bits(1):
            _skip_variable(bits)
        if bits(1):  # decoder model
            delays = bits(5) + 1
            bits(42)
    has_display_delay = bits(1)
    for _ in range(bits(5) + 1):
        bits(12)
        if bits(5) > 7:  # a level that has tiers
            bits(1)
        if delays and bits(1):
            bits(2 * delays + 1)
        if has_display_delay and bits(1):
            bits(4)


def _skip_variable(bits: _Bits) -> None:
    zeros = 0
    while not bits(1):
        zeros += 1
    if zeros < 32:
        bits(zeros)
