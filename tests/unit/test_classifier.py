"""classifier: images in, answers in their order, in batches that fit the model's input."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sightstream import plugins
from sightstream.images.decode import Preprocessing
from sightstream.images.limits import Limits
from sightstream.models import engines
from sightstream.models.pace import MOST, PIXELS
from sightstream.models.version import ServedModel
from sightstream.scoring.classifier import Classifier


class Reddish:
    """Two labels, by how red the image is; remembers how many images came at once."""

    file = "model.reddish"
    batches: list[int]

    def __init__(self, _content):
        Reddish.batches = []

    def __call__(self, pixels):
        Reddish.batches.append(len(pixels))
        red = pixels[..., 0].mean(axis=(1, 2), dtype=np.float32) / 255
        return np.stack([red, 1 - red], axis=1) / (red != 1)[:, None]  # all red: no numbers


@pytest.fixture
def model(monkeypatch):
    ours = {"sightstream.engines": {"reddish": Reddish}}
    monkeypatch.setattr(plugins, "installed", lambda group: ours.get(group, {}))
    engines.installed.cache_clear()
    yield ServedModel("m", 1, ("red", "blue"), Preprocessing(24, 24), "reddish", b"")
    engines.installed.cache_clear()


def png(red: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (32, 32), (red, 0, 255 - red)).save(file, "PNG")
    return file.getvalue()


def test_answers_come_in_the_order_of_the_images(model):
    images = [png(250), b"no image", png(5), b"", png(240)]
    answers = Classifier(model, Limits(), top_k=1)(images)
    assert [answer.error_code for answer in answers] == [
        None, "unsupported_format", None, "empty", None
    ]  # fmt: skip
    assert [answer.classes for answer in answers] == [[0], None, [1], None, [0]]


@pytest.mark.parametrize("side", [24, 224, 8192])
def test_a_batch_holds_fewer_images_the_larger_they_are(model, side):
    wide = replace(model, preprocessing=Preprocessing(side, side))
    count = 3 if side > 1000 else 150
    assert len(Classifier(wide, Limits(), top_k=2)([png(9)] * count)) == count
    assert max(Reddish.batches) <= MOST
    assert max(Reddish.batches) == 1 or max(Reddish.batches) * side * side <= PIXELS
    assert sum(Reddish.batches) == count


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_scores_that_are_no_numbers_are_no_answer(model):
    answers = Classifier(model, Limits(), top_k=1)([png(250), png(255), png(5)])
    assert [answer.error_code for answer in answers] == [None, "no_answer", None]
    assert [answer.classes for answer in answers] == [[0], None, [1]]
    assert (answers[1].scores, answers[1].width) == (None, 32)
