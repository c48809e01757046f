"""What a directory of a TIFF says of its picture, and which of the directories is the picture."""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sightstream.images.limits import RefusedError

MAX_DIRECTORIES = 200
PREVIEW = 3
"""A first page is a preview where a later one is this many times as wide and as high."""

_PHOTOMETRIC = {
    0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "transparency mask", 5: "CMYK", 6: "YCbCr",
    8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "raw", 32844: "LogL", 32845: "LogLuv",
    34892: "raw",
}  # fmt: skip
_COUNT = {5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}
_BIG_ENDIAN_64 = b"MM\0+"
_SAMPLE_FORMAT = {2: "signed ", 3: "float ", 5: "complex ", 6: "complex "}
_JPEG_2000_YCBCR = 33003


class Tags:
    """The entries of a directory, with the defaults of TIFF 6.0."""

    def __init__(self, directory: Any) -> None:
        def first(tag: int, default: Any = 0) -> Any:
            return (_all(directory, tag) or (default,))[0]

        self.width, self.height = first(256), first(257)
        self.bands: int = first(277, 1)
        depths = set(_all(directory, 258)[: self.bands]) or {1}
        formats = set(_all(directory, 339)[: self.bands]) or {1}
        self.bits = max(depths)
        self.sample_format = max(formats)
        self.is_mixed = len(depths) + len(formats) > 2
        self.photometric = first(262)
        self.compression = first(259, 1)
        self.is_planar = first(284, 1) == 2
        self.orientation = first(274, 1)
        self.extra = _all(directory, 338)
        self.black, self.white = first(340, None), first(341, None)
        self.colours: tuple[int, ...] = _all(directory, 320) if self.photometric == 3 else ()
        self.is_reduced = first(254) & 1 or first(255) == 2
        self.is_mask = first(254) & 4 or self.photometric == 4
        self.is_dng = 50706 in directory
        self.is_for_pillow = True

    @property
    def alpha(self) -> int:
        """The index of the band that is alpha; 0 where ExtraSamples names none."""
        colours = self.bands - len(self.extra)
        return next((colours + n for n, each in enumerate(self.extra) if each in (1, 2)), 0)

    @property
    def is_colour(self) -> bool:
        """True where the first three bands are red, green and blue."""
        return self.bands - bool(self.alpha) >= 3

    @property
    def bands_used(self) -> int:
        """How many bands are looked at, from the first one."""
        return max(self.alpha + 1, 3 if self.is_colour else 1)

    @property
    def is_plain(self) -> bool:
        """True where Pillow hands over every bit of the samples (but those of CMYK of 16)."""
        if not self.is_for_pillow or self.is_mixed or self.compression == 50001:
            return False
        if self.bits <= 8:
            return self.sample_format in (1, 4)
        if self.bits == 16 and self.photometric in (2, 5):
            whole = self.bands in (3, 4) and 1 not in self.extra and not self.is_planar
            return self.sample_format == 1 and whole
        if self.bands > 1:
            return False
        return (self.bits, self.sample_format) in {(12, 1), (16, 1), (32, 2), (32, 3)}

    @property
    def kind(self) -> str:
        """The name of the kind, for people."""
        number = _SAMPLE_FORMAT.get(self.sample_format, "")
        colours = _PHOTOMETRIC.get(self.photometric, f"photometric {self.photometric}")
        return f"{self.bits}-bit {number}{colours} TIFF"

    def refuse_raw(self) -> None:
        """Refuse what a camera's sensor saw: it is no picture before it is developed."""
        if self.photometric in (32803, 34892) or (self.is_dng and self.is_reduced):
            kind = "DNG raw" if self.is_dng else "camera raw"
            raise unsupported(f"{kind} file", "develop it to JPEG or TIFF")

    def refuse_kind(self) -> None:
        """Refuse bands that are no colours that are known here."""
        if self.bands > 4 and self.photometric in (0, 1):
            count = _COUNT.get(self.bands, str(self.bands))
            raise unsupported(f"{count}-band TIFF", "save three of its bands as RGB")
        from_jpeg = self.photometric == 6 and self.compression in (7, _JPEG_2000_YCBCR, 50001)
        if self.photometric not in (0, 1, 2) and not self.colours and not from_jpeg:
            raise unsupported(self.kind, "save it as RGB")
        if self.is_mixed or self.sample_format > 4:
            raise unsupported(self.kind, "save its bands with one depth, as real numbers")

    def palette(self, indices: NDArray) -> NDArray:
        """The colours of a palette's indices, 16 bits each."""
        table = np.array(self.colours, np.uint16).reshape(3, -1).T
        found: NDArray = table[np.minimum(indices, len(table) - 1)]
        return found


def unsupported(kind: str, advice: str) -> RefusedError:
    """The refusal of a kind by its name."""
    article = "An" if kind[:1] in "8aei" else "A"
    return RefusedError("unsupported_format", f"{article} {kind} cannot be read: {advice}.")


def _all(directory: Any, tag: int) -> tuple[Any, ...]:
    value = directory.get(tag, ())
    return value if isinstance(value, tuple) else (value,)


def read_directory(stream: BytesIO, offset: int = 0) -> Any:
    """Read the directory at an offset, or the first one."""
    stream.seek(0)
    header = stream.read(16)
    wide = header[:4] == _BIG_ENDIAN_64
    directory = ImageFileDirectory_v2(header[: 16 if header[2] == 43 else 8])
    if wide:  # Pillow takes it for one of 32 bits.
        directory._bigtiff = True
        directory.next = int.from_bytes(header[8:16], "big")
    stream.seek(offset or directory.next)
    directory.load(stream)
    return directory


def read_tags(stream: BytesIO, offset: int = 0) -> Tags:
    """Read what the directory at an offset, or the first one, says."""
    tags = Tags(read_directory(stream, offset))
    tags.is_for_pillow = stream.getvalue()[:4] != _BIG_ENDIAN_64
    return tags


def at_picture(stream: BytesIO) -> BytesIO:
    """The same file, with the directory that holds its picture as the first one.

    That is the first page, unless it is marked as reduced or is a preview by its size: then the
    largest other one that is neither reduced nor a mask.
    """
    first = read_directory(stream)
    tags = Tags(first)
    others = [
        (offset, each)
        for offset, each in _others(stream, first)
        if not (each.is_reduced or each.is_mask) and each.width and each.height
    ]
    if not others:
        return stream
    offset, largest = max(others, key=lambda other: other[1].width * other[1].height)
    much = largest.width >= PREVIEW * tags.width and largest.height >= PREVIEW * tags.height
    return _starting_at(offset, stream.getvalue()) if tags.is_reduced or much else stream


def _others(stream: BytesIO, first: Any) -> Iterator[tuple[int, Tags]]:
    waiting = [*_all(first, 330), first.next]
    seen = {0}
    while waiting and len(seen) < MAX_DIRECTORIES:
        offset = waiting.pop(0)
        if offset in seen or not isinstance(offset, int):
            continue
        seen.add(offset)
        try:
            directory = read_directory(stream, offset)
            tags = Tags(directory)
        except Warning:
            raise
        except Exception:  # noqa: S112, since a broken directory costs no other one its picture
            continue
        waiting += [*_all(directory, 330), directory.next]
        yield offset, tags


def _starting_at(offset: int, data: bytes) -> BytesIO:
    order = "<" if data[:2] == b"II" else ">"
    if 43 in data[2:4]:
        return BytesIO(data[:8] + struct.pack(order + "Q", offset) + data[16:])
    return BytesIO(data[:4] + struct.pack(order + "I", offset) + data[8:])
