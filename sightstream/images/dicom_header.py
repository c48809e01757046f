"""What the header of a DICOM says of its picture, and nothing of whom it shows.

Only the elements that are listed here are read. The messages of pydicom may quote a header, so
none is passed on.
"""

import logging
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from sightstream.images import without_warnings
from sightstream.images.limits import RefusedError

MAX_INFLATED = 2**28
"""Bytes that a deflated file may have: those of 120 megapixels of 16 bits, and some more."""

MAX_ITEMS = 50_000
"""Items of sequences in a file: pydicom makes an object of each, used or not."""

_ITEM = b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"
"""The tag of an item, in either order of bytes."""

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_TAGS = [
    "SOPClassUID", *_PIXELS, "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "PresentationLUTShape",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    *(f"{segmented}{colour}PaletteColorLookupTable{part}"
      for colour in ("Red", "Green", "Blue")
      for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))),
]  # fmt: skip

_KINDS = [
    # in the name that the standard gives the class, the kind
    (r" SR |Report|Key Object|Procedure Log", "structured report"),
    ("Presentation State", "presentation state"),
    ("^RT .*Plan|Brachy.*Plan", "radiotherapy plan"),
    ("RT Structure Set", "radiotherapy structure set"),
    ("^RT Dose", "radiotherapy dose"),
    ("^RT |Radiation", "radiotherapy record"),
    ("Waveform|ECG|Audio|EEG|EMG|EOG|Electro", "waveform"),
    ("Encapsulated", "encapsulated document"),
    ("Media Storage Directory", "directory (DICOMDIR)"),
    ("Palette", "colour palette"),
    ("Raw Data", "file of raw data"),
    ("Spectroscopy", "spectroscopy"),
    ("Registration|Fiducials", "registration"),
    ("Measurements|Refraction|Keratometry|Acuity", "measurement"),
]
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_NATIVE = {
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
"""Transfer syntaxes without compression, by implicit VR and little endian."""


@dataclass(frozen=True)
class Header:
    """The elements that make up the picture; `tables` is the dataset with LUTs and windows."""

    syntax: str
    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    is_planar: bool
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    keyword: str
    is_deflated: bool
    tables: Any

    @property
    def is_little_endian(self) -> bool:
        """The order of the bytes in tables that are stored as such."""
        return self.syntax != _NATIVE[False, False]

    @property
    def is_native(self) -> bool:
        """True where the pixels are not compressed."""
        return self.syntax in _NATIVE.values()


def read(data: bytes) -> Header:
    """Read a file up to its end, but for what names anybody, within `unquoted`."""
    from pydicom import dcmread

    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    is_deflated = _DEFLATED in data[:1024]
    plain = _inflated(data) if is_deflated else data
    if (items := max(map(plain.count, _ITEM))) > MAX_ITEMS:
        sentence = f"The DICOM has {items:,} items in sequences; the limit is {MAX_ITEMS:,}."
        raise RefusedError("too_large", sentence)
    dataset = dcmread(BytesIO(plain), force=True, specific_tags=_TAGS)
    _refuse_without_pixels(dataset, len(data))
    return _header(dataset, is_deflated)


@contextmanager
def unquoted(reason: str) -> Iterator[None]:
    """Lets no text of pydicom out, which may quote the header: neither warnings nor errors."""
    with without_warnings():
        try:
            yield
        except RefusedError:
            raise
        except Exception:
            raise damaged(reason) from None


def damaged(reason: str) -> RefusedError:
    """The refusal of a file whose bytes contradict each other."""
    return RefusedError("corrupt", f"The DICOM cannot be decoded: {reason}.")


def unsupported(kind: str, advice: str) -> RefusedError:
    """The refusal of a kind by its name."""
    return RefusedError("unsupported_format", f"A DICOM {kind} is not read: {advice}.")


def truncated(size: int) -> RefusedError:
    """The refusal of a file without the end of its pixels."""
    return RefusedError("truncated", f"The DICOM ends too early, after {size:,} bytes.")


def whole(tables: Any, keyword: str, default: int | None = None) -> int:
    """An element that is an integer; RefusedError where it is missing without a default."""
    value = tables.get(keyword)
    if isinstance(value, int):
        return int(value)
    if default is None:
        raise damaged(f"its header lacks {keyword}")
    return default


def _inflated(data: bytes) -> bytes:
    """The file with its dataset inflated, as if it had never been deflated."""
    meta = re.match(rb".{128}DICM\x02\0\0\0UL\x04\0(.{4})", data, re.DOTALL)
    if meta is None:
        raise damaged("it is deflated, and its header lacks the length of its first group")
    end = meta.end() + int.from_bytes(meta[1], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(data[end:], MAX_INFLATED)
    if not inflater.eof:
        if len(plain) < MAX_INFLATED:
            raise truncated(len(data))
        sentence = f"The DICOM inflates to more than {MAX_INFLATED / 1e6:.0f} MB."
        raise RefusedError("too_large", sentence)
    explicit = _NATIVE[False, True].encode().ljust(len(_DEFLATED), b"\0")
    return data[:end].replace(_DEFLATED, explicit) + plain


def _refuse_without_pixels(dataset: Any, size: int) -> None:
    if any(keyword in dataset for keyword in _PIXELS):
        return
    name = _class_name(dataset)
    if "Rows" in dataset or name.endswith("Image Storage"):
        raise RefusedError("truncated", f"The DICOM has no pixels, in {size:,} bytes.")
    for pattern, kind in _KINDS:
        if re.search(pattern, name):
            raise RefusedError("unsupported_format", f"A DICOM {kind} holds no picture.")
    raise RefusedError("unsupported_format", "A DICOM without pixels holds no picture.")


def _class_name(dataset: Any) -> str:
    """The standard's name of the kind of file; empty where it has none."""
    from pydicom.uid import UID_dictionary

    uid = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    return str(UID_dictionary.get(str(uid), ("",))[0])


def _header(dataset: Any, is_deflated: bool) -> Header:
    keyword = next(each for each in _PIXELS if each in dataset)
    allocated = whole(dataset, "BitsAllocated", {_PIXELS[1]: 32, _PIXELS[2]: 64}.get(keyword))
    stored = whole(dataset, "BitsStored", allocated)
    return Header(
        _syntax(dataset, keyword),
        whole(dataset, "Rows"),
        whole(dataset, "Columns"),
        max(1, whole(dataset, "NumberOfFrames", 1)),
        whole(dataset, "SamplesPerPixel", 1),
        str(dataset.get("PhotometricInterpretation") or "").strip().upper(),
        whole(dataset, "PlanarConfiguration", 0) == 1,
        allocated,
        stored,
        whole(dataset, "HighBit", stored - 1),
        whole(dataset, "PixelRepresentation", 0) == 1,
        keyword,
        is_deflated,
        dataset,
    )


def _syntax(dataset: Any, keyword: str) -> str:
    if named := dataset.file_meta.get("TransferSyntaxUID"):
        return str(named)
    if dataset[keyword].is_undefined_length:
        raise damaged("it is compressed, and its header does not say how")
    return _NATIVE[dataset.original_encoding]
