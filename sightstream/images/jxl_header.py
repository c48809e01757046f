"""The header of JPEG XL, ISO/IEC 18181-1 annex D: size, orientation, bits, what its bands are."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from sightstream.images.boxes import top_level

_RATIOS = [Fraction(a, b) for a, b in ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))]
_ALPHA, _SPOT, _BLACK, _CFA = 0, 2, 4, 5
_MOST = 2048  # bytes that a header takes
_BITS = ((8, 0), (10, 0), (12, 0), (1, 6))
_SIDE = ((1, 9), (1, 13), (1, 18), (1, 30))


@dataclass(frozen=True)
class Header:
    """What a codestream says of its picture; width and height in pixels, upright."""

    width: int
    height: int
    bits: int  # of a sample
    premultiplied: bool  # colours were multiplied by alpha
    has_black: bool  # it is CMYK
    is_linear: bool  # libjxl returns linear light, for it has no colour management of its own


class _Bits:
    """Reads a codestream bit by bit, the lowest of each byte first; IndexError at its end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def __call__(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise IndexError
        found, self._value = self._value & ((1 << count) - 1), self._value >> count
        return found

    def one_of(self, *choices: tuple[int, int]) -> int:
        """Read a number: two bits choose where it begins, and how many bits are added."""
        least, count = choices[self(2)]
        return least + self(count)


def read(data: bytes) -> Header:
    """Read a bare codestream, or the one in a container; IndexError where it ends too early."""
    bits = _Bits(_codestream(data)[2:_MOST])
    width, height = _size(bits)
    if bits(1):  # All else is as usual.
        return Header(width, height, 8, premultiplied=False, has_black=False, is_linear=False)
    orientation = _extra_fields(bits) if bits(1) else 1
    depth = _depth(bits)
    bits(1)  # whether 16 bits are enough to decode it
    channels = [_channel(bits) for _ in range(bits.one_of((0, 0), (1, 0), (2, 4), (1, 12)))]
    is_xyb, has_profile = bits(1), not bits(1) and bits(1)
    if orientation >= 5:
        width, height = height, width
    return Header(
        width, height, depth, premultiplied=(_ALPHA, True) in channels,
        has_black=(_BLACK, False) in channels, is_linear=bool(is_xyb and has_profile),
    )  # fmt: skip


def _codestream(data: bytes) -> bytes:
    """Its first bytes."""
    if data[:2] == b"\xff\x0a":
        return data[:_MOST]
    found = b""
    for kind, begin, end in top_level(data):
        if kind in (b"jxlc", b"jxlp"):  # Parts begin with their number.
            found += data[begin + (4 if kind == b"jxlp" else 0) : min(end, begin + _MOST)]
    return found[:_MOST]


def _size(bits: _Bits) -> tuple[int, int]:
    is_small = bits(1)
    return _sides(bits, lambda: 8 * (1 + bits(5)) if is_small else bits.one_of(*_SIDE))


def _sides(bits: _Bits, side: Callable[[], int]) -> tuple[int, int]:
    height = side()
    ratio = bits(3)
    return (int(height * _RATIOS[ratio - 1]) if ratio else side()), height


def _preview(bits: _Bits) -> None:
    by_8, sides = ((16, 0), (32, 0), (1, 5), (33, 9)), ((1, 6), (65, 8), (321, 10), (1345, 12))
    choices = by_8 if bits(1) else sides
    _sides(bits, lambda: bits.one_of(*choices))


def _extra_fields(bits: _Bits) -> int:
    """Return the orientation, in the numbers of EXIF."""
    orientation = 1 + bits(3)
    if bits(1):
        _size(bits)  # to show it in
    if bits(1):
        _preview(bits)
    if bits(1):  # an animation: ticks, loops, time codes
        bits.one_of((100, 0), (1000, 0), (1, 10), (1, 30))
        bits.one_of((1, 0), (1001, 0), (1, 8), (1, 10))
        bits.one_of((0, 0), (0, 3), (0, 16), (0, 32))
        bits(1)
    return orientation


def _depth(bits: _Bits) -> int:
    if not bits(1):
        return bits.one_of(*_BITS)
    depth = bits.one_of((32, 0), (16, 0), (24, 0), (1, 6))  # floats
    bits(4)
    return depth


def _channel(bits: _Bits) -> tuple[int, bool]:
    """The type of a band beside the colours, and whether colours are multiplied by it."""
    if bits(1):
        return _ALPHA, False
    kind = bits.one_of((0, 0), (1, 0), (2, 4), (18, 6))
    _depth(bits)
    bits.one_of((0, 0), (3, 0), (4, 0), (1, 3))  # how much smaller it is
    bits(8 * bits.one_of((0, 0), (0, 4), (16, 5), (48, 10)))  # its name
    if kind == _SPOT:
        bits(64)
    if kind == _CFA:
        bits.one_of((1, 0), (0, 2), (3, 4), (19, 8))
    return kind, kind == _ALPHA and bits(1) == 1
