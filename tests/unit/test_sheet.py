"""sightstream.scoring.sheet: a page of pictures, of names and uris that come from outside."""

import re
from base64 import b64decode
from io import BytesIO

import pytest
from PIL import Image

from sightstream.images.limits import DEFAULT_LIMITS
from sightstream.scoring import sheet
from tests import tiny_model


def example(uri, source="backfill", name="a.png", **more):
    return {
        "event_id": "1", "source": source, "original_name": name, "uri": uri, "a": "oak",
        "score_a": 0.75, "b": "elm", "score_b": 0.5, "truth": None, **more,
    }  # fmt: skip


@pytest.fixture
def written(tmp_path):
    """Writes a page of examples, and returns its text."""

    def write(*examples, prefixes=()):
        home, page = tmp_path / "home", tmp_path / "home" / "reports" / "leaf" / "page.html"
        about = "Of 3 images."
        sheet.write(
            page, "leaf: 1 and 2", about, (1, 2), examples, home, DEFAULT_LIMITS, prefixes
        )  # fmt: skip
        return page.read_text("utf-8")

    return write


def pictures(text):
    found = re.findall(r'src="data:image/webp;base64,([^"]*)"', text)
    return [Image.open(BytesIO(b64decode(each))) for each in found]


def test_each_picture_has_both_answers(written, tmp_path):
    photo = tiny_model.photograph(tmp_path / "a.png", 200)
    text = written(example(photo.as_uri(), truth="ash"))
    (picture,) = pictures(text)
    assert picture.size == (sheet.SIDE, sheet.SIDE)
    assert picture.convert("L").getpixel((80, 80)) == pytest.approx(200, abs=3)
    assert "version 1: oak 0.75" in text
    assert "version 2: <b>elm</b> 0.50<br>labelled ash" in text


def test_names_and_labels_are_no_markup_and_the_page_may_run_and_load_nothing(written):
    evil = "<script>alert(1)</script>&\x1b[31m"
    text = written(example("file:///gone", name=evil, a=evil, b='"><img src=x>', truth=evil))
    assert "<script" not in text and "<img" not in text and "\x1b" not in text
    assert "&lt;script&gt;" in text
    assert "default-src 'none'; img-src data:" in text
    assert "no picture" in text


def test_what_a_stranger_named_is_shown_below_the_prefixes_alone(written, tmp_path):
    inside = tiny_model.photograph(tmp_path / "claims" / "a.png", 200).as_uri()
    outside = tiny_model.photograph(tmp_path / "b.png", 200).as_uri()
    both = [example(inside, "kafka"), example(outside, "kafka"), example("kafka://t/0/1", "kafka")]
    assert len(pictures(written(*both))) == 0
    assert len(pictures(written(*both, prefixes=[(tmp_path / "claims").as_uri()]))) == 1
    assert len(pictures(written(example(outside)))) == 1


def test_images_of_the_home_are_found_where_it_is_now(written, tmp_path):
    place = "images/2025-11-21/01a1fe0c-b2f5-7f93-9ba7-f629a851ac89.png"
    tiny_model.photograph(tmp_path / "home" / place, 200)
    assert len(pictures(written(example(f"file:///before/{place}", "folder")))) == 1


def test_a_picture_that_cannot_be_read_leaves_the_others(written, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    good = tiny_model.photograph(tmp_path / "a.png", 200).as_uri()
    text = written(example((tmp_path / "torn.png").as_uri()), example(None), example(good))
    assert len(pictures(text)) == 1
    assert text.count("no picture") == 2
