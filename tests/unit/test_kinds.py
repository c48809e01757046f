"""kinds: what is no picture is named, with what to do."""

import base64
import gzip
import json
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sightstream.images.decode import Preprocessing, decode

SMALL = Preprocessing(8, 8)


def encoded(format, **options):
    stream = BytesIO()
    Image.new("RGB", (40, 30), "red").save(stream, format, **options)
    return stream.getvalue()


def ftyp(brand, *more):
    brands = brand + b"\0\0\0\0" + b"".join(more)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(200)


def saved(save, *arguments):
    stream = BytesIO()
    save(stream, *arguments)
    return stream.getvalue()


JPEG = encoded("JPEG")
KINDS = {
    "JPEG 2000": [encoded("JPEG2000"), b"\xff\x4f\xff\x51" + bytes(99)],
    "base64 text": [base64.b64encode(JPEG), base64.encodebytes(JPEG),
                    b'"' + base64.b64encode(JPEG) + b'"',
                    base64.urlsafe_b64encode(encoded("PNG")), b"\n  " + base64.b64encode(JPEG),
                    str(base64.b64encode(JPEG)).encode()],
    "data URI": [b"data:image/jpeg;base64," + base64.b64encode(JPEG), b"data:;base64,AAAA",
                 b'"data:image/png;base64,iVBORw0KGgo="'],
    "hexadecimal text": [JPEG.hex().encode(), encoded("PNG").hex().upper().encode(),
                         JPEG.hex(" ").encode(), JPEG.hex(":").encode(), repr(JPEG).encode(),
                         b"\\x" + JPEG.hex().encode(), b"0xFF, 0xD8, 0xFF, 0xE0, 0x00, 0x10"],
    "bytes that were decoded as text on the way": [
        encoded(format, **options).decode(coding, how).encode(target, how)
        for format, options in (("JPEG", {}), ("JPEG", {"exif": Image.Exif()}), ("PNG", {}))
        for coding, how, target in (("utf8", "replace", "utf8"), ("latin-1", "strict", "utf8"),
                                    ("latin-1", "replace", "ascii"))
    ],
    "bytes written as text": [repr(encoded("PNG")).encode()],
    "uuencoded text": [b"begin 644 x.jpg\nM_]C_X"],
    "an address": [b"https://cam.example/x.jpg", b"s3://bucket/x.jpg\n", b"/data/cam/x.jpg",
                   b'"gs://bucket/x.jpg"', b"C:\\cam\\x.jpg"],
    "HTTP or multipart": [b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + JPEG,
                          b"--0f3a\r\nContent-Disposition: form-data\r\n\r\n" + JPEG,
                          b"MIME-Version: 1.0\r\n\r\n" + base64.encodebytes(JPEG)],
    "text in UTF-16": ["{}".encode("utf-16"), b"\xfe\xff" + "{}".encode("utf-16-be")],
    "Avro (single object)": [b"\xc3\1" + bytes(range(8)) + JPEG],
    "Avro (Glue framing)": [b"\3\0" + bytes(range(16)) + JPEG],
    "Java object": [b"\xac\xed\0\5ur\0\2[B" + JPEG],
    "zlib": [zlib.compress(JPEG), zlib.compress(JPEG, 9)],
    "Snappy": [b"\x82SNAPPY\0" + bytes(9), b"\xff\6\0\0sNaPpY", b"\x04\x22\x4d\x18" + bytes(9)],
    "JSON": [b'\xef\xbb\xbf{"a": 1}',
             json.dumps({"image": "x" * 90}).encode(), b"[1, 2, 3]", b'[{"a": 1}]', b"{}"],
    "Avro (Confluent framing)": [b"\0\0\0\0\x2a\x10" + b"name" + JPEG, b"\0\0\0\1\5\x0cabcdefgh"],
    "Avro (object container)": [b"Obj\1\4\x14avro.codec"],
    "NumPy array": [saved(np.save, np.zeros((4, 4)))],
    "pickle": [__import__("pickle").dumps({"a": 1})],
    "PDF": [b"%PDF-1.7\n", b"\r\n\n%PDF-1.4"],
    "SVG": [b"<svg xmlns=''>", b"<?xml version='1.0'?>\n<!DOCTYPE svg PUBLIC>",
            b"\xef\xbb\xbf<svg>"],
    "HTML": [b"<!DOCTYPE html><html>", b"\n<html>"],
    "MP4": [ftyp(b"isom", b"mp42"), ftyp(b"qt  ")],
    "Matroska": [b"\x1a\x45\xdf\xa3" + bytes(40)],
    "AVI": [b"RIFF" + bytes(4) + b"AVI LIST"],
    "Photoshop": [b"8BPS\0\1" + bytes(40)],
    "PPM": [encoded("PPM")],
    "PFM": [b"Pf\n128 128\n-1.0\n" + bytes(90), b"PF\n8 8\n1.0\n" + bytes(90)],
    "TGA": [encoded("TGA"), encoded("TGA", compression="tga_rle", id_section=b"name"),
            saved(Image.new("L", (9, 9)).save, "TGA"), saved(Image.new("P", (9, 9)).save, "TGA")],
    "SGI": [encoded("SGI")],
    "PCX": [encoded("PCX")],
    "Sun raster": [bytes.fromhex("59a66a95") + bytes(28)],
    "OLE": [bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500)],
    "ICO": [encoded("ICO")],
    "ZIP": [b"PK\3\4rest"],
    "gzip": [gzip.compress(JPEG)],
    "Git LFS": [b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"],
    "raw pixels (640x480, RGB)": [np.random.default_rng(1).bytes(640 * 480 * 3)],
    "raw pixels (28x28, grey)": [b"\x83" * 784],
    "raw pixels (640x480, grey)": [np.random.default_rng(1).bytes(640 * 480)],
    "raw pixels (299x299, RGB)": [np.random.default_rng(1).bytes(299 * 299 * 3)],
    "raw pixels (224x224, RGB as float32)": [np.random.default_rng(1).bytes(224 * 224 * 12)],
    "nothing but zeros, perhaps raw pixels (64x64, RGB)": [bytes(64 * 64 * 3)],
    "behind blank lines": [b"\r\n" + JPEG, b"\n\n" + encoded("PNG")],
    "behind 7 other bytes": [bytes(7) + JPEG],
    "behind 2 other bytes": [bytes(2) + encoded("PNG")],
    "it is a data URI.": [b"data:image/jpeg;base64," + base64.b64encode(JPEG)],
    "it is an SVG.": [b"<svg xmlns=''>"],
    "behind 17 other bytes": [b"\x07" * 17 + JPEG],
    "line ends": [encoded("PNG").replace(b"\r\n", b"\n"),
                  bytes(byte & 0x7F for byte in encoded("PNG"))],
    "nothing but zeros": [bytes(4096)],
    "text": ["Grüße aus der Küche".encode(), b"404 page not found"],
    "camera raw": [b"II*\0\x10\0\0\0CR\2\0" + bytes(99), b"IIU\0" + bytes(99),
                   b"FUJIFILMCCD-RAW 0201"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "data"), [(k, data) for k, each in KINDS.items() for data in each]
)
def test_the_kind_is_named_with_what_to_do(kind, data):
    refused = decode(data, SMALL)
    assert refused.code == "unsupported_format"
    assert kind in refused.detail
    assert "To have it classified, " in refused.detail or refused.format == "TIFF"


@pytest.mark.parametrize("data", [b"\xff", b"\x91\x03\x80", b"\x07" * 50])
def test_what_is_not_known_is_shown_by_its_first_bytes(data):
    refused = decode(data, SMALL)
    assert (refused.code, "it begins with b'" in refused.detail) == ("unsupported_format", True)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [("base64 text", "base64"), ("data URI", "base64"), ("JSON", "json:$.FIELD"),
     ("Avro (Confluent framing)", "avro:SCHEMA:$.FIELD")],
)  # fmt: skip
def test_what_kafka_can_hold_names_the_setting_that_takes_it(kind, setting):
    for data in KINDS[kind]:
        assert f'set kafka_value = "{setting}".' in decode(data, SMALL).detail


def test_no_bytes_of_any_kind_take_long():
    random = np.random.default_rng(3)
    for begins in (
        b"",
        b"<!--",
        b"<?xml",
        b"\0\0\0\x18ftypisom",
        b"[",
        b"data:",
        b"AAAA",
        b" " * 3000,
    ):
        for filling in (b"\0", b" ", b"A", b"\n", random.bytes(1)):
            assert decode(begins + filling * 2_000_000, SMALL).code == "unsupported_format"


@pytest.mark.parametrize("header", [40, 108, 124])
def test_a_bmp_whose_alpha_is_nowhere_used_is_opaque(header):
    pixels = np.random.default_rng(2).integers(1, 255, (8, 8, 4), np.uint8)
    pixels[..., 3] = 0
    body = pixels[::-1, :, [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", header, 8, 8, 1, 32, 3, len(body), 0, 0, 0, 0) + masks
    info = info.ljust(header, b"\0") if header > 40 else info
    data = b"BM" + struct.pack("<IHHI", 14 + len(info) + len(body), 0, 0, 14 + len(info)) + info
    np.testing.assert_array_equal(decode(data + body, SMALL).pixels, pixels[..., :3])
    pixels[0, 0, 3] = 255  # used
    used = decode(data + pixels[::-1, :, [2, 1, 0, 3]].tobytes(), SMALL).pixels
    assert (used[1:] == 255).all() or header == 40


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_xmp_alone_turns_no_picture(format):
    xmp = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-'
           b'rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
           b'tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>')  # fmt: skip
    picture = Image.fromarray(np.mgrid[0:30, 0:40][0].astype(np.uint8) * 8).convert("RGB")
    for exif in (None, 1, "other"):
        options = {"lossless": True} if format == "WEBP" else {}
        if exif:
            block = Image.Exif()
            block[0x0112 if exif == 1 else 0x010F] = exif
            options["exif"] = block
        if format == "PNG":
            from PIL.PngImagePlugin import PngInfo

            options["pnginfo"] = PngInfo()
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
        elif format == "TIFF":
            options["tiffinfo"] = {700: xmp}
        else:
            options["xmp"] = xmp
        stream = BytesIO()
        picture.save(stream, format, **options)
        assert b"tiff:Orientation" in stream.getvalue()
        got = decode(stream.getvalue(), Preprocessing(30, 40))
        assert (got.width, got.height) == (40, 30)
        assert abs(got.pixels - np.asarray(picture).astype(int)).mean() < 3
