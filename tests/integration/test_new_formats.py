"""AVIF, HEIC and JPEG XL on their way through the stream and `predict`."""

import json
import shutil
from io import BytesIO

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def pictures(starter, tmp_path_factory):
    """A digit as a file of each format, some cut short; by name."""
    folder = tmp_path_factory.mktemp("pictures")
    digit = Image.open(starter.digits[0]).convert("RGB").resize((128, 128))
    avif, heic = BytesIO(), BytesIO()
    digit.save(avif, "AVIF")
    pillow_heif.from_pillow(digit).save(heic)
    files = {
        "digit.avif": avif.getvalue(), "digit.heic": heic.getvalue(),
        "digit.jxl": imagecodecs.jpegxl_encode(np.asarray(digit)),
    }  # fmt: skip
    for name, data in files.items():
        (folder / name).write_bytes(data)
        (folder / f"cut {name}").write_bytes(data[:-20])
    return folder


def outcomes(rows):
    return {
        row["name"]: (row["format"], row["width"], row["label"] or row["error_code"])
        for row in rows
    }


EXPECTED = {
    f"{cut}digit.{suffix}": (suffix.upper(), size, "truncated" if cut else "0")
    for suffix in ("avif", "heic", "jxl")
    for cut, size in (("", 128), ("cut ", 128))
}


def test_each_is_one_row_of_the_stream(new_home, pictures):
    home = new_home()
    home.settings.inbox.mkdir(parents=True, exist_ok=True)
    for path in pictures.iterdir():
        shutil.copyfile(path, home.settings.inbox / path.name)
    done = home("run", "--once", "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    rows = [row | {"name": row["original_name"]} for row in home.table().to_pylist()]
    found = outcomes(rows)
    assert len(rows) == 6
    assert {name: (each[0], each[2]) for name, each in found.items()} == {
        name: (each[0], each[2]) for name, each in EXPECTED.items()
    }
    assert [found[name][1] for name in found if "cut" not in name] == [128] * 3


def test_predict_reads_them(new_home, pictures):
    home = new_home()
    done = home("predict", "--json", *sorted(pictures.glob("digit.*")))
    assert done.returncode == 0, done.stderr
    assert [row["top"][0]["label"] for row in json.loads(done.stdout)] == ["0"] * 3
