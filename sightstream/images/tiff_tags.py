"""What a directory of a TIFF says of its picture, and which kinds are refused by their name."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightstream.images.limits import RefusedError

_PHOTOMETRIC = {
    0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "transparency mask", 5: "CMYK", 6: "YCbCr",
    8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "raw", 32844: "LogL", 32845: "LogLuv",
    34892: "raw",
}  # fmt: skip
_COUNT = {5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}
_SAMPLE_FORMAT = {2: "signed ", 3: "float ", 5: "complex ", 6: "complex "}
_JPEG = (6, 7, 33003, 50001)
"""Compressions whose decoder brings YCbCr to RGB: JPEG, JPEG 2000, WebP."""
_FULL_RANGE = ((), (0, 255, 128, 255, 128, 255))


class Tags:
    """The entries of a directory, with the defaults of TIFF 6.0."""

    def __init__(self, directory: Any) -> None:
        def first(tag: int, default: Any = 0) -> Any:
            return (all_of(directory, tag) or (default,))[0]

        self.width, self.height = first(256), first(257)
        self.bands: int = first(277, 1)
        depths = set(all_of(directory, 258)[: self.bands]) or {1}
        formats = set(all_of(directory, 339)[: self.bands]) or {1}
        self.bits = max(depths)
        self.sample_format = max(formats)
        self.is_mixed = len(depths) + len(formats) > 2
        self.photometric = first(262)
        self.compression = first(259, 1)
        self.is_planar = first(284, 1) == 2
        turned = first(274, 1)  # Some writers store it as a BYTE, which Pillow does not turn by.
        self.orientation: int = turned[0] if isinstance(turned, bytes) else turned
        self.is_turned_by_pillow = not isinstance(turned, bytes)
        self.extra = all_of(directory, 338)
        self.nodata = _number(first(42113, ""))
        self.black, self.white = first(340, None), first(341, None)
        self.colours: tuple[int, ...] = all_of(directory, 320) if self.photometric == 3 else ()
        self.has_small_colours = max(self.colours, default=256) < 256  # of 8 bits, not of 16
        if self.has_small_colours:
            self.colours = tuple(each * 257 for each in self.colours)
        self.inks = first(332, 1)
        self.subsampling, self.reference = all_of(directory, 530), all_of(directory, 532)
        self.is_reduced = first(254) & 1 or first(255) == 2
        self.is_mask = first(254) & 4 or self.photometric == 4
        self.is_dng = 50706 in directory
        # Pillow mixes up the bytes of predicted numbers of 32 bits whose largest byte comes first.
        is_turned = first(317, 1) > 1 and directory.prefix == b"MM"
        self.has_turned_differences = is_turned and self.bits == 32
        self.directory = directory
        self.is_for_pillow = True

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each strip or tile begins."""
        return all_of(self.directory, 324) or all_of(self.directory, 273)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many bytes each strip or tile has in the file."""
        return all_of(self.directory, 325) or all_of(self.directory, 279)

    @property
    def segment_size(self) -> int:
        """The most bytes that a strip or tile may have when it is decoded."""
        width, height = self._segment
        bands = 1 if self.is_planar else self.bands
        size: int = (width * self.bits * bands + 7) // 8 * height
        return size

    @property
    def segment_count(self) -> int:
        """How many strips or tiles its width, height and bands need."""
        width, height = self._segment
        count: int = -(-self.width // width) * -(-self.height // height)
        return count * (self.bands if self.is_planar else 1)

    @property
    def _segment(self) -> tuple[int, int]:
        """The width and height of a strip or tile."""
        width, height, rows = ((all_of(self.directory, tag) or (0,))[0] for tag in (322, 323, 278))
        return width or self.width, height or min(rows or self.height, self.height)

    @property
    def jpeg_tables(self) -> bytes:
        """What the JPEGs of all strips and tiles share."""
        found = all_of(self.directory, 347)
        return found[0] if found and isinstance(found[0], bytes) else b""

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
    def has_other_colours(self) -> bool:
        """True for CMYK, CIELab and YCbCr that can be brought to RGB."""
        is_cmyk = self.photometric == 5 and self.inks == 1 and self.bands >= 4
        is_lab = self.photometric == 8 and self.bands >= 3
        is_whole = self.bits in (8, 16) and self.sample_format == 1 and 1 not in self.extra
        is_full = self.subsampling in ((), (1, 1)) and self.reference in _FULL_RANGE
        return (is_cmyk or is_lab or (self.is_ycbcr and is_full and self.bits == 8)) and is_whole

    @property
    def is_ycbcr(self) -> bool:
        """True for YCbCr that no JPEG converts."""
        return self.photometric == 6 and self.bands == 3 and self.compression not in _JPEG

    @property
    def bands_used(self) -> int:
        """How many bands are looked at, from the first one."""
        colours = 4 if self.photometric == 5 else 3 if self.is_colour else 1
        return max(self.alpha + 1, colours)

    @property
    def is_plain(self) -> bool:
        """True where Pillow hands over every bit of the samples (but those of CMYK of 16)."""
        if not self.is_for_pillow or self.is_mixed or self.compression == 50001:
            return False
        if self.compression == 7 and self.bits == 16:  # a lossless JPEG
            return False
        if self.has_turned_differences or (self.is_planar and self._has_other_planes):
            return False
        if self.bits <= 8:  # Pillow loses the alpha that grey was multiplied by.
            return self.sample_format in (1, 4) and not (self.bands == 2 and 1 in self.extra)
        if self.bits == 16 and self.photometric in (2, 5):
            whole = self.bands in (3, 4) and 1 not in self.extra and not self.is_planar
            return self.sample_format == 1 and whole
        if self.bands > 1:
            return False
        return (self.bits, self.sample_format) in {(12, 1), (16, 1), (32, 2), (32, 3)}

    @property
    def _has_other_planes(self) -> bool:
        """True for planes that Pillow takes for samples side by side, or does not know."""
        if self.photometric == 2:
            return self.bands > 4 or 1 in self.extra
        return self.is_ycbcr or (self.photometric in (0, 1, 3) and self.bands > 1)

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
        from_jpeg = self.photometric == 6 and self.compression in _JPEG
        is_known = self.photometric in (0, 1, 2) or self.colours or self.has_other_colours
        if not is_known and not from_jpeg:
            raise unsupported(self.kind, "save it as RGB")
        if self.is_mixed or self.sample_format > 4:
            raise unsupported(self.kind, "save its bands with one depth, as real numbers")

    def palette(self, indices: NDArray) -> NDArray:
        """The colours of a palette's indices, 16 bits each."""
        table = np.array(self.colours, np.uint16).reshape(3, -1).T
        found: NDArray = table[np.minimum(indices, len(table) - 1)]
        return found


def _number(text: Any) -> float | None:
    """What GDAL writes as text; None where that is no number."""
    for kind in (int, float):
        try:
            return kind(text)
        except (TypeError, ValueError):
            continue
    return None


def unsupported(kind: str, advice: str) -> RefusedError:
    """The refusal of a kind by its name."""
    article = "An" if kind[:1] in "8aei" else "A"
    return RefusedError("unsupported_format", f"{article} {kind} cannot be read: {advice}.")


def all_of(directory: Any, tag: int) -> tuple[Any, ...]:
    """All values of an entry; none where it is absent."""
    value = directory.get(tag, ())
    return value if isinstance(value, tuple) else (value,)
