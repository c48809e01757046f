"""What the page does with texts, pictures and settings from outside."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sightstream import config, terminal
from sightstream.images.decode import Preprocessing, decode
from sightstream.images.limits import Limits
from tests.dicoms import dataset, saved
from web import page, pictures
from web.thumbnails import Painter

SEEN = Preprocessing(20, 20)


def png(width, height, colour="red"):
    held = BytesIO()
    Image.new("RGB", (width, height), colour).save(held, "PNG")
    return held.getvalue()


def size(painted):
    webp, width = painted
    image = Image.open(BytesIO(webp))
    assert width == image.width / max(image.size)
    return image.size


@pytest.mark.parametrize(
    ("image", "expected"), [((400, 200), (64, 32)), ((3, 300), (1, 64)), ((8, 8), (64, 64))]
)
def test_a_picture_keeps_its_proportions(image, expected):
    assert size(Painter(Limits()).fit(png(*image), 64)) == expected


def test_what_is_no_picture_has_none(tmp_path):
    painter = Painter(Limits())
    assert painter.fit(b"no picture", 64) is None
    assert painter.fit(str(tmp_path / "nothing.png"), 64) is None
    assert painter.overlay(b"no picture", 64, np.ones((4, 4), np.float32), SEEN) is None


@pytest.mark.parametrize(
    ("aspect", "expected"), [("stretch", (100, 50)), ("pad", (100, 50)), ("crop", (100, 100))]
)
def test_a_map_lies_on_what_the_model_saw(aspect, expected):
    heat = np.zeros((20, 20), np.float32)
    heat[8:12, :10] = 1
    drawn = Painter(Limits()).overlay(
        png(200, 100, "grey"), 100, heat, replace(SEEN, aspect=aspect)
    )
    assert size(drawn) == expected
    pixels = np.asarray(Image.open(BytesIO(drawn[0])).convert("RGB")).astype(int)
    middle = pixels[pixels.shape[0] // 2]
    colourful = middle.max(axis=1) - middle.min(axis=1)
    assert colourful[5:40].min() > 40
    assert colourful[60:].max() < 20


@pytest.mark.parametrize("aspect", ["stretch", "pad", "crop"])
def test_a_map_lies_on_the_centre_that_is_cropped(aspect):
    """A model that sees the middle half looks at a white square: the colour lies on the square."""
    picture = Image.new("RGB", (400, 200), "black")
    picture.paste("white", (210, 60, 240, 90))
    picture.save(held := BytesIO(), "PNG")
    want = Preprocessing(40, 40, aspect=aspect, crop=0.5)
    seen = decode(held.getvalue(), want).pixels
    heat = (seen[..., 0] > 127).astype(np.float32)
    drawn = Painter(Limits()).overlay(held.getvalue(), 200, heat, want)
    assert size(drawn) == ((200, 200) if aspect == "crop" else (200, 100))
    pixels = np.asarray(Image.open(BytesIO(drawn[0])).convert("RGB")).astype(int)
    coloured = pixels[..., 0] - pixels[..., 2] > 60
    left, top, right, bottom = (120, 20, 180, 80) if aspect == "crop" else (110, 10, 140, 40)
    rows, columns = np.nonzero(coloured)
    assert abs(columns.min() - left) < 8
    assert abs(columns.max() - right) < 8
    assert abs(rows.min() - top) < 8
    assert abs(rows.max() - bottom) < 8


def test_a_map_lies_on_what_of_a_dicom_the_model_saw():
    pytest.importorskip("pydicom")
    values = np.zeros((50, 50), "u2")
    values[:, 25:] = 3000  # white in the file's window, and black in the model's
    data = saved(dataset(values, bits=12, WindowCenter=1500, WindowWidth=3000))
    cold = np.zeros((20, 20), np.float32)
    whole = Painter(Limits()).overlay(data, 50, cold, SEEN)
    narrow = Painter(Limits()).overlay(data, 50, cold, replace(SEEN, window="5000/100"))
    bright = [
        np.asarray(Image.open(BytesIO(each[0])).convert("L")).max() for each in (whole, narrow)
    ]
    assert bright[0] > 180
    assert bright[1] < 20


@pytest.mark.parametrize(
    "text", ["**b**", "<b>x</b>", "[a](b)", "`c`", "$d$", "# e", "1. f", "a_b_"]
)
def test_markup_is_escaped(text):
    plain = page.plain(text)
    assert plain.replace("\\", "") == text
    for mark in "*<[`$#._":
        assert plain.count(mark) == plain.count(f"\\{mark}")


@pytest.mark.parametrize(
    "text", [":smile:", ":+1:", "https://a.b", "HTTP://a.b", "www.a.b", "me@a.b", "mailto:me@a.b"]
)
def test_shortcodes_and_addresses_are_text(text):
    shown = page.plain(text).replace("\\", "")
    assert shown != text
    assert shown.replace("\N{WORD JOINER}", "") == text


def test_a_path_can_be_copied():
    assert page.plain("file:///a b/c.png").replace("\\", "") == "file:///a b/c.png"


def test_control_characters_are_text():
    assert page.plain("a\x1b[31m\n") == r"a\\x1b\[31m\\n"


def test_a_long_name_loses_its_middle():
    assert terminal.shortened("a" * 50 + "b" * 50, 11) == "aaaaa…bbbbb"


@pytest.fixture
def row(settings, tmp_path):
    """Rows of a home as its table has them, and a picture outside of it."""
    for name in ("home/images/2026-11-29/1200/a.png", "shared/a.png", "elsewhere/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(png(40, 20))
    (tmp_path / "shared" / "link.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    config.FILE.write_text(
        f'home = "home"\nkafka_uri_prefixes = ["{(tmp_path / "shared").as_uri()}"]\n'
    )

    def made(place, source="kafka", error=None):
        uri = place if "://" in place else (tmp_path / place).as_uri()
        return {"event_id": "1", "uri": uri, "source": source, "error_code": error}

    return made


def test_the_page_shows_what_the_stream_may_read(row):
    for each in (
        row("home/images/2026-11-29/1200/a.png", "folder"), row("shared/a.png"),
        row("elsewhere/a.png", "backfill"),
    ):  # fmt: skip
        assert size(pictures.thumbnail(each, 64)) == (64, 32)


@pytest.mark.parametrize(
    ("place", "source", "error"),
    [
        ("elsewhere/a.png", "kafka", "uri_refused"),
        ("elsewhere/a.png", "kafka", None),
        ("elsewhere/a.png", "backfill", "uri_refused"),
        ("elsewhere/a.png", "folder", None),
        ("shared/../elsewhere/a.png", "kafka", None),
        ("shared/link.png", "kafka", None),
        ("home/images/../../elsewhere/a.png", "kafka", None),
        ("kafka://images/0/1", "kafka", None),
        ("s3://photos/in/a.png", "bucket", None),
        ("file://host/a.png", "kafka", None),
        ("file:///%00", "kafka", None),
    ],
)
def test_the_page_shows_no_file_that_a_message_names_elsewhere(row, place, source, error):
    assert pictures.thumbnail(row(place, source, error), 64) is None
