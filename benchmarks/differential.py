"""Compare our pixels with those of two other readers, file by file, and explain what differs.

    PICTURES=/folder[:/folder] python benchmarks/differential.py

Needs opencv-python-headless, tifffile, imagecodecs. Both give samples as they are stored, so that
palettes, alpha, orientation and levels are applied by what the file's header says. A reader agrees
if the mean error is at most 2 levels then. It has a process of its own for each file and some time,
so that a file on which it crashes or hangs ends no more than that. A disagreement is explained by
an entry of EXPLANATIONS only if the header shows its case and a check of the pixels holds: no file
is known by its name.
"""

import multiprocessing
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from sightstream.images.decode import _TRANSPOSE, Preprocessing, _orientation, decode
from sightstream.images.formats import find
from sightstream.images.levels import Samples, to_8_bit
from sightstream.images.limits import Limits, Rejected
from sightstream.images.tiff_pages import at_picture
from sightstream.images.tiff_tags import Tags

MOST = 2
MAX_BYTES = 2**27
LARGEST = 30_000_000
"""Pixels of a picture; the readers' copies of larger ones do not fit everywhere."""

SECONDS = 120
"""How long a reader may take for a file."""

NOT_EXPLAINED = "NOT EXPLAINED"
MOST_ROWS = 16
"""How far rows of fax data may be moved behind an error."""
FAILED = ("refuses", "crashes", "hangs")
SUFFIXES = re.compile(
    r"\.(jpe?g?|jfif|mpo|a?png|webp|bmp|dib|gif|tiff?|btf|dng|nef|cr2|arw|hei[cf]|avif|jp2|j2k|jxl|"
    r"jxr|dcm|ico|cur|psd|p[pgbnf]m|tga|pcx|dds|exr|hdr|svg)$",
    re.IGNORECASE,
)
"""Files without one of these names count only if they begin as a format that is read."""

_CODECS = {
    "JPEG": imagecodecs.jpeg_decode,
    "PNG": imagecodecs.png_decode,
    "WEBP": imagecodecs.webp_decode,
    "GIF": imagecodecs.gif_decode,
    "BMP": imagecodecs.bmp_decode,
}


class Picture:
    """A file that we read: our pixels, and what its header says."""

    def __init__(self, data: bytes, size: tuple[int, int]) -> None:
        self.data = data
        self.mine: Any = decode(
            data, Preprocessing(*size), Limits(MAX_BYTES, LARGEST)
        ).pixels.astype(int)  # type: ignore[union-attr]
        form: Any = find(data)
        self.format = form.name
        self.image = form.open(BytesIO(data))
        self.mode = self.image.mode
        loaded = form.load(self.image, data)
        self.samples = loaded if isinstance(loaded, Samples) else None
        self.orientation = self.tags.orientation if self.tags else _orientation(self.image)

    @cached_property
    def tags(self) -> Tags | None:
        """The directory of a TIFF's picture."""
        return at_picture(BytesIO(self.data))[1] if self.format == "TIFF" else None

    def agrees(self, theirs: Any) -> bool:
        """True where the mean error is small."""
        return theirs.shape == self.mine.shape and abs(theirs - self.mine).mean() <= MOST

    def header(self, start: int, count: int) -> int:
        """A number in a BMP's header."""
        return int.from_bytes(self.data[start : start + count], "little")


# The readers


def with_opencv(picture: Picture, data: bytes = b"") -> Any:
    """OpenCV: libjpeg, libpng, libwebp and libtiff of its own build; RGB, or RGBA."""
    is_grey_else = picture.mode == "P" or (picture.format, picture.mode) == ("BMP", "RGB")
    is_coloured = is_grey_else and picture.format != "GIF"
    flags = cv2.IMREAD_COLOR if is_coloured else cv2.IMREAD_UNCHANGED
    found = cv2.imdecode(np.frombuffer(data or picture.data, np.uint8), flags)
    if found is None:
        raise ValueError
    found = found.reshape(*found.shape[:2], -1)
    return found[..., [2, 1, 0, 3][: found.shape[-1]]] if found.shape[-1] > 2 else found


def with_codecs(picture: Picture) -> Any:
    """Tifffile for TIFF, imagecodecs for the others."""
    if picture.tags:
        stream = BytesIO(at_picture(BytesIO(picture.data))[0].getvalue())
        with tifffile.TiffFile(stream) as file:
            page: Any = file.pages.first
            planes = page.asarray().reshape(page.shaped)[:, 0].transpose(1, 2, 0, 3)
        return as_colours(planes.reshape(*planes.shape[:2], -1), picture.tags)
    found = _CODECS[picture.format](picture.data)
    if picture.format in ("GIF", "WEBP") and found.ndim == 4:
        found = found[0]
    found = found.reshape(*found.shape[:2], -1)
    if picture.format == "JPEG" and found.shape[-1] == 4:  # inks, inverted as Adobe has them
        found = (found[..., :3].astype(np.uint16) * found[..., 3:] // 255).astype(np.uint8)
    return found


def as_colours(values: Any, tags: Tags) -> Any:
    """Samples of a TIFF of any photometric interpretation as grey or RGB."""
    if tags.photometric == 3:
        table = np.array(tags.colours, np.uint16).reshape(3, -1).T
        table = table if table.max() > 255 else table * 257
        found = table[values[..., 0].astype(int)]
        return found if tags.bits > 8 else (found >> 8).astype(np.uint8)
    if tags.bits < 8:
        values = (values.astype(np.uint16) * 255 // (2**tags.bits - 1)).astype(np.uint8)
    if tags.photometric == 0 and values.dtype == np.uint8:
        values = 255 - values
    if tags.photometric == 5:
        deep = values[..., :4] >> (8 if values.dtype == np.uint16 else 0)
        ink = 255 - deep.astype(np.uint16)
        values = (ink[..., :3] * ink[..., 3:] // 255).astype(np.uint8)
    if tags.photometric == 6 and tags.compression not in (6, 7):
        values = np.asarray(Image.fromarray(values, "YCbCr").convert("RGB"))
    if tags.photometric == 8:
        values = (values >> (tags.bits - 8)).astype(np.uint8)
        values = np.concatenate([lab(values[..., :3]), values[..., 3:]], axis=-1)
    return values


def lab(values: Any) -> Any:
    """CIELab of 8 bits, with the white of D50, as sRGB: by the published formulas."""
    light = values[..., 0] / 255 * 100
    a, b = (values[..., n].view(np.int8).astype(float) for n in (1, 2))
    y = (light + 16) / 116
    whole = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(whole > 6 / 29, whole**3, 3 * (6 / 29) ** 2 * (whole - 4 / 29))
    xyz *= (0.9642, 1, 0.8249)
    to_rgb = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]
    linear = (xyz @ np.array(to_rgb).T).clip(0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (srgb * 255 + 0.5).astype(np.uint8)


def flattened(picture: Picture, values: Any, *, premultiplied: bool = False) -> Any:
    """RGB of 8 bits: alpha onto white, levels by our rule, but of the samples of the reader."""
    bands = values.shape[-1]
    place = bands - 1 if bands in (2, 4) else 0
    if picture.tags:
        place = picture.tags.alpha if picture.tags.alpha < bands else 0
    alpha = np.ascontiguousarray(values[..., place]) if place else None
    colours = np.ascontiguousarray(values[..., :3] if bands > 2 else values[..., 0])
    if picture.samples and values.dtype != np.uint8:
        samples = replace(picture.samples, values=colours, alpha=alpha)
    else:
        samples = Samples(colours, alpha, premultiplied=premultiplied)
    return np.asarray(to_8_bit(samples, "values").convert("RGB")).astype(int)


def turned(values: Any, orientation: int) -> Any:
    """The picture, upright."""
    image = Image.fromarray(values.astype(np.uint8))
    method = _TRANSPOSE.get(orientation)
    return np.asarray(image if method is None else image.transpose(method)).astype(int)


# Explanations: yields what the reader's pixels become where the header shows the case


def _apng(picture: Picture, values: Any) -> Iterator[Any]:
    """Without the chunks of the animation, the reader takes the picture that stands before it."""
    if picture.format == "PNG" and b"acTL" in picture.data[:200]:
        kept, place = [picture.data[:8]], 8
        while place + 12 <= len(picture.data):
            end = place + 12 + int.from_bytes(picture.data[place : place + 4], "big")
            if picture.data[place + 4 : place + 8] not in (b"acTL", b"fcTL", b"fdAT"):
                kept.append(picture.data[place:end])
            place = end
        yield flattened(picture, with_opencv(picture, b"".join(kept)))


def _no_alpha(picture: Picture, values: Any) -> Iterator[Any]:
    if picture.tags and picture.tags.alpha == values.shape[-1]:
        alpha = with_codecs(picture)[..., picture.tags.alpha :][..., :1]
        both = np.concatenate([values, alpha], axis=-1)
        for premultiplied in (False, True):
            yield flattened(picture, both, premultiplied=premultiplied)
        return
    if picture.image.has_transparency_data and values.shape[-1] in (1, 3):
        rgba = np.asarray(picture.image.convert("RGBA"))
        if rgba.shape[:2] == values.shape[:2]:
            yield np.where(rgba[..., 3:] == 255, values, picture.mine)


def _multiplied(picture: Picture, values: Any) -> Iterator[Any]:
    if picture.tags and picture.tags.alpha and values.shape[-1] in (2, 4):
        yield flattened(picture, values, premultiplied=True)


def _unused_alpha(picture: Picture, values: Any) -> Iterator[Any]:
    if picture.format == "BMP" and values.shape[-1] == 4 and not values[..., 3].any():
        yield values[..., :3].astype(int)


def _five_bits(picture: Picture, values: Any) -> Iterator[Any]:
    if picture.format == "BMP" and picture.header(28, 2) == 16:
        yield np.where(abs(values[..., :3] - picture.mine) < 8, picture.mine, values[..., :3])


def _upper_bits(picture: Picture, values: Any) -> Iterator[Any]:
    if picture.tags and 8 < picture.tags.bits < 16 and values.dtype == np.uint16:
        yield flattened(picture, values >> (16 - picture.tags.bits))


def _masks(picture: Picture, values: Any) -> Iterator[Any]:
    if picture.format == "BMP" and picture.header(30, 4) == 3 and picture.header(28, 2) == 32:
        height, width = picture.mine.shape[:2]
        stored = np.frombuffer(picture.data, "<u4", height * width, picture.header(10, 4))
        rows = stored.reshape(height, width)[::-1].astype(np.int64)
        masks = [picture.header(place, 4) for place in (54, 58, 62)]
        yield np.stack([(rows & mask) * 255 // mask for mask in masks], axis=-1)


def _skipped(picture: Picture, values: Any) -> Iterator[Any]:
    if picture.format == "BMP" and picture.header(30, 4) in (1, 2):
        palette = 14 + picture.header(14, 4)
        first = np.array(list(picture.data[palette : palette + 3][::-1]))
        is_first = (picture.mine == first).all(axis=-1, keepdims=True)
        yield np.where(is_first, picture.mine, values[..., :3])


def _gave_up(picture: Picture, values: Any) -> Iterator[Any]:
    """Fax data with an error: the rows in front agree, and all behind are one colour or moved."""
    if picture.tags and picture.tags.compression in (2, 3, 4):
        theirs = flattened(picture, values)
        blank = (theirs == theirs[-1, -1]).all(axis=(1, 2))
        rows = len(blank) - int(np.argmin(blank[::-1]))
        stored = turned(picture.mine, {6: 8, 8: 6}.get(picture.orientation, picture.orientation))
        yield turned(np.vstack([theirs[: rows - 2], stored[rows - 2 :]]), picture.orientation)
        differ = (theirs != stored).mean(axis=(1, 2)) > 0.02
        first = int(np.argmax(differ))
        for moved in range(1, min(first, MOST_ROWS)):
            rows_moved = np.vstack([theirs[:first], theirs[first - moved : -moved]])
            yield turned(rows_moved, picture.orientation)


def _canvas(picture: Picture, values: Any) -> Iterator[Any]:
    height, width = picture.mine.shape[:2]
    if picture.format == "GIF" and values.shape[0] >= height and values.shape[1] >= width:
        yield flattened(picture, values[:height, :width])


def _plainer(picture: Picture, values: Any) -> Iterator[Any]:
    """The same samples in the plainest layout: OpenCV reads that as we read the file."""
    data = b""
    if picture.format == "BMP" and picture.header(10, 4) == 14 + picture.header(14, 4):
        start = picture.header(10, 4) + 4 * picture.header(46, 4)  # The palette was forgotten.
        data = picture.data[:10] + start.to_bytes(4, "little") + picture.data[14:] + bytes(3)
    elif picture.format == "BMP" and picture.header(30, 4) in (1, 2):
        stream = BytesIO()
        Image.fromarray(with_codecs(picture)).save(stream, "BMP")
        data = stream.getvalue()
    elif picture.tags and (picture.tags.is_planar or picture.tags.bits > 8):
        data = plain_tiff(picture)
    if data:
        plain = flattened(picture, with_opencv(picture, data))
        yield plain
        yield from _skipped(picture, plain)


def _black(picture: Picture, values: Any) -> Iterator[Any]:
    """Of a compression that TIFF 6.0 and libtiff do not have; the samples themselves agree."""
    if picture.tags and picture.tags.compression > 50000 and not values.any():
        yield flattened(picture, with_opencv(picture, plain_tiff(picture)))


def plain_tiff(picture: Picture) -> bytes:
    """The same samples without compression, pixel by pixel."""
    stream = BytesIO()
    tifffile.imwrite(stream, np.squeeze(with_codecs(picture)), metadata=None)
    return stream.getvalue()


def _first_page(picture: Picture, values: Any) -> Iterator[Any]:
    if picture.tags:
        page = at_picture(BytesIO(picture.data))[0].getvalue()
        if page != picture.data:
            yield flattened(picture, with_opencv(picture, page))


def _lab(picture: Picture, values: Any) -> Iterator[Any]:
    if picture.tags and picture.tags.photometric == 8:
        yield flattened(picture, with_codecs(picture))


EXPLANATIONS: dict[str, Callable[[Picture, Any], Iterator[Any]]] = {
    "picture before an APNG is left out": _apng,
    "transparency is dropped": _no_alpha,
    "colours are multiplied by alpha": _multiplied,
    "alpha that is 0 everywhere counts": _unused_alpha,
    "5 bits are shifted, not spread": _five_bits,
    "12 bits are moved to the upper ones": _upper_bits,
    "masks are misread": _masks,
    "skipped pixels are black": _skipped,
    "fax data are given up or moved at an error": _gave_up,
    "canvas grows with the frame": _canvas,
    "another white and gamma for CIELab": _lab,
    "all is black": _black,
    "preview on the first page is taken": _first_page,
    "layout is misread": _plainer,
}


def verdict(picture: Picture, reader: Callable[[Picture], Any]) -> str:
    """Agreement, an explanation, or what is not explained."""
    try:
        values = reader(picture)
        theirs = flattened(picture, values)
    except Exception:  # whatever a reader says of a file that it cannot read
        return "refuses"
    upright = turned(theirs, picture.orientation)
    if picture.agrees(upright) or picture.agrees(theirs):  # OpenCV turns TIFF itself.
        return "agrees"
    for name, explain in EXPLANATIONS.items():
        if _works(lambda: any(map(picture.agrees, explain(picture, values)))):  # noqa: B023
            return name
    return NOT_EXPLAINED


def apart(what: Callable[..., Any], *given: Any) -> Any:
    """What the function returns, "crashes" or "hangs"; it runs in a child process."""
    forked = multiprocessing.get_context("fork")
    ours, theirs = forked.Pipe(duplex=False)
    child = forked.Process(target=lambda: theirs.send(what(*given)))
    child.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(SECONDS) else "hangs"
    except EOFError:
        return "crashes"
    finally:
        child.kill()
        child.join()


def openers(data: bytes) -> list[str]:
    """The readers that open a file that we refuse."""
    form = find(data)
    readers: dict[str, Callable[[], Any]] = {
        "OpenCV": lambda: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).size,
        "tifffile": lambda: tifffile.TiffFile(BytesIO(data)).pages.first.asarray().size,
        "imagecodecs": lambda: _CODECS[form.name if form else ""](data).size,
    }
    return [name for name, reader in readers.items() if apart(_works, reader) is True]


def _works(reader: Callable[[], Any]) -> bool:
    try:
        return bool(reader())
    except Exception:  # whatever a reader says of a file that it cannot read
        return False


def kind(refusal: Rejected) -> str:
    """The code of a refusal, with the name of the kind where its sentence has one."""
    named = re.search(r"it is (.*)\. To|An? (.*?) (?:cannot be|is not|needs)", refusal.detail)
    return f"{refusal.code}: {named[1] or named[2]}" if named else refusal.code


def files() -> Iterator[tuple[str, bytes]]:
    """The content of each file once, however many folders have it."""
    seen = set()
    for folder in os.environ["PICTURES"].split(":"):
        for path in sorted(each for each in Path(folder).rglob("*") if each.is_file()):
            data = path.read_bytes()
            if find(data) or SUFFIXES.search(path.name):
                key = sha256(data).digest()
                if key not in seen:
                    seen.add(key)
                    yield str(path), data


def compare(counts: Counter[str]) -> Iterator[str]:
    """Count all files; the lines for people are of those that a person should look at."""
    for name, data in files():
        counts["files"] += 1
        result = decode(data, Preprocessing(1, 1), Limits(MAX_BYTES, LARGEST))
        if isinstance(result, Rejected):
            large = result.code in ("empty", "too_many_pixels", "too_large")
            others = [] if large else openers(data)
            counts[f"refused as {kind(result)}"] += 1
            if others:
                counts[f"refused as {kind(result)}, and opened by another"] += 1
                yield f"refused | {name} | {result.code} | {result.detail} | {', '.join(others)}"
            continue
        picture = Picture(data, (result.height, result.width))
        counts[f"read: {picture.format}"] += 1
        readers = (with_opencv, with_codecs)
        verdicts = {each.__name__: apart(verdict, picture, each) for each in readers}
        known = [each for each in verdicts.values() if each not in FAILED]
        counts[f"compared with {len(known)}, {known.count('agrees')} agree"] += 1
        for reader, what in verdicts.items():
            counts[f"{reader}: {what}"] += 1
            if what in (NOT_EXPLAINED, "crashes", "hangs"):
                yield f"{what} | {name} | {reader}"


def main() -> None:
    """Print each disagreement, and the counts."""
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    for line in compare(counts):
        print(line, flush=True)
    for name, count in sorted(counts.items()):
        print(f"{count:6,}  {name}")


if __name__ == "__main__":
    main()
