"""BMP: a fourth byte that nobody uses, and run lengths that leave their rows."""

from PIL import Image

_RLE8, _RLE4 = 1, 2
_NEXT_ROW, _END, _DELTA = 0, 1, 2


def load(image: Image.Image, data: bytes) -> Image.Image | None:
    """Decode the pixels; ValueError where Pillow would go on with shifted ones."""
    method = image.info.get("compression")
    if method in (_RLE8, _RLE4):
        start = int.from_bytes(data[10:14], "little")
        _require_rows(data, start, image.width, pixels_a_byte=method)
    image.load()
    # Screen and frame grabbers leave the fourth byte at 0, and mean no transparency by it.
    is_unused = image.mode == "RGBA" and not image.getchannel("A").getbbox()
    return image.convert("RGB") if is_unused else None


def _require_rows(data: bytes, position: int, width: int, pixels_a_byte: int) -> None:
    """Pillow cuts runs at the end of the row, but not single pixels (those are padded to bytes)."""
    x = 0
    while position + 1 < len(data):
        count, value = data[position], data[position + 1]
        position += 2
        if count:
            x = min(x + count, width)
        elif value == _NEXT_ROW:
            x = 0
        elif value == _END:
            return
        elif value == _DELTA:
            x += data[position] if position < len(data) else 0
            position += 2
        else:
            x += value
            if x >= width + pixels_a_byte:
                raise ValueError("a run of pixels leaves its row")
            size = -(-value // pixels_a_byte)
            position += size + size % 2
