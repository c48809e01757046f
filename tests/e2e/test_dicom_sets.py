"""Folders of DICOM train like folders of the same pictures: with a suffix, without, in any form."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.dicoms import RLE, dataset, saved

pytest.importorskip("pydicom")
pytest.importorskip("libjpeg")

RECIPE = """
from sightstream.images.decode import Preprocessing
from training.recipes import Recipe
from training.recipes.blocks import cnn

PIXELS = Preprocessing(16, 16, 1)
RECIPE = Recipe(
    name="scans",
    preprocessing=PIXELS,
    network=lambda labels: cnn(PIXELS, labels, ((8,), (16,))),
    shares=(0.6, 0.2, 0.2),
    epochs=25,
    batch_size=8,
    learning_rate=1e-2,
)
"""


def scan(grey, number):
    """A picture of 8 bits as one of 12 or 16, in MONOCHROME1 or 2, whose window shows the same."""
    factor = 16 if number % 2 else 257
    values, white = grey.astype(np.uint16) * factor, 255 * factor
    elements = {"WindowCenter": (white + 1) / 2, "WindowWidth": white + 1}
    if number % 4 > 1:
        values, elements["PhotometricInterpretation"] = white - values, "MONOCHROME1"
    if number % 8 > 3:
        elements |= {"RescaleSlope": 1, "RescaleIntercept": -1024}
        elements["WindowCenter"] -= 1024
    made = dataset(values, bits=12 if number % 2 else 16, **elements)
    return saved(made, compressed=RLE if number % 5 == 0 else "")


@pytest.fixture(scope="module")
def home(new_home, starter):
    """Three digits as PNG, and the same as DICOM."""
    home = new_home(own_registry=True)
    root = home.settings.root
    (root / "mine.py").write_text(RECIPE)
    for label in "017":
        digits = [each for each in starter.digits if each.parent.name == label][:80]
        for number, digit in enumerate(digits):
            grey = np.asarray(Image.open(digit).convert("L"))
            png = root / "png" / label / f"{number}.png"
            dicom = root / "dicom" / label / (f"{number}.dcm" if number % 3 else f"IM{number:06}")
            for path in (png, dicom):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey).save(png)
            dicom.write_bytes(scan(grey, number))
    return home


def done(home, *arguments):
    answer = home(*arguments, "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.slow
def test_a_model_trained_on_dicom_gives_pictures_and_dicom_the_same_figures(home):
    trained = done(home, "train", "mine.py", "--data", "dicom")
    assert not trained["left_out"]
    assert trained["metrics"]["f1_macro"] > 0.7
    figures = [
        done(home, "evaluate", "scans@champion", "--data", each) for each in ("dicom", "png")
    ]
    assert figures[0]["images"] == figures[1]["images"] == 240
    assert figures[0]["macro"] == figures[1]["macro"]
