"""BMP: masks and headers that Pillow does not know, a fourth byte that nobody uses, run lengths."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile

from sightstream.images.levels import Samples
from sightstream.images.limits import RefusedError

_FIRST_HEADER, _USUAL_HEADER, _HEADER_WITH_ALPHA, _LONGEST_HEADER = 16, 40, 56, 256
_HEADERS = {12, _USUAL_HEADER, 52, _HEADER_WITH_ALPHA, 64, 108, 124}
_RLE8, _RLE4, _MASKS = 1, 2, 3
_INSIDE = {4: "JPEG", 5: "PNG"}
_OS2, _OF_OS2 = 64, {3: "Huffman codes", 4: "run lengths of 24 bits"}
_RARE_DEPTHS = {2, 64}
_NEXT_ROW, _END, _DELTA = 0, 1, 2


class MaskedBmp(Image.Image):
    """A BMP whose bands lie where Pillow does not look for them; its size is known."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data
        self._size = _number(data, 18), abs(_number(data, 22))


def open_picture(stream: BytesIO) -> Image.Image:
    """Open by the header's version and compression, without the pixels."""
    data = stream.getvalue()
    header = _number(data, 14)
    if header not in _HEADERS and _FIRST_HEADER <= header <= _LONGEST_HEADER:
        data, header = _with_usual_header(data, header), _USUAL_HEADER
    method = _number(data, 30) if header >= _USUAL_HEADER else 0
    _refuse_kind(header, method, _number(data, 28) & 0xFFFF)
    try:
        return BmpImageFile(BytesIO(data))
    except OSError:
        if method != _MASKS or data[28] not in (16, 32):
            raise
    return MaskedBmp(data)


def _refuse_kind(header: int, method: int, bits: int) -> None:
    if header == _OS2 and method in _OF_OS2:
        sentence = f"A BMP of OS/2 with {_OF_OS2[method]} is not read: save it as PNG."
    elif header >= _USUAL_HEADER and method in _INSIDE:
        sentence = f"A BMP that holds a {_INSIDE[method]} is not read: send that itself."
    elif header >= _USUAL_HEADER and bits in _RARE_DEPTHS:
        sentence = f"A BMP of {bits} bits a pixel is not read: save it as PNG."
    else:
        return
    raise RefusedError("unsupported_format", sentence)


def load(image: Image.Image, data: bytes) -> Image.Image | Samples | None:
    """Decode the pixels; those of run lengths here, since Pillow shifts them behind odd rows."""
    if isinstance(image, MaskedBmp):
        return _masked(image)
    method = image.info.get("compression")
    if method in (_RLE8, _RLE4):
        return BmpImageFile(BytesIO(_without_runs(data, *image.size, method))).convert("RGB")
    image.load()
    # Screen and frame grabbers leave the fourth byte at 0, and mean no transparency by it.
    is_unused = image.mode == "RGBA" and not image.getchannel("A").getbbox()
    return image.convert("RGB") if is_unused else None


def _number(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 4], "little", signed=True)


def _with_usual_header(data: bytes, header: int) -> bytes:
    """OS/2 leaves out what is 0 at the end of a header; what others add is not known."""
    more = _USUAL_HEADER - header
    numbers = (_number(data, 10) + more, _USUAL_HEADER)
    first = b"".join(each.to_bytes(4, "little", signed=True) for each in numbers)
    fields = data[18 : 14 + min(header, _USUAL_HEADER)] + bytes(max(0, more))
    return data[:10] + first + fields + data[14 + header :]


def _masked(image: MaskedBmp) -> Samples:
    data, size = image.data, image.data[28] // 8
    row = (image.width * size + 3) // 4 * 4
    start, count = _number(data, 10), row * image.height
    if len(data) < start + count:
        raise RefusedError("truncated", f"The BMP ends too early, after {len(data):,} bytes.")
    stored = np.frombuffer(data, f"<u{size}", count // size, start).reshape(image.height, -1)
    pixels = stored[:: -1 if _number(data, 22) > 0 else 1, : image.width]
    masks = np.frombuffer(data, "<u4", 4, 54).tolist()
    values = np.stack([_band(pixels, mask) for mask in masks[:3]], axis=-1)
    alpha = _band(pixels, masks[3]) if _number(data, 14) >= _HEADER_WITH_ALPHA else None
    return Samples(values, alpha if alpha is not None and alpha.any() else None)


def _band(pixels: NDArray, mask: int) -> NDArray[np.uint8]:
    shift = (mask & -mask).bit_length() - 1 if mask else 0
    values = (pixels & pixels.dtype.type(mask)) >> pixels.dtype.type(shift)
    scaled: NDArray[np.uint8] = (values / max(1, mask >> shift) * 255 + 0.5).astype(np.uint8)
    return scaled


def _without_runs(data: bytes, width: int, height: int, pixels_a_byte: int) -> bytes:
    """The same file with a byte for each pixel; ValueError where pixels leave their row."""
    start, row = _number(data, 10), (width + 3) // 4 * 4
    pixels, x, y, position = bytearray(row * height), 0, 0, start
    while position + 1 < len(data) and y < height:
        count, value = data[position], data[position + 1]
        position += 2
        if count:  # Some writers let the last run go on behind the end of the row.
            some = _spread(data[position - 1 : position], pixels_a_byte) * count
            _put(pixels, y * row + x, some[: max(0, min(count, width - x))])
            x += count
        elif value == _NEXT_ROW:
            x, y = 0, y + 1
        elif value == _END:  # It may leave out the rest of the last row.
            x = width if x else 0
            break
        elif value == _DELTA:
            x, y = x + data[position], y + data[position + 1]
            position += 2
        else:
            size = -(-value // pixels_a_byte)
            some = _spread(data[position : position + size], pixels_a_byte)[:value]
            position += size + size % 2
            if len(some) < value:
                break
            if x + value >= width + pixels_a_byte:  # A byte may hold one pixel too many.
                raise ValueError("a run of pixels leaves its row")
            _put(pixels, y * row + x, some[: max(0, width - x)])
            x += value
    if y < height - 1 or (y == height - 1 and x < width):
        raise RefusedError("truncated", f"The BMP ends too early, after {len(data):,} bytes.")
    colours = _number(data, 46) or 256 // 16 ** (pixels_a_byte - 1)
    header = data[14:28] + b"\x08\0" + bytes(16) + colours.to_bytes(4, "little") + data[50:start]
    return data[:14] + header + pixels


def _spread(packed: bytes, pixels_a_byte: int) -> bytes:
    if pixels_a_byte == 1:
        return packed
    return bytes(half for byte in packed for half in (byte >> 4, byte & 15))


def _put(pixels: bytearray, place: int, some: bytes) -> None:
    pixels[place : place + len(some)] = some
