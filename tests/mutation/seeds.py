"""Images to mutate, which are made here: of every format that docs/formats.md names."""

from functools import cache
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image

from tests import dicoms

WIDTH, HEIGHT = 40, 28

_JPEG_2000 = "1.2.840.10008.1.2.4.90"


@cache
def images() -> dict[str, list[bytes]]:
    """Files of each format, small ones of many kinds."""
    return {
        "JPEG": _jpeg(), "PNG": _png(), "WEBP": _webp(), "BMP": _bmp(), "GIF": _gif(),
        "TIFF": _tiff(), "AVIF": _avif(), "HEIC": _heic(), "JXL": _jxl(), "DICOM": _dicom(),
    }  # fmt: skip


def picture(mode: str = "RGB") -> Image.Image:
    """A gradient with some noise, in a mode of Pillow."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(1).integers(0, 60, (HEIGHT, WIDTH))
    bands = [x * 255 // WIDTH, y * 255 // HEIGHT, noise]
    made = Image.fromarray(np.stack(bands, axis=-1).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray((x * 1600 + y).astype(np.uint16))
    if mode == "F":
        return Image.fromarray((x / WIDTH).astype(np.float32))
    return made.convert(mode)


def _saved(format: str, mode: str = "RGB", **options: Any) -> bytes:
    picture(mode).save(stream := BytesIO(), format, **options)
    return stream.getvalue()


def _exif() -> bytes:
    made = Image.Exif()
    made[0x0112] = 6
    return made.tobytes()


def _jpeg() -> list[bytes]:
    return [
        _saved("JPEG"), _saved("JPEG", "L"), _saved("JPEG", "CMYK"),
        _saved("JPEG", progressive=True, exif=_exif()),
        _saved("JPEG", subsampling=0, restart_marker_blocks=2),
    ]  # fmt: skip


def _png() -> list[bytes]:
    modes = ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")
    frames = [picture(), picture("L").convert("RGB")]
    return [_saved("PNG", mode) for mode in modes] + [
        _saved("PNG", "P", transparency=3),
        _saved("PNG", exif=_exif()),
        _saved("PNG", save_all=True, append_images=frames),
    ]


def _webp() -> list[bytes]:
    more = {"save_all": True, "append_images": [picture("L").convert("RGB")]}
    return [_saved("WEBP"), _saved("WEBP", "RGBA", exif=_exif()), _saved("WEBP", lossless=True),
            _saved("WEBP", **more)]  # fmt: skip


def _bmp() -> list[bytes]:
    runs = b"".join(bytes([WIDTH, row, 0, 0]) for row in range(HEIGHT)) + b"\0\1"
    plain = _saved("BMP", "P")
    start = int.from_bytes(plain[10:14], "little")
    packed = bytearray(plain[:start] + runs)
    packed[30:34], packed[34:38] = b"\1\0\0\0", len(runs).to_bytes(4, "little")
    packed[2:6] = len(packed).to_bytes(4, "little")
    return [_saved("BMP", mode) for mode in ("RGB", "L", "1", "RGBA")] + [plain, bytes(packed)]


def _gif() -> list[bytes]:
    more = [picture("L").convert("P")]
    return [_saved("GIF", "P"), _saved("GIF", "P", transparency=2, interlace=1),
            _saved("GIF", "P", save_all=True, append_images=more, duration=50)]  # fmt: skip


def _tiff() -> list[bytes]:
    import tifffile

    values = np.asarray(picture())
    made = [_saved("TIFF", mode) for mode in ("RGB", "L", "P", "1", "CMYK", "LAB", "I;16", "F")]
    for kind in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        made.append(_saved("TIFF", compression=kind))
    made.append(_saved("TIFF", "1", compression="group4"))
    for options in (
        {"tile": (16, 16), "compression": "deflate", "predictor": 2}, {"bigtiff": True},
        {"byteorder": ">"}, {"planarconfig": "separate"}, {"compression": "zstd"},
    ):  # fmt: skip
        planes = np.moveaxis(values, -1, 0) if "planarconfig" in options else values
        tifffile.imwrite(stream := BytesIO(), planes, photometric="rgb", **options)
        made.append(stream.getvalue())
    return made


def _avif() -> list[bytes]:
    more = {"save_all": True, "append_images": [picture("L").convert("RGB")]}
    return [_saved("AVIF", speed=9), _saved("AVIF", "RGBA", speed=9, exif=_exif()),
            _saved("AVIF", speed=9, **more)]  # fmt: skip


def _heic() -> list[bytes]:
    import pillow_heif

    made = []
    for mode in ("RGB", "RGBA"):
        file = pillow_heif.HeifFile()
        file.add_from_pillow(picture(mode))
        file.save(stream := BytesIO(), quality=60)
        made.append(stream.getvalue())
    return made


def _jxl() -> list[bytes]:
    import imagecodecs

    values, deep = np.asarray(picture()), np.asarray(picture("I;16"))
    return [
        imagecodecs.jpegxl_encode(values, lossless=True),
        imagecodecs.jpegxl_encode(values, lossless=False),
        imagecodecs.jpegxl_encode(values, lossless=True, usecontainer=True),
        imagecodecs.jpegxl_encode(deep, lossless=True),
    ]


def _dicom() -> list[bytes]:
    grey, deep = np.asarray(picture("L")), np.asarray(picture("I;16"))
    windowed = {"WindowCenter": 20000, "WindowWidth": 30000, "RescaleSlope": 2,
                "RescaleIntercept": -100}  # fmt: skip
    plain = [
        dicoms.dataset(grey), dicoms.dataset(deep, **windowed),
        dicoms.dataset(deep, syntax=dicoms.IMPLICIT), dicoms.dataset(np.asarray(picture())),
        dicoms.dataset(dicoms.stack(3), frames=3),
        dicoms.dataset(deep, PhotometricInterpretation="MONOCHROME1"),
    ]  # fmt: skip
    made = [dicoms.saved(each) for each in plain]
    made.append(dicoms.saved(dicoms.dataset(deep), compressed=dicoms.RLE))
    wide = np.tile(deep, (3, 2))  # the encoder halves the sides five times
    made.append(dicoms.saved(dicoms.dataset(wide), compressed=_JPEG_2000))
    return made


def others_of(name: str) -> list[bytes]:
    """Files of all the other formats."""
    return list(chain.from_iterable(made for key, made in images().items() if key != name))
