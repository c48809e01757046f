"""The names of what is no picture here, by its first bytes, and what to do with it."""

import math
import re

_TO_JPEG = "convert it to JPEG or PNG"
_NO_IMAGE = "send the picture's own bytes"
_VALUE = '{}; a message of Kafka: set kafka_value = "{}"'
_AVRO = _VALUE.format(_NO_IMAGE, "avro:SCHEMA:$.FIELD")
_QUOTE = r"(?:\xef\xbb\xbf)?\s*(?:b?['\"])?"  # of text that is quoted, after a byte order mark

_BY_BEGINNING: list[tuple[str, str, str]] = [
    # kind, regular expression for its first bytes, what to do
    ("Canon CR3 raw", r".{4}ftypcrx ", "develop it to JPEG or TIFF"),
    ("JPEG 2000", r"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", _TO_JPEG),
    ("JPEG XR", r"II\xbc[\0\1]", _TO_JPEG),
    ("camera raw", r"IIU\0|IIRO|IIRS|MMOR|FUJIFILMCCD-RAW|FOVb|\0MRM",
     "develop it to JPEG or TIFF"),
    ("a PNG whose line ends were changed on the way",
     r"\tPNG|\x89PNG\n|\x89PNG\r\n\x1a\r\n|\x89PNG\r\r",
     "transfer it in binary mode"),
    ("a PNG animation (MNG or JNG)", r"\x8a[MJ]NG", _TO_JPEG),
    ("a data URI", _QUOTE + r"data:[\w.+-]*/?[\w.+-]*[;,]",
     _VALUE.format("decode it, and " + _NO_IMAGE, "base64")),
    ("hexadecimal text",
     _QUOTE + r"(?i:ff~d8~ff|89~50~4e~47|47~49~46~38)(?:~[0-9a-fA-F]{2}){2}".replace(
         "~", r"[ :,-]{0,2}(?:0x|\\x)?").replace("(?i:", r"(?:0x|\\x)?(?i:", 1),
     "decode it, and " + _NO_IMAGE),
    ("bytes written as text", r"\s*b['\"](?:\\x|GIF8|RIFF)", _NO_IMAGE),
    ("bytes that were decoded as text on the way",
     r"(?:\xef\xbf\xbd){2}|\xc3\xbf\xc3\x98\xc3\xbf|\?{4}\0.(?:JFIF|Exif)"
     r"|(?:\xef\xbf\xbd|\xc2\x89|\?)PNG", "send the raw bytes, by a serializer of bytes"),
    ("uuencoded text", r"begin [0-7]{3} ", "decode it, and " + _NO_IMAGE),
    ("an address", r"\s*['\"]?(?:[a-z][a-z0-9+.]{1,9}://|/[\w.-]+/[\w./ -]+\s*$|[A-Z]:[\\/])",
     "send it in the header `uri` of a message without bytes, or " + _NO_IMAGE),
    ("HTTP or multipart", r"HTTP/[12]|--[\w'()+,./:=?-]+\r?\n|(?i:MIME-Version:|Content-[TD]\w*:)",
     "send the picture in it alone"),
    ("base64 text",
     _QUOTE + r"(?:(?:[A-Za-z0-9+/_-]{4}\s{0,2}){15}|(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR|SUkq|Qk)"
     r"[A-Za-z0-9+/_-]*={0,2}['\"]?\s*$)",
     _VALUE.format("decode it, and " + _NO_IMAGE, "base64")),
    ("an S3 event",
     r"(?:\xef\xbb\xbf)?\s*[{\[].{0,1500}?(?:(?:aws|minio|ceph)[:.]s3\W|s3:Object[CR])",
     _VALUE.format(_NO_IMAGE, "s3-event")),
    ("JSON", r"(?:\xef\xbb\xbf)?\s*(?:\{\s*[\"}]|\[\s*[\[{\"\d\]-])",
     _VALUE.format(_NO_IMAGE + " as the message, not fields", "json:$.FIELD")),
    ("text in UTF-16", r"\xff\xfe(?:[^\0]\0){2}|\xfe\xff(?:\0[^\0]){2}", _NO_IMAGE),
    ("Avro (object container)", r"Obj\x01", "send each picture's own bytes"),
    ("Avro (single object)", r"\xc3\x01.{8}", _NO_IMAGE),
    ("Avro (Glue framing)", r"\x03[\0\5].{16}", _NO_IMAGE),
    ("a Java object (serialized)", r"\xac\xed\0\x05", _NO_IMAGE),
    ("a NumPy array", r"\x93NUMPY", "write it as PNG or TIFF"),
    ("a Python pickle", r"\x80[\2-\5][\x95}\]cq(]",
     "write it as PNG or TIFF: pickles are never read"),
    ("a PDF", r".{0,1020}?%PDF-", "export its pages as PNG"),
    ("PostScript", r"%!PS|\xc5\xd0\xd3\xc6", _TO_JPEG),
    ("an SVG", r"(?:\xef\xbb\xbf)?\s*(?:<\?xml.{0,600}?|<!--.{0,600}?)?(?i:<!DOCTYPE svg|<svg)",
     "render it to PNG"),
    ("HTML", r"(?:\xef\xbb\xbf)?\s*(?:<!--.{0,200}?)?(?i:<(?:!doctype html|html|head|body))",
     "fetch the picture again: a server may have answered with an error page"),
    ("XML", r"(?:\xef\xbb\xbf)?\s*<\?xml", _NO_IMAGE),
    ("QuickTime or MP4 video", r".{4}(?:ftyp|moov|mdat|wide|free)", "extract frames as JPEG"),
    ("Matroska or WebM video", r"\x1a\x45\xdf\xa3", "extract frames as JPEG"),
    ("AVI video", r"RIFF.{4}AVI ", "extract frames as JPEG"),
    ("sound", r"RIFF.{4}WAVE|ID3|OggS|fLaC", "it has no pixels"),
    ("MPEG or H.264 video", r"\0{2,3}\x01[\xba\xb3\x67\x27\x40\x42]", "extract frames as JPEG"),
    ("Photoshop (PSD)", r"8BPS", _TO_JPEG),
    ("OpenEXR", r"v/1\x01", _TO_JPEG),
    ("Radiance HDR", r"#\?(?:RADIANCE|RGBE)", _TO_JPEG),
    ("FITS", r"SIMPLE  =", "write it as TIFF"),
    ("HDF5", r"\x89HDF\r\n", "write its arrays as TIFF"),
    ("NIfTI", r".{344}(?:n\+1|ni1)\0", "write its slices as TIFF"),
    ("NRRD", r"NRRD000", "write it as TIFF"),
    ("netpbm (PPM, PGM, PBM, PFM)", r"P[1-7fF]\s", _TO_JPEG),
    ("TGA", r".\0[\2\3\x0a\x0b]\0{5}.{8}[\x08\x0f\x10\x18\x20][\0-\x3f]"
     r"|.\x01[\1\x09].{4}[\x0f\x10\x18\x20].{8}[\x08\x10][\0-\x3f]", _TO_JPEG),
    ("an SGI picture (RGB)", r"\x01\xda[\0\1][\1\2]", _TO_JPEG),
    ("a Sun raster", r"\x59\xa6\x6a\x95", _TO_JPEG),
    ("PCX", r"\x0a[\0\2-\5]\x01[\1\2\4\x08]", _TO_JPEG),
    ("a Windows metafile", r"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", "render it to PNG"),
    ("an office document or FlashPix (OLE)", r"\xd0\xcf\x11\xe0", "export its pages as PNG"),
    ("weather data (GRIB, BUFR)", r"GRIB|BUFR", "render a field as PNG"),
    ("an icon (ICO, CUR)", r"\0\0[\1\2]\0[\1-\x40]\0", _TO_JPEG),
    ("a DirectDraw surface (DDS)", r"DDS ", _TO_JPEG),
    ("QOI", r"qoif", _TO_JPEG),
    ("a ZIP archive or office document", r"PK[\3\5]", "unpack it"),
    ("a gzip archive", r"\x1f\x8b", "unpack it"),
    ("compressed data (zlib)", r"\x78[\x01\x5e\x9c\xda]", "unpack it"),
    ("compressed data (LZ4 or Snappy)",
     r"\x04\x22M\x18|\xff\x06\0\0sNaPpY|\x82SNAPPY\0", "unpack it"),
    ("an archive", r"7z\xbc\xaf|Rar!|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar", "unpack it"),
    ("Parquet", r"PAR1", "send each picture's own bytes"),
    ("Apache Arrow", r"ARROW1|\xff{4}..\0\0\x10\0\0\0", "send each picture's own bytes"),
    ("a Git LFS pointer", r"version https://git-lfs", "fetch the file itself: git lfs pull"),
    ("an SQLite database", r"SQLite format 3", _NO_IMAGE),
    ("a program", r"\x7fELF|MZ.{58}", _NO_IMAGE),
]  # fmt: skip

_DEPTHS = {
    3: "RGB", 1: "grey", 4: "RGBA, or grey as float32", 2: "16 bits or YUV 4:2:2",
    1.5: "YUV 4:2:0", 12: "RGB as float32", 6: "RGB of 16 bits",
}  # fmt: skip
_ENCODED = "send it encoded, as PNG or JPEG"
_LEAST_SIDE = 8  # of squares; others are too often no pixels
_USUAL_SIZES = [
    (28, 28), (32, 32), (64, 64), (96, 96), (128, 128), (160, 120), (224, 224), (256, 256),
    (320, 240), (512, 512), (640, 480), (640, 512), (800, 600), (1024, 768), (1024, 1024),
    (1280, 720), (1280, 960), (1280, 1024), (1600, 1200), (1920, 1080), (1920, 1200), (2048, 1536),
    (2048, 2048), (2448, 2048), (2592, 1944), (3840, 2160), (4096, 3072),
]  # fmt: skip

_PICTURE = rb"\xff\xd8\xff[\xc0-\xfe]|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*"

_KINDS = re.compile(
    b"|".join(
        b"(?P<k%d>%s)" % (number, pattern.encode("latin-1"))
        for number, (_, pattern, _) in enumerate(_BY_BEGINNING)
    ),
    re.DOTALL,
)
_INSIDE = re.compile(_PICTURE, re.DOTALL)


def sentence(data: bytes, names: list[str]) -> str:
    """Say what the data are, if that can be told, and what to do."""
    *most, last = names
    wanted = f"Not a {', '.join(most)} or {last} file"
    kind, advice = name(data)
    if kind:
        return f"{wanted}: it is {kind}. To have it classified, {advice}."
    return f"{wanted}: it begins with {beginning(data)}."


def beginning(data: bytes) -> str:
    """Show the first bytes; where they may be words, such as somebody's name, not themselves."""
    return "text" if len(re.findall(rb"[A-Za-z]", data[:8])) > 3 else repr(data[:8])


def name(data: bytes) -> tuple[str, str]:
    """The kind of what is no picture, and what to do; empty where nothing is known of it."""
    begins = data[:2048]
    if found := _KINDS.match(begins):
        kind, _, advice = _BY_BEGINNING[int((found.lastgroup or "k0")[1:])]
        return kind, advice
    if (place := _INSIDE.search(begins)) and place.start():
        is_framed = _has_schema(begins) and 5 <= place.start() < 200
        framing = "Avro (Confluent framing)" if is_framed else ""
        if framing:
            return framing, _AVRO
        if re.match(rb"\s+$", begins[: place.start()]):
            return "a picture behind blank lines", _NO_IMAGE
        return f"a picture behind {place.start()} other bytes", _NO_IMAGE
    if _has_schema(begins):
        return "Avro (Confluent framing)", _AVRO
    return _unframed(data)


def _has_schema(begins: bytes) -> bool:
    """True where a NUL and the number of a schema come first."""
    number = int.from_bytes(begins[1:5], "big")
    return begins[:1] == b"\0" and len(begins) > 5 and 0 < number < 2**24


def _unframed(data: bytes) -> tuple[str, str]:
    if not data.strip(b"\0"):
        kind = _raw_pixels(len(data))[0]
        kind = f"nothing but zeros, {kind}" if kind else "nothing but zeros"
        return kind, "send it again if it was never written whole; pixels as PNG or JPEG"
    try:
        text = data[:2048].decode()
    except UnicodeDecodeError as error:
        text = data[: error.start].decode() if error.start > 2040 else ""
    if text and all(each.isprintable() or each.isspace() for each in text):
        return "text", _NO_IMAGE
    return _raw_pixels(len(data))


def _raw_pixels(size: int) -> tuple[str, str]:
    squares = {depth: math.isqrt(int(size / depth)) for depth in _DEPTHS}
    sizes = [(depth, *each) for depth in _DEPTHS for each in _USUAL_SIZES]
    sizes += [(depth, side, side) for depth, side in squares.items() if side >= _LEAST_SIDE]
    for depth, width, height in sizes:
        if width * height * depth == size:
            return f"perhaps raw pixels ({width}x{height}, {_DEPTHS[depth]})", _ENCODED
    return "", ""
