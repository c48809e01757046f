"""The segments of a JPEG: what its frame is, and whether its scans bring everything."""

import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

END = b"\xff\xd9"
EXIF = 0xE1
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}

_EXIF = b"Exif\0\0"
_FRAME = struct.Struct(">BHHB")
_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
_MARKERS = {bytes((0xFF, each)) for each in range(0xC0, 0xFF)} - {
    bytes((0xFF, each)) for each in range(0xD0, 0xD9)
}
_TABLES = {0xC4, 0xCC, 0xDB, 0xDC, 0xDD}
_PLAIN = {0xC0, 0xC1, 0xC2}
_SOS, _EOI, _ADOBE = 0xDA, 0xD9, 0xEE
_LOSSLESS, _PROGRESSIVE = {0xC3, 0xCB}, {0xC2, 0xCA}
_NOT_READ = {0xF7: "JPEG-LS"} | dict.fromkeys(
    (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG"
)

Segment = tuple[int, int, int]
"""Its marker, and where its parameters begin and end."""


@dataclass
class Frame:
    """The frame in front of the first scan; its marker is 0 where there is none."""

    marker: int = 0
    bits: int = 8
    size: tuple[int, int] = (0, 0)  # width, height
    components: bytes = b""
    scanned: int = 0  # components of the first scan; 0 where there is no scan
    exif: bytes = b""

    @property
    def is_lossless(self) -> bool:
        """True where the pixels are predicted and not transformed."""
        return self.marker in _LOSSLESS

    @property
    def is_plain(self) -> bool:
        """True for 8 bits of grey or of three colours, with loss, and of a size that is known."""
        kind = self.marker in _PLAIN and self.bits == 8 and len(self.components) in (1, 3)
        return kind and min(*self.size, self.scanned) > 0

    @property
    def has_one_scan(self) -> bool:
        """True where its first scan holds everything."""
        return self.scanned == len(self.components) and not self.is_progressive

    @property
    def is_progressive(self) -> bool:
        """True where scans bring the coefficients by and by."""
        return self.marker in _PROGRESSIVE

    @property
    def not_read(self) -> str:
        """The name of a kind that no decoder here reads, or nothing."""
        return _NOT_READ.get(self.marker, "")


def segments(data: bytes) -> Iterator[Segment]:
    """The segments up to the end marker; what stands between them is passed over."""
    position = 2
    while True:
        if data[position : position + 2] not in _MARKERS:  # the search takes as long as the rest
            if not (found := _MARKER.search(data, position)):
                return
            position = found.end() - 2
        marker, start = data[position + 1], position + 2
        if marker == _EOI:
            return
        position = start + max(2, int.from_bytes(data[start : start + 2], "big"))
        yield marker, start + 2, position


def read_frame(data: bytes) -> Frame:
    """Read the frame, what EXIF is in front of it, and what the first scan has of it."""
    frame, exif = Frame(), b""
    for marker, start, end in segments(data):
        if marker == EXIF and data.startswith(_EXIF, start):
            # Pillow as well takes those that follow for parts of the first one.
            exif += data[start + len(_EXIF) if exif else start : end]
        if marker in FRAMES and end - start > 5:
            bits, height, width, count = _FRAME.unpack_from(data, start)
            components = data[start + 6 : start + 6 + 3 * count : 3]
            frame = Frame(marker, bits, (width, height), components)
        if marker == _SOS:
            frame.scanned = data[start] if start < len(data) else 0
            break
    frame.exif = exif
    return frame


def count_scans(data: bytes) -> int:
    """The scans of the picture, and not those of others behind it or in its metadata."""
    return sum(marker == _SOS for marker, _, _ in segments(data))


def without_oddities(data: bytes, kept: int = 0) -> bytes:
    """The picture alone, with its end marker: nothing between or behind segments, no metadata.

    Those of one marker may be kept.
    """
    parts = [b"\xff\xd8"]
    for marker, start, end in segments(data):
        if marker in FRAMES | _TABLES | {_SOS, _ADOBE, kept}:
            parts.append(b"\xff" + bytes([marker]) + data[start - 2 : end])
        if marker == _SOS:
            following = _MARKER.search(data, end)
            parts.append(data[end : following.start() if following else len(data)])
    return b"".join(parts) + END


def is_complete(data: bytes) -> bool:
    """True where the scans bring every coefficient of every component to its last bit."""
    known: dict[int, set[int]] = defaultdict(set)
    components, frame = b"", 0
    for marker, start, end in segments(data):
        body = data[start:end]
        if marker in FRAMES and len(body) > 5:
            frame, components = marker, body[6 : 6 + 3 * body[5] : 3]
        if marker == _SOS and len(body) > 5:
            first, last, bits = body[-3:] if frame in _PROGRESSIVE else (0, 63, 0)
            for component in body[1 : 1 + 2 * body[0] : 2] if bits & 0xF == 0 else b"":
                known[component].update(range(first, last + 1))
    return frame in _LOSSLESS or all(len(known[component]) == 64 for component in components)
