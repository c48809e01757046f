"""formats: those that are decoded, and how packages add others."""

from io import BytesIO

import pytest
from PIL import Image

from sightstream import plugins
from sightstream.images import formats
from sightstream.images.decode import Decoded, Preprocessing, decode
from sightstream.images.formats import Format
from sightstream.images.limits import Rejected

SAME = Preprocessing(3, 2)
NAMES = ["DICOM", "JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIC", "JXL"]


def encoded(format, size=(2, 3), **options):
    stream = BytesIO()
    Image.new("RGB", size, "red").save(stream, format, **options)
    return stream.getvalue()


@pytest.fixture
def installed(monkeypatch):
    """Installs formats as other packages would."""

    def install(**parts):
        monkeypatch.setattr(plugins, "installed", lambda _group: parts)
        formats._signatures.cache_clear()

    yield install
    formats._signatures.cache_clear()


def entry(name, signature, colour="blue"):
    return Format(name, signature, lambda _: Image.new("RGB", (2, 3), colour), lambda _: False)


def test_the_entry_points_are_the_ten_formats():
    found = plugins.installed("sightstream.formats")
    assert {each.name for each in found.values()} == set(formats.names())
    assert formats.names() == NAMES


def test_without_entry_points_the_ten_formats_are_there(installed):
    installed()
    assert formats.names() == NAMES


def test_a_format_of_another_package_is_decoded(installed):
    assert decode(b"qoif....", SAME).code == "unsupported_format"
    installed(qoi=entry("QOI", b"qoif"))
    seen = decode(b"qoif....", SAME)
    assert (seen.format, seen.width, seen.height) == ("QOI", 2, 3)
    assert seen.pixels[0, 0].tolist() == [0, 0, 255]
    assert decode(encoded("PNG"), SAME).format == "PNG"
    assert "QOI" in decode(b"none", SAME).detail


def test_a_more_special_signature_of_another_package_wins(installed):
    installed(dng=entry("DNG", rb"II\*\0.{4}DNG"))
    assert decode(b"II*\0____DNG", SAME).format == "DNG"
    assert decode(encoded("TIFF"), SAME).format == "TIFF"


def test_another_package_may_replace_a_format(installed):
    installed(tiff=entry("TIFF", rb"II\*\0", colour="green"))
    assert decode(encoded("TIFF"), SAME).pixels[0, 0].tolist() == [0, 128, 0]


def test_a_format_that_raises_is_a_corrupt_image(installed):
    def fail(_):
        raise ZeroDivisionError

    installed(bad=Format("BAD", b"bad", fail, lambda _: False))
    assert decode(b"bad" * 9, SAME) == Rejected(
        "corrupt", "The BAD cannot be decoded: ZeroDivisionError.", "BAD"
    )


def test_a_part_that_cannot_be_imported_is_left_out_and_logged(monkeypatch, caplog):
    from importlib.metadata import EntryPoint

    points = [EntryPoint(n, v, "g") for n, v in (("bad", "no_such:X"), ("good", "json:loads"))]
    monkeypatch.setattr(plugins, "entry_points", lambda _group: points)
    assert list(plugins.installed("g")) == ["good"]
    assert "bad (no_such:X) is left out" in caplog.text


@pytest.mark.parametrize(
    ("format", "options"),
    [("WEBP", {}), ("WEBP", {"lossless": True}), ("WEBP", {"exif": b"Exif\0\0"}), ("GIF", {})],
)
@pytest.mark.parametrize("size", [(1, 1), (300, 7), (16_383, 2)])
def test_a_size_is_read_from_the_header_before_pixels_are_allocated(format, options, size):
    data = encoded(format, size, **options)
    assert formats.find(data).header_size(data) == size


@pytest.mark.parametrize("format", ["WEBP", "GIF"])
def test_a_header_that_ends_too_early_has_no_size_that_matters(format):
    data = encoded(format)
    for length in range(12, 40):
        assert not isinstance(decode(data[:length], SAME), Decoded)


def test_pillow_opens_each_format_without_its_registry_contract(monkeypatch):
    """What formats.py relies on: a plugin's class opens a file alone, and checks its header."""

    def refuse(*_arguments, **_options):
        raise AssertionError

    monkeypatch.setattr(Image, "open", refuse)
    for name in NAMES[1:8]:  # but DICOM and others, which Pillow does not know
        assert decode(encoded(name), SAME).format == name
        refused = decode(encoded(name)[:2] + bytes(60), SAME)
        assert isinstance(refused, Rejected)
